//! What a write will do, found out without changing anything.

use arrayvec::ArrayVec;

use super::cut::{LeafCut, Tally};
use super::region::{Neighbour, Place, Region, Slots, node_at, shared_nodes};
use super::spread::ENTRIES_MAX;
use crate::IndexRange;
use crate::node::{LEAF_MIN, LEAF_SLOTS, Node};

/// What a write puts into its range.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Puts {
    /// An entry, over whatever is there.
    Entry,
    /// An entry, if nothing is there.
    EntryIfVacant,
    /// Nothing.
    Nothing,
}

/// A write, without the value.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub(crate) range: IndexRange,
    pub(crate) puts: Puts,
}

impl Request {
    /// The range of the entry that is stored, if one is.
    pub(crate) fn stored(self) -> Option<IndexRange> {
        (self.puts != Puts::Nothing).then_some(self.range)
    }
}

/// What a write will do.
pub(crate) enum Plan {
    /// The range was to be vacant, and is not.
    Occupied,
    /// The range is to be emptied, and is empty.
    Nothing,
    /// The tree is empty: its first leaf.
    FirstLeaf,
    /// The entry over exactly this range gets another value.
    ExactFit {
        way: Slots,
        slot: usize,
        nodes: usize,
    },
    /// One leaf changes, and the indices that belong to it do not.
    OneLeaf(OneLeaf),
    /// Leaves are split, merged or dropped, and branches above them perhaps.
    Rebuild { nodes: usize },
}

/// The only leaf that a write changes.
pub(crate) struct OneLeaf {
    pub(super) way: Slots,
    /// The indices that belong to the leaf.
    pub(super) range: IndexRange,
    pub(super) cut: LeafCut,
    nodes: usize,
}

impl Plan {
    /// How many free nodes carrying the plan out takes. Nothing else can fail.
    pub(crate) fn nodes_needed(&self) -> usize {
        match self {
            Self::Occupied | Self::Nothing => 0,
            Self::FirstLeaf => 1,
            Self::ExactFit { nodes, .. }
            | Self::OneLeaf(OneLeaf { nodes, .. })
            | Self::Rebuild { nodes } => *nodes,
        }
    }

    pub(crate) fn new<T>(root: Option<&Node<T>>, height: usize, request: Request) -> Self {
        let Some(root) = root else {
            return if request.stored().is_some() {
                Self::FirstLeaf
            } else {
                Self::Nothing
            };
        };
        let place = Place::of(root, request.range.first());
        let Place {
            way,
            leaf,
            range,
            shared,
        } = place;
        if range.contains(request.range.last()) {
            let cut = LeafCut::new(leaf, request.range);
            let is_vacant = cut.is_vacant(leaf);
            match request.puts {
                Puts::EntryIfVacant if !is_vacant => return Self::Occupied,
                Puts::Nothing if is_vacant => return Self::Nothing,
                Puts::Entry => {
                    if let Some(slot) = cut.exact_fit(leaf, request.range) {
                        return Self::ExactFit {
                            way,
                            slot,
                            nodes: shared,
                        };
                    }
                }
                _ => {}
            }
            let tally = cut.tally(leaf, request.stored());
            let least = if height == 1 { 1 } else { LEAF_MIN };
            let fits = (least..=LEAF_SLOTS).contains(&tally.slots);
            if fits && keeps_bounds(tally, range) {
                return Self::OneLeaf(OneLeaf {
                    way,
                    range,
                    cut,
                    nodes: shared,
                });
            }
        } else if request.puts == Puts::EntryIfVacant {
            // A hole belongs to one leaf.
            return Self::Occupied;
        }
        Self::Rebuild {
            nodes: super::rebuild::nodes_needed(root, height, request),
        }
    }
}

/// Whether the leaf still ends where its indices end, so that the next leaf's
/// first hole is what it was. The right-most leaf may end anywhere.
fn keeps_bounds(tally: Tally, bounds: IndexRange) -> bool {
    bounds.last() == u64::MAX || tally.end == Some(bounds.last())
}

/// A leaf that a rebuild gathers entries from.
pub(super) struct Source {
    pub(super) way: Slots,
    /// A snapshot shares it: its entries are cloned, not moved. Asked once, as
    /// the snapshot may go away meanwhile.
    pub(super) is_shared: bool,
}

/// An entry, or a piece of one, that a rebuild keeps.
#[derive(Clone, Copy)]
pub(super) struct Survivor {
    /// Which of the sources it is in.
    pub(super) source: usize,
    pub(super) slot: usize,
    pub(super) range: IndexRange,
    /// It is the second piece of the entry before it.
    pub(super) is_second_piece: bool,
}

impl Survivor {
    /// Whether it has to be cloned rather than moved.
    pub(super) fn is_cloned(&self, sources: &[Source]) -> bool {
        self.is_second_piece || sources[self.source].is_shared
    }
}

/// The leaf level of a rebuild, in numbers.
pub(super) struct LeafShape {
    /// The leaves in which the range begins and ends.
    ends: Region,
    /// The neighbour that is rebuilt with them, and the way to it.
    pub(super) neighbour: Option<(Neighbour, Slots)>,
    /// The leaves that are replaced: the ends, all between them, the neighbour.
    pub(super) region: Region,
    /// How far below the root the leaves are.
    pub(super) depth: usize,
    /// The slots that what stays and the stored entry take.
    pub(super) slots: usize,
    /// How many leaves they are laid out over.
    pub(super) pieces: usize,
}

impl LeafShape {
    pub(super) fn new<T>(root: &Node<T>, height: usize, request: Request) -> Self {
        let depth = height - 1;
        let first = Place::of(root, request.range.first());
        let last = Place::of(root, request.range.last());
        let ends = Region {
            lo: first.way,
            hi: last.way,
        };
        let mut region = ends.clone();
        let mut tally = Tally::default();
        tally_ends(&mut tally, (first.leaf, last.leaf), request);
        let neighbour = choose_neighbour(root, (&region, depth), (tally, last.range));
        let neighbour = neighbour.map(|side| (side, region.extend(root, depth, side)));
        if let Some((side, way)) = &neighbour {
            let leaf = node_at(root, way, depth);
            if side.is_right() {
                tally.push_slots(leaf, 0, leaf.count());
            } else {
                tally = Tally::default();
                tally.push_slots(leaf, 0, leaf.count());
                tally_ends(&mut tally, (first.leaf, last.leaf), request);
            }
        }
        let slots = tally.slots;
        Self {
            ends,
            neighbour,
            region,
            depth,
            slots,
            pieces: slots.div_ceil(LEAF_SLOTS),
        }
    }
}

/// Counts what stays in the leaves at both ends of the range, and the stored entry.
fn tally_ends<T>(tally: &mut Tally, (first, last): (&Node<T>, &Node<T>), request: Request) {
    let (keep, before) = LeafCut::front(first, request.range.first());
    let (after, tail) = LeafCut::back(last, request.range.last());
    tally.push_slots(first, 0, keep);
    before.iter().for_each(|piece| tally.push(piece.range));
    request.stored().iter().for_each(|&range| tally.push(range));
    after.iter().for_each(|piece| tally.push(piece.range));
    tally.push_slots(last, tail, last.count());
}

/// Which neighbour the region's leaves, of which `tally` stays, are rebuilt
/// with, if any. `last` are the indices that belong to the region's last leaf.
fn choose_neighbour<T>(
    root: &Node<T>,
    (region, depth): (&Region, usize),
    (tally, last): (Tally, IndexRange),
) -> Option<Neighbour> {
    if !keeps_bounds(tally, last) {
        // The next leaf's first hole grows: it is rebuilt too.
        return region.next(root, depth);
    }
    if tally.slots < LEAF_MIN {
        return region.neighbour(root, depth);
    }
    if tally.slots > LEAF_SLOTS && region.is_one_node(depth) {
        // One more for the hole between the two leaves, one to be of use for long.
        let most = (2 * LEAF_SLOTS).checked_sub(tally.slots + 2)?;
        return region.roomy_sibling(root, depth, most);
    }
    None
}

/// The leaf level of a rebuild, entry by entry.
pub(super) struct LeafStep {
    /// The leaves to gather from, in ascending order; all between them goes.
    pub(super) sources: ArrayVec<Source, 3>,
    /// What stays, in ascending order.
    pub(super) survivors: ArrayVec<Survivor, ENTRIES_MAX>,
    /// How many survivors lie below the stored entry.
    pub(super) below: usize,
    pub(super) shape: LeafShape,
}

impl LeafStep {
    pub(super) fn new<T>(root: &Node<T>, height: usize, request: Request) -> Self {
        let shape = LeafShape::new(root, height, request);
        let (neighbour, ends) = (shape.neighbour, shape.ends.clone());
        let (sources, survivors) = (ArrayVec::new(), ArrayVec::new());
        let mut step = Self {
            sources,
            survivors,
            below: 0,
            shape,
        };
        if let Some((_, way)) = neighbour.filter(|(side, _)| !side.is_right()) {
            step.take_all(root, way);
        }
        step.take_ends(root, &ends, request);
        if let Some((_, way)) = neighbour.filter(|(side, _)| side.is_right()) {
            step.take_all(root, way);
        }
        step
    }

    /// Keeps what the leaves at both ends hold outside of the range.
    fn take_ends<T>(&mut self, root: &Node<T>, ends: &Region, request: Request) {
        let leaf = self.add_source(root, ends.lo);
        let (keep, before) = LeafCut::front(leaf, request.range.first());
        self.take_slots(leaf, 0, keep);
        before
            .iter()
            .for_each(|piece| self.take(piece.slot, piece.range, false));
        self.below = self.survivors.len();
        let is_one = ends.is_one_node(self.shape.depth);
        let leaf = if is_one {
            leaf
        } else {
            self.add_source(root, ends.hi)
        };
        let cut_before = before.filter(|_| is_one).map(|piece| piece.slot);
        let (after, tail) = LeafCut::back(leaf, request.range.last());
        after.iter().for_each(|piece| {
            self.take(piece.slot, piece.range, cut_before == Some(piece.slot));
        });
        self.take_slots(leaf, tail, leaf.count());
    }

    fn take_all<T>(&mut self, root: &Node<T>, way: Slots) {
        let leaf = self.add_source(root, way);
        self.take_slots(leaf, 0, leaf.count());
    }

    fn add_source<'a, T>(&mut self, root: &'a Node<T>, way: Slots) -> &'a Node<T> {
        let is_shared = shared_nodes(root, &way, self.shape.depth) > 0;
        self.sources.push(Source { way, is_shared });
        node_at(root, &way, self.shape.depth)
    }

    fn take_slots<T>(&mut self, leaf: &Node<T>, from: usize, to: usize) {
        for slot in (from..to).filter(|&slot| leaf.entry(slot).is_some()) {
            self.take(slot, leaf.slot_range(slot), false);
        }
    }

    fn take(&mut self, slot: usize, range: IndexRange, is_second_piece: bool) {
        let source = self.sources.len() - 1;
        self.survivors.push(Survivor {
            source,
            slot,
            range,
            is_second_piece,
        });
    }
}
