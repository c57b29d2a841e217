//! [`EpochRcu`]: reclamation by `crossbeam-epoch`.

extern crate std;

use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;

use crossbeam_epoch::{Guard, pin};

use super::{Rcu, RcuHead};

/// Reclamation by `crossbeam-epoch`'s default collector, for programs with threads.
///
/// A reader costs a few nanoseconds and never waits. What is cut out is freed by
/// whichever thread enters or writes next, once all readers from before have
/// left: a reader that stays holds everything back.
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

/// A head, and what frees it, on its way to another thread.
struct Deferred {
    head: NonNull<RcuHead>,
    free: unsafe fn(NonNull<RcuHead>),
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
    }
}

// SAFETY:
// - `crossbeam-epoch` runs a deferred function after all guards that were pinned
//   when it was deferred are gone, and orders it behind what was done under them.
// - Its default collector is never dropped.
unsafe impl Rcu for EpochRcu {
    type Guard<'a> = Guard;

    #[inline]
    fn read_lock(&self) -> Guard {
        pin()
    }

    unsafe fn call_rcu(&self, head: NonNull<RcuHead>, free: unsafe fn(NonNull<RcuHead>)) {
        let phase = PHASE.load(Ordering::SeqCst) & 1;
        WAITING[phase].fetch_add(1, Ordering::SeqCst);
        let deferred = Deferred { head, free };
        let guard = pin();
        let run = move || {
            let deferred = deferred;
            // SAFETY: called once, when all guards are gone.
            unsafe { deferred.run() };
            WAITING[phase].fetch_sub(1, Ordering::SeqCst);
        };
        // SAFETY: what `run` uses is static, or valid until it runs (contract), on any
        // thread.
        unsafe { guard.defer_unchecked(run) };
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
        pin().flush();
        thread::yield_now();
    }
}
