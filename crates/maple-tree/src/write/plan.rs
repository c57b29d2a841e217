//! What a write will do, found out without changing anything.

use super::cut::LeafCut;
use super::shape::Shape;
use super::way::{Side, Way};
use crate::IndexRange;
use crate::limbo::Limbo;
use crate::node::{Kind, LEAF_ENTRIES_MIN, Path};

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

/// What a write to a tree that is not empty will do.
pub(super) enum Plan {
    /// The range was to be vacant, and is not.
    Occupied,
    /// The range is to be emptied, and is empty.
    Nothing,
    /// The entry over exactly this range, in this slot, gets another value.
    ExactFit(usize),
    /// The entry comes behind all others, and the last leaf has room for it.
    Append,
    /// One leaf changes, and the indices that belong to it do not. It is of this kind
    /// then.
    OneLeaf(LeafCut, Kind),
    /// One leaf changes, and ends before the index it ended at.
    ShortenedLeaf(LeafCut, Kind),
    /// Leaves are split, merged or dropped, and branches above them perhaps.
    Rebuild(Shape),
}

/// What carrying a plan out takes. Nothing else can fail.
#[derive(Clone, Copy)]
pub(super) struct Needs {
    /// Free nodes.
    pub(super) nodes: usize,
    /// Room to note what is cut out of a tree that lock-free readers look at.
    pub(super) records: usize,
}

impl Plan {
    #[inline(always)]
    pub(super) fn new<T>(path: &Path<'_, '_, T>, request: Request) -> Self {
        // PERF: compiled once for each kind, which is asked once then.
        if path.leaf().is_sparse() {
            Self::in_leaf::<true, T>(path, request)
        } else {
            Self::in_leaf::<false, T>(path, request)
        }
    }

    /// What erasing the entry in `slot` of the leaf, which the request's range is, will do.
    #[inline(always)]
    pub(super) fn erase<T>(path: &Path<'_, '_, T>, request: Request, slot: usize) -> Self {
        if path.leaf().is_sparse() {
            Self::of_cut::<true, T>(path, request, LeafCut::of_entry(path.leaf(), slot))
        } else {
            Self::of_cut::<false, T>(path, request, LeafCut::of_entry(path.leaf(), slot))
        }
    }

    /// As `new`; `SPARSE` is what the leaf is.
    #[inline(always)]
    fn in_leaf<const SPARSE: bool, T>(path: &Path<'_, '_, T>, request: Request) -> Self {
        let (leaf, range) = (path.leaf(), path.range);
        assert!(leaf.is_sparse() == SPARSE);
        if !range.contains(request.range.last()) {
            // A hole belongs to one leaf.
            return match request.puts {
                Puts::EntryIfVacant => Self::Occupied,
                _ => Self::Rebuild(Shape::new(path, request)),
            };
        }
        let is_right_edge = range.last() == u64::MAX;
        let first = request.range.first();
        if is_right_edge
            && request.puts != Puts::Nothing
            && leaf.upper() < first
            && leaf.has_room(first)
            && path.is_alone(path.depth)
        {
            return Self::Append;
        }
        let cut = LeafCut::new(leaf, request.range);
        let is_vacant = cut.is_vacant(leaf);
        match request.puts {
            Puts::EntryIfVacant if !is_vacant => return Self::Occupied,
            Puts::Nothing if is_vacant => return Self::Nothing,
            Puts::Entry => {
                if let Some(slot) = cut.exact_fit(leaf, request.range) {
                    return Self::ExactFit(slot);
                }
            }
            _ => {}
        }
        Self::of_cut::<SPARSE, T>(path, request, cut)
    }

    /// What a write that cuts the leaf so, and stores or empties something, will do.
    #[inline(always)]
    fn of_cut<const SPARSE: bool, T>(
        path: &Path<'_, '_, T>,
        request: Request,
        cut: LeafCut,
    ) -> Self {
        let (leaf, range) = (path.leaf(), path.range);
        assert!(leaf.is_sparse() == SPARSE);
        let is_right_edge = range.last() == u64::MAX;
        let least = if is_right_edge { 1 } else { LEAF_ENTRIES_MIN };
        if let Some(kind) = cut.kind(leaf, request.stored(), least) {
            if is_right_edge || cut.end(leaf, request.stored()) == Some(range.last()) {
                return Self::OneLeaf(cut, kind);
            }
            if can_shorten(path) {
                return Self::ShortenedLeaf(cut, kind);
            }
        }
        Self::Rebuild(Shape::new(path, request))
    }

    pub(super) fn needs<T>(&self, path: &Path<'_, '_, T>) -> Needs {
        let (depth, mut nodes, mut records) = match self {
            Self::Occupied | Self::Nothing | Self::Append | Self::ShortenedLeaf(..) => (0, 0, 0),
            Self::ExactFit(_) | Self::OneLeaf(..) if path.is_alone(path.depth) => (0, 0, 0),
            // The leaf, or the link to it or to a branch above that other trees share.
            Self::ExactFit(_) | Self::OneLeaf(..) => (path.depth, 1, 1),
            Self::Rebuild(shape) => (shape.end, shape.nodes, shape.records),
        };
        // From the first branch that is in other trees too all are copied.
        nodes += depth.saturating_sub(path.shared);
        // Afterwards there is room to note a root, so that a tree that readers look at can always
        // be cleared.
        records += 1;
        Needs { nodes, records }
    }
}

impl Needs {
    /// How many nodes have to be free, those that note the records included.
    #[inline]
    pub(super) fn nodes_with<T>(self, limbo: &Limbo<T>, is_watched: bool) -> usize {
        if is_watched {
            self.nodes + limbo.nodes_for(self.records)
        } else {
            self.nodes
        }
    }
}

/// Whether the end of the leaf, which is not the last one, can move down in place:
/// nobody else looks at it, nor, where gaps are kept, at the next leaf, whose first
/// hole grows.
fn can_shorten<T>(path: &Path<'_, '_, T>) -> bool {
    if !path.is_alone(path.depth) {
        return false;
    }
    if path.node(0).kind() != Kind::Gaps {
        return true;
    }
    let next = Way::along(path).step(Side::Right);
    next.is_some_and(|next| !next.is_shared())
}
