//! [`LoomRcu`]: reclamation made of loom's atomics.
#![expect(unsafe_code, reason = "`Rcu` is an unsafe trait")]

use std::ptr::NonNull;

use loom::sync::Mutex;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use maple_tree::{Rcu, RcuHead, RcuList};

/// Whether readers are waited for, or, to see that loom finds it, not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    WaitsForReaders,
    FreesAtOnce,
}

/// Frees whenever nobody looks: the eagerest that one count of readers allows.
pub(crate) struct LoomRcu {
    readers: AtomicUsize,
    waiting: Mutex<RcuList>,
    patience: Patience,
}

impl LoomRcu {
    pub(crate) fn new(patience: Patience) -> Self {
        Self {
            readers: AtomicUsize::new(0),
            waiting: Mutex::new(RcuList::new()),
            patience,
        }
    }

    fn free_waiting(&self) {
        let mut waiting = self.waiting.lock().unwrap();
        // ORDERING: the `Acquire` half pairs with the `Release` of readers that left,
        // the `Release` half with the `Acquire` of readers that come: these find
        // nothing of what is waiting now.
        let readers = self.readers.fetch_add(0, Ordering::AcqRel);
        if readers > 0 && self.patience == Patience::WaitsForReaders {
            return;
        }
        let list = waiting.take();
        drop(waiting);
        // SAFETY: no reader is left that could look (unless it is to be found out that
        // one is: the test source of nodes keeps the memory).
        unsafe { list.free() };
    }
}

// SAFETY:
// - What waits is freed when the count of readers is 0, whose changes are one chain
//   of read-modify-writes.
// - When this is dropped no reader is left, and what waits is freed.
unsafe impl Rcu for LoomRcu {
    type Guard<'a> = LoomGuard<'a>;

    fn read_lock(&self) -> LoomGuard<'_> {
        self.readers.fetch_add(1, Ordering::Acquire);
        LoomGuard { rcu: self }
    }

    unsafe fn call_rcu(&self, head: NonNull<RcuHead>, free: unsafe fn(NonNull<RcuHead>)) {
        // SAFETY: the contract.
        unsafe { self.waiting.lock().unwrap().push(head, free) };
        self.free_waiting();
    }

    fn synchronize(&self) {
        while self.readers.fetch_add(0, Ordering::AcqRel) > 0 {
            thread::yield_now();
        }
    }

    fn barrier(&self) {
        self.synchronize();
        self.free_waiting();
    }
}

impl Drop for LoomRcu {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.free_waiting();
        }
    }
}

/// The guard of a [`LoomRcu`]. The last to leave frees what waits.
pub(crate) struct LoomGuard<'a> {
    rcu: &'a LoomRcu,
}

impl Drop for LoomGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if self.rcu.readers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.rcu.free_waiting();
        }
    }
}
