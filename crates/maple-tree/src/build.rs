//! Fills an empty tree from entries, or leaves, in ascending order, writing each node once.

use arrayvec::ArrayVec;

use crate::error::{DuplicateError, OutOfNodes};
use crate::node::{
    Child, Entries, Fresh, HEIGHT_MAX, Kind, LEAF_ENTRIES_MIN, LEAF_SLOTS, Node, Root,
};
use crate::source::NodeSource;
use crate::tree::MapleTree;
use crate::write::gaps::{branch_gap, leaf_gap};
use crate::{Entry, IndexRange};

/// One level of a tree that grows to the right.
struct Level<T> {
    /// The node that is being filled; every one before it is full. A branch has
    /// room for one child more at least.
    open: Fresh<T>,
    /// The first index that belongs to it.
    min: u64,
}

/// A tree under construction. If it is dropped unfinished, the tree stays empty.
pub(crate) struct Builder<'t, T: Entry, S: NodeSource> {
    tree: &'t mut MapleTree<T, S>,
    /// Leaves first.
    levels: ArrayVec<Level<T>, HEIGHT_MAX>,
    /// The last index of the last entry.
    last: u64,
    len: usize,
}

impl<'t, T: Entry, S: NodeSource> Builder<'t, T, S> {
    /// Starts to fill `tree`, which is empty.
    pub(crate) fn new(tree: &'t mut MapleTree<T, S>) -> Self {
        debug_assert!(tree.is_empty());
        Self {
            tree,
            levels: ArrayVec::new(),
            last: 0,
            len: 0,
        }
    }

    /// Adds an entry, which lies above all before it.
    #[inline(always)]
    pub(crate) fn push(&mut self, range: IndexRange, value: T) -> Result<(), OutOfNodes> {
        let value = match self.levels.first_mut() {
            Some(level) => level.open.push_entry(range, value),
            None => Err(value),
        };
        if let Err(value) = value {
            self.make_room(range.first())?;
            let pushed = self.levels[0].open.push_entry(range, value);
            pushed.ok().expect("room was just made");
        }
        self.last = range.last();
        self.len += 1;
        Ok(())
    }

    /// Adds what `f` makes of each entry of `leaf`, all of which lie above what was
    /// pushed before. The leaf keeps its shape as long as `f` leaves none out and
    /// the leaf before can stay as it is.
    #[inline]
    pub(crate) fn push_leaf<U, E>(
        &mut self,
        leaf: &Node<U>,
        mut f: impl FnMut(IndexRange, &U) -> Result<Option<T>, E>,
    ) -> Result<(), DuplicateError<E>> {
        let open = self.levels.first().map(|level| level.open.occupancy());
        let is_at_edge = open.is_none_or(|held| held.count_ones() as usize >= LEAF_ENTRIES_MIN);
        let (mut is_outline, mut filled) = (false, 0);
        let mut entries = Entries::of(leaf);
        while let Some((slot, (range, value))) = entries.next_slot() {
            let made = f(range, value).map_err(DuplicateError::Refused)?;
            match made {
                Some(value) if is_outline => {
                    self.levels[0].open.fill_slot(slot, value);
                    filled += 1;
                }
                Some(value) if is_at_edge && slot == 0 => {
                    let full = self.reserve()?;
                    let outline = self.tree.pool.take_outline(leaf);
                    self.advance(full, outline);
                    self.levels[0].open.fill_slot(slot, value);
                    (is_outline, filled) = (true, 1);
                    self.last = leaf.upper();
                }
                Some(value) => self.push(range, value)?,
                None if is_outline => {
                    is_outline = false;
                    let open = &mut self.levels[0].open;
                    open.truncate_outline(slot);
                    self.last = open.upper();
                }
                None => {}
            }
        }
        self.len += filled;
        Ok(())
    }

    /// Sees to it that the open leaf has room for an entry that begins at `first`.
    #[cold]
    fn make_room(&mut self, first: u64) -> Result<(), OutOfNodes> {
        let leaf = self.levels.first_mut().map(|level| &mut level.open);
        if leaf.is_some_and(|leaf| leaf.make_room(first)) {
            return Ok(());
        }
        let full = self.reserve()?;
        // What comes next is likely to be as what came before.
        let kind = self
            .levels
            .first()
            .map_or(Kind::Dense, |level| level.open.kind());
        let leaf = self.tree.pool.take(kind);
        self.advance(full, leaf);
        Ok(())
    }

    /// Reserves what another leaf takes. Returns how many levels get full by it.
    fn reserve(&mut self) -> Result<usize, OutOfNodes> {
        let gets_full = |level: &&Level<T>| {
            level.open.is_leaf() || level.open.count() + 1 == level.open.kind().slots()
        };
        let full = self.levels.iter().take_while(gets_full).count();
        // About as many more as there have been entries for so far.
        let nodes = full.max(1) + usize::from(full == self.levels.len());
        let pool = &mut self.tree.pool;
        pool.reserve_of_many(nodes, self.len / LEAF_SLOTS)?;
        Ok(full)
    }

    /// Opens `leaf`. The one that was open goes below its parent; that one goes
    /// below its own as soon as it is full, and so on, for `full` levels.
    fn advance(&mut self, full: usize, leaf: Fresh<T>) {
        let mut leaf = Some(leaf);
        if full == self.levels.len() {
            let open = leaf.take_if(|_| full == 0);
            let open = open.unwrap_or_else(|| self.tree.pool.take(self.tree.branches));
            self.levels.push(Level { open, min: 0 });
        }
        for at in 0..full {
            let open = leaf.take();
            let open = open.unwrap_or_else(|| self.tree.pool.take(self.tree.branches));
            let min = self.last.wrapping_add(1);
            let closed = core::mem::replace(&mut self.levels[at], Level { open, min });
            let child = close(closed, self.last);
            self.levels[at + 1].open.push_child(child);
        }
    }

    /// Makes what was pushed the content of the tree.
    pub(crate) fn finish(mut self) {
        let mut levels = core::mem::take(&mut self.levels).into_iter();
        let height = levels.len();
        let Some(mut top) = levels.next() else {
            return;
        };
        for mut level in levels {
            level.open.push_child(close(top, u64::MAX));
            top = level;
        }
        self.tree.root = Root::of(Some(top.open.into_link()));
        self.tree.height = height;
        self.tree.len = self.len;
    }
}

/// Completes a node, the last index of which is `last`.
fn close<T>(level: Level<T>, last: u64) -> Child<T> {
    let Level { open, min } = level;
    let gap = if open.is_leaf() {
        leaf_gap(
            &open,
            IndexRange::new(min, last).expect("entries come in ascending order"),
        )
    } else {
        branch_gap(&open)
    };
    Child {
        link: open.into_link(),
        last,
        gap,
    }
}

impl<T: Entry, S: NodeSource> Drop for Builder<'_, T, S> {
    fn drop(&mut self) {
        for level in self.levels.drain(..) {
            self.tree.pool.release(level.open.into_link());
        }
        self.tree.pool.trim();
    }
}
