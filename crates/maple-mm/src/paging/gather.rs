//! What was taken out of page tables, kept until no processor can know of it any more.

use core::fmt;
use core::marker::PhantomData;
use core::ops::Range;

use arrayvec::ArrayVec;

use super::arch::Arch;
use super::company::{Alone, Company, Keeps, State};
use super::memory::{Content, FRAME_BYTES, Frame, FrameSize, OutOfFrames, PhysAddr, PhysMemory};
use super::stock::Stock;
use super::subtree;

/// How many references wait for one flush.
pub(super) const BATCH: usize = 256;

/// From so many pages on, flushing everything is cheaper on x86.
///
/// LINUX: `tlb_single_page_flush_ceiling`.
const X86_SINGLE_PAGES_MOST: u64 = 33;

/// The addresses whose translations have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlushRange {
    /// `start..end` of the address space.
    pub addresses: Range<u64>,
    /// The smallest page that was mapped there, in bytes: one translation for each may be cached.
    pub stride: u64,
}

impl FlushRange {
    /// How many single flushes the range takes.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        let len = self.addresses.end.saturating_sub(self.addresses.start);
        len.div_ceil(self.stride)
    }

    /// Whether x86 kernels would rather flush everything: from 34 pages on.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::paging::FlushRange;
    /// let pages = |count: u64| FlushRange { addresses: 0..count * 4096, stride: 4096 };
    /// assert!(!pages(33).is_worth_full_flush());
    /// assert!(pages(34).is_worth_full_flush());
    /// ```
    #[must_use]
    pub const fn is_worth_full_flush(&self) -> bool {
        self.pages() > X86_SINGLE_PAGES_MOST
    }
}

/// Makes every processor forget cached translations of one address space.
///
/// Each call returns when no processor uses the old translations any more. Calls come from each
/// thread that changes the address space: what a flusher remembers is its own to guard. Some come
/// with a table locked, or the gate closed: a flush must not wait for a thread that faults, or
/// uses memory through these tables, which may wait for the one that flushes.
pub trait TlbFlusher {
    /// Forgets the translations of single pages.
    fn range(&self, range: &FlushRange);

    /// As [`range`](Self::range), after tables on the way to these addresses were taken out:
    /// whatever the processor keeps of tables (paging-structure caches) is to be forgotten, too.
    fn freed_tables(&self, range: &FlushRange);

    /// Forgets all, tables included.
    fn full(&self);

    /// Nothing is to be flushed: so many explicitly huge pages are free again, because the last
    /// references to them were just given up. Whoever set them aside counts them back in. Those
    /// below a table that waits for [readers](super::Beside) are not told of.
    fn freed_explicit(&self, pages: u64) {
        let _ = pages;
    }
}

impl<F: TlbFlusher + ?Sized> TlbFlusher for &F {
    fn range(&self, range: &FlushRange) {
        (**self).range(range);
    }

    fn freed_tables(&self, range: &FlushRange) {
        (**self).freed_tables(range);
    }

    fn full(&self) {
        (**self).full();
    }

    fn freed_explicit(&self, pages: u64) {
        (**self).freed_explicit(pages);
    }
}

/// Nobody caches translations: no processor walks these tables, or none has yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTlb;

impl TlbFlusher for NoTlb {
    fn range(&self, _: &FlushRange) {}

    fn freed_tables(&self, _: &FlushRange) {}

    fn full(&self) {}
}

/// What has to be flushed before the batch may be given up.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pending {
    Nothing,
    Range(FlushRange),
    Tables(FlushRange),
    Everything,
}

/// References that were taken out of page tables, and the flush they wait for.
///
/// The order is always: unlink, flush, free. When the batch is full it is flushed and freed, and
/// gathering goes on. It is bounded, so it needs no memory. What is left when it goes away is
/// flushed and freed then.
///
/// [`Beside`](super::Beside) others a table is not freed before those have left that may be on the
/// way to it, which nobody waits for; but where there is no memory to note it, who flushes does.
pub struct Gather<'m, A: Arch, M: PhysMemory, F: TlbFlusher, C: Company<M> = Alone> {
    memory: &'m M,
    flusher: F,
    pending: Pending,
    /// Addresses of frames and tables; the bits below 4096 say which, see [`Item`].
    ///
    /// PERF: not an array, which is filled with zeroes first, in each fault: 8 % of one.
    batch: ArrayVec<u64, BATCH>,
    /// Tables that others may be on the way to.
    retired: Retired<M, C>,
    /// For tables that must be had.
    stock: Stock,
    /// Whether it is used inside the gate, where nothing is allocated.
    is_inside: bool,
    arch: PhantomData<fn() -> A>,
}

type Retired<M, C> = <<C as Keeps<M>>::State as State<M>>::Retired;

/// One reference, in one word.
#[derive(Clone, Copy, Debug)]
enum Item {
    Frame(PhysAddr),
    Table(PhysAddr, usize),
}

impl Item {
    const fn pack(self) -> u64 {
        match self {
            Self::Frame(addr) => addr.as_u64(),
            Self::Table(addr, level) => addr.as_u64() | (level as u64 + 1),
        }
    }

    const fn unpack(packed: u64) -> Self {
        let addr = PhysAddr::new(packed).frame_start();
        match packed % FRAME_BYTES {
            0 => Self::Frame(addr),
            level => Self::Table(addr, level as usize - 1),
        }
    }
}

impl<'m, A: Arch, M: PhysMemory, F: TlbFlusher> Gather<'m, A, M, F> {
    /// An empty batch for an address space in `memory` that `flusher` flushes, and that one thread
    /// changes at a time. That of any is [`PageTables::gather`](super::PageTables::gather).
    #[must_use]
    pub const fn new(memory: &'m M, flusher: F) -> Self {
        Self::empty(memory, flusher)
    }
}

impl<'m, A: Arch, M: PhysMemory, F: TlbFlusher, C: Company<M>> Gather<'m, A, M, F, C> {
    /// PERF: made in place; as a call it is copied, all 2 KiB.
    #[inline(always)]
    pub(super) const fn empty(memory: &'m M, flusher: F) -> Self {
        Self {
            memory,
            flusher,
            pending: Pending::Nothing,
            batch: ArrayVec::new_const(),
            retired: C::State::NONE_RETIRED,
            stock: Stock::EMPTY,
            is_inside: false,
            arch: PhantomData,
        }
    }

    /// Notes that translations of `addresses` by entries of a table of `level` have changed.
    pub(super) fn changed(&mut self, addresses: Range<u64>, level: usize) {
        let stride = A::span(level);
        self.pending.widen(addresses, stride);
    }

    /// Notes that all translations may have changed.
    pub(super) fn all_changed(&mut self) {
        self.pending = Pending::Everything;
    }

    /// Takes over the reference of an entry to the frame that `addr` lies in.
    pub(super) fn frame(&mut self, addr: PhysAddr) {
        self.push(Item::Frame(addr.frame_start()));
    }

    /// Makes sure that the next [`table`](Self::table) has a place to wait in for who is on the
    /// way to it. Else who flushes waits.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`] if there is none.
    pub(super) fn reserve(&mut self, company: &C::State) -> Result<(), OutOfFrames> {
        if C::BESIDE && self.is_inside && !C::State::has_room(&self.retired) {
            return Err(OutOfFrames);
        }
        company.reserve(self.memory, &mut self.retired)
    }

    /// Frames for tables, before others are asked for.
    pub(super) fn stock(&mut self, stock: Stock) {
        self.stock.give_back(self.memory);
        self.stock = stock;
    }

    /// Does `act` inside the gate: what it needs is there, or [provided](Self::provide) for the
    /// next attempt.
    pub(super) fn inside<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        self.is_inside = true;
        let result = act(self);
        self.is_inside = false;
        result
    }

    /// Sets one more frame aside, and a place for a table that is taken out.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`].
    pub(super) fn provide(&mut self, company: &C::State) -> Result<(), OutOfFrames> {
        self.reserve(company)?;
        self.stock.fill(self.memory)
    }

    /// Gives up a reference that no entry was.
    pub(super) fn release(&mut self, frame: PhysAddr) {
        let explicit = subtree::release_page(self.memory, frame);
        if explicit > 0 {
            self.flusher.freed_explicit(explicit);
        }
    }

    /// Flushes a range at once, and nothing that is gathered. With it goes what processors know of
    /// tables that were copied on the way there: they would find the page in the old one again.
    pub(super) fn flush_now(&self, range: &FlushRange) {
        match &self.pending {
            Pending::Nothing | Pending::Range(_) => self.flusher.range(range),
            Pending::Tables(_) => self.flusher.freed_tables(range),
            Pending::Everything => self.flusher.full(),
        }
    }

    /// A frame for a table.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`].
    pub(super) fn new_table(&mut self, content: Content) -> Result<PhysAddr, OutOfFrames> {
        if C::BESIDE {
            if let Some(frame) = self.stock.take(self.memory) {
                return Ok(frame);
            }
            if self.is_inside {
                return Err(OutOfFrames);
            }
        }
        let frame = self.memory.allocate(FrameSize::SMALL, content);
        frame.map(Frame::into_addr)
    }

    /// Takes a frame back that [`new_table`](Self::new_table) gave and nobody wrote to.
    pub(super) fn table_not_needed(&mut self, frame: PhysAddr) {
        if C::BESIDE && self.is_inside {
            self.stock.put(self.memory, frame);
        } else {
            self.memory.release_at(frame);
        }
    }

    /// Takes over the reference of an entry to a table of some level that mapped `addresses`.
    pub(super) fn table(
        &mut self,
        company: &C::State,
        (table, level): (PhysAddr, usize),
        addresses: Range<u64>,
    ) {
        self.tables_changed(addresses);
        // Without a place it waits in the batch.
        let _: Result<(), OutOfFrames> = self.reserve(company);
        if !company.retire(&mut self.retired, (table, level)) {
            self.push(Item::Table(table, level));
        }
    }

    /// Notes that tables on the way to `addresses` are not where they were.
    pub(super) fn tables_changed(&mut self, addresses: Range<u64>) {
        self.pending.widen(addresses, A::span(0));
        self.pending.with_tables();
    }

    fn push(&mut self, item: Item) {
        if self.is_full() {
            self.flush();
        }
        self.batch.push(item.pack());
    }

    /// Whether the next reference makes it flush first.
    pub(super) const fn is_full(&self) -> bool {
        self.batch.is_full()
    }

    /// Flushes what has changed so far. What was gathered may be given up from now on.
    pub(super) fn tell(&mut self) {
        match core::mem::replace(&mut self.pending, Pending::Nothing) {
            Pending::Nothing => {}
            Pending::Range(range) => self.flusher.range(&range),
            Pending::Tables(range) => self.flusher.freed_tables(&range),
            Pending::Everything => self.flusher.full(),
        }
    }

    /// Flushes what has changed so far, then gives up what was gathered.
    pub fn flush(&mut self) {
        self.tell();
        C::State::settle(&mut self.retired);
        C::State::hand_over::<A>(&mut self.retired);
        let mut explicit = 0;
        for packed in &self.batch {
            explicit += match Item::unpack(*packed) {
                Item::Frame(addr) => subtree::release_page(self.memory, addr),
                Item::Table(addr, level) => subtree::release::<A, M>(self.memory, addr, level),
            };
        }
        self.batch.clear();
        if explicit > 0 {
            self.flusher.freed_explicit(explicit);
        }
    }

    /// Flushes and frees what is left.
    pub fn finish(self) {}
}

impl Pending {
    fn widen(&mut self, addresses: Range<u64>, stride: u64) {
        match self {
            Self::Nothing => *self = Self::Range(FlushRange { addresses, stride }),
            Self::Range(range) | Self::Tables(range) => {
                range.addresses.start = range.addresses.start.min(addresses.start);
                range.addresses.end = range.addresses.end.max(addresses.end);
                range.stride = range.stride.min(stride);
            }
            Self::Everything => {}
        }
    }

    fn with_tables(&mut self) {
        if let Self::Range(range) = self {
            *self = Self::Tables(range.clone());
        }
    }
}

impl<A: Arch, M: PhysMemory, F: TlbFlusher, C: Company<M>> Drop for Gather<'_, A, M, F, C> {
    fn drop(&mut self) {
        self.flush();
        if C::BESIDE {
            self.stock.give_back(self.memory);
        }
    }
}

impl<A: Arch, M: PhysMemory, F: TlbFlusher, C: Company<M>> fmt::Debug for Gather<'_, A, M, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gather")
            .field("pending", &self.pending)
            .field("len", &self.batch.len())
            .finish_non_exhaustive()
    }
}
