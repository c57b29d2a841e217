//! [`EagerRcu`]: frees at the first moment that the contract of `Rcu` allows.
#![expect(unsafe_code, reason = "`Rcu` is an unsafe trait")]

use std::collections::{BTreeSet, VecDeque};
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use maple_tree::{Rcu, RcuHead, RcuList};
use shuttle::thread;

use crate::checker::point;

/// Whether readers are waited for, or, to see that it is found, not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    WaitsForReaders,
    FreesAtOnce,
}

/// Knows every guard, and frees when the last one from before a call is gone.
pub(crate) struct EagerRcu {
    // Shuttle changes threads at points of its own only, so never under this lock.
    inner: Mutex<Inner>,
    patience: Patience,
}

#[derive(Default)]
struct Inner {
    /// Guards are numbered as they come.
    next: u64,
    guards: BTreeSet<u64>,
    /// What waits for all guards below a number.
    waiting: VecDeque<(u64, RcuList)>,
}

impl EagerRcu {
    pub(crate) fn new(patience: Patience) -> Self {
        Self {
            inner: Mutex::default(),
            patience,
        }
    }

    fn with<R>(&self, step: impl FnOnce(&mut Inner) -> R) -> R {
        step(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take_ready(&self) -> Option<RcuList> {
        self.with(|inner| {
            let below = inner.guards.first().copied().unwrap_or(u64::MAX);
            let &(after, _) = inner.waiting.front()?;
            let is_ready = after <= below || self.patience == Patience::FreesAtOnce;
            is_ready
                .then(|| inner.waiting.pop_front())?
                .map(|(_, list)| list)
        })
    }

    fn free_ready(&self) {
        while let Some(list) = self.take_ready() {
            // SAFETY: all guards from before the call are gone (unless it is to be found
            // out that one is not).
            unsafe { list.free() };
        }
    }
}

// SAFETY:
// - What waits is freed when no guard is left that was there at the call.
// - All threads of shuttle run on one thread of the system, so it is in order.
// - When this is dropped no guard is left, and what waits is freed.
unsafe impl Rcu for EagerRcu {
    type Guard<'a> = EagerGuard<'a>;

    fn read_lock(&self) -> EagerGuard<'_> {
        point();
        let number = self.with(|inner| {
            inner.next += 1;
            inner.guards.insert(inner.next - 1);
            inner.next - 1
        });
        EagerGuard { rcu: self, number }
    }

    unsafe fn call_rcu(&self, head: NonNull<RcuHead>, free: unsafe fn(NonNull<RcuHead>)) {
        let mut list = RcuList::new();
        // SAFETY: the contract.
        unsafe { list.push(head, free) };
        self.with(|inner| inner.waiting.push_back((inner.next, list)));
        self.free_ready();
    }

    fn synchronize(&self) {
        let now = self.with(|inner| inner.next);
        while self.with(|inner| inner.guards.first().is_some_and(|&first| first < now)) {
            thread::yield_now();
        }
    }

    fn barrier(&self) {
        self.synchronize();
        self.free_ready();
    }
}

impl Drop for EagerRcu {
    fn drop(&mut self) {
        self.free_ready();
    }
}

/// The guard of an [`EagerRcu`].
pub(crate) struct EagerGuard<'a> {
    rcu: &'a EagerRcu,
    number: u64,
}

impl Drop for EagerGuard<'_> {
    fn drop(&mut self) {
        point();
        self.rcu.with(|inner| inner.guards.remove(&self.number));
        if !std::thread::panicking() {
            self.rcu.free_ready();
        }
    }
}
