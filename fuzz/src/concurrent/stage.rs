//! The tree that readers and writer share, with a model for every state it was in.

use crate::script::Script;
use crate::trial::STEPS_MOST;
use maple_tree::{
    IndexRange, LocalRcu, MapleTree, OutOfNodes, Rcu, RcuMapleTree, Reader, StoreError,
    StoreErrorKind,
};
use std::cell::{Cell, Ref, RefCell};
use testkit::{FailingNodes, Ledger, Model, TestNodes, Token, Write, assert_valid, range};

/// The tree under test.
pub(super) type Tree = RcuMapleTree<Token, LocalRcu, parking_lot::RawMutex, FailingNodes>;

/// A snapshot and what it should hold.
type Snapshot = (MapleTree<Token, FailingNodes>, Model<u32>);

/// The most entries that a tree begins with.
const ENTRIES_MOST: u64 = 150;

/// What all share.
pub(super) struct Stage {
    pub(super) tree: Tree,
    /// One for every state since the beginning; the last is what the tree holds.
    versions: RefCell<Vec<Model<u32>>>,
    snapshots: RefCell<Vec<Snapshot>>,
    ledger: Ledger,
    nodes: FailingNodes,
    steps: Cell<usize>,
    trace: Trace,
}

/// What was done, in words; printed if a panic passes by.
#[derive(Default)]
struct Trace(RefCell<Vec<String>>);

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.borrow().iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

impl Stage {
    pub(super) fn new(script: &mut Script<'_>) -> Self {
        let (ledger, nodes) = (Ledger::new(), FailingNodes::new());
        let mut tree = match script.below(2) {
            0 => MapleTree::with_gaps_in(nodes.clone()),
            _ => MapleTree::new_in(nodes.clone()),
        };
        let mut model = Model::new();
        let entries = u64::from(script.byte()) * ENTRIES_MOST / 255;
        let width = 1 + u64::from(script.below(10));
        for place in 0..entries {
            let (entry, value) = (range(10 * place, 10 * place + width - 1), script.value());
            tree.store(entry, ledger.token(value))
                .expect("nodes are there");
            model.store(entry, value);
        }
        let stage = Self {
            tree: RcuMapleTree::from_tree(tree, LocalRcu::new()),
            versions: RefCell::new(vec![model]),
            snapshots: RefCell::default(),
            ledger,
            nodes,
            steps: Cell::new(0),
            trace: Trace::default(),
        };
        stage.say(&format!("{entries} entries of {width}"));
        stage
    }

    /// Whether there is another step; counts it.
    pub(super) fn goes_on(&self, script: &Script<'_>) -> bool {
        let steps = self.steps.replace(self.steps.get() + 1);
        steps < STEPS_MOST && !script.is_over()
    }

    pub(super) fn say(&self, what: &str) {
        self.trace.0.borrow_mut().push(what.to_owned());
    }

    /// The number of states so far.
    pub(super) fn moments(&self) -> usize {
        self.versions.borrow().len()
    }

    /// Whether `holds` is true of some state from the one numbered `since` on.
    pub(super) fn sometime(&self, since: usize, holds: impl Fn(&Model<u32>) -> bool) -> bool {
        self.versions.borrow()[since..].iter().any(holds)
    }

    /// The entries within `within` that never changed from the state numbered `since` on.
    pub(super) fn unchanged(&self, since: usize, within: IndexRange) -> Vec<IndexRange> {
        let versions = &self.versions.borrow()[since..];
        let everywhere = |entry: &(IndexRange, u32)| {
            let stays = |model: &Model<u32>| model.entry(entry.0.first()) == Some(*entry);
            within.contains_range(entry.0) && versions.iter().all(stays)
        };
        let last = versions.last().expect("there is a state");
        let entries = last.entries().iter().copied().filter(everywhere);
        entries.map(|(range, _)| range).collect()
    }

    pub(super) fn model(&self) -> Ref<'_, Model<u32>> {
        Ref::map(self.versions.borrow(), |versions| {
            versions.last().expect("there is a state")
        })
    }

    /// Every lookup at an index: on one thread a reader sees the state of this moment.
    pub(super) fn look<'r, R: Rcu>(
        &self,
        reader: &'r Reader<'_, Token, R>,
        script: &mut Script<'_>,
    ) -> Option<(&'r Token, u32)> {
        let model = self.model();
        let index = script.index(&model);
        self.say(&format!("look {index:#x}"));
        let named = |entry: Option<(IndexRange, &Token)>| entry.map(|(at, value)| (at, value.id()));
        assert_eq!(named(reader.entry(index)), model.entry(index));
        assert_eq!(named(reader.at_or_after(index)), model.at_or_after(index));
        assert_eq!(named(reader.at_or_before(index)), model.at_or_before(index));
        assert_eq!(named(reader.after(index)), model.after(index));
        assert_eq!(named(reader.before(index)), model.before(index));
        assert_eq!(named(reader.first()), model.first());
        assert_eq!(named(reader.last()), model.last());
        assert_eq!(reader.is_empty(), model.is_empty());
        let around = reader.find(index);
        let is_gap = model.entry(index).is_none();
        assert_eq!(
            (around.range(), around.is_gap()),
            (model.find(index).range(), is_gap)
        );
        let value = reader.get(index);
        assert_eq!(
            value.map(Token::id),
            model.entry(index).map(|(_, value)| value)
        );
        value.map(|value| (value, value.id()))
    }

    /// Something that the one writer does.
    pub(super) fn write(&self, script: &mut Script<'_>) {
        let model = self.model().clone();
        match script.below(16) {
            0..12 => self.one(&script.write(&model), None),
            12 => {
                let failing = u64::from(script.below(10));
                self.one(&script.write(&model), Some(failing));
            }
            13 => self.reserved(&[script.write(&model), script.write(&model)]),
            14 => {
                self.say("snapshot");
                let snapshot = (self.tree.snapshot(), model);
                self.snapshots.borrow_mut().push(snapshot);
            }
            _ => self.of_snapshots(script),
        }
        self.check();
    }

    /// One write, the first time perhaps with too few nodes.
    fn one(&self, write: &Write, failing: Option<u64>) {
        self.say(&format!("{write}, nodes fail after {failing:?}"));
        let mut model = self.model().clone();
        self.nodes.fail_after(failing);
        let mut result = self.attempt(write);
        self.nodes.fail_after(None);
        if result == Done::OutOfNodes {
            assert!(failing.is_some(), "`{write}` ran out of nodes unprovoked");
            self.check();
            result = self.attempt(write);
        }
        assert_eq!(result, expected(&mut model, write), "{write}");
        self.versions.borrow_mut().push(model);
    }

    fn attempt(&self, write: &Write) -> Done {
        let mut writer = self.tree.write();
        match *write {
            Write::Insert(range, value) => stored(writer.insert(range, self.ledger.token(value))),
            Write::Store(range, value) => stored(writer.store(range, self.ledger.token(value))),
            Write::StoreWith(range, value) => {
                // A clone of a dead token would be entered in the ledger.
                let visit = |_, value: &Token| drop(value.clone());
                stored(writer.store_with(range, self.ledger.token(value), visit))
            }
            Write::Erase(index) => match writer.erase(index) {
                Ok(erased) => Done::Erased(erased.map(|(range, value)| (range, value.id()))),
                Err(OutOfNodes) => Done::OutOfNodes,
            },
            Write::Remove(range) => removed(writer.remove(range)),
            Write::RemoveWith(range) => removed(writer.remove_with(range, |_, _| {})),
        }
    }

    /// Writes that cannot fail, after one reservation.
    fn reserved(&self, writes: &[Write]) {
        let mut writer = self.tree.write();
        let mut reserve = writer.preallocate(writes.len()).expect("nodes are there");
        self.nodes.fail_after(Some(0));
        for write in writes {
            self.say(&format!("reserved {write}"));
            let mut model = self.model().clone();
            let token = |value| self.ledger.token(value);
            let done = match *write {
                Write::Insert(range, value) => match reserve.insert(range, token(value)) {
                    Ok(()) => Done::Written,
                    Err(_) => Done::Occupied,
                },
                Write::Store(range, value) | Write::StoreWith(range, value) => {
                    reserve.store(range, token(value));
                    Done::Written
                }
                Write::Erase(index) => {
                    let erased = reserve.erase(index);
                    Done::Erased(erased.map(|(range, value)| (range, value.id())))
                }
                Write::Remove(range) | Write::RemoveWith(range) => {
                    reserve.remove(range);
                    Done::Written
                }
            };
            assert_eq!(done, expected(&mut model, write), "reserved {write}");
            self.versions.borrow_mut().push(model);
        }
        self.nodes.fail_after(None);
    }

    /// Writes to the oldest snapshot, drops it, clears the tree or passes on what was cut out.
    fn of_snapshots(&self, script: &mut Script<'_>) {
        match script.below(4) {
            0 => {
                if let Some((tree, model)) = self.snapshots.borrow_mut().first_mut() {
                    let (range, value) = (script.range(model), script.value());
                    self.say(&format!("store {range} {value} in the oldest snapshot"));
                    tree.store(range, self.ledger.token(value))
                        .expect("nodes are there");
                    model.store(range, value);
                }
            }
            1 => {
                self.say("the oldest snapshot goes");
                let mut snapshots = self.snapshots.borrow_mut();
                let count = snapshots.len().min(1);
                snapshots.drain(..count);
            }
            2 => {
                self.say("clear");
                self.tree.write().clear();
                self.versions.borrow_mut().push(Model::new());
            }
            _ => {
                self.say("hand over");
                self.tree.write().hand_over();
            }
        }
    }

    /// The writer's tree and all snapshots are what their models say.
    fn check(&self) {
        let writer = self.tree.write();
        assert_holds(&writer, &self.model());
        for (tree, model) in &*self.snapshots.borrow() {
            assert_holds(tree, model);
        }
        self.check_values();
    }

    /// Nothing was freed twice, or looked at after it was freed.
    pub(super) fn check_values(&self) {
        assert_eq!(self.ledger.faults(), Vec::<String>::new());
        assert_eq!(self.nodes.faults(), Vec::<String>::new());
    }

    /// Nobody is inside any more: what was cut out is freed, and then everything.
    pub(super) fn finish(self) {
        self.snapshots.borrow_mut().clear();
        self.tree.barrier();
        assert_eq!(
            self.ledger.live(),
            self.model().len(),
            "outstanding after a barrier"
        );
        drop(self.tree);
        self.ledger.assert_settled();
        self.nodes.assert_settled();
    }
}

/// How a write ended.
#[derive(PartialEq, Eq, Debug)]
enum Done {
    Written,
    Erased(Option<(IndexRange, u32)>),
    Occupied,
    OutOfNodes,
}

fn stored(result: Result<(), StoreError<Token>>) -> Done {
    match result.map_err(|refused| refused.kind) {
        Ok(()) => Done::Written,
        Err(StoreErrorKind::Occupied) => Done::Occupied,
        Err(StoreErrorKind::OutOfNodes) => Done::OutOfNodes,
    }
}

fn removed(result: Result<(), OutOfNodes>) -> Done {
    match result {
        Ok(()) => Done::Written,
        Err(OutOfNodes) => Done::OutOfNodes,
    }
}

/// Does `write` on the model.
fn expected(model: &mut Model<u32>, write: &Write) -> Done {
    match *write {
        Write::Insert(range, value) => match model.insert(range, value) {
            true => Done::Written,
            false => Done::Occupied,
        },
        Write::Store(range, value) | Write::StoreWith(range, value) => {
            model.store(range, value);
            Done::Written
        }
        Write::Erase(index) => Done::Erased(model.erase(index)),
        Write::Remove(range) | Write::RemoveWith(range) => {
            model.remove(range);
            Done::Written
        }
    }
}

fn assert_holds(tree: &MapleTree<Token, FailingNodes>, model: &Model<u32>) {
    assert_valid(tree);
    let entries = tree.iter().map(|(range, value)| (range, value.id()));
    assert!(
        entries.eq(model.entries().iter().copied()),
        "{}",
        tree.dump()
    );
    assert_eq!(tree.len(), model.len());
}
