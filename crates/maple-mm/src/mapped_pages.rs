//! [`MappedPages`]: the page side made of page tables and frames.

use alloc::sync::Arc;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use maple_tree::Rcu;
use spin::Once;

use crate::errno::Errno;
use crate::fault::Fault;
use crate::file_pages::FilePagesRef;
use crate::flags::VmFlags;
use crate::huge_file::{HugeFile, HugeObject};
use crate::memory::VmaRef;
use crate::memory_file::MemoryFile;
use crate::notifier::{Invalidation, RangeNotifier};
use crate::page_side::{
    Alike, Guards, Inheritance, PageChange, PageSide, PageStrategy, Touch, Touched, Usage,
};
use crate::paging::{
    Alone, Arch, Beside, Company, CopyRange, Cow, FlushRange, Gather, LeafFlags, NoTlb,
    OutOfFrames, PageTables, PagingError, PhysMemory, Protection, Reserve, TableRange, TableRanges,
    TlbFlusher,
};
use crate::system::System;
use crate::teardown::Teardown;

/// Page tables for a processor of kind `A` in the memory `M`, whose translations `F` makes
/// processors forget.
///
/// A child gets a clone of the flusher, which [`flusher_mut`](Self::flusher_mut) can adjust, no
/// notifier, and a root without its parent's [kernel entries](PageTables::kernel_entries). `C` is
/// that of [`PageTables`].
///
/// # Examples
///
/// See [`AddressSpace::with_pages`](crate::AddressSpace::with_pages).
pub struct MappedPages<A: Arch, M: PhysMemory, F, C: Company<M> = Alone> {
    pub(crate) tables: PageTables<A, M, C>,
    flusher: F,
    notifier: Option<Arc<dyn RangeNotifier>>,
    peak_resident: AtomicU64,
    /// Whose pool explicitly huge pages go back to, once there was one.
    pub(crate) huge: Once<Arc<System>>,
}

/// Who is told of what was taken out: processors, and the pool of explicitly huge pages.
pub(crate) struct Told<'a, F> {
    flusher: &'a F,
    huge: Option<&'a System>,
}

fn told<'a, F>(flusher: &'a F, huge: &'a Once<Arc<System>>) -> Told<'a, F> {
    let huge = huge.get().map(|system| &**system);
    Told { flusher, huge }
}

impl<F: TlbFlusher> TlbFlusher for Told<'_, F> {
    fn range(&self, range: &FlushRange) {
        self.flusher.range(range);
    }

    fn freed_tables(&self, range: &FlushRange) {
        self.flusher.freed_tables(range);
    }

    fn full(&self) {
        self.flusher.full();
    }

    fn freed_explicit(&self, pages: u64) {
        if let Some(system) = self.huge {
            system.huge_pool().put_back(pages);
        }
        self.flusher.freed_explicit(pages);
    }
}

impl<A, M, F> MappedPages<A, M, F>
where
    A: Arch,
    M: PhysMemory + Clone + Send + 'static,
    F: TlbFlusher + Clone,
{
    /// Page tables that map nothing.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`]
    pub fn new(memory: M, flusher: F) -> Result<Self, OutOfFrames> {
        Self::with_company(memory, flusher, Alone)
    }
}

impl<A, M, F, R> MappedPages<A, M, F, Beside<R>>
where
    A: Arch,
    M: PhysMemory + Clone + Send + 'static,
    F: TlbFlusher + Clone,
    R: Rcu + Clone + Send + Sync + 'static,
{
    /// Page tables that map nothing, for several threads at once.
    ///
    /// # Errors
    ///
    /// As [`PageTables::with_company`].
    ///
    /// # Examples
    ///
    /// See [`Beside`].
    pub fn beside(memory: M, flusher: F, company: Beside<R>) -> Result<Self, OutOfFrames> {
        Self::with_company(memory, flusher, company)
    }
}

impl<A, M, F, C> MappedPages<A, M, F, C>
where
    A: Arch,
    M: PhysMemory + Clone + Send + 'static,
    F: TlbFlusher + Clone,
    C: Company<M>,
{
    fn with_company(memory: M, flusher: F, company: C) -> Result<Self, OutOfFrames> {
        Ok(Self {
            tables: PageTables::with_company(memory, company)?,
            flusher,
            notifier: None,
            peak_resident: AtomicU64::new(0),
            huge: Once::new(),
        })
    }

    /// The page tables.
    #[must_use]
    pub const fn tables(&self) -> &PageTables<A, M, C> {
        &self.tables
    }

    /// What makes processors forget translations.
    pub const fn flusher_mut(&mut self) -> &mut F {
        &mut self.flusher
    }

    /// Who is told before translations change, from now on; `None` is nobody.
    pub fn set_notifier(&mut self, notifier: Option<Arc<dyn RangeNotifier>>) {
        self.notifier = notifier;
    }

    /// Before less may be resident.
    fn note_peak(&self) {
        let resident = rss(&self.tables);
        // Relaxed: a number of its own. PERF: mostly there is nothing to write.
        if resident > self.peak_resident.load(Ordering::Relaxed) {
            self.peak_resident.fetch_max(resident, Ordering::Relaxed);
        }
    }

    /// An empty batch.
    #[inline(always)]
    pub(crate) fn gather(&self) -> Gather<'_, A, M, Told<'_, F>, C> {
        self.tables.gather(told(&self.flusher, &self.huge))
    }

    /// Tells of a change, and makes it.
    pub(crate) fn change<T>(
        &self,
        (range, why): (Range<u64>, Invalidation),
        act: impl FnOnce(&PageTables<A, M, C>, &mut Gather<'_, A, M, Told<'_, F>, C>) -> T,
    ) -> T {
        self.note_peak();
        if let Some(notifier) = &self.notifier {
            notifier.begin(&range, why);
        }
        let mut gather = self.gather();
        let result = act(&self.tables, &mut gather);
        gather.finish();
        if let Some(notifier) = &self.notifier {
            notifier.end(&range, why);
        }
        result
    }

    fn prepare_one(
        &self,
        change: &PageChange,
        reserve: &mut Reserve<'_, A, M, C>,
    ) -> Result<(), PagingError> {
        if needs_quiet(change) {
            reserve.close_gate();
        }
        let mut gather = self.gather();
        let tables = &self.tables;
        match change {
            PageChange::Move(range) => tables.prepare_move(*range, &mut gather),
            PageChange::Clear(Teardown {
                mappings: range, ..
            })
            | PageChange::Discard {
                range,
                guards: Guards::None,
            } => {
                // Kept in the tables: the same call finds nothing left to do.
                tables.prepare_zap(range.clone(), &mut gather).map(drop)?;
                Ok(reserve.edges(range)?)
            }
            PageChange::Discard { range, .. } | PageChange::Unguard(range) => {
                tables.prepare_around_guards(range, &mut gather)?;
                Ok(reserve.edges(range)?)
            }
            PageChange::Guard(range) => tables.prepare_guards(range, &mut gather),
            PageChange::Protect { range, .. } => {
                tables.prepare_protect(range, &mut gather)?;
                Ok(reserve.edges(range)?)
            }
        }
    }

    fn tell(
        &self,
        changes: &[PageChange],
        tell: impl Fn(&dyn RangeNotifier, &Range<u64>, Invalidation),
    ) {
        let Some(notifier) = &self.notifier else {
            return;
        };
        for change in changes {
            let (range, why) = match change {
                PageChange::Move(range) => {
                    (range.from..range.from + range.len, Invalidation::Moved)
                }
                PageChange::Clear(Teardown {
                    mappings: range, ..
                })
                | PageChange::Discard { range, .. }
                | PageChange::Guard(range)
                | PageChange::Unguard(range) => (range.clone(), Invalidation::Unmapped),
                PageChange::Protect { range, .. } => (range.clone(), Invalidation::Protected),
            };
            tell(&**notifier, &range, why);
        }
    }

    /// Gives `child` an entry for each page that faults could not rebuild.
    ///
    /// LINUX: a mapping without an anon_vma has none: unwritten, shared, of a file only read;
    /// unless it may have guards.
    fn copy_to(
        &self,
        child: &mut PageTables<A, M, C>,
        inheritance: &mut Inheritance<'_>,
    ) -> Result<(), Errno> {
        // The child gets what was there at one moment.
        let _closed = self.tables.close_gate();
        // PERF: what lies side by side is copied in one walk.
        let mut run = 0..0;
        for (_, vma) in inheritance.mappings {
            let left_out = VmFlags::DONTCOPY | VmFlags::WIPEONFORK;
            let is_needed = vma.anon().is_faulted() || vma.flags().contains(VmFlags::MAYBE_GUARD);
            if vma.flags().intersects(left_out) || !is_needed {
                continue;
            }
            if (inheritance.is_cancelled)() {
                return Err(Errno::EINTR);
            }
            if run.end != vma.start() {
                self.copy_run(child, run)?;
                run = vma.start()..vma.start();
            }
            run.end = vma.end();
        }
        self.copy_run(child, run)
    }

    /// Copies the entries of `run`, which may be empty.
    fn copy_run(&self, child: &mut PageTables<A, M, C>, run: Range<u64>) -> Result<(), Errno> {
        if run.is_empty() {
            return Ok(());
        }
        let copy = CopyRange {
            addresses: run.clone(),
            cow: Cow::Private,
        };
        let copied = self.change((run, Invalidation::WriteProtected), |tables, gather| {
            tables.copy_range(child, &copy, gather)
        });
        copied.map_err(|_| Errno::ENOMEM)
    }

    /// Shares everything with `child`, then takes out there what it does not get.
    fn share_with(
        &self,
        child: &mut PageTables<A, M, C>,
        inheritance: &Inheritance<'_>,
    ) -> Result<(), Errno> {
        let what = (0..A::USER_END, Invalidation::WriteProtected);
        self.change(what, |tables, gather| tables.share_all(child, gather))
            .map_err(|_| Errno::ENOMEM)?;
        if inheritance.alike == Alike::All {
            return Ok(());
        }
        let who = told(&NoTlb, &self.huge);
        let mut gather = child.gather(who);
        let left_out = || {
            let is_left_out = |vma: &&VmaRef| {
                vma.flags()
                    .intersects(VmFlags::DONTCOPY | VmFlags::WIPEONFORK)
            };
            let mappings = inheritance.mappings.iter().map(|(_, vma)| vma);
            mappings
                .filter(is_left_out)
                .map(|vma| vma.start()..vma.end())
        };
        for addresses in left_out() {
            let zapped = child.zap(addresses, &mut gather);
            zapped.map_err(|_| Errno::ENOMEM)?;
        }
        // What is not empty is kept, so that neighbours need not be looked for.
        let anywhere = TableRange {
            addresses: 0..0,
            floor: 0,
            ceiling: 0,
        };
        for tables in TableRanges::<A, _>::new(left_out(), &anywhere) {
            child.free_tables(&tables, &mut gather);
        }
        Ok(())
    }
}

impl<A, M, F, C> PageSide for MappedPages<A, M, F, C>
where
    A: Arch,
    M: PhysMemory + Clone + Send + 'static,
    F: TlbFlusher + Clone,
    C: Company<M>,
{
    const HAS_PAGES: bool = true;

    const BESIDE: bool = C::BESIDE;

    const ADDRESSES_END: u64 = A::USER_END;

    type Prepared<'a>
        = Reserve<'a, A, M, C>
    where
        Self: 'a;

    fn prepare(&self, changes: &[PageChange]) -> Result<Reserve<'_, A, M, C>, Errno> {
        let mut reserve = self.tables.reserve();
        // What a move prepares can be seen, as tables; so it comes last.
        let is_move = |change: &&PageChange| matches!(change, PageChange::Move(_));
        let moves = changes.iter().filter(is_move);
        let others = changes.iter().filter(|change| !is_move(change));
        for change in others.chain(moves) {
            let prepared = self.prepare_one(change, &mut reserve);
            prepared.map_err(|error| match error {
                PagingError::OutOfFrames => Errno::ENOMEM,
                _ => Errno::EINVAL,
            })?;
        }
        Ok(reserve)
    }

    /// All changes wait for one flush.
    fn carry_out(&self, changes: &[PageChange], mut reserve: Reserve<'_, A, M, C>) {
        self.note_peak();
        self.tell(changes, |notifier, range, why| notifier.begin(range, why));
        let mut gather = self.gather();
        reserve.lend(&mut gather);
        for change in changes {
            if !needs_quiet(change) {
                reserve.open_gate(&mut gather);
            }
            let done = carry_out_one(&self.tables, change, &mut gather);
            assert_eq!(done, Ok(()), "{change:?} was prepared");
        }
        reserve.open_gate(&mut gather);
        gather.finish();
        self.tell(changes, |notifier, range, why| notifier.end(range, why));
    }

    fn touch(&self, touch: &Touch<'_>) -> Result<Touched, Fault> {
        self.resolve(touch)
    }

    fn fork(&self, mut inheritance: Inheritance<'_>) -> Result<Self, Errno> {
        let mut child = self.tables.heir().map_err(|OutOfFrames| Errno::ENOMEM)?;
        if inheritance.strategy == PageStrategy::Share && A::UPPER_WRITE_PROTECT {
            self.share_with(&mut child, &inheritance)?;
        } else {
            self.copy_to(&mut child, &mut inheritance)?;
        }
        Ok(Self {
            peak_resident: AtomicU64::new(rss(&child)),
            tables: child,
            flusher: self.flusher.clone(),
            notifier: None,
            huge: self
                .huge
                .get()
                .map_or_else(Once::new, |system| Once::initialized(Arc::clone(system))),
        })
    }

    fn shared_memory(&self, bytes: u64, system: &System) -> Result<Option<FilePagesRef>, Errno> {
        let object = MemoryFile::new_in(self.tables.memory().clone(), bytes, system.nodes());
        FilePagesRef::new(object).map(Some)
    }

    fn huge_memory(&self, object: HugeObject) -> Result<Option<FilePagesRef>, Errno> {
        let file = HugeFile::new(self.tables.memory().clone(), object);
        FilePagesRef::new(file).map(Some)
    }

    fn relax(&self, spins: u32) {
        self.tables.memory().relax(spins);
    }

    fn is_guarded(&self, addr: u64) -> bool {
        self.tables.entry(addr).is_some_and(|page| page.is_guard())
    }

    fn usage(&self) -> Usage {
        let noted = self.peak_resident.load(Ordering::Relaxed);
        Usage {
            resident: self.tables.resident(),
            peak_resident: noted.max(rss(&self.tables)),
            pgtables_bytes: self.tables.pgtables_bytes(),
        }
    }

    fn barrier(&self) {
        self.tables.barrier();
    }

    fn tear_down(&self, teardown: &Teardown) {
        let range = teardown.mappings.clone();
        self.change((range, Invalidation::Ended), |tables, gather| {
            tables.clear(gather);
        });
        // Beside others, who was on the way to a page may have left a table by now.
        debug_assert!(C::BESIDE || self.tables.pgtables_bytes() == 0);
    }
}

/// Pages that count as resident, explicitly huge ones aside.
fn rss<A: Arch, M: PhysMemory, C: Company<M>>(tables: &PageTables<A, M, C>) -> u64 {
    let resident = tables.resident();
    resident.anon + resident.file + resident.shmem
}

/// Whether a change relies on tables that stay as they were prepared. Such come before others.
const fn needs_quiet(change: &PageChange) -> bool {
    matches!(change, PageChange::Move(_) | PageChange::Guard(_))
}

/// Makes one change that was prepared.
fn carry_out_one<A: Arch, M: PhysMemory, F: TlbFlusher, C: Company<M>>(
    tables: &PageTables<A, M, C>,
    change: &PageChange,
    gather: &mut Gather<'_, A, M, F, C>,
) -> Result<(), PagingError> {
    match change {
        PageChange::Move(range) => tables.move_range(*range, gather),
        PageChange::Clear(teardown) => {
            tables.zap(teardown.mappings.clone(), gather)?;
            tables.free_tables(&teardown.table_range(), gather);
            Ok(())
        }
        PageChange::Discard {
            range,
            guards: Guards::None,
        } => tables.zap(range.clone(), gather),
        PageChange::Discard { range, .. } => tables.zap_around_guards(range, gather),
        PageChange::Guard(range) => tables.install_guards(range, gather),
        PageChange::Unguard(range) => tables.remove_guards(range, gather),
        PageChange::Protect { range, flags } => {
            let protection = Protection {
                rights: rights(*flags),
                key: None,
            };
            tables.protect(range.clone(), protection, gather)
        }
    }
}

/// What a mapping allows. The right to write is given to a page by the first write.
pub(crate) fn rights(flags: VmFlags) -> LeafFlags {
    let mut rights = LeafFlags::empty();
    // A page that may be written or executed may be read.
    rights.set(LeafFlags::READ, flags.intersects(VmFlags::ACCESS));
    rights.set(LeafFlags::WRITE, flags.contains(VmFlags::WRITE));
    rights.set(LeafFlags::EXECUTE, flags.contains(VmFlags::EXEC));
    rights
}

impl<A: Arch, M: PhysMemory, F, C: Company<M>> Drop for MappedPages<A, M, F, C> {
    /// Who replaces the pages of an address space by others still gives huge ones back.
    fn drop(&mut self) {
        let explicit = self.tables.drop_all();
        if let Some(system) = self.huge.get() {
            system.huge_pool().put_back(explicit);
        }
    }
}

impl<A: Arch, M: PhysMemory, F, C: Company<M>> fmt::Debug for MappedPages<A, M, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappedPages")
            .field("tables", &self.tables)
            .field("peak_resident", &self.peak_resident)
            .finish_non_exhaustive()
    }
}
