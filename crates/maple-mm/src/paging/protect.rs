//! Changing what may be done with the pages of a range.

use core::ops::Range;

use super::arch::{Arch, Entry, Leaf, LeafFlags, ProtectionKey};
use super::company::Company;
use super::error::PagingError;
use super::gather::{Gather, TlbFlusher};
use super::iter::Visit;
use super::memory::PhysMemory;
use super::path::Place;
use super::table;
use super::tables::{PageTables, covers, region};

/// What is to be allowed for the pages of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Of [`LeafFlags::RIGHTS`]. Without any, the pages stay and nobody may use them.
    pub rights: LeafFlags,
    /// Another protection key.
    pub key: Option<ProtectionKey>,
}

impl Protection {
    /// The right to write is taken away here, and never given: the page may have other owners,
    /// which the next write finds out ([`PageTables::resolve_write`]).
    fn apply(self, leaf: Leaf) -> Leaf {
        let rights = self.rights & LeafFlags::RIGHTS;
        let mut flags = leaf.attributes.flags;
        flags.set(LeafFlags::EXECUTE, rights.contains(LeafFlags::EXECUTE));
        // A page that may be written or executed may be read.
        flags.set(LeafFlags::READ, !rights.is_empty());
        if !rights.contains(LeafFlags::WRITE) {
            flags -= LeafFlags::WRITE;
        }
        let mut attributes = leaf.attributes.with_flags(flags);
        attributes.key = self.key.unwrap_or(attributes.key);
        Leaf { attributes, ..leaf }
    }
}

impl<A: Arch, M: PhysMemory, C: Company<M>> PageTables<A, M, C> {
    /// Changes what may be done with the pages of `range`. The right to write is kept or taken,
    /// never given.
    ///
    /// # Complexity
    ///
    /// O(pages + tables); shared tables are copied.
    ///
    /// # Errors
    ///
    /// [`PagingError::OutOfFrames`] where a shared table could not be copied, or a huge page at an
    /// edge not be split; [`PagingError::Unsplittable`], [`PagingError::Misaligned`],
    /// [`PagingError::OutOfRange`]. No right has changed. A call before with the same range makes
    /// this one infallible, as long as nothing was shared or mapped.
    pub fn protect<F: TlbFlusher>(
        &self,
        range: Range<u64>,
        protection: Protection,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), PagingError> {
        self.prepare_protect(&range, gather)?;
        self.visit_leaves(&range, |addr, place| {
            let addresses = region::<A>(addr, place.level);
            if C::BESIDE && !covers(&range, &addresses) {
                // A fault has mapped it since this was prepared, and there is a frame for that.
                let split = self.split(place, addr, gather);
                assert_eq!(split, Ok(()), "the edges were reserved");
                return Visit::Again;
            }
            gather.changed(addresses, place.level);
            self.update(place, |leaf| protection.apply(leaf))
        });
        Ok(())
    }

    /// Changes a page's entry, which is in a table of this address space alone.
    fn update(&self, place: Place<'_>, change: impl Fn(Leaf) -> Leaf) -> Visit {
        // K1. Nothing is counted otherwise, so nothing is to be noted.
        let _held = C::BESIDE.then(|| self.hold(place.table));
        match table::update_leaf::<A>(place.word(), place.level, change) {
            // Another thread split a huge page just now.
            Entry::Table(..) if C::BESIDE => Visit::Again,
            _ => Visit::Done,
        }
    }

    /// Does all of [`protect`](Self::protect) that can fail: the next call for the same range does
    /// not, unless pages are mapped or tables shared in between.
    ///
    /// # Errors
    ///
    /// As [`protect`](Self::protect).
    pub fn prepare_protect<F: TlbFlusher>(
        &self,
        range: &Range<u64>,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), PagingError> {
        Self::check_range(range)?;
        self.own_all(range, gather)
    }
}
