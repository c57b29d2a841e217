//! [`LocalRcu`]: readers and writer on one thread.

use core::cell::{Cell, RefCell};
use core::fmt;
use core::ptr::NonNull;

use super::{Rcu, RcuHead, RcuList};

/// Reclamation for one thread: what is cut out is freed at once, or, where
/// readers of this thread still look, when the last of them leaves.
///
/// It is not `Sync`, so neither is a tree that uses it.
///
/// # Examples
///
/// ```
/// use maple_tree::{IndexRange, LocalRcu, RcuMapleTree};
///
/// // Any lock will do; this one is never waited for.
/// type Tree = RcuMapleTree<u64, LocalRcu, parking_lot::RawMutex>;
/// let tree = Tree::new(LocalRcu::new());
/// tree.write().insert(IndexRange::single(1), 7)?;
///
/// let reader = tree.read();
/// let seven = reader.get(1);
/// tree.write().store(IndexRange::single(1), 8)?;
/// assert_eq!((seven, reader.get(1)), (Some(&7), Some(&8)));
/// # Ok::<(), maple_tree::StoreError<u64>>(())
/// ```
#[derive(Default)]
pub struct LocalRcu {
    guards: Cell<usize>,
    waiting: RefCell<RcuList>,
}

impl LocalRcu {
    /// Makes one that nobody uses yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            guards: Cell::new(0),
            waiting: RefCell::new(RcuList::new()),
        }
    }

    fn free_waiting(&self) {
        while self.guards.get() == 0 && !self.waiting.borrow().is_empty() {
            let list = self.waiting.borrow_mut().take();
            // SAFETY: no guard is left, on this thread; there is no other.
            unsafe { list.free() };
        }
    }
}

// SAFETY:
// - A head waits until the count of guards is zero (`free_waiting`).
// - All of it is on one thread, for this type is not `Sync`, so it is in order.
// - When this is dropped no guard is left, and what waits is freed (`Drop`).
unsafe impl Rcu for LocalRcu {
    type Guard<'a> = LocalGuard<'a>;

    fn read_lock(&self) -> LocalGuard<'_> {
        self.guards.set(self.guards.get() + 1);
        LocalGuard { rcu: self }
    }

    unsafe fn call_rcu(&self, head: NonNull<RcuHead>, free: unsafe fn(NonNull<RcuHead>)) {
        // SAFETY: the contract.
        unsafe { self.waiting.borrow_mut().push(head, free) };
        self.free_waiting();
    }

    /// # Panics
    ///
    /// If this thread holds a guard: it would wait for itself.
    fn synchronize(&self) {
        assert_eq!(self.guards.get(), 0, "who holds a guard cannot wait for it");
    }

    /// # Panics
    ///
    /// If this thread holds a guard: it would wait for itself.
    fn barrier(&self) {
        self.synchronize();
        self.free_waiting();
    }
}

impl Drop for LocalRcu {
    fn drop(&mut self) {
        self.guards.set(0);
        self.free_waiting();
    }
}

impl fmt::Debug for LocalRcu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalRcu")
            .field("guards", &self.guards.get())
            .finish_non_exhaustive()
    }
}

/// The guard of a [`LocalRcu`].
#[derive(Debug)]
pub struct LocalGuard<'a> {
    rcu: &'a LocalRcu,
}

impl Drop for LocalGuard<'_> {
    fn drop(&mut self) {
        self.rcu.guards.set(self.rcu.guards.get() - 1);
        self.rcu.free_waiting();
    }
}
