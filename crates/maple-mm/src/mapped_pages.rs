//! [`MappedPages`]: the page side made of page tables and frames.

use alloc::sync::Arc;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use maple_tree::Rcu;
use spin::Once;

use crate::abi::{PAGE_SIZE, page_floor};
use crate::errno::Errno;
use crate::fault::{Access, Fault};
use crate::file::{File, FileKind};
use crate::file_pages::{BusError, FilePagesRef};
use crate::flags::VmFlags;
use crate::huge_file::{HugeFile, HugeObject};
use crate::memory::VmaRef;
use crate::memory_file::MemoryFile;
use crate::notifier::{Invalidation, RangeNotifier};
use crate::page_side::{
    Alike, Guards, Inheritance, PageChange, PageSide, PageStrategy, Touch, Usage,
};
use crate::paging::{
    Alone, Arch, Attributes, Beside, Company, Content, CopyRange, Cow, FlushRange, Frame,
    FrameSize, Gather, LeafFlags, Mapped, NewPage, NoTlb, OutOfFrames, PageKind, PageTables,
    PagingError, PhysMemory, Protection, Reserve, Sharing, TableRange, TableRanges, TlbFlusher,
};
use crate::system::System;
use crate::teardown::Teardown;
use crate::vma::Vma;

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

/// How much a read of a file maps of what is at hand around it.
///
/// LINUX: `fault_around_bytes`, unless somebody changed it under debugfs.
const AROUND_BYTES: u64 = 16 * PAGE_SIZE;

/// What a mapping leads to at one address.
enum Source<'v> {
    /// Zeroes.
    Nothing,
    File(&'v FilePagesRef),
    /// It is not known what.
    Unknown,
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
    pub(crate) fn gather(&self) -> Gather<A, M, Told<'_, F>, C> {
        self.tables.gather(told(&self.flusher, &self.huge))
    }

    /// Tells of a change, and makes it.
    pub(crate) fn change<T>(
        &self,
        (range, why): (Range<u64>, Invalidation),
        act: impl FnOnce(&PageTables<A, M, C>, &mut Gather<A, M, Told<'_, F>, C>) -> T,
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

    /// An access to a page that is there.
    fn touch_present(&self, page: Mapped, touch: &Touch<'_>) -> Result<(), Fault> {
        if touch.access != Access::Write || page.is_writable() {
            return Ok(());
        }
        let sharing = sharing(touch.vma);
        let range = page.start..page.start + page.size;
        let resolved = self.change((range, Invalidation::Replaced), |tables, gather| {
            tables.resolve_write(touch.addr, sharing, gather)
        });
        resolved.map(drop).map_err(fault)
    }

    /// An access to a page that is not there.
    fn touch_missing(&self, touch: &Touch<'_>) -> Result<(), Fault> {
        let addr = page_floor(touch.addr);
        match (source(touch.vma), touch.access) {
            (Source::Nothing, Access::Write) => {
                if touch.huge.is_yes() && self.map_huge(touch) {
                    return Ok(());
                }
                self.map_new(addr, touch.vma, Content::Zeroed)
            }
            (Source::Nothing, _) => {
                let flags = rights(touch.vma.flags()) | LeafFlags::USER;
                let mut gather = self.gather();
                let mapped = self.tables.map_zero_page(addr, flags, &mut gather);
                mapped.map_err(fault)
            }
            (Source::File(pages), _) => self.map_file_page(addr, touch, pages),
            (Source::Unknown, _) => Err(Fault::Bus),
        }
    }

    /// Maps a frame of its own, to be written.
    fn map_new(&self, addr: u64, vma: &Vma, content: Content) -> Result<(), Fault> {
        let frame = self.tables.memory().allocate(FrameSize::SMALL, content);
        let frame = frame.map_err(|OutOfFrames| Fault::OutOfMemory)?;
        self.map(addr, private_page(frame, vma))
    }

    /// Maps 2 MiB at once, if they lie in the mapping, nothing is there yet, and there is a frame
    /// so large.
    fn map_huge(&self, touch: &Touch<'_>) -> bool {
        let size = A::span(1);
        let start = touch.addr & !(size - 1);
        let range = start..start + size;
        let has_room = touch.vma.start() <= start && range.end <= touch.vma.end();
        let Some(order) = FrameSize::of_order(A::INDEX_BITS) else {
            return false;
        };
        if !has_room || self.tables.pages(range).next().is_some() {
            return false;
        }
        let Ok(frame) = self.tables.memory().allocate(order, Content::Zeroed) else {
            return false;
        };
        let mapped = self.map(start, private_page(frame, touch.vma));
        mapped.is_ok()
    }

    fn map_file_page(
        &self,
        addr: u64,
        touch: &Touch<'_>,
        pages: &FilePagesRef,
    ) -> Result<(), Fault> {
        let frame = pages.page(touch.vma.page_offset_at(addr))?;
        let is_shared = touch.vma.flags().contains(VmFlags::SHARED);
        if touch.access != Access::Write {
            self.map(addr, file_page(frame, touch))?;
            self.map_around(addr, touch, pages);
            return Ok(());
        }
        if is_shared {
            return self.map(addr, file_page(frame, touch));
        }
        let memory = self.tables.memory().clone();
        let copy = memory.allocate(FrameSize::SMALL, Content::Any);
        if let Ok(copy) = &copy {
            memory.copy(frame.addr(), copy.addr(), FrameSize::SMALL);
        }
        memory.release(frame);
        let copy = copy.map_err(|OutOfFrames| Fault::OutOfMemory)?;
        self.map(addr, private_page(copy, touch.vma))
    }

    /// Maps what is at hand around a page that was just mapped, where nothing is yet. The table
    /// is there and not shared, so this takes no memory; what fails all the same is left out.
    fn map_around(&self, addr: u64, touch: &Touch<'_>, pages: &FilePagesRef) {
        for around in window::<A>(addr, touch.vma).step_by(PAGE_SIZE as usize) {
            if self.tables.entry(around).is_some() {
                continue;
            }
            if let Some(frame) = pages.page_at_hand(touch.vma.page_offset_at(around)) {
                let _: Result<(), Fault> = self.map(around, file_page(frame, touch));
            }
        }
    }

    pub(crate) fn map(&self, addr: u64, page: NewPage) -> Result<(), Fault> {
        let memory = self.tables.memory().clone();
        let mut gather = self.gather();
        self.tables.map(addr, page, &mut gather).map_err(|error| {
            memory.release(error.frame);
            fault(error.kind)
        })
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
                reserve.open_gate();
            }
            let done = carry_out_one(&self.tables, change, &mut gather);
            assert_eq!(done, Ok(()), "{change:?} was prepared");
        }
        // Who flushes may wait for who is at the gate.
        reserve.open_gate();
        gather.finish();
        self.tell(changes, |notifier, range, why| notifier.end(range, why));
    }

    fn touch(&self, touch: &Touch<'_>) -> Result<(), Fault> {
        if let Some(source) = touch.explicit {
            return self.touch_explicit(touch, source);
        }
        match self.tables.entry(touch.addr) {
            Some(page) if page.is_guard() => Err(Fault::NotMapped),
            Some(page) => self.touch_present(page, touch),
            None => self.touch_missing(touch),
        }
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
        debug_assert_eq!(self.tables.pgtables_bytes(), 0);
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
    gather: &mut Gather<A, M, F, C>,
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
fn rights(flags: VmFlags) -> LeafFlags {
    let mut rights = LeafFlags::empty();
    // A page that may be written or executed may be read.
    rights.set(LeafFlags::READ, flags.intersects(VmFlags::ACCESS));
    rights.set(LeafFlags::WRITE, flags.contains(VmFlags::WRITE));
    rights.set(LeafFlags::EXECUTE, flags.contains(VmFlags::EXEC));
    rights
}

/// Who sees what is written to a mapping.
pub(crate) fn sharing(vma: &Vma) -> Sharing {
    if vma.flags().contains(VmFlags::SHARED) {
        Sharing::Shared
    } else {
        Sharing::Private
    }
}

fn source(vma: &Vma) -> Source<'_> {
    if vma.is_anonymous() {
        return Source::Nothing;
    }
    match vma.file().and_then(|file| file.pages()) {
        Some(pages) => Source::File(pages),
        None => Source::Unknown,
    }
}

/// A page of its own, that is about to be written.
pub(crate) fn private_page(frame: Frame, vma: &Vma) -> NewPage {
    let used = LeafFlags::ACCESSED | LeafFlags::DIRTY;
    NewPage {
        frame,
        attributes: Attributes::new(PageKind::Anon, rights(vma.flags()) | LeafFlags::USER | used),
    }
}

/// A page that all see; the first write to it is to be seen, too.
pub(crate) fn file_page(frame: Frame, touch: &Touch<'_>) -> NewPage {
    let mut flags = rights(touch.vma.flags()) | LeafFlags::USER | LeafFlags::ACCESSED;
    if touch.access == Access::Write {
        flags |= LeafFlags::DIRTY;
    } else {
        flags -= LeafFlags::WRITE;
    }
    let kind = kind(touch.vma.file().map(|file| &**file));
    NewPage {
        frame,
        attributes: Attributes::new(kind, flags),
    }
}

/// Where a read fault at `addr` looks for neighbours.
///
/// ```text
///   aligned |---------------|---------------|
///   mapping      [==================)
///   at addr          ^               from the aligned address, or where the mapping begins
///   window       [---------------)   16 pages, to the end of the mapping and of the table
/// ```
///
/// LINUX: 6.18 does so: a window that begins with its mapping has 16 pages all the same.
fn window<A: Arch>(addr: u64, vma: &Vma) -> Range<u64> {
    let table = addr & !(A::span(1) - 1);
    let aligned = addr & !(AROUND_BYTES - 1);
    let start = aligned.max(vma.start()).max(table);
    let end = (start + AROUND_BYTES)
        .min(vma.end())
        .min(table + A::span(1));
    start..end
}

const fn kind(file: Option<&File>) -> PageKind {
    match file {
        Some(File {
            kind: FileKind::Shmem | FileKind::SystemV { .. } | FileKind::DevZero,
            ..
        }) => PageKind::Shmem,
        _ => PageKind::File,
    }
}

pub(crate) fn fault(error: PagingError) -> Fault {
    debug_assert_eq!(error, PagingError::OutOfFrames, "mappings are in order");
    Fault::OutOfMemory
}

impl From<BusError> for Fault {
    fn from(error: BusError) -> Self {
        match error {
            BusError::OutOfMemory => Self::OutOfMemory,
            BusError::BeyondEnd | BusError::Unreadable => Self::Bus,
        }
    }
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
