//! [`LoomMemory`]: few frames, whose lives loom watches.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use loom::thread;
use maple_mm::paging::{
    Arch, Content, Entry, FRAME_BYTES, FRAME_WORDS, Frame, FrameInfo, FrameSize, OutOfFrames, Part,
    PhysAddr, PhysMemory, Tiny, Words,
};

use crate::checker::{self, Use};

/// How many words of a frame are used: a table has as many entries.
pub(crate) const USED_WORDS: usize = Small::ENTRIES;

const FRAMES: usize = 32;

/// No real processor: two levels of tables with two entries each, so four pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Small;

impl Arch for Small {
    const LEVELS: usize = 2;
    const INDEX_BITS: u32 = 1;
    const USER_END: u64 = 4 * FRAME_BYTES;
    const UPPER_WRITE_PROTECT: bool = true;

    fn decode(raw: u64, level: usize) -> Entry {
        Tiny::<1>::decode(raw, level)
    }

    fn encode(entry: Entry, level: usize) -> u64 {
        Tiny::<1>::encode(entry, level)
    }
}

/// Which frame is handed out next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Next {
    /// One that was never used, so that every step on one that was freed is found.
    #[default]
    Fresh,
    /// That which was freed last, so that what takes one frame for another is found.
    Freed,
}

#[derive(Default)]
struct Free {
    next: Next,
    /// As many were handed out.
    begun: usize,
    freed: Vec<usize>,
    in_use: usize,
}

/// Physical memory that is there once, for one execution after the other.
pub(crate) struct LoomMemory {
    frames: Box<[Words]>,
    infos: Box<[FrameInfo]>,
    free: Mutex<Free>,
}

impl LoomMemory {
    fn new() -> Self {
        let words = |_| [const { AtomicU64::new(0) }; FRAME_WORDS];
        Self {
            frames: (0..FRAMES).map(words).collect(),
            infos: (0..FRAMES).map(|_| FrameInfo::new()).collect(),
            free: Mutex::default(),
        }
    }

    /// That of this thread of the system, with all frames free.
    pub(crate) fn begin(next: Next) -> &'static Self {
        thread_local! {
            static MEMORY: &'static LoomMemory = Box::leak(Box::new(LoomMemory::new()));
        }
        let memory = MEMORY.with(|memory| *memory);
        checker::set_memory(&memory.frames, &memory.infos);
        *memory.free.lock().unwrap() = Free {
            next,
            // The zero page is not counted.
            begun: 1,
            ..Free::default()
        };
        memory
    }

    fn number(&self, addr: PhysAddr) -> usize {
        (addr.as_u64() / FRAME_BYTES) as usize
    }
}

impl PhysMemory for LoomMemory {
    fn allocate(&self, size: FrameSize, _: Content) -> Result<Frame, OutOfFrames> {
        assert_eq!(size, FrameSize::SMALL);
        let mut free = self.free.lock().unwrap();
        let freed = match free.next {
            Next::Fresh => None,
            Next::Freed => free.freed.pop(),
        };
        let number = freed.unwrap_or(free.begun);
        free.begun += usize::from(freed.is_none());
        free.in_use += 1;
        drop(free);
        checker::born(number, self.frames.get(number).ok_or(OutOfFrames)?);
        self.infos[number].begin(Part { size, offset: 0 });
        let addr = PhysAddr::new(number as u64 * FRAME_BYTES);
        Ok(Frame::from_counted(addr, size))
    }

    fn free(&self, addr: PhysAddr) {
        let number = self.number(addr);
        checker::died(number, &self.frames[number], &self.infos[number]);
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
        checker::use_content(from, Use::Read);
        checker::use_content(to, Use::Written);
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    fn fill(&self, _: PhysAddr, _: FrameSize, _: u64) {
        unreachable!("frames are zeroed where they are allocated");
    }
}
