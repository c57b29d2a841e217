//! Runs an operation on a tree and on its model, and compares everything that can be seen.

mod cursor;
mod read;
mod write;

use crate::model::Model;
use crate::nodes::TestNodes;
use crate::op::Op;
use crate::token::TestValue;
use maple_tree::MapleTree;
use std::fmt;

/// A difference between a tree and its model.
#[derive(Clone, Debug)]
pub struct Mismatch(String);

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Mismatch {}

/// What a comparison found.
type Compared = Result<(), Mismatch>;

/// Compares two values that `what` names.
fn same<A: PartialEq + fmt::Debug>(what: &str, tree: &A, model: &A) -> Compared {
    if tree == model {
        return Ok(());
    }
    Err(Mismatch(format!(
        "{what}:\n   tree: {tree:x?}\n  model: {model:x?}"
    )))
}

/// A tree and what it should hold.
struct Pair<T: TestValue, S: TestNodes> {
    tree: MapleTree<T, S>,
    model: Model<u32>,
}

/// Live trees with their models, one of them in focus.
pub struct Harness<T: TestValue, S: TestNodes> {
    pairs: Vec<Pair<T, S>>,
    focus: usize,
    mint: T::Mint,
    nodes: S,
    fail_next: Option<u64>,
    failures: u64,
    tallest: usize,
}

impl<T: TestValue, S: TestNodes> fmt::Debug for Harness<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Harness {{ trees: {}, focus: {} }}",
            self.pairs.len(),
            self.focus
        )
    }
}

impl<T: TestValue, S: TestNodes> Harness<T, S> {
    /// One empty tree that keeps no gaps.
    #[must_use]
    pub fn new() -> Self {
        Self::over(MapleTree::new_in)
    }

    /// One empty tree that keeps gaps.
    #[must_use]
    pub fn with_gaps() -> Self {
        Self::over(MapleTree::with_gaps_in)
    }

    fn over(make: impl FnOnce(S) -> MapleTree<T, S>) -> Self {
        let nodes = S::default();
        let first = Pair {
            tree: make(nodes.clone()),
            model: Model::new(),
        };
        Self {
            pairs: vec![first],
            focus: 0,
            mint: T::Mint::default(),
            nodes,
            fail_next: None,
            failures: 0,
            tallest: 0,
        }
    }

    /// The model of the tree in focus.
    #[must_use]
    pub fn model(&self) -> &Model<u32> {
        &self.pairs[self.focus].model
    }

    /// The tree in focus.
    #[must_use]
    pub fn tree(&self) -> &MapleTree<T, S> {
        &self.pairs[self.focus].tree
    }

    /// The number of live trees.
    #[must_use]
    pub fn live(&self) -> usize {
        self.pairs.len()
    }

    /// How many writes ran out of nodes so far, each of them repeated afterwards.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// The greatest height any of the trees has had.
    #[must_use]
    pub fn tallest(&self) -> usize {
        self.tallest
    }

    /// Runs `op` on tree and model and compares the results; see [`check`](Self::check) for the
    /// rest.
    ///
    /// # Errors
    ///
    /// The first difference. The harness is of no use after it.
    pub fn apply(&mut self, op: &Op) -> Compared {
        match op {
            Op::Write(write) => self.write(write),
            Op::Preallocated(writes) => self.preallocated(writes),
            Op::Clear => self.clear(),
            Op::Set(index, value) => self.set(*index, *value),
            Op::Extend(entries) => self.extend(entries),
            Op::Look(index) => self.pair().look(*index),
            Op::Vacant(range) => self.pair().vacant(*range),
            Op::Walk(range, pattern) => self.pair().walk(*range, *pattern),
            Op::Cursor(index, steps) => self.cursor(*index, steps),
            Op::Lowest(request) => self.pair().lowest(request),
            Op::Highest(request) => self.pair().highest(request),
            Op::Snapshot => self.snapshot(),
            Op::Duplicate => self.duplicate(),
            Op::DuplicateWith(dropped, refused) => self.duplicate_with(*dropped, *refused),
            Op::Focus(place) => {
                self.focus = usize::from(*place) % self.pairs.len();
                Ok(())
            }
            Op::Drop(place) => {
                self.drop_tree(usize::from(*place));
                Ok(())
            }
            Op::Fail(after) => {
                // What the tree has at hand would be taken first.
                self.pairs[self.focus].tree.shrink_to_fit();
                self.fail_next = Some(u64::from(*after));
                return Ok(());
            }
        }?;
        self.fail_next = None;
        Ok(())
    }

    /// Compares the whole content of every live tree with its model, validates the trees, and
    /// checks that no value is lost or doubled.
    ///
    /// # Errors
    ///
    /// The first difference.
    pub fn check(&mut self) -> Compared {
        for pair in &self.pairs {
            pair.check()?;
            self.tallest = self.tallest.max(pair.tree.height());
        }
        let family: Vec<_> = self.pairs.iter().map(|pair| &pair.tree).collect();
        if let Err(violation) = MapleTree::validate_family(&family) {
            return Err(self
                .pair()
                .explain(&format!("wrong reference counts: {violation:?}")));
        }
        same("faults of the values", &T::faults(&self.mint), &Vec::new())?;
        same("faults of the nodes", &self.nodes.faults(), &Vec::new())?;
        self.check_values()
    }

    /// Snapshots may share values, so several trees only bound their number.
    fn check_values(&self) -> Compared {
        let Some(live) = T::live(&self.mint) else {
            return Ok(());
        };
        let lens = self.pairs.iter().map(|pair| pair.model.len());
        let (least, most) = (lens.clone().max().unwrap_or(0), lens.sum());
        if (least..=most).contains(&live) {
            return Ok(());
        }
        Err(Mismatch(format!(
            "{live} values are alive, where {least}..={most} can be"
        )))
    }

    /// Drops every tree and checks that all values and nodes came back.
    ///
    /// # Errors
    ///
    /// What was leaked or given back twice.
    pub fn finish(mut self) -> Compared {
        self.pairs.clear();
        same("faults of the values", &T::faults(&self.mint), &Vec::new())?;
        same("faults of the nodes", &self.nodes.faults(), &Vec::new())?;
        same(
            "values that outlive the trees",
            &T::live(&self.mint).unwrap_or(0),
            &0,
        )?;
        same(
            "nodes that outlive the trees",
            &self.nodes.live().unwrap_or(0),
            &0,
        )
    }

    fn pair(&self) -> &Pair<T, S> {
        &self.pairs[self.focus]
    }

    fn pair_mut(&mut self) -> &mut Pair<T, S> {
        &mut self.pairs[self.focus]
    }

    fn drop_tree(&mut self, place: usize) {
        if self.pairs.len() > 1 {
            self.pairs.remove(place % self.pairs.len());
            self.focus %= self.pairs.len();
        }
    }
}

impl<T: TestValue, S: TestNodes> Default for Harness<T, S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: TestValue, S: TestNodes> Pair<T, S> {
    fn check(&self) -> Compared {
        if let Err(violation) = self.tree.validate() {
            return Err(self.explain(&format!("the tree is not valid: {violation:?}")));
        }
        let entries = self.tree.iter().map(|(range, value)| (range, value.id()));
        if !entries.eq(self.model.entries().iter().copied()) {
            return Err(self.explain("the contents differ"));
        }
        same("len", &self.tree.len(), &self.model.len())?;
        same("is_empty", &self.tree.is_empty(), &self.model.is_empty())
    }

    fn explain(&self, what: &str) -> Mismatch {
        let side =
            |entries: &mut dyn Iterator<Item = String>| entries.collect::<Vec<_>>().join(" ");
        let line = |range, id| format!("{range}={id}");
        let tree = side(
            &mut self
                .tree
                .iter()
                .map(|(range, value)| line(range, value.id())),
        );
        let model = side(
            &mut self
                .model
                .entries()
                .iter()
                .map(|&(range, id)| line(range, id)),
        );
        let dump = self.tree.dump();
        Mismatch(format!("{what}\n   tree: {tree}\n  model: {model}\n{dump}"))
    }
}
