//! How many failures were tried, by what was refused.

use std::fmt;

/// What memory is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(dead_code, reason = "each test program uses its own part")]
pub(crate) enum Kind {
    /// A node of a tree of mappings, or of a file's pages.
    Node,
    /// A mapping.
    Vma,
    /// A page of 4 KiB.
    Frame,
    /// A page of 2 MiB.
    HugeFrame,
    /// A page table.
    Table,
    /// A promise of memory, against the commit limit.
    Charge,
    /// A list, a file.
    Other,
}

impl Kind {
    const fn plural(self) -> &'static str {
        match self {
            Self::Node => "nodes",
            Self::Vma => "VMAs",
            Self::Frame => "frames",
            Self::HugeFrame => "huge frames",
            Self::Table => "tables",
            Self::Charge => "charges",
            Self::Other => "others",
        }
    }
}

const KINDS: [Kind; 7] = [
    Kind::Node,
    Kind::Vma,
    Kind::Frame,
    Kind::HugeFrame,
    Kind::Table,
    Kind::Charge,
    Kind::Other,
];

/// Failures that were tried, by kind. No memory of its own: tests count what is alive.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Points([usize; KINDS.len()]);

impl Points {
    pub(crate) fn add(&mut self, kind: Kind) {
        self.0[kind as usize] += 1;
    }

    #[allow(dead_code, reason = "each test program uses its own part")]
    pub(crate) fn add_all(&mut self, others: Self) {
        for kind in KINDS {
            self.0[kind as usize] += others.of(kind);
        }
    }

    pub(crate) fn of(&self, kind: Kind) -> usize {
        self.0[kind as usize]
    }

    pub(crate) fn total(&self) -> usize {
        self.0.iter().sum()
    }

    /// Checks that all of `kinds` were refused at least once.
    #[track_caller]
    pub(crate) fn assert_cover(&self, kinds: &[Kind]) {
        for kind in kinds {
            assert!(self.of(*kind) > 0, "no {} refused: {self}", kind.plural());
        }
    }
}

impl fmt::Display for Points {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failure points", self.total())?;
        let tried = KINDS.into_iter().filter(|kind| self.of(*kind) > 0);
        for (index, kind) in tried.enumerate() {
            let before = if index == 0 { ": " } else { ", " };
            write!(f, "{before}{} {}", self.of(kind), kind.plural())?;
        }
        Ok(())
    }
}
