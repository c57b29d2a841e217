//! [`EpochRcu`]: reclamation by `crossbeam-epoch`.

extern crate std;

use alloc::collections::VecDeque;
use core::cell::Cell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crossbeam_epoch::{Guard, pin};

use super::{Rcu, RcuHead};

/// Reclamation by `crossbeam-epoch`'s default collector, for programs with threads.
///
/// A reader costs a few nanoseconds and never waits. What is cut out is freed by
/// whichever thread enters or writes next, once all readers from before have
/// left: a reader that stays holds everything back. What asks to be freed later while it
/// is freed, as a large structure does that goes in pieces, waits for the next of these.
///
/// All trees share the collector: [`barrier`](Rcu::barrier) waits for what any of them
/// cut out, and for readers of all.
///
/// An entry whose drop panics is reported as any panic is, and goes no further: the
/// entries behind it in the same node leak, and nobody waits for them.
///
/// `crossbeam-epoch` allocates to keep its list of what to free, once in many
/// calls, and aborts if it cannot. Who must survive that brings another [`Rcu`].
#[derive(Clone, Copy, Debug, Default)]
pub struct EpochRcu;

/// How many calls wait, by the phase in which they were made.
static WAITING: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];
/// The phase of new calls is the lowest bit.
static PHASE: AtomicUsize = AtomicUsize::new(0);
/// One barrier at a time.
static BARRIER: Mutex<()> = Mutex::new(());

/// What was passed on by what was being freed. The collector frees more whenever it is given
/// something: each would free the next on top of itself.
static LATER: Mutex<VecDeque<Deferred>> = Mutex::new(VecDeque::new());
/// Whether there is something.
static IS_LATER: AtomicBool = AtomicBool::new(false);

std::thread_local! {
    /// Whether this thread frees something.
    static FREES: Cell<bool> = const { Cell::new(false) };
}

/// A head, and what frees it, on its way to another thread.
struct Deferred {
    head: NonNull<RcuHead>,
    free: unsafe fn(NonNull<RcuHead>),
    /// Where it is counted as waiting.
    phase: usize,
}

// SAFETY: `Rcu::call_rcu` says that it may be freed on any thread.
unsafe impl Send for Deferred {}

impl Deferred {
    /// Frees it. A panic of an entry's drop ends here.
    ///
    /// The collector frees what it holds in batches, and leaks those behind one that
    /// panics; a [`barrier`](Rcu::barrier) would wait for them for ever, and whoever
    /// happened to come by, perhaps for another tree, would be the one who panics.
    ///
    /// # Safety
    ///
    /// - As for calling `free(head)`.
    unsafe fn run(self) {
        let freed_before = FREES.replace(true);
        let free = || {
            // SAFETY: the contract.
            unsafe { (self.free)(self.head) };
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(free)) {
            // The panic was reported when it began. What it carries may panic as well; what
            // that carries is left alone.
            if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
                core::mem::forget(another);
            }
        }
        FREES.set(freed_before);
        WAITING[self.phase].fetch_sub(1, Ordering::SeqCst);
    }

    /// Gives it to the collector, to be freed when all guards that exist now are gone.
    ///
    /// # Safety
    ///
    /// - As for [`run`](Self::run), when they are gone, on any thread.
    unsafe fn defer(self, guard: &Guard) {
        let run = move || {
            // The whole of it, which may be sent.
            let deferred = self;
            // SAFETY: called once, when all guards are gone (contract).
            unsafe { deferred.run() };
        };
        // SAFETY: what `run` uses is valid until it runs, on any thread (contract).
        unsafe { guard.defer_unchecked(run) };
    }
}

/// Gives the collector one of those that were passed on by what was being freed, and with it the
/// occasion to free some.
#[cold]
fn pass_on() {
    if FREES.get() {
        return;
    }
    let next = {
        let mut later = LATER.lock().unwrap_or_else(PoisonError::into_inner);
        let next = later.pop_front();
        IS_LATER.store(!later.is_empty(), Ordering::Relaxed);
        next
    };
    let guard = pin();
    if let Some(deferred) = next {
        // SAFETY: `call_rcu` was promised so much.
        unsafe { deferred.defer(&guard) };
    }
    guard.flush();
}

// SAFETY:
// - `crossbeam-epoch` runs a deferred function after all guards that were pinned
//   when it was deferred are gone, and orders it behind what was done under them.
// - Its default collector is never dropped.
unsafe impl Rcu for EpochRcu {
    type Guard<'a> = Guard;

    #[inline]
    fn read_lock(&self) -> Guard {
        // Relaxed: who misses that there is something leaves it to the next.
        if IS_LATER.load(Ordering::Relaxed) {
            pass_on();
        }
        pin()
    }

    unsafe fn call_rcu(&self, head: NonNull<RcuHead>, free: unsafe fn(NonNull<RcuHead>)) {
        let phase = PHASE.load(Ordering::SeqCst) & 1;
        WAITING[phase].fetch_add(1, Ordering::SeqCst);
        let deferred = Deferred { head, free, phase };
        if FREES.get() {
            let mut later = LATER.lock().unwrap_or_else(PoisonError::into_inner);
            later.push_back(deferred);
            IS_LATER.store(true, Ordering::Relaxed);
            return;
        }
        let guard = pin();
        // SAFETY: the contract.
        unsafe { deferred.defer(&guard) };
        // Out of this thread's own list: it may not come by again for long.
        guard.flush();
    }

    fn synchronize(&self) {
        // A marker that is freed as anything else, after the guards that exist now.
        let _one_at_a_time = BARRIER.lock();
        wait_for_phase();
    }

    fn barrier(&self) {
        let _one_at_a_time = BARRIER.lock();
        wait_for_phase();
    }
}

/// Waits for all calls made so far, those of other trees included, and for the
/// guards that exist now.
fn wait_for_phase() {
    let phase = PHASE.load(Ordering::SeqCst) & 1;
    // What an earlier wait left of the other phase goes first.
    drain(1 - phase);
    WAITING[phase].fetch_add(1, Ordering::SeqCst);
    PHASE.fetch_add(1, Ordering::SeqCst);
    let guard = pin();
    guard.defer(move || WAITING[phase].fetch_sub(1, Ordering::SeqCst));
    guard.flush();
    drop(guard);
    drain(phase);
}

fn drain(phase: usize) {
    while WAITING[phase].load(Ordering::SeqCst) > 0 {
        pass_on();
        thread::yield_now();
    }
}
