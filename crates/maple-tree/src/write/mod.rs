//! Writing: plan, reserve, carry out.
//!
//! [`Plan`] says what a write will do and how many nodes that takes; they are
//! reserved; from then on nothing can fail. Whatever runs the caller's code
//! (cloning an entry, visiting it) runs before the tree is touched; what drops
//! an entry runs after it is whole again.

mod cut;
mod plan;
mod rebuild;
mod region;
pub(crate) mod spread;

use arrayvec::ArrayVec;

use self::cut::LeafCut;
use self::plan::{OneLeaf, Plan, Puts, Request};
pub(crate) use self::rebuild::take_child;
use self::region::{Place, Slots, node_at, node_mut};
use self::spread::leaf_gap;
use crate::clone_fn::CloneFn;
use crate::error::{OutOfNodes, StoreError, StoreErrorKind};
use crate::node::{Child, Kind, LEAF_SLOTS, Link, Node};
use crate::paths::{Path, reached};
use crate::pool::Pool;
use crate::source::NodeSource;
use crate::tree::{MapleTree, Segment};
use crate::walk::leaf_at;
use crate::{Entry, IndexRange};

/// A write, with what it brings along.
struct Write<T> {
    request: Request,
    value: Option<T>,
    /// Clones an entry that is cut in two. [`MapleTree::insert`] and
    /// [`MapleTree::erase`] never cut one.
    cut: Option<fn(&T) -> T>,
}

/// Entries that a write took out of one leaf.
pub(crate) type Displaced<T> = ArrayVec<T, LEAF_SLOTS>;

impl<T: Entry, S: NodeSource> MapleTree<T, S> {
    /// Stores `value` over every index of `range`, which must be vacant.
    ///
    /// # Complexity
    ///
    /// O(log n); allocates at most three nodes a level.
    ///
    /// # Errors
    ///
    /// - [`StoreErrorKind::Occupied`] if any index of `range` holds an entry.
    /// - [`StoreErrorKind::OutOfNodes`] if a node could not be allocated.
    ///
    /// On error the tree is unchanged and the value is handed back.
    ///
    /// # Panics
    ///
    /// No write panics by itself. Where a snapshot shares a leaf, a write clones
    /// its entries, and lets a panic of `T::clone` through; the content of the
    /// tree is unchanged then.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree, StoreErrorKind};
    ///
    /// let mut tree = MapleTree::new();
    /// let stack = IndexRange::new(0x7000, 0x7fff).unwrap();
    /// tree.insert(stack, "stack".as_ptr() as usize)?;
    /// let refused = tree.insert(stack, 7).unwrap_err();
    /// assert_eq!((refused.kind, refused.value), (StoreErrorKind::Occupied, 7));
    /// # Ok::<(), maple_tree::StoreError<usize>>(())
    /// ```
    #[doc(alias = "mtree_insert_range")]
    pub fn insert(&mut self, range: IndexRange, value: T) -> Result<(), StoreError<T>> {
        let request = Request {
            range,
            puts: Puts::EntryIfVacant,
        };
        let kind = match self.prepare(request) {
            Ok(Plan::Occupied) => StoreErrorKind::Occupied,
            Ok(plan) => {
                self.commit(
                    &plan,
                    Write {
                        request,
                        value: Some(value),
                        cut: None,
                    },
                );
                return Ok(());
            }
            Err(OutOfNodes) => StoreErrorKind::OutOfNodes,
        };
        Err(StoreError { kind, value })
    }

    /// Stores `value` over every index of `range`, whatever is there.
    ///
    /// An entry that reaches out of `range` keeps what lies outside; one cut in
    /// two is cloned. What is overwritten is dropped; to see it first, use
    /// [`store_with`](Self::store_with).
    ///
    /// # Complexity
    ///
    /// O(log n + k) for k overwritten entries; allocates at most three nodes a level.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::OutOfNodes`]; the tree is unchanged and the value is
    /// handed back.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::new();
    /// tree.store(IndexRange::FULL, 'a')?;
    /// tree.store(IndexRange::single(5), 'b')?;
    /// assert_eq!((tree.get(4), tree.get(5), tree.get(6)), (Some(&'a'), Some(&'b'), Some(&'a')));
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    #[doc(alias = "mtree_store_range")]
    #[doc(alias = "mas_store")]
    pub fn store(&mut self, range: IndexRange, value: T) -> Result<(), StoreError<T>>
    where
        T: Clone,
    {
        self.store_with(range, value, |_, _| {})
    }

    /// As [`store`](Self::store), and first calls `visit` with each part that
    /// will be overwritten, in ascending order: its bounds within `range`, and
    /// the value. The store cannot fail any more then.
    ///
    /// # Complexity
    ///
    /// As [`store`](Self::store).
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::OutOfNodes`]; `visit` was not called, the tree is
    /// unchanged and the value is handed back.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::new();
    /// tree.store(IndexRange::new(0, 9).unwrap(), 'a')?;
    /// let mut seen = Vec::new();
    /// tree.store_with(IndexRange::new(5, 20).unwrap(), 'b', |part, &value| {
    ///     seen.push((part.first(), part.last(), value));
    /// })?;
    /// assert_eq!(seen, [(5, 9, 'a')]);
    /// # Ok::<(), maple_tree::StoreError<char>>(())
    /// ```
    pub fn store_with(
        &mut self,
        range: IndexRange,
        value: T,
        visit: impl FnMut(IndexRange, &T),
    ) -> Result<(), StoreError<T>>
    where
        T: Clone,
    {
        let request = Request {
            range,
            puts: Puts::Entry,
        };
        let plan = match self.prepare(request) {
            Ok(plan) => plan,
            Err(OutOfNodes) => {
                return Err(StoreError {
                    kind: StoreErrorKind::OutOfNodes,
                    value,
                });
            }
        };
        self.visit_parts(range, visit);
        self.commit(
            &plan,
            Write {
                request,
                value: Some(value),
                cut: Some(T::clone),
            },
        );
        Ok(())
    }

    /// Removes the whole entry at `index` and returns it with its bounds. Where a
    /// snapshot shares it, what is returned is a clone.
    ///
    /// # Complexity
    ///
    /// O(log n); allocates at most three nodes a level.
    ///
    /// # Errors
    ///
    /// [`OutOfNodes`]: leaves that get too empty are merged, which takes a new
    /// one. The tree is unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::new();
    /// let range = IndexRange::new(10, 19).unwrap();
    /// tree.insert(range, 'x').unwrap();
    /// assert_eq!(tree.erase(15)?, Some((range, 'x')));
    /// assert_eq!(tree.erase(15)?, None);
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    #[doc(alias = "mtree_erase")]
    #[doc(alias = "mas_erase")]
    pub fn erase(&mut self, index: u64) -> Result<Option<(IndexRange, T)>, OutOfNodes> {
        let Some((range, _)) = self.entry(index) else {
            return Ok(None);
        };
        let request = Request {
            range,
            puts: Puts::Nothing,
        };
        let plan = self.prepare(request)?;
        let value = match plan {
            Plan::Rebuild { .. } => {
                let mut survey = self.survey(request, None);
                // INVARIANT: T1 is suspended until the rebuild replaces the leaf.
                let root = self.root.as_mut().expect("the plan saw a root");
                let value = take_or_clone(root, index, &self.clone_fn);
                let removed = self.rebuild(&mut survey, None);
                self.len -= 1;
                self.release_all(removed);
                value
            }
            _ => self
                .commit(
                    &plan,
                    Write {
                        request,
                        value: None,
                        cut: None,
                    },
                )
                .pop(),
        };
        Ok(value.map(|value| (range, value)))
    }

    /// Empties every index of `range`.
    ///
    /// An entry that reaches out of `range` keeps what lies outside; one cut in
    /// two is cloned.
    ///
    /// # Complexity
    ///
    /// O(log n + k) for k removed entries; allocates at most three nodes a level.
    ///
    /// # Errors
    ///
    /// [`OutOfNodes`]; the tree is unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::new();
    /// tree.insert(IndexRange::new(0, 99).unwrap(), 'x').unwrap();
    /// tree.remove(IndexRange::new(40, 59).unwrap())?;
    /// assert_eq!(tree.len(), 2);
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    pub fn remove(&mut self, range: IndexRange) -> Result<(), OutOfNodes>
    where
        T: Clone,
    {
        self.remove_with(range, |_, _| {})
    }

    /// As [`remove`](Self::remove), and first calls `visit` with each part that
    /// will be removed, in ascending order: its bounds within `range`, and the value.
    ///
    /// # Complexity
    ///
    /// As [`remove`](Self::remove).
    ///
    /// # Errors
    ///
    /// [`OutOfNodes`]; `visit` was not called and the tree is unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree = MapleTree::new();
    /// tree.insert(IndexRange::new(0, 9).unwrap(), 'x').unwrap();
    /// let mut seen = Vec::new();
    /// tree.remove_with(IndexRange::new(5, 99).unwrap(), |part, &value| {
    ///     seen.push((part.first(), part.last(), value));
    /// })?;
    /// assert_eq!(seen, [(5, 9, 'x')]);
    /// # Ok::<(), maple_tree::OutOfNodes>(())
    /// ```
    pub fn remove_with(
        &mut self,
        range: IndexRange,
        visit: impl FnMut(IndexRange, &T),
    ) -> Result<(), OutOfNodes>
    where
        T: Clone,
    {
        let request = Request {
            range,
            puts: Puts::Nothing,
        };
        let plan = self.prepare(request)?;
        self.visit_parts(range, visit);
        self.commit(
            &plan,
            Write {
                request,
                value: None,
                cut: Some(T::clone),
            },
        );
        Ok(())
    }

    /// Removes all entries.
    ///
    /// # Complexity
    ///
    /// O(n) for the entries that no snapshot keeps.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_tree::{IndexRange, MapleTree};
    ///
    /// let mut tree: MapleTree<u64> = (0..9).map(|i| (IndexRange::single(i), i)).collect();
    /// tree.clear();
    /// assert!(tree.is_empty());
    /// ```
    pub fn clear(&mut self) {
        self.height = 0;
        self.len = 0;
        if let Some(root) = self.root.take() {
            self.pool.release(root);
            self.pool.trim();
        }
    }

    /// Plans a write and reserves the nodes it takes.
    fn prepare(&mut self, request: Request) -> Result<Plan, OutOfNodes> {
        let plan = Plan::new(self.root(), self.height, request);
        self.pool.reserve(plan.nodes_needed())?;
        Ok(plan)
    }

    fn visit_parts(&self, range: IndexRange, mut visit: impl FnMut(IndexRange, &T)) {
        for (entry, value) in self.range(range) {
            if let Some(part) = entry.intersection(range) {
                visit(part, value);
            }
        }
    }

    /// Carries `plan` out. Returns the entries taken out of the one leaf that
    /// changed; where more than one did, what was in them is gone.
    fn commit(&mut self, plan: &Plan, write: Write<T>) -> Displaced<T> {
        let request = write.request;
        let mut displaced = Displaced::new();
        match plan {
            Plan::Occupied | Plan::Nothing => reached(Path::NothingToDo),
            Plan::FirstLeaf => write
                .value
                .into_iter()
                .for_each(|it| self.plant_leaf(request.range, it)),
            Plan::ExactFit { way, slot, .. } => {
                reached(Path::ExactFit);
                let entry = self.leaf_mut(way).entry_mut(*slot);
                displaced.extend(
                    entry
                        .zip(write.value)
                        .map(|(old, new)| core::mem::replace(old, new)),
                );
            }
            Plan::OneLeaf(place) => {
                reached(Path::OneLeaf);
                displaced = self.edit_leaf(place, write);
            }
            Plan::Rebuild { .. } => {
                let len = self.len_after(request);
                let mut survey = self.survey(request, write.cut);
                let removed = self.rebuild(&mut survey, request.stored().zip(write.value));
                self.len = len;
                self.release_all(removed);
            }
        }
        displaced
    }

    fn plant_leaf(&mut self, range: IndexRange, value: T) {
        reached(Path::FirstLeaf);
        let mut link = self.pool.take::<T>(Kind::Leaf);
        link.get_mut()
            .expect("a new node has one link")
            .push_entry(range, value);
        self.root = Some(link);
        (self.height, self.len) = (1, 1);
    }

    /// Changes one leaf in place, and the gaps above it.
    fn edit_leaf(&mut self, place: &OneLeaf, write: Write<T>) -> Displaced<T> {
        let Write {
            request,
            value,
            cut,
        } = write;
        let OneLeaf {
            way,
            range,
            cut: parts,
            ..
        } = place;
        let is_gapped = self.branches == Kind::Gaps;
        let leaf = self.leaf_mut(way);
        let before_count = leaf.occupancy().count_ones() as usize;
        // Cloning may panic, so it comes before anything changes.
        let second = match (parts.before, parts.after, cut) {
            (Some(before), Some(after), Some(cut)) if before.slot == after.slot => {
                leaf.entry(after.slot).map(cut)
            }
            _ => None,
        };
        let stored = request.stored().zip(value);
        let displaced = replace_slots(leaf, parts, (stored, second));
        let after_count = leaf.occupancy().count_ones() as usize;
        let gap = if is_gapped { leaf_gap(leaf, *range) } else { 0 };
        self.len = self.len - before_count + after_count;
        if let Some(root) = self.root.as_mut().filter(|_| is_gapped) {
            raise_gap(root, way, self.height - 1, gap);
        }
        displaced
    }

    /// How many entries there will be once `request` is carried out.
    fn len_after(&self, request: Request) -> usize {
        if request.puts == Puts::EntryIfVacant {
            return self.len + 1;
        }
        let (first, last) = (request.range.first(), request.range.last());
        let reaches_below =
            matches!(self.find(first), Segment::Entry(range, _) if range.first() < first);
        let reaches_above =
            matches!(self.find(last), Segment::Entry(range, _) if range.last() > last);
        let added = usize::from(reaches_below) + usize::from(reaches_above);
        self.len + added + request.stored().iter().len() - self.range(request.range).count()
    }

    fn release_all(&mut self, removed: rebuild::Removed<T>) {
        removed.into_iter().for_each(|link| self.pool.release(link));
        self.pool.trim();
    }

    /// The leaf at the end of `way`, ours alone. The plan reserved the copies.
    fn leaf_mut(&mut self, way: &Slots) -> &mut Node<T> {
        let depth = self.height - 1;
        let root = self.root.as_mut().expect("the plan saw a root");
        unshare(root, (way, depth), &mut self.pool, &self.clone_fn)
    }

    /// The leaf that `index` belongs to, ours alone. The tree is not empty.
    pub(crate) fn unshared_leaf(&mut self, index: u64) -> Result<&mut Node<T>, OutOfNodes> {
        let root = self.root().expect("the entry was looked up before");
        let Place { way, shared, .. } = Place::of(root, index);
        self.pool.reserve(shared)?;
        Ok(self.leaf_mut(&way))
    }
}

/// Takes the entry at `index` out of its leaf, or clones it where a snapshot
/// shares the leaf. A leaf it was taken from may begin or end with a hole.
pub(crate) fn take_or_clone<T>(root: &mut Link<T>, index: u64, clone_fn: &CloneFn<T>) -> Option<T> {
    let mut link = root;
    // Each node is asked once: a snapshot may go away at any moment.
    loop {
        if link.get_mut().is_none() {
            let entry = leaf_at(link.node(), index).segment(index).entry();
            return entry.zip(clone_fn.get()).map(|(value, clone)| clone(value));
        }
        let node = link.get_mut().expect("what is ours alone stays so");
        if node.is_leaf() {
            let slot = node.leaf_slot(index);
            return node.take_entry(slot);
        }
        let slot = node.child_slot(index);
        link = node.child_link_mut(slot);
    }
}

/// Replaces what a snapshot shares on a way from the root, through a depth, by
/// copies, which were reserved. Returns the node at the end, ours alone.
fn unshare<'a, T, S: NodeSource>(
    root: &'a mut Link<T>,
    (way, depth): (&Slots, usize),
    pool: &mut Pool<S>,
    clone_fn: &CloneFn<T>,
) -> &'a mut Node<T> {
    let mut link = root;
    for &slot in &way[..depth] {
        link = unshare_node(link, pool, clone_fn).child_link_mut(slot.into());
    }
    unshare_node(link, pool, clone_fn)
}

/// Brings the gaps kept above the branch at `depth` on `way` up to date. The
/// way is ours alone.
fn refresh_gaps<T>(root: &mut Link<T>, way: &Slots, depth: usize) {
    if root.node().kind() == Kind::Gaps {
        let gap = node_at(root.node(), way, depth).longest_gap();
        raise_gap(root, way, depth, gap);
    }
}

/// Tells the branches above the node at `depth` on `way` that its longest gap is `gap`.
fn raise_gap<T>(root: &mut Link<T>, way: &Slots, depth: usize, mut gap: u64) {
    for at in (0..depth).rev() {
        let branch = node_mut(root, way, at).expect("the way is unshared");
        let slot = way[at].into();
        if branch.gap(slot) == gap {
            return;
        }
        branch.set_gap(slot, gap);
        gap = branch.longest_gap();
    }
}

/// Puts what is stored, and the pieces of what it cuts, between the slots of
/// `leaf` that stay. Returns the entries that go.
fn replace_slots<T>(
    leaf: &mut Node<T>,
    parts: &LeafCut,
    (stored, second): (Option<(IndexRange, T)>, Option<T>),
) -> Displaced<T> {
    let mut entries: ArrayVec<(IndexRange, T), { LEAF_SLOTS + 2 }> = ArrayVec::new();
    if let Some(piece) = parts.before {
        entries.extend(
            leaf.take_entry(piece.slot)
                .map(|value| (piece.range, value)),
        );
    }
    entries.extend(stored);
    if let Some(piece) = parts.after {
        let value = second.or_else(|| leaf.take_entry(piece.slot));
        entries.extend(value.map(|value| (piece.range, value)));
    }
    for slot in parts.tail..leaf.count() {
        let range = leaf.slot_range(slot);
        entries.extend(leaf.take_entry(slot).map(|value| (range, value)));
    }
    let goes = parts.keep..parts.tail;
    let displaced = goes.filter_map(|slot| leaf.take_entry(slot)).collect();
    leaf.truncate_leaf(parts.keep);
    entries
        .into_iter()
        .for_each(|(range, value)| leaf.push_entry(range, value));
    displaced
}

fn unshare_node<'a, T, S: NodeSource>(
    link: &'a mut Link<T>,
    pool: &mut Pool<S>,
    clone_fn: &CloneFn<T>,
) -> &'a mut Node<T> {
    if link.get_mut().is_none() {
        reached(Path::CopiedOnWrite);
        let copy = copy_node(link.node(), pool, clone_fn);
        let old = core::mem::replace(link, copy);
        pool.release(old);
    }
    link.get_mut()
        .expect("it was the only link, or is a new one")
}

/// Copies a node: a branch shares its children with the copy, a leaf's entries
/// are cloned.
fn copy_node<T, S: NodeSource>(node: &Node<T>, pool: &mut Pool<S>, clone: &CloneFn<T>) -> Link<T> {
    if node.is_leaf() {
        let clone = clone.get().expect("only a snapshot shares nodes");
        // Cloning may panic: the node is taken once nothing can.
        let entries: ArrayVec<(IndexRange, T), LEAF_SLOTS> = (0..node.count())
            .filter_map(|slot| Some((node.slot_range(slot), clone(node.entry(slot)?))))
            .collect();
        let mut link = pool.take(Kind::Leaf);
        let leaf = link.get_mut().expect("a new node has one link");
        entries
            .into_iter()
            .for_each(|(range, value)| leaf.push_entry(range, value));
        return link;
    }
    let mut link = pool.take(node.kind());
    let branch = link.get_mut().expect("a new node has one link");
    for slot in 0..node.count() {
        let gap = if node.kind() == Kind::Gaps {
            node.gap(slot)
        } else {
            0
        };
        // The last child of a branch has no pivot, and its bound is not asked for.
        let last = node.pivot_or(slot, u64::MAX);
        branch.push_child(Child {
            link: node.share_child(slot),
            last,
            gap,
        });
    }
    link
}
