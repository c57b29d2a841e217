//! How a rebuild lays the levels of a tree out anew: numbers only.

use arrayvec::ArrayVec;

use super::cut::{LeafCut, Tally};
use super::frontier::{Below, Frontier};
use super::plan::Request;
use super::way::Side;
use crate::node::{HEIGHT_MAX, LEAF_ENTRIES_MIN, Node, Path, leaves_for};

/// One level of a rebuild.
#[derive(Clone, Copy)]
pub(super) struct Level {
    /// The neighbour that is laid out anew with what is replaced.
    pub(super) neighbour: Option<Side>,
    /// How many new nodes there are.
    pub(super) pieces: u8,
    /// Whether all but the last are filled up: the level grows at its end.
    pub(super) fill: Fill,
}

impl Level {
    /// How many new nodes there are.
    pub(super) fn pieces(self) -> usize {
        self.pieces.into()
    }
}

/// How slots are laid out over several nodes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fill {
    /// Evenly.
    Even,
    /// All that fits into the first.
    Packed,
}

/// What a rebuild does above the levels that are laid out anew.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Top {
    /// The branch at this depth takes the new nodes in.
    Branch,
    /// The new nodes, which may be none, become the root, or get one above them.
    Root,
}

/// A rebuild, in numbers.
pub(super) struct Shape {
    pub(super) leaves: Level,
    /// How many slots dense leaves would use for the entries, in one long one.
    pub(super) slots: usize,
    /// The branches that are laid out anew, from the bottom up.
    pub(super) branches: ArrayVec<Level, HEIGHT_MAX>,
    pub(super) top: Top,
    /// The depth at which the rebuild ends.
    pub(super) end: usize,
    pub(super) nodes: usize,
    /// The most records of what is cut out.
    pub(super) records: usize,
}

impl Shape {
    pub(super) fn new<T>(path: &Path<'_, '_, T>, request: Request) -> Self {
        let mut frontier = Frontier::leaves(path, request.range.last());
        let (leaves, slots) = leaf_level(&mut frontier, request);
        let mut shape = Self {
            leaves,
            slots,
            branches: ArrayVec::new(),
            top: Top::Root,
            end: 0,
            nodes: leaves.pieces(),
            records: frontier.replaced().len(),
        };
        let mut carried = leaves.pieces();
        for depth in (0..path.depth).rev() {
            if carried <= 1 && frontier.is_whole_level() {
                break;
            }
            let below = frontier.up();
            shape.records += frontier.replaced().len();
            let level = branch_level(&mut frontier, below, carried);
            let Some(level) = level else {
                shape.top = Top::Branch;
                shape.end = depth;
                // A copy where readers or other trees look at it.
                shape.nodes += 1;
                return shape;
            };
            shape.records += level.neighbour.iter().len();
            shape.nodes += level.pieces();
            carried = level.pieces();
            shape.branches.push(level);
        }
        shape.nodes += usize::from(carried > 1);
        // Whatever is above goes.
        while frontier.first().depth > 0 {
            frontier.up();
            shape.records += frontier.replaced().len();
        }
        shape
    }
}

/// Lays the leaves out, which use so many slots; the frontier grows by the neighbour.
fn leaf_level<T>(frontier: &mut Frontier<'_, T>, request: Request) -> (Level, usize) {
    let (first, last) = (frontier.first().node(), frontier.last().node());
    let (keep, before) = LeafCut::front(first, request.range.first());
    let (after, tail) = LeafCut::back(last, request.range.last());
    let mut tally = Tally::default();
    tally.push_slots(first, 0..keep);
    before.iter().for_each(|piece| tally.push(piece.range));
    request.stored().iter().for_each(|&range| tally.push(range));
    after.iter().for_each(|piece| tally.push(piece.range));
    tally.push_slots(last, tail..last.count());
    let (neighbour, fill) = leaf_neighbour(frontier, tally);
    if let Some(side) = neighbour {
        frontier.take_in(side);
        let (leaf, mut all) = match side {
            Side::Left => (frontier.first().node(), Tally::default()),
            Side::Right => (frontier.last().node(), tally),
        };
        all.push_slots(leaf, 0..leaf.count());
        if side == Side::Left && tally.entries > 0 {
            all.append(tally);
        }
        tally = all;
    }
    let level = Level {
        neighbour,
        pieces: tally.leaves() as u8,
        fill,
    };
    (level, tally.slots)
}

/// Which neighbour the leaves, of which `tally` stays, are laid out with, if any.
fn leaf_neighbour<T>(frontier: &Frontier<'_, T>, tally: Tally) -> (Option<Side>, Fill) {
    let is_right_edge = frontier.last().is_right_edge();
    if is_right_edge {
        if tally.entries == 0 {
            return (frontier.nearest(), Fill::Even);
        }
        if tally.leaves() == 1 {
            return (None, Fill::Even);
        }
    } else {
        let end = frontier.last().range().last();
        if tally.end() != Some(end) {
            // The next leaf's first hole grows: it is rebuilt too.
            return (Some(Side::Right), Fill::Even);
        }
        if tally.entries < LEAF_ENTRIES_MIN {
            return (frontier.nearest(), Fill::Even);
        }
    }
    if tally.leaves() == 1 || !frontier.is_one() {
        return (None, Fill::Even);
    }
    let leaf = frontier.last().node();
    if is_right_edge && tally.end() > Some(leaf.upper()) {
        return (None, Fill::Packed);
    }
    let is_roomy = |leaf: &Node<T>| {
        // One slot more for the hole between the two leaves, one to be of use for long.
        let slots = tally.slots + leaf.dense_slots(0..leaf.count()) + 2;
        leaves_for(tally.entries + leaf.entries_in(0..leaf.count()) + 1, slots) <= 2
    };
    (frontier.roomy_sibling(is_roomy), Fill::Even)
}

/// Lays the branches out; the frontier grows by the neighbour. `None` if they
/// are one branch that takes `carried` children in.
fn branch_level<T>(frontier: &mut Frontier<'_, T>, below: Below, carried: usize) -> Option<Level> {
    let (first, last) = (frontier.first(), frontier.last());
    let kind = first.node().kind();
    let after = last.node().count() - below.last - 1;
    let children = below.first + carried + after;
    let is_right_edge = last.is_right_edge();
    let least = if is_right_edge { 1 } else { kind.min() };
    let slots = kind.slots();
    let is_one = frontier.is_one();
    if is_one && (least..=slots).contains(&children) {
        return None;
    }
    let mut fill = Fill::Even;
    let neighbour = if children < least {
        frontier.nearest()
    } else if children > slots && is_one {
        if is_right_edge && after == 0 {
            fill = Fill::Packed;
            None
        } else {
            let most = (2 * slots).checked_sub(children + 1);
            most.and_then(|most| frontier.roomy_sibling(|node| node.count() <= most))
        }
    } else {
        None
    };
    let mut all = children;
    if let Some(side) = neighbour {
        frontier.take_in(side);
        let added = match side {
            Side::Left => frontier.first(),
            Side::Right => frontier.last(),
        };
        all += added.node().count();
    }
    Some(Level {
        neighbour,
        pieces: all.div_ceil(slots) as u8,
        fill,
    })
}
