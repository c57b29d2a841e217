//! Something that must not be, and who met it.

use std::fmt;

use serde::Serialize;

/// What a thread found that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) what: String,
    pub(super) addr: Option<u64>,
}

/// What is checked holds, or is broken.
pub(super) type Held<T = ()> = Result<T, Broken>;

/// Something is wrong at `addr`.
pub(super) fn broken<T>(addr: u64, what: impl Into<String>) -> Held<T> {
    Err(Broken {
        what: what.into(),
        addr: Some(addr),
    })
}

/// Something is wrong as a whole.
pub(super) fn broken_anywhere<T>(what: impl Into<String>) -> Held<T> {
    Err(Broken {
        what: what.into(),
        addr: None,
    })
}

/// The same, and where it was met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Violation {
    pub(super) what: String,
    pub(super) addr: Option<u64>,
    /// Who met it: a thread by its number, or who looks at all that is left.
    pub(super) who: String,
    /// What that one was about.
    pub(super) doing: String,
    pub(super) round: u64,
    pub(super) step: u32,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        if let Some(addr) = self.addr {
            writeln!(f, "  at             {addr:#x}")?;
        }
        writeln!(f, "  found by       {}, {}", self.who, self.doing)?;
        writeln!(f, "  round, step    {}, {}", self.round, self.step)
    }
}
