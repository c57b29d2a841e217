//! Readers beside a writer, on any tree: what they write, what they look at, and
//! what has to hold of it. Also nodes and values that are counted.
#![allow(
    dead_code,
    reason = "each test that includes this module uses a part of it"
)]

pub(crate) mod history;
pub(crate) mod nodes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use maple_tree::{IndexRange, NodeSource, Rcu, RcuMapleTree, Reader, Writer};
use parking_lot::lock_api::RawMutex;
use testkit::SplitMix;

/// What a store leaves: its number, and the indices it was stored over. All that
/// exist are counted.
pub(crate) struct Stamp {
    pub(crate) number: u64,
    pub(crate) range: IndexRange,
    check: u64,
    alive: &'static AtomicUsize,
}

/// An entry of a tree that is looked at.
pub(crate) type Stamped = Arc<Stamp>;

impl Stamp {
    pub(crate) fn new(number: u64, range: IndexRange, alive: &'static AtomicUsize) -> Stamped {
        alive.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            number,
            range,
            check: number ^ range.first() ^ range.last().rotate_left(32),
            alive,
        })
    }

    /// It is whole, and was stored over all of `part`.
    #[track_caller]
    pub(crate) fn assert_over(&self, part: IndexRange) {
        let Self {
            number,
            range,
            check,
            ..
        } = *self;
        let expected = number ^ range.first() ^ range.last().rotate_left(32);
        assert_eq!(check, expected, "freed memory was looked at");
        assert!(range.contains_range(part), "{part} is not of {range}");
    }
}

impl Drop for Stamp {
    fn drop(&mut self) {
        self.check = !self.check;
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What writer and readers know of each other.
#[derive(Default)]
pub(crate) struct Progress {
    /// The number of the last write that is through.
    done: AtomicU64,
    is_over: AtomicBool,
}

impl Progress {
    pub(crate) fn finish(&self, number: u64) {
        self.done.store(number, Ordering::Release);
    }

    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }
}

/// Where on the tree writes and looks happen, and how many writes.
#[derive(Clone, Copy)]
pub(crate) struct Field {
    pub(crate) span: u64,
    pub(crate) writes: u64,
    pub(crate) seed: u64,
}

/// Makes every kind of write; `between` runs after each, outside of the lock.
pub(crate) fn write_at_random<R, L, S>(
    tree: &RcuMapleTree<Stamped, R, L, S>,
    (field, alive): (Field, &'static AtomicUsize),
    progress: &Progress,
    mut between: impl FnMut(),
) where
    R: Rcu,
    L: RawMutex,
    S: NodeSource + Clone + Send + Sync + 'static,
{
    let mut rng = SplitMix::new(field.seed);
    for number in 1..=field.writes {
        let first = rng.below(field.span);
        let reach = [1, 4, 40, 600][rng.index(4)];
        let last = (first + rng.below(reach)).min(field.span - 1);
        let range = IndexRange::new(first, last).unwrap();
        let stamp = || Stamp::new(number, range, alive);
        write_once(&mut tree.write(), range, stamp, &mut rng);
        progress.finish(number);
        between();
        if number % 512 == 0 {
            tree.write().validate().unwrap();
        }
    }
}

fn write_once<R, L, S>(
    writer: &mut Writer<'_, Stamped, R, L, S>,
    range: IndexRange,
    stamp: impl Fn() -> Stamped,
    rng: &mut SplitMix,
) where
    R: Rcu,
    L: RawMutex,
    S: NodeSource + Clone + Send + Sync + 'static,
{
    match rng.below(11) {
        0 | 1 => writer.remove(range).unwrap(),
        2 => drop(writer.erase(range.first()).unwrap()),
        3 => drop(writer.insert(range, stamp())),
        4 => {
            let mut writes = writer.preallocate(2).unwrap();
            writes.store(range, stamp());
            writes.erase(range.last());
        }
        5 => {
            let mut cursor = writer.cursor_mut(range.first());
            drop(cursor.erase().unwrap());
            cursor.store(range, stamp()).unwrap();
        }
        6 if rng.one_in(400) => writer.clear(),
        7 if rng.one_in(50) => {
            let snapshot = writer.snapshot();
            writer.store(range, stamp()).unwrap();
            snapshot.validate().unwrap();
        }
        8 if rng.one_in(20) => writer.hand_over(),
        _ => writer.store(range, stamp()).unwrap(),
    }
}

/// Looks at random, in every way there is, until the writer is through; `between`
/// runs when no guard is held.
pub(crate) fn read_at_random<R, L, S>(
    tree: &RcuMapleTree<Stamped, R, L, S>,
    field: Field,
    progress: &Progress,
    mut between: impl FnMut(),
) where
    R: Rcu,
    L: RawMutex,
    S: NodeSource + Clone + Send + Sync + 'static,
{
    let mut rng = SplitMix::new(field.seed);
    while !progress.is_over() {
        look_once(&tree.read(), field.span, progress, &mut rng);
        between();
    }
}

/// A few looks under one guard.
pub(crate) fn look_once<R: Rcu>(
    reader: &Reader<'_, Stamped, R>,
    span: u64,
    progress: &Progress,
    rng: &mut SplitMix,
) {
    let index = rng.below(span);
    let found = reader.get(index);
    if let Some(stamp) = found {
        stamp.assert_over(IndexRange::single(index));
        assert!(stamp.number <= progress.done() + 1, "of a write to come");
    }
    if let Some((range, stamp)) = reader.entry(index) {
        assert!(range.contains(index));
        stamp.assert_over(range);
    }
    match rng.below(4) {
        0 => assert_ascending(reader.range(index..).take(200), index),
        1 => assert_descending(reader.range(..=index).rev().take(200), index),
        2 => {
            let mut next = index;
            for (at, segment) in reader.segments(index..).take(100).enumerate() {
                let range = segment.range();
                assert!(range.contains(next), "an index was left out");
                assert!(at == 0 || range.first() == next, "an index was met twice");
                next = range.last().wrapping_add(1);
            }
        }
        _ => {
            let mut cursor = reader.cursor(index);
            for _ in 0..200 {
                let Some((range, stamp)) = cursor.next_entry() else {
                    break;
                };
                stamp.assert_over(range);
            }
        }
    }
    // What was found stays, however much is written meanwhile.
    if let Some(stamp) = found {
        stamp.assert_over(IndexRange::single(index));
    }
}

fn assert_ascending<'a>(entries: impl Iterator<Item = (IndexRange, &'a Stamped)>, from: u64) {
    let mut next = from;
    for (at, (range, stamp)) in entries.enumerate() {
        assert!(at == 0 || range.first() >= next, "an index was met twice");
        stamp.assert_over(range);
        next = range.last() + 1;
    }
}

fn assert_descending<'a>(entries: impl Iterator<Item = (IndexRange, &'a Stamped)>, to: u64) {
    let mut end = to + 1;
    for (at, (range, stamp)) in entries.enumerate() {
        assert!(at == 0 || range.last() < end, "an index was met twice");
        stamp.assert_over(range);
        end = range.first();
    }
}
