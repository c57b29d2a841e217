//! The copy engine: replaces a run of leaves, and the branches above it as far
//! as they change, by new nodes.
//!
//! Each level gathers what stays from at most three old nodes (both ends of the
//! run, and one neighbour where too little is left) and lays it out over new
//! nodes, which are carried to the level above. It ends where what is carried
//! fits into one branch ("converges"), or in a new root. The last index of the
//! run never changes, so no pivot above it does, and no gap beside it.
//!
//! Until the end the old nodes stay where they are, emptied of what was moved;
//! then they are cut out in one piece. [`nodes_needed`] runs the same decisions
//! without the nodes.

use core::ops::Range;

use arrayvec::ArrayVec;

use super::plan::{LeafShape, LeafStep, Request, Survivor};
use super::region::{Neighbour, Region, Slots, node_at, node_mut, range_at, shared_nodes};
use super::spread::{Carry, Children, ENTRIES_MAX, Entries, spread_children, spread_entries};
use super::{refresh_gaps, unshare};
use crate::node::{BRANCH_SLOTS_MAX, Child, Kind, Link, Node};
use crate::paths::{Path, reached};
use crate::source::NodeSource;
use crate::{Entry, IndexRange, MapleTree};

/// Subtrees that were cut out of the tree.
pub(super) type Removed<T> = ArrayVec<Link<T>, BRANCH_SLOTS_MAX>;

type Clones<T> = ArrayVec<T, ENTRIES_MAX>;

/// What a rebuild keeps, with the clones it needs.
pub(super) struct Survey<T> {
    leaves: LeafStep,
    clones: Clones<T>,
}

/// What one branch level of a rebuild does.
enum BranchStep {
    /// The branch at this level takes the new children in.
    Converge,
    /// The branches at this level are laid out anew, with a neighbour perhaps.
    Build {
        neighbour: Option<Neighbour>,
        pieces: usize,
    },
}

impl BranchStep {
    /// Decides for the branches at `depth`, below which `carried` nodes are new.
    fn new<T>(root: &Node<T>, region: &Region, depth: usize, carried: usize) -> Self {
        let (lo, hi) = (
            node_at(root, &region.lo, depth),
            node_at(root, &region.hi, depth),
        );
        let after = hi.count() - usize::from(region.hi[depth]) - 1;
        let children = usize::from(region.lo[depth]) + carried + after;
        let (slots, min) = (lo.kind().slots(), lo.kind().min());
        let is_one = region.is_one_node(depth);
        let least = if depth == 0 { 2 } else { min };
        if is_one && (least..=slots).contains(&children) {
            return Self::Converge;
        }
        let neighbour = if children < min {
            region.neighbour(root, depth)
        } else if children > slots && is_one {
            let most = (2 * slots).checked_sub(children + 1);
            most.and_then(|most| region.roomy_sibling(root, depth, most))
        } else {
            None
        };
        let more = neighbour.map_or(0, |side| {
            let way = region.clone().extend(root, depth, side);
            node_at(root, &way, depth).count()
        });
        Self::Build {
            neighbour,
            pieces: (children + more).div_ceil(slots),
        }
    }
}

/// How many free nodes [`MapleTree::rebuild`] takes.
pub(super) fn nodes_needed<T>(root: &Node<T>, height: usize, request: Request) -> usize {
    let leaves = LeafShape::new(root, height, request);
    let (mut region, mut carried) = (leaves.region, leaves.pieces);
    let mut nodes = carried;
    for depth in (0..height - 1).rev() {
        if carried <= 1 && region.is_whole_level(root, depth + 1) {
            return nodes;
        }
        match BranchStep::new(root, &region, depth, carried) {
            BranchStep::Converge => return nodes + shared_nodes(root, &region.lo, depth),
            BranchStep::Build { neighbour, pieces } => {
                neighbour.map(|side| region.extend(root, depth, side));
                nodes += pieces;
                carried = pieces;
            }
        }
    }
    nodes + usize::from(carried > 1)
}

impl<T: Entry, S: NodeSource> MapleTree<T, S> {
    /// Finds out what a rebuild keeps, and clones what cannot be moved. That
    /// runs code that may panic, so it comes before anything changes.
    pub(super) fn survey(&self, request: Request, cut: Option<fn(&T) -> T>) -> Survey<T> {
        let root = self.root().expect("the plan saw a root");
        let leaves = LeafStep::new(root, self.height, request);
        let clones = self.clone_survivors(root, &leaves, cut);
        Survey { leaves, clones }
    }

    /// Carries a [`Plan::Rebuild`](super::plan::Plan::Rebuild) out. Returns what
    /// was cut out of the tree, to be released now that the tree is whole again.
    pub(super) fn rebuild(
        &mut self,
        survey: &mut Survey<T>,
        stored: Option<(IndexRange, T)>,
    ) -> Removed<T> {
        let Survey { leaves, clones } = survey;
        note_leaf_level(leaves);
        let mut root = self.root.take().expect("the plan saw a root");
        let min = range_at(root.node(), &leaves.shape.region.lo, leaves.shape.depth).first();
        let max = range_at(root.node(), &leaves.shape.region.hi, leaves.shape.depth).last();
        let mut entries = Entries::new();
        gather_entries(&mut root, leaves, (clones, stored), &mut entries);
        let mut carry = Carry::new();
        if let Some(range) = IndexRange::new(min, max).filter(|_| leaves.shape.pieces > 0) {
            let layout = (leaves.shape.slots, leaves.shape.pieces);
            carry = spread_entries(&mut self.pool, &mut entries, layout, range);
        }
        self.raise(root, leaves.shape.region.clone(), carry)
    }

    /// Clones the entries that cannot be moved: those of leaves that a snapshot
    /// shares, and the second pieces of those that are cut in two.
    fn clone_survivors(
        &self,
        root: &Node<T>,
        leaves: &LeafStep,
        cut: Option<fn(&T) -> T>,
    ) -> Clones<T> {
        let mut clones = Clones::new();
        for survivor in leaves
            .survivors
            .iter()
            .filter(|it| it.is_cloned(&leaves.sources))
        {
            let clone = cut.or_else(|| self.clone_fn.get());
            let clone = clone.expect("only `T: Clone` shares nodes or cuts entries");
            let way = &leaves.sources[survivor.source].way;
            let leaf = node_at(root, way, self.height - 1);
            clones.extend(leaf.entry(survivor.slot).map(clone));
        }
        clones
    }

    /// Brings `carry`, the new leaves for `region`, up to where they fit.
    fn raise(&mut self, mut root: Link<T>, mut region: Region, mut carry: Carry<T>) -> Removed<T> {
        for depth in (0..self.height - 1).rev() {
            if carry.len() <= 1 && region.is_whole_level(root.node(), depth + 1) {
                reached(Path::RootShrinks);
                self.height -= depth + 1;
                return self.plant(root, carry);
            }
            match BranchStep::new(root.node(), &region, depth, carry.len()) {
                BranchStep::Converge => {
                    reached(Path::Converges);
                    let removed = self.converge(&mut root, (&region, depth), carry);
                    self.root = Some(root);
                    return removed;
                }
                BranchStep::Build { neighbour, pieces } => {
                    note_branch_level(&region, depth, neighbour, pieces);
                    let children = gather(&mut root, &mut region, depth, (neighbour, carry));
                    carry = spread_children(&mut self.pool, children, self.branches, pieces);
                }
            }
        }
        self.plant(root, carry)
    }

    /// Makes `carry`, nodes of the top level, the tree. Returns the old root.
    fn plant(&mut self, old: Link<T>, carry: Carry<T>) -> Removed<T> {
        let mut carry = carry;
        if carry.len() > 1 {
            reached(Path::RootGrows);
            let children = carry.into_iter().collect();
            carry = spread_children(&mut self.pool, children, self.branches, 1);
            self.height += 1;
        }
        self.root = carry.pop().map(|child| child.link);
        if self.root.is_none() {
            reached(Path::Emptied);
            self.height = 0;
        }
        let mut removed = Removed::new();
        removed.push(old);
        removed
    }

    /// Puts `carry` in the place of the region's nodes below the branch at `depth`.
    fn converge(
        &mut self,
        root: &mut Link<T>,
        (region, depth): (&Region, usize),
        carry: Carry<T>,
    ) -> Removed<T> {
        let max = range_at(root.node(), &region.lo, depth).last();
        let branch = unshare(root, (&region.lo, depth), &mut self.pool, &self.clone_fn);
        let (first, last) = (usize::from(region.lo[depth]), usize::from(region.hi[depth]));
        let mut after: ArrayVec<Child<T>, BRANCH_SLOTS_MAX> = ArrayVec::new();
        for slot in last + 1..branch.count() {
            after.extend(take_child(branch, slot, max));
        }
        let removed = (first..=last)
            .filter_map(|slot| branch.take_child(slot))
            .collect();
        branch.truncate_branch(first);
        carry
            .into_iter()
            .chain(after)
            .for_each(|child| branch.push_child(child));
        refresh_gaps(root, &region.lo, depth);
        removed
    }
}

/// The entries that stay, in ascending order, with the stored one among them.
fn gather_entries<T>(
    root: &mut Link<T>,
    leaves: &LeafStep,
    (clones, mut stored): (&mut Clones<T>, Option<(IndexRange, T)>),
    entries: &mut Entries<T>,
) {
    let mut clones = clones.drain(..);
    let mut at = 0;
    let one_leaf = |left: &Survivor, right: &Survivor| left.source == right.source;
    for survivors in leaves.survivors.chunk_by(one_leaf) {
        let source = &leaves.sources[survivors[0].source];
        let leaf = node_mut(root, &source.way, leaves.shape.depth);
        let mut leaf = leaf.filter(|_| !source.is_shared);
        for survivor in survivors {
            if at == leaves.below {
                entries.extend(stored.take());
            }
            at += 1;
            let value = if survivor.is_cloned(&leaves.sources) {
                clones.next()
            } else {
                let leaf = leaf.as_mut().expect("what nobody shares is ours alone");
                leaf.take_entry(survivor.slot)
            };
            entries.push((survivor.range, value.expect("a survivor is an entry")));
        }
    }
    entries.extend(stored);
}

/// The children that stay at `depth`, in ascending order, with `carry` among
/// them; the region grows by the neighbour.
fn gather<T>(
    root: &mut Link<T>,
    region: &mut Region,
    depth: usize,
    (neighbour, carry): (Option<Neighbour>, Carry<T>),
) -> Children<T> {
    let Region { lo, hi } = region.clone();
    let neighbour = neighbour.map(|side| (side, region.extend(root.node(), depth, side)));
    let mut children = Children::new();
    if let Some((_, way)) = neighbour.filter(|(side, _)| !side.is_right()) {
        gather_from(root, &way, depth, (0..usize::MAX, &mut children));
    }
    gather_from(root, &lo, depth, (0..lo[depth].into(), &mut children));
    children.extend(carry);
    gather_from(
        root,
        &hi,
        depth,
        (usize::from(hi[depth]) + 1..usize::MAX, &mut children),
    );
    if let Some((_, way)) = neighbour.filter(|(side, _)| side.is_right()) {
        gather_from(root, &way, depth, (0..usize::MAX, &mut children));
    }
    children
}

/// Takes the children in `slots` of the branch at `depth`, or counts another
/// link to each where a snapshot shares the branch.
fn gather_from<T>(
    root: &mut Link<T>,
    way: &Slots,
    depth: usize,
    (slots, children): (Range<usize>, &mut Children<T>),
) {
    let max = range_at(root.node(), way, depth).last();
    if let Some(branch) = node_mut(root, way, depth) {
        let end = slots.end.min(branch.count());
        (slots.start..end).for_each(|slot| children.extend(take_child(branch, slot, max)));
        return;
    }
    let branch = node_at(root.node(), way, depth);
    for slot in slots.start..slots.end.min(branch.count()) {
        let (last, gap) = (branch.pivot_or(slot, max), kept_gap(branch, slot));
        children.push(Child {
            link: branch.share_child(slot),
            last,
            gap,
        });
    }
}

/// Takes the child in `slot` with what its parent keeps of it; `max` is the
/// parent's last index.
pub(crate) fn take_child<T>(branch: &mut Node<T>, slot: usize, max: u64) -> Option<Child<T>> {
    let (last, gap) = (branch.pivot_or(slot, max), kept_gap(branch, slot));
    branch
        .take_child(slot)
        .map(|link| Child { link, last, gap })
}

fn kept_gap<T>(branch: &Node<T>, slot: usize) -> u64 {
    if branch.kind() == Kind::Gaps {
        branch.gap(slot)
    } else {
        0
    }
}

fn note_leaf_level(leaves: &LeafStep) {
    reached(
        match (
            leaves.sources.len(),
            leaves.shape.neighbour.map(|(side, _)| side),
            leaves.shape.pieces,
        ) {
            (_, Some(Neighbour::RightSibling), _) => Path::LeafWithRightSibling,
            (_, Some(Neighbour::LeftSibling), _) => Path::LeafWithLeftSibling,
            (_, Some(Neighbour::RightCousin), _) => Path::LeafWithRightCousin,
            (_, Some(Neighbour::LeftCousin), _) => Path::LeafWithLeftCousin,
            (1, None, 0 | 1) => Path::LeafRewritten,
            (1, None, _) => Path::LeafSplit,
            (_, None, 0 | 1) => Path::LeavesJoined,
            (_, None, _) => Path::LeavesSpanned,
        },
    );
}

fn note_branch_level(region: &Region, depth: usize, neighbour: Option<Neighbour>, pieces: usize) {
    reached(match (neighbour, pieces) {
        (Some(Neighbour::RightSibling), _) => Path::BranchWithRightSibling,
        (Some(Neighbour::LeftSibling), _) => Path::BranchWithLeftSibling,
        (Some(Neighbour::RightCousin), _) => Path::BranchWithRightCousin,
        (Some(Neighbour::LeftCousin), _) => Path::BranchWithLeftCousin,
        (None, 0 | 1) => Path::BranchesJoined,
        (None, _) if region.is_one_node(depth) => Path::BranchSplit,
        (None, _) => Path::BranchesSpanned,
    });
}
