//! The tree under shuttle: whole operations of writers, readers and holders of
//! snapshots, in thousands of random orders.
//!
//! ```text
//! cargo xtask shuttle
//! ```
//!
//! Every look of a reader is held against all states that the tree went through
//! while it looked: an entry or gap has to be one of those, with its very bounds.
#![cfg(shuttle)]

#[path = "../beside/mod.rs"]
mod beside;
mod checker;
#[path = "../loom/lock.rs"]
mod lock;
mod rcu;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use maple_tree::{IndexRange, MapleTree, RcuMapleTree, Reader, Segment};
use shuttle::rand::{RngCore, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner, sync, thread};
use testkit::SplitMix;

use beside::history::History;
use beside::nodes::KeptNodes;
use lock::CheckedLock;
use rcu::{EagerRcu, Patience};

type Value = Arc<u32>;
type Tree = RcuMapleTree<Value, EagerRcu, CheckedLock, KeptNodes>;

/// Entries at the beginning, of four indices each: two levels of nodes.
const ENTRIES: u64 = if cfg!(small_nodes) { 11 } else { 70 };
const SPAN: u64 = 4 * ENTRIES + 8;
/// How many orders of each kind.
const ORDERS: usize = 6000;

/// Which tree, and who is there.
#[derive(Clone, Copy)]
struct Cast {
    gaps: Gaps,
    writers: usize,
    readers: usize,
    snapshots: usize,
    patience: Patience,
    write: Task,
}

/// What a thread does, some times.
type Task = fn(&Stage, &mut SplitMix);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Gaps {
    Kept,
    NotKept,
}

/// Everybody there is.
const ALL: Cast = Cast {
    gaps: Gaps::Kept,
    writers: 2,
    readers: 2,
    snapshots: 1,
    patience: Patience::WaitsForReaders,
    write: Stage::write,
};

/// A tree and the states it goes through.
struct Stage {
    tree: Tree,
    history: History,
    /// The number of the last store.
    number: AtomicU32,
    /// Every value that was ever stored.
    values: Mutex<Vec<Value>>,
}

impl Stage {
    fn new(cast: Cast) -> Self {
        let history = History::new(SPAN);
        let nodes = KeptNodes::default();
        let core = match cast.gaps {
            Gaps::Kept => MapleTree::with_gaps_in(nodes),
            Gaps::NotKept => MapleTree::new_in(nodes),
        };
        let stage = Self {
            tree: Tree::from_tree(core, EagerRcu::new(cast.patience)),
            history,
            number: AtomicU32::new(0),
            values: Mutex::default(),
        };
        for at in 0..ENTRIES {
            let range = IndexRange::new(4 * at, 4 * at + 3).unwrap();
            let mut writer = stage.tree.write();
            writer.insert(range, stage.will_store(range)).unwrap();
        }
        stage.history.reached();
        stage.history.begin_here();
        stage
    }

    /// The value of a store that is about to be made, under the tree's lock.
    fn will_store(&self, range: IndexRange) -> Value {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        self.history.will_fill(range, number);
        let value = Arc::new(number);
        self.values.lock().unwrap().push(value.clone());
        value
    }

    fn will_remove(&self, range: IndexRange) {
        self.history.will_fill(range, 0);
    }

    /// One write of any kind.
    fn write(&self, rng: &mut SplitMix) {
        let range = random_range(rng);
        let mut writer = self.tree.write();
        let (around, number) = self.history.newest(range.first());
        match rng.below(9) {
            0 | 1 => {
                self.will_remove(range);
                writer.remove(range).unwrap();
            }
            2 if number != 0 => {
                self.will_remove(around);
                assert_eq!(
                    writer
                        .erase(range.last().min(around.last()))
                        .unwrap()
                        .unwrap()
                        .0,
                    around
                );
            }
            3 if number == 0 => {
                let range = range.intersection(around).unwrap();
                writer.insert(range, self.will_store(range)).unwrap();
            }
            4 => {
                let mut writes = writer.preallocate(2).unwrap();
                writes.store(range, self.will_store(range));
                self.will_remove(IndexRange::single(range.first()));
                writes.remove(IndexRange::single(range.first()));
            }
            5 => {
                let mut cursor = writer.cursor_mut(range.first());
                cursor.store(range, self.will_store(range)).unwrap();
            }
            6 if rng.one_in(4) => {
                self.will_remove(IndexRange::new(0, SPAN - 1).unwrap());
                writer.clear();
            }
            7 if number != 0 => {
                // The very bounds of an entry.
                writer.store(around, self.will_store(around)).unwrap();
            }
            _ => writer.store(range, self.will_store(range)).unwrap(),
        }
        self.history.reached();
        if rng.one_in(2) {
            writer.hand_over();
        }
    }

    /// What no write of the tree does: it empties a range in two steps.
    fn write_in_two_steps(&self, rng: &mut SplitMix) {
        let range = random_range(rng);
        let mut writer = self.tree.write();
        self.will_remove(range);
        let middle = range.first().midpoint(range.last());
        let halves = [(range.first(), middle), (middle + 1, range.last())];
        for half in halves.map(|(first, last)| IndexRange::new(first, last)) {
            half.into_iter()
                .for_each(|half| writer.remove(half).unwrap());
        }
        self.history.reached();
    }

    /// A few looks under one guard.
    fn read(&self, rng: &mut SplitMix) {
        let reader = self.tree.read();
        for _ in 0..2 {
            self.look(&reader, rng);
        }
    }

    fn look(&self, reader: &Reader<'_, Value, EagerRcu>, rng: &mut SplitMix) {
        let (history, index) = (&self.history, rng.below(SPAN));
        let since = history.now();
        match rng.below(6) {
            0 => {
                let first = number(reader.get(index));
                let then = history.assert_value(since, index, first);
                history.assert_value(then, index, number(reader.get(index)));
            }
            1 => history.assert_held(since, seen(&reader.find(index))),
            2 => history.assert_ascend((since, index), reader.segments(index..), |value| **value),
            3 => {
                let entries = reader.iter().rev().map(|(range, value)| (range, **value));
                history.assert_descend(since, entries);
            }
            4 => {
                let mut cursor = reader.cursor(index);
                let mut next = index;
                while let Some((range, value)) = cursor.next_entry() {
                    assert!(range.first() >= next, "an index was met twice");
                    history.assert_held(since, (range, **value));
                    next = range.last() + 1;
                }
            }
            _ => {
                if let Some((range, value)) = reader.at_or_after(index) {
                    history.assert_held(since, (range, **value));
                    for vacant in index..range.first() {
                        history.assert_value(since, vacant, 0);
                    }
                }
            }
        }
    }

    /// A snapshot is of one moment, and stays so; it is written to besides.
    fn take_snapshot(&self, rng: &mut SplitMix) {
        let since = self.history.now();
        // Without the lock, if that can be.
        let tried = self.tree.try_snapshot();
        let mut snapshot = tried.unwrap_or_else(|| self.tree.snapshot());
        let whole: Vec<_> = snapshot.segments(..).map(|at| seen(&at)).collect();
        self.history.assert_state(since, &whole);
        checker::point();
        let again: Vec<_> = snapshot.segments(..).map(|at| seen(&at)).collect();
        assert_eq!(again, whole, "a snapshot changed");
        if rng.one_in(2) {
            snapshot.remove(random_range(rng)).unwrap();
            snapshot.validate().unwrap();
        }
        checker::point();
    }

    /// All is over: the tree is sound, and nothing is left that should be gone.
    fn settle(self) {
        let writer = self.tree.write();
        writer.validate().unwrap();
        let whole: Vec<_> = writer.segments(..).map(|at| seen(&at)).collect();
        drop(writer);
        self.history.assert_state(self.history.now(), &whole);
        self.tree.barrier();
        for value in self.values.lock().unwrap().iter() {
            let held = whole.iter().filter(|(_, number)| *number == **value);
            assert_eq!(Arc::strong_count(value), 1 + held.count(), "{value} leaked");
        }
        drop(self.tree);
        assert_eq!(checker::nodes(), 0, "nodes were leaked");
    }
}

fn number(value: Option<&Value>) -> u32 {
    value.map_or(0, |value| **value)
}

fn seen(segment: &Segment<'_, Value>) -> (IndexRange, u32) {
    match segment {
        Segment::Entry(range, value) => (*range, ***value),
        Segment::Gap(range) => (*range, 0),
    }
}

fn random_range(rng: &mut SplitMix) -> IndexRange {
    let first = rng.below(SPAN);
    let reach = [1, 3, 8, SPAN][rng.index(4)];
    IndexRange::new(first, (first + rng.below(reach)).min(SPAN - 1)).unwrap()
}

/// Starts `threads` threads, each of which does `task` `times` times.
fn start(
    stage: &Arc<Stage>,
    (threads, times): (usize, usize),
    task: Task,
) -> Vec<thread::JoinHandle<()>> {
    let one = |_| {
        let stage = stage.clone();
        let mut rng = SplitMix::new(thread_rng().next_u64());
        thread::spawn(move || (0..times).for_each(|_| task(&stage, &mut rng)))
    };
    (0..threads).map(one).collect()
}

fn play(cast: Cast) {
    checker::begin();
    let stage = Arc::new(Stage::new(cast));
    let mut threads = start(&stage, (cast.writers, 4), cast.write);
    threads.extend(start(&stage, (cast.readers, 2), Stage::read));
    threads.extend(start(&stage, (cast.snapshots, 2), Stage::take_snapshot));
    for thread in threads {
        thread.join().unwrap();
    }
    Arc::into_inner(stage)
        .expect("all threads have ended")
        .settle();
}

/// Goes through orders: how many there were.
fn run(cast: Cast, scheduler: impl Scheduler + 'static) -> usize {
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    Runner::new(scheduler, config).run(move || play(cast))
}

/// Random orders, and those that find a mistake of few interruptions with a known
/// probability.
fn check(name: &str, cast: Cast) {
    let began = Instant::now();
    let mut orders = run(cast, RandomScheduler::new(ORDERS));
    for depth in [2, 4] {
        orders += run(cast, PctScheduler::new(depth, ORDERS / 2));
    }
    let seconds = began.elapsed().as_secs_f32();
    println!("{name}: {orders} schedules, {seconds:.1} s");
}

#[test]
fn readers_and_snapshots_see_what_was_there_beside_writers() {
    check("writers, readers, snapshots", ALL);
}

#[test]
fn readers_see_what_was_there_beside_one_writer_without_gaps() {
    let cast = Cast {
        gaps: Gaps::NotKept,
        writers: 1,
        snapshots: 0,
        ..ALL
    };
    check("one writer, readers", cast);
}

mod planted {
    use super::*;

    /// Something is wrong in `cast`, and one of the checks says so.
    #[track_caller]
    fn assert_found(cast: Cast) {
        // The same orders each time: fresh ones could go by it.
        let scheduler = RandomScheduler::new_from_seed(1, ORDERS);
        let broken = AssertUnwindSafe(|| run(cast, scheduler));
        let report = catch_unwind(broken).expect_err("nothing was found");
        let words = report.downcast_ref::<String>().map(String::as_str);
        let words = words.or(report.downcast_ref::<&str>().copied()).unwrap();
        // What a reader sees that looks at a freed node need not be the check of that.
        let checks = ["that was freed", "was never", "(L1)"];
        assert!(checks.iter().any(|check| words.contains(check)), "{words}");
    }

    #[test]
    fn a_node_that_is_freed_under_a_reader_is_found() {
        assert_found(Cast {
            patience: Patience::FreesAtOnce,
            ..ALL
        });
    }

    #[test]
    fn a_write_that_is_seen_half_done_is_found() {
        assert_found(Cast {
            write: Stage::write_in_two_steps,
            writers: 1,
            ..ALL
        });
    }
}
