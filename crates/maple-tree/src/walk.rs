//! Walks from the root: to one index, and from leaf to leaf.

use arrayvec::ArrayVec;

use crate::node::{HEIGHT_MAX, Kind, Node};
use crate::{IndexRange, Segment};

/// A leaf, and the indices that belong to it.
///
/// A leaf owns its entries and every hole that ends in them; the right-most
/// leaf owns the hole behind its last entry too.
pub(crate) struct LeafAt<'a, T> {
    pub(crate) node: &'a Node<T>,
    pub(crate) range: IndexRange,
}

impl<T> Clone for LeafAt<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for LeafAt<'_, T> {}

impl<'a, T> LeafAt<'a, T> {
    /// The entry or hole around `index`, which belongs to this leaf.
    #[inline]
    pub(crate) fn segment(self, index: u64) -> Segment<'a, T> {
        segment_of(self.node, index, || self.range)
    }
}

/// The entry or hole around `index`, which belongs to `leaf`; `range` says which
/// indices do, if that matters.
#[inline]
fn segment_of<T>(leaf: &Node<T>, index: u64, range: impl FnOnce() -> IndexRange) -> Segment<'_, T> {
    let slot = leaf.leaf_slot(index);
    if slot == leaf.count() {
        return gap(leaf.upper().wrapping_add(1), range().last());
    }
    let bounds = leaf.slot_range(slot);
    if index < bounds.first() {
        let first = match slot.checked_sub(1) {
            Some(before) => leaf.last(before) + 1,
            None => range().first(),
        };
        return gap(first, bounds.first() - 1);
    }
    match leaf.entry(slot) {
        Some(value) => Segment::Entry(bounds, value),
        None => Segment::Gap(bounds),
    }
}

fn gap<'a, T>(first: u64, last: u64) -> Segment<'a, T> {
    Segment::Gap(IndexRange::new(first, last).expect("the index lies in the hole"))
}

/// Goes from `root` down to the leaf that `index` belongs to. `pass` is called with
/// each branch on the way and the slot taken in it.
///
/// PERF: the branches of a tree are of one kind (T8), so a loop for each kind asks no
/// more than when it ends.
#[inline(always)]
pub(crate) fn descend<'a, T>(
    root: &'a Node<T>,
    index: u64,
    mut pass: impl FnMut(&Node<T>, usize),
) -> &'a Node<T> {
    let mut step = |node: &'a Node<T>| {
        let slot = node.child_slot(index);
        pass(node, slot);
        let child = node.child(slot);
        child.prefetch();
        child
    };
    let mut node = root;
    if node.kind() == Kind::Plain {
        while node.kind() == Kind::Plain {
            node = step(node);
        }
    } else {
        while node.kind() == Kind::Gaps {
            node = step(node);
        }
    }
    debug_assert!(node.is_leaf());
    node
}

/// The leaf that `index` belongs to, below `root`.
#[inline]
pub(crate) fn leaf_at<T>(root: &Node<T>, index: u64) -> LeafAt<'_, T> {
    let (mut min, mut max) = (0, u64::MAX);
    let node = descend(root, index, |node, slot| {
        (min, max) = (node.child_min(slot, min), node.pivot_or(slot, max));
    });
    LeafAt {
        node,
        range: IndexRange::ascending(min, max),
    }
}

/// How far ahead leaves are fetched.
///
/// PERF: a leaf is passed in about ten nanoseconds, memory takes several times that.
pub(crate) const AHEAD: usize = 3;

/// A leaf and the way to it, so that its neighbours are near.
pub(crate) struct LeafPath<'a, T> {
    /// The branches from the root down, and the slot taken in each.
    branches: ArrayVec<&'a Node<T>, HEIGHT_MAX>,
    slots: ArrayVec<u8, HEIGHT_MAX>,
    leaf: &'a Node<T>,
}

impl<'a, T> LeafPath<'a, T> {
    /// Walks to the leaf that `index` belongs to.
    #[inline]
    pub(crate) fn to(root: &'a Node<T>, index: u64) -> Self {
        let mut path = Self {
            branches: ArrayVec::new(),
            slots: ArrayVec::new(),
            leaf: root,
        };
        path.descend(|node| node.child_slot(index));
        path
    }

    #[inline]
    pub(crate) fn leaf(&self) -> &'a Node<T> {
        self.leaf
    }

    /// The entry or hole around `index`, which belongs to this leaf.
    #[inline]
    pub(crate) fn segment(&self, index: u64) -> Segment<'a, T> {
        segment_of(self.leaf, index, || self.range())
    }

    /// The indices that belong to this leaf.
    pub(crate) fn range(&self) -> IndexRange {
        let (mut min, mut max) = (0, u64::MAX);
        for (branch, &slot) in self.branches.iter().zip(&self.slots) {
            let slot = slot.into();
            (min, max) = (branch.child_min(slot, min), branch.pivot_or(slot, max));
        }
        IndexRange::ascending(min, max)
    }

    /// Steps to the next leaf; `false`, and no step, if this is the last.
    #[inline]
    pub(crate) fn next_leaf(&mut self) -> bool {
        let (Some(branch), Some(slot)) = (self.branches.last(), self.slots.last_mut()) else {
            return false;
        };
        let next = usize::from(*slot) + 1;
        if next == branch.count() {
            return self.next_branch();
        }
        if next + AHEAD < branch.count() {
            branch.prefetch_child(next + AHEAD);
        }
        *slot = next as u8;
        self.leaf = branch.child(next);
        true
    }

    /// Steps to the first leaf of the next branch above the leaves.
    fn next_branch(&mut self) -> bool {
        let turn = (0..self.branches.len())
            .rev()
            .find(|&at| usize::from(self.slots[at]) + 1 < self.branches[at].count());
        let Some(turn) = turn else { return false };
        self.enter(turn, usize::from(self.slots[turn]) + 1);
        self.descend(|node| {
            (1..=AHEAD.min(node.count() - 1)).for_each(|slot| node.prefetch_child(slot));
            0
        });
        true
    }

    /// Steps to the leaf before; `false`, and no step, if this is the first.
    pub(crate) fn previous_leaf(&mut self) -> bool {
        let turn = self.slots.iter().rposition(|&slot| slot > 0);
        let Some(turn) = turn else { return false };
        let (branch, slot) = (self.branches[turn], usize::from(self.slots[turn]) - 1);
        if turn + 1 == self.branches.len() && slot >= AHEAD {
            branch.prefetch_child(slot - AHEAD);
        }
        self.enter(turn, slot);
        self.descend(|node| node.count() - 1);
        true
    }

    /// Goes to the child in `slot` of the branch at `depth`.
    fn enter(&mut self, depth: usize, slot: usize) {
        self.branches.truncate(depth + 1);
        self.slots.truncate(depth + 1);
        self.slots[depth] = slot as u8;
        self.leaf = self.branches[depth].child(slot);
    }

    #[inline]
    fn descend(&mut self, choose: impl Fn(&Node<T>) -> usize) {
        while !self.leaf.is_leaf() {
            let slot = choose(self.leaf);
            self.branches.push(self.leaf);
            self.slots.push(slot as u8);
            self.leaf = self.leaf.child(slot);
        }
    }
}

impl<T> Clone for LeafPath<'_, T> {
    fn clone(&self) -> Self {
        Self {
            branches: self.branches.clone(),
            slots: self.slots.clone(),
            leaf: self.leaf,
        }
    }
}
