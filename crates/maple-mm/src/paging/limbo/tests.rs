//! Tables that wait for those who are on the way to them.

extern crate std;

use std::boxed::Box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use maple_tree::{EpochRcu, Rcu};
use testkit::{FailingNodes, TestNodes};

use super::PIECES;
use crate::memory::TreeNodes;
use crate::paging::{
    Arch, Arena, ArenaLayout, Attributes, Beside, Content, FrameSize, LeafFlags, NewPage, NoTlb,
    PageKind, PageTables, PagingError, PhysMemory, Resolved, Sharing, TableRange, Tiny, X86_64,
    validate_family,
};

#[cfg(not(miri))]
type Lock = parking_lot::RawMutex;
#[cfg(miri)]
type Lock = spin::Mutex<()>;

type Memory = Arc<Arena<Lock>>;
type Tables<A> = PageTables<A, Memory, Beside<EpochRcu>>;

const PAGE: u64 = 4096;
const USER: LeafFlags = LeafFlags::RIGHTS.union(LeafFlags::USER);

fn memory(frames: u32) -> Memory {
    Arc::new(Arena::new(ArenaLayout::of_frames(frames)).expect("the host has memory"))
}

/// Tables, and the nodes that what waits is noted in.
fn tables<A: Arch>(memory: &Memory) -> (Tables<A>, &'static FailingNodes) {
    // A source lives as long as the program.
    let nodes: &FailingNodes = Box::leak(Box::default());
    let company = Beside::new(EpochRcu).with_nodes(TreeNodes::new(nodes));
    let tables = Tables::with_company(Arc::clone(memory), company);
    (tables.expect("a frame for the root"), nodes)
}

#[track_caller]
fn map<A: Arch>(tables: &Tables<A>, addr: u64) {
    let frame = tables.memory().allocate(FrameSize::SMALL, Content::Zeroed);
    let page = NewPage {
        frame: frame.expect("memory"),
        attributes: Attributes::new(PageKind::Anon, USER),
    };
    let mapped = tables.map(addr, page, &mut tables.gather(NoTlb));
    mapped.expect("nothing is there");
}

/// Takes everything out, tables included.
fn unmap_all<A: Arch>(tables: &Tables<A>) {
    let mut gather = tables.gather(NoTlb);
    let zapped = tables.zap(0..A::USER_END, &mut gather);
    zapped.expect("nothing is cut");
    tables.free_tables(&TableRange::all::<A>(), &mut gather);
}

#[track_caller]
fn check<A: Arch>(spaces: &[&Tables<A>]) {
    assert_eq!(validate_family(spaces, |_| 0), Ok(()));
}

#[test]
fn lb1_a_table_is_free_when_its_readers_have_left() {
    let memory = memory(64);
    let (tables, nodes) = tables::<Tiny<2>>(&memory);
    map(&tables, 0);
    let reader = EpochRcu.read_lock();
    unmap_all(&tables);
    // The page went at once, and nothing leads to the two tables.
    assert_eq!((memory.in_use(), tables.pgtables_bytes()), (3, 0));
    assert_eq!((tables.pending(), nodes.live()), (1, Some(1)));
    check(&[&tables]);
    drop(reader);
    tables.barrier();
    assert_eq!((memory.in_use(), tables.pending()), (1, 0));
    nodes.assert_settled();
}

#[test]
fn what_waits_outlives_its_address_space() {
    let memory = memory(64);
    let (tables, nodes) = tables::<Tiny<2>>(&memory);
    map(&tables, 0);
    let reader = EpochRcu.read_lock();
    unmap_all(&tables);
    drop(tables);
    assert_eq!(memory.in_use(), 2);
    drop(reader);
    EpochRcu.barrier();
    assert_eq!(memory.in_use(), 0);
    nodes.assert_settled();
}

#[test]
fn what_takes_long_is_given_up_in_pieces() {
    const PAGES: u64 = 3 * PIECES as u64;
    let memory = memory(4096);
    let (tables, nodes) = tables::<X86_64<4>>(&memory);
    for page in 0..PAGES {
        map(&tables, page * PAGE);
    }
    let (mut child, _) = self::tables(&memory);
    let shared = tables.share_all(&mut child, &mut tables.gather(NoTlb));
    shared.expect("the processor can");
    drop(child);
    // The root leads to a table that may not be written still: it is dropped whole.
    let reader = EpochRcu.read_lock();
    tables.clear(&mut tables.gather(NoTlb));
    assert_eq!(tables.resident().anon, 0);
    drop(reader);
    tables.barrier();
    assert_eq!(memory.in_use(), 1);
    nodes.assert_settled();
}

#[test]
fn a_subtree_that_two_give_up_goes_once() {
    let memory = memory(256);
    let (tables, nodes) = tables::<Tiny<2>>(&memory);
    for page in 0..64 {
        map(&tables, page * PAGE);
    }
    let (mut child, childs) = self::tables(&memory);
    let shared = tables.share_all(&mut child, &mut tables.gather(NoTlb));
    shared.expect("the processor can");
    let reader = EpochRcu.read_lock();
    unmap_all(&tables);
    unmap_all(&child);
    check(&[&tables, &child]);
    drop(reader);
    tables.barrier();
    child.barrier();
    assert_eq!(memory.in_use(), 2);
    nodes.assert_settled();
    childs.assert_settled();
}

#[test]
fn an_empty_table_stays_where_nothing_can_be_noted() {
    let memory = memory(64);
    let (tables, nodes) = tables::<Tiny<2>>(&memory);
    map(&tables, 0);
    nodes.fail_after(Some(0));
    unmap_all(&tables);
    assert_eq!((memory.in_use(), tables.pending()), (3, 0));
    check(&[&tables]);
    nodes.fail_after(None);
    unmap_all(&tables);
    tables.barrier();
    assert_eq!(memory.in_use(), 1);
    nodes.assert_settled();
}

#[test]
fn shared_tables_are_waited_for_where_nothing_can_be_noted() {
    let memory = memory(256);
    let (tables, nodes) = tables::<Tiny<2>>(&memory);
    for page in 0..64 {
        map(&tables, page * PAGE);
    }
    let (mut child, _) = self::tables(&memory);
    let shared = tables.share_all(&mut child, &mut tables.gather(NoTlb));
    shared.expect("the processor can");
    nodes.fail_after(Some(0));
    unmap_all(&tables);
    assert_eq!(tables.resident().anon, 0);
    check(&[&tables, &child]);
    drop(child);
    tables.barrier();
    assert_eq!((memory.in_use(), tables.pending()), (1, 0));
    nodes.assert_settled();
}

#[test]
fn a_copy_that_cannot_be_noted_is_refused() {
    let memory = memory(256);
    let (tables, nodes) = tables::<Tiny<2>>(&memory);
    map(&tables, 0);
    let (mut child, _) = self::tables(&memory);
    let shared = tables.share_all(&mut child, &mut tables.gather(NoTlb));
    shared.expect("the processor can");
    let before = memory.in_use();
    nodes.fail_after(Some(0));
    let resolve = || tables.resolve_write(0, Sharing::Private, &mut tables.gather(NoTlb));
    assert_eq!(resolve(), Err(PagingError::OutOfFrames));
    assert_eq!(memory.in_use(), before);
    check(&[&tables, &child]);
    nodes.fail_after(None);
    assert_eq!(resolve(), Ok(Resolved::Copied));
    tables.barrier();
    check(&[&tables, &child]);
}

#[test]
fn readers_go_through_tables_that_come_and_go() {
    const ROUNDS: u64 = if cfg!(miri) { 20 } else { 3000 };
    let memory = memory(1024);
    let (tables, nodes) = tables::<Tiny<2>>(&memory);
    let is_done = AtomicBool::new(false);
    let write = || {
        for round in 0..ROUNDS {
            map(&tables, round % 64 * PAGE);
            unmap_all(&tables);
            if memory.in_use() > 512 {
                tables.barrier();
            }
        }
        is_done.store(true, Ordering::Relaxed);
    };
    let read = || {
        while !is_done.load(Ordering::Relaxed) {
            for page in tables.pages(0..64 * PAGE) {
                assert!(page.start < 64 * PAGE);
            }
            assert!(tables.entry(0).is_none_or(|page| page.start == 0));
        }
    };
    thread::scope(|scope| {
        scope.spawn(write);
        scope.spawn(read);
        scope.spawn(read);
    });
    check(&[&tables]);
    tables.barrier();
    assert_eq!(memory.in_use(), 1);
    nodes.assert_settled();
}
