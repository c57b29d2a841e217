//! What is measured.

use clap::ValueEnum;

/// A piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Work {
    /// Writes to pages that are not there, each thread in a region of its own
    FaultsApart,
    /// As that, reads: the zero page is mapped, so that nothing is allocated or zeroed
    ReadsApart,
    /// Writes to pages that are not there, all threads in one region, a page for each in turn
    FaultsTogether,
    /// As that, reads
    ReadsTogether,
    /// Which mapping is at an address, while one more thread maps and unmaps without a pause
    Lookups,
    /// Whether a buffer may be read, while one more thread maps and unmaps without a pause
    Checks,
    /// The text of maps, while one more thread maps and unmaps without a pause
    Texts,
    /// 16 pages are mapped, written and unmapped, each thread in a region of its own
    Cycles,
}

impl Work {
    pub(crate) const ALL: [Self; 8] = [
        Self::FaultsApart,
        Self::ReadsApart,
        Self::FaultsTogether,
        Self::ReadsTogether,
        Self::Lookups,
        Self::Checks,
        Self::Texts,
        Self::Cycles,
    ];

    /// Whether a turn takes as long as `--pages` take.
    pub(crate) const fn is_faults(self) -> bool {
        use Work::{FaultsApart, FaultsTogether, ReadsApart, ReadsTogether};
        matches!(
            self,
            FaultsApart | ReadsApart | FaultsTogether | ReadsTogether
        )
    }

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::FaultsApart => "faults on disjoint regions",
            Self::ReadsApart => "read faults on disjoint regions",
            Self::FaultsTogether => "faults in one region",
            Self::ReadsTogether => "read faults in one region",
            Self::Lookups => "look-ups beside a hot mapper",
            Self::Checks => "access checks beside a hot mapper",
            Self::Texts => "maps texts beside a hot mapper",
            Self::Cycles => "map, 16 faults, unmap on disjoint regions",
        }
    }
}

/// What is counted or timed in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Figure {
    /// What all threads did, but the mapper.
    Rate,
    /// What the mapper did.
    MapperCalls,
    /// Of one text, from the wish to the last byte.
    TextTime,
    /// Of one moment, of which a text is made.
    MomentTime,
    LongestMoment,
    /// Of one call of the mapper.
    CallTime,
    /// How long a call of the mapper waited for the lock.
    Wait,
    LongestWait,
    /// Of the mapper's calls.
    CallsThatWaited,
}

/// Whether more of a figure is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

impl Figure {
    /// What it is, with its unit.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Rate => "thousands a second",
            Self::MapperCalls => "calls of the mapper, thousands a second",
            Self::TextTime => "one text, ms",
            Self::MomentTime => "its moment, µs",
            Self::LongestMoment => "its moment, the longest, µs",
            Self::CallTime => "one call of the mapper, µs",
            Self::Wait => "the mapper held up a call, µs",
            Self::LongestWait => "the mapper held up a call, the longest, µs",
            Self::CallsThatWaited => "calls of the mapper that were held up, %",
        }
    }

    pub(crate) const fn better(self) -> Better {
        match self {
            Self::Rate | Self::MapperCalls => Better::More,
            _ => Better::Less,
        }
    }
}

/// Whose figure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Version {
    /// A `SharedAddressSpace`, for all threads
    Shared,
    /// An `AddressSpace` behind one `RwLock`
    #[value(name = "rwlock")]
    #[serde(rename = "rwlock")]
    Locked,
    /// A `SharedAddressSpace` for each thread
    Own,
}

impl Version {
    pub(crate) const ALL: [Self; 3] = [Self::Shared, Self::Locked, Self::Own];
}
