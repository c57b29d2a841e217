//! Lists of what waits to be freed, without memory of their own.

use core::fmt;
use core::ptr::NonNull;

/// Two words for an implementation of [`Rcu`](super::Rcu), in the memory that is
/// to be freed. What they are used for is the implementation's.
#[repr(C)]
pub struct RcuHead {
    next: Option<NonNull<RcuHead>>,
    free: Option<unsafe fn(NonNull<RcuHead>)>,
}

impl fmt::Debug for RcuHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RcuHead").finish_non_exhaustive()
    }
}

/// A first-in, first-out list of heads, chained through themselves: what an
/// implementation of [`Rcu`](super::Rcu) needs to keep what was passed to
/// [`call_rcu`](super::Rcu::call_rcu) without allocating.
///
/// Dropping the list forgets what is on it.
///
/// # Examples
///
/// `LocalRcu` (feature `rcu`) is made of one.
#[derive(Debug, Default)]
pub struct RcuList {
    first: Option<NonNull<RcuHead>>,
    last: Option<NonNull<RcuHead>>,
}

// SAFETY: the heads are owned by the list (`push`), and what frees them may run on
// any thread (`Rcu::call_rcu`).
unsafe impl Send for RcuList {}

impl RcuList {
    /// Makes an empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            first: None,
            last: None,
        }
    }

    /// Returns whether nothing is on the list.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Adds `head`, to be freed by `free`.
    ///
    /// # Safety
    ///
    /// - As for [`Rcu::call_rcu`](super::Rcu::call_rcu): `head` is valid for writes
    ///   and the list's until `free` is called.
    pub unsafe fn push(&mut self, head: NonNull<RcuHead>, free: unsafe fn(NonNull<RcuHead>)) {
        let written = RcuHead {
            next: None,
            free: Some(free),
        };
        // SAFETY: valid for writes (contract).
        unsafe { head.write(written) };
        match self.last {
            // SAFETY: on the list, so ours, and written above.
            Some(mut last) => unsafe { last.as_mut() }.next = Some(head),
            None => self.first = Some(head),
        }
        self.last = Some(head);
    }

    /// Takes everything off the list, as a list.
    #[must_use]
    pub fn take(&mut self) -> Self {
        core::mem::take(self)
    }

    /// Frees everything on the list, first in first.
    ///
    /// # Safety
    ///
    /// - Every guard that existed when a head was pushed is gone.
    pub unsafe fn free(mut self) {
        while let Some(head) = self.first {
            // SAFETY: on the list, so ours, and written by `push`.
            let RcuHead { next, free } = unsafe { head.read() };
            self.first = next;
            if let Some(free) = free {
                // SAFETY: pushed with `head`, called once, and no guard is left (contract).
                unsafe { free(head) };
            }
        }
    }
}
