//! The gate, and counters that several threads change.

extern crate std;

use std::boxed::Box;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::vec::Vec;

use maple_tree::EpochRcu;
use testkit::{FailingNodes, TestNodes};

use super::{Crowd, STRIPES};
use crate::counted::Counted;
use crate::memory::TreeNodes;
use crate::paging::company::State;
use crate::paging::limbo::Waiting;
use crate::paging::tally::{Class, Counters};
use crate::paging::{
    Arena, ArenaLayout, Attributes, Beside, Content, FlushRange, FrameSize, LeafFlags, NewPage,
    NoTlb, PageKind, PageTables, PhysMemory, Tiny, TlbFlusher, X86_64,
};

#[cfg(not(miri))]
type Lock = parking_lot::RawMutex;
#[cfg(miri)]
type Lock = spin::Mutex<()>;

const THREADS: u64 = 4;
const ROUNDS: u64 = if cfg!(miri) { 10 } else { 5000 };

type Memory = Arc<Arena<Lock>>;
type Tables = PageTables<X86_64<4>, Memory, Beside<EpochRcu>>;

fn memory() -> Memory {
    Arc::new(Arena::new(ArenaLayout::of_frames(4)).expect("the host has memory"))
}

fn crowd() -> Crowd<EpochRcu> {
    let waiting = Counted::new(Waiting::default()).expect("the host has memory");
    Crowd::new(Beside::new(EpochRcu), waiting)
}

fn sum(crowd: &Crowd<EpochRcu>, class: Class) -> u64 {
    State::<Memory>::sum(crowd, class)
}

fn counters(crowd: &Crowd<EpochRcu>, block: u64) -> &Counters {
    State::<Memory>::counters(crowd, block)
}

#[test]
fn tl3_nobody_is_inside_a_closed_gate() {
    let (memory, crowd) = (memory(), crowd());
    let (inside, is_closed) = (AtomicU32::new(0), AtomicBool::new(false));
    let start = Barrier::new(THREADS as usize + 1);
    let fault = |thread: u64| {
        start.wait();
        for round in 0..ROUNDS {
            let _inside = crowd.enter(&memory, thread + round);
            inside.fetch_add(1, Ordering::Relaxed);
            assert!(!is_closed.load(Ordering::Relaxed));
            inside.fetch_sub(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let fault = &fault;
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || fault(thread)))
            .collect();
        start.wait();
        while threads.iter().any(|thread| !thread.is_finished()) {
            let _closed = crowd.close(&memory);
            is_closed.store(true, Ordering::Relaxed);
            assert_eq!(inside.load(Ordering::Relaxed), 0);
            is_closed.store(false, Ordering::Relaxed);
        }
    });
}

#[test]
fn what_was_done_inside_is_seen_by_who_closes() {
    let (memory, crowd) = (memory(), crowd());
    let start = Barrier::new(THREADS as usize + 1);
    let count = |thread: u64| {
        start.wait();
        for round in 0..ROUNDS {
            let block = thread + round;
            let _inside = crowd.enter(&memory, block);
            // Two numbers that are equal when nobody is inside.
            let counters = counters(&crowd, block);
            counters.add::<Tiny<2>>(Class::Anon, 0, 1);
            counters.add::<Tiny<2>>(Class::File, 0, 1);
        }
    };
    thread::scope(|scope| {
        let count = &count;
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || count(thread)))
            .collect();
        start.wait();
        while threads.iter().any(|thread| !thread.is_finished()) {
            let _closed = crowd.close(&memory);
            assert_eq!(sum(&crowd, Class::Anon), sum(&crowd, Class::File));
        }
    });
    assert_eq!(sum(&crowd, Class::Anon), THREADS * ROUNDS);
}

#[test]
fn a_page_may_be_counted_in_here_and_off_there() {
    let crowd = crowd();
    counters(&crowd, 1).add::<Tiny<2>>(Class::Anon, 0, 3);
    counters(&crowd, 2).remove::<Tiny<2>>(Class::Anon, 0, 2);
    assert_eq!(sum(&crowd, Class::Anon), 1);
    // What is seen of a moment at which one thread counts in, another off.
    counters(&crowd, 3).remove::<Tiny<2>>(Class::Anon, 0, 2);
    assert_eq!(sum(&crowd, Class::Anon), 0);
}

#[test]
fn a_copy_has_the_sums_and_not_more() {
    let (old, new) = (crowd(), crowd());
    for block in 0..2 * STRIPES as u64 {
        counters(&old, block).add::<Tiny<2>>(Class::Shmem, 0, 1);
        counters(&new, block).add::<Tiny<2>>(Class::File, 0, 1);
    }
    State::<Memory>::copy_from(&new, &old);
    let sums = [Class::Shmem, Class::File].map(|class| sum(&new, class));
    assert_eq!(sums, [2 * STRIPES as u64, 0]);
}

#[test]
fn who_waits_at_the_gate_does_so_as_the_memory_says() {
    static WAITED: AtomicU32 = AtomicU32::new(0);
    let arena = Arena::<Lock>::new(ArenaLayout::of_frames(4)).expect("the host has memory");
    let memory: Memory = Arc::new(arena.with_relax(|spins| {
        WAITED.fetch_max(spins + 1, Ordering::Relaxed);
        thread::yield_now();
    }));
    let crowd = crowd();
    let closed = crowd.close(&memory);
    thread::scope(|scope| {
        scope.spawn(|| drop(crowd.enter(&memory, 0)));
        while WAITED.load(Ordering::Relaxed) < 2 {
            thread::yield_now();
        }
        drop(closed);
    });
}

#[test]
#[should_panic(expected = "one writer closes the gate")]
fn the_gate_is_closed_once() {
    let (memory, crowd) = (memory(), crowd());
    let _closed = crowd.close(&memory);
    let _again = crowd.close(&memory);
}

/// Sees that nothing waits, as flushes may, while nobody gets in.
struct AtAnOpenGate<'t>(&'t Tables);

impl AtAnOpenGate<'_> {
    fn look(&self) {
        assert_eq!(self.0.company.gate.load(Ordering::Relaxed), super::OPEN);
    }
}

impl TlbFlusher for AtAnOpenGate<'_> {
    fn range(&self, _: &FlushRange) {
        self.look();
    }

    fn freed_tables(&self, _: &FlushRange) {
        self.look();
    }

    fn full(&self) {
        self.look();
    }
}

#[test]
fn the_end_flushes_at_an_open_gate_though_nothing_can_be_noted() {
    const ENTRIES: u64 = 128;
    let memory = Arc::new(Arena::new(ArenaLayout::of_frames(2048)).expect("the host has memory"));
    // A source lives as long as the program.
    let nodes: &FailingNodes = Box::leak(Box::default());
    let company = Beside::new(EpochRcu).with_nodes(TreeNodes::new(nodes));
    let tables = Tables::with_company(memory.clone(), company).expect("a frame for the root");
    for entry in 0..ENTRIES {
        for page in 0..2 {
            let frame = memory.allocate(FrameSize::SMALL, Content::Any);
            let page_of = NewPage {
                frame: frame.expect("memory"),
                attributes: Attributes::new(PageKind::Anon, LeafFlags::RIGHTS | LeafFlags::USER),
            };
            let addr = (entry << 39) + (page << 12);
            let mapped = tables.map(addr, page_of, &mut tables.gather(NoTlb));
            mapped.expect("nothing is there");
        }
    }
    nodes.fail_after(Some(0));
    let mut gather = tables.gather(AtAnOpenGate(&tables));
    tables.clear(&mut gather);
    gather.finish();
    assert_eq!((tables.pending(), memory.in_use()), (0, 1));
}
