//! What the families begin with.

use std::ops::Range;
use std::sync::Arc;

use maple_mm::paging::NoTlb;
use maple_mm::{
    Access, AddressSpace, FileRef, HeapChunks, MappedPages, MmapRequest, Overcommit, Setup, System,
    SystemSettings, TreeNodes, VmaPool, abi::*,
};
use maple_tree::GlobalNodes;

use crate::common::paged::{
    Memory, Paging, REGULAR, Side, contents, frames, get, layout, opened, set,
};
use crate::common::{memory, of_file, page};
use crate::family::{Family, Paged, Tables};
use crate::scarce::Scarce;

const RW: u64 = PROT_READ | PROT_WRITE;

/// Pages that families begin with.
pub(crate) trait Made: Paging<Memory = Scarce> + 'static {
    /// None are mapped yet.
    fn made(memory: Scarce) -> Self;
}

impl Made for Side<Scarce> {
    fn made(memory: Scarce) -> Self {
        MappedPages::new(memory, NoTlb).expect("a frame for the root")
    }
}

/// What an address space begins with.
#[derive(Clone, Copy)]
pub(crate) struct Ground {
    pub(crate) pool: &'static VmaPool,
    pub(crate) overcommit: Overcommit,
    /// Of 2 MiB, in the pool.
    pub(crate) huge_pages: u32,
}

thread_local! {
    /// For each [`Scale`]. Each family gives everything back, so the next finds used frames.
    static MEMORY: [Memory; 3] = [frames(512), frames(8192), frames(512 * 48)];
}

/// How many mappings and pages there will be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scale {
    Few,
    Many,
    /// As pages of 2 MiB.
    Huge,
}

impl Ground {
    pub(crate) fn new() -> Self {
        static EACH: HeapChunks = HeapChunks::new(0);
        // Made before anybody counts what is alive.
        MEMORY.with(|_| ());
        Self {
            pool: Box::leak(Box::new(VmaPool::new(&EACH))),
            overcommit: Overcommit::Guess,
            huge_pages: 0,
        }
    }

    /// Nobody but the space, which has a heap with a page and a stack with a page.
    pub(crate) fn family<P: Made>(self, scale: Scale) -> Family<AddressSpace<P>> {
        let memory = MEMORY.with(|memory| memory[scale as usize].clone());
        let settings = SystemSettings {
            overcommit: self.overcommit,
            huge_pages: self.huge_pages,
            ..SystemSettings::default()
        };
        let system = System::new(settings)
            .with_pool(self.pool)
            .with_nodes(TreeNodes::new(&GlobalNodes));
        let setup = Setup {
            system: Arc::new(system),
            layout: layout(),
            ..Setup::default()
        };
        let side = P::made(Scarce(memory.clone()));
        let mut space = AddressSpace::with_pages(setup, side);
        let heap = space.layout().start_brk;
        space.brk(heap + 4 * PAGE_SIZE);
        set(&mut space, heap, 1);
        Family {
            space,
            others: Vec::new(),
            pool: self.pool,
            memory,
            tables: Tables::AsBefore,
        }
    }
}

pub(crate) type Build<O = Paged> = fn(Ground) -> Family<O>;

/// The first page of the stack.
pub(crate) const STACK: u64 = 40_000;
/// The first page of a file's mapping that nobody touched, in a table of its own.
pub(crate) const FAR: u64 = 41_000;

pub(crate) fn map<P: Made>(space: &mut AddressSpace<P>, request: MmapRequest) {
    space.mmap(request).unwrap();
}

fn add_stack<P: Made>(space: &mut AddressSpace<P>) {
    let mut stack = memory(STACK, STACK + 4, RW);
    stack.flags |= MAP_GROWSDOWN;
    map(space, stack);
    set(space, page(STACK + 3), 5);
}

/// Cuts two mappings into five of two pages each.
fn cut<P: Made>(space: &mut AddressSpace<P>) {
    for (first, prot) in [(74, PROT_READ | PROT_EXEC), (122, PROT_READ)] {
        for first in [first, first + 4] {
            space.mprotect(page(first), 2 * PAGE_SIZE, prot).unwrap();
        }
    }
}

/// `count` mappings of all kinds in turn: ten pages each, two free behind each. Of those that are
/// touched, pages 0 and 5 are written, or read, and page 7 is read.
fn assorted<P: Made>(
    family: &mut Family<AddressSpace<P>>,
    count: u64,
    is_touched: fn(u64) -> bool,
) {
    let space = &mut family.space;
    let pages = contents(&Scarce(family.memory.clone()), 20, 1000);
    let file = opened(1, REGULAR, &pages);
    for index in 0..count {
        let at = 12 * index..12 * index + 10;
        map(space, request(index, &file, at.clone()));
        if is_touched(index) {
            touch(space, at.start);
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
        straddle(space);
    }
    assert_eq!(space.map_count() as u64, 1 + count.next_multiple_of(20));
    space
        .madvise(page(92), PAGE_SIZE, MADV_GUARD_INSTALL)
        .unwrap();
    let far = MmapRequest {
        prot: RW,
        ..of_file(&file, FAR..FAR + 12, 3)
    };
    map(space, far);
    cut(space);
    add_stack(space);
}

fn request(index: u64, file: &FileRef, at: Range<u64>) -> MmapRequest {
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

fn touch<P: Made>(space: &mut AddressSpace<P>, first: u64) {
    for offset in [0, 5] {
        if space.fault(page(first + offset), Access::Write).is_ok() {
            set(space, page(first + offset) + 64, first + offset);
        }
    }
    get(space, page(first + 7));
}

/// A mapping over two tables, touched in the first only, where the second has a neighbour's page.
fn straddle<P: Made>(space: &mut AddressSpace<P>) {
    for (first, end) in [(250, 260), (270, 272)] {
        map(space, memory(first, end, RW));
        set(space, page(first), first);
    }
}

/// 21 private mappings with the heap, every other one touched; a stack, and cuts.
pub(crate) fn plain<P: Made>(ground: Ground) -> Family<AddressSpace<P>> {
    let mut family = ground.family::<P>(Scale::Few);
    let space = &mut family.space;
    straddle(space);
    for index in 0..18 {
        map(space, memory(12 * index, 12 * index + 10, RW));
        if index % 2 == 0 {
            touch(space, 12 * index);
        }
    }
    assert_eq!(space.map_count(), 21);
    cut(space);
    add_stack(space);
    family
}

/// 21 mappings of all kinds, and more.
pub(crate) fn mixed<P: Made>(ground: Ground) -> Family<AddressSpace<P>> {
    let mut family = ground.family::<P>(Scale::Few);
    assorted(&mut family, 18, |index| index % 5 != 2);
    family
}

/// The same in a child that shares everything with its parent, and with a child of its own.
fn with_relatives<P: Made>(mut family: Family<AddressSpace<P>>) -> Family<AddressSpace<P>> {
    let mut space = family.space.fork().unwrap();
    let child = space.fork().unwrap();
    let parent = std::mem::replace(&mut family.space, space);
    family.others = vec![parent, child];
    family
}

pub(crate) fn inherited<P: Made>(ground: Ground) -> Family<AddressSpace<P>> {
    with_relatives(mixed(ground))
}

/// 1,621 mappings, half of them touched, and more.
pub(crate) fn many<P: Made>(ground: Ground) -> Family<AddressSpace<P>> {
    let mut family = ground.family::<P>(Scale::Many);
    assorted(&mut family, 1620, |index| index % 2 == 0);
    family
}

/// The first page of memory that wants huge pages; a multiple of 2 MiB.
pub(crate) const HUGE: u64 = 256;

/// 8 MiB that want huge pages. The first 4 have two; a part of the second is not inherited, and
/// one is inherited wiped. Of the next 2, one page was read; the last are untouched.
pub(crate) fn huge<P: Made>(ground: Ground) -> Family<AddressSpace<P>> {
    let mut family = ground.family::<P>(Scale::Many);
    let space = &mut family.space;
    map(space, memory(HUGE, HUGE + 2048, RW));
    let advise = |space: &mut AddressSpace<P>, first, pages: u64, advice| {
        let advised = space.madvise(page(first), pages * PAGE_SIZE, advice);
        advised.unwrap();
    };
    advise(space, HUGE, 2048, MADV_HUGEPAGE);
    for index in [0, 3, 300, 511, 512, 700, 900] {
        set(space, page(HUGE + index), index + 1);
    }
    assert_eq!(space.statistics().resident.anon, 1 + 1024);
    get(space, page(HUGE + 1030));
    advise(space, HUGE + 612, 10, MADV_DONTFORK);
    advise(space, HUGE + 812, 10, MADV_WIPEONFORK);
    map(space, memory(HUGE + 3000, HUGE + 3010, RW));
    touch(space, HUGE + 3000);
    add_stack(space);
    family.tables = Tables::OfCutPages;
    family
}

pub(crate) fn huge_inherited<P: Made>(ground: Ground) -> Family<AddressSpace<P>> {
    with_relatives(huge(ground))
}
