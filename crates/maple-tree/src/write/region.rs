//! Where in the tree a write works: paths of slots, and stepping them sideways.

use crate::IndexRange;
use crate::node::{HEIGHT_MAX, Link, Node};

/// The slots taken from the root down to a node; those below it mean nothing.
pub(super) type Slots = [u8; HEIGHT_MAX];

/// The leaf that an index belongs to, and all that one walk to it tells.
pub(super) struct Place<'a, T> {
    pub(super) way: Slots,
    pub(super) leaf: &'a Node<T>,
    /// The indices that belong to the leaf.
    pub(super) range: IndexRange,
    /// How many nodes at the end of the way are shared with a snapshot.
    pub(super) shared: usize,
}

impl<'a, T> Place<'a, T> {
    pub(super) fn of(root: &'a Node<T>, index: u64) -> Self {
        let mut way = [0; HEIGHT_MAX];
        let (mut min, mut max) = (0, u64::MAX);
        let mut node = root;
        let mut shared = usize::from(node.refs() > 1);
        for taken in &mut way {
            if node.is_leaf() {
                break;
            }
            let slot = node.child_slot(index);
            *taken = slot as u8;
            (min, max) = (node.child_min(slot, min), node.pivot_or(slot, max));
            node = node.child(slot);
            // From the first shared node on all are.
            shared += usize::from(shared > 0 || node.refs() > 1);
        }
        let range = IndexRange::new(min, max).expect("a node's bounds ascend (T3)");
        Self {
            way,
            leaf: node,
            range,
            shared,
        }
    }
}

/// The node at `depth` (0 is the root) on the way `slots`.
pub(super) fn node_at<'a, T>(root: &'a Node<T>, slots: &Slots, depth: usize) -> &'a Node<T> {
    slots[..depth]
        .iter()
        .fold(root, |node, &slot| node.child(slot.into()))
}

/// The indices that belong to the node at `depth` on the way `slots`.
pub(super) fn range_at<T>(root: &Node<T>, slots: &Slots, depth: usize) -> IndexRange {
    let (mut min, mut max) = (0, u64::MAX);
    let mut node = root;
    for &slot in &slots[..depth] {
        (min, max) = (
            node.child_min(slot.into(), min),
            node.pivot_or(slot.into(), max),
        );
        node = node.child(slot.into());
    }
    IndexRange::new(min, max).expect("a node's bounds ascend (T3)")
}

/// The node at `depth` on the way `slots`, if it and all above it are ours alone.
pub(super) fn node_mut<'a, T>(
    root: &'a mut Link<T>,
    slots: &Slots,
    depth: usize,
) -> Option<&'a mut Node<T>> {
    let mut node = root.get_mut()?;
    for &slot in &slots[..depth] {
        node = node.child_mut(slot.into())?;
    }
    Some(node)
}

/// How many nodes on the way `slots`, from the root through `depth`, are shared
/// with a snapshot: all of them from the first that has a second owner.
pub(super) fn shared_nodes<T>(root: &Node<T>, slots: &Slots, depth: usize) -> usize {
    let mut node = root;
    for (at, &slot) in slots[..depth].iter().enumerate() {
        if node.refs() > 1 {
            return depth + 1 - at;
        }
        node = node.child(slot.into());
    }
    usize::from(node.refs() > 1)
}

/// The ways to the first and the last node of a run of nodes of one level.
#[derive(Clone)]
pub(super) struct Region {
    pub(super) lo: Slots,
    pub(super) hi: Slots,
}

/// A neighbour of a region, by what it takes to get there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Neighbour {
    /// The next node, below the same parent as the region's last.
    RightSibling,
    /// The node before, below the same parent as the region's first.
    LeftSibling,
    /// The next node, below another parent.
    RightCousin,
    /// The node before, below another parent.
    LeftCousin,
}

impl Neighbour {
    pub(super) fn is_right(self) -> bool {
        matches!(self, Self::RightSibling | Self::RightCousin)
    }
}

impl Region {
    /// Whether the region is one node at `depth`.
    pub(super) fn is_one_node(&self, depth: usize) -> bool {
        self.lo[..depth] == self.hi[..depth]
    }

    /// Whether the region takes in every node at `depth`.
    pub(super) fn is_whole_level<T>(&self, root: &Node<T>, depth: usize) -> bool {
        let mut node = root;
        for at in 0..depth {
            if self.lo[at] != 0 || usize::from(self.hi[at]) + 1 != node.count() {
                return false;
            }
            node = node.child(self.hi[at].into());
        }
        true
    }

    /// The neighbour at `depth` that costs least to take in: below the same
    /// parent if there is one, else the one after, else the one before.
    pub(super) fn neighbour<T>(&self, root: &Node<T>, depth: usize) -> Option<Neighbour> {
        let parent = depth.checked_sub(1)?;
        if usize::from(self.hi[parent]) + 1 < node_at(root, &self.hi, parent).count() {
            return Some(Neighbour::RightSibling);
        }
        if self.lo[parent] > 0 {
            return Some(Neighbour::LeftSibling);
        }
        if step_right(root, &mut self.hi.clone(), depth) {
            return Some(Neighbour::RightCousin);
        }
        step_left(root, &mut self.lo.clone(), depth).then_some(Neighbour::LeftCousin)
    }

    /// The node at `depth` behind the region, if there is one.
    pub(super) fn next<T>(&self, root: &Node<T>, depth: usize) -> Option<Neighbour> {
        let parent = depth.checked_sub(1)?;
        if usize::from(self.hi[parent]) + 1 < node_at(root, &self.hi, parent).count() {
            return Some(Neighbour::RightSibling);
        }
        step_right(root, &mut self.hi.clone(), depth).then_some(Neighbour::RightCousin)
    }

    /// The sibling at `depth` that a full node can share its load with: the
    /// one before, else the one after, with at most `most` slots in use.
    pub(super) fn roomy_sibling<T>(
        &self,
        root: &Node<T>,
        depth: usize,
        most: usize,
    ) -> Option<Neighbour> {
        let parent = depth.checked_sub(1)?;
        let lo_parent = node_at(root, &self.lo, parent);
        let before = usize::from(self.lo[parent]).checked_sub(1);
        if before.is_some_and(|slot| lo_parent.child(slot).count() <= most) {
            return Some(Neighbour::LeftSibling);
        }
        let hi_parent = node_at(root, &self.hi, parent);
        let after = usize::from(self.hi[parent]) + 1;
        let fits = after < hi_parent.count() && hi_parent.child(after).count() <= most;
        fits.then_some(Neighbour::RightSibling)
    }

    /// Takes `neighbour` in; returns the way to it.
    pub(super) fn extend<T>(
        &mut self,
        root: &Node<T>,
        depth: usize,
        neighbour: Neighbour,
    ) -> Slots {
        let found = if neighbour.is_right() {
            step_right(root, &mut self.hi, depth)
        } else {
            step_left(root, &mut self.lo, depth)
        };
        assert!(found, "the neighbour was there when it was chosen");
        if neighbour.is_right() {
            self.hi
        } else {
            self.lo
        }
    }
}

/// Steps to the next node at `depth`; `false`, and nothing changed, if there is none.
fn step_right<T>(root: &Node<T>, slots: &mut Slots, depth: usize) -> bool {
    for at in (0..depth).rev() {
        if usize::from(slots[at]) + 1 < node_at(root, slots, at).count() {
            slots[at] += 1;
            slots[at + 1..depth].fill(0);
            return true;
        }
    }
    false
}

/// Steps to the node before at `depth`; `false`, and nothing changed, if there is none.
fn step_left<T>(root: &Node<T>, slots: &mut Slots, depth: usize) -> bool {
    let Some(turn) = (0..depth).rev().find(|&at| slots[at] > 0) else {
        return false;
    };
    slots[turn] -= 1;
    let mut node = node_at(root, slots, turn + 1);
    for slot in &mut slots[turn + 1..depth] {
        *slot = (node.count() - 1) as u8;
        node = node.child((*slot).into());
    }
    true
}
