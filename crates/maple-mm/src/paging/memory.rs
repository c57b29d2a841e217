//! Physical memory as page tables need it: frames, their words, and what is noted for each.

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::sync;

/// Bytes of the smallest frame, and of a table.
pub const FRAME_BYTES: u64 = 4096;

/// Words of the smallest frame.
pub const FRAME_WORDS: usize = 512;

/// The words of one frame of [`FRAME_BYTES`].
///
/// They are atomic because processors, other threads, and address spaces that share the frame
/// may look at it and change it at any time.
pub type Words = [AtomicU64; FRAME_WORDS];

/// The address of a byte of physical memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysAddr(u64);

impl PhysAddr {
    /// The byte at `addr`.
    #[must_use]
    pub const fn new(addr: u64) -> Self {
        Self(addr)
    }

    /// The address as a number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The byte `bytes` further up; wraps around.
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// The first byte of the 4 KiB that the byte lies in.
    #[must_use]
    pub const fn frame_start(self) -> Self {
        Self(self.0 & !(FRAME_BYTES - 1))
    }
}

impl fmt::Debug for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PhysAddr({:#x})", self.0)
    }
}

/// How large a frame is: `4096 << order` bytes, aligned to its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameSize {
    order: u32,
}

impl FrameSize {
    /// 4 KiB.
    pub const SMALL: Self = Self { order: 0 };
    /// 2 MiB.
    pub const HUGE: Self = Self { order: 9 };

    /// `4096 << order` bytes; `None` above 2 MiB.
    #[must_use]
    pub const fn of_order(order: u32) -> Option<Self> {
        if order <= Self::HUGE.order {
            Some(Self { order })
        } else {
            None
        }
    }

    /// The logarithm of the size in frames of 4 KiB.
    #[must_use]
    pub const fn order(self) -> u32 {
        self.order
    }

    /// The size in frames of 4 KiB.
    #[must_use]
    pub const fn frames(self) -> usize {
        1 << self.order
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        FRAME_BYTES << self.order
    }
}

/// What is to be in a new frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Zero bytes.
    Zeroed,
    /// Anything: the caller writes all of it.
    Any,
}

/// No frame of the size asked for is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfFrames;

impl fmt::Display for OutOfFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no frame of that size is free: free some, and try again")
    }
}

impl core::error::Error for OutOfFrames {}

/// One counted reference to a frame.
///
/// It has no destructor, because it does not know its memory: a reference that is neither mapped
/// nor given to [`PhysMemory::release`] is a leak, which [`PhysMemory::in_use`] shows.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a reference that is dropped is a frame leaked; release it"]
pub struct Frame {
    addr: PhysAddr,
    size: FrameSize,
}

impl Frame {
    /// Takes over a reference that is counted already: for implementations of [`PhysMemory`].
    pub const fn from_counted(addr: PhysAddr, size: FrameSize) -> Self {
        Self { addr, size }
    }

    /// The first byte.
    #[must_use]
    pub const fn addr(&self) -> PhysAddr {
        self.addr
    }

    /// How large the frame is.
    #[must_use]
    pub const fn size(&self) -> FrameSize {
        self.size
    }

    /// Gives the reference up uncounted: whoever keeps the address has it now.
    #[must_use]
    pub const fn into_addr(self) -> PhysAddr {
        self.addr
    }
}

/// Whether a reference that was given up was the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Remaining {
    /// There are others.
    Some,
    /// It was the last: the frame is its finder's to free.
    None,
}

/// Which part of a frame a piece of 4 KiB is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// How large the whole frame is; meaningful in its first piece.
    pub size: FrameSize,
    /// How many pieces lie before this one.
    pub offset: u32,
}

/// What is noted for each 4 KiB of memory: 16 bytes.
///
/// Of a larger frame the first piece has the count.
#[derive(Debug, Default)]
pub struct FrameInfo {
    count: AtomicU32,
    part: AtomicU32,
    tally: AtomicU64,
}

/// A count from here on is never lowered: leaking a frame is better than freeing it under somebody.
const COUNT_STUCK: u32 = 1 << 31;

/// In the word of a page: it was written.
const DIRTY: u64 = 1;

/// In the word of a page: it is an explicitly huge one.
const EXPLICIT: u64 = 1 << 1;

const PART_ORDER_SHIFT: u32 = 24;

impl FrameInfo {
    /// Of a piece that belongs to no frame yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            count: AtomicU32::new(0),
            part: AtomicU32::new(0),
            tally: AtomicU64::new(0),
        }
    }

    /// How many references there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        // ORDERING: `Acquire` pairs with the decrement in `release`: who finds itself alone has
        // seen all that the others did.
        sync::load(&self.count, Ordering::Acquire)
    }

    /// Counts one more reference, which is made from one that is there.
    pub fn retain(&self) {
        self.retain_many(1);
    }

    /// Counts `more` references at once.
    pub fn retain_many(&self, more: u32) {
        // Relaxed: the reference that this one is made from keeps the frame.
        let before = sync::add(&self.count, more, Ordering::Relaxed);
        if before >= COUNT_STUCK {
            let stuck = COUNT_STUCK + COUNT_STUCK / 2;
            sync::store(&self.count, stuck, Ordering::Relaxed);
        }
    }

    /// Gives up one reference.
    pub fn release(&self) -> Remaining {
        // Relaxed: a count that is stuck stays so.
        if sync::load(&self.count, Ordering::Relaxed) >= COUNT_STUCK {
            return Remaining::Some;
        }
        // ORDERING: `Release` passes on what was done through this reference; `Acquire` takes in,
        // with the last one, what was done through the others. `count` is the other partner.
        let before = sync::subtract(&self.count, 1, Ordering::AcqRel);
        debug_assert_ne!(before, 0, "a reference was released twice");
        if before == 1 {
            Remaining::None
        } else {
            Remaining::Some
        }
    }

    /// Makes the first piece of a new frame of `size`, with one reference.
    pub fn begin(&self, part: Part) {
        let packed = part.size.order() << PART_ORDER_SHIFT | part.offset;
        // Relaxed: the frame is in nobody's hands yet; handing it out is what orders.
        self.part.store(packed, Ordering::Relaxed);
        sync::store(&self.tally, 0, Ordering::Relaxed);
        let count = u32::from(part.offset == 0);
        sync::store(&self.count, count, Ordering::Relaxed);
    }

    /// Which part of which size of frame the piece is.
    #[must_use]
    pub fn part(&self) -> Part {
        // Relaxed: it does not change while there is a reference.
        let packed = self.part.load(Ordering::Relaxed);
        let order = packed >> PART_ORDER_SHIFT;
        Part {
            size: FrameSize::of_order(order).unwrap_or(FrameSize::HUGE),
            offset: packed & ((1 << PART_ORDER_SHIFT) - 1),
        }
    }

    /// Whether the processor wrote to the page through an entry that is gone by now. Page tables
    /// note that for pages of files and of shared memory.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        // Relaxed: a bit of its own.
        sync::load(&self.tally, Ordering::Relaxed) & DIRTY != 0
    }

    /// Notes that the page was written.
    pub fn set_dirty(&self) {
        sync::or(&self.tally, DIRTY, Ordering::Relaxed);
    }

    /// Forgets that the page was written, as who writes it back does first: whether it was.
    pub fn take_dirty(&self) -> bool {
        sync::and(&self.tally, !DIRTY, Ordering::Relaxed) & DIRTY != 0
    }

    /// Whether the frame is an explicitly huge page: it was mapped as one, or made to be.
    #[must_use]
    pub fn is_explicit(&self) -> bool {
        // Relaxed: it does not change while there is a reference.
        sync::load(&self.tally, Ordering::Relaxed) & EXPLICIT != 0
    }

    /// Notes that the frame is an explicitly huge page, until it is free.
    pub fn set_explicit(&self) {
        sync::or(&self.tally, EXPLICIT, Ordering::Relaxed);
    }

    /// The word in which page tables note what a table holds, and who holds the table; of a page
    /// it has [`DIRTY`] and [`EXPLICIT`].
    #[must_use]
    pub(super) const fn tally(&self) -> &AtomicU64 {
        &self.tally
    }
}

/// Whether the pieces of a frame could be made frames of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// Each 4 KiB is a frame with one reference now.
    Apart,
    /// It is one frame as before.
    Together,
}

/// Memory made of frames that can be counted, and looked at by address.
///
/// Frames are 4 KiB or a power of two times that, aligned to their size. One of them is the zero
/// page: allocated with the memory, never counted, never written, never freed.
///
/// An implementation is trusted by the processor that walks the tables made of it, not by this
/// crate: all access goes through atomic words, so a wrong one gives wrong contents, not undefined
/// behaviour.
///
/// Handles to memory are memory, too: `&M` and [`Arc<M>`](alloc::sync::Arc). Page tables keep one.
pub trait PhysMemory: Sync {
    /// Takes a frame out of what is free, with one reference.
    ///
    /// # Errors
    ///
    /// [`OutOfFrames`]; nothing has changed.
    fn allocate(&self, size: FrameSize, content: Content) -> Result<Frame, OutOfFrames>;

    /// Makes the frame that `addr` lies in free again. Its count is zero: its last reference was
    /// just released.
    fn free(&self, addr: PhysAddr);

    /// The words of the 4 KiB that `addr` lies in.
    ///
    /// # Panics
    ///
    /// If `addr` is not in this memory, which only an address that came from elsewhere can be.
    fn words(&self, addr: PhysAddr) -> &Words;

    /// What is noted for the frame that `addr` lies in, whatever its size.
    ///
    /// # Panics
    ///
    /// As [`words`](Self::words).
    fn info(&self, addr: PhysAddr) -> &FrameInfo;

    /// The zero page.
    fn zero_page(&self) -> PhysAddr;

    /// Whether `addr` is in this memory.
    fn contains(&self, addr: PhysAddr) -> bool;

    /// How many times 4 KiB are allocated; the zero page is not counted.
    fn in_use(&self) -> usize;

    /// Makes each 4 KiB of the frame that `addr` lies in a frame with one reference. The caller
    /// has the only reference to the frame.
    ///
    /// An allocator that cannot take frames apart leaves this out. The frame is then freed as a
    /// whole, when all parts of it are given up.
    fn split(&self, addr: PhysAddr) -> Parts {
        let _ = addr;
        Parts::Together
    }

    /// Makes a second reference to a frame.
    fn share(&self, frame: &Frame) -> Frame {
        self.info(frame.addr).retain();
        Frame::from_counted(frame.addr, frame.size)
    }

    /// Gives a reference up, and frees the frame with the last one.
    fn release(&self, frame: Frame) {
        self.release_at(frame.into_addr());
    }

    /// Gives up a reference to the frame that `addr` lies in, which is known by its address only.
    fn release_at(&self, addr: PhysAddr) {
        if self.info(addr).release() == Remaining::None {
            self.free(addr);
        }
    }

    /// Waits a little for a thread that holds a table, which it does for some hundred
    /// instructions, or for one that changes mappings, which may take longer; asked again until it
    /// lets go, and told how often it was before.
    ///
    /// A program with more threads than processors yields its own after a while; a kernel, which
    /// holds nothing while it is preempted, need not.
    fn relax(&self, spins: u32) {
        let _ = spins;
        core::hint::spin_loop();
    }

    /// Copies `size` bytes from one frame to another, word by word.
    fn copy(&self, from: PhysAddr, to: PhysAddr, size: FrameSize) {
        for piece in 0..size.frames() as u64 {
            let offset = piece * FRAME_BYTES;
            let source = self.words(from.plus(offset));
            let target = self.words(to.plus(offset));
            for (source, target) in source.iter().zip(target) {
                sync::write(target, sync::read(source));
            }
        }
    }

    /// Writes `word` all over a frame.
    fn fill(&self, addr: PhysAddr, size: FrameSize, word: u64) {
        for piece in 0..size.frames() as u64 {
            for target in self.words(addr.plus(piece * FRAME_BYTES)) {
                sync::write(target, word);
            }
        }
    }
}

macro_rules! forward_to_target {
    ($handle:ty) => {
        impl<M: PhysMemory + ?Sized + Send> PhysMemory for $handle {
            fn allocate(&self, size: FrameSize, content: Content) -> Result<Frame, OutOfFrames> {
                (**self).allocate(size, content)
            }

            fn free(&self, addr: PhysAddr) {
                (**self).free(addr);
            }

            fn words(&self, addr: PhysAddr) -> &Words {
                (**self).words(addr)
            }

            fn info(&self, addr: PhysAddr) -> &FrameInfo {
                (**self).info(addr)
            }

            fn zero_page(&self) -> PhysAddr {
                (**self).zero_page()
            }

            fn contains(&self, addr: PhysAddr) -> bool {
                (**self).contains(addr)
            }

            fn in_use(&self) -> usize {
                (**self).in_use()
            }

            fn split(&self, addr: PhysAddr) -> Parts {
                (**self).split(addr)
            }

            fn relax(&self, spins: u32) {
                (**self).relax(spins);
            }

            fn copy(&self, from: PhysAddr, to: PhysAddr, size: FrameSize) {
                (**self).copy(from, to, size);
            }

            fn fill(&self, addr: PhysAddr, size: FrameSize, word: u64) {
                (**self).fill(addr, size, word);
            }
        }
    };
}

forward_to_target!(&M);
forward_to_target!(Arc<M>);
