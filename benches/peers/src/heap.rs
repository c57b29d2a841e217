//! The system's allocator, which counts the bytes that are asked of it while it is told to.
//!
//! Bytes are those of the layouts asked for; what the allocator adds to them is not counted. Only
//! a process that measures memory counts: elsewhere an allocation costs one relaxed load more.
#![expect(
    unsafe_code,
    reason = "a global allocator is unsafe to implement; this one hands everything on"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};

#[global_allocator]
static HEAP: Counting = Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static BYTES: AtomicIsize = AtomicIsize::new(0);

struct Counting;

/// Runs `work` and returns with its result how many more bytes are allocated after it than before.
pub(crate) fn count<T>(work: impl FnOnce() -> T) -> (T, isize) {
    // Relaxed: a count is made in a process with one thread.
    COUNTS.store(true, Ordering::Relaxed);
    let before = BYTES.load(Ordering::Relaxed);
    let result = work();
    let after = BYTES.load(Ordering::Relaxed);
    COUNTS.store(false, Ordering::Relaxed);
    (result, after - before)
}

fn add(bytes: usize) {
    if COUNTS.load(Ordering::Relaxed) {
        BYTES.fetch_add(bytes.cast_signed(), Ordering::Relaxed);
    }
}

fn subtract(bytes: usize) {
    if COUNTS.load(Ordering::Relaxed) {
        BYTES.fetch_sub(bytes.cast_signed(), Ordering::Relaxed);
    }
}

// SAFETY: every method hands its arguments to `System`'s method of the same name and returns what
// that returns; counting touches two atomics and neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's promise to this method is `System`'s: a layout of non-zero size.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's promise to this method is `System`'s: a layout of non-zero size.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        subtract(layout.size());
        // SAFETY: `block` came from this allocator with `layout`, by the caller's promise, so it
        // came from `System` with it.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        subtract(layout.size());
        add(size);
        // SAFETY: `block` came from this allocator with `layout`, so from `System` with it, and
        // `size` is non-zero and does not overflow, both by the caller's promise.
        unsafe { System.realloc(block, layout, size) }
    }
}
