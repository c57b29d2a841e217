//! An arena, pages with a mark in them, and flushers that remember what they were told.

use std::cell::RefCell;

use maple_mm::paging::{
    Arch, Arena, ArenaLayout, Attributes, Content, FlushRange, Frame, FrameSize, Gather, LeafFlags,
    NewPage, NoTlb, PageKind, PageTables, PhysAddr, PhysMemory, TlbFlusher, validate_family,
};

#[cfg(not(miri))]
type Lock = parking_lot::RawMutex;
#[cfg(miri)]
type Lock = spin::Mutex<()>;

pub(crate) type Memory = Arena<Lock>;
pub(crate) type Tables<'m, A> = PageTables<A, &'m Memory>;

pub(crate) const PAGE: u64 = 4096;
pub(crate) const USER: LeafFlags = LeafFlags::RIGHTS.union(LeafFlags::USER);

/// An arena whose addresses do not begin at zero.
pub(crate) fn memory(frames: u32) -> Memory {
    let base = PhysAddr::new(0x4000_0000);
    Memory::new(ArenaLayout { frames, base }).expect("the host has memory")
}

pub(crate) fn space<A: Arch>(memory: &Memory) -> Tables<'_, A> {
    PageTables::new(memory).expect("a frame for the root")
}

pub(crate) fn silent<'a, 'm, A: Arch>(memory: &'a &'m Memory) -> Gather<'a, A, &'m Memory, NoTlb> {
    Gather::new(memory, NoTlb)
}

pub(crate) fn frame(memory: &Memory, size: FrameSize, mark: u64) -> Frame {
    let frame = memory.allocate(size, Content::Any).expect("a free frame");
    memory.fill(frame.addr(), size, mark);
    frame
}

pub(crate) fn page(memory: &Memory, mark: u64, kind: PageKind) -> NewPage {
    NewPage {
        frame: frame(memory, FrameSize::SMALL, mark),
        attributes: Attributes::new(kind, USER),
    }
}

#[track_caller]
pub(crate) fn map<A: Arch>(tables: &mut Tables<'_, A>, addr: u64, mark: u64) {
    let memory = *tables.memory();
    let page = page(memory, mark, PageKind::Anon);
    let mut gather = silent(&memory);
    tables
        .map(addr, page, &mut gather)
        .expect("it can be mapped");
}

/// The order of a huge page, and its mark in every word.
#[track_caller]
pub(crate) fn map_huge<A: Arch>(tables: &mut Tables<'_, A>, addr: u64, extra: LeafFlags) {
    let memory = *tables.memory();
    let size = FrameSize::of_order(A::INDEX_BITS).expect("at most 2 MiB");
    let page = NewPage {
        frame: frame(memory, size, addr),
        attributes: Attributes::new(PageKind::Anon, USER | extra),
    };
    let mut gather = silent(&memory);
    tables
        .map(addr, page, &mut gather)
        .expect("it can be mapped");
}

#[track_caller]
pub(crate) fn mark_at<A: Arch>(tables: &Tables<'_, A>, addr: u64) -> u64 {
    tables.fetch_u64(addr).expect("it can be read")
}

#[track_caller]
pub(crate) fn check<A: Arch>(spaces: &[&Tables<'_, A>]) {
    assert_eq!(validate_family(spaces, |_| 0), Ok(()));
}

/// What a flusher was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Range(FlushRange),
    Tables(FlushRange),
    Full,
}

/// Remembers all, and how many frames were in use each time.
#[derive(Debug)]
pub(crate) struct Witness<'m> {
    pub(crate) memory: &'m Memory,
    pub(crate) told: RefCell<Vec<(Told, usize)>>,
}

impl Witness<'_> {
    fn note(&self, told: Told) {
        self.told.borrow_mut().push((told, self.memory.in_use()));
    }
}

impl TlbFlusher for Witness<'_> {
    fn range(&self, range: &FlushRange) {
        self.note(Told::Range(range.clone()));
    }

    fn freed_tables(&self, range: &FlushRange) {
        self.note(Told::Tables(range.clone()));
    }

    fn full(&self) {
        self.note(Told::Full);
    }
}
