//! The spaces that calls are made on, and what must stay as it was.

use std::fmt::Write;
use std::hash::Hasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use maple_mm::{
    AddressSpace, FileAccess, FileRef, HeapChunks, MappingHooks, MmapRequest, Setup, System,
    SystemSettings, TreeNodes, VmaPool, VmaRef, abi::*,
};
use maple_tree::GlobalNodes;

use crate::allocator::{Refuse, live, refusing};
use crate::common::imprint::{Imprint, counters, mappings};
use crate::common::{BASE, file, map, map_as, memory, of_file, page, state, write};

/// Counts the mappings that are open, and all that ever were.
#[derive(Debug, Default)]
pub(crate) struct Open {
    pub(crate) now: AtomicI64,
    pub(crate) ever: AtomicI64,
}

impl MappingHooks for Open {
    fn open(&self, _: &VmaRef) {
        self.now.fetch_add(1, Ordering::Relaxed);
        self.ever.fetch_add(1, Ordering::Relaxed);
    }

    fn close(&self, _: &VmaRef) {
        self.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one test's spaces are made of.
#[derive(Clone, Copy)]
pub(crate) struct Machine {
    pub(crate) pool: &'static VmaPool,
    pub(crate) hooks: &'static Open,
}

/// A space, and others that share with it and must not notice anything.
pub(crate) struct Family {
    pub(crate) space: AddressSpace,
    pub(crate) others: Vec<AddressSpace>,
    pub(crate) machine: Machine,
}

impl Family {
    /// Everything a refused call must leave as it was.
    pub(crate) fn strict(&self) -> String {
        let mut text = String::new();
        for space in self.others.iter().chain([&self.space]) {
            space.validate().unwrap();
            text += &state(space);
            for vma in space.vmas() {
                let file = vma.file().map(FileRef::count);
                writeln!(text, "{} {file:?}", VmaRef::count(vma)).unwrap();
            }
        }
        let open = self.machine.hooks.now.load(Ordering::Relaxed);
        writeln!(text, "{} {open}", self.machine.pool.in_use()).unwrap();
        text
    }

    /// What changes with all of [`strict`](Self::strict).
    pub(crate) fn imprint(&self) -> u64 {
        let mut imprint = Imprint::default();
        for space in self.others.iter().chain([&self.space]) {
            mappings(space, &mut imprint);
            counters(space.statistics(), &mut imprint);
        }
        imprint.add(self.machine.pool.in_use() as u64);
        imprint.add(self.machine.hooks.now.load(Ordering::Relaxed) as u64);
        imprint.finish()
    }

    /// What programs see, and the counters.
    pub(crate) fn visible(&self) -> String {
        let mut text = String::new();
        for vma in self.space.vmas() {
            let (line, flags) = (self.space.maps_line(vma), vma.flags());
            writeln!(text, "{line} {flags:?} {}", vma.page_offset()).unwrap();
        }
        let (statistics, brk) = (self.space.statistics(), self.space.layout().brk);
        let committed = self.space.system().committed();
        writeln!(text, "{statistics:?} {brk:#x} {committed}").unwrap();
        text
    }
}

/// Compares line by line, and shows the first that differs.
#[track_caller]
pub(crate) fn same(seen: &str, expected: &str, context: &str) {
    for (seen, expected) in seen.lines().zip(expected.lines()) {
        assert_eq!(seen, expected, "{context}");
    }
    assert_eq!(seen.len(), expected.len(), "{context}");
}

pub(crate) type Build = fn(Machine) -> Family;

pub(crate) fn alone(space: AddressSpace, machine: Machine) -> Family {
    Family {
        space,
        others: Vec::new(),
        machine,
    }
}

pub(crate) fn empty(machine: Machine) -> AddressSpace {
    let system = System::new(SystemSettings::default())
        .with_pool(machine.pool)
        .with_hooks(machine.hooks)
        .with_nodes(TreeNodes::new(&GlobalNodes));
    let layout = maple_mm::Layout {
        start_brk: BASE - 64 * PAGE_SIZE,
        brk: BASE - 60 * PAGE_SIZE,
        ..maple_mm::Layout::default()
    };
    let setup = Setup {
        system: Arc::new(system),
        layout,
        ..Setup::default()
    };
    AddressSpace::from_layout(setup, []).unwrap()
}

/// 21 private mappings, every other one written.
pub(crate) fn plain(machine: Machine) -> Family {
    let mut space = empty(machine);
    place(&mut space, BASE - 64 * PAGE_SIZE, 4, MAP_PRIVATE);
    for index in 0..20 {
        map(&mut space, 12 * index, 12 * index + 10);
        if index % 2 == 0 {
            write(&mut space, 12 * index);
        }
    }
    assert_eq!(space.map_count(), 21);
    alone(space, machine)
}

fn place(space: &mut AddressSpace, addr: u64, pages: u64, kind: u64) {
    let request = MmapRequest {
        addr,
        flags: kind | MAP_ANONYMOUS | MAP_FIXED,
        ..MmapRequest::anonymous(pages * PAGE_SIZE, PROT_READ | PROT_WRITE)
    };
    space.mmap(request).unwrap();
}

/// Mappings of `count` kinds in turn, ten pages each, two free behind each.
pub(crate) fn assorted(machine: Machine, count: u64) -> AddressSpace {
    let mut space = empty(machine);
    place(&mut space, BASE - 64 * PAGE_SIZE, 4, MAP_PRIVATE);
    let both = FileAccess::READ | FileAccess::WRITE;
    let files = [file(1, both), file(2, both | FileAccess::HOOKED)];
    for index in 0..count {
        let pages = 12 * index..12 * index + 10;
        match index % 8 {
            3 => map_as(&mut space, of_file(&files[0], pages.clone(), 5)),
            4 => map_as(&mut space, of_file(&files[1], pages.clone(), 5)),
            5 => place(&mut space, page(pages.start), 10, MAP_SHARED),
            6 => map_as(&mut space, memory(pages.start, pages.end, PROT_READ)),
            _ => place(&mut space, page(pages.start), 10, MAP_PRIVATE),
        }
        if index % 8 < 3 {
            write(&mut space, pages.start);
        }
        let (addr, len) = (page(pages.start), 10 * PAGE_SIZE);
        match index % 24 {
            8 => space.madvise(addr, len, MADV_DONTFORK).unwrap(),
            9 => space.madvise(addr, len, MADV_WIPEONFORK).unwrap(),
            15 => space.mlock(addr, len).unwrap(),
            _ => {}
        }
    }
    space
}

/// 21 mappings of all kinds.
pub(crate) fn mixed(machine: Machine) -> Family {
    alone(assorted(machine, 20), machine)
}

/// As `mixed`, in a child that shares everything with its parent.
pub(crate) fn inherited(machine: Machine) -> Family {
    let mut parent = assorted(machine, 20);
    Family {
        space: parent.fork().unwrap(),
        others: vec![parent],
        machine,
    }
}

/// Splits the first mapping and adds a stack, so that each call finds what it is about.
pub(crate) fn prepare(space: &mut AddressSpace) {
    for (first, prot) in [(2, PROT_READ), (6, PROT_READ)] {
        space.mprotect(page(first), 2 * PAGE_SIZE, prot).unwrap();
    }
    let mut stack = memory(1000, 1004, PROT_READ | PROT_WRITE);
    stack.flags |= MAP_GROWSDOWN;
    map_as(space, stack);
}

pub(crate) fn new_machine() -> Machine {
    static EACH: HeapChunks = HeapChunks::new(0);
    Machine {
        pool: Box::leak(Box::new(VmaPool::new(&EACH))),
        hooks: Box::leak(Box::default()),
    }
}

/// Ends all spaces without any memory, and checks that nothing is left.
#[track_caller]
pub(crate) fn end(family: Family, alive: i64) {
    let Machine { pool, hooks } = family.machine;
    let ((), refused) = refusing(Refuse::From(0), || drop(family));
    assert_eq!(refused.times, 0, "an end must not need memory");
    pool.release_reserve();
    assert_eq!(pool.in_use(), 0, "mappings were leaked");
    assert_eq!(hooks.now.load(Ordering::Relaxed), 0, "mappings stayed open");
    assert_eq!(live(), alive, "memory was leaked");
}
