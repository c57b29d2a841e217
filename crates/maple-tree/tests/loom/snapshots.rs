//! Snapshots taken without the lock, beside a writer. Numbers are loom's here: those
//! that say how many links name a node, and what the tree keeps for snapshots.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use loom::model::Builder;
use loom::thread;
use maple_tree::{IndexRange, MapleTree, Segment};

use crate::beside::history::Moment;
use crate::beside::nodes::KeptNodes;
use crate::checker::{Numbers, Weakened, shadowed};
use crate::rcu::Patience;
use crate::{Scene, Stage, Value, Write};

/// How often a thread is interrupted where it would not have to wait, in one order.
const PREEMPTIONS: usize = 3;

/// What is done in every order.
#[derive(Clone, Copy)]
struct Calls {
    /// So many entries, one at each multiple of four from 0 on.
    entries: u64,
    /// What the writer writes: each of these in one call.
    calls: &'static [&'static [Write]],
    /// What each taker of snapshots does.
    takers: &'static [fn(&Stage)],
}

/// How many tries came to a snapshot, and how many did not, in all orders.
#[derive(Clone, Copy, Debug, Default)]
struct Tries {
    had: usize,
    missed: usize,
}

// Loom's threads are all on one thread of the system.
thread_local! {
    static TRIES: Cell<Tries> = const { Cell::new(Tries { had: 0, missed: 0 }) };
}

fn seen(segment: &Segment<'_, Value>) -> (IndexRange, u32) {
    match segment {
        Segment::Entry(range, value) => (*range, ***value),
        Segment::Gap(range) => (*range, 0),
    }
}

/// What is found is of one moment between two calls, and stays.
fn take(stage: &Stage) {
    take_and(stage, |_| {});
}

/// As [`take`], and the snapshot is written to: an entry over its very bounds. (Loom would
/// not see what a tree that nobody looks at does to its branches in place.)
fn take_and_write(stage: &Stage) {
    take_and(stage, |snapshot| {
        let value = Arc::new(900);
        let range = IndexRange::new(16, 19).unwrap();
        snapshot.store(range, value).unwrap();
    });
}

fn take_and(stage: &Stage, then: impl FnOnce(&mut MapleTree<Value, KeptNodes>)) {
    let tried = stage.tree.try_snapshot();
    let mut tries = TRIES.get();
    tries.had += usize::from(tried.is_some());
    tries.missed += usize::from(tried.is_none());
    TRIES.set(tries);
    let Some(mut snapshot) = tried else { return };
    let look = || -> Vec<_> { snapshot.segments(..).map(|at| seen(&at)).collect() };
    let whole = look();
    stage.history.assert_state(Moment::BEGIN, &whole);
    let entries = whole.iter().filter(|(_, number)| *number != 0);
    assert_eq!(snapshot.len(), entries.count(), "that was never the length");
    assert_eq!(look(), whole, "a snapshot that was never to change did");
    then(&mut snapshot);
    snapshot.validate().unwrap();
}

fn run(calls: Calls, weakened: Weakened) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    TRIES.set(Tries::default());
    builder.check(move || {
        shadowed((weakened, Numbers::Shadowed), || {
            let scene = Scene {
                entries: calls.entries,
                len: 4,
                writers: &[],
                readers: &[],
            };
            let stage = Arc::new(Stage::new(&scene, Patience::WaitsForReaders));
            // The lock, the root and the numbers get known to loom, where they stay.
            drop(stage.tree.write());
            drop(stage.tree.try_snapshot());
            let mut threads = Vec::new();
            for taker in calls.takers {
                let stage = stage.clone();
                threads.push(thread::spawn(move || taker(&stage)));
            }
            calls
                .calls
                .iter()
                .for_each(|call| stage.write_at_once(call));
            for thread in threads {
                thread.join().unwrap();
            }
            let stage = Arc::into_inner(stage).expect("all threads have ended");
            stage.settle();
        });
    });
}

fn check(calls: Calls) {
    run(calls, Weakened::Nothing);
    let Tries { had, missed } = TRIES.get();
    println!("{had} snapshots, {missed} missed");
    assert!(had > 0 && missed > 0, "not every case was met");
}

/// One store, which puts a leaf in the place of another: in the branch above, if that is
/// in one tree only.
const CHILD: Calls = Calls {
    entries: 10,
    calls: &[&[(16, 19, 100)]],
    takers: &[take],
};

/// Two stores that are one call. There is one entry more then.
const CALL: Calls = Calls {
    entries: 10,
    calls: &[&[(16, 19, 100), (5, 7, 101)]],
    takers: &[take],
};

/// The root is a leaf, and is replaced twice.
const ROOT: Calls = Calls {
    entries: 3,
    calls: &[&[(5, 9, 100)], &[(0, 6, 0)]],
    takers: &[take],
};

#[test]
fn a_snapshot_beside_a_store_of_one_child() {
    check(CHILD);
}

#[test]
fn a_snapshot_that_is_written_to_beside_a_store_of_one_child() {
    check(Calls {
        takers: &[take_and_write],
        ..CHILD
    });
}

#[test]
fn a_snapshot_beside_the_beginning_and_the_end_of_a_call() {
    check(CALL);
}

#[test]
fn a_snapshot_beside_calls_that_replace_the_root() {
    check(ROOT);
}

#[test]
fn two_snapshots_beside_a_store_of_one_child() {
    check(Calls {
        takers: &[take, take],
        ..CHILD
    });
}

mod planted {
    use super::*;

    /// What loom, or a check, says of one of these that is broken.
    const REPORTS: [&str; 5] = [
        "Causality violation",
        "that was freed",
        "was never",
        "to change did",
        "(L1)",
    ];

    /// What is wrong is found in each of `calls`.
    #[track_caller]
    fn assert_found(calls: &[Calls], weakened: Weakened) {
        for &calls in calls {
            let broken = AssertUnwindSafe(|| run(calls, weakened));
            let report = catch_unwind(broken).expect_err("nothing was found");
            let words = report.downcast_ref::<String>().map(String::as_str);
            let words = words.or(report.downcast_ref::<&str>().copied()).unwrap();
            let is_one = REPORTS.iter().any(|report| words.contains(report));
            assert!(is_one, "{words}");
        }
    }

    #[test]
    fn a_call_that_begins_relaxed_is_found() {
        assert_found(&[CHILD, CALL, ROOT], Weakened::Begin);
    }

    #[test]
    fn a_call_that_does_not_say_that_it_begins_is_found() {
        assert_found(&[CHILD, CALL, ROOT], Weakened::NoBegin);
    }

    #[test]
    fn a_call_that_ends_relaxed_is_found() {
        assert_found(&[CALL, ROOT], Weakened::End);
    }

    #[test]
    fn a_snapshot_that_begins_relaxed_is_found() {
        assert_found(&[CALL, ROOT], Weakened::Sequence);
    }

    #[test]
    fn a_snapshot_that_is_confirmed_relaxed_is_found() {
        assert_found(&[CHILD, CALL, ROOT], Weakened::Confirm);
    }
}
