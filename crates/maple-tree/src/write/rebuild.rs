//! The copy engine: replaces a run of leaves, and the branches above it as far
//! as they change, by new nodes.
//!
//! Each level reads what stays from the old nodes and lays it out over new
//! ones, which are carried to the level above. It ends where what is carried
//! fits into one branch, or in a new root. The last index of the run never
//! changes, so no pivot above it does, and no gap beside it.
//!
//! The old nodes are not touched: they are what lock-free readers look at until
//! the new ones are put in their place, in one step. What the old nodes held has
//! two copies then, and the [records](Gone) of them say which slots own it still.
#![expect(
    unsafe_code,
    reason = "moves what slots hold from old nodes to new ones"
)]

use core::ops::Range;

use arrayvec::ArrayVec;

use super::cut::LeafCut;
use super::edit::Edit;
use super::frontier::Frontier;
use super::gaps::{branch_gap, leaf_gap};
use super::plan::Request;
use super::shape::{Fill, Level, Shape, Top};
use super::way::{Side, Way};
use crate::IndexRange;
use crate::clone_fn::CloneFn;
use crate::node::{
    BRANCH_SLOTS_MAX, BranchRun, Child, Gone, HEIGHT_MAX, Held, Kept, Kind, LEAF_SLOTS, LeafRun,
    Link, Shares,
};
use crate::paths::{Path as Reached, reached};
use crate::pool::Pool;
use crate::source::NodeSource;

/// One level hands at most this many new nodes to the one above.
///
/// Leaves: nothing goes into one leaf of each kind more than what both ends of the
/// run keep, pieces of cut entries included, the stored entry, and two holes beside
/// it. Two dense ends: 15 slots each, 33 in all. Two sparse ones: 10 entries each,
/// 21 in all. One of each: sparse leaves hold the other 10 entries with 9 holes
/// between them, 37 slots in all. Three leaves of one kind have 45 slots, or take 30
/// entries (small nodes: 5 + 5 + 3 slots, 4 + 4 + 1 entries, 5 + 7 + 3 slots; 15
/// and 12). A neighbour is taken in where three entries are kept at most, or one end
/// keeps nothing, so it counts as an end. Branches: both ends keep one less than they hold,
/// and as many come from below as here; with a neighbour it is less. Either fits into
/// three.
pub(crate) const CARRY_MAX: usize = 3;

/// New nodes for the level above.
pub(super) type Carry<T> = ArrayVec<Child<T>, CARRY_MAX>;
/// What a rebuild cuts out: nodes of every level, and what one branch drops.
pub(super) type Cut<T> = ArrayVec<Gone<T>, { 4 * HEIGHT_MAX + BRANCH_SLOTS_MAX }>;
/// The entries that a rebuild cannot move, cloned.
pub(super) type Clones<T> = ArrayVec<T, { 3 * LEAF_SLOTS + 1 }>;

/// Part of what the leaves of a rebuild keep.
enum Part<'w, 'a, T> {
    /// Whole slots, the first and last of which are entries.
    Slots(&'w Way<'a, T>, Range<usize>),
    /// What is left of the entry in a slot.
    Piece(&'w Way<'a, T>, usize, IndexRange),
    /// The second piece of an entry that is cut in two.
    SecondPiece(&'w Way<'a, T>, usize, IndexRange),
    /// Here the stored entry comes.
    Stored,
}

/// Calls `visit` with what the leaves keep, in ascending order.
fn for_each_part<'a, T>(
    frontier: &Frontier<'a, T>,
    (request, level): (Request, Level),
    mut visit: impl FnMut(Part<'_, 'a, T>),
) {
    let replaced = frontier.replaced();
    let whole = |way: &Way<'a, T>| 0..way.node().count();
    let ends = match level.neighbour {
        None => replaced,
        Some(Side::Left) => &replaced[1..],
        Some(Side::Right) => &replaced[..replaced.len() - 1],
    };
    let (lo, hi) = (&ends[0], &ends[ends.len() - 1]);
    if level.neighbour == Some(Side::Left) {
        visit(Part::Slots(frontier.first(), whole(frontier.first())));
    }
    let (keep, before) = LeafCut::front(lo.node(), request.range.first());
    let (after, tail) = LeafCut::back(hi.node(), request.range.last());
    visit(Part::Slots(lo, 0..keep));
    if let Some(piece) = before {
        visit(Part::Piece(lo, piece.slot, piece.range));
    }
    visit(Part::Stored);
    if let Some(piece) = after {
        let is_second = ends.len() == 1 && before.is_some_and(|it| it.slot == piece.slot);
        visit(if is_second {
            Part::SecondPiece(hi, piece.slot, piece.range)
        } else {
            Part::Piece(hi, piece.slot, piece.range)
        });
    }
    visit(Part::Slots(hi, tail..hi.node().count()));
    if level.neighbour == Some(Side::Right) {
        visit(Part::Slots(frontier.last(), whole(frontier.last())));
    }
}

/// The entries that are cloned: those of leaves that other trees share, and the
/// second pieces of those that are cut in two. That runs code that may panic,
/// so it comes before anything changes.
pub(super) fn clone_survivors<T>(
    frontier: &Frontier<'_, T>,
    (request, level): (Request, Level),
    mut clone: impl FnMut(&T),
) {
    for_each_part(frontier, (request, level), |part| match part {
        Part::Slots(way, slots) if way.is_shared() => {
            let entries = slots.filter_map(|slot| way.node().entry(slot));
            entries.for_each(&mut clone);
        }
        Part::Piece(way, slot, _) if way.is_shared() => {
            way.node().entry(slot).into_iter().for_each(&mut clone);
        }
        Part::SecondPiece(way, slot, _) => {
            way.node().entry(slot).into_iter().for_each(&mut clone);
        }
        _ => {}
    });
}

/// What a rebuild makes.
pub(super) struct Rebuilt<T> {
    /// What is put in the place of the node at `Shape::end`, or is the root; none
    /// where the branch at the end is filled anew in place.
    pub(super) link: Option<Link<T>>,
    pub(super) gap: u64,
    /// The height of the tree, if the rebuild goes up to the root.
    pub(super) height: Option<usize>,
}

impl<T, S: NodeSource> Edit<'_, '_, T, S> {
    /// Builds what `shape` says, without touching the tree. Where the branch at the
    /// end is filled anew in place, `run` is what with.
    pub(super) fn build(
        &mut self,
        shape: &Shape,
        stored: Option<T>,
        (run, cut): (&mut BranchRun<T>, &mut Cut<T>),
    ) -> Rebuilt<T> {
        let parts = (self.request, shape.leaves);
        let mut frontier = Frontier::leaves(&self.path, self.request.range.last());
        if let Some(side) = shape.leaves.neighbour {
            frontier.take_in(side);
        }
        let mut clones = Clones::new();
        let clone = |value: &T| self.cut.or(self.clone_fn.get()).expect(CLONES)(value);
        clone_survivors(&frontier, parts, |value| clones.push(clone(value)));
        note_leaf_level(&frontier, shape.leaves);
        let mut builder = LevelBuilder {
            pool: self.pool,
            kind: self.branches,
            run,
            cut,
        };
        let mut leaves = LeafRun::new();
        gather_leaves(&frontier, parts, (&mut leaves, &mut clones, stored));
        let min = frontier.first().range().first();
        let range = IndexRange::ascending(min, frontier.last().range().last());
        let mut carry = builder.lay_leaves(&mut leaves, shape, range);
        builder.cut_leaves(&frontier, parts, self.is_taken);
        for level in &shape.branches {
            carry = builder.lay_branches(&mut frontier, *level, carry);
        }
        match shape.top {
            Top::Root => builder.finish_root(&mut frontier, carry, shape),
            Top::Branch => {
                builder.finish_branch(&mut frontier, carry, self.path.is_alone(shape.end))
            }
        }
    }
}

/// Why there is a function to clone with.
pub(super) const CLONES: &str = "only `T: Clone` shares nodes or cuts entries";
const ASCEND: &str = "a node's bounds ascend (T3)";

/// Reads what stays of the leaves, with the stored entry in its place.
fn gather_leaves<T>(
    frontier: &Frontier<'_, T>,
    (request, level): (Request, Level),
    (run, clones, mut stored): (&mut LeafRun<T>, &mut Clones<T>, Option<T>),
) {
    let mut clones = clones.drain(..).map(Held::new);
    for_each_part(frontier, (request, level), |part| match part {
        Part::Slots(way, slots) if way.is_shared() => {
            for slot in slots.filter(|&slot| way.node().entry(slot).is_some()) {
                let clone = clones.next().expect("each was cloned");
                run.push(way.node().slot_range(slot), clone);
            }
        }
        // SAFETY: the leaf is in this tree only, and is replaced: `cut_leaves` keeps
        // nothing of these slots.
        Part::Slots(way, slots) => unsafe { run.push_slots(way.node(), slots) },
        Part::Piece(way, _, range) if way.is_shared() => {
            run.push(range, clones.next().expect("each was cloned"));
        }
        Part::SecondPiece(_, _, range) => run.push(range, clones.next().expect("it was cloned")),
        Part::Piece(way, slot, range) => {
            // SAFETY: as for whole slots.
            let held = unsafe { way.node().hold(slot) };
            run.push(range, held);
        }
        Part::Stored => {
            if let Some(value) = stored.take() {
                run.push(request.range, Held::new(value));
            }
        }
    });
}

struct LevelBuilder<'p, T, S: NodeSource> {
    pool: &'p mut Pool<S>,
    /// The kind of the tree's branches.
    kind: Kind,
    run: &'p mut BranchRun<T>,
    cut: &'p mut Cut<T>,
}

impl<T, S: NodeSource> LevelBuilder<'_, T, S> {
    /// Lays the entries of `run` out over new leaves for the indices of `range`.
    fn lay_leaves(&mut self, run: &mut LeafRun<T>, shape: &Shape, range: IndexRange) -> Carry<T> {
        let mut carry = Carry::new();
        let (pieces, mut min) = (shape.leaves.pieces(), range.first());
        let mut shares = Shares::evenly(pieces, shape.slots);
        let mut before = Kind::Dense;
        for piece in 1..=pieces {
            let (end, kind) = match shape.leaves.fill {
                Fill::Even => run.next_share(&mut shares),
                Fill::Packed => run.next_full(before),
            };
            let mut leaf = self.pool.take(kind);
            run.fill(&mut leaf, end);
            let last = if piece == pieces {
                range.last()
            } else {
                leaf.upper()
            };
            let gap = if self.kind == Kind::Gaps {
                leaf_gap(&leaf, IndexRange::new(min, last).expect(ASCEND))
            } else {
                0
            };
            carry.push(Child {
                link: leaf.into_link(),
                last,
                gap,
            });
            (before, min) = (kind, last.wrapping_add(1));
        }
        carry
    }

    /// Notes the leaves that are replaced. If `is_taken`, the only entry that goes
    /// has been taken by the caller.
    fn cut_leaves(
        &mut self,
        frontier: &Frontier<'_, T>,
        (request, level): (Request, Level),
        is_taken: bool,
    ) {
        let count = frontier.replaced().len();
        let skip_left = usize::from(level.neighbour == Some(Side::Left));
        let skip_right = usize::from(level.neighbour == Some(Side::Right));
        let ends = skip_left..count - skip_right;
        for (at, way) in frontier.replaced().iter().enumerate() {
            let leaf = way.node();
            let (mut from, mut to) = (0, 0);
            if ends.contains(&at) && !is_taken {
                to = leaf.count();
                if at == ends.start {
                    let (keep, before) = LeafCut::front(leaf, request.range.first());
                    from = before.map_or(keep, |piece| piece.slot + 1);
                }
                if at + 1 == ends.end {
                    let (after, tail) = LeafCut::back(leaf, request.range.last());
                    to = after.map_or(tail, |piece| piece.slot);
                }
            }
            self.cut_out(way, Kept::slots(from..to.max(from)));
        }
    }

    /// Notes that the node at the end of `way` is replaced, but for `kept`.
    fn cut_out(&mut self, way: &Way<'_, T>, kept: Kept) {
        if !way.is_shared() {
            // SAFETY: the node is in this tree only. What its slots outside of `kept`
            // hold was read into new nodes, or has records of its own.
            self.cut
                .push(unsafe { Gone::replaced(way.node_ref(), kept) });
        } else if way.is_edge_of_shared() {
            // SAFETY: the parent is in this tree only and is replaced, or given another
            // child in this one's place: the link in its slot is given up.
            self.cut.push(unsafe { Gone::unlinked(way.node_ref()) });
        }
    }

    /// Lays the parents of the level below out anew, with `carry` below them.
    fn lay_branches(
        &mut self,
        frontier: &mut Frontier<'_, T>,
        level: Level,
        carry: Carry<T>,
    ) -> Carry<T> {
        let below = frontier.up();
        let (first, last) = (frontier.first().clone(), frontier.last().clone());
        note_branch_level(frontier, level);
        if let Some(side) = level.neighbour {
            frontier.take_in(side);
        }
        self.run.clear();
        if level.neighbour == Some(Side::Left) {
            let way = frontier.first();
            gather_branch(self.run, way, 0..way.node().count());
        }
        gather_branch(self.run, &first, 0..below.first);
        carry.into_iter().for_each(|child| self.run.push(child));
        let after = below.last + 1;
        gather_branch(self.run, &last, after..last.node().count());
        if level.neighbour == Some(Side::Right) {
            let way = frontier.last();
            gather_branch(self.run, way, 0..way.node().count());
        }
        for way in frontier.replaced() {
            self.cut_out(way, frontier.kept(way));
        }
        self.spread(level)
    }

    /// Lays the children of the run out over new branches.
    fn spread(&mut self, level: Level) -> Carry<T> {
        let mut carry = Carry::new();
        let mut from = 0;
        for piece in 0..level.pieces() {
            let (left, slots) = (level.pieces() - piece, self.kind.slots());
            let end = from + share(self.run.len() - from, left, (level.fill, slots));
            let last = self.run.last(end - 1).expect("a piece is not empty");
            let mut branch = self.pool.take(self.kind);
            branch.refill(self.run, from..end);
            let gap = branch_gap(&branch);
            carry.push(Child {
                link: branch.into_link(),
                last,
                gap,
            });
            from = end;
        }
        carry
    }

    /// Puts `carry` below the one branch that takes it in: in place, or in a copy.
    fn finish_branch(
        mut self,
        frontier: &mut Frontier<'_, T>,
        carry: Carry<T>,
        in_place: bool,
    ) -> Rebuilt<T> {
        reached(Reached::Converges);
        let below = frontier.up();
        let way = frontier.first();
        self.run.clear();
        gather_branch(self.run, way, 0..below.first);
        carry.into_iter().for_each(|child| self.run.push(child));
        gather_branch(self.run, way, below.last + 1..way.node().count());
        let (mut link, mut gap) = (None, 0);
        if in_place {
            for slot in frontier.dropped(way) {
                // SAFETY: the branch is filled anew without the slot.
                self.cut
                    .push(unsafe { Gone::unlinked(way.node_ref().child(slot)) });
            }
        } else {
            if !way.is_shared() {
                // The link to one that is shared is given up when this is attached.
                self.cut_out(way, frontier.kept(way));
            }
            let mut branch = self.pool.take(self.kind);
            let count = self.run.len();
            branch.refill(self.run, 0..count);
            gap = branch_gap(&branch);
            link = Some(branch.into_link());
        }
        Rebuilt {
            link,
            gap,
            height: None,
        }
    }

    /// Makes `carry`, nodes of the top level, the tree.
    fn finish_root(
        mut self,
        frontier: &mut Frontier<'_, T>,
        mut carry: Carry<T>,
        shape: &Shape,
    ) -> Rebuilt<T> {
        let mut height = shape.branches.len() + 1;
        while frontier.first().depth > 0 {
            reached(Reached::RootShrinks);
            frontier.up();
            for way in frontier.replaced() {
                self.cut_out(way, frontier.kept(way));
            }
        }
        if carry.len() > 1 {
            reached(Reached::RootGrows);
            let mut root = self.pool.take(self.kind);
            carry.into_iter().for_each(|child| root.push_child(child));
            carry = Carry::new();
            carry.push(Child {
                link: root.into_link(),
                last: u64::MAX,
                gap: 0,
            });
            height += 1;
        }
        let link = carry.pop().map(|child| child.link);
        if link.is_none() {
            reached(Reached::Emptied);
            height = 0;
        }
        Rebuilt {
            link,
            gap: 0,
            height: Some(height),
        }
    }
}

/// Reads the children that stay of the branch at the end of `way`, or counts
/// another link to each where other trees share it.
fn gather_branch<T>(run: &mut BranchRun<T>, way: &Way<'_, T>, slots: Range<usize>) {
    let max = way.range().last();
    if way.is_shared() {
        run.share_slots(way.node(), slots, max);
    } else {
        // SAFETY: the branch is in this tree only, and is replaced: its record keeps
        // nothing of these slots.
        unsafe { run.push_slots(way.node(), slots, max) };
    }
}

/// How many of `left` slots the next of `pieces` nodes gets.
fn share(left: usize, pieces: usize, (fill, slots): (Fill, usize)) -> usize {
    match fill {
        Fill::Even => left.div_ceil(pieces),
        Fill::Packed => left.min(slots),
    }
}

/// A copy of the branch at `depth` on the way of `edit`'s path, which other
/// trees share, with `new` in the place of the child on the way.
pub(super) fn copy_branch<T, S: NodeSource>(
    way: &Way<'_, T>,
    pool: &mut Pool<S>,
    (new, gap): (Link<T>, u64),
) -> Child<T> {
    let (node, slot) = (way.node(), way.slot(way.depth));
    let mut run = BranchRun::new();
    run.share_slots(node, 0..slot, u64::MAX);
    run.push(Child {
        link: new,
        last: node.pivot_or(slot, u64::MAX),
        gap,
    });
    run.share_slots(node, slot + 1..node.count(), u64::MAX);
    let mut branch = pool.take(node.kind());
    let count = run.len();
    branch.refill(&mut run, 0..count);
    let gap = branch_gap(&branch);
    Child {
        link: branch.into_link(),
        last: u64::MAX,
        gap,
    }
}

/// A copy of a leaf that other trees share, every entry cloned.
pub(super) fn clone_entries<T>(
    node: &crate::node::Node<T>,
    clone_fn: &CloneFn<T>,
) -> ArrayVec<(IndexRange, T), LEAF_SLOTS> {
    let clone = clone_fn.get().expect(CLONES);
    (0..node.count())
        .filter_map(|slot| Some((node.slot_range(slot), clone(node.entry(slot)?))))
        .collect()
}

fn note_leaf_level<T>(frontier: &Frontier<'_, T>, level: Level) {
    let ends = frontier.replaced().len() - usize::from(level.neighbour.is_some());
    reached(match (ends, neighbour(frontier, level), level.pieces) {
        (_, Some((Side::Right, true)), _) => Reached::LeafWithRightSibling,
        (_, Some((Side::Left, true)), _) => Reached::LeafWithLeftSibling,
        (_, Some((Side::Right, false)), _) => Reached::LeafWithRightCousin,
        (_, Some((Side::Left, false)), _) => Reached::LeafWithLeftCousin,
        (1, None, 0 | 1) => Reached::LeafRewritten,
        (1, None, _) => Reached::LeafSplit,
        (_, None, 0 | 1) => Reached::LeavesJoined,
        (_, None, _) => Reached::LeavesSpanned,
    });
}

/// The neighbour that was taken in, and whether it is below the same parent.
fn neighbour<T>(frontier: &Frontier<'_, T>, level: Level) -> Option<(Side, bool)> {
    level.neighbour.map(|side| {
        let (way, back) = match side {
            Side::Left => (frontier.first(), Side::Right),
            Side::Right => (frontier.last(), Side::Left),
        };
        (side, way.has_sibling(back))
    })
}

/// `frontier` has not taken the neighbour in yet.
fn note_branch_level<T>(frontier: &Frontier<'_, T>, level: Level) {
    let sibling = level.neighbour.map(|side| {
        let way = match side {
            Side::Left => frontier.first(),
            Side::Right => frontier.last(),
        };
        (side, way.has_sibling(side))
    });
    reached(match (sibling, level.pieces) {
        (Some((Side::Right, true)), _) => Reached::BranchWithRightSibling,
        // The last branch of a level is never too small, so one that is has a next.
        (Some((Side::Left, _)), _) => Reached::BranchWithLeftSibling,
        (Some((Side::Right, false)), _) => Reached::BranchWithRightCousin,
        (None, 0 | 1) => Reached::BranchesJoined,
        (None, _) if frontier.is_one() => Reached::BranchSplit,
        (None, _) => Reached::BranchesSpanned,
    });
}
