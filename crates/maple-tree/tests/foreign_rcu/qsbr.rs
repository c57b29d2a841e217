//! [`Qsbr`]: reclamation as kernels do it, where threads say when they look at nothing.
//!
//! A guard costs nothing at all: a thread that is registered passes *quiescent
//! states*, moments in which it holds no guard, and announces them. What was cut
//! out is freed when every registered thread has announced one since. Nothing here
//! allocates but the tree's own nodes; the lists go through what is to be freed.
#![expect(unsafe_code, reason = "`Rcu` is an unsafe trait")]

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use maple_tree::{Rcu, RcuHead, RcuList};
use parking_lot::lock_api::Mutex;

use crate::spin::SpinLock;

/// The most threads that are registered at a time.
const THREADS: usize = 16;
/// The announcement of nobody, who looks at nothing.
const OFFLINE: u64 = 0;

thread_local! {
    /// This thread's place among those of the one [`Qsbr`] it is registered with.
    static PLACE: Cell<Option<usize>> = const { Cell::new(None) };
    /// How many guards this thread holds.
    static GUARDS: Cell<usize> = const { Cell::new(0) };
}

/// Reclamation by quiescent states.
pub(crate) struct Qsbr {
    /// The number of the newest grace period.
    period: AtomicU64,
    /// For each registered thread, the newest period of which it knew in its last
    /// quiescent state.
    announced: [AtomicU64; THREADS],
    calls: Mutex<SpinLock, Calls>,
}

/// What was passed to `call_rcu`.
#[derive(Default)]
struct Calls {
    is_taken: [bool; THREADS],
    /// Waits for a period that has not begun.
    next: Batch,
    /// Waits for `period` to be over.
    waiting: Batch,
    period: u64,
    /// Somebody is freeing a batch. One at a time, so that they are freed in order.
    is_freeing: bool,
    made: u64,
    finished: u64,
}

#[derive(Default)]
struct Batch {
    list: RcuList,
    len: u64,
}

/// For as long as it lives this thread is waited for.
pub(crate) struct Registration<'r> {
    rcu: &'r Qsbr,
    _of_this_thread: PhantomData<*const ()>,
}

/// What a reader holds: nothing, but it may not announce a quiescent state.
pub(crate) struct QsbrGuard {
    _of_this_thread: PhantomData<*const ()>,
}

impl Drop for QsbrGuard {
    fn drop(&mut self) {
        GUARDS.set(GUARDS.get() - 1);
    }
}

impl Qsbr {
    pub(crate) fn new() -> Self {
        Self {
            period: AtomicU64::new(1),
            announced: [const { AtomicU64::new(OFFLINE) }; THREADS],
            calls: Mutex::new(Calls::default()),
        }
    }

    /// Lets this thread be a reader.
    pub(crate) fn register(&self) -> Registration<'_> {
        assert_eq!(PLACE.get(), None, "registered already");
        let mut calls = self.calls.lock();
        let place = calls.is_taken.iter().position(|taken| !taken);
        let place = place.expect("no more threads can be registered");
        calls.is_taken[place] = true;
        // ORDERING: the lock orders this before any later look at who is registered;
        // and what was passed to `call_rcu` before, this thread sees cut out.
        let period = self.period.load(Ordering::Relaxed);
        self.announced[place].store(period, Ordering::Relaxed);
        PLACE.set(Some(place));
        Registration {
            rcu: self,
            _of_this_thread: PhantomData,
        }
    }

    /// How many calls have not come to an end.
    pub(crate) fn outstanding(&self) -> u64 {
        let calls = self.calls.lock();
        calls.made - calls.finished
    }

    /// This thread, if it is registered, holds no guard at this moment.
    fn announce(&self) {
        assert_eq!(GUARDS.get(), 0, "who holds a guard is not quiescent");
        if let Some(place) = PLACE.get() {
            // ORDERING: `Acquire` pairs with the `Release` of who began the period: what
            // was cut out before is not found any more.
            let period = self.period.load(Ordering::Acquire);
            // ORDERING: `Release` pairs with the `Acquire` in `is_over`: what was looked
            // at before is not looked at any more.
            self.announced[place].store(period, Ordering::Release);
        }
    }

    /// Whether every registered thread has been quiescent since `period` began.
    fn is_over(&self, period: u64) -> bool {
        let mut announced = self.announced.iter().map(|at| at.load(Ordering::Acquire));
        announced.all(|announced| announced == OFFLINE || announced >= period)
    }

    fn begin_period(&self) -> u64 {
        // ORDERING: see `announce`.
        self.period.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Goes a step on: begins a period, or frees what waited for one that is over.
    fn poll(&self) {
        let Some(mut calls) = self.calls.try_lock() else {
            return;
        };
        if calls.is_freeing {
            return;
        }
        if calls.waiting.len == 0 {
            if calls.next.len == 0 {
                return;
            }
            calls.waiting = std::mem::take(&mut calls.next);
            calls.period = self.begin_period();
        }
        if !self.is_over(calls.period) {
            return;
        }
        let Batch { list, len } = std::mem::take(&mut calls.waiting);
        calls.is_freeing = true;
        drop(calls);
        // SAFETY: all threads have been quiescent since the last head was pushed.
        unsafe { list.free() };
        let mut calls = self.calls.lock();
        calls.is_freeing = false;
        calls.finished += len;
    }

    fn wait_until(&self, is_done: impl Fn() -> bool) {
        loop {
            // Who waits holds no guard, so nobody has to wait for it.
            self.announce();
            self.poll();
            if is_done() {
                return;
            }
            thread::yield_now();
        }
    }
}

// SAFETY:
// - A guard is held by a registered thread, between two of its announcements. A
//   batch waits until all registered threads have made one that knows of a period
//   that began after the last call in the batch, or are gone; who registers later
//   finds nothing of it, as both take the lock.
// - Announcements are released and acquired, so what was looked at before happens
//   before the batch is freed.
// - What waits when this is dropped is freed then: no guard is left.
unsafe impl Rcu for Qsbr {
    type Guard<'a> = QsbrGuard;

    fn read_lock(&self) -> QsbrGuard {
        assert!(PLACE.get().is_some(), "only registered threads may look");
        GUARDS.set(GUARDS.get() + 1);
        QsbrGuard {
            _of_this_thread: PhantomData,
        }
    }

    unsafe fn call_rcu(&self, head: NonNull<RcuHead>, free: unsafe fn(NonNull<RcuHead>)) {
        let mut calls = self.calls.lock();
        // SAFETY: the contract.
        unsafe { calls.next.list.push(head, free) };
        calls.next.len += 1;
        calls.made += 1;
    }

    fn synchronize(&self) {
        let period = self.begin_period();
        self.wait_until(|| self.is_over(period));
    }

    fn barrier(&self) {
        let made = self.calls.lock().made;
        self.wait_until(|| self.calls.lock().finished >= made);
    }
}

impl Drop for Qsbr {
    fn drop(&mut self) {
        let calls = self.calls.get_mut();
        for batch in [&mut calls.waiting, &mut calls.next] {
            // SAFETY: nobody is registered, for that borrows this.
            unsafe { batch.list.take().free() };
        }
    }
}

impl Registration<'_> {
    /// Announces a quiescent state.
    pub(crate) fn quiescent(&self) {
        self.rcu.announce();
        self.rcu.poll();
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        assert_eq!(GUARDS.get(), 0, "a guard is still held");
        let place = PLACE.take().expect("registered");
        let mut calls = self.rcu.calls.lock();
        calls.is_taken[place] = false;
        self.rcu.announced[place].store(OFFLINE, Ordering::Release);
    }
}
