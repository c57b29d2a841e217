//! Readers beside a writer: what they may see, and that nothing is freed under them.
#![cfg(feature = "crossbeam")]
#![expect(unsafe_code, reason = "a node source with a limit")]

use std::collections::BTreeSet;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use maple_tree::{
    EpochRcu, HeapNodes, IndexRange, LocalRcu, MapleTree, NodeMemory, NodeSource, RcuMapleTree,
    SortedError, SyncMapleTree,
};
use testkit::{FailingNodes, SplitMix, TestNodes, range};

/// What a store leaves: its number, and the indices it was stored over.
struct Stamp {
    number: u64,
    range: IndexRange,
    check: u64,
}

impl Stamp {
    fn new(number: u64, range: IndexRange) -> Arc<Self> {
        let check = number ^ range.first() ^ range.last();
        Arc::new(Self {
            number,
            range,
            check,
        })
    }

    /// It is whole, and was stored over `index`.
    fn assert_at(&self, index: u64) {
        let Self {
            number,
            range,
            check,
        } = *self;
        assert_eq!(number ^ range.first() ^ range.last(), check, "freed memory");
        assert!(range.contains(index), "{range} is not around {index:#x}");
    }
}

impl Drop for Stamp {
    fn drop(&mut self) {
        self.check = !self.check;
    }
}

const SPAN: u64 = if cfg!(miri) { 80 } else { 4000 };
const WRITES: u64 = if cfg!(miri) { 25 } else { 60_000 };
const READERS: u64 = if cfg!(miri) { 2 } else { 3 };

/// Makes every kind of write, each stored value with a higher number than all before.
fn write_at_random(tree: &SyncMapleTree<Arc<Stamp>>, done: &AtomicU64, seed: u64) {
    let mut rng = SplitMix::new(seed);
    for number in 1..=WRITES {
        let first = rng.below(SPAN);
        let reach = [1, 4, 40, 600][rng.below(4) as usize];
        let last = (first + rng.below(reach)).min(SPAN - 1);
        let range = IndexRange::new(first, last).unwrap();
        let mut writer = tree.write();
        match rng.below(10) {
            0 | 1 => writer.remove(range).unwrap(),
            2 => drop(writer.erase(first).unwrap()),
            3 => drop(writer.insert(range, Stamp::new(number, range))),
            4 => {
                let mut writes = writer.preallocate(2).unwrap();
                writes.store(range, Stamp::new(number, range));
                writes.erase(last);
            }
            5 if rng.below(400) == 0 => writer.clear(),
            6 if rng.below(50) == 0 => drop(writer.snapshot()),
            _ => writer.store(range, Stamp::new(number, range)).unwrap(),
        }
        drop(writer);
        done.store(number, Ordering::Release);
        if number % 512 == 0 {
            tree.write().validate().unwrap();
        }
    }
}

/// Looks at random, in every way there is.
fn read_at_random(
    tree: &SyncMapleTree<Arc<Stamp>>,
    (done, is_over): (&AtomicU64, &AtomicBool),
    seed: u64,
) {
    let mut rng = SplitMix::new(seed);
    while !is_over.load(Ordering::Acquire) {
        let before = done.load(Ordering::Acquire);
        let reader = tree.read();
        let index = rng.below(SPAN);
        if let Some(stamp) = reader.get(index) {
            stamp.assert_at(index);
            assert!(stamp.number <= done.load(Ordering::Acquire) + 1);
        }
        if let Some((range, stamp)) = reader.entry(index) {
            assert!(range.contains(index));
            stamp.assert_at(index);
            assert!(stamp.range.contains_range(range), "part of what was stored");
        }
        match rng.below(4) {
            0 => assert_in_order(reader.range(index..), index),
            1 => assert_in_order_back(reader.range(..=index), index),
            2 => {
                let mut next = index;
                for segment in reader.segments(index..).take(100) {
                    assert!(segment.range().contains(next), "no index is left out");
                    next = segment.range().last().wrapping_add(1);
                }
            }
            _ => {
                let mut cursor = reader.cursor(index);
                while let Some((range, stamp)) = cursor.next_entry() {
                    stamp.assert_at(range.first());
                }
            }
        }
        // What was found stays, however much is written meanwhile.
        if let Some(stamp) = reader.get(index) {
            while rng.below(8) != 0 && done.load(Ordering::Acquire) < before + 20 {
                thread::yield_now();
                if is_over.load(Ordering::Acquire) {
                    break;
                }
            }
            stamp.assert_at(index);
        }
    }
}

fn assert_in_order<'a>(entries: impl Iterator<Item = (IndexRange, &'a Arc<Stamp>)>, from: u64) {
    let mut next = from;
    for (at, (range, stamp)) in entries.take(200).enumerate() {
        assert!(at == 0 || range.first() >= next, "an index was met twice");
        stamp.assert_at(range.first());
        stamp.assert_at(range.last());
        next = range.last() + 1;
    }
}

fn assert_in_order_back<'a>(
    entries: impl DoubleEndedIterator<Item = (IndexRange, &'a Arc<Stamp>)>,
    to: u64,
) {
    let mut next = to;
    for (at, (range, stamp)) in entries.rev().take(200).enumerate() {
        assert!(at == 0 || range.last() <= next, "an index was met twice");
        stamp.assert_at(range.first());
        let Some(below) = range.first().checked_sub(1) else {
            break;
        };
        next = below;
    }
}

#[test]
fn readers_see_whole_values_in_order_beside_every_kind_of_write() {
    for with_gaps in [false, true] {
        let tree = if with_gaps {
            SyncMapleTree::with_gaps(EpochRcu)
        } else {
            SyncMapleTree::new(EpochRcu)
        };
        let (done, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            for seed in 1..=READERS {
                let (tree, done, is_over) = (&tree, &done, &is_over);
                scope.spawn(move || read_at_random(tree, (done, is_over), seed));
            }
            write_at_random(&tree, &done, 7);
            is_over.store(true, Ordering::Release);
        });
        tree.write().validate().unwrap();
        let value = Stamp::new(1, IndexRange::single(1));
        tree.write()
            .store(IndexRange::single(1), value.clone())
            .unwrap();
        tree.write().clear();
        tree.barrier();
        assert_eq!(Arc::strong_count(&value), 1, "nothing is outstanding");
    }
}

#[test]
fn a_snapshot_is_of_one_moment_and_outlives_the_tree() {
    const ENTRIES: u64 = if cfg!(miri) { 60 } else { 500 };
    const ROUNDS: u64 = ENTRIES / 25;
    let tree = SyncMapleTree::<Arc<u64>>::with_gaps(EpochRcu);
    let values: Vec<_> = (0..ENTRIES).map(Arc::new).collect();
    for (at, value) in values.iter().enumerate() {
        let range = IndexRange::single(at as u64 * 3);
        tree.write().insert(range, value.clone()).unwrap();
    }
    let mut snapshots = Vec::new();
    for round in 0..ROUNDS {
        let snapshot = tree.snapshot();
        tree.write()
            .remove(IndexRange::new(round * 75, round * 75 + 40).unwrap())
            .unwrap();
        snapshot.validate().unwrap();
        tree.write().validate().unwrap();
        snapshots.push((snapshot.len(), snapshot));
    }
    drop(tree);
    for (len, mut snapshot) in snapshots {
        assert_eq!(snapshot.iter().count(), len);
        snapshot
            .store(IndexRange::new(0, 700).unwrap(), Arc::new(1))
            .unwrap();
        snapshot.validate().unwrap();
    }
    SyncMapleTree::<Arc<u64>>::default().barrier();
    for value in values {
        assert_eq!(Arc::strong_count(&value), 1, "{value}");
    }
}

#[test]
fn a_tall_tree_is_freed_with_and_without_gaps() {
    const ENTRIES: u64 = if cfg!(miri) { 400 } else { 20_000 };
    for with_gaps in [false, true] {
        let value = Arc::new(7_u64);
        let items = (0..ENTRIES).map(|i| (IndexRange::single(2 * i), value.clone()));
        let mut tree = if with_gaps {
            MapleTree::with_gaps()
        } else {
            MapleTree::new()
        };
        tree.try_extend(items).unwrap();
        let tree = SyncMapleTree::from_tree(tree, EpochRcu);
        tree.write()
            .remove(IndexRange::new(100, ENTRIES * 3 / 2).unwrap())
            .unwrap();
        tree.write().validate().unwrap();
        drop(tree);
        SyncMapleTree::<u64>::default().barrier();
        assert_eq!(Arc::strong_count(&value), 1);
    }
}

#[test]
fn a_bulk_load_is_seen_whole_or_not_at_all() {
    const ENTRIES: u64 = if cfg!(miri) { 200 } else { 5000 };
    for with_gaps in [false, true] {
        let tree = if with_gaps {
            SyncMapleTree::with_gaps(EpochRcu)
        } else {
            SyncMapleTree::new(EpochRcu)
        };
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let looks = scope.spawn(|| {
                let mut seen = BTreeSet::new();
                while !is_over.load(Ordering::Acquire) {
                    seen.insert(tree.read().iter().count() as u64);
                }
                seen
            });
            let early = tree.read();
            let items = (0..ENTRIES).map(|at| (IndexRange::single(2 * at), Arc::new(at)));
            let mut shown = 0;
            let items = items.inspect(|_| shown += usize::from(!early.is_empty()));
            let loaded = tree.write().bulk_load(items);
            drop(early);
            let found = tree.read().iter().count() as u64;
            // Before anything that may panic, or the other thread never ends.
            is_over.store(true, Ordering::Release);
            assert_eq!((loaded, found), (Ok(()), ENTRIES));
            assert_eq!(shown, 0, "nothing shows before it is whole");
            let seen = looks.join().unwrap();
            assert!(seen.is_subset(&[0, ENTRIES].into()), "{seen:?}");
        });
        let mut writer = tree.write();
        writer.validate().unwrap();
        assert_eq!(writer.tracks_gaps(), with_gaps);
        // It is a tree like any other for the writes that follow.
        writer.remove(IndexRange::new(3, ENTRIES).unwrap()).unwrap();
        writer.validate().unwrap();
        assert!(matches!(writer.bulk_load([]), Err(SortedError::NotEmpty)));
        let left = writer.len() as u64;
        drop(writer);
        assert_eq!(tree.read().iter().count() as u64, left);
    }
}

#[test]
fn a_bulk_load_that_is_refused_leaves_an_empty_tree_that_can_be_written() {
    let tree = SyncMapleTree::<Arc<u64>>::default();
    let value = Arc::new(7);
    let items = (0..100).chain([50]);
    let items = items.map(|at| (IndexRange::single(at), value.clone()));
    let refused = tree.write().bulk_load(items).unwrap_err();
    assert!(matches!(
        refused,
        SortedError::Unsorted { position: 100, .. }
    ));
    assert_eq!(Arc::strong_count(&value), 1, "what was taken is dropped");
    assert!(tree.read().is_empty());

    tree.write().bulk_load([]).unwrap();
    assert!(tree.read().is_empty() && tree.write().validate().is_ok());
    let three = [3, 1, 3].map(|at| (IndexRange::single(at), value.clone()));
    tree.write().try_extend(three).unwrap();
    assert_eq!(tree.read().iter().count(), 2);

    // Emptied by writes, not just new.
    tree.write().remove(IndexRange::FULL).unwrap();
    let items = (0..100).map(|at| (IndexRange::single(at), value.clone()));
    tree.write().bulk_load(items).unwrap();
    assert_eq!(tree.read().iter().count(), 100);
    tree.write().validate().unwrap();
    drop(tree);
    SyncMapleTree::<u64>::default().barrier();
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn a_writers_cursor_steps_over_entries_and_gaps_both_ways() {
    //  0123456789
    //  .AA.BBC...
    let tree = SyncMapleTree::<char>::default();
    let mut writer = tree.write();
    let items = [(1, 2, 'A'), (4, 5, 'B'), (6, 6, 'C')];
    let items = items.map(|(first, last, value)| (IndexRange::new(first, last).unwrap(), value));
    writer.try_extend(items).unwrap();
    let all: Vec<_> = writer
        .segments(..)
        .map(|segment| (segment.range(), segment.entry().copied()))
        .collect();
    let mut cursor = writer.cursor_mut(0);
    let mut seen = vec![(cursor.range(), None)];
    while let Some(segment) = cursor.next() {
        seen.push((segment.range(), segment.entry().copied()));
    }
    assert_eq!((seen.len(), &seen), (6, &all));
    assert_eq!(cursor.range().last(), u64::MAX, "it stays on the last one");
    while let Some(segment) = cursor.previous() {
        let found = (segment.range(), segment.entry().copied());
        seen.pop();
        assert_eq!(Some(&found), seen.last());
    }
    assert_eq!(cursor.range(), IndexRange::single(0));
    // It goes on from where a write left it.
    cursor.next();
    assert_eq!(cursor.erase().unwrap().unwrap().1, 'A');
    assert_eq!(cursor.range(), IndexRange::new(0, 3).unwrap());
    assert_eq!(cursor.next().unwrap().entry(), Some(&'B'));
}

#[test]
fn a_tree_comes_back_out_and_is_changed_in_place_again() {
    const ENTRIES: u64 = if cfg!(miri) { 30 } else { 300 };
    let tree = SyncMapleTree::<u64>::default();
    for i in 0..3 * ENTRIES {
        let index = IndexRange::single(i % ENTRIES);
        tree.write().store(index, i).unwrap();
    }
    let mut tree = tree.into_tree();
    tree.validate().unwrap();
    *tree.get_mut(5).unwrap().unwrap() += 1;
    let last = 2 * ENTRIES + 5;
    assert_eq!(
        (tree.get(5), tree.len() as u64),
        (Some(&(last + 1)), ENTRIES)
    );
}

/// Panics when the last owner drops it, if it is told to.
#[derive(Clone)]
struct Fuse(Arc<AtomicBool>);

/// Where the panic comes from.
struct Lit(Fuse);

impl Drop for Lit {
    fn drop(&mut self) {
        let is_lit = self.0.0.load(Ordering::Relaxed);
        assert!(!is_lit, "the entry's drop panics, as it was told to");
    }
}

#[test]
fn a_drop_that_panics_ends_no_barrier_and_holds_none_up() {
    let tree = SyncMapleTree::<Arc<Lit>>::new(EpochRcu);
    let fuse = Fuse(Arc::default());
    for index in 0..40 {
        let lit = Arc::new(Lit(fuse.clone()));
        tree.write().insert(IndexRange::single(index), lit).unwrap();
    }
    fuse.0.store(true, Ordering::Relaxed);
    tree.write().remove(IndexRange::new(5, 5).unwrap()).unwrap();
    tree.barrier();
    fuse.0.store(false, Ordering::Relaxed);
    // An unrelated tree waits for all that any tree cut out.
    let other = SyncMapleTree::<u64>::new(EpochRcu);
    other.write().insert(IndexRange::single(1), 1).unwrap();
    other.barrier();
    other.synchronize();
    tree.write().validate().unwrap();
}

#[test]
fn on_one_thread_nothing_is_freed_while_a_reader_looks() {
    type Tree = RcuMapleTree<Arc<u64>, LocalRcu, parking_lot::RawMutex, HeapNodes>;
    let tree = Tree::new(LocalRcu::new());
    let value = Arc::new(1);
    tree.write()
        .insert(IndexRange::single(1), value.clone())
        .unwrap();
    let reader = tree.read();
    let seen = reader.get(1).unwrap();
    tree.write().clear();
    tree.write().hand_over();
    assert_eq!((Arc::strong_count(&value), **seen), (2, 1));
    drop(reader);
    assert_eq!(Arc::strong_count(&value), 1);
    tree.barrier();
}

/// Nodes as long as [`LEFT`] says.
#[derive(Clone, Copy)]
struct Limited;

static LEFT: AtomicU64 = AtomicU64::new(u64::MAX);

// SAFETY: passes on what `HeapNodes` hands out.
unsafe impl NodeSource for Limited {
    fn allocate(&self) -> Option<NonNull<NodeMemory>> {
        let take = |left: u64| left.checked_sub(1);
        LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .ok()?;
        HeapNodes.allocate()
    }

    unsafe fn free(&self, node: NonNull<NodeMemory>) {
        // SAFETY: it came from `HeapNodes`.
        unsafe { HeapNodes.free(node) }
    }
}

#[test]
fn preallocated_writes_go_through_and_others_fail_whole_when_nodes_run_out() {
    type Tree = RcuMapleTree<Arc<u64>, EpochRcu, parking_lot::RawMutex, Limited>;
    const ROUNDS: u64 = if cfg!(miri) { 2 } else { 60 };
    const ENTRIES: u64 = if cfg!(miri) { 60 } else { 600 };
    let core = MapleTree::with_gaps_in(Limited);
    let tree = Tree::from_tree(core, EpochRcu);
    let mut rng = SplitMix::new(5);
    for round in 0..ROUNDS {
        let mut writer = tree.write();
        let mut writes = writer.preallocate(40).unwrap();
        LEFT.store(0, Ordering::Relaxed);
        for value in 0..40 {
            let first = rng.below(3000);
            let range = IndexRange::new(first, first + rng.below(30)).unwrap();
            match rng.below(4) {
                0 => writes.remove(range),
                1 => drop(writes.erase(first)),
                _ => writes.store(range, Arc::new(value)),
            }
            writes.validate().unwrap();
        }
        drop(writes);
        let mut refused = 0;
        for first in 0..200 {
            let (len, range) = (writer.len(), IndexRange::single(first * 15 + round));
            if writer.store(range, Arc::new(first)).is_err() {
                refused += 1;
                assert_eq!(writer.len(), len);
                writer.validate().unwrap();
            }
        }
        assert!(refused > 0, "every write takes a node here");
        writer.clear();
        LEFT.store(u64::MAX, Ordering::Relaxed);
        for value in 0..ENTRIES {
            let range = IndexRange::single(value * 5);
            writer.store(range, Arc::new(value)).unwrap();
        }
    }
}

/// Once, a write kept no room for it: clearing waited for readers, and so for the thread itself.
#[test]
fn a_tree_can_be_cleared_without_memory_beside_a_reader_after_any_number_of_writes() {
    type Tree = RcuMapleTree<u64, LocalRcu, parking_lot::RawMutex, FailingNodes>;
    const STEP: usize = if cfg!(miri) { 27 } else { 1 };
    for writes in (1..=60).step_by(STEP) {
        let nodes = FailingNodes::new();
        let empty = MapleTree::new_in(nodes.clone());
        let tree = Tree::from_tree(empty, LocalRcu::new());
        let guard = tree.read();
        let mut writer = tree.write();
        for write in 0..writes {
            let stores = (0..).map(|given| {
                nodes.fail_after(Some(given));
                writer.store(range(10 * write, 10 * write + 6), write)
            });
            assert!(stores.take(50).any(|stored| stored.is_ok()));
        }
        nodes.fail_after(Some(0));
        writer.clear();
        assert!(writer.is_empty());
        nodes.fail_after(None);
        drop((writer, guard));
        tree.barrier();
        drop(tree);
        nodes.assert_settled();
    }
}

/// Once, too few records were reserved for what lies above the new root of a tree that shrinks by
/// many levels, and the write panicked when all was done.
#[cfg(small_nodes)]
#[test]
fn a_tall_tree_that_readers_look_at_shrinks_with_any_amount_of_memory() {
    type Tree = RcuMapleTree<u64, LocalRcu, parking_lot::RawMutex, FailingNodes>;
    let entries = 5 * 4_u64.pow(9) + 1;
    let nodes = FailingNodes::new();
    let mut tall = MapleTree::new_in(nodes.clone());
    for place in 0..entries {
        tall.insert(range(10 * place, 10 * place + 9), place)
            .unwrap();
    }
    assert_eq!(tall.height(), 11);
    // How much room there is for records depends on how many writes there were.
    for stores in 23..=25 {
        let tree = Tree::from_tree(tall.duplicate().unwrap(), LocalRcu::new());
        let mut writer = tree.write();
        for store in 0..stores {
            writer.store(range(0, 9), store).unwrap();
        }
        writer.shrink_to_fit();
        let mut removed = (0..80).map(|given| {
            nodes.fail_after(Some(given));
            writer.remove(range(10, 10 * (entries - 1) - 1))
        });
        assert!(removed.any(|removed| removed.is_ok()));
        nodes.fail_after(None);
        assert_eq!(writer.len(), 2);
        drop(writer);
        tree.barrier();
    }
    drop(tall);
    nodes.assert_settled();
}
