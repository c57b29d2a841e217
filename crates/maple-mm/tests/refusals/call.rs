//! A call that may find no memory, what it may end in then, and what it may leave behind.

use maple_mm::{Errno, abi::PAGE_SIZE};

/// What a call does to an `S`.
pub(crate) type Act<S> = Box<dyn Fn(&mut S) -> Result<u64, Errno>>;

/// A call, what it may end in without memory, and what it may leave behind then.
pub(crate) struct Call<S> {
    pub(crate) name: &'static str,
    pub(crate) act: Act<S>,
    pub(crate) errnos: &'static [Errno],
    /// Calls that do the parts which may stay; none where nothing stays.
    pub(crate) parts: Vec<Act<S>>,
    pub(crate) leaves: Leaves,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// Nothing changes.
    Nothing,
    /// What one of the parts does, or nothing, to what programs see.
    Parts,
    /// The same, but no page and no table.
    #[allow(dead_code, reason = "each test program uses its own part")]
    Mappings,
    /// LINUX: something, and the call does not even fail.
    Anything,
}

impl<S> Call<S> {
    pub(crate) fn new(
        name: &'static str,
        act: impl Fn(&mut S) -> Result<u64, Errno> + 'static,
    ) -> Self {
        Self {
            name,
            act: Box::new(act),
            errnos: &[Errno::ENOMEM],
            parts: Vec::new(),
            leaves: Leaves::Nothing,
        }
    }

    pub(crate) fn ending_in(self, errnos: &'static [Errno]) -> Self {
        Self { errnos, ..self }
    }

    /// What programs see may be as after `part`.
    pub(crate) fn leaving(mut self, part: impl Fn(&mut S) -> Result<u64, Errno> + 'static) -> Self {
        self.parts.push(Box::new(part));
        self.leaves = Leaves::Parts;
        self
    }

    pub(crate) fn leaving_anything(self) -> Self {
        Self {
            leaves: Leaves::Anything,
            ..self
        }
    }
}

pub(crate) fn done(result: Result<(), Errno>) -> Result<u64, Errno> {
    result.map(|()| 0)
}

pub(crate) fn is_at(result: u64, wanted: u64) -> Result<u64, Errno> {
    if result == wanted {
        Ok(result)
    } else {
        Err(Errno::ENOMEM)
    }
}

pub(crate) const LEN: u64 = 10 * PAGE_SIZE;
pub(crate) const AGAIN: &[Errno] = &[Errno::EAGAIN];
