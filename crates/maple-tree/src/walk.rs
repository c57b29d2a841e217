//! Walks from the root: to one index, and from leaf to leaf.

use arrayvec::ArrayVec;

use crate::node::{HEIGHT_MAX, Node};
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
    pub(crate) fn segment(self, index: u64) -> Segment<'a, T> {
        let node = self.node;
        let slot = node.leaf_slot(index);
        if slot == node.count() {
            return self.gap(node.upper().wrapping_add(1), self.range.last());
        }
        if slot == 0 && index < node.lower() {
            return self.gap(self.range.first(), node.lower() - 1);
        }
        let range = node.slot_range(slot);
        match node.entry(slot) {
            Some(value) => Segment::Entry(range, value),
            None => Segment::Gap(range),
        }
    }

    fn gap(self, first: u64, last: u64) -> Segment<'a, T> {
        Segment::Gap(IndexRange::new(first, last).expect("the index lies in the hole"))
    }
}

/// The leaf that `index` belongs to, below `root`.
pub(crate) fn leaf_at<T>(root: &Node<T>, index: u64) -> LeafAt<'_, T> {
    let mut node = root;
    let (mut min, mut max) = (0, u64::MAX);
    while !node.is_leaf() {
        let slot = node.child_slot(index);
        (min, max) = (node.child_min(slot, min), node.pivot_or(slot, max));
        node = node.child(slot);
    }
    LeafAt {
        node,
        range: bounds(min, max),
    }
}

fn bounds(min: u64, max: u64) -> IndexRange {
    IndexRange::new(min, max).expect("a node's bounds ascend (T3)")
}

struct Step<'a, T> {
    node: &'a Node<T>,
    slot: usize,
    /// The indices that belong to `node`.
    range: IndexRange,
}

impl<'a, T> Step<'a, T> {
    fn child(&self) -> (&'a Node<T>, IndexRange) {
        let min = self.node.child_min(self.slot, self.range.first());
        let max = self.node.pivot_or(self.slot, self.range.last());
        (self.node.child(self.slot), bounds(min, max))
    }
}

/// A leaf and the way to it, so that its neighbours are near.
pub(crate) struct LeafPath<'a, T> {
    branches: ArrayVec<Step<'a, T>, HEIGHT_MAX>,
    leaf: LeafAt<'a, T>,
}

impl<'a, T> LeafPath<'a, T> {
    /// Walks to the leaf that `index` belongs to.
    pub(crate) fn to(root: &'a Node<T>, index: u64) -> Self {
        let leaf = LeafAt {
            node: root,
            range: IndexRange::FULL,
        };
        let mut path = Self {
            branches: ArrayVec::new(),
            leaf,
        };
        path.descend(|node| node.child_slot(index));
        path
    }

    pub(crate) fn leaf(&self) -> LeafAt<'a, T> {
        self.leaf
    }

    /// Steps to the next leaf; `false` if this is the last.
    pub(crate) fn next_leaf(&mut self) -> bool {
        while let Some(step) = self.branches.last_mut() {
            if step.slot + 1 < step.node.count() {
                step.slot += 1;
                self.enter_child();
                self.descend(|_| 0);
                return true;
            }
            self.branches.pop();
        }
        false
    }

    /// Steps to the leaf before; `false` if this is the first.
    pub(crate) fn previous_leaf(&mut self) -> bool {
        while let Some(step) = self.branches.last_mut() {
            if step.slot > 0 {
                step.slot -= 1;
                self.enter_child();
                self.descend(|node| node.count() - 1);
                return true;
            }
            self.branches.pop();
        }
        false
    }

    fn enter_child(&mut self) {
        if let Some(step) = self.branches.last() {
            let (node, range) = step.child();
            self.leaf = LeafAt { node, range };
        }
    }

    fn descend(&mut self, choose: impl Fn(&Node<T>) -> usize) {
        while !self.leaf.node.is_leaf() {
            let LeafAt { node, range } = self.leaf;
            self.branches.push(Step {
                node,
                slot: choose(node),
                range,
            });
            self.enter_child();
        }
    }
}

impl<T> Clone for LeafPath<'_, T> {
    fn clone(&self) -> Self {
        let branches = self
            .branches
            .iter()
            .map(|step| Step {
                node: step.node,
                slot: step.slot,
                range: step.range,
            })
            .collect();
        Self {
            branches,
            leaf: self.leaf,
        }
    }
}
