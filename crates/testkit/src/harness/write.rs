//! The operations that change a tree, including those whose allocations are made to fail.

use super::{Compared, Harness, Mismatch, Pair, same};
use crate::model::{Displaced, Model};
use crate::nodes::TestNodes;
use crate::op::Write;
use crate::token::TestValue;
use maple_tree::{
    DuplicateError, IndexRange, MapleTree, OutOfNodes, Preallocation, StoreError, StoreErrorKind,
};

/// What a write did, as far as its caller can see.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Outcome {
    /// It was done; these parts were visited.
    Done(Displaced<u32>),
    /// It was refused, and this value handed back.
    Occupied(u32),
    /// It took this entry out.
    Erased(Option<(IndexRange, u32)>),
    /// It ran out of nodes; this value was handed back, these parts were visited all the same.
    OutOfNodes(Option<u32>, Displaced<u32>),
}

impl Outcome {
    fn stored<T: TestValue>(result: Result<(), StoreError<T>>, visited: Displaced<u32>) -> Self {
        match result {
            Ok(()) => Self::Done(visited),
            Err(StoreError {
                kind: StoreErrorKind::Occupied,
                value,
            }) => Self::Occupied(value.id()),
            Err(StoreError {
                kind: StoreErrorKind::OutOfNodes,
                value,
            }) => Self::OutOfNodes(Some(value.id()), visited),
        }
    }

    fn removed(result: Result<(), OutOfNodes>, visited: Displaced<u32>) -> Self {
        match result {
            Ok(()) => Self::Done(visited),
            Err(OutOfNodes) => Self::OutOfNodes(None, visited),
        }
    }

    fn erased<T: TestValue>(result: Result<Option<(IndexRange, T)>, OutOfNodes>) -> Self {
        match result {
            Ok(entry) => Self::Erased(entry.map(|(range, value)| (range, value.id()))),
            Err(OutOfNodes) => Self::OutOfNodes(None, Vec::new()),
        }
    }
}

/// `write` on the model.
fn on_model(model: &mut Model<u32>, write: &Write) -> Outcome {
    match *write {
        Write::Insert(range, value) => match model.insert(range, value) {
            true => Outcome::Done(Vec::new()),
            false => Outcome::Occupied(value),
        },
        Write::Store(range, value) => {
            model.store(range, value);
            Outcome::Done(Vec::new())
        }
        Write::StoreWith(range, value) => Outcome::Done(model.store(range, value)),
        Write::Erase(index) => Outcome::Erased(model.erase(index)),
        Write::Remove(range) => {
            model.remove(range);
            Outcome::Done(Vec::new())
        }
        Write::RemoveWith(range) => Outcome::Done(model.remove(range)),
    }
}

/// `write` on the tree.
fn on_tree<T, S>(tree: &mut MapleTree<T, S>, mint: &T::Mint, write: &Write) -> Outcome
where
    T: TestValue,
    S: TestNodes,
{
    let mut visited = Vec::new();
    let mut visit = |range, value: &T| visited.push((range, value.id()));
    match *write {
        Write::Insert(range, value) => {
            Outcome::stored(tree.insert(range, T::mint(mint, value)), visited)
        }
        Write::Store(range, value) => {
            Outcome::stored(tree.store(range, T::mint(mint, value)), visited)
        }
        Write::StoreWith(range, value) => {
            let result = tree.store_with(range, T::mint(mint, value), &mut visit);
            Outcome::stored(result, visited)
        }
        Write::Erase(index) => Outcome::erased(tree.erase(index)),
        Write::Remove(range) => Outcome::removed(tree.remove(range), visited),
        Write::RemoveWith(range) => {
            let result = tree.remove_with(range, &mut visit);
            Outcome::removed(result, visited)
        }
    }
}

/// `write` on a reservation, which cannot fail.
fn on_reserve<T, S>(tree: &mut Preallocation<'_, T, S>, mint: &T::Mint, write: &Write) -> Outcome
where
    T: TestValue,
    S: TestNodes,
{
    let mut visited = Vec::new();
    let mut visit = |range, value: &T| visited.push((range, value.id()));
    match *write {
        Write::Insert(range, value) => match tree.insert(range, T::mint(mint, value)) {
            Ok(()) => Outcome::Done(Vec::new()),
            Err(refused) => Outcome::Occupied(refused.0.id()),
        },
        Write::Store(range, value) => {
            tree.store(range, T::mint(mint, value));
            Outcome::Done(Vec::new())
        }
        Write::StoreWith(range, value) => {
            tree.store_with(range, T::mint(mint, value), &mut visit);
            Outcome::Done(visited)
        }
        Write::Erase(index) => Outcome::erased(Ok(tree.erase(index))),
        Write::Remove(range) => {
            tree.remove(range);
            Outcome::Done(Vec::new())
        }
        Write::RemoveWith(range) => {
            tree.remove_with(range, &mut visit);
            Outcome::Done(visited)
        }
    }
}

/// What a write that ran out of nodes must look like.
fn refusal(write: &Write) -> Outcome {
    let value = match *write {
        Write::Insert(_, value) | Write::Store(_, value) | Write::StoreWith(_, value) => {
            Some(value)
        }
        Write::Erase(_) | Write::Remove(_) | Write::RemoveWith(_) => None,
    };
    Outcome::OutOfNodes(value, Vec::new())
}

impl<T: TestValue, S: TestNodes> Harness<T, S> {
    pub(super) fn write(&mut self, write: &Write) -> Compared {
        let mint = self.mint.clone();
        let mut outcome = self.failing(|tree| on_tree(tree, &mint, write));
        if self.fail_next.is_some() && matches!(outcome, Outcome::OutOfNodes(..)) {
            same("a write without nodes", &outcome, &refusal(write))?;
            self.after_failure()?;
            outcome = on_tree(&mut self.pair_mut().tree, &mint, write);
        }
        let expected = on_model(&mut self.pair_mut().model, write);
        same(&format!("the outcome of `{write}`"), &outcome, &expected)
    }

    /// The writes after one reservation; while they run, no allocation succeeds.
    pub(super) fn preallocated(&mut self, writes: &[Write]) -> Compared {
        if self
            .failing(|tree| tree.preallocate(writes.len()).map(drop))
            .is_err()
        {
            self.expect_failure("preallocate")?;
        }
        let (mint, nodes) = (self.mint.clone(), self.nodes.clone());
        let pair = self.pair_mut();
        let mut reserve = unfailing("preallocate", pair.tree.preallocate(writes.len()))?;
        nodes.fail_after(Some(0));
        for write in writes {
            let outcome = on_reserve(&mut reserve, &mint, write);
            let expected = on_model(&mut pair.model, write);
            same(
                &format!("the outcome of reserved `{write}`"),
                &outcome,
                &expected,
            )?;
            same("len in a reservation", &reserve.len(), &pair.model.len())?;
        }
        nodes.fail_after(None);
        Ok(())
    }

    pub(super) fn clear(&mut self) -> Compared {
        self.failing(MapleTree::clear);
        self.pair_mut().model.clear();
        Ok(())
    }

    /// Replaces a value through `get_mut`.
    pub(super) fn set(&mut self, index: u64, value: u32) -> Compared {
        let mint = self.mint.clone();
        let replace = |tree: &mut MapleTree<T, S>| -> Result<Option<u32>, OutOfNodes> {
            let place = tree.get_mut(index)?;
            Ok(place.map(|place| std::mem::replace(place, T::mint(&mint, value)).id()))
        };
        let mut result = self.failing(replace);
        if result.is_err() {
            self.expect_failure("get_mut")?;
            result = replace(&mut self.pair_mut().tree);
        }
        let expected = self.pair_mut().model.set_value(index, value);
        same("get_mut", &unfailing("get_mut", result)?, &expected)
    }

    /// Stores all `entries`; where a node is missing, what came before is stored and the rest is
    /// stored afterwards.
    pub(super) fn extend(&mut self, entries: &[(IndexRange, u32)]) -> Compared {
        let mint = self.mint.clone();
        let mut taken = 0;
        let counted = entries.iter().map(|&(range, value)| {
            taken += 1;
            (range, T::mint(&mint, value))
        });
        let result = self.failing(|tree| tree.try_extend(counted));
        let stored = if result.is_ok() {
            entries.len()
        } else {
            taken - 1
        };
        let (done, left) = entries.split_at(stored);
        for &(range, value) in done {
            self.pair_mut().model.store(range, value);
        }
        if let Err(refused) = result {
            same("the value handed back", &refused.value.id(), &left[0].1)?;
            drop(refused);
            self.expect_failure("try_extend")?;
        }
        let Pair { tree, model } = self.pair_mut();
        tree.extend(
            left.iter()
                .map(|&(range, value)| (range, T::mint(&mint, value))),
        );
        for &(range, value) in left {
            model.store(range, value);
        }
        Ok(())
    }

    pub(super) fn snapshot(&mut self) -> Compared {
        let tree = self.failing(|tree| tree.snapshot());
        self.push(tree, self.model().clone())
    }

    pub(super) fn duplicate(&mut self) -> Compared {
        let mut result = self.failing(|tree| tree.duplicate());
        if result.is_err() {
            self.expect_failure("duplicate")?;
            result = self.pair().tree.duplicate();
        }
        let tree = unfailing("duplicate", result)?;
        self.push(tree, self.model().clone())
    }

    /// Maps every value to the next number, drops those that `dropped` divides, refuses one place.
    pub(super) fn duplicate_with(&mut self, dropped: u32, refused: u32) -> Compared {
        let mint = self.mint.clone();
        let keep = |id: u32| dropped == 0 || !id.is_multiple_of(dropped);
        let copy = |tree: &mut MapleTree<T, S>| {
            let mut place = 0;
            tree.duplicate_with(|_, value| {
                let here = place;
                place += 1;
                match here == refused {
                    true => Err(here),
                    false => Ok(keep(value.id()).then(|| T::mint(&mint, next(value.id())))),
                }
            })
        };
        let mut result = self.failing(copy);
        if matches!(result, Err(DuplicateError::OutOfNodes)) {
            self.expect_failure("duplicate_with")?;
            result = copy(&mut self.pair_mut().tree);
        }
        let expected = self.model().filter_map(|_, id| keep(id).then(|| next(id)));
        match result {
            Ok(tree) => self.push(tree, expected),
            Err(DuplicateError::Refused(place)) => {
                let legal = (refused as usize) < self.model().len();
                same(
                    "the place that was refused",
                    &(place, legal),
                    &(refused, true),
                )
            }
            Err(DuplicateError::OutOfNodes) => Err(Mismatch(
                "duplicate_with ran out of nodes unprovoked".to_owned(),
            )),
        }
    }

    fn push(&mut self, tree: MapleTree<T, S>, model: Model<u32>) -> Compared {
        same(
            "tracks_gaps of a copy",
            &tree.tracks_gaps(),
            &self.tree().tracks_gaps(),
        )?;
        self.pairs.push(Pair { tree, model });
        Ok(())
    }

    /// Runs `act` on the tree in focus, with failing allocations if the last operation asked so.
    fn failing<R>(&mut self, act: impl FnOnce(&mut MapleTree<T, S>) -> R) -> R {
        self.nodes.fail_after(self.fail_next);
        let result = act(&mut self.pairs[self.focus].tree);
        self.nodes.fail_after(None);
        result
    }

    /// A failure that was planned leaves everything as it was; any other is a mismatch.
    fn expect_failure(&mut self, what: &str) -> Compared {
        if self.fail_next.is_none() {
            return Err(Mismatch(format!("{what} ran out of nodes unprovoked")));
        }
        self.after_failure()
    }

    pub(super) fn after_failure(&mut self) -> Compared {
        self.failures += 1;
        self.check()
    }
}

/// The name `duplicate_with` gives the copy of a value.
fn next(id: u32) -> u32 {
    (id + 1) % (1 << 24)
}

fn unfailing<R>(what: &str, result: Result<R, OutOfNodes>) -> Result<R, Mismatch> {
    result.map_err(|OutOfNodes| Mismatch(format!("{what} ran out of nodes unprovoked")))
}
