//! Ways from the root to a node, and stepping them sideways.

use crate::IndexRange;
use crate::node::{HEIGHT_MAX, Node, NodeRef, Path, Slots};

/// The way from the root to a node at some depth.
pub(super) struct Way<'a, T> {
    nodes: [Option<NodeRef<'a, T>>; HEIGHT_MAX],
    pub(super) slots: Slots,
    /// How far below the root it ends.
    pub(super) depth: usize,
    /// From this depth on the nodes are in other trees too.
    shared: usize,
}

impl<T> Clone for Way<'_, T> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

/// Which way to step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

impl<'a, T> Way<'a, T> {
    /// The way to the leaf that `index` belongs to, in the same tree. It is another leaf
    /// than that at the end of this way.
    ///
    /// Whether a node is shared is asked once: a snapshot may go away at any
    /// moment, and then two ways through the node would disagree.
    pub(super) fn to(&self, index: u64) -> Self {
        let mut way = self.clone();
        way.depth = 0;
        while way.node().child_slot(index) == self.slot(way.depth) {
            way.depth += 1;
            assert!(way.depth < self.depth, "the ways part above the leaves");
        }
        if way.shared > way.depth {
            way.shared = usize::MAX;
        }
        while !way.node().is_leaf() {
            way.descend(way.node().child_slot(index));
        }
        way
    }

    /// The way that `path` went.
    pub(super) fn along(path: &'a Path<'_, '_, T>) -> Self {
        let mut nodes = [None; HEIGHT_MAX];
        for (depth, node) in nodes[..=path.depth].iter_mut().enumerate() {
            *node = Some(path.node_ref(depth));
        }
        Self {
            nodes,
            slots: *path.slots(),
            depth: path.depth,
            shared: path.shared,
        }
    }

    /// Notes that the way leads through `node` at `depth`, and ends there.
    fn enter(&mut self, depth: usize, node: NodeRef<'a, T>) {
        if self.shared >= depth {
            self.shared = if node.get().refs() > 1 {
                depth
            } else {
                usize::MAX
            };
        }
        self.nodes[depth] = Some(node);
        self.depth = depth;
    }

    fn descend(&mut self, slot: usize) {
        self.slots[self.depth] = slot as u8;
        let child = self.node_ref().child(slot);
        self.enter(self.depth + 1, child);
    }

    /// The node at `depth`.
    pub(super) fn at(&self, depth: usize) -> &'a Node<T> {
        self.node_ref_at(depth).get()
    }

    fn node_ref_at(&self, depth: usize) -> NodeRef<'a, T> {
        self.nodes[depth].expect("the way leads through every depth")
    }

    /// The node at the end.
    pub(super) fn node_ref(&self) -> NodeRef<'a, T> {
        self.node_ref_at(self.depth)
    }

    /// The node at the end.
    pub(super) fn node(&self) -> &'a Node<T> {
        self.at(self.depth)
    }

    /// The slot taken in the node at `depth`, which is not the last.
    pub(super) fn slot(&self, depth: usize) -> usize {
        self.slots[depth].into()
    }

    /// Whether the node at the end is in other trees too: it, or one above.
    pub(super) fn is_shared(&self) -> bool {
        self.shared <= self.depth
    }

    /// Whether the link to the node at the end is in this tree only, though the
    /// node is not.
    pub(super) fn is_edge_of_shared(&self) -> bool {
        self.shared == self.depth
    }

    /// Whether both end at the same node.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.taken() == other.taken()
    }

    /// The slots that were taken.
    pub(super) fn taken(&self) -> &[u8] {
        &self.slots[..self.depth]
    }

    /// Ends the way one node earlier.
    pub(super) fn up(&mut self) {
        self.depth -= 1;
    }

    /// Whether no node of the level comes behind the end.
    pub(super) fn is_right_edge(&self) -> bool {
        (0..self.depth).all(|at| self.slot(at) + 1 == self.at(at).count())
    }

    /// Whether no node of the level comes before the end.
    pub(super) fn is_left_edge(&self) -> bool {
        self.taken().iter().all(|&slot| slot == 0)
    }

    /// The indices that belong to the node at the end.
    pub(super) fn range(&self) -> IndexRange {
        let (mut min, mut max) = (0, u64::MAX);
        for at in 0..self.depth {
            let (node, slot) = (self.at(at), self.slot(at));
            (min, max) = (node.child_min(slot, min), node.pivot_or(slot, max));
        }
        IndexRange::new(min, max).expect("a node's bounds ascend (T3)")
    }

    /// The way to the next node of the level on `side`, if there is one.
    pub(super) fn step(&self, side: Side) -> Option<Self> {
        let end = self.depth;
        let turn = match side {
            Side::Right => (0..end)
                .rev()
                .find(|&at| self.slot(at) + 1 < self.at(at).count()),
            Side::Left => (0..end).rev().find(|&at| self.slot(at) > 0),
        }?;
        let mut way = self.clone();
        way.depth = turn;
        if way.shared > turn {
            way.shared = usize::MAX;
        }
        way.descend(match side {
            Side::Right => self.slot(turn) + 1,
            Side::Left => self.slot(turn) - 1,
        });
        while way.depth < end {
            way.descend(match side {
                Side::Right => 0,
                Side::Left => way.node().count() - 1,
            });
        }
        Some(way)
    }

    /// Whether the next node on `side` is below the same parent.
    pub(super) fn has_sibling(&self, side: Side) -> bool {
        let Some(parent) = self.depth.checked_sub(1) else {
            return false;
        };
        match side {
            Side::Right => self.slot(parent) + 1 < self.at(parent).count(),
            Side::Left => self.slot(parent) > 0,
        }
    }
}
