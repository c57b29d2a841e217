//! A tree whose owner brings its own lock: readers and takers of snapshots beside it, memory
//! refused, and nothing left behind.
#![cfg(feature = "crossbeam")]

#[path = "beside/mod.rs"]
mod beside;
#[path = "beside/eager_rcu.rs"]
mod eager_rcu;
#[path = "foreign_rcu/spin.rs"]
mod spin;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use maple_tree::{
    EpochRcu, HeapNodes, IndexRange, MapleTree, OutOfNodes, Published, Publisher, Rcu,
};
use parking_lot::lock_api::Mutex;
use testkit::{FailingNodes, SplitMix, TestNodes, assert_valid, range};

use beside::nodes::CountedNodes;
use beside::{Progress, Stamp, Stamped, look_once};
use eager_rcu::EagerRcu;
use spin::SpinLock;

const SPAN: u64 = if cfg!(miri) { 80 } else { 4000 };
const CALLS: u64 = if cfg!(miri) { 12 } else { 20_000 };
/// Where every call stores.
const PLACES: [u64; 3] = [SPAN + 1, SPAN + 400, SPAN + 9000];

/// What lies under the owner's lock: the tree, and something else.
struct Owner<S: maple_tree::NodeSource> {
    tree: Publisher<Stamped, S>,
    call: u64,
}

/// A lock of the owner's own, and readers beside it.
struct Areas<R: Rcu + Send + Sync + 'static> {
    owner: Mutex<SpinLock, Owner<CountedNodes>>,
    readers: Published<Stamped, R, CountedNodes>,
    progress: Progress,
    alive: &'static AtomicUsize,
}

impl<R: Rcu + Send + Sync + 'static> Areas<R> {
    fn new(core: MapleTree<Stamped, CountedNodes>, rcu: R, alive: &'static AtomicUsize) -> Self {
        let mut tree = Publisher::new(core);
        for place in PLACES {
            let at = IndexRange::single(place);
            tree.insert(at, Stamp::new(0, at, alive)).unwrap();
        }
        let readers = tree.open(rcu).unwrap();
        Self {
            owner: Mutex::new(Owner { tree, call: 0 }),
            readers,
            progress: Progress::default(),
            alive,
        }
    }

    /// Some writes that are not to be seen apart by a snapshot.
    fn call(&self, rng: &mut SplitMix) {
        let mut owner = self.owner.lock();
        owner.call += 1;
        let Owner { tree, call } = &mut *owner;
        let first = rng.below(SPAN);
        let reach = [1, 4, 40, SPAN][rng.index(4)];
        let range = range(first, (first + rng.below(reach)).min(SPAN - 1));
        let stamp = |range| Stamp::new(*call, range, self.alive);
        match rng.below(8) {
            0 => tree.remove(range).unwrap(),
            1 => drop(tree.erase(first).unwrap()),
            2 => drop(tree.insert(range, stamp(range))),
            3 => {
                let mut writes = tree.preallocate(2).unwrap();
                writes.remove(range);
                writes.store(range, stamp(range));
            }
            4 if rng.one_in(200) => tree.clear(),
            5 if rng.one_in(10) => tree.hand_over(),
            _ => tree.store(range, stamp(range)).unwrap(),
        }
        let mut writes = tree.preallocate(PLACES.len()).unwrap();
        for place in PLACES {
            let at = IndexRange::single(place);
            writes.store(at, stamp(at));
        }
        drop(writes);
        if *call % 512 == 0 {
            assert_valid(tree);
        }
        self.progress.finish(*call);
        tree.end();
    }

    fn look(&self, seed: u64) {
        let mut rng = SplitMix::new(seed);
        while !self.progress.is_over() {
            look_once(&self.readers.read(), SPAN, &self.progress, &mut rng);
            thread::yield_now();
        }
    }

    /// Takes snapshots; each is of the call that the sequence says.
    fn take_snapshots(&self, seed: u64) {
        let (mut rng, mut last) = (SplitMix::new(seed), 0);
        loop {
            let was_over = self.progress.is_over();
            let before = self.readers.sequence();
            let tried = self.readers.try_snapshot();
            let after = self.readers.sequence();
            assert!(tried.is_some() || !was_over, "nobody writes");
            if let Some(mut snapshot) = tried {
                let call = assert_one_call(&snapshot);
                assert!((before / 2..=after / 2).contains(&call));
                assert!(call >= last, "a later snapshot is of an earlier moment");
                last = call;
                if rng.one_in(3) {
                    let first = rng.below(SPAN);
                    let last = (first + 50).min(SPAN - 1);
                    snapshot.remove(range(first, last)).unwrap();
                    assert_eq!(assert_one_call(&snapshot), call);
                }
            }
            if was_over {
                return;
            }
            thread::yield_now();
        }
    }
}

/// Returns the number of the call that the snapshot is of.
#[track_caller]
fn assert_one_call<S: maple_tree::NodeSource>(snapshot: &MapleTree<Stamped, S>) -> u64 {
    let calls = PLACES.map(|place| snapshot.get(place).unwrap().number);
    assert!(calls.iter().all(|&call| call == calls[0]), "{calls:?}");
    assert_eq!(snapshot.iter().count(), snapshot.len());
    snapshot
        .iter()
        .for_each(|(range, stamp)| stamp.assert_over(range));
    calls[0]
}

fn check_beside_calls<R>(gaps: bool, rcu: R, alive: &'static AtomicUsize)
where
    R: Rcu + Send + Sync + 'static,
{
    let nodes = CountedNodes::default();
    let core = if gaps {
        MapleTree::with_gaps_in(nodes.clone())
    } else {
        MapleTree::new_in(nodes.clone())
    };
    let areas = Areas::new(core, rcu, alive);
    thread::scope(|scope| {
        let areas = &areas;
        scope.spawn(|| areas.look(1));
        scope.spawn(|| areas.take_snapshots(2));
        let other = scope.spawn(|| write(areas, 3));
        write(areas, 4);
        other.join().unwrap();
        areas.progress.end();
    });
    let Areas { owner, readers, .. } = areas;
    let mut owner = owner.into_inner();
    assert_valid(&owner.tree);
    assert_eq!(owner.call, CALLS / 2 * 2);
    owner.tree.hand_over();
    readers.barrier();
    let held = held(&owner.tree);
    assert_eq!(alive.load(Ordering::Relaxed), held, "values leaked");
    drop(owner);
    assert!(readers.read().is_empty());
    assert!(readers.try_snapshot().is_some_and(|tree| tree.is_empty()));
    readers.barrier();
    drop(readers);
    assert_eq!(alive.load(Ordering::Relaxed), 0, "values leaked");
    assert_eq!(nodes.out(), 0, "nodes leaked");
}

fn write<R: Rcu + Send + Sync + 'static>(areas: &Areas<R>, seed: u64) {
    let mut rng = SplitMix::new(seed);
    (0..CALLS / 2).for_each(|_| areas.call(&mut rng));
}

/// How many different values there are.
fn held<S: maple_tree::NodeSource>(tree: &MapleTree<Stamped, S>) -> usize {
    let mut held: Vec<_> = tree.iter().map(|(_, stamp)| Arc::as_ptr(stamp)).collect();
    held.sort();
    held.dedup();
    held.len()
}

#[test]
fn readers_and_snapshots_see_what_was_there_beside_owners_with_a_lock_of_their_own() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    check_beside_calls(false, EagerRcu::new(), &ALIVE);
    check_beside_calls(true, Arc::new(EagerRcu::new()), &ALIVE);
}

#[test]
#[cfg_attr(miri, ignore = "crossbeam-epoch breaks a rule that Miri may drop")]
fn so_it_is_with_epochs() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    check_beside_calls(true, EpochRcu, &ALIVE);
}

mod refusals {
    use super::*;

    type Tree = Publisher<Arc<u64>, FailingNodes>;

    // Miri takes its time.
    const FEW_AND_MANY: &[u64] = if cfg!(miri) { &[0, 9] } else { &[0, 1, 9, 60] };
    const PARTS: u64 = if cfg!(miri) { 3 } else { 12 };
    const STEP: usize = if cfg!(miri) { 29 } else { 1 };

    fn content(tree: &Tree) -> Vec<(IndexRange, u64)> {
        tree.iter().map(|(range, value)| (range, **value)).collect()
    }

    fn tree_of(entries: u64, nodes: &FailingNodes) -> Tree {
        let mut tree = MapleTree::with_gaps_in(nodes.clone());
        for entry in 0..entries {
            let at = range(10 * entry, 10 * entry + 6);
            tree.insert(at, Arc::new(entry)).unwrap();
        }
        Publisher::new(tree)
    }

    /// Refuses the k-th allocation, for each k, until `write` goes through.
    #[track_caller]
    fn refuse_each(
        (tree, nodes): (&mut Tree, &FailingNodes),
        write: impl Fn(&mut Tree) -> Result<(), OutOfNodes>,
    ) -> u64 {
        let before = content(tree);
        for given in 0..200 {
            nodes.fail_after(Some(given));
            let written = write(tree);
            nodes.fail_after(None);
            assert_valid(tree);
            if written.is_ok() {
                return given;
            }
            assert_eq!(
                content(tree),
                before,
                "a write that failed changed something"
            );
        }
        panic!("it never went through");
    }

    #[test]
    fn a_tree_is_opened_whole_or_not_at_all() {
        let nodes = FailingNodes::new();
        let mut tree = tree_of(0, &nodes);
        for given in 0..2 {
            nodes.fail_after(Some(given));
            assert!(tree.open(EpochRcu).is_err());
            assert!(!tree.is_open() && tree.get_mut().is_some());
        }
        nodes.fail_after(None);
        let readers = tree.open(EpochRcu).unwrap();
        drop((tree, readers));
        nodes.assert_settled();
    }

    #[test]
    fn a_write_that_is_refused_changes_nothing() {
        let nodes = FailingNodes::new();
        let rcu = Arc::new(EagerRcu::new());
        for &entries in FEW_AND_MANY {
            let mut tree = tree_of(entries, &nodes);
            let readers = tree.open(rcu.clone()).unwrap();
            let mut refused = 0;
            for at in (0..PARTS).map(|step| step * entries * 10 / PARTS) {
                let value = Arc::new(900);
                let tree = &mut tree;
                refused += refuse_each((tree, &nodes), |tree| {
                    let stored = tree.store(range(at + 2, at + 25), value.clone());
                    stored
                        .map_err(|error| assert!(Arc::ptr_eq(&error.value, &value)))
                        .map_err(|()| OutOfNodes)
                });
                refused += refuse_each((tree, &nodes), |tree| tree.remove(range(at, at + 4)));
                refused += refuse_each((tree, &nodes), |tree| tree.erase(at + 9).map(drop));
                refused += refuse_each((tree, &nodes), |tree| {
                    let inserted = tree.insert(range(at, at + 1), value.clone());
                    inserted.map_err(|_| OutOfNodes)
                });
                refused += refuse_each((tree, &nodes), |tree| {
                    let mut writes = tree.preallocate(2)?;
                    nodes.fail_after(Some(0));
                    writes.remove(range(at, at + 1));
                    writes.store(range(at + 3, at + 5), value.clone());
                    Ok(())
                });
                tree.end();
                tree.hand_over();
            }
            assert!(refused > 0, "nothing was refused");
            drop((tree, readers));
            rcu.barrier();
            nodes.assert_settled();
        }
    }

    /// On one thread: if clearing waited for readers, it would for itself.
    #[test]
    fn a_tree_is_cleared_and_dropped_without_memory_beside_a_reader() {
        let nodes = FailingNodes::new();
        let rcu = Arc::new(EagerRcu::new());
        for writes in (0..60).step_by(STEP) {
            let mut tree = tree_of(0, &nodes);
            let readers = tree.open(rcu.clone()).unwrap();
            for (round, hands_over) in [false, true, true].into_iter().enumerate() {
                for write in 0..writes {
                    // With as little memory as will do.
                    let at = range(10 * write, 10 * write + 6);
                    let value = Arc::new(round as u64);
                    refuse_each((&mut tree, &nodes), |tree| {
                        let stored = tree.store(at, value.clone());
                        stored.map_err(|_| OutOfNodes)
                    });
                }
                tree.end();
                let reader = readers.read();
                let seen = reader.first().map(|(_, value)| value);
                assert_eq!(
                    seen.map(|value| **value),
                    (writes > 0).then_some(round as u64)
                );
                if hands_over {
                    tree.hand_over();
                }
                nodes.fail_after(Some(0));
                tree.clear();
                assert!(tree.is_empty() && reader.is_empty());
                tree.hand_over();
                nodes.fail_after(None);
                assert_eq!(
                    seen.map(|value| Arc::strong_count(value) > 0),
                    seen.map(|_| true)
                );
            }
            for write in 0..writes {
                let at = range(10 * write, 10 * write + 6);
                tree.store(at, Arc::new(9)).unwrap();
            }
            tree.hand_over();
            let reader = readers.read();
            let seen = reader.first();
            nodes.fail_after(Some(0));
            drop(tree);
            nodes.fail_after(None);
            assert!(seen.is_none_or(|(_, value)| **value == 9));
            drop(reader);
            rcu.barrier();
            drop(readers);
            nodes.assert_settled();
        }
    }
}

mod ends {
    use super::*;

    fn one_entry() -> (Publisher<Arc<u64>>, Arc<u64>) {
        let (mut tree, value) = (Publisher::new(MapleTree::new()), Arc::new(7));
        tree.insert(range(1, 2), value.clone()).unwrap();
        (tree, value)
    }

    #[test]
    fn both_may_be_sent_and_shared() {
        fn is_send_and_sync<T: Send + Sync>() {}
        is_send_and_sync::<Publisher<Arc<u64>>>();
        is_send_and_sync::<Published<Arc<u64>, EpochRcu, HeapNodes>>();
    }

    #[test]
    fn a_tree_is_opened_closed_and_opened_again() {
        let (first, value) = one_entry();
        let mut tree = Publisher::from(first.snapshot());
        drop(first);
        for round in 0..3 {
            let readers = tree.open(Arc::new(EagerRcu::new())).unwrap();
            assert!(tree.is_open() && tree.get_mut().is_none());
            assert_eq!(readers.read().get(1), Some(&Arc::new(7)));
            assert_eq!(readers.sequence(), 0);
            for index in 0..100 {
                tree.store(IndexRange::single(10 + index), value.clone())
                    .unwrap();
            }
            tree.end();
            let snapshot = readers.try_snapshot().unwrap();
            assert_eq!((snapshot.len(), readers.sequence()), (101, 2));
            tree.close(readers);
            let inside = tree.get_mut().unwrap();
            inside.remove(range(10 + round, u64::MAX)).unwrap();
            *inside.get_mut(1).unwrap().unwrap() = Arc::new(7);
            assert_valid(inside);
            inside.remove(range(3, u64::MAX)).unwrap();
            drop(snapshot);
        }
        *tree.get_mut().unwrap() = MapleTree::new();
        drop(tree);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn either_end_may_go_first_and_a_snapshot_outlives_both() {
        let (mut tree, value) = one_entry();
        let readers = tree.open(EagerRcu::new()).unwrap();
        tree.end();
        let snapshot = readers.try_snapshot().unwrap();
        drop(readers);
        tree.remove(range(1, 1)).unwrap();
        tree.insert(range(5, 5), value.clone()).unwrap();
        assert_valid(&tree);
        drop(tree);
        assert_eq!(snapshot.get(2), Some(&value));
        let (mut tree, value) = one_entry();
        let readers = tree.open(EagerRcu::new()).unwrap();
        let reader = readers.read();
        let seen = reader.get(1).unwrap();
        drop(tree);
        assert_eq!((Arc::strong_count(&value), seen), (2, &value));
        assert!(reader.is_empty() && readers.sequence() == 2);
        drop(reader);
        readers.barrier();
        assert_eq!(Arc::strong_count(&value), 1);
    }

    /// The panic of a broken promise.
    fn panics(act: impl FnOnce()) -> bool {
        catch_unwind(AssertUnwindSafe(act)).is_err()
    }

    #[test]
    fn promises_that_are_broken_leave_an_open_tree_open() {
        let (mut tree, value) = one_entry();
        let (mut other, _) = one_entry();
        let readers = tree.open(EagerRcu::new()).unwrap();
        let others = other.open(EagerRcu::new()).unwrap();
        assert!(panics(|| drop(tree.open(EagerRcu::new()))));
        assert!(tree.get_mut().is_none());
        assert!(panics(|| tree.close(others)));
        assert!(tree.is_open() && readers.read().get(2) == Some(&value));
        tree.close(readers);
        assert!(panics(|| {
            let readers = other.open(EagerRcu::new());
            drop(readers);
        }));
    }

    #[test]
    fn several_trees_wait_by_one_rcu() {
        static RCU: EagerRcu = EagerRcu::new();
        let (mut tree, value) = one_entry();
        let (mut other, _) = one_entry();
        let (readers, others) = (tree.open(&RCU).unwrap(), other.open(&RCU).unwrap());
        let reader = others.read();
        tree.clear();
        tree.hand_over();
        assert_eq!(
            Arc::strong_count(&value),
            2,
            "a reader of the other holds it up"
        );
        drop(reader);
        readers.synchronize();
        assert_eq!(Arc::strong_count(&value), 1);
        assert!(std::ptr::eq(*readers.rcu(), *others.rcu()));
        assert_eq!(format!("{readers:?} {tree:?}"), "{} {}");
    }
}
