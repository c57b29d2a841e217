//! What is looked at without the lock.

use core::fmt;
use core::ops::Range;

use lock_api::RawMutex;
use maple_tree::{Rcu, Reader};

use super::{Beside, SharedAddressSpace};
use crate::accounting::Statistics;
use crate::check::{Refused, check};
use crate::fault::Access;
use crate::memory::VmaRef;
use crate::moment::Moment;
use crate::page_side::PageSide;
use crate::paging::sync::broken;

/// How often a moment is looked for before the lock is taken. Calls that follow each other closely
/// leave short ones between them; what takes long is a call whose thread has no processor, and
/// [`PageSide::relax`] gives it one where the memory's does (an arena's by `with_relax`).
///
/// PERF: who maps waits for who has the lock, and for its time slice if that is over. Beside one
/// who maps and unmaps without a pause 54 % of moments took it with 8 attempts, 3 % with 1000, and
/// the longest wait was 13 ms; with 10,000 one did in a minute, whose mapper had been off its
/// processor for milliseconds.
const ATTEMPTS: u32 = 100_000;

/// How often a buffer is checked that is refused beside calls.
const CHECKS: u32 = 8;

/// A look at the mappings, without the lock; see [`SharedAddressSpace::mappings`].
///
/// Each look-up is of a moment of its own, and what it returns stays what it was for as long as
/// the reader, which holds the memory of all that goes meanwhile back. To keep a mapping longer,
/// clone it. A thread must not wait for a [`barrier`](SharedAddressSpace::barrier) while it has
/// one.
pub struct MappingReader<'s, R: Rcu + 's>(Reader<'s, VmaRef, R>);

impl<R: Rcu> MappingReader<'_, R> {
    /// As [`AddressSpace::vma_at`](crate::AddressSpace::vma_at).
    #[must_use]
    pub fn vma_at(&self, addr: u64) -> Option<&VmaRef> {
        self.0.get(addr)
    }

    /// As [`AddressSpace::find_vma`](crate::AddressSpace::find_vma).
    #[must_use]
    pub fn find_vma(&self, addr: u64) -> Option<&VmaRef> {
        self.0.at_or_after(addr).map(|(_, vma)| vma)
    }

    /// The last mapping that begins at or below `addr`: the one at `addr`, else the one before.
    ///
    /// # Complexity
    ///
    /// O(log n).
    #[must_use]
    pub fn find_vma_before(&self, addr: u64) -> Option<&VmaRef> {
        self.0.at_or_before(addr).map(|(_, vma)| vma)
    }

    /// As [`AddressSpace::vmas`](crate::AddressSpace::vmas). What is mapped or unmapped meanwhile
    /// is met or not, and so is what takes the place of a part of a mapping that was met.
    pub fn vmas(&self) -> impl DoubleEndedIterator<Item = &VmaRef> {
        self.0.iter().map(|(_, vma)| vma)
    }

    /// As [`AddressSpace::vmas_in`](crate::AddressSpace::vmas_in), as [`vmas`](Self::vmas).
    pub fn vmas_in(&self, range: Range<u64>) -> impl DoubleEndedIterator<Item = &VmaRef> {
        self.0.range(range).map(|(_, vma)| vma)
    }
}

impl<R: Rcu> fmt::Debug for MappingReader<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<P, R, L> SharedAddressSpace<P, R, L>
where
    P: PageSide + Clone,
    R: Rcu + Send + Sync + 'static,
    L: RawMutex,
{
    /// Begins to look at the mappings, without the lock.
    ///
    /// # Complexity
    ///
    /// What [`Rcu::read_lock`] takes; each look-up O(log n).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, MmapRequest, SharedAddressSpace, abi::PROT_READ};
    /// use maple_tree::EpochRcu;
    /// let space = AddressSpace::empty();
    /// let shared = SharedAddressSpace::<_, _, parking_lot::RawMutex>::new(space, EpochRcu)?;
    /// let addr = shared.lock().mmap(MmapRequest::anonymous(4096, PROT_READ))?;
    /// let reader = shared.mappings();
    /// let found = reader.vma_at(addr).unwrap();
    /// shared.lock().munmap(addr, 4096)?;
    /// assert_eq!(found.start(), addr);
    /// assert!(reader.vma_at(addr).is_none());
    /// # Ok::<(), maple_mm::Errno>(())
    /// ```
    pub fn mappings(&self) -> MappingReader<'_, R> {
        MappingReader(self.mappings.read())
    }

    /// As [`AddressSpace::find_vma`](crate::AddressSpace::find_vma), to keep.
    #[must_use]
    pub fn find_vma(&self, addr: u64) -> Option<VmaRef> {
        self.mappings().find_vma(addr).cloned()
    }

    /// As [`AddressSpace::check_range`](crate::AddressSpace::check_range), without the lock: each
    /// byte was mapped so at some moment of the call. What happens to it afterwards is no more
    /// known than behind a lock that is given back.
    ///
    /// # Complexity
    ///
    /// As there. It waits for the lock if it was refused beside calls eight times in a row: one
    /// may have taken a mapping out to put another in its place.
    ///
    /// # Errors
    ///
    /// As there; so it was at one moment between two calls.
    ///
    /// # Examples
    ///
    /// See [`SharedAddressSpace`].
    #[doc(alias = "access_ok")]
    pub fn check_range(&self, range: Range<u64>, access: Access) -> Result<(), Refused> {
        for _ in 0..CHECKS {
            let reader = self.mappings.read();
            let sequence = self.mappings.sequence();
            let checked = check(reader.range(range.clone()), &range, access);
            if checked.is_ok() || self.is_at(sequence) {
                return checked;
            }
        }
        self.lock().check_range(range, access)
    }

    /// What the address space shows of itself at one moment between two calls, to keep. Who maps
    /// is not held up: the next call copies a path of the tree.
    ///
    /// The mappings, the layout and what follows from mappings are of one moment. The counts of
    /// pages (resident, tables) are summed up while others fault.
    ///
    /// # Complexity
    ///
    /// O(1). It waits for the lock if it met nothing but calls 100,000 times, and waited between
    /// as [`PageSide::relax`] has it.
    ///
    /// # Examples
    ///
    /// See [`SharedAddressSpace`].
    #[must_use]
    pub fn moment(&self) -> Moment {
        self.between(|| self.try_moment())
            .unwrap_or_else(|| self.lock().moment())
    }

    /// As [`moment`](Self::moment); `None` if a call was met.
    #[must_use]
    pub fn try_moment(&self) -> Option<Moment> {
        let (beside, tree) = self.between_calls(|| self.mappings.try_snapshot())?;
        Some(Moment::new(
            tree?,
            beside,
            self.pages.usage(),
            &self.profile,
        ))
    }

    /// The counters; those of mappings are of one moment between two calls.
    ///
    /// # Complexity
    ///
    /// As [`moment`](Self::moment).
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        match self.between(|| self.between_calls(|| ())) {
            Some((beside, ())) => Statistics::new(&beside.sums, beside.peak_vm, self.pages.usage()),
            None => self.lock().statistics(),
        }
    }

    /// What belongs to one moment between two calls, with what `look` finds at that moment.
    fn between_calls<T>(&self, look: impl FnOnce() -> T) -> Option<(Beside, T)> {
        let sequence = self.mappings.sequence();
        if sequence % 2 == 1 {
            return None;
        }
        let beside = self.facts.load();
        let found = look();
        // What was loaded is of the last call that is over (SF1), or tells that another has begun.
        let is_whole = self.is_at(sequence) || broken!(Moment);
        is_whole.then_some((beside, found))
    }

    /// Whether `sequence` is of a moment between two calls, and that moment lasts.
    pub(super) fn is_at(&self, sequence: u64) -> bool {
        planted!(Sequence) || sequence.is_multiple_of(2) && self.mappings.sequence() == sequence
    }

    /// Looks for a moment between calls, again and again, if there is none.
    fn between<T>(&self, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        (0..ATTEMPTS).find_map(|spins| {
            let found = look();
            if found.is_none() {
                self.pages.relax(spins);
            }
            found
        })
    }
}
