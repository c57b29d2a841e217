//! A global allocator that refuses the k-th allocation of a thread, or all from there on.
#![expect(unsafe_code, reason = "a global allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System as Heap};
use std::cell::Cell;

use crate::points::Kind;

/// Which allocations are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refuse {
    None,
    Once(u64),
    From(u64),
}

thread_local! {
    static REFUSE: Cell<Refuse> = const { Cell::new(Refuse::None) };
    static ASKED: Cell<u64> = const { Cell::new(0) };
    static REFUSED: Cell<u64> = const { Cell::new(0) };
    static FIRST: Cell<Option<Kind>> = const { Cell::new(None) };
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

struct Refusing;

/// What was refused of an act.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused {
    /// How often.
    pub(crate) times: u64,
    /// What was refused first.
    pub(crate) first: Option<Kind>,
}

/// What memory from the global allocator is for: nodes of trees have an alignment of their own,
/// and so have chunks for mappings, which hold one each.
fn kind(layout: Layout) -> Kind {
    match layout.align() {
        256 => Kind::Node,
        64 => Kind::Vma,
        _ => Kind::Other,
    }
}

/// Whether the allocation that is asked for now is refused.
pub(crate) fn is_refused(kind: Kind) -> bool {
    ASKED.set(ASKED.get() + 1);
    let (next, refused) = match REFUSE.get() {
        Refuse::None => return false,
        Refuse::Once(0) => (Refuse::None, true),
        Refuse::Once(left) => (Refuse::Once(left - 1), false),
        Refuse::From(0) => (Refuse::From(0), true),
        Refuse::From(left) => (Refuse::From(left - 1), false),
    };
    REFUSE.set(next);
    if refused {
        REFUSED.set(REFUSED.get() + 1);
        FIRST.set(FIRST.get().or(Some(kind)));
    }
    refused
}

// SAFETY: the memory is the system's; where null is returned, nothing was allocated.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_refused(kind(layout)) {
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
        if is_refused(Kind::Other) {
            return std::ptr::null_mut();
        }
        // SAFETY: the contract is the same.
        unsafe { Heap.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

/// Runs `act` with allocations refused; says which were.
pub(crate) fn refusing<T>(refuse: Refuse, act: impl FnOnce() -> T) -> (T, Refused) {
    ASKED.set(0);
    REFUSED.set(0);
    FIRST.set(None);
    REFUSE.set(refuse);
    let result = act();
    REFUSE.set(Refuse::None);
    let refused = Refused {
        times: REFUSED.get(),
        first: FIRST.get(),
    };
    (result, refused)
}

/// How often this thread has asked for memory since the last act began.
#[allow(dead_code, reason = "only pages are told apart by their number")]
pub(crate) fn asked() -> u64 {
    ASKED.get()
}

/// How many allocations of this thread are alive.
pub(crate) fn live() -> i64 {
    LIVE.get()
}
