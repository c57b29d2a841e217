//! Lays items out over new nodes, evenly, and measures the gaps below them.

use arrayvec::ArrayVec;

use super::cut::Tally;
use crate::IndexRange;
use crate::node::{BRANCH_SLOTS_MAX, Child, Kind, LEAF_SLOTS, Node};
use crate::pool::Pool;
use crate::source::NodeSource;

/// A write gathers from at most three leaves, cuts one entry in two, and adds one.
pub(crate) const ENTRIES_MAX: usize = 3 * LEAF_SLOTS + 3;
/// One level hands at most this many new nodes to the one above.
///
/// Leaves: both ends of the run keep 14 slots each at most, the write and the
/// pieces it cuts add three, holes two: 33 slots; with a neighbour there are 31
/// at most. Branches: both ends keep one less than they hold, and as many come
/// from below as here; with a neighbour it is less. Either fits into three.
pub(crate) const CARRY_MAX: usize = 3;
/// A write gathers from at most three branches, and adds what was carried.
pub(crate) const CHILDREN_MAX: usize = 3 * BRANCH_SLOTS_MAX + CARRY_MAX;

/// Entries in ascending order.
pub(crate) type Entries<T> = ArrayVec<(IndexRange, T), ENTRIES_MAX>;
/// Children in ascending order, to be put below one parent or several.
pub(crate) type Children<T> = ArrayVec<Child<T>, CHILDREN_MAX>;
/// New nodes for the level above.
pub(crate) type Carry<T> = ArrayVec<Child<T>, CARRY_MAX>;

/// Lays `entries`, which take `slots` slots, out over `pieces` leaves for the
/// indices of `range`. The nodes are reserved.
///
/// A hole between two leaves takes no slot, so a leaf may get one less than
/// its share; none gets more.
pub(crate) fn spread_entries<T, S: NodeSource>(
    pool: &mut Pool<S>,
    entries: &mut Entries<T>,
    (slots, pieces): (usize, usize),
    range: IndexRange,
) -> Carry<T> {
    let mut carry = Carry::new();
    let mut left = slots;
    let mut min = range.first();
    let mut entries = entries.drain(..).peekable();
    for piece in 0..pieces {
        let share = left.div_ceil(pieces - piece);
        let mut link = pool.take::<T>(Kind::Leaf);
        let leaf = link.get_mut().expect("a new node has one link");
        let mut tally = Tally::default();
        while let Some((at, _)) = entries.peek() {
            if tally.slots > 0 && tally.slots + tally.cost(*at) > share {
                break;
            }
            tally.push(*at);
            entries
                .next()
                .into_iter()
                .for_each(|(at, value)| leaf.push_entry(at, value));
        }
        left -= tally.slots;
        if let Some((at, _)) = entries.peek() {
            left -= tally.cost(*at) - 1;
        }
        let last = if piece + 1 == pieces {
            range.last()
        } else {
            leaf.upper()
        };
        let bounds = IndexRange::new(min, last).expect("a leaf's bounds ascend (T3)");
        let gap = leaf_gap(leaf, bounds);
        carry.push(Child { link, last, gap });
        min = last.wrapping_add(1);
    }
    debug_assert_eq!(left, 0);
    carry
}

/// Lays `children` out over `pieces` branches of `kind`. The nodes are reserved.
pub(crate) fn spread_children<T, S: NodeSource>(
    pool: &mut Pool<S>,
    children: Children<T>,
    kind: Kind,
    pieces: usize,
) -> Carry<T> {
    let mut carry = Carry::new();
    let mut left = children.len();
    let mut children = children.into_iter();
    for piece in 0..pieces {
        let share = left.div_ceil(pieces - piece);
        left -= share;
        let mut link = pool.take(kind);
        let branch = link.get_mut().expect("a new node has one link");
        let mut last = 0;
        for child in children.by_ref().take(share) {
            last = child.last;
            branch.push_child(child);
        }
        let gap = branch_gap(branch);
        carry.push(Child { link, last, gap });
    }
    carry
}

/// The longest gap below a branch; 0 where gaps are not kept.
pub(crate) fn branch_gap<T>(branch: &Node<T>) -> u64 {
    if branch.kind() == Kind::Gaps {
        branch.longest_gap()
    } else {
        0
    }
}

/// The longest hole that belongs to a leaf for the indices of `range`: before
/// its first entry, between entries, and behind the last in the right-most leaf.
pub(crate) fn leaf_gap<T>(leaf: &Node<T>, range: IndexRange) -> u64 {
    let edges = (leaf.lower() - range.first()).max(range.last() - leaf.upper());
    let inside = (1..leaf.count()).filter(|&slot| leaf.entry(slot).is_none());
    inside
        .map(|slot| leaf.last(slot) - leaf.last(slot - 1))
        .fold(edges, u64::max)
}
