//! Explicitly huge pages (`MAP_HUGETLB`): the machine's pool, and what is kept of it for whom.
//!
//! The pool is two numbers: how many pages are free, and how many of those are promised. A
//! mapping without `MAP_NORESERVE` is promised all its pages when it is made ([`Promise`]); a
//! fault turns a promise, or a free page that nobody was promised, into a frame ([`Claim`]). A
//! frame goes back to the pool with its last reference, whoever has that: it is marked
//! ([`FrameInfo::is_explicit`](crate::paging::FrameInfo::is_explicit)).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use spin::mutex::SpinMutex;

use crate::abi::{
    HUGE_PAGE_SIZE, MAP_HUGE_MASK, MAP_HUGE_SHIFT, MAP_NORESERVE, MAP_PRIVATE, MAP_TYPE, PAGE_SIZE,
};
use crate::counted::Counted;
use crate::errno::Errno;
use crate::file::{File, FileId, FileRef};
use crate::flags::VmFlags;
use crate::huge_file::HugeObject;
use crate::map::MmapRequest;
use crate::page_side::PageSide;
use crate::paging::MoveRange;
use crate::space::{AddressSpace, Mappings};
use crate::system::System;
use crate::vma::Vma;

/// The pages of 4 KiB in a huge page.
const SMALL_IN_HUGE: u64 = HUGE_PAGE_SIZE / PAGE_SIZE;

/// What a machine's pool of 2 MiB pages holds, as `/proc/meminfo` shows it.
///
/// # Examples
///
/// ```
/// use maple_mm::{AddressSpace, HugePages, MmapRequest, Setup, System, SystemSettings, abi::*};
/// use std::sync::Arc;
/// let settings = SystemSettings { huge_pages: 4, ..SystemSettings::default() };
/// let system = Arc::new(System::new(settings));
/// let setup = Setup { system: Arc::clone(&system), ..Setup::default() };
/// let mut space = AddressSpace::from_layout(setup, []).unwrap();
/// let request = MmapRequest {
///     flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB,
///     ..MmapRequest::anonymous(3 * HUGE_PAGE_SIZE, PROT_READ | PROT_WRITE)
/// };
/// space.mmap(request)?;
/// assert_eq!(system.huge_pages(), HugePages { total: 4, free: 4, reserved: 3 });
/// # Ok::<(), maple_mm::Errno>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HugePages {
    /// All of them (`HugePages_Total`).
    pub total: u64,
    /// Those that are no frame of anybody (`HugePages_Free`).
    pub free: u64,
    /// Those of the free ones that are promised (`HugePages_Rsvd`).
    pub reserved: u64,
}

/// A machine's pool of huge pages.
///
/// # Invariants
///
/// - **HP1** `reserved <= free <= total`.
#[derive(Debug)]
pub(crate) struct HugePool {
    /// `free << 32 | reserved`: changed together.
    word: AtomicU64,
    total: u32,
}

/// The two numbers of a pool.
#[derive(Clone, Copy)]
struct Stock {
    free: u32,
    reserved: u32,
}

impl Stock {
    const fn unpack(word: u64) -> Self {
        Self {
            free: (word >> 32) as u32,
            reserved: word as u32,
        }
    }

    const fn pack(self) -> u64 {
        (self.free as u64) << 32 | self.reserved as u64
    }

    /// Free pages that nobody was promised. (HP1)
    const fn unpromised(self) -> u32 {
        self.free - self.reserved
    }
}

impl HugePool {
    pub(crate) const fn new(total: u32) -> Self {
        // INVARIANT: HP1, all are free.
        let stock = Stock {
            free: total,
            reserved: 0,
        };
        Self {
            word: AtomicU64::new(stock.pack()),
            total,
        }
    }

    pub(crate) fn state(&self) -> HugePages {
        // Relaxed: counters that order nothing else; frames are ordered by their memory.
        let stock = Stock::unpack(self.word.load(Ordering::Relaxed));
        HugePages {
            total: self.total.into(),
            free: stock.free.into(),
            reserved: stock.reserved.into(),
        }
    }

    /// Changes both numbers at once, unless `change` refuses.
    fn update(&self, change: impl Fn(Stock) -> Option<Stock>) -> bool {
        // Relaxed: as in `state`.
        let changed = self
            .word
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                let stock = change(Stock::unpack(word))?;
                debug_assert!(stock.reserved <= stock.free && stock.free <= self.total);
                Some(stock.pack())
            });
        changed.is_ok()
    }

    /// Promises `pages`, or says that there are not so many.
    fn reserve(&self, pages: u64) -> bool {
        self.update(|stock| {
            let pages = u32::try_from(pages).ok()?;
            // INVARIANT: HP1
            (pages <= stock.unpromised()).then_some(Stock {
                reserved: stock.reserved + pages,
                ..stock
            })
        })
    }

    /// Takes back a promise of `pages`.
    fn unreserve(&self, pages: u64) {
        let _: bool = self.update(|stock| {
            let reserved = stock.reserved.checked_sub(u32::try_from(pages).ok()?)?;
            Some(Stock { reserved, ..stock })
        });
    }

    /// Takes a page that nobody was promised.
    fn take(&self) -> bool {
        self.update(|stock| {
            let free = stock.free - u32::from(stock.unpromised() > 0);
            // INVARIANT: HP1
            (free < stock.free).then_some(Stock { free, ..stock })
        })
    }

    /// Takes a page that was promised.
    fn take_reserved(&self) {
        let _: bool = self.update(|stock| {
            Some(Stock {
                free: stock.free.checked_sub(1)?,
                reserved: stock.reserved.checked_sub(1)?,
            })
        });
    }

    /// Undoes [`take_reserved`](Self::take_reserved).
    fn put_back_reserved(&self) {
        let _: bool = self.update(|stock| {
            Some(Stock {
                free: stock.free.checked_add(1)?,
                reserved: stock.reserved.checked_add(1)?,
            })
        });
    }

    /// Takes `pages` back whose frames are free again.
    pub(crate) fn put_back(&self, pages: u64) {
        let _: bool = self.update(|stock| {
            let free = stock.free.checked_add(u32::try_from(pages).ok()?)?;
            Some(Stock { free, ..stock })
        });
    }
}

/// The pages that the pool keeps for one object: what a mapping without `MAP_NORESERVE` is
/// promised. Whatever is kept still goes back with the object.
///
/// LINUX: a `resv_map`.
#[derive(Debug)]
pub(crate) struct Promise {
    system: Arc<System>,
    kept: SpinMutex<Kept>,
}

/// A bit for each page of an object that is kept: set until it is taken, or let go.
#[derive(Debug, Default)]
struct Kept {
    /// The object's page of the first bit, counted in huge pages.
    first: u64,
    words: Vec<u64>,
}

impl Kept {
    fn bit(&mut self, index: u64) -> Option<(&mut u64, u64)> {
        let at = index.checked_sub(self.first)?;
        let word = self.words.get_mut(usize::try_from(at / 64).ok()?)?;
        Some((word, 1 << (at % 64)))
    }

    /// Makes the bit `is_set`; whether that changed it.
    fn set(&mut self, index: u64, is_set: bool) -> bool {
        let Some((word, mask)) = self.bit(index) else {
            return false;
        };
        let before = *word;
        *word = if is_set {
            before | mask
        } else {
            before & !mask
        };
        *word != before
    }
}

impl Promise {
    /// Nothing is kept yet; there is memory to note `count` pages, if the pool has so many.
    fn new(system: &Arc<System>, count: u64) -> Result<Counted<Self>, Errno> {
        let mut words = Vec::new();
        if count <= system.huge_pool().total.into() {
            let len = count.div_ceil(64) as usize;
            words.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
        }
        Counted::new(Self {
            system: Arc::clone(system),
            kept: SpinMutex::new(Kept { first: 0, words }),
        })
    }

    /// Keeps the huge pages of `pages`, once; as many as it was made for.
    ///
    /// # Errors
    ///
    /// [`Errno::ENOMEM`] if the pool has not so many.
    fn keep(&self, pages: Range<u64>) -> Result<(), Errno> {
        let count = pages.end - pages.start;
        if !self.system.huge_pool().reserve(count) {
            return Err(Errno::ENOMEM);
        }
        let mut kept = self.kept.lock();
        kept.first = pages.start;
        // The pool has so many, so there is memory for the bits.
        kept.words.resize(count.div_ceil(64) as usize, 0);
        for index in pages {
            kept.set(index, true);
        }
        Ok(())
    }

    /// Gives the pages of `pages` up that are kept still.
    fn let_go(&self, pages: Range<u64>) {
        let mut kept = self.kept.lock();
        let count = pages.filter(|index| kept.set(*index, false)).count() as u64;
        drop(kept);
        if count > 0 {
            self.system.huge_pool().unreserve(count);
        }
    }

    /// Keeps the pages of `pages` again that were taken and are not there any more, as far as
    /// there are others now.
    fn renew(&self, pages: Range<u64>) {
        let pool = self.system.huge_pool();
        let mut kept = self.kept.lock();
        for index in pages {
            if kept.set(index, true) && !pool.reserve(1) {
                kept.set(index, false);
            }
        }
    }

    fn take(&self, index: u64) -> bool {
        let is_kept = self.kept.lock().set(index, false);
        if is_kept {
            self.system.huge_pool().take_reserved();
        }
        is_kept
    }

    /// Undoes [`take`](Self::take).
    fn put_back(&self, index: u64) {
        let is_kept = self.kept.lock().set(index, true);
        debug_assert!(is_kept, "it was taken");
        self.system.huge_pool().put_back_reserved();
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let words = &self.kept.get_mut().words;
        let count = words.iter().map(|word| u64::from(word.count_ones())).sum();
        self.system.huge_pool().unreserve(count);
    }
}

/// Where the pages of an explicitly huge mapping come from.
#[derive(Clone, Copy, Debug)]
pub struct HugeSource<'v> {
    pub(crate) system: &'v Arc<System>,
    pub(crate) promise: Option<&'v Promise>,
}

impl<'v> HugeSource<'v> {
    /// Takes a page for the object's page `index`, counted in huge pages: that which is kept for
    /// it, or one that nobody was promised.
    pub(crate) fn claim(self, index: u64) -> Option<Claim<'v>> {
        let system = &**self.system;
        let promise = self.promise.filter(|promise| promise.take(index));
        let is_there = promise.is_some() || system.huge_pool().take();
        // Not made where there is none: a claim that goes gives a page back.
        is_there.then(|| Claim {
            system,
            promise,
            index,
        })
    }
}

/// A page of the pool that is to become a frame; it goes back unless it did.
#[derive(Debug)]
#[must_use = "the page goes back to the pool"]
pub(crate) struct Claim<'v> {
    system: &'v System,
    /// It was kept by this promise.
    promise: Option<&'v Promise>,
    index: u64,
}

impl Claim<'_> {
    /// The page is a frame now, which goes back to the pool with its last reference.
    pub(crate) fn used(self) {
        core::mem::forget(self);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        match self.promise {
            Some(promise) => promise.put_back(self.index),
            None => self.system.huge_pool().put_back(1),
        }
    }
}

/// Which promises to private mappings are an address space's own. What it inherited is its
/// parent's, and lies in objects that are older than it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnPromises {
    /// The first object that it can have made itself.
    first: FileId,
    /// Whether it may have made any that was promised pages.
    any: bool,
}

impl OwnPromises {
    /// None yet, of an address space that begins now.
    pub(crate) fn none(system: &System) -> Self {
        Self {
            first: system.next_file(),
            any: false,
        }
    }

    /// There may be some from now on.
    pub(crate) const fn expect(&mut self) {
        self.any = true;
    }

    pub(crate) const fn is_expected(self) -> bool {
        self.any
    }

    /// What is promised to a mapping; to a shared one as to all that share it.
    pub(crate) fn of(self, vma: &Vma) -> Option<&Promise> {
        let is_shared = vma.flags().contains(VmFlags::SHARED);
        let is_own = |file: &&FileRef| is_shared || file.id >= self.first;
        vma.file().filter(is_own).and_then(|file| file.promise())
    }

    /// Where the pages of an explicitly huge mapping come from.
    pub(crate) fn source<'v>(self, system: &'v Arc<System>, vma: &'v Vma) -> HugeSource<'v> {
        let promise = self.of(vma);
        HugeSource { system, promise }
    }

    /// `part` of `vma` is no longer mapped. What moved is.
    ///
    /// What all that share an object were promised stays with the object.
    pub(crate) fn unmapped(self, vma: &Vma, part: Range<u64>, moved: Option<MoveRange>) {
        if !self.any || vma.flags().contains(VmFlags::SHARED) {
            return;
        }
        let Some(promise) = self.of(vma) else { return };
        let stays = moved.map_or(0..0, |moved| moved.from..moved.from + moved.len);
        let before = part.start..part.end.min(stays.start);
        let after = part.start.max(stays.end)..part.end;
        for gone in [before, after].into_iter().filter(|gone| !gone.is_empty()) {
            promise.let_go(huge_pages_of(vma, gone));
        }
    }
}

impl<P: PageSide> AddressSpace<P> {
    /// The object behind a new mapping of explicitly huge pages.
    ///
    /// - `EINVAL`: a size that no processor has.
    /// - `ENOMEM`: 1 GiB, of which there is no pool; or no memory for the object.
    pub(crate) fn huge_object(&self, request: &MmapRequest) -> Result<FileRef, Errno> {
        let map_flags = request.flags;
        match (map_flags >> MAP_HUGE_SHIFT) & MAP_HUGE_MASK {
            0 | 21 => {}
            30 => return Err(Errno::ENOMEM),
            _ => return Err(Errno::EINVAL),
        }
        let file = File::huge_anonymous(self.system.new_file())?;
        let promise = match map_flags & MAP_NORESERVE {
            0 => {
                let pages = huge_page_ceil(request.len) / HUGE_PAGE_SIZE;
                Some(Promise::new(&self.system, pages)?)
            }
            _ => None,
        };
        let pages = if map_flags & MAP_TYPE == MAP_PRIVATE {
            None
        } else {
            self.pages.huge_memory(HugeObject {
                system: Arc::clone(&self.system),
                promise: promise.clone(),
            })?
        };
        FileRef::of(file, pages, promise)
    }

    /// Keeps the pages of a new mapping for it, if it is to be promised them.
    ///
    /// - `EINVAL`: an offset that is no whole huge page.
    /// - `ENOMEM`: there are not so many.
    pub(crate) fn keep_huge_pages(vma: &Vma) -> Result<(), Errno> {
        if !vma.page_offset().is_multiple_of(SMALL_IN_HUGE) {
            return Err(Errno::EINVAL);
        }
        let promise = vma.file().and_then(FileRef::promise);
        promise.map_or(Ok(()), |promise| {
            promise.keep(huge_pages_of(vma, vma.start()..vma.end()))
        })
    }

    /// Whether no page of `vma` can be there: it is made of explicitly huge ones, and the machine
    /// has none.
    pub(crate) fn lacks_huge_pages(&self, vma: &Vma) -> bool {
        vma.flags().contains(VmFlags::HUGETLB) && self.system.settings().huge_pages == 0
    }

    /// Keeps the pages of `part`, which lies in `vma` and has none now, as far as it was promised
    /// them.
    ///
    /// LINUX: from 6.7 on.
    pub(crate) fn renew_promise(&self, vma: &Vma, part: Range<u64>) {
        if vma.flags().contains(VmFlags::HUGETLB)
            && !vma.flags().contains(VmFlags::SHARED)
            && let Some(promise) = self.promises.of(vma)
        {
            promise.renew(huge_pages_of(vma, part));
        }
    }

    /// All mappings end.
    pub(crate) fn give_up_promises(&self, mappings: &Mappings) {
        for (_, vma) in mappings {
            self.promises.unmapped(vma, vma.start()..vma.end(), None);
        }
    }
}

/// The object's pages, counted in huge ones, that `part` of `vma` maps.
pub(crate) fn huge_pages_of(vma: &Vma, part: Range<u64>) -> Range<u64> {
    let index = |addr: u64| vma.page_offset_at(addr) / SMALL_IN_HUGE;
    index(part.start)..index(part.end)
}

/// Whether `vma` cannot end or begin at `at`: only a huge page does.
pub(crate) fn is_within_huge_page(vma: &Vma, at: u64) -> bool {
    vma.flags().contains(VmFlags::HUGETLB) && !at.is_multiple_of(HUGE_PAGE_SIZE)
}

/// `bytes` rounded up to whole huge pages; wraps to 0 as the kernel's rounding does.
pub(crate) const fn huge_page_ceil(bytes: u64) -> u64 {
    bytes.wrapping_add(HUGE_PAGE_SIZE - 1) & !(HUGE_PAGE_SIZE - 1)
}

#[cfg(test)]
mod tests {
    use super::HugePool;

    #[test]
    #[should_panic(expected = "stock.free <= self.total")]
    #[cfg_attr(not(debug_assertions), ignore = "checked with debug assertions only")]
    fn a_page_too_many_is_found() {
        HugePool::new(2).put_back(1);
    }

    #[test]
    #[should_panic(expected = "stock.reserved <= stock.free")]
    #[cfg_attr(not(debug_assertions), ignore = "checked with debug assertions only")]
    fn a_promise_of_pages_that_were_taken_is_found() {
        let pool = HugePool::new(1);
        assert!(pool.take());
        pool.update(|stock| {
            Some(super::Stock {
                reserved: 1,
                ..stock
            })
        });
    }
}
