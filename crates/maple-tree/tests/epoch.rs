//! What `EpochRcu` frees, and what that passes on while it is freed.
#![cfg(all(feature = "crossbeam", not(loom), not(shuttle)))]
#![expect(unsafe_code, reason = "`call_rcu` takes raw memory")]

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;

use maple_tree::{EpochRcu, Rcu, RcuHead};

const CHAINS: usize = if cfg!(miri) { 50 } else { 3000 };
/// How often each asks to be freed later while it is freed.
const TIMES: u32 = 3;
/// How deep they may nest before that is ended.
const NESTED_MOST: u32 = 8;
/// Far too small for a frame of each chain.
const STACK: usize = 256 << 10;

/// Asks to be freed later, some times.
#[repr(C)]
struct Chain {
    /// First: who frees it is given this.
    head: MaybeUninit<RcuHead>,
    left: Cell<u32>,
}

thread_local! {
    /// How many callbacks of this thread are within each other.
    static WITHIN: Cell<u32> = const { Cell::new(0) };
}

/// The most of them there ever were.
static DEEPEST: AtomicU32 = AtomicU32::new(0);
static RUN: AtomicUsize = AtomicUsize::new(0);

/// # Safety
///
/// - `chain` came out of a box, and is nobody else's.
unsafe fn defer(chain: NonNull<Chain>) {
    // SAFETY: the head is the first field of memory that is valid until `go_on` frees it, on
    // any thread, for there is nothing in it that belongs to one.
    unsafe { EpochRcu.call_rcu(chain.cast(), go_on) };
}

/// # Safety
///
/// - `head` is that of a chain that came out of a box, and is nobody else's.
unsafe fn go_on(head: NonNull<RcuHead>) {
    let within = WITHIN.get() + 1;
    WITHIN.set(within);
    // Relaxed, here and below: looked at after a barrier.
    DEEPEST.fetch_max(within, Ordering::Relaxed);
    RUN.fetch_add(1, Ordering::Relaxed);
    let chain: NonNull<Chain> = head.cast();
    // SAFETY: a chain (contract) that nobody else looks at.
    let left = unsafe { &chain.as_ref().left };
    // That they nest is told below: the stack is not needed for it.
    if left.get() == 0 || within > NESTED_MOST {
        // SAFETY: it came out of a box (contract), and nobody defers it any more.
        drop(unsafe { Box::from_raw(chain.as_ptr()) });
    } else {
        left.set(left.get() - 1);
        // SAFETY: as it was given to this function.
        unsafe { defer(chain) };
    }
    WITHIN.set(within - 1);
}

#[test]
fn what_is_passed_on_while_it_is_freed_is_not_freed_within() {
    let guard = EpochRcu.read_lock();
    for _ in 0..CHAINS {
        let chain = Box::new(Chain {
            head: MaybeUninit::uninit(),
            left: Cell::new(TIMES),
        });
        // SAFETY: it comes out of a box.
        unsafe { defer(NonNull::from(Box::leak(chain))) };
    }
    assert_eq!(RUN.load(Ordering::Relaxed), 0, "it was freed under a guard");
    drop(guard);
    let frees = || {
        for _ in 0..CHAINS {
            drop(EpochRcu.read_lock());
        }
        // Each pass may leave the next to another barrier.
        for _ in 0..=TIMES {
            EpochRcu.barrier();
        }
    };
    let freer = thread::Builder::new().stack_size(STACK).spawn(frees);
    freer.expect("a thread").join().expect("it frees all");
    assert_eq!(
        DEEPEST.load(Ordering::Relaxed),
        1,
        "callbacks within each other"
    );
    assert_eq!(RUN.load(Ordering::Relaxed), CHAINS * (1 + TIMES as usize));
}
