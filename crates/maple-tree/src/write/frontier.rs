//! The nodes of one level that a rebuild replaces.

use core::ops::Range;

use arrayvec::ArrayVec;

use super::way::{Side, Way};
use crate::node::{Kept, Node, Path, Slots};

/// A level replaces both ends of the written range, a neighbour, and the
/// parents of what the level below replaced: a cluster of three at each end, or
/// four at the right edge, where a branch may have one child.
const REPLACED_MAX: usize = 8;

/// The nodes of one level that a rebuild replaces, from the leaves upwards.
///
/// Between the ends of the written range whole nodes go as well; these are not
/// listed: they are below [dropped](Self::dropped) slots of a level above.
pub(super) struct Frontier<'a, T> {
    /// In ascending order.
    replaced: ArrayVec<Way<'a, T>, REPLACED_MAX>,
    /// The slots taken to the leaves in which the range begins and ends.
    lo: Slots,
    hi: Slots,
}

/// Where the nodes that the level below replaced were.
#[derive(Clone, Copy)]
pub(super) struct Below {
    /// The slot of the first, in the first replaced branch.
    pub(super) first: usize,
    /// The slot of the last, in the last replaced branch.
    pub(super) last: usize,
}

impl<'a, T> Frontier<'a, T> {
    /// The leaves in which a range begins, where `path` leads, and ends: at `last`.
    pub(super) fn leaves(path: &'a Path<'_, '_, T>, last: u64) -> Self {
        // PERF: filled in place, as moving the array copies all of it.
        let mut this = Self {
            replaced: ArrayVec::new(),
            lo: *path.slots(),
            hi: *path.slots(),
        };
        this.replaced.push(Way::along(path));
        if path.range.last() < last {
            let hi = this.first().to(last);
            this.hi = hi.slots;
            this.replaced.push(hi);
        }
        this
    }

    /// The nodes in ascending order.
    pub(super) fn replaced(&self) -> &[Way<'a, T>] {
        &self.replaced
    }

    pub(super) fn first(&self) -> &Way<'a, T> {
        &self.replaced[0]
    }

    pub(super) fn last(&self) -> &Way<'a, T> {
        &self.replaced[self.replaced.len() - 1]
    }

    /// Whether one node is replaced.
    pub(super) fn is_one(&self) -> bool {
        self.replaced.len() == 1
    }

    /// Whether every node of the level is replaced, or dropped.
    pub(super) fn is_whole_level(&self) -> bool {
        self.first().is_left_edge() && self.last().is_right_edge()
    }

    /// The next node on `side`, if there is one.
    pub(super) fn step(&self, side: Side) -> Option<Way<'a, T>> {
        match side {
            Side::Left => self.first().step(side),
            Side::Right => self.last().step(side),
        }
    }

    /// The side of the neighbour that costs least to take in: below the same
    /// parent if there is one, else the one after, else the one before.
    pub(super) fn nearest(&self) -> Option<Side> {
        if self.last().has_sibling(Side::Right) {
            return Some(Side::Right);
        }
        if self.first().has_sibling(Side::Left) {
            return Some(Side::Left);
        }
        [Side::Right, Side::Left]
            .into_iter()
            .find(|&side| self.step(side).is_some())
    }

    /// The side of a sibling that a full node can share its load with: the one
    /// before, else the one after, if that `is_roomy`.
    pub(super) fn roomy_sibling(&self, is_roomy: impl Fn(&Node<T>) -> bool) -> Option<Side> {
        [Side::Left, Side::Right].into_iter().find(|&side| {
            let way = match side {
                Side::Left => self.first(),
                Side::Right => self.last(),
            };
            let Some(parent) = way.depth.checked_sub(1).filter(|_| way.has_sibling(side)) else {
                return false;
            };
            let slot = match side {
                Side::Left => way.slot(parent) - 1,
                Side::Right => way.slot(parent) + 1,
            };
            is_roomy(way.at(parent).child(slot))
        })
    }

    /// Takes the neighbour on `side` in.
    pub(super) fn take_in(&mut self, side: Side) {
        let way = self.step(side).expect("the neighbour was seen before");
        match side {
            Side::Left => self.replaced.insert(0, way),
            Side::Right => self.replaced.push(way),
        }
    }

    /// Goes on to the parents of what is replaced.
    pub(super) fn up(&mut self) -> Below {
        let depth = self.first().depth - 1;
        let below = Below {
            first: self.first().slot(depth),
            last: self.last().slot(depth),
        };
        let mut parents = 0;
        for at in 0..self.replaced.len() {
            self.replaced[at].up();
            if parents > 0 && self.replaced[parents - 1].is_same(&self.replaced[at]) {
                continue;
            }
            // PERF: what is where it belongs is not copied to itself.
            if parents < at {
                self.replaced.swap(parents, at);
            }
            parents += 1;
        }
        self.replaced.truncate(parents);
        below
    }

    /// The slots of a replaced branch that are dropped with all that is below.
    pub(super) fn dropped(&self, way: &Way<'a, T>) -> Range<usize> {
        let depth = way.depth;
        let (lo, hi) = (&self.lo[..depth], &self.hi[..depth]);
        let taken = way.taken();
        if taken < lo || hi < taken {
            return 0..0;
        }
        let from = if taken == lo {
            usize::from(self.lo[depth]) + 1
        } else {
            0
        };
        let to = if taken == hi {
            usize::from(self.hi[depth])
        } else {
            way.node().count()
        };
        from..to.max(from)
    }

    /// As [`dropped`](Self::dropped), for the record of a branch that goes.
    pub(super) fn kept(&self, way: &Way<'a, T>) -> Kept {
        Kept::slots(self.dropped(way))
    }
}
