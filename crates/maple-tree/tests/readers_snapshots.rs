//! Snapshots taken without the lock: each is of one moment between two calls of a writer.
#![cfg(feature = "crossbeam")]

#[path = "beside/eager_rcu.rs"]
mod eager_rcu;
#[path = "foreign_rcu/spin.rs"]
mod spin;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use maple_tree::{EpochRcu, IndexRange, MapleTree, Rcu, RcuMapleTree};
use testkit::{SplitMix, assert_valid, range};

use eager_rcu::EagerRcu;
use spin::SpinLock;

/// What a call stores wherever it does. All that exist are counted by the token.
struct Stamp {
    call: u64,
    _alive: Arc<()>,
}

type Stamped = Arc<Stamp>;

/// Lock and reclamation are the test's own where Miri does not know others.
type Tree<R, T = Stamped> = RcuMapleTree<T, R, SpinLock>;

const CALLS: u64 = if cfg!(miri) { 8 } else { 20_000 };
/// Entries that no call touches: they make a tree of several levels.
const FILLERS: u64 = if cfg!(miri) { 30 } else { 1500 };
/// Where every call stores.
const PLACES: [u64; 4] = [5, FILLERS * 3, FILLERS * 5, FILLERS * 10 - 5];
/// Where there are as many entries as the call's number says, of these many at most.
const VARYING: u64 = if cfg!(miri) { 6 } else { 40 };

/// ```text
///  0123456789012345678901234567890123456789
///  FFFFF.....FFFFF.....FFFFF.....FFFFF.....
///       *                             *        the places of a call
/// ```
fn fillers(stamp: impl Fn(u64) -> Stamped, mut tree: MapleTree<Stamped>) -> MapleTree<Stamped> {
    for filler in 0..FILLERS {
        let range = range(10 * filler, 10 * filler + 4);
        tree.insert(range, stamp(0)).unwrap();
    }
    for place in PLACES {
        tree.store(IndexRange::single(place), stamp(0)).unwrap();
    }
    tree
}

fn varying(index: u64) -> IndexRange {
    IndexRange::single(100 * FILLERS + 3 * index)
}

/// Writes of one call, which are not to be seen apart.
fn call<R: Rcu>(tree: &Tree<R>, stamp: impl Fn() -> Stamped, call: u64) {
    let mut writer = tree.write();
    writer.remove(range(100 * FILLERS, u64::MAX)).unwrap();
    for place in PLACES {
        writer.store(IndexRange::single(place), stamp()).unwrap();
    }
    let mut writes = writer.preallocate(VARYING as usize).unwrap();
    for index in 0..call % VARYING {
        writes.store(varying(index), stamp());
    }
}

/// It is of one call, which is returned.
#[track_caller]
fn assert_one_moment(snapshot: &MapleTree<Stamped>) -> u64 {
    let stamps: Vec<u64> = PLACES
        .iter()
        .map(|&place| snapshot.get(place).unwrap().call)
        .collect();
    let call = stamps[0];
    assert!(stamps.iter().all(|&stamp| stamp == call), "{stamps:?}");
    let late: Vec<u64> = snapshot
        .range(100 * FILLERS..)
        .map(|(_, stamp)| stamp.call)
        .collect();
    assert_eq!(late.len() as u64, call % VARYING);
    assert!(late.iter().all(|&stamp| stamp == call), "{late:?}");
    call
}

/// Takes snapshots until it is over, and one more, which has to be had without the lock.
fn take_snapshots<R: Rcu>(tree: &Tree<R>, (is_over, alive): (&AtomicBool, &Arc<()>), seed: u64) {
    let mut rng = SplitMix::new(seed);
    let (mut last, mut rounds) = (0, 0);
    loop {
        let was_over = is_over.load(Ordering::Acquire);
        let tried = (0..8).find_map(|_| tree.try_snapshot());
        assert!(tried.is_some() || !was_over, "nobody writes");
        let mut snapshot = tried.unwrap_or_else(|| tree.snapshot());
        let call = assert_one_moment(&snapshot);
        assert!(call >= last, "a later snapshot is of an earlier moment");
        last = call;
        rounds += 1;
        if rounds % 64 == 1 {
            assert_valid(&snapshot);
        }
        if rng.one_in(2) {
            let first = rng.below(10 * FILLERS);
            let stamp = Arc::new(Stamp {
                call: u64::MAX,
                _alive: alive.clone(),
            });
            snapshot.store(range(first, first + 20), stamp).unwrap();
        } else {
            assert_eq!(assert_one_moment(&snapshot), call, "a snapshot changed");
        }
        if was_over {
            return;
        }
    }
}

fn check_beside_calls<R: Rcu + Sync>(core: MapleTree<Stamped>, rcu: R) {
    let alive = Arc::new(());
    let stamp = |call| {
        let _alive = alive.clone();
        Arc::new(Stamp { call, _alive })
    };
    let tree = Tree::from_tree(fillers(stamp, core), rcu);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 1..=2 {
            let (tree, is_over, alive) = (&tree, &is_over, &alive);
            scope.spawn(move || take_snapshots(tree, (is_over, alive), seed));
        }
        for number in 1..=CALLS {
            call(&tree, || stamp(number), number);
        }
        is_over.store(true, Ordering::Release);
    });
    tree.write().validate().unwrap();
    tree.barrier();
    let held = || -> Vec<*const Stamp> {
        let reader = tree.read();
        let mut held: Vec<_> = reader.iter().map(|(_, at)| Arc::as_ptr(at)).collect();
        held.dedup();
        held
    };
    assert_eq!(Arc::strong_count(&alive) - 1, held().len(), "values leaked");
    tree.write().clear();
    tree.barrier();
    assert_eq!(Arc::strong_count(&alive), 1, "values leaked");
}

#[test]
fn a_snapshot_without_the_lock_is_of_one_moment_beside_calls_of_many_writes() {
    check_beside_calls(MapleTree::new(), EagerRcu::new());
    check_beside_calls(MapleTree::with_gaps(), EagerRcu::new());
}

#[test]
#[cfg_attr(miri, ignore = "crossbeam-epoch breaks a rule that Miri may drop")]
fn so_it_is_with_epochs() {
    check_beside_calls(MapleTree::with_gaps(), EpochRcu);
}

#[test]
fn a_writer_holds_snapshots_up_from_its_first_write_on() {
    let tree = Tree::<_, u64>::new(EagerRcu::new());
    let mut writer = tree.write();
    writer.hand_over();
    writer.shrink_to_fit();
    let writes = writer.preallocate(1).unwrap();
    assert!(
        tree.try_snapshot()
            .is_some_and(|snapshot| snapshot.is_empty())
    );
    drop(writes);
    let mut writes = writer.preallocate(1).unwrap();
    writes.store(range(3, 5), 7);
    drop(writes);
    assert!(tree.try_snapshot().is_none(), "more may follow");
    drop(writer);
    let snapshot = tree.try_snapshot().unwrap();
    assert_eq!((snapshot.len(), snapshot.get(4)), (1, Some(&7)));
    assert_eq!((snapshot.height(), snapshot.tracks_gaps()), (1, false));
    // Each way to write is one.
    tree.write().cursor_mut(4).erase().unwrap();
    assert!(tree.try_snapshot().unwrap().is_empty());
    tree.write().bulk_load([(range(1, 2), 3)]).unwrap();
    assert_eq!(tree.try_snapshot().unwrap().len(), 1);
    tree.write().clear();
    assert!(tree.try_snapshot().unwrap().is_empty());
    assert_eq!(snapshot.get(4), Some(&7));
}

/// An insertion is not told how to clone, and the leaf that it goes into is shared.
#[test]
fn an_insertion_into_a_leaf_that_a_snapshot_shares_clones_its_entries() {
    let tree = Tree::<_, Arc<u64>>::with_gaps(EagerRcu::new());
    let value = Arc::new(1);
    tree.write().insert(range(0, 9), value.clone()).unwrap();
    let mut snapshot = tree.try_snapshot().unwrap();
    tree.write().insert(range(20, 29), value.clone()).unwrap();
    snapshot.insert(range(10, 19), value.clone()).unwrap();
    assert_valid(&snapshot);
    let snapshot_has: Vec<u64> = snapshot.iter().map(|(at, _)| at.first()).collect();
    let tree_has: Vec<u64> = tree.read().iter().map(|(at, _)| at.first()).collect();
    assert_eq!((snapshot_has, tree_has), (vec![0, 10], vec![0, 20]));
    drop(snapshot);
    tree.barrier();
    assert_eq!(Arc::strong_count(&value), 3);
}
