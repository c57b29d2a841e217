//! Fills an empty tree from entries in ascending order, writing each node once.

use arrayvec::ArrayVec;

use crate::error::OutOfNodes;
use crate::node::{Child, HEIGHT_MAX, Kind, LEAF_SLOTS, Link, Node};
use crate::source::NodeSource;
use crate::tree::MapleTree;
use crate::write::spread::{
    Carry, Children, Entries, branch_gap, leaf_gap, spread_children, spread_entries,
};
use crate::{Entry, IndexRange};

/// One level of a tree that grows to the right.
struct Level<T> {
    /// A complete node, not yet below a parent: the last node of a level may
    /// turn out too small, and then shares its load with this one.
    waiting: Option<Child<T>>,
    /// The first index that belongs to `waiting`.
    waiting_min: u64,
    /// The node that is being filled.
    open: Option<Link<T>>,
    /// The last index below `open`.
    last: u64,
    /// The first index that belongs to `open`.
    min: u64,
}

impl<T> Level<T> {
    const fn new() -> Self {
        Self {
            waiting: None,
            waiting_min: 0,
            open: None,
            last: 0,
            min: 0,
        }
    }
}

/// A tree under construction. If it is dropped unfinished, the tree stays empty.
pub(crate) struct Builder<'t, T: Entry, S: NodeSource> {
    tree: &'t mut MapleTree<T, S>,
    /// Leaves first.
    levels: ArrayVec<Level<T>, HEIGHT_MAX>,
    len: usize,
}

impl<'t, T: Entry, S: NodeSource> Builder<'t, T, S> {
    /// Starts to fill `tree`, which is empty.
    pub(crate) fn new(tree: &'t mut MapleTree<T, S>) -> Self {
        debug_assert!(tree.is_empty());
        Self {
            tree,
            levels: ArrayVec::new(),
            len: 0,
        }
    }

    /// Adds an entry, which lies above all before it.
    pub(crate) fn push(&mut self, range: IndexRange, value: T) -> Result<(), OutOfNodes> {
        let takes = |leaf: &Node<T>| 1 + usize::from(leaf.upper() + 1 < range.first());
        self.make_room(0, |leaf| leaf.count() + takes(leaf) <= LEAF_SLOTS)?;
        self.open_node(0).push_entry(range, value);
        self.levels[0].last = range.last();
        self.len += 1;
        Ok(())
    }

    /// Puts a complete node below the open branch of level `at`.
    fn raise(&mut self, at: usize, child: Child<T>) -> Result<(), OutOfNodes> {
        if let Err(error) = self.make_room(at, has_room) {
            self.tree.pool.release(child.link);
            return Err(error);
        }
        self.put_below(at, child);
        Ok(())
    }

    fn put_below(&mut self, at: usize, child: Child<T>) {
        self.levels[at].last = child.last;
        self.open_node(at).push_child(child);
    }

    /// Sees to it that level `at` has an open node that `fits` says has room.
    fn make_room(&mut self, at: usize, fits: impl Fn(&Node<T>) -> bool) -> Result<(), OutOfNodes> {
        let is_full = |this: &Self, level: usize| {
            let open = this
                .levels
                .get(level)
                .and_then(|it| it.open.as_ref())
                .map(Link::node);
            open.is_some_and(|node| {
                if level == at {
                    !fits(node)
                } else {
                    !has_room(node)
                }
            })
        };
        // A full node makes the one that waits give way, and that may do the same above.
        let mut top = at;
        while is_full(self, top) && self.levels[top].waiting.is_some() {
            top += 1;
        }
        for above in (at + 1..=top).rev() {
            self.renew(above, is_full(self, above))?;
            if let Some(child) = self.levels[above - 1].waiting.take() {
                self.put_below(above, child);
            }
        }
        self.renew(at, is_full(self, at))
    }

    /// Gives level `at` an open node; the one it has waits from now on if it is
    /// full. None waits yet.
    fn renew(&mut self, at: usize, is_full: bool) -> Result<(), OutOfNodes> {
        if at == self.levels.len() {
            self.levels.push(Level::new());
        }
        if is_full || self.levels[at].open.is_none() {
            self.tree.pool.reserve(1)?;
        }
        if is_full {
            self.close(at);
        }
        if self.levels[at].open.is_none() {
            let kind = if at == 0 {
                Kind::Leaf
            } else {
                self.tree.branches
            };
            self.levels[at].open = Some(self.tree.pool.take(kind));
        }
        Ok(())
    }

    fn open_node(&mut self, at: usize) -> &mut Node<T> {
        let open = self.levels[at].open.as_mut().expect("`renew` opened it");
        open.get_mut().expect("only the builder has it")
    }

    /// The open node of level `at` is complete, and waits from now on.
    fn close(&mut self, at: usize) {
        let level = &mut self.levels[at];
        let last = level.last;
        if let Some(link) = level.open.take() {
            let gap = gap_of(link.node(), level.min, last);
            level.waiting = Some(Child { link, last, gap });
        }
        level.waiting_min = core::mem::replace(&mut level.min, last.wrapping_add(1));
    }

    /// Makes what was pushed the content of the tree.
    pub(crate) fn finish(mut self) -> Result<(), OutOfNodes> {
        for at in 0..HEIGHT_MAX {
            if at == self.levels.len() {
                break;
            }
            let is_top = at + 1 == self.levels.len();
            let mut carry = self.settle(at)?.into_iter();
            if is_top && carry.len() == 1 {
                self.tree.root = carry.next().map(|child| child.link);
                self.tree.height = at + 1;
                self.tree.len = self.len;
                break;
            }
            while let Some(child) = carry.next() {
                if let Err(error) = self.raise(at + 1, child) {
                    carry.for_each(|child| self.tree.pool.release(child.link));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The last nodes of level `at`: the one that waits, and the open one. Where
    /// that is too small, both are laid out anew.
    fn settle(&mut self, at: usize) -> Result<Carry<T>, OutOfNodes> {
        self.levels[at].last = u64::MAX;
        let open = self.levels[at].open.as_ref().map(Link::node);
        let is_small = open.is_some_and(|node| node.count() < node.kind().min());
        if is_small && self.levels[at].waiting.is_some() {
            self.tree.pool.reserve(2)?;
            return Ok(self.merge_last(at));
        }
        let waiting = self.levels[at].waiting.take();
        self.close(at);
        let last = self.levels[at].waiting.take();
        Ok(waiting.into_iter().chain(last).collect())
    }

    /// Lays the last two nodes of level `at` out anew, over one node or two.
    fn merge_last(&mut self, at: usize) -> Carry<T> {
        let level = &mut self.levels[at];
        let (waiting, open) = (level.waiting.take(), level.open.take());
        let range = IndexRange::new(level.waiting_min, u64::MAX).expect("nothing ends above");
        let (mut entries, mut children) = (Entries::new(), Children::new());
        let mut slots = 0;
        let mut end = None;
        for (mut link, max) in waiting
            .map(|it| (it.link, it.last))
            .into_iter()
            .chain(open.map(|it| (it, u64::MAX)))
        {
            let node = link.get_mut().expect("only the builder has it");
            if node.is_leaf() {
                let hole = end.is_some_and(|end: u64| end + 1 < node.lower());
                slots += node.count() + usize::from(hole);
                end = Some(node.upper());
            }
            for slot in 0..node.count() {
                if node.is_leaf() {
                    let range = node.slot_range(slot);
                    entries.extend(node.take_entry(slot).map(|value| (range, value)));
                } else {
                    children.extend(crate::write::take_child(node, slot, max));
                }
            }
            self.tree.pool.release(link);
        }
        if at == 0 {
            let layout = (slots, slots.div_ceil(LEAF_SLOTS));
            return spread_entries(&mut self.tree.pool, &mut entries, layout, range);
        }
        let kind = self.tree.branches;
        let pieces = children.len().div_ceil(kind.slots());
        spread_children(&mut self.tree.pool, children, kind, pieces)
    }
}

fn has_room<T>(branch: &Node<T>) -> bool {
    branch.count() < branch.kind().slots()
}

fn gap_of<T>(node: &Node<T>, min: u64, max: u64) -> u64 {
    if !node.is_leaf() {
        return branch_gap(node);
    }
    leaf_gap(
        node,
        IndexRange::new(min, max).expect("entries come in ascending order"),
    )
}

impl<T: Entry, S: NodeSource> Drop for Builder<'_, T, S> {
    fn drop(&mut self) {
        for level in self.levels.drain(..) {
            let waiting = level.waiting.map(|child| child.link);
            for link in waiting.into_iter().chain(level.open) {
                self.tree.pool.release(link);
            }
        }
        self.tree.pool.trim();
    }
}
