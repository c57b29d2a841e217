//! The longest gap below a node, and telling the branches above of it.

use crate::IndexRange;
use crate::node::{Node, Path};

/// The longest gap below a branch; 0 where gaps are not kept.
pub(crate) fn branch_gap<T>(branch: &Node<T>) -> u64 {
    branch.longest_gap()
}

/// The longest hole that belongs to a leaf for the indices of `range`: before
/// its first entry, between entries, and behind the last in the right-most leaf.
pub(crate) fn leaf_gap<T>(leaf: &Node<T>, range: IndexRange) -> u64 {
    let edges = (leaf.lower() - range.first()).max(range.last() - leaf.upper());
    edges.max(leaf.longest_hole())
}

/// Tells the branches above the node at `depth` on `path` that its longest gap
/// is `gap`. They are in this tree only.
pub(super) fn raise_gap<T>(path: &mut Path<'_, '_, T>, depth: usize, mut gap: u64) {
    for at in (0..depth).rev() {
        let slot = path.slot(at);
        let before = path.node(at).gap(slot);
        if before == gap {
            return;
        }
        path.set_gap(at, slot, gap);
        let Some(above) = at.checked_sub(1) else {
            return;
        };
        let kept = path.node(above).gap(path.slot(above));
        if before < kept && gap <= kept {
            // Another child's is the longest, as it was.
            return;
        }
        gap = if gap >= kept {
            gap
        } else {
            path.node(at).longest_gap()
        };
    }
}
