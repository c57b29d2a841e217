//! Huge pages that come between preparing a change and making it, and a memory that has no frame
//! left then.

extern crate std;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::vec::Vec;

use maple_tree::EpochRcu;

use crate::flags::VmFlags;
use crate::mapped_pages::MappedPages;
use crate::page_side::{Guards, PageChange, PageSide};
use crate::paging::company::State as _;
use crate::paging::{
    Arena, ArenaLayout, Attributes, Beside, Content, Frame, FrameSize, LeafFlags, NewPage, NoTlb,
    PageKind, PhysMemory, X86_64, validate_family,
};
use crate::teardown::Teardown;

#[cfg(not(miri))]
type Lock = parking_lot::RawMutex;
#[cfg(miri)]
type Lock = spin::Mutex<()>;

type Memory = Arc<Arena<Lock>>;
type Side = MappedPages<X86_64<4>, Memory, NoTlb, Beside<EpochRcu>>;

const PAGE: u64 = 4096;
const HUGE: u64 = 512 * PAGE;
const RANGE: Range<u64> = HUGE + 3 * PAGE..3 * HUGE - 5 * PAGE;

fn side() -> (Side, Memory) {
    let memory: Memory = Arc::new(Arena::new(ArenaLayout::of_frames(4096)).expect("host memory"));
    let side = Side::beside(Arc::clone(&memory), NoTlb, Beside::new(EpochRcu));
    (side.expect("a frame for the root"), memory)
}

fn map_huge(side: &Side, addr: u64) {
    let memory = side.tables().memory();
    let frame = memory.allocate(FrameSize::HUGE, Content::Zeroed);
    let rights = LeafFlags::RIGHTS | LeafFlags::USER;
    let page = NewPage {
        frame: frame.expect("memory"),
        attributes: Attributes::new(PageKind::Anon, rights),
    };
    let mapped = side.tables().map(addr, page, &mut side.gather());
    mapped.expect("nothing is there");
}

/// Takes all frames there are.
fn exhaust(memory: &Memory) -> Vec<Frame> {
    core::iter::from_fn(|| memory.allocate(FrameSize::SMALL, Content::Any).ok()).collect()
}

fn check(side: &Side) {
    assert_eq!(validate_family(&[side.tables()], |_| 0), Ok(()));
}

/// Pages that are left of two huge ones that lie over the edges of a change, and came when it was
/// prepared already.
fn left_after(change: PageChange) -> u64 {
    let (side, memory) = side();
    // Tables down to level 1, without pages.
    map_huge(&side, 0);
    let changes = [change];
    let prepared = side.prepare(&changes).expect("memory");
    map_huge(&side, HUGE);
    map_huge(&side, 2 * HUGE);
    let taken = exhaust(&memory);
    side.carry_out(&changes, prepared);
    taken.into_iter().for_each(|frame| memory.release(frame));
    side.barrier();
    check(&side);
    side.tables().resident().anon - 512
}

#[test]
fn a_huge_page_over_an_edge_is_split_without_memory() {
    let (range, guards) = (RANGE, Guards::None);
    assert_eq!(left_after(PageChange::Discard { range, guards }), 8);
    let (range, guards) = (RANGE, Guards::Perhaps);
    assert_eq!(left_after(PageChange::Discard { range, guards }), 8);
    assert_eq!(left_after(PageChange::Clear(Teardown::of(RANGE))), 8);
    let flags = VmFlags::READ;
    let protect = PageChange::Protect {
        range: RANGE,
        flags,
    };
    assert_eq!(left_after(protect), 1024);
}

#[test]
fn what_was_set_aside_goes_back() {
    let (side, memory) = side();
    let before = memory.in_use();
    let changes = [PageChange::Clear(Teardown::of(RANGE))];
    let prepared = side.prepare(&changes).expect("memory");
    assert_eq!(memory.in_use(), before + 2);
    drop(prepared);
    assert_eq!(memory.in_use(), before);
    let prepared = side.prepare(&changes).expect("memory");
    side.carry_out(&changes, prepared);
    assert_eq!(memory.in_use(), before);
}

#[test]
fn where_a_table_is_nothing_is_set_aside() {
    let (side, memory) = side();
    for addr in [RANGE.start, RANGE.end] {
        let zero = side
            .tables()
            .map_zero_page(addr, LeafFlags::READ, &mut side.gather());
        zero.expect("memory");
    }
    let before = memory.in_use();
    let _prepared = side.prepare(&[PageChange::Clear(Teardown::of(RANGE))]);
    assert_eq!(memory.in_use(), before);
}

#[test]
fn each_refusal_leaves_everything_as_it_was() {
    for left in 0..2 {
        let (side, memory) = side();
        let mut taken = exhaust(&memory);
        for frame in taken.drain(..left) {
            memory.release(frame);
        }
        let before = memory.in_use();
        let prepared = side.prepare(&[PageChange::Clear(Teardown::of(RANGE))]);
        assert!(prepared.is_err());
        assert_eq!(memory.in_use(), before);
        check(&side);
        taken.into_iter().for_each(|frame| memory.release(frame));
    }
}

#[test]
fn nobody_gets_in_from_preparing_guards_until_they_are_laid() {
    let (side, memory) = side();
    let changes = [PageChange::Guard(RANGE)];
    let prepared = side.prepare(&changes).expect("memory");
    let is_laid = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let _inside = side.tables().company.enter(&memory, 0);
            assert!(is_laid.load(Ordering::Relaxed));
        });
        // Long enough for who would not wait.
        for _ in 0..1000 {
            thread::yield_now();
        }
        is_laid.store(true, Ordering::Relaxed);
        side.carry_out(&changes, prepared);
    });
    check(&side);
}
