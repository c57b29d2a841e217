//! One address space's page tables: construction, mapping a page, looking one up, counters.

use alloc::sync::Arc;
use core::fmt;
use core::marker::PhantomData;
use core::ops::Range;
use core::sync::atomic::AtomicU64;

use super::arch::{Arch, Attributes, Entry, Leaf, LeafFlags, PageKind, Writable};
use super::company::{Alone, Company, State};
use super::error::{FaultCause, MapError, PageFault, PagingError};
use super::gather::{Gather, TlbFlusher};
use super::install::Liveness;
use super::memory::{Content, FRAME_BYTES, Frame, FrameSize, OutOfFrames, PhysAddr, PhysMemory};
use super::path::Place;
use super::sync::broken;
use super::table::Table;
use super::tally::Class;
use crate::fault::Access;
use crate::system::System;

/// The page tables of one address space.
///
/// `M` is a handle to the memory that frames and tables come from: `&Arena`, an `Arc`, or
/// whatever a kernel has. Going away, the tables are taken down; no processor may use them then.
///
/// Methods that change something take `&self`. `C` tells who calls them: [`Alone`] one thread at a
/// time, [`Beside`](super::Beside) others any number that map pages and resolve faults, and one
/// at a time that does all else. The caller sees to that, see [the module](super).
pub struct PageTables<A: Arch, M: PhysMemory, C: Company<M> = Alone> {
    pub(super) memory: M,
    pub(super) root: PhysAddr,
    /// What is counted, and who is inside.
    pub(super) company: C::State,
    /// How often the tables were shared; see [`Prepared`](super::Prepared).
    pub(super) shares: AtomicU64,
    arch: PhantomData<fn() -> A>,
}

/// What became of a page that was to be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Put {
    /// It is mapped.
    Done,
    /// Nothing has changed: another thread mapped something there, or took the table out.
    Lost,
    /// Nothing has changed: it is not wanted any more.
    Stale,
}

/// A page to be mapped.
#[derive(Debug, PartialEq, Eq)]
pub struct NewPage {
    /// The reference that the entry will be.
    pub frame: Frame,
    /// What the entry says.
    pub attributes: Attributes,
}

/// What is mapped at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The first address of the page.
    pub start: u64,
    /// The page's size in bytes.
    pub size: u64,
    /// What its entry says.
    pub leaf: Leaf,
    /// Whether the entries above allow writing: if not, the tables on the way may be shared.
    pub way: Writable,
}

impl Mapped {
    /// Whether a processor would write to the page: all entries on the way allow it.
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        self.leaf.is_writable() && matches!(self.way, Writable::Yes)
    }
}

/// How much memory is mapped, in pages of 4 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// Private pages; Linux's `RssAnon`.
    pub anon: u64,
    /// Pages of files; `RssFile`.
    pub file: u64,
    /// Pages of shared memory; `RssShmem`.
    pub shmem: u64,
    /// Explicitly huge pages, of any kind; `HugetlbPages`, which Linux does not count as RSS.
    pub explicit: u64,
}

impl<A: Arch, M: PhysMemory> PageTables<A, M> {
    /// Makes tables that map nothing: a root.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`].
    pub fn new(memory: M) -> Result<Self, OutOfFrames> {
        Self::with_company(memory, Alone)
    }
}

impl<A: Arch, M: PhysMemory, C: Company<M>> PageTables<A, M, C> {
    /// As [`new`](PageTables::new), for those who are beside each other, too.
    ///
    /// # Errors
    ///
    /// As [`new`](PageTables::new); [`Beside`](super::Beside) others, where there is no memory to
    /// count what waits to be freed, too.
    pub fn with_company(memory: M, company: C) -> Result<Self, OutOfFrames> {
        Self::in_state(memory, company.state()?)
    }

    /// Tables that map nothing, in company as these are.
    pub(crate) fn heir(&self) -> Result<Self, OutOfFrames>
    where
        M: Clone,
    {
        Self::in_state(self.memory.clone(), self.company.heir()?)
    }

    fn in_state(memory: M, company: C::State) -> Result<Self, OutOfFrames> {
        let root = memory.allocate(FrameSize::SMALL, Content::Zeroed)?;
        Ok(Self {
            root: root.into_addr(),
            memory,
            company,
            shares: AtomicU64::new(0),
            arch: PhantomData,
        })
    }

    /// The root: what a processor's register is loaded with (CR3 on x86).
    #[must_use]
    pub const fn root(&self) -> PhysAddr {
        self.root
    }

    /// The memory that frames and tables come from.
    #[must_use]
    pub const fn memory(&self) -> &M {
        &self.memory
    }

    /// An empty batch for what will be taken out of these tables.
    #[inline(always)]
    #[must_use]
    pub fn gather<F: TlbFlusher>(&self, flusher: F) -> Gather<'_, A, M, F, C> {
        Gather::empty(&self.memory, flusher)
    }

    /// The root's entries above user space: a kernel's own, which this type never touches.
    ///
    /// They are neither copied at fork nor freed, and what they lead to is not counted. A kernel
    /// stores them in each new root, a child's too, before a processor uses it; only then the code
    /// that handles a fault is there while the tables are in use.
    ///
    /// # Complexity
    ///
    /// O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::paging::*;
    /// use std::sync::atomic::Ordering::Relaxed;
    /// let arena = Arena::<parking_lot::RawMutex>::new(ArenaLayout::of_frames(8))?;
    /// let parent = PageTables::<X86_64<4>, _>::new(&arena)?;
    /// parent.kernel_entries()[255].store(0x1000 | 0b11, Relaxed);
    ///
    /// let child = PageTables::<X86_64<4>, _>::new(&arena)?;
    /// for (new, old) in child.kernel_entries().iter().zip(parent.kernel_entries()) {
    ///     new.store(old.load(Relaxed), Relaxed);
    /// }
    /// assert_eq!(child.kernel_entries()[255].load(Relaxed), 0x1003);
    /// assert_eq!(child.pgtables_bytes(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn kernel_entries(&self) -> &[AtomicU64] {
        &self.root_table().words[Self::user_entries()..A::ENTRIES]
    }

    /// How much is mapped.
    #[must_use]
    pub fn resident(&self) -> Resident {
        Resident {
            anon: self.company.sum(Class::Anon),
            file: self.company.sum(Class::File),
            shmem: self.company.sum(Class::Shmem),
            explicit: self.company.sum(Class::Explicit),
        }
    }

    /// The bytes of tables, as Linux counts them: each that can be reached, shared or not, of the
    /// three lowest levels, and never the root.
    #[must_use]
    pub fn pgtables_bytes(&self) -> u64 {
        self.company.sum(Class::Table) * FRAME_BYTES
    }

    /// Maps the page that `addr` begins. A frame of 4 KiB is mapped by an entry of level 0, one
    /// that is as large as a table of entries by one of level 1 (2 MiB on x86). Missing tables are
    /// made, shared ones on the way are copied. A private page that has other owners is mapped
    /// without the right to write.
    ///
    /// # Complexity
    ///
    /// O(levels), and O(entries) for each shared table on the way.
    ///
    /// # Errors
    ///
    /// A [`MapError`] with the frame. No tables were added; shared ones may have been copied.
    /// [`PagingError::WrongKind`] for [`PageKind::Special`].
    pub fn map<F: TlbFlusher>(
        &self,
        addr: u64,
        page: NewPage,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), MapError> {
        self.map_live((addr, Liveness::SURE), page, gather)
    }

    /// As [`map`](Self::map), if what the page is for is still so when it is mapped. Without
    /// others beside nobody asks.
    ///
    /// # Errors
    ///
    /// As [`map`](Self::map); [`PagingError::Stale`].
    pub fn map_live<F: TlbFlusher>(
        &self,
        (addr, live): (u64, Liveness<'_>),
        page: NewPage,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), MapError> {
        let NewPage { frame, attributes } = page;
        if attributes.kind == PageKind::Special {
            let kind = PagingError::WrongKind;
            return Err(MapError { kind, frame });
        }
        let leaf = || {
            let mut leaf = Leaf {
                frame: frame.addr(),
                attributes,
            };
            if attributes.flags.contains(LeafFlags::EXPLICIT) {
                self.memory.info(leaf.frame).set_explicit();
            }
            if !self.is_exclusive(leaf) {
                // INVARIANT: PT2
                leaf = leaf.without(LeafFlags::WRITE);
            }
            leaf
        };
        // If so, the entry is the reference.
        let mapped = self.install((addr, live), (frame.size(), leaf), gather);
        mapped.map_err(|kind| MapError { kind, frame })
    }

    /// Maps the shared zero page at `addr`. It is not counted as resident, and not writable.
    ///
    /// # Errors
    ///
    /// As [`map`](Self::map).
    pub fn map_zero_page<F: TlbFlusher>(
        &self,
        addr: u64,
        flags: LeafFlags,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), PagingError> {
        self.map_zero_page_live((addr, Liveness::SURE), flags, gather)
    }

    /// As [`map_zero_page`](Self::map_zero_page), if what it is for is still so when it is mapped.
    ///
    /// # Errors
    ///
    /// As [`map_live`](Self::map_live).
    pub fn map_zero_page_live<F: TlbFlusher>(
        &self,
        at: (u64, Liveness<'_>),
        flags: LeafFlags,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), PagingError> {
        let flags = flags - LeafFlags::WRITE - LeafFlags::EXPLICIT;
        let leaf = || Leaf {
            frame: self.memory.zero_page(),
            attributes: Attributes::new(PageKind::Special, flags),
        };
        self.install(at, (FrameSize::SMALL, leaf), gather)
    }

    fn install<F: TlbFlusher>(
        &self,
        (addr, live): (u64, Liveness<'_>),
        (size, leaf): (FrameSize, impl Fn() -> Leaf),
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), PagingError> {
        self.pass(addr, gather, |gather| {
            loop {
                let place = self.place_for((addr, live), size, gather)?;
                match self.put((addr, place), leaf(), live) {
                    Put::Done => return Ok(()),
                    Put::Stale => return Err(PagingError::Stale),
                    Put::Lost => {}
                }
            }
        })
    }

    fn place_for<F: TlbFlusher>(
        &self,
        (addr, live): (u64, Liveness<'_>),
        size: FrameSize,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<Place<'_>, PagingError> {
        let level = match size.order() {
            0 => 0,
            order if order == A::INDEX_BITS => 1,
            _ => return Err(PagingError::Misaligned),
        };
        if !addr.is_multiple_of(size.bytes()) {
            return Err(PagingError::Misaligned);
        }
        if addr >= A::USER_END {
            return Err(PagingError::OutOfRange);
        }
        let place = self.own_or_create((addr, live), level, gather)?;
        // LINUX: 6.18 maps no huge page either where an empty table is, if others are beside.
        if !C::BESIDE {
            self.vacate(place, addr, gather);
        }
        match place.entry::<A>() {
            Entry::Empty => Ok(place),
            _ => Err(PagingError::Occupied),
        }
    }

    /// Takes a table out that holds nothing, from a table that is this address space's alone.
    /// Where there is no memory to note it for who may be on the way to it, it stays: empty tables
    /// do no harm.
    pub(super) fn vacate<F: TlbFlusher>(
        &self,
        place: Place<'_>,
        addr: u64,
        gather: &mut Gather<'_, A, M, F, C>,
    ) {
        let Entry::Table(table, _) = place.entry::<A>() else {
            return;
        };
        if !Table::at(&self.memory, table)
            .tally(&self.memory)
            .is_empty()
        {
            return;
        }
        if gather.reserve(&self.company).is_err() || !self.unlink(place, table) {
            return;
        }
        self.count_off(addr, (Class::Table, place.level), 1);
        let addresses = region::<A>(addr, place.level);
        gather.table(&self.company, (table, place.level - 1), addresses);
    }

    /// Takes a table out if an entry still leads to it and it holds nothing: whether it did.
    fn unlink(&self, place: Place<'_>, table: PhysAddr) -> bool {
        let mut held = self.hold(place.table);
        match held.entry::<A>(place.index, place.level) {
            Entry::Table(found, _) if found == table => {}
            _ => return false,
        }
        let table = Table::at(&self.memory, table);
        // One with other owners does not change, and lives on as theirs.
        let mut child = (table.info(&self.memory).count() == 1).then(|| self.hold(table));
        if let Some(child) = &mut child {
            if !child.tally().is_empty() {
                return false;
            }
            if !broken!(Dead) {
                // K3
                child.kill();
            }
        }
        held.take::<A>(place.index, place.level);
        true
    }

    /// Puts a page where nothing is, and counts it.
    pub(super) fn put(
        &self,
        (addr, place): (u64, Place<'_>),
        leaf: Leaf,
        live: Liveness<'_>,
    ) -> Put {
        let entry = Entry::Leaf(leaf);
        let mut held = self.hold(place.table);
        if C::BESIDE {
            let is_taken = held.entry::<A>(place.index, place.level) != Entry::Empty;
            if is_taken && !broken!(Still) || held.is_dead() {
                return Put::Lost;
            }
            if !live.is_live() {
                return Put::Stale;
            }
        }
        if let Some(class) = Class::of(entry) {
            self.count_in(addr, (class, place.level), 1);
        }
        held.put::<A>(place.index, place.level, entry);
        Put::Done
    }

    /// What is mapped at `addr`, whether it may be used or not.
    ///
    /// # Complexity
    ///
    /// O(levels).
    #[must_use]
    pub fn entry(&self, addr: u64) -> Option<Mapped> {
        let _guard = self.company.guard();
        self.leaf(addr).map(|(_, mapped)| mapped)
    }

    /// The entry of the page at `addr`, and what it says.
    fn leaf(&self, addr: u64) -> Option<(Place<'_>, Mapped)> {
        if addr >= A::USER_END {
            return None;
        }
        let place = self.find(addr, 0);
        let Entry::Leaf(leaf) = place.entry::<A>() else {
            return None;
        };
        let mapped = Mapped {
            start: region::<A>(addr, place.level).start,
            size: A::span(place.level),
            leaf,
            way: place.way,
        };
        Some((place, mapped))
    }

    /// Where a processor in user mode finds the byte at `addr`.
    ///
    /// # Complexity
    ///
    /// O(levels).
    ///
    /// # Errors
    ///
    /// The [`PageFault`] that the processor would report.
    pub fn translate(&self, addr: u64, access: Access) -> Result<PhysAddr, PageFault> {
        let _guard = self.company.guard();
        self.reach(addr, access).map(|(_, _, frame)| frame)
    }

    /// As [`translate`](Self::translate), the entry that says so, and what it says. For who finds no table freed
    /// that it comes by.
    pub(super) fn reach(
        &self,
        addr: u64,
        access: Access,
    ) -> Result<(Place<'_>, Leaf, PhysAddr), PageFault> {
        let fault = |cause| PageFault {
            addr,
            access,
            cause,
        };
        let (place, mapped) = self.leaf(addr).ok_or(fault(FaultCause::NotPresent))?;
        let flags = mapped.leaf.attributes.flags;
        if !flags.contains(LeafFlags::READ) {
            return Err(fault(FaultCause::NotPresent));
        }
        let allowed = match access {
            Access::Read => true,
            Access::Write => mapped.is_writable(),
            Access::Execute => flags.contains(LeafFlags::EXECUTE),
        };
        if allowed && flags.contains(LeafFlags::USER) {
            let frame = mapped.leaf.frame.plus(addr - mapped.start);
            Ok((place, mapped.leaf, frame))
        } else {
            Err(fault(FaultCause::Protection))
        }
    }

    /// Sets and clears flags of the page at `addr`, in this address space only.
    ///
    /// # Errors
    ///
    /// [`PagingError::NotMapped`]; [`PagingError::OutOfFrames`] where a shared table could not be
    /// copied; [`PagingError::NotExclusive`] if [`LeafFlags::WRITE`] was to be set for a private
    /// page that has other owners, or for the zero page: see
    /// [`resolve_write`](Self::resolve_write). Nothing has changed.
    pub fn set_flags<F: TlbFlusher>(
        &self,
        addr: u64,
        change: FlagChange,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<(), PagingError> {
        let place = self.own_leaf(addr, gather)?;
        let held = self.hold(place.table);
        let Entry::Leaf(leaf) = held.entry::<A>(place.index, place.level) else {
            return Err(PagingError::NotMapped);
        };
        // What a page is counted as does not change.
        let set = change.set - LeafFlags::EXPLICIT;
        let clear = change.clear - LeafFlags::EXPLICIT;
        if set.contains(LeafFlags::WRITE) && !self.is_exclusive(leaf) {
            return Err(PagingError::NotExclusive);
        }
        held.update_leaf::<A>(place.index, place.level, |leaf| {
            leaf.without(clear).with(set)
        });
        drop(held);
        gather.changed(region::<A>(addr, place.level), place.level);
        Ok(())
    }

    /// Counts `entries` entries of a table of some level, at `addr`.
    pub(super) fn count_in(&self, addr: u64, (class, level): (Class, usize), entries: u64) {
        let counters = self.company.counters(addr / A::span(1));
        counters.add::<A>(class, level, entries);
    }

    /// Takes them off.
    pub(super) fn count_off(&self, addr: u64, (class, level): (Class, usize), entries: u64) {
        let counters = self.company.counters(addr / A::span(1));
        debug_assert!(
            C::BESIDE || counters.get(class) > 0 || (class, level) == (Class::Table, 4),
            "{class:?} fell below zero"
        );
        counters.remove::<A>(class, level, entries);
    }

    /// Whether a page in a table of this address space alone may be made writable.
    pub(super) fn is_exclusive(&self, leaf: Leaf) -> bool {
        match leaf.attributes.kind {
            PageKind::Anon => self.memory.info(leaf.frame).count() == 1,
            PageKind::File | PageKind::Shmem => true,
            PageKind::Special => false,
        }
    }

    /// Makes the way to the page at `addr` this address space's alone.
    pub(super) fn own_leaf<F: TlbFlusher>(
        &self,
        addr: u64,
        gather: &mut Gather<'_, A, M, F, C>,
    ) -> Result<Place<'_>, PagingError> {
        match self.entry(addr) {
            Some(_) => Ok(self.own(addr, gather, |_| true)?),
            None => Err(PagingError::NotMapped),
        }
    }

    /// How often something was handed over that waits until nobody is on the way to it (LB1).
    #[must_use]
    pub fn pending(&self) -> usize {
        self.company.pending()
    }

    /// Waits until all is free that was taken out. Not to be called by who is a reader of the
    /// same `Rcu`.
    pub fn barrier(&self) {
        self.company.barrier();
    }

    /// Tells whose pool explicitly huge pages go back to.
    pub(crate) fn set_pool(&self, system: &Arc<System>) {
        self.company.set_pool(system);
    }

    /// Keeps faults and accesses out until what is returned goes away. For who may change mappings.
    pub(crate) fn close_gate(&self) -> <C::State as State<M>>::Closed<'_> {
        self.company.close(&self.memory)
    }

    pub(super) fn root_table(&self) -> Table<'_> {
        Table::at(&self.memory, self.root)
    }

    /// How many of the root's entries map user space.
    pub(super) fn user_entries() -> usize {
        (A::USER_END / A::span(A::LEVELS - 1)) as usize
    }

    /// Refuses what is not a range of whole pages in user space.
    pub(super) fn check_range(range: &Range<u64>) -> Result<(), PagingError> {
        if !(range.start | range.end).is_multiple_of(FRAME_BYTES) {
            return Err(PagingError::Misaligned);
        }
        if range.start > range.end || range.end > A::USER_END {
            return Err(PagingError::OutOfRange);
        }
        Ok(())
    }
}

/// Flags to be set and cleared by [`PageTables::set_flags`]; first cleared, then set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlagChange {
    /// To be set.
    pub set: LeafFlags,
    /// To be cleared.
    pub clear: LeafFlags,
}

/// The addresses that the entry for `addr` in a table of `level` maps.
pub(super) fn region<A: Arch>(addr: u64, level: usize) -> Range<u64> {
    let span = A::span(level);
    let start = addr & !(span - 1);
    start..start + span
}

/// Whether `outer` has all of `inner`.
pub(super) const fn covers(outer: &Range<u64>, inner: &Range<u64>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

impl<A: Arch, M: PhysMemory, C: Company<M>> Drop for PageTables<A, M, C> {
    fn drop(&mut self) {
        self.drop_all();
        self.memory.release_at(self.root);
    }
}

impl<A: Arch, M: PhysMemory, C: Company<M>> fmt::Debug for PageTables<A, M, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageTables")
            .field("root", &self.root)
            .field("resident", &self.resident())
            .field("pgtables_bytes", &self.pgtables_bytes())
            .finish_non_exhaustive()
    }
}
