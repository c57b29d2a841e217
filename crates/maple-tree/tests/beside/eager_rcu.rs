//! [`EagerRcu`]: reclamation of the test's own, which frees whenever nobody looks.
#![expect(unsafe_code, reason = "`Rcu` is an unsafe trait")]

use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use maple_tree::{Rcu, RcuHead, RcuList};

/// Knows how many guards there are, and frees when there is none.
#[derive(Debug)]
pub(crate) struct EagerRcu {
    guards: AtomicUsize,
    waiting: Mutex<RcuList>,
}

impl EagerRcu {
    pub(crate) const fn new() -> Self {
        Self {
            guards: AtomicUsize::new(0),
            waiting: Mutex::new(RcuList::new()),
        }
    }

    fn free_waiting(&self) {
        let mut waiting = self.waiting.lock().unwrap();
        // ORDERING: the `Acquire` half pairs with the `Release` of guards that were
        // dropped, the `Release` half with the `Acquire` of those that come: they find
        // nothing of what is waiting now.
        if self.guards.fetch_add(0, Ordering::AcqRel) > 0 {
            return;
        }
        let list = waiting.take();
        drop(waiting);
        // SAFETY: no guard is left that was there when a head was pushed.
        unsafe { list.free() };
    }
}

// SAFETY:
// - What waits is freed when the count of guards is 0, whose changes are one chain of
//   read-modify-writes.
// - When this is dropped no guard is left, and what waits is freed.
unsafe impl Rcu for EagerRcu {
    type Guard<'a> = EagerGuard<'a>;

    fn read_lock(&self) -> EagerGuard<'_> {
        self.guards.fetch_add(1, Ordering::Acquire);
        EagerGuard { rcu: self }
    }

    unsafe fn call_rcu(&self, head: NonNull<RcuHead>, free: unsafe fn(NonNull<RcuHead>)) {
        // SAFETY: the contract.
        unsafe { self.waiting.lock().unwrap().push(head, free) };
        self.free_waiting();
    }

    fn synchronize(&self) {
        while self.guards.fetch_add(0, Ordering::AcqRel) > 0 {
            thread::yield_now();
        }
    }

    fn barrier(&self) {
        self.synchronize();
        self.free_waiting();
    }
}

impl Drop for EagerRcu {
    fn drop(&mut self) {
        self.free_waiting();
    }
}

/// The guard of an [`EagerRcu`]. The last to leave frees what waits.
pub(crate) struct EagerGuard<'a> {
    rcu: &'a EagerRcu,
}

impl Drop for EagerGuard<'_> {
    fn drop(&mut self) {
        if self.rcu.guards.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.rcu.free_waiting();
        }
    }
}
