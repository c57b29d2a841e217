//! The tree under loom: every order of the steps of a writer and its readers, and
//! every value that the memory model lets each load return.
//!
//! ```text
//! cargo xtask loom
//! ```
//!
//! It is the tree itself that runs, with small nodes: see `checker` for how loom
//! gets to know of its words. Reference counts are plain here, as these models take no
//! snapshots; those in `snapshots` do.
#![cfg(loom)]

#[path = "../beside/mod.rs"]
mod beside;
mod checker;
mod lock;
mod rcu;
mod snapshots;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::model::Builder;
use loom::{sync, thread};
use maple_tree::{IndexRange, MapleTree, RcuMapleTree, Reader};

use beside::history::{History, Moment};
use beside::nodes::KeptNodes;
use checker::{Numbers, Weakened, shadowed};
use lock::CheckedLock;
use rcu::{LoomRcu, Patience};

type Value = Arc<u32>;
type Tree = RcuMapleTree<Value, LoomRcu, CheckedLock, KeptNodes>;

const SPAN: u64 = 48;

/// How often a thread is interrupted where it would not have to wait, in one order.
const PREEMPTIONS: usize = 4;

/// One write: the range, and the number to fill it with, or 0 to empty it.
type Write = (u64, u64, u32);

/// What a reader does under one guard.
type Look = fn(&Reader<'_, Value, LoomRcu>, &History);

/// What is done in every order.
#[derive(Clone, Copy)]
struct Scene {
    /// So many entries, one at each multiple of four from 0 on.
    entries: u64,
    /// How many indices each takes, of four; the others are a hole.
    len: u64,
    /// What each writer writes.
    writers: &'static [&'static [Write]],
    /// What each reader does.
    readers: &'static [Look],
}

/// Seen from the threads.
#[derive(Clone, Copy)]
enum When {
    Before,
    After,
}

/// A tree and the states it goes through.
struct Stage {
    tree: Tree,
    history: History,
    /// Every value that was ever stored.
    values: std::sync::Mutex<Vec<Value>>,
}

impl Stage {
    fn new(scene: &Scene, patience: Patience) -> Self {
        let history = History::new(SPAN);
        let mut core = MapleTree::new_in(KeptNodes::default());
        let mut values = Vec::new();
        for at in 0..scene.entries {
            let range = IndexRange::new(4 * at, 4 * at + scene.len - 1).unwrap();
            let value = Arc::new(at as u32 + 1);
            history.will_fill(range, *value);
            core.insert(range, value.clone()).unwrap();
            values.push(value);
        }
        history.begin_here();
        Self {
            tree: Tree::from_tree(core, LoomRcu::new(patience)),
            history,
            values: std::sync::Mutex::new(values),
        }
    }

    fn write(&self, write: Write) {
        self.write_at_once(&[write]);
    }

    /// As [`write`](Self::write), all by one writer.
    fn write_at_once(&self, writes: &[Write]) {
        let range = |first, last| IndexRange::new(first, last).unwrap();
        let mut writer = self.tree.write();
        let fills = writes
            .iter()
            .map(|&(first, last, number)| (range(first, last), number));
        self.history.will_fill_at_once(fills);
        for &(first, last, number) in writes {
            if number == 0 {
                writer.remove(range(first, last)).unwrap();
            } else {
                let value = Arc::new(number);
                self.values.lock().unwrap().push(value.clone());
                writer.store(range(first, last), value).unwrap();
            }
        }
        // Otherwise only every 26th thing cut out gets to `Rcu::call_rcu`.
        writer.hand_over();
    }

    /// How many leaves are sparse.
    fn sparse_leaves(&self) -> usize {
        let dump = self.tree.write().dump().to_string();
        dump.matches("sparse leaf").count()
    }

    /// All is over: the tree is sound, and nothing is left that should be gone.
    fn settle(self) {
        self.tree.write().validate().unwrap();
        self.tree.barrier();
        let writer = self.tree.write();
        for value in self.values.lock().unwrap().iter() {
            let held = writer.iter().filter(|(_, held)| *held == value);
            assert_eq!(Arc::strong_count(value), 1 + held.count());
        }
        drop(writer);
        drop(self.tree);
        assert_eq!(checker::nodes(), 0, "nodes were leaked");
    }
}

fn run(scene: Scene, weakened: Weakened, patience: Patience) {
    run_with(scene, (weakened, patience), |_, _| {});
}

/// As [`run`], and calls `look` before the threads begin and when they have ended.
fn run_with(
    scene: Scene,
    (weakened, patience): (Weakened, Patience),
    look: impl Fn(&Stage, When) + Send + Sync + 'static,
) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    let orders = Arc::new(AtomicUsize::new(0));
    let counted = orders.clone();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        shadowed((weakened, Numbers::Plain), || {
            let stage = Arc::new(Stage::new(&scene, patience));
            // The lock and the word of the root get known to loom, where they stay.
            drop(stage.tree.write());
            drop(stage.tree.read().get(0).cloned());
            look(&stage, When::Before);
            let mut threads = Vec::new();
            for read in scene.readers {
                let stage = stage.clone();
                threads.push(thread::spawn(move || {
                    read(&stage.tree.read(), &stage.history);
                }));
            }
            let (first, others) = scene.writers.split_first().unwrap();
            for writes in others {
                let stage = stage.clone();
                threads.push(thread::spawn(move || {
                    writes.iter().for_each(|&write| stage.write(write));
                }));
            }
            first.iter().for_each(|&write| stage.write(write));
            for thread in threads {
                thread.join().unwrap();
            }
            let stage = Arc::into_inner(stage).expect("all threads have ended");
            look(&stage, When::After);
            stage.settle();
        });
    });
    println!("{} orders", orders.load(Ordering::Relaxed));
}

fn check(scene: Scene) {
    run(scene, Weakened::Nothing, Patience::WaitsForReaders);
}

/// As [`check`]; so many leaves are sparse before the threads begin, and when they have ended.
fn check_sparse(scene: Scene, before: usize, after: usize) {
    let as_is = (Weakened::Nothing, Patience::WaitsForReaders);
    run_with(scene, as_is, move |stage, when| {
        let expected = match when {
            When::Before => before,
            When::After => after,
        };
        assert_eq!(stage.sparse_leaves(), expected);
    });
}

/// Two looks at one index: the second does not see an earlier state.
fn look_up<const INDEX: u64>(reader: &Reader<'_, Value, LoomRcu>, history: &History) {
    let mut since = Moment::BEGIN;
    let mut found = Vec::new();
    for _ in 0..2 {
        let value = reader.get(INDEX);
        since = history.assert_value(since, INDEX, value.map_or(0, |value| **value));
        found.extend(value);
    }
    // Neither value is gone, whatever was written meanwhile.
    assert!(found.iter().all(|value| Arc::strong_count(value) > 0));
}

/// Each entry or gap, ascending.
fn ascend(reader: &Reader<'_, Value, LoomRcu>, history: &History) {
    let segments = reader.segments(..);
    history.assert_ascend((Moment::BEGIN, 0), segments, |value| **value);
}

/// Each entry, descending.
fn descend(reader: &Reader<'_, Value, LoomRcu>, history: &History) {
    let entries = reader.iter().rev().map(|(range, value)| (range, **value));
    history.assert_descend(Moment::BEGIN, entries);
}

/// The root is a leaf, and is replaced.
const ROOT: Scene = Scene {
    entries: 3,
    len: 4,
    writers: &[&[(5, 9, 100), (0, 6, 0)]],
    readers: &[look_up::<6>],
};

/// A leaf below a branch is replaced, by one store to a word of that branch.
const LEAF: Scene = Scene {
    entries: 10,
    len: 4,
    writers: &[&[(16, 19, 100), (17, 18, 101)]],
    readers: &[look_up::<17>],
};

mod a_reader_beside_a_writer {
    use super::*;

    #[test]
    fn that_replaces_the_root() {
        check(ROOT);
        check(Scene {
            readers: &[ascend],
            ..ROOT
        });
    }

    #[test]
    fn that_replaces_a_leaf() {
        check(LEAF);
        check(Scene {
            readers: &[ascend],
            ..LEAF
        });
        check(Scene {
            readers: &[descend],
            ..LEAF
        });
    }

    #[test]
    fn that_moves_what_two_leaves_share() {
        const SPANNING: Scene = Scene {
            entries: 10,
            len: 4,
            writers: &[&[(9, 26, 100)]],
            readers: &[ascend],
        };
        check(SPANNING);
        check(Scene {
            readers: &[descend],
            ..SPANNING
        });
        check(Scene {
            writers: &[&[(3, 30, 0)]],
            ..SPANNING
        });
    }

    #[test]
    fn that_makes_the_tree_taller_and_lower() {
        check(Scene {
            entries: 5,
            len: 4,
            writers: &[&[(20, 23, 100), (21, 22, 101)]],
            readers: &[ascend],
        });
        check(Scene {
            entries: 8,
            len: 4,
            writers: &[&[(4, 31, 0)]],
            readers: &[descend],
        });
    }

    #[test]
    fn that_empties_the_tree_and_fills_it_again() {
        check(Scene {
            entries: 6,
            len: 4,
            writers: &[&[(0, SPAN - 1, 0), (2, 5, 100)]],
            readers: &[look_up::<3>],
        });
    }
}

/// A leaf whose entries lie apart names where each begins and ends, one whose entries touch only
/// where each ends.
mod a_reader_beside_a_writer_of_sparse_leaves {
    use super::*;

    //  0   4   8   c   10  14
    //  AA..BB..CC..DD..EE..FF..
    const APART: Scene = Scene {
        entries: 6,
        len: 2,
        writers: &[&[(9, 10, 100)]],
        readers: &[look_up::<9>],
    };

    #[test]
    fn that_stores_over_an_entry_and_a_part_of_the_hole_behind() {
        check_sparse(APART, 2, 2);
        let ascending = Scene {
            readers: &[ascend],
            ..APART
        };
        check_sparse(ascending, 2, 2);
    }

    #[test]
    fn that_turns_a_leaf_sparse() {
        //  AA..BB..CC...**      one slot more than a dense leaf has
        let scene = Scene {
            entries: 3,
            writers: &[&[(13, 14, 100)]],
            readers: &[ascend],
            ..APART
        };
        check_sparse(scene, 0, 1);
    }

    #[test]
    fn that_turns_a_leaf_dense() {
        //  AA..BB..CC..DD
        //    **********
        //       **             five entries without a hole: one more than a sparse leaf has
        let scene = Scene {
            entries: 4,
            writers: &[&[(2, 11, 100), (5, 6, 101)]],
            readers: &[descend],
            ..APART
        };
        check_sparse(scene, 1, 0);
    }
}

mod more_threads {
    use super::*;

    #[test]
    fn two_readers_free_what_the_writer_cut_out() {
        check(Scene {
            entries: 10,
            len: 4,
            writers: &[&[(16, 19, 100)]],
            readers: &[look_up::<17>, look_up::<16>],
        });
    }

    #[test]
    fn writers_take_turns() {
        check(Scene {
            entries: 6,
            len: 4,
            writers: &[&[(8, 11, 100)], &[(9, 10, 101)]],
            readers: &[look_up::<9>],
        });
    }
}

mod planted {
    use super::*;

    /// Loom reports what is wrong with `scene`, in these words.
    #[track_caller]
    fn assert_found(scene: Scene, weakened: Weakened, patience: Patience) {
        let broken = AssertUnwindSafe(|| run(scene, weakened, patience));
        let report = catch_unwind(broken).expect_err("nothing was found");
        let words = report.downcast_ref::<String>().map(String::as_str);
        let words = words.or(report.downcast_ref::<&str>().copied()).unwrap();
        assert!(
            words.contains("Causality violation") || words.contains("that was freed"),
            "{words}"
        );
    }

    #[test]
    fn a_root_or_child_that_is_published_relaxed_is_found() {
        for scene in [ROOT, LEAF] {
            assert_found(scene, Weakened::Publish, Patience::WaitsForReaders);
        }
    }

    #[test]
    fn a_root_or_child_that_is_loaded_relaxed_is_found() {
        for scene in [ROOT, LEAF] {
            assert_found(scene, Weakened::Look, Patience::WaitsForReaders);
        }
    }

    #[test]
    fn a_node_that_is_freed_under_a_reader_is_found() {
        for scene in [ROOT, LEAF] {
            assert_found(scene, Weakened::Nothing, Patience::FreesAtOnce);
        }
    }
}
