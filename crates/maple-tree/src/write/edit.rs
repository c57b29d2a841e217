//! One write in progress: what a plan does to the tree.
#![expect(
    unsafe_code,
    reason = "moves what slots hold from old nodes to new ones"
)]

use arrayvec::ArrayVec;

use super::cut::LeafCut;
use super::gaps::{leaf_gap, raise_gap};
use super::plan::{Plan, Request};
use super::rebuild::{CLONES, Cut, Rebuilt, clone_entries, copy_branch};
use super::shape::Shape;
use super::way::Way;
use super::{FOUND, ROOM};
use crate::clone_fn::CloneFn;
use crate::error::OutOfNodes;
use crate::iter::Iter;
use crate::limbo::Limbo;
use crate::node::{
    BranchRun, Fresh, Gone, Held, Kept, Kind, LEAF_SLOTS, Link, Node, Patch, Path, Steps,
};
use crate::paths::{Path as Reached, reached};
use crate::pool::Pool;
use crate::source::NodeSource;
use crate::tree::MapleTree;
use crate::{Entry, IndexRange};

/// Clones an entry, to be cut in two.
pub(super) type CloneEntry<T> = fn(&T) -> T;

/// Entries that were overwritten.
type Displaced<T> = ArrayVec<T, LEAF_SLOTS>;

/// A write in progress: the way to the leaf it begins in, and the parts of the
/// tree that it uses.
pub(super) struct Edit<'t, 's, T, S: NodeSource> {
    pub(super) path: Path<'t, 's, T>,
    pub(super) request: Request,
    /// Clones an entry that is cut in two. [`MapleTree::insert`] and
    /// [`MapleTree::erase`] never cut one.
    pub(super) cut: Option<CloneEntry<T>>,
    /// The caller has taken the only entry within the range.
    pub(super) is_taken: bool,
    pub(super) branches: Kind,
    height: &'t mut usize,
    len: &'t mut usize,
    pub(super) pool: &'t mut Pool<S>,
    pub(super) clone_fn: &'t CloneFn<T>,
    limbo: &'t mut Limbo<T>,
    is_watched: bool,
}

impl<'t, 's, T: Entry, S: NodeSource> Edit<'t, 's, T, S> {
    /// `None` if the tree is empty.
    #[inline(always)]
    pub(super) fn at(
        tree: &'t mut MapleTree<T, S>,
        steps: &'s mut Steps<T>,
        request: Request,
        cut: Option<CloneEntry<T>>,
    ) -> Option<Self> {
        let is_watched = tree.root.is_watched();
        let path = Path::to(&mut tree.root, steps, request.range.first())?;
        Some(Self {
            path,
            request,
            cut,
            is_taken: false,
            branches: tree.branches,
            height: &mut tree.height,
            len: &mut tree.len,
            pool: &mut tree.pool,
            clone_fn: &tree.clone_fn,
            limbo: &mut tree.limbo,
            is_watched,
        })
    }
}

impl<T, S: NodeSource> Edit<'_, '_, T, S> {
    /// Plans the write and reserves what it needs.
    #[inline(always)]
    pub(super) fn prepare(&mut self) -> Result<Plan, OutOfNodes> {
        let plan = Plan::new(&self.path, self.request);
        self.reserve(&plan)?;
        Ok(plan)
    }

    /// As [`prepare`](Self::prepare), to erase the entry in `slot` of the leaf.
    #[inline(always)]
    pub(super) fn prepare_erase(&mut self, slot: usize) -> Result<Plan, OutOfNodes> {
        self.request.range = self.path.leaf().slot_range(slot);
        let plan = Plan::erase(&self.path, self.request, slot);
        self.reserve(&plan)?;
        Ok(plan)
    }

    #[inline(always)]
    fn reserve(&mut self, plan: &Plan) -> Result<(), OutOfNodes> {
        let needs = plan.needs(&self.path);
        let nodes = needs.nodes_with(self.limbo, self.is_watched);
        if self.is_watched {
            // Each write takes new nodes, and none comes back at once.
            self.pool.reserve_of_many(nodes, usize::MAX)
        } else {
            self.pool.reserve(nodes)
        }
    }

    /// Takes the entry in `slot` out, which the write is to erase; where somebody
    /// else may look at it, a clone of it. Until the write is through the tree owns
    /// what was taken.
    pub(super) fn take_out(&mut self, slot: usize) -> Result<Held<T>, T> {
        let leaf = self.path.leaf();
        if self.path.is_alone(self.path.depth) {
            self.is_taken = true;
            // SAFETY: the leaf is spliced or replaced without the slot, and what it held
            // not dropped (`is_taken`).
            return Ok(unsafe { leaf.hold(slot) });
        }
        let clone = self.clone_fn.get().expect(CLONES);
        Err(clone(leaf.entry(slot).expect(FOUND)))
    }

    /// Carries `plan` out.
    #[inline]
    pub(super) fn commit(&mut self, plan: &Plan, value: Option<T>) {
        match plan {
            Plan::Occupied | Plan::Nothing => reached(Reached::NothingToDo),
            Plan::ExactFit(slot) => self.replace_entry(*slot, value),
            Plan::Append => self.append(value),
            Plan::OneLeaf(cut, kind) => self.edit_leaf((cut, *kind), value),
            Plan::ShortenedLeaf(cut, kind) => self.shorten_leaf((cut, *kind), value),
            Plan::Rebuild(shape) => self.rebuild(shape, value),
        }
    }

    fn replace_entry(&mut self, slot: usize, value: Option<T>) {
        reached(Reached::ExactFit);
        let depth = self.path.depth;
        if self.path.is_alone(depth) {
            let entry = self.path.node_mut(depth).entry_mut(slot).zip(value);
            drop(entry.map(|(old, new)| core::mem::replace(old, new)));
            return;
        }
        let (range, kind) = (self.path.leaf().slot_range(slot), self.path.leaf().kind());
        let cut = LeafCut::of_entry(self.path.leaf(), slot);
        let gap = (depth > 0).then(|| self.kept_gap(depth - 1));
        self.replace_leaf((&cut, kind), Some(range).zip(value), gap);
    }

    /// Adds an entry behind all others, in place.
    #[inline]
    fn append(&mut self, value: Option<T>) {
        reached(Reached::Appended);
        let (depth, range) = (self.path.depth, self.path.range);
        let leaf = self.path.node_mut(depth);
        let Some(value) = value else { return };
        leaf.push_entry(self.request.range, value).ok().expect(ROOM);
        *self.len += 1;
        if self.branches == Kind::Gaps {
            let gap = leaf_gap(leaf, range);
            raise_gap(&mut self.path, depth, gap);
        }
    }

    fn kept_gap(&self, depth: usize) -> u64 {
        let slot = self.path.slot(depth);
        self.path.node(depth).kept_gap(slot)
    }

    /// Changes one leaf, and the gaps above it.
    #[inline]
    fn edit_leaf(&mut self, (cut, kind): (&LeafCut, Kind), value: Option<T>) {
        reached(Reached::OneLeaf);
        let stored = self.request.stored().zip(value);
        let len = self.len_with(cut);
        if !self.path.is_alone(self.path.depth) {
            self.replace_leaf((cut, kind), stored, None);
            *self.len = len;
            return;
        }
        let displaced = self.splice_leaf((cut, kind), stored);
        *self.len = len;
        if self.branches == Kind::Gaps {
            let gap = leaf_gap(self.path.leaf(), self.path.range);
            let depth = self.path.depth;
            raise_gap(&mut self.path, depth, gap);
        }
        drop_all(displaced);
    }

    /// Changes one leaf in place. Returns what was overwritten.
    #[inline]
    fn splice_leaf(
        &mut self,
        (cut, kind): (&LeafCut, Kind),
        stored: Option<(IndexRange, T)>,
    ) -> ArrayVec<Held<T>, LEAF_SLOTS> {
        // Cloning may panic, so it comes before anything changes.
        let second = self.second_piece(cut);
        note_kind(self.path.leaf(), kind);
        let (leaf, mut displaced) = (self.path.leaf(), ArrayVec::new());
        if !self.is_taken && core::mem::needs_drop::<T>() {
            for slot in cut.dropped().filter(|&slot| leaf.entry(slot).is_some()) {
                // SAFETY: the leaf is spliced without these slots below.
                displaced.push(unsafe { leaf.hold(slot) });
            }
        }
        let mut patch = Patch::new();
        // SAFETY: and what stays of the cut slots is in the patch that it gets.
        unsafe { cut.fill(&mut patch, leaf, (stored, second)) };
        self.path.node_mut(self.path.depth).splice(kind, &mut patch);
        displaced
    }

    fn second_piece(&self, cut: &LeafCut) -> Option<T> {
        let piece = cut.after.filter(|_| cut.cuts_in_two())?;
        self.path
            .leaf()
            .entry(piece.slot)
            .map(self.cut.expect(CLONES))
    }

    /// How many entries there will be once one leaf is cut.
    fn len_with(&self, cut: &LeafCut) -> usize {
        let laid = cut.laid(self.request.stored());
        *self.len + laid - cut.overlapped(self.path.leaf())
    }

    /// Changes one leaf in place so that it ends before the index it ended at;
    /// the first hole of the next one grows.
    fn shorten_leaf(&mut self, (cut, kind): (&LeafCut, Kind), value: Option<T>) {
        reached(Reached::Shortened);
        let stored = self.request.stored().zip(value);
        let len = self.len_with(cut);
        let displaced = self.splice_leaf((cut, kind), stored);
        *self.len = len;
        let (leaf, range) = (self.path.leaf(), self.path.range);
        let upper = leaf.upper();
        let depth = self.path.depth;
        if self.branches == Kind::Gaps {
            let range = IndexRange::new(range.first(), upper);
            let gap = leaf_gap(leaf, range.expect("a leaf's bounds ascend (T3)"));
            raise_gap(&mut self.path, depth, gap);
        }
        let is_turn = |at: &usize| {
            let slot = self.path.slot(*at);
            slot + 1 < self.path.node(*at).count()
        };
        let turn = (0..depth).rev().find(is_turn);
        let turn = turn.expect("another leaf comes behind");
        let slot = self.path.slot(turn);
        self.path.node_mut(turn).set_pivot(slot, upper);
        if self.branches == Kind::Gaps {
            self.path.turn_right(turn);
            let gap = leaf_gap(self.path.leaf(), self.path.range);
            raise_gap(&mut self.path, depth, gap);
        }
        drop_all(displaced);
    }

    /// Builds a leaf aside, as `cut` and `stored` say, and puts it in the place
    /// of the one on the path. `gap` is its longest gap, where that is known.
    fn replace_leaf(
        &mut self,
        (cut, kind): (&LeafCut, Kind),
        stored: Option<(IndexRange, T)>,
        gap: Option<u64>,
    ) {
        let depth = self.path.depth;
        debug_assert!(!self.is_taken, "what is alone is changed in place");
        let kept = cut.kept();
        let second = self.second_piece(cut);
        note_kind(self.path.leaf(), kind);
        let (mut patch, mut displaced) = (Patch::new(), Displaced::new());
        let leaf = if depth < self.path.shared {
            let leaf = self.path.leaf();
            // SAFETY: the leaf is replaced by its copy. What the copy is spliced without
            // stays with the old one (`kept`), or is in the patch.
            unsafe { cut.fill(&mut patch, leaf, (stored, second)) };
            // SAFETY: as above.
            let mut copy = unsafe { self.pool.take_copy(leaf) };
            copy.splice(kind, &mut patch);
            copy
        } else {
            let mut copy = self.clone_leaf();
            displaced.extend(cut.dropped().filter_map(|slot| copy.take_entry(slot)));
            // SAFETY: the copy is spliced without the slots that are read here.
            unsafe { cut.fill(&mut patch, &copy, (stored, second)) };
            copy.splice(kind, &mut patch);
            copy
        };
        let gap = match gap {
            Some(gap) => gap,
            None if self.branches == Kind::Gaps => leaf_gap(&leaf, self.path.range),
            None => 0,
        };
        self.attach_leaf(leaf, gap, kept);
        drop(displaced);
    }

    /// A copy of the leaf, every entry cloned: other trees share the old one.
    fn clone_leaf(&mut self) -> Fresh<T> {
        // Cloning may panic: the node is taken once nothing can.
        let clones = clone_entries(self.path.leaf(), self.clone_fn);
        let mut copy = self.pool.take(self.path.leaf().kind());
        for (range, value) in clones {
            copy.push_entry(range, value).ok().expect(ROOM);
        }
        copy
    }

    /// Replaces the leaf, which somebody else may look at, by a copy of it.
    pub(super) fn own_leaf(&mut self) {
        let depth = self.path.depth;
        let gap = depth
            .checked_sub(1)
            .map_or(0, |parent| self.kept_gap(parent));
        let copy = self.clone_leaf();
        self.attach_leaf(copy, gap, Kept::NONE);
    }

    /// Puts `leaf` in the place of the one on the path, which keeps `kept`.
    fn attach_leaf(&mut self, leaf: Fresh<T>, gap: u64, kept: Kept) {
        let depth = self.path.depth;
        let mut cut = Cut::new();
        if depth < self.path.shared {
            // SAFETY: the leaf is in this tree only, and is replaced just below.
            cut.push(unsafe { Gone::replaced(self.path.node_ref(depth), kept) });
        }
        self.attach(depth, (leaf.into_link(), gap), &mut cut);
        self.dispose_all(&mut cut);
    }

    /// Puts `new` in the place of the node at `depth` on the path. Of what other
    /// trees share above it copies are made.
    fn attach(&mut self, depth: usize, (new, gap): (Link<T>, u64), cut: &mut Cut<T>) {
        let (mut depth, mut new, mut gap) = (depth, new, gap);
        let shared = self.path.shared;
        if shared < depth {
            let mut way = Way::along(&self.path);
            way.depth = depth;
            while shared < way.depth {
                reached(Reached::CopiedOnWrite);
                way.up();
                let copy = copy_branch(&way, self.pool, (new, gap));
                (new, gap) = (copy.link, copy.gap);
            }
            depth = way.depth;
        }
        let old = self.path.replace(depth, Some(new));
        if depth == shared {
            // The old node has other owners; otherwise there is a record of it.
            cut.extend(old.map(Gone::Link));
        }
        if self.branches == Kind::Gaps {
            raise_gap(&mut self.path, depth, gap);
        }
    }

    /// Carries a [`Plan::Rebuild`] out.
    #[cold]
    fn rebuild(&mut self, shape: &Shape, value: Option<T>) {
        let len = self.len_after();
        // PERF: filled in place, as moving these arrays copies all of them.
        let (mut run, mut cut) = (BranchRun::new(), Cut::new());
        let Rebuilt { link, gap, height } = self.build(shape, value, (&mut run, &mut cut));
        if let Some(height) = height {
            // The old root is among what was cut out.
            self.path.replace(0, link);
            *self.height = height;
        } else if let Some(link) = link {
            self.attach(shape.end, (link, gap), &mut cut);
        } else {
            let count = run.len();
            let branch = self.path.node_mut(shape.end);
            branch.refill(&mut run, 0..count);
            if self.branches == Kind::Gaps {
                let gap = branch.longest_gap();
                raise_gap(&mut self.path, shape.end, gap);
            }
        }
        *self.len = len;
        self.dispose_all(&mut cut);
    }

    /// How many entries there will be.
    fn len_after(&self) -> usize {
        let (range, root) = (self.request.range, self.path.node(0));
        let (mut removed, mut pieces) = (0, 0);
        for (entry, _) in Iter::over(Some(root), Some(range)) {
            removed += 1;
            pieces += usize::from(entry.first() < range.first());
            pieces += usize::from(entry.last() > range.last());
        }
        *self.len + pieces + self.request.stored().iter().len() - removed
    }

    fn dispose_all(&mut self, cut: &mut Cut<T>) {
        for gone in cut.drain(..) {
            dispose(gone, self.is_watched, (self.pool, self.limbo));
        }
        self.pool.trim_chain();
    }
}

fn note_kind<T>(leaf: &Node<T>, kind: Kind) {
    if leaf.kind() != kind {
        reached(if kind == Kind::Sparse {
            Reached::TurnsSparse
        } else {
            Reached::TurnsDense
        });
    }
}

/// Drops entries that were taken out of a leaf in place.
fn drop_all<T>(displaced: ArrayVec<Held<T>, LEAF_SLOTS>) {
    for held in displaced {
        // SAFETY: the leaf was spliced without it, and nobody looked at the leaf
        // without borrowing the tree.
        drop(unsafe { held.into_inner() });
    }
}

/// Frees what was cut out of a tree, or notes it where a reader may look at it.
pub(super) fn dispose<T, S: NodeSource>(
    gone: Gone<T>,
    is_watched: bool,
    (pool, limbo): (&mut Pool<S>, &mut Limbo<T>),
) {
    if is_watched {
        limbo.push(gone, pool);
    } else {
        // SAFETY: it is out of the tree, and nobody looked at that without borrowing it.
        unsafe { pool.release_gone(gone) };
    }
}
