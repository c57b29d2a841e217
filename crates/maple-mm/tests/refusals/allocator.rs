//! A global allocator that refuses the k-th allocation of a thread, or all from there on.
#![expect(unsafe_code, reason = "a global allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System as Heap};
use std::cell::Cell;

/// Which allocations are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refuse {
    None,
    Once(u64),
    From(u64),
}

thread_local! {
    static REFUSE: Cell<Refuse> = const { Cell::new(Refuse::None) };
    static REFUSED: Cell<u64> = const { Cell::new(0) };
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

struct Refusing;

/// Whether the allocation that is asked for now is refused.
pub(crate) fn is_refused() -> bool {
    let (next, refused) = match REFUSE.get() {
        Refuse::None => return false,
        Refuse::Once(0) => (Refuse::None, true),
        Refuse::Once(left) => (Refuse::Once(left - 1), false),
        Refuse::From(0) => (Refuse::From(0), true),
        Refuse::From(left) => (Refuse::From(left - 1), false),
    };
    REFUSE.set(next);
    REFUSED.set(REFUSED.get() + u64::from(refused));
    refused
}

// SAFETY: the memory is the system's; where null is returned, nothing was allocated.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_refused() {
            return std::ptr::null_mut();
        }
        LIVE.set(LIVE.get() + 1);
        // SAFETY: the contract is the same.
        unsafe { Heap.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get() - 1);
        // SAFETY: the contract is the same.
        unsafe { Heap.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if is_refused() {
            return std::ptr::null_mut();
        }
        // SAFETY: the contract is the same.
        unsafe { Heap.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

/// Runs `act` with allocations refused; says how many were.
pub(crate) fn refusing<T>(refuse: Refuse, act: impl FnOnce() -> T) -> (T, u64) {
    REFUSED.set(0);
    REFUSE.set(refuse);
    let result = act();
    REFUSE.set(Refuse::None);
    (result, REFUSED.get())
}

/// How many allocations of this thread are alive.
pub(crate) fn live() -> i64 {
    LIVE.get()
}
