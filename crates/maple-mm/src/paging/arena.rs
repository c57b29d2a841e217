//! Physical memory on a host: frames cut out of one large mapping.
#![expect(unsafe_code, reason = "frames are cut out of one raw allocation")]

use alloc::alloc::{alloc_zeroed, dealloc};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use lock_api::RawMutex;

use super::buddy::History;
use super::free_frames::FreeFrames;
use super::memory::{
    Content, FRAME_BYTES, FRAME_WORDS, Frame, FrameInfo, FrameSize, OutOfFrames, Part, Parts,
    PhysAddr, PhysMemory, Words,
};

/// No allocation is to be refused.
const NEVER: u64 = u64::MAX;

/// What is done with frames that are freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freed {
    /// Debug builds poison them.
    Left,
    /// They are poisoned, and looked at before they are used again.
    Watched,
}

/// How large an arena is, and where its addresses begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaLayout {
    /// How many frames of 4 KiB; at least one, which becomes the zero page.
    pub frames: u32,
    /// The physical address of the first byte, a multiple of 2 MiB.
    pub base: PhysAddr,
}

impl ArenaLayout {
    /// `frames` frames from address zero on.
    #[must_use]
    pub const fn of_frames(frames: u32) -> Self {
        let base = PhysAddr::new(0);
        Self { frames, base }
    }

    fn check(self) -> Result<(), ArenaError> {
        let Self { frames, base } = self;
        let end = base.as_u64().checked_add(u64::from(frames) * FRAME_BYTES);
        if frames == 0 || base.as_u64() % FrameSize::HUGE.bytes() != 0 || end.is_none() {
            return Err(ArenaError::Layout);
        }
        Ok(())
    }
}

/// Why there is no arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArenaError {
    /// The layout has no frames, or its base is not a multiple of 2 MiB or leaves no room above.
    Layout,
    /// The host has not enough memory; ask for fewer frames.
    OutOfMemory,
}

impl fmt::Display for ArenaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Layout => "an arena has a frame at least, and begins at a multiple of 2 MiB",
            Self::OutOfMemory => "the host has no memory for so many frames",
        })
    }
}

impl core::error::Error for ArenaError {}

/// Frames in one large, lazily zeroed allocation that begins at a multiple of 2 MiB.
///
/// What was never used is not touched, so an arena may be far larger than what is in use. A buddy
/// allocator hands frames out, behind a lock that the caller chooses. In an arena of 1024 frames
/// and more a thread seldom waits for it: single frames come from, and go back to, rows of some
/// that lie side by side, one for each of a few threads. They are free until they are handed out,
/// and taken back from there before an allocation is refused.
///
/// # Examples
///
/// ```
/// use maple_mm::paging::{Arena, ArenaLayout, Content, FrameSize, PhysMemory};
/// let arena = Arena::<parking_lot::RawMutex>::new(ArenaLayout::of_frames(1024))?;
/// let frame = arena.allocate(FrameSize::HUGE, Content::Zeroed)?;
/// assert_eq!(arena.in_use(), 512);
/// arena.release(frame);
/// assert_eq!(arena.in_use(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Arena<R> {
    /// What the allocator gave, to be given back; `None` where the memory is somebody else's.
    own: Option<(NonNull<u8>, Layout)>,
    /// The first frame.
    ///
    /// # Invariants
    ///
    /// - **AR1** `infos.len()` frames from here are within what is `own`, or stay for ever; they
    ///   hold initialized bytes, and this program accesses them as `Words` only.
    first: NonNull<Words>,
    base: PhysAddr,
    infos: Box<[FrameInfo]>,
    free: FreeFrames<R>,
    zero_page: PhysAddr,
    /// Allocations until one is refused.
    until_refusal: AtomicU64,
    freed: Freed,
    /// How to wait a little.
    relax: fn(u32),
}

// SAFETY:
// - `own` and `first` lead to an allocation of their own, or to one of nobody's: nothing of it
//   belongs to the thread that made it.
// - The other fields are `Send` if the lock is.
unsafe impl<R: Send> Send for Arena<R> {}

// SAFETY:
// - What `first` points to is shared as atomic words only (AR1); `own` is used by `drop` alone.
// - The other fields are `Sync` if the lock is.
unsafe impl<R: Send + Sync> Sync for Arena<R> {}

impl<R: RawMutex + Send + Sync> Arena<R> {
    /// What freed frames are filled with, in debug builds and if
    /// [asked for](Self::with_poison). As an entry of a table it is not present on x86, and its
    /// address lies outside any arena.
    pub const POISON: u64 = 0xfeed_dead_feed_deac;

    /// Makes an arena, and its zero page.
    ///
    /// # Complexity
    ///
    /// O(frames) for 28 bytes of notes each; the frames themselves are not touched.
    ///
    /// # Errors
    ///
    /// An [`ArenaError`].
    pub fn new(layout: ArenaLayout) -> Result<Self, ArenaError> {
        layout.check()?;
        let (raw, allocation, first) = reserve(layout.frames).ok_or(ArenaError::OutOfMemory)?;
        // INVARIANT: AR1 is what `reserve` promises.
        Self::of(layout, (Some((raw, allocation)), first), History::Untouched).inspect_err(|_| {
            // SAFETY: `raw` came from `alloc_zeroed` with this layout; nobody else has it.
            unsafe { dealloc(raw.as_ptr(), allocation) };
        })
    }

    /// Makes an arena of memory that is there: on bare metal, of a range of the direct map.
    ///
    /// `words` are the frames, 512 words each, and `base` is the physical address of the first, a
    /// multiple of 2 MiB. What is in them does not matter. Words behind the last whole frame are
    /// left alone, and so is what lies beyond 2³² frames.
    ///
    /// # Complexity
    ///
    /// As [`new`](Self::new).
    ///
    /// # Errors
    ///
    /// An [`ArenaError`].
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::paging::{Arena, Content, FrameSize, PhysAddr, PhysMemory};
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// // A kernel's is the part of its direct map that nobody else uses.
    /// static FRAMES: [AtomicU64; 8 * 512] = [const { AtomicU64::new(7) }; 8 * 512];
    /// let arena = Arena::<parking_lot::RawMutex>::over(&FRAMES, PhysAddr::new(0x10_0000_0000))?;
    /// let frame = arena.allocate(FrameSize::SMALL, Content::Zeroed)?;
    /// assert_eq!(frame.addr(), PhysAddr::new(0x10_0000_1000));
    /// assert_eq!(FRAMES[512].load(Ordering::Relaxed), 0);
    /// arena.release(frame);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn over(words: &'static [AtomicU64], base: PhysAddr) -> Result<Self, ArenaError> {
        let (frames, _) = words.as_chunks::<FRAME_WORDS>();
        let layout = ArenaLayout {
            frames: u32::try_from(frames.len()).unwrap_or(u32::MAX),
            base,
        };
        layout.check()?;
        // INVARIANT: AR1: the words are borrowed for ever, as atomic ones.
        Self::of(layout, (None, NonNull::from(frames).cast()), History::Used)
    }

    fn of(
        layout: ArenaLayout,
        (own, first): (Option<(NonNull<u8>, Layout)>, NonNull<Words>),
        history: History,
    ) -> Result<Self, ArenaError> {
        let ArenaLayout { frames, base } = layout;
        let infos = infos(frames).ok_or(ArenaError::OutOfMemory)?;
        let free = FreeFrames::new(frames, history).ok_or(ArenaError::OutOfMemory)?;
        let mut arena = Self {
            own: None,
            first,
            base,
            infos,
            free,
            zero_page: base,
            until_refusal: AtomicU64::new(NEVER),
            freed: Freed::Left,
            relax: |_| core::hint::spin_loop(),
        };
        let taken = arena.allocate(FrameSize::SMALL, Content::Zeroed);
        arena.zero_page = taken.map_err(|_| ArenaError::Layout)?.into_addr();
        arena.own = own;
        Ok(arena)
    }

    /// Waits for a thread that holds a table by calling `relax`, with how often it was called
    /// before; without it by a short pause.
    ///
    /// # Examples
    ///
    /// A program with more threads than processors lets others run after a while: the one who is
    /// waited for may be among them.
    ///
    /// ```
    /// use maple_mm::paging::{Arena, ArenaLayout};
    /// let arena = Arena::<parking_lot::RawMutex>::new(ArenaLayout::of_frames(64))?;
    /// let arena = arena.with_relax(|spins| match spins {
    ///     0..100 => std::hint::spin_loop(),
    ///     _ => std::thread::yield_now(),
    /// });
    /// # let _ = arena;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_relax(self, relax: fn(u32)) -> Self {
        let mut arena = self;
        arena.relax = relax;
        arena
    }

    /// Fills frames with [`POISON`](Self::POISON) when they are freed, as debug builds do anyway,
    /// and looks before they are used again whether it is there still. For searches for reads and
    /// writes that come too late.
    ///
    /// # Panics
    ///
    /// From now on [`allocate`](PhysMemory::allocate) panics if it finds that somebody wrote to a
    /// frame that was free.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::paging::{Arena, ArenaLayout, Content, FrameSize, PhysMemory};
    /// use std::sync::atomic::Ordering::Relaxed;
    /// type Frames = Arena<parking_lot::RawMutex>;
    /// let arena = Frames::new(ArenaLayout::of_frames(8))?.with_poison();
    /// let frame = arena.allocate(FrameSize::SMALL, Content::Zeroed)?;
    /// let late = arena.words(frame.addr());
    /// assert_eq!(late[5].load(Relaxed), 0);
    /// arena.release(frame);
    /// assert_eq!(late[5].load(Relaxed), Frames::POISON);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_poison(self) -> Self {
        let mut arena = self;
        arena.freed = Freed::Watched;
        arena
    }

    /// Where the frames are in this program: what a hypervisor maps as the guest's memory.
    #[must_use]
    pub const fn base_ptr(&self) -> NonNull<u8> {
        self.first.cast()
    }

    /// The physical address of the first byte.
    #[must_use]
    pub const fn base(&self) -> PhysAddr {
        self.base
    }

    /// How many bytes there are.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.infos.len() as u64 * FRAME_BYTES
    }

    /// Lets `allocations` more allocations succeed, then refuses all until told otherwise:
    /// `None` refuses none. For tests of what happens when memory runs out.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::paging::{Arena, ArenaLayout, Content, FrameSize, OutOfFrames, PhysMemory};
    /// let arena = Arena::<parking_lot::RawMutex>::new(ArenaLayout::of_frames(8))?;
    /// arena.fail_after(Some(1));
    /// let first = arena.allocate(FrameSize::SMALL, Content::Any)?;
    /// assert_eq!(arena.allocate(FrameSize::SMALL, Content::Any), Err(OutOfFrames));
    /// arena.fail_after(None);
    /// arena.release(first);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fail_after(&self, allocations: Option<u64>) {
        // Relaxed: a number of its own.
        let until = allocations.map_or(NEVER, |allocations| allocations.min(NEVER - 1));
        self.until_refusal.store(until, Ordering::Relaxed);
    }

    fn is_refused(&self) -> bool {
        let lowered = self.until_refusal.fetch_update(
            // Relaxed: as in `fail_after`.
            Ordering::Relaxed,
            Ordering::Relaxed,
            |until| (until != NEVER && until != 0).then(|| until - 1),
        );
        lowered == Err(0)
    }

    fn number(&self, addr: PhysAddr) -> usize {
        let offset = addr.as_u64().wrapping_sub(self.base.as_u64());
        let number = (offset / FRAME_BYTES) as usize;
        assert!(number < self.infos.len(), "{addr:?} is not in this arena");
        number
    }

    /// The number of the first piece of the frame that `addr` lies in.
    fn head(&self, addr: PhysAddr) -> usize {
        let number = self.number(addr);
        number - self.infos[number].part().offset as usize
    }

    fn addr(&self, number: usize) -> PhysAddr {
        self.base.plus(number as u64 * FRAME_BYTES)
    }

    /// Panics if somebody wrote to what was poisoned. What nobody had yet is not.
    fn check_poison(&self, addr: PhysAddr, size: FrameSize) {
        for piece in 0..size.frames() as u64 {
            let addr = addr.plus(piece * FRAME_BYTES);
            // Relaxed: a number of its own, and who freed the frame passed it on by the lock.
            let word = |index: usize| self.words(addr)[index].load(Ordering::Relaxed);
            let is_poisoned = [0, FRAME_WORDS - 1]
                .iter()
                .any(|&at| word(at) == Self::POISON);
            let changed = (0..FRAME_WORDS).find(|&index| word(index) != Self::POISON);
            if let Some(index) = changed.filter(|_| is_poisoned) {
                let found = word(index);
                panic!("{addr:?} was written while it was free: word {index} is {found:#x}");
            }
        }
    }

    fn begin(&self, number: usize, size: FrameSize) {
        for (offset, info) in self.infos[number..][..size.frames()].iter().enumerate() {
            let offset = offset as u32;
            info.begin(Part { size, offset });
        }
    }
}

fn infos(frames: u32) -> Option<Box<[FrameInfo]>> {
    let mut infos = Vec::new();
    infos.try_reserve_exact(frames as usize).ok()?;
    infos.resize_with(frames as usize, FrameInfo::new);
    Some(infos.into_boxed_slice())
}

/// Allocates zeroed bytes for `frames` frames that begin at a multiple of 2 MiB.
fn reserve(frames: u32) -> Option<(NonNull<u8>, Layout, NonNull<Words>)> {
    // Alignment is made here: allocators that are asked for it write the zeroes.
    let slack = FrameSize::HUGE.bytes() as usize;
    let size = (frames as usize).checked_mul(FRAME_BYTES as usize)?;
    let layout = Layout::from_size_align(size.checked_add(slack)?, 8).ok()?;
    // SAFETY: `layout` has a size of 2 MiB at least.
    let raw = NonNull::new(unsafe { alloc_zeroed(layout) })?;
    let skip = raw.align_offset(slack);
    // SAFETY: `skip` is below `slack`, so the sum lies within the allocation, with `size` behind.
    let first = unsafe { raw.add(skip) };
    Some((raw, layout, first.cast()))
}

impl<R> Drop for Arena<R> {
    fn drop(&mut self) {
        if let Some((raw, layout)) = self.own {
            // SAFETY: `raw` came from `alloc_zeroed` with this layout, and is freed once, here.
            unsafe { dealloc(raw.as_ptr(), layout) };
        }
    }
}

impl<R: RawMutex + Send + Sync> fmt::Debug for Arena<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena")
            .field("base", &self.base)
            .field("frames", &self.infos.len())
            .field("in_use", &self.in_use())
            .finish_non_exhaustive()
    }
}

impl<R: RawMutex + Send + Sync> PhysMemory for Arena<R> {
    fn allocate(&self, size: FrameSize, content: Content) -> Result<Frame, OutOfFrames> {
        if self.is_refused() {
            return Err(OutOfFrames);
        }
        let taken = self.free.take(size.order());
        let (number, history) = taken.ok_or(OutOfFrames)?;
        let addr = self.addr(number as usize);
        self.begin(number as usize, size);
        if self.freed == Freed::Watched {
            self.check_poison(addr, size);
        }
        if content == Content::Zeroed && history == History::Used {
            self.fill(addr, size, 0);
        }
        Ok(Frame::from_counted(addr, size))
    }

    fn free(&self, addr: PhysAddr) {
        let head = self.head(addr);
        let size = self.infos[head].part().size;
        debug_assert_eq!(self.infos[head].count(), 0, "somebody has the frame still");
        if cfg!(debug_assertions) || self.freed == Freed::Watched {
            self.fill(self.addr(head), size, Self::POISON);
        }
        self.free.give(head as u32, size.order());
    }

    fn words(&self, addr: PhysAddr) -> &Words {
        let number = self.number(addr);
        // SAFETY: `number` is below the number of frames, which lie within one allocation (AR1).
        let words = unsafe { self.first.add(number) };
        // SAFETY:
        // - The frame is initialized, and accessed as `Words` only (AR1), which are atomic.
        // - It is aligned as words are: so is the first.
        // - It lives as long as the arena, which the result borrows.
        unsafe { words.as_ref() }
    }

    fn info(&self, addr: PhysAddr) -> &FrameInfo {
        &self.infos[self.head(addr)]
    }

    fn zero_page(&self) -> PhysAddr {
        self.zero_page
    }

    fn contains(&self, addr: PhysAddr) -> bool {
        addr.as_u64().wrapping_sub(self.base.as_u64()) < self.size()
    }

    fn relax(&self, spins: u32) {
        (self.relax)(spins);
    }

    fn in_use(&self) -> usize {
        // The zero page is not counted.
        self.infos.len() - 1 - self.free.count()
    }

    fn split(&self, addr: PhysAddr) -> Parts {
        let head = self.head(addr);
        for number in head..head + self.infos[head].part().size.frames() {
            self.begin(number, FrameSize::SMALL);
        }
        Parts::Apart
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[cfg(not(miri))]
    type Lock = parking_lot::RawMutex;
    #[cfg(miri)]
    type Lock = spin::Mutex<()>;

    fn watched() -> Arena<Lock> {
        let arena = Arena::new(ArenaLayout::of_frames(8)).expect("the host has memory");
        arena.with_poison()
    }

    /// Allocates the last frames and gives them back: the only ones of their size.
    fn freed(arena: &Arena<Lock>) -> PhysAddr {
        let size = FrameSize::of_order(2).expect("four frames");
        let frame = arena.allocate(size, Content::Any).expect("memory");
        let addr = frame.addr();
        arena.release(frame);
        addr
    }

    #[test]
    fn an_allocation_is_refused_only_when_every_frame_is_in_use() {
        const FRAMES: usize = 1024;
        let arena = Arena::<Lock>::new(ArenaLayout::of_frames(FRAMES as u32)).expect("memory");
        let take = || arena.allocate(FrameSize::SMALL, Content::Zeroed);
        // Threads whose stacks are elsewhere leave frames behind that are free.
        for _ in 0..4 {
            std::thread::scope(|scope| {
                scope.spawn(|| arena.release(take().expect("memory")));
            });
        }
        assert_eq!(arena.in_use(), 0);
        let mut frames: Vec<_> = core::iter::from_fn(|| take().ok()).collect();
        // All but the zero page.
        assert_eq!((frames.len(), arena.in_use()), (FRAMES - 1, FRAMES - 1));
        arena.release(frames.swap_remove(500));
        frames.push(take().expect("the one that was released"));
        frames.into_iter().for_each(|frame| arena.release(frame));
        assert_eq!(arena.in_use(), 0);
        let huge = arena.allocate(FrameSize::HUGE, Content::Any);
        arena.release(huge.expect("none of its frames is in use"));
    }

    #[test]
    fn poisoned_frames_are_zero_again_when_they_are_asked_for_so() {
        let arena = watched();
        let addr = freed(&arena);
        assert_eq!(freed(&arena), addr);
        for _ in 0..7 {
            let frame = arena.allocate(FrameSize::SMALL, Content::Zeroed);
            let addr = frame.expect("memory").into_addr();
            let words = arena.words(addr).iter();
            assert!(
                words
                    .map(|word| word.load(Ordering::Relaxed))
                    .all(|word| word == 0)
            );
        }
    }

    #[test]
    #[should_panic(expected = "was written while it was free: word 7 is 0x1")]
    fn a_write_to_a_frame_that_is_free_is_found_before_the_frame_is_used() {
        let arena = watched();
        let addr = freed(&arena);
        arena.words(addr.plus(FRAME_BYTES))[7].store(1, Ordering::Relaxed);
        freed(&arena);
    }
}
