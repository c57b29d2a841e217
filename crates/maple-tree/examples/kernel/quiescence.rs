//! RCU by quiescent states: entering costs a CPU a write to a word of its own. What waits is
//! freed when every CPU has come by its idle loop, where it holds no guard.
#![expect(unsafe_code, reason = "promises that memory is not freed too early")]

use core::cell::Cell;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use lock_api::Mutex;
use maple_tree::{Rcu, RcuHead, RcuList};

use crate::spin::Spin;

pub(crate) const CPUS: usize = 4;
const HALTED: u64 = u64::MAX;

/// The grace period that each CPU knew of when it was last seen quiescent.
static SEEN: [AtomicU64; CPUS] = [const { AtomicU64::new(0) }; CPUS];
static PERIOD: AtomicU64 = AtomicU64::new(0);
static BOOTED: AtomicUsize = AtomicUsize::new(0);
/// What was passed to `call_rcu` since the period began.
static NEW: Mutex<Spin, RcuList> = Mutex::new(RcuList::new());
/// What waits for the period to end.
static WAITING: Mutex<Spin, RcuList> = Mutex::new(RcuList::new());

// What a kernel keeps in each CPU's own memory.
std::thread_local! {
    static CPU: Cell<Option<usize>> = const { Cell::new(None) };
    static GUARDS: Cell<usize> = const { Cell::new(0) };
}

/// Makes the caller a CPU; each of them is one from the start, and until it halts.
pub(crate) fn boot() {
    let cpu = BOOTED.fetch_add(1, Ordering::Relaxed);
    assert!(cpu < CPUS, "there is no such CPU");
    CPU.set(Some(cpu));
}

pub(crate) fn halt() {
    announce(HALTED);
    CPU.set(None);
}

/// Called from the idle loop: frees what no CPU looks at any more.
pub(crate) fn idle() {
    // ORDERING: `Acquire` pairs with the `Release` in `end_period`: what was cut out of
    // a tree before the period began is not found any more.
    announce(PERIOD.load(Ordering::Acquire));
    end_period();
}

fn announce(period: u64) {
    assert_eq!(GUARDS.get(), 0, "a guard is held");
    let cpu = CPU.get().expect("only CPUs look at trees");
    // ORDERING: `Release` pairs with the `Acquire` in `end_period`: what this CPU looked
    // at it has looked at.
    SEEN[cpu].store(period, Ordering::Release);
}

fn end_period() {
    let Some(mut waiting) = WAITING.try_lock() else {
        return;
    };
    let period = PERIOD.load(Ordering::Relaxed);
    if SEEN
        .iter()
        .all(|seen| seen.load(Ordering::Acquire) >= period)
    {
        // SAFETY: each CPU was quiescent since the period began, which was after these
        // were passed to `call_rcu`.
        unsafe { waiting.take().free() };
        *waiting = NEW.lock().take();
        PERIOD.store(period + 1, Ordering::Release);
    }
}

pub(crate) struct QuiescenceRcu;

/// Not `Send`: it belongs to a CPU.
pub(crate) struct Guard(PhantomData<*mut ()>);

impl Drop for Guard {
    fn drop(&mut self) {
        GUARDS.set(GUARDS.get() - 1);
    }
}

// SAFETY: a head is freed when each CPU was seen without a guard after a period began
// that began after the call (`end_period`), in the order that the pairs there give.
unsafe impl Rcu for QuiescenceRcu {
    type Guard<'a> = Guard;

    fn read_lock(&self) -> Guard {
        assert!(CPU.get().is_some(), "only CPUs look at trees");
        GUARDS.set(GUARDS.get() + 1);
        Guard(PhantomData)
    }

    unsafe fn call_rcu(&self, head: NonNull<RcuHead>, free: unsafe fn(NonNull<RcuHead>)) {
        // SAFETY: the contract.
        unsafe { NEW.lock().push(head, free) };
    }

    fn synchronize(&self) {
        self.barrier();
    }

    fn barrier(&self) {
        // The period that is under way, and the one that begins with what is new.
        let end = PERIOD.load(Ordering::Relaxed) + 2;
        while PERIOD.load(Ordering::Relaxed) < end {
            idle();
            core::hint::spin_loop();
        }
        // Who ended the last one may be freeing still.
        drop(WAITING.lock());
    }
}
