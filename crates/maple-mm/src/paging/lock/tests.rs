//! Threads beside each other in the tables of one address space.

extern crate std;

use std::sync::{Arc, Barrier};
use std::thread;
use std::vec::Vec;

use maple_tree::EpochRcu;

use crate::Access;
use crate::paging::table::Table;
use crate::paging::tables::Put;
use crate::paging::{
    Arena, ArenaLayout, Attributes, Beside, Company, Content, Entry, FrameSize, Leaf, LeafFlags,
    Liveness, MapError, NewPage, NoTlb, PageKind, PageTables, PagingError, PhysMemory, Resolved,
    Sharing, Tiny, validate_family,
};

#[cfg(not(miri))]
type Lock = parking_lot::RawMutex;
#[cfg(miri)]
type Lock = spin::Mutex<()>;

type Memory = Arc<Arena<Lock>>;
type Tables = PageTables<Tiny<2>, Memory, Beside<EpochRcu>>;

const PAGE: u64 = 4096;
/// All there are.
const PAGES: u64 = 64;
const THREADS: u64 = 4;
const ROUNDS: u64 = if cfg!(miri) { 1 } else { 300 };
const USER: LeafFlags = LeafFlags::RIGHTS.union(LeafFlags::USER);

fn memory() -> Memory {
    Arc::new(Arena::new(ArenaLayout::of_frames(256)).expect("the host has memory"))
}

fn tables(memory: &Memory) -> Tables {
    Tables::with_company(Arc::clone(memory), Beside::new(EpochRcu)).expect("a frame for the root")
}

/// Maps a page of its own, with a mark in it.
fn map(tables: &Tables, page: u64, mark: u64) -> Result<(), PagingError> {
    let memory = tables.memory();
    let frame = memory.allocate(FrameSize::SMALL, Content::Any)?;
    memory.fill(frame.addr(), FrameSize::SMALL, mark);
    let attributes = Attributes::new(PageKind::Anon, USER);
    let new = NewPage { frame, attributes };
    let mut gather = tables.gather(NoTlb);
    let mapped = tables.map(page * PAGE, new, &mut gather);
    mapped.map_err(|MapError { kind, frame }| {
        memory.release(frame);
        kind
    })
}

/// Runs `act` on all threads at once, with their numbers.
fn beside<T: Send>(act: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(THREADS as usize);
    thread::scope(|scope| {
        let run = |thread| {
            start.wait();
            act(thread)
        };
        let spawn = |thread| scope.spawn(move || run(thread));
        let threads: Vec<_> = (0..THREADS).map(spawn).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, T>| thread.join();
        let results = threads.into_iter().map(join);
        results.map(|result| result.expect("no panic")).collect()
    })
}

#[track_caller]
fn check(spaces: &[&Tables]) {
    assert_eq!(validate_family(spaces, |_| 0), Ok(()));
}

#[test]
fn tables_that_several_make_are_made_once() {
    let memory = memory();
    for _ in 0..ROUNDS {
        let tables = tables(&memory);
        beside(|thread| {
            for page in (thread..PAGES).step_by(THREADS as usize) {
                map(&tables, page, page).expect("memory");
            }
        });
        assert_eq!(tables.resident().anon, PAGES);
        assert_eq!(tables.pgtables_bytes(), (4 + 16) * PAGE);
        for page in 0..PAGES {
            assert_eq!(tables.fetch_u64(page * PAGE), Ok(page));
        }
        check(&[&tables]);
        drop(tables);
        assert_eq!(memory.in_use(), 0);
    }
}

#[test]
fn one_of_several_maps_a_page() {
    let memory = memory();
    for round in 0..ROUNDS {
        let tables = tables(&memory);
        let page = round % PAGES;
        let results = beside(|thread| map(&tables, page, thread));
        let winner = results.iter().position(Result::is_ok).expect("somebody");
        assert_eq!(tables.fetch_u64(page * PAGE), Ok(winner as u64));
        let refused = Err(PagingError::Occupied);
        let others = results.iter().filter(|result| **result == refused);
        assert_eq!(others.count() as u64, THREADS - 1);
        // The root, a table of each level below, the page.
        assert_eq!(memory.in_use(), 4);
        check(&[&tables]);
    }
}

#[test]
fn one_of_several_gives_the_zero_page_up() {
    let memory = memory();
    for round in 0..ROUNDS {
        let tables = tables(&memory);
        let addr = round % PAGES * PAGE;
        let zero = tables.map_zero_page(addr, USER, &mut tables.gather(NoTlb));
        zero.expect("memory");
        let results = beside(|_| {
            let mut gather = tables.gather(NoTlb);
            tables.resolve_write(addr, Sharing::Private, &mut gather)
        });
        let zeroed = results.iter().filter(|it| **it == Ok(Resolved::Zeroed));
        assert_eq!(zeroed.count(), 1);
        let reused = results.iter().filter(|it| **it == Ok(Resolved::Reused));
        assert_eq!(reused.count() as u64, THREADS - 1);
        assert_eq!((tables.resident().anon, memory.in_use()), (1, 4));
        check(&[&tables]);
    }
}

#[test]
fn shared_tables_are_copied_once() {
    let memory = memory();
    for _ in 0..ROUNDS {
        let tables = tables(&memory);
        for page in 0..PAGES {
            map(&tables, page, page).expect("memory");
        }
        let mut child = self::tables(&memory);
        let shared = tables.share_all(&mut child, &mut tables.gather(NoTlb));
        shared.expect("the processor can");
        beside(|thread| {
            for page in (thread..PAGES).step_by(THREADS as usize) {
                let mut gather = tables.gather(NoTlb);
                let resolved = tables.resolve_write(page * PAGE, Sharing::Private, &mut gather);
                assert_eq!(resolved, Ok(Resolved::Copied));
            }
        });
        // The old tables are counted until nobody is on the way to them.
        tables.barrier();
        check(&[&tables, &child]);
        assert_eq!(memory.in_use() as u64, 2 * (1 + 4 + 16 + PAGES));
        for page in 0..PAGES {
            assert!(tables.translate(page * PAGE, Access::Write).is_ok());
            assert_eq!(child.fetch_u64(page * PAGE), Ok(page));
        }
    }
}

#[test]
fn nothing_is_lost_where_pages_come_and_go_at_once() {
    let memory = memory();
    let tables = tables(&memory);
    beside(|thread| {
        for round in 0..ROUNDS {
            if thread == 0 {
                let zapped = tables.zap(0..PAGES * PAGE, &mut tables.gather(NoTlb));
                zapped.expect("nothing is cut");
                continue;
            }
            let page = (thread + round * 7) % PAGES;
            match map(&tables, page, page) {
                Ok(()) | Err(PagingError::Occupied) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    });
    check(&[&tables]);
    let zapped = tables.zap(0..PAGES * PAGE, &mut tables.gather(NoTlb));
    zapped.expect("nothing is cut");
    assert_eq!(tables.resident().anon, 0);
    drop(tables);
    assert_eq!(memory.in_use(), 0);
}

/// The table of the lowest level that maps the first page.
fn lowest<C: Company<Memory>>(tables: &PageTables<Tiny<2>, Memory, C>) -> Table<'_> {
    tables.find(0, 0).table
}

#[test]
fn who_finds_a_table_dead_begins_anew() {
    let memory = memory();
    let tables = tables(&memory);
    map(&tables, 0, 1).expect("memory");
    let mut gather = tables.gather(NoTlb);
    tables.zap(0..PAGE, &mut gather).expect("nothing is cut");
    let old = tables.find(0, 0);
    // The table is not free before the batch is.
    tables.vacate(tables.find(0, 1), 0, &mut gather);
    assert!(old.table.is_dead(&memory));
    assert_eq!(tables.find(0, 0).level, 1);
    let attributes = Attributes::new(PageKind::Special, USER - LeafFlags::WRITE);
    let frame = memory.zero_page();
    assert_eq!(
        tables.put((0, old), Leaf { frame, attributes }, Liveness::SURE),
        Put::Lost
    );
    map(&tables, 0, 2).expect("memory");
    assert_eq!(tables.fetch_u64(0), Ok(2));
    check(&[&tables]);
}

#[test]
fn who_comes_late_changes_nothing() {
    let memory = memory();
    let tables = tables(&memory);
    let mut gather = tables.gather(NoTlb);
    let zero = tables.map_zero_page(0, USER, &mut gather);
    zero.expect("memory");
    let place = tables.find(0, 0);
    let Entry::Leaf(zero) = place.entry::<Tiny<2>>() else {
        panic!("it was just mapped");
    };
    // Another thread resolves the fault meanwhile.
    let resolved = tables.resolve_write(0, Sharing::Private, &mut gather);
    assert_eq!(resolved, Ok(Resolved::Zeroed));
    tables.write(0, &[7]).expect("it may be written");
    let frame = memory.allocate(FrameSize::SMALL, Content::Zeroed);
    let frame = frame.expect("memory");
    let page = Leaf {
        frame: frame.addr(),
        ..zero
    };
    let live = Liveness::SURE;
    let put = tables.put_private((0, place, live), (zero, page), &mut gather);
    assert_eq!(put, Put::Lost);
    let allowed = tables.allow((place, zero), (Sharing::Shared, live));
    assert_eq!(allowed, Put::Lost);
    assert_eq!(tables.put((0, place), zero, live), Put::Lost);
    memory.release(frame);
    let mut seen = [0];
    tables.read(0, &mut seen).expect("it may be read");
    assert_eq!(seen, [7]);
    check(&[&tables]);
}

#[test]
fn tl1_a_dead_table_that_an_entry_leads_to() {
    let memory = memory();
    let tables = tables(&memory);
    map(&tables, 0, 1).expect("memory");
    tables.hold(lowest(&tables)).kill();
    let violation = validate_family(&[&tables], |_| 0).expect_err("an invariant is broken");
    assert_eq!(violation.id, "TL1");
}

#[test]
fn what_is_held_is_not_counted() {
    let memory = memory();
    let tables = tables(&memory);
    map(&tables, 0, 1).expect("memory");
    let held = tables.hold(lowest(&tables));
    assert_eq!(lowest(&tables).tally(&memory), held.tally());
    assert!(!held.is_dead());
    check(&[&tables]);
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "a table is locked twice")]
fn who_locks_what_it_holds_is_found_out() {
    let memory = memory();
    let tables = PageTables::<Tiny<2>, _>::new(memory.clone()).expect("a frame for the root");
    let table = tables.root_table();
    let _held = super::Held::<crate::paging::Alone>::lock(&memory, table);
    let _again = super::Held::<crate::paging::Alone>::lock(&memory, table);
}
