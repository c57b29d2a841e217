//! The pieces of work, and how each is named and counted.

use crate::fixture::Age;

/// One piece of work, as a row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Work {
    /// Random look-ups whose keys do not depend on each other.
    Lookup,
    /// Random look-ups, each key computed from the value found before.
    LookupDependent,
    /// Iteration by `next`.
    Next,
    /// Iteration by `for_each`.
    ForEach,
    /// One store each, ascending, into an empty structure.
    Build,
    /// One store each, in random order, into an empty structure.
    BuildRandom,
    /// Filling a structure from ascending input at once.
    Bulk,
    /// Erasing a random area, and storing it again.
    EraseRestore,
    /// Overwriting 1 to 8 pages at random, and storing again what was there.
    Overwrite,
    /// The lowest gap that fits, when only the one above everything does.
    LowestGap,
    /// The highest gap that fits, when only the one below everything does.
    HighestGap,
    /// Copying the structure.
    Duplicate,
    /// Copying the structure, values being counted pointers.
    DuplicateArc,
    /// A second structure that shares all nodes.
    Snapshot,
    /// A snapshot, and the one step of `overwrite` that comes first after it.
    FirstWrite,
    /// Dropping the structure.
    Drop,
    /// Bytes asked of the allocator.
    Bytes,
    /// Look-ups of a thread beside another that writes without pause.
    BesideReads,
    /// The steps of `overwrite` of a thread beside another that looks up without pause.
    BesideWrites,
}

impl Work {
    pub(crate) const ALL: [Self; 19] = [
        Self::Lookup,
        Self::LookupDependent,
        Self::Next,
        Self::ForEach,
        Self::Build,
        Self::BuildRandom,
        Self::Bulk,
        Self::EraseRestore,
        Self::Overwrite,
        Self::LowestGap,
        Self::HighestGap,
        Self::Duplicate,
        Self::DuplicateArc,
        Self::Snapshot,
        Self::FirstWrite,
        Self::Drop,
        Self::Bytes,
        Self::BesideReads,
        Self::BesideWrites,
    ];

    /// The row's heading.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Lookup => "random lookup, independent",
            Self::LookupDependent => "random lookup, dependent",
            Self::Next => "iteration, next",
            Self::ForEach => "iteration, for_each",
            Self::Build => "ascending build",
            Self::BuildRandom => "random-order build",
            Self::Bulk => "bulk build",
            Self::EraseRestore => "erase + restore",
            Self::Overwrite => "random overwrite",
            Self::LowestGap => "lowest gap, worst case",
            Self::HighestGap => "highest gap, worst case",
            Self::Duplicate => "duplicate",
            Self::DuplicateArc => "duplicate, Arc values",
            Self::Snapshot => "snapshot",
            Self::FirstWrite => "snapshot + first write",
            Self::Drop => "drop",
            Self::Bytes => "memory",
            Self::BesideReads => "reads beside a writer",
            Self::BesideWrites => "writes beside a reader",
        }
    }

    /// What the row's numbers count.
    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Self::Lookup | Self::LookupDependent => "ns/lookup",
            Self::Next
            | Self::ForEach
            | Self::Build
            | Self::BuildRandom
            | Self::Bulk
            | Self::Duplicate
            | Self::DuplicateArc
            | Self::Drop => "ns/entry",
            Self::EraseRestore | Self::Overwrite => "ns/step",
            Self::LowestGap | Self::HighestGap => "ns/search",
            Self::Snapshot => "ns",
            Self::FirstWrite => "ns/pair",
            Self::Bytes => "bytes/entry",
            Self::BesideReads | Self::BesideWrites => "1000/s",
        }
    }

    /// Whether more is better: of rates it is, of times and sizes less is.
    pub(crate) const fn is_rate(self) -> bool {
        matches!(self, Self::BesideReads | Self::BesideWrites)
    }

    /// Whether this is done to structures of `age`: how one is built in random order has nothing to
    /// do with how an ascending one behaves.
    pub(crate) fn is_for(self, age: Age) -> bool {
        self != Self::BuildRandom || age == Age::Aged
    }

    /// How many times better `ours` is than `theirs`.
    pub(crate) const fn ratio(self, ours: f64, theirs: f64) -> f64 {
        if self.is_rate() {
            ours / theirs
        } else {
            theirs / ours
        }
    }
}
