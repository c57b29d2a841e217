//! [`Memory`]: few frames, which are known to be free.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use maple_mm::paging::{
    Arch, Content, Entry, FRAME_BYTES, FRAME_WORDS, Frame, FrameInfo, FrameSize, OutOfFrames, Part,
    PhysAddr, PhysMemory, Tiny, Words,
};
use shuttle::thread;

use crate::checker;

/// How many words of a frame are used: a table has as many entries, and a page holds one word.
const USED_WORDS: usize = Small::ENTRIES;

const FRAMES: usize = 128;

/// What a freed frame holds.
const POISON: u64 = 0xdead_dead_dead_dead;

/// No real processor: four levels of tables with four entries each, so that a few pages have
/// several tables, and the addresses that Linux keeps for itself are below.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Small;

impl Arch for Small {
    const LEVELS: usize = 4;
    const INDEX_BITS: u32 = 2;
    const USER_END: u64 = FRAME_BYTES << 8;
    const UPPER_WRITE_PROTECT: bool = true;

    fn decode(raw: u64, level: usize) -> Entry {
        Tiny::<2>::decode(raw, level)
    }

    fn encode(entry: Entry, level: usize) -> u64 {
        Tiny::<2>::encode(entry, level)
    }
}

#[derive(Default)]
struct Free {
    /// As many were handed out.
    begun: usize,
    freed: Vec<usize>,
    in_use: usize,
}

/// Physical memory that is there once, for one run after the other.
pub(crate) struct Memory {
    frames: Box<[Words]>,
    infos: Box<[FrameInfo]>,
    is_free: Box<[AtomicBool]>,
    // Shuttle changes threads at points of its own only, so never under this lock.
    free: Mutex<Free>,
}

impl Memory {
    /// Memory for as long as the test runs, with all frames free.
    pub(crate) fn leak() -> &'static Self {
        let words = |_| [const { AtomicU64::new(0) }; FRAME_WORDS];
        Box::leak(Box::new(Self {
            frames: (0..FRAMES).map(words).collect(),
            infos: (0..FRAMES).map(|_| FrameInfo::new()).collect(),
            is_free: (0..FRAMES).map(|_| AtomicBool::new(true)).collect(),
            free: Mutex::default(),
        }))
    }

    /// All frames are free, whatever was before.
    pub(crate) fn begin(&self) {
        *self.free.lock().unwrap() = Free {
            // The zero page is not counted.
            begun: 1,
            ..Free::default()
        };
        for (number, is_free) in self.is_free.iter().enumerate() {
            is_free.store(number != 0, Ordering::Relaxed);
        }
    }

    /// Whether the word at an address of the host belongs to a frame, or to what is noted for one,
    /// that nobody has.
    pub(crate) fn is_freed(&self, addr: usize) -> bool {
        let number = number_in(&self.frames, addr).or_else(|| number_in(&self.infos, addr));
        number.is_some_and(|number| self.is_free[number].load(Ordering::Relaxed))
    }

    fn number(&self, addr: PhysAddr) -> usize {
        (addr.as_u64() / FRAME_BYTES) as usize
    }

    fn set_words(&self, number: usize, word: u64) {
        for target in &self.frames[number][..USED_WORDS] {
            target.store(word, Ordering::Relaxed);
        }
    }
}

/// Which of `all` the byte at `addr` belongs to.
fn number_in<T>(all: &[T], addr: usize) -> Option<usize> {
    let range = all.as_ptr_range();
    let is_inside = (range.start.addr()..range.end.addr()).contains(&addr);
    is_inside.then(|| (addr - range.start.addr()) / size_of::<T>())
}

impl PhysMemory for Memory {
    fn allocate(&self, size: FrameSize, _: Content) -> Result<Frame, OutOfFrames> {
        assert_eq!(size, FrameSize::SMALL);
        let mut free = self.free.lock().unwrap();
        let freed = free.freed.pop();
        let number = freed.unwrap_or(free.begun);
        if number == FRAMES {
            return Err(OutOfFrames);
        }
        free.begun += usize::from(freed.is_none());
        free.in_use += 1;
        drop(free);
        self.set_words(number, 0);
        self.is_free[number].store(false, Ordering::Relaxed);
        self.infos[number].begin(Part { size, offset: 0 });
        let addr = PhysAddr::new(number as u64 * FRAME_BYTES);
        Ok(Frame::from_counted(addr, size))
    }

    fn free(&self, addr: PhysAddr) {
        let number = self.number(addr);
        let was_free = self.is_free[number].swap(true, Ordering::Relaxed);
        assert!(
            !was_free || std::thread::panicking(),
            "a frame is freed twice"
        );
        self.set_words(number, POISON);
        let mut free = self.free.lock().unwrap();
        free.freed.push(number);
        free.in_use -= 1;
    }

    fn words(&self, addr: PhysAddr) -> &Words {
        &self.frames[self.number(addr)]
    }

    fn info(&self, addr: PhysAddr) -> &FrameInfo {
        &self.infos[self.number(addr)]
    }

    fn zero_page(&self) -> PhysAddr {
        PhysAddr::new(0)
    }

    fn contains(&self, addr: PhysAddr) -> bool {
        self.number(addr) < FRAMES
    }

    fn in_use(&self) -> usize {
        self.free.lock().unwrap().in_use
    }

    fn relax(&self, _: u32) {
        thread::yield_now();
    }

    fn copy(&self, from: PhysAddr, to: PhysAddr, _: FrameSize) {
        // Pages hold one word.
        let (from, to) = (&self.words(from)[0], &self.words(to)[0]);
        checker::point();
        let word = from.load(Ordering::Relaxed);
        checker::point();
        to.store(word, Ordering::Relaxed);
    }

    fn fill(&self, _: PhysAddr, _: FrameSize, _: u64) {
        unreachable!("frames are zeroed where they are allocated");
    }
}
