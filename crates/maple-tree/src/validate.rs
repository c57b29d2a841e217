//! The invariants of a tree, each with an ID, and the check of all of them.

use alloc::collections::BTreeMap;
use core::fmt;

use arrayvec::ArrayVec;

use crate::node::{HEIGHT_MAX, Node};
use crate::source::NodeSource;
use crate::tree::MapleTree;
use crate::write::gaps::{branch_gap, leaf_gap};
use crate::{Entry, IndexRange};

/// An invariant of the tree.
///
/// # Invariants
///
/// - **T1** A leaf begins and ends with an entry, and no two slots in a row are
///   holes; in a sparse leaf none is.
/// - **T2** The slots of a leaf ascend, are not empty, and lie within the
///   indices that belong to it.
/// - **T3** The pivots of a branch ascend within the indices that belong to it.
/// - **T4** A pivot is the last index of the last entry below its child.
/// - **T5** A kept gap is the length of the longest hole below its child.
/// - **T6** A leaf holds at least four entries, and a branch as many children as
///   its kind asks for; the last node of a level, which may be growing, one at
///   least; a root that is a branch has two children at least.
/// - **T7** All leaves are at the depth that the height says.
/// - **T8** The branches are of the kind that the tree was made with.
/// - **T9** `len` is the number of entries.
/// - **T10** The reference count of a node is the number of slots and trees
///   that name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Invariant {
    /// T1
    HolesInside,
    /// T2
    SlotsAscend,
    /// T3
    PivotsAscend,
    /// T4
    PivotsTight,
    /// T5
    GapsExact,
    /// T6
    Occupancy,
    /// T7
    EqualDepth,
    /// T8
    OneKind,
    /// T9
    Length,
    /// T10
    Owners,
}

impl Invariant {
    /// The ID that ARCHITECTURE.md lists it under, such as `"T1"`.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::HolesInside => "T1",
            Self::SlotsAscend => "T2",
            Self::PivotsAscend => "T3",
            Self::PivotsTight => "T4",
            Self::GapsExact => "T5",
            Self::Occupancy => "T6",
            Self::EqualDepth => "T7",
            Self::OneKind => "T8",
            Self::Length => "T9",
            Self::Owners => "T10",
        }
    }
}

/// A broken invariant: which, and around which index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The invariant that does not hold.
    pub invariant: Invariant,
    /// The lowest index that belongs to the node where it was found.
    pub near: u64,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { invariant, near } = self;
        write!(
            f,
            "invariant {} ({invariant:?}) is broken near {near:#x}",
            invariant.id()
        )
    }
}

impl core::error::Error for Violation {}

/// A node on the way through the tree.
pub(crate) struct Visit<'a, T> {
    pub(crate) node: &'a Node<T>,
    /// The indices that belong to it; `None` if its parent's pivots do not ascend.
    pub(crate) range: Option<IndexRange>,
    pub(crate) depth: usize,
    /// What its parent keeps of the gaps below it.
    pub(crate) kept_gap: Option<u64>,
}

/// Calls `visit` with every node below `root`, parents first.
pub(crate) fn for_each_node<'a, T>(
    root: Option<&'a Node<T>>,
    mut visit: impl FnMut(&Visit<'a, T>),
) {
    let mut path: ArrayVec<(Visit<'a, T>, usize), HEIGHT_MAX> = ArrayVec::new();
    let range = Some(IndexRange::FULL);
    path.extend(root.map(|node| {
        (
            Visit {
                node,
                range,
                depth: 0,
                kept_gap: None,
            },
            0,
        )
    }));
    if let Some((root, _)) = path.last() {
        visit(root);
    }
    while let Some((parent, slot)) = path.last_mut() {
        if parent.node.is_leaf() || *slot == parent.node.count() {
            path.pop();
            continue;
        }
        let child = child_visit(parent, *slot);
        *slot += 1;
        visit(&child);
        if !path.is_full() {
            path.push((child, 0));
        }
    }
}

fn child_visit<'a, T>(parent: &Visit<'a, T>, slot: usize) -> Visit<'a, T> {
    let node = parent.node;
    let range = parent.range.and_then(|range| {
        let max = node.pivot_or(slot, range.last());
        let min = if slot == 0 {
            range.first()
        } else {
            node.pivot(slot - 1).checked_add(1)?
        };
        range
            .intersection(IndexRange::new(min, max)?)
            .filter(|it| it.last() == max)
    });
    let kept_gap = (node.kind() == crate::node::Kind::Gaps).then(|| node.gap(slot));
    Visit {
        node: node.child(slot),
        range,
        depth: parent.depth + 1,
        kept_gap,
    }
}

impl<T: Entry, S: NodeSource> MapleTree<T, S> {
    /// Checks every invariant of the tree but T10, which takes all its
    /// snapshots: [`validate_family`](Self::validate_family).
    ///
    /// # Complexity
    ///
    /// O(n).
    ///
    /// # Errors
    ///
    /// The first [`Violation`] found. There is none unless this crate has a
    /// defect: please report it with the operations that led there.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let tree: MapleTree<u64> = (0..100).map(|i| (IndexRange::single(i), i)).collect();
    /// tree.validate()?;
    /// # Ok::<(), maple_tree::Violation>(())
    /// ```
    #[doc(alias = "mt_validate")]
    pub fn validate(&self) -> Result<(), Violation> {
        let mut checker = Checker {
            tree: self,
            entries: 0,
            found: None,
        };
        for_each_node(self.root(), |visit| checker.check(visit));
        checker.expect(Invariant::Length, checker.entries == self.len, 0);
        checker.expect(
            Invariant::EqualDepth,
            self.root().is_some() == (self.height > 0),
            0,
        );
        checker.found.map_or(Ok(()), Err)
    }

    /// Checks T10 over `trees`, which must be this family's whole: a tree and
    /// all its snapshots that are alive.
    ///
    /// # Complexity
    ///
    /// O(n log n) over all trees; allocates.
    ///
    /// # Errors
    ///
    /// A [`Violation`] of [`Invariant::Owners`].
    pub fn validate_family(trees: &[&Self]) -> Result<(), Violation> {
        let mut owners: BTreeMap<*const Node<T>, u32> = BTreeMap::new();
        for root in trees.iter().filter_map(|tree| tree.root()) {
            count_owners(root, &mut owners);
        }
        for tree in trees {
            let mut found = None;
            for_each_node(tree.root(), |visit| {
                if owners.get(&core::ptr::from_ref(visit.node)) != Some(&visit.node.refs()) {
                    found = found.or(Some(violation(Invariant::Owners, visit.range)));
                }
            });
            found.map_or(Ok(()), Err)?;
        }
        Ok(())
    }
}

/// Counts the slots that name each node; those of a node seen before only once.
fn count_owners<T>(root: &Node<T>, owners: &mut BTreeMap<*const Node<T>, u32>) {
    let mut path: ArrayVec<(&Node<T>, usize), HEIGHT_MAX> = ArrayVec::new();
    let mut meet = |node: &Node<T>| {
        let count = owners.entry(core::ptr::from_ref(node)).or_default();
        *count += 1;
        *count == 1
    };
    if meet(root) {
        path.push((root, 0));
    }
    while let Some((node, slot)) = path.last_mut() {
        if node.is_leaf() || *slot == node.count() {
            path.pop();
            continue;
        }
        let child = node.child(*slot);
        *slot += 1;
        if meet(child) {
            path.push((child, 0));
        }
    }
}

fn violation(invariant: Invariant, range: Option<IndexRange>) -> Violation {
    Violation {
        invariant,
        near: range.map_or(0, IndexRange::first),
    }
}

struct Checker<'a, T: Entry, S: NodeSource> {
    tree: &'a MapleTree<T, S>,
    entries: usize,
    found: Option<Violation>,
}

impl<T: Entry, S: NodeSource> Checker<'_, T, S> {
    fn expect(&mut self, invariant: Invariant, holds: bool, near: u64) {
        if !holds && self.found.is_none() {
            self.found = Some(Violation { invariant, near });
        }
    }

    fn check(&mut self, visit: &Visit<'_, T>) {
        let near = visit.range.map_or(0, IndexRange::first);
        let node = visit.node;
        self.expect(Invariant::PivotsAscend, visit.range.is_some(), near);
        let is_root = visit.depth == 0;
        let is_right_edge = visit.range.is_some_and(|range| range.last() == u64::MAX);
        let min = match (is_root, is_right_edge) {
            (true, _) if !node.is_leaf() => 2,
            (true, _) | (_, true) => 1,
            _ => node.kind().min(),
        };
        let held = if node.is_leaf() {
            node.entries_in(0..node.count())
        } else {
            node.count()
        };
        let in_bounds = held >= min && node.count() <= node.kind().slots();
        self.expect(Invariant::Occupancy, in_bounds, near);
        let is_bottom = visit.depth + 1 == self.tree.height;
        self.expect(Invariant::EqualDepth, node.is_leaf() == is_bottom, near);
        if self.found.is_some() {
            return;
        }
        let gap = if node.is_leaf() {
            self.check_leaf(visit)
        } else {
            self.check_branch(visit)
        };
        let exact = visit.kept_gap.is_none_or(|kept| Some(kept) == gap);
        self.expect(Invariant::GapsExact, exact, near);
    }

    fn check_leaf(&mut self, visit: &Visit<'_, T>) -> Option<u64> {
        let (node, range) = (visit.node, visit.range?);
        let near = range.first();
        self.entries += node.occupancy().count_ones() as usize;
        let is_entry = |slot: usize| node.entry(slot).is_some();
        let holes_apart = if node.is_sparse() {
            (0..node.count()).all(is_entry)
        } else {
            (1..node.count()).all(|slot| is_entry(slot - 1) || is_entry(slot))
        };
        let last = node.count() - 1;
        self.expect(
            Invariant::HolesInside,
            is_entry(0) && is_entry(last) && holes_apart,
            near,
        );
        let ascend = (1..node.count()).all(|slot| {
            node.last(slot - 1) < node.first(slot) && node.first(slot) <= node.last(slot)
        });
        let within =
            near <= node.lower() && node.lower() <= node.last(0) && node.upper() <= range.last();
        self.expect(Invariant::SlotsAscend, ascend && within, near);
        if self.found.is_some() {
            return None;
        }
        let is_tight = range.last() == u64::MAX || node.upper() == range.last();
        self.expect(Invariant::PivotsTight, is_tight, near);
        Some(leaf_gap(node, range))
    }

    fn check_branch(&mut self, visit: &Visit<'_, T>) -> Option<u64> {
        let node = visit.node;
        let near = visit.range?.first();
        self.expect(Invariant::OneKind, node.kind() == self.tree.branches, near);
        Some(branch_gap(node))
    }
}

#[cfg(test)]
mod tests;
