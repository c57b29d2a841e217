//! Address spaces to make calls on, and what of them must not change.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hasher};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use maple_mm::paging::PhysMemory;
use maple_mm::{
    Access, FileRef, HeapChunks, MmapRequest, Overcommit, Setup, System, SystemSettings, TreeNodes,
    VmaPool, VmaRef, abi::*,
};
use maple_tree::GlobalNodes;

use crate::allocator::{Refuse, live, refusing};
use crate::common::paged::{
    Memory, REGULAR, Space, check, contents, frames, get, opened, set, space_in,
};
use crate::common::{self, map_as, memory, of_file, page, state};
use crate::scarce::Scarce;

const RW: u64 = PROT_READ | PROT_WRITE;

pub(crate) type Paged = Space<Scarce>;

/// An address space, and others that share with it and must not notice anything.
pub(crate) struct Family {
    pub(crate) space: Paged,
    pub(crate) others: Vec<Paged>,
    pub(crate) pool: &'static VmaPool,
    pub(crate) memory: Memory,
}

impl Family {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Paged> {
        self.others.iter().chain([&self.space])
    }

    /// Everything a refused call must leave as it was.
    pub(crate) fn strict(&self) -> String {
        let mut text = String::new();
        for space in self.all() {
            text += &state(space);
            for vma in space.vmas() {
                let file = vma.file().map(FileRef::count);
                writeln!(text, "{} {file:?}", VmaRef::count(vma)).unwrap();
            }
            self.write_pages(space, &mut text);
        }
        writeln!(text, "{}", self.pool.in_use()).unwrap();
        text
    }

    /// The contents of all pages.
    fn write_pages(&self, space: &Paged, text: &mut String) {
        for mapped in space.page_side().tables().pages(0..1 << 47) {
            let mut hash = DefaultHasher::new();
            for piece in 0..mapped.size / PAGE_SIZE {
                let addr = mapped.leaf.frame.plus(piece * PAGE_SIZE);
                for (at, word) in self.memory.words(addr).iter().enumerate() {
                    let word = word.load(Ordering::Relaxed);
                    if word != 0 {
                        hash.write_u64(piece << 9 | at as u64);
                        hash.write_u64(word);
                    }
                }
            }
            let kind = mapped.leaf.attributes.kind;
            writeln!(text, "{:x} {kind:?} {:x}", mapped.start, hash.finish()).unwrap();
        }
    }

    #[track_caller]
    pub(crate) fn check(&self) {
        check(&self.all().collect::<Vec<_>>());
    }

    /// Ends all spaces without any memory, and checks that nothing is left.
    #[track_caller]
    pub(crate) fn end(self, alive: i64) {
        let Self {
            space,
            others,
            pool,
            memory,
        } = self;
        let system = Arc::clone(space.system());
        let ((), refused) = refusing(Refuse::From(0), || drop((space, others)));
        assert_eq!(refused, 0, "an end must not need memory");
        let huge = system.huge_pages();
        assert_eq!((huge.free, huge.reserved), (huge.total, 0), "of the pool");
        drop(system);
        assert_eq!(memory.in_use(), 0, "frames were leaked");
        drop(memory);
        pool.release_reserve();
        assert_eq!(pool.in_use(), 0, "mappings were leaked");
        assert_eq!(live(), alive, "memory was leaked");
    }
}

/// What an address space begins with.
#[derive(Clone, Copy)]
pub(crate) struct Ground {
    pub(crate) pool: &'static VmaPool,
    pub(crate) overcommit: Overcommit,
}

impl Ground {
    pub(crate) fn new() -> Self {
        static EACH: HeapChunks = HeapChunks::new(0);
        Self {
            pool: Box::leak(Box::new(VmaPool::new(&EACH))),
            overcommit: Overcommit::Guess,
        }
    }

    pub(crate) fn empty(self, memory: &Memory) -> Paged {
        let settings = SystemSettings {
            overcommit: self.overcommit,
            ..SystemSettings::default()
        };
        let system = System::new(settings)
            .with_pool(self.pool)
            .with_nodes(TreeNodes::new(&GlobalNodes));
        let system = Arc::new(system);
        let setup = Setup {
            system,
            ..Setup::default()
        };
        space_in(&Scarce(memory.clone()), setup)
    }
}

pub(crate) type Build = fn(Ground) -> Family;

pub(crate) fn alone(ground: Ground, memory: Memory, space: Paged) -> Family {
    Family {
        space,
        others: Vec::new(),
        pool: ground.pool,
        memory,
    }
}

/// A heap, a stack, and `count` mappings of all kinds in turn: ten pages each, two free behind
/// each. Of those that are touched, pages 0 and 5 are written, or read, and page 7 is read.
pub(crate) fn assorted(ground: Ground, count: u64, is_touched: fn(u64) -> bool) -> Family {
    let frames = frames(if count > 100 { 8192 } else { 512 });
    let mut space = ground.empty(&frames);
    let heap = space.layout().start_brk;
    space.brk(heap + 4 * PAGE_SIZE);
    set(&mut space, heap, 1);
    let pages = contents(&Scarce(frames.clone()), 20, 1000);
    let file = opened(1, REGULAR, &pages);
    for index in 0..count {
        let at = 12 * index..12 * index + 10;
        map_as(&mut space, request(index, &file, at.clone()));
        if is_touched(index) {
            touch(&mut space, at.start);
        }
        let (addr, len) = (page(at.start), 10 * PAGE_SIZE);
        match index % 24 {
            8 => space.madvise(addr, len, MADV_DONTFORK).unwrap(),
            9 => space.madvise(addr, len, MADV_WIPEONFORK).unwrap(),
            15 if index < 24 => space.mlock(addr, len).unwrap(),
            _ => {}
        }
    }
    if count < 20 {
        straddle(&mut space);
        assert_eq!(space.map_count(), 21);
    }
    alone(ground, frames, space)
}

pub(crate) fn request(index: u64, file: &FileRef, at: Range<u64>) -> MmapRequest {
    let plain = memory(at.start, at.end, RW);
    let of_file = MmapRequest {
        prot: RW,
        ..of_file(file, at.clone(), 3)
    };
    match index % 8 {
        3 => of_file,
        4 => MmapRequest {
            flags: MAP_SHARED | MAP_FIXED,
            ..of_file
        },
        5 => MmapRequest {
            flags: MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED,
            ..plain
        },
        6 => memory(at.start, at.end, PROT_READ),
        _ => plain,
    }
}

pub(crate) fn touch(space: &mut Paged, first: u64) {
    for offset in [0, 5] {
        if space.fault(page(first + offset), Access::Write).is_ok() {
            set(space, page(first + offset) + 64, first + offset);
        }
    }
    get(space, page(first + 7));
}

/// A mapping over two tables, touched in the first only, where the second has a neighbour's page.
fn straddle(space: &mut Paged) {
    for (first, end) in [(250, 260), (270, 272)] {
        map_as(space, memory(first, end, RW));
        set(space, page(first), first);
    }
}

/// 21 private mappings with the heap, every other one touched.
pub(crate) fn plain(ground: Ground) -> Family {
    let memory = frames(512);
    let mut space = ground.empty(&memory);
    let heap = space.layout().start_brk;
    space.brk(heap + 4 * PAGE_SIZE);
    straddle(&mut space);
    for index in 0..18 {
        map_as(&mut space, common::memory(12 * index, 12 * index + 10, RW));
        if index % 2 == 0 {
            touch(&mut space, 12 * index);
        }
    }
    assert_eq!(space.map_count(), 21);
    alone(ground, memory, space)
}

/// 21 mappings of all kinds.
pub(crate) fn mixed(ground: Ground) -> Family {
    assorted(ground, 18, |index| index % 5 != 2)
}

/// As `mixed`, in a child that shares everything with its parent, and with a child of its own.
pub(crate) fn inherited(ground: Ground) -> Family {
    let mut family = mixed(ground);
    let mut space = family.space.fork().unwrap();
    let child = space.fork().unwrap();
    let parent = std::mem::replace(&mut family.space, space);
    family.others = vec![parent, child];
    family
}

pub(crate) fn many(ground: Ground) -> Family {
    assorted(ground, 1620, |index| index % 2 == 0)
}
