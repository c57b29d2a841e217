//! Why an operation on page tables was refused.

use core::fmt;

use super::memory::{Frame, OutOfFrames};
use crate::fault::Access;

/// Why an operation was refused. What is mapped, and the counters, are as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PagingError {
    /// No frame is free for a table or a copy: free some, and try again.
    OutOfFrames,
    /// The addresses do not lie in user space.
    OutOfRange,
    /// An address is not a multiple of the size of the page.
    Misaligned,
    /// Something is mapped there: unmap it first.
    Occupied,
    /// No page is mapped there.
    NotMapped,
    /// A part of an explicitly huge page was meant: such pages are not split.
    Unsplittable,
    /// The page may have other owners: make it private first.
    NotExclusive,
    /// The processor cannot forbid writing from the top: copy instead.
    Unsupported,
    /// The zero page was meant, which has a function of its own.
    WrongKind,
    /// What the page was for is not there any more: look it up again.
    Stale,
}

impl fmt::Display for PagingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfFrames => "no frame is free for a table or a copy",
            Self::OutOfRange => "the addresses do not lie in user space",
            Self::Misaligned => "an address is not a multiple of the size of the page",
            Self::Occupied => "something is mapped there already",
            Self::NotMapped => "no page is mapped there",
            Self::Unsplittable => "a part of an explicitly huge page was meant",
            Self::NotExclusive => "the page may have other owners",
            Self::Unsupported => "the processor cannot forbid writing from the top",
            Self::WrongKind => "the zero page is mapped by map_zero_page",
            Self::Stale => "what the page was for is not there any more",
        })
    }
}

impl core::error::Error for PagingError {}

impl From<OutOfFrames> for PagingError {
    fn from(_: OutOfFrames) -> Self {
        Self::OutOfFrames
    }
}

/// A page was not mapped; the frame is handed back.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "it holds the frame that was not mapped"]
pub struct MapError {
    /// Why.
    pub kind: PagingError,
    /// The frame: map it elsewhere, or release it.
    pub frame: Frame,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl core::error::Error for MapError {}

/// An access that the tables do not allow: what a processor reports as a page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// The address that was accessed.
    pub addr: u64,
    /// How.
    pub access: Access,
    /// Whether a page is there.
    pub cause: FaultCause,
}

/// Why the tables do not allow an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultCause {
    /// No page is there, or one that nobody may use.
    NotPresent,
    /// A page is there, and does not allow it; or a table on the way does not.
    Protection,
}

impl fmt::Display for PageFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = match self.access {
            Access::Read => "reading",
            Access::Write => "writing",
            Access::Execute => "executing",
        };
        let cause = match self.cause {
            FaultCause::NotPresent => "no page is there",
            FaultCause::Protection => "the page does not allow it",
        };
        write!(f, "{access} at {:#x}: {cause}", self.addr)
    }
}

impl core::error::Error for PageFault {}
