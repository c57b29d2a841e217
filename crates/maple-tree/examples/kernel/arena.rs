//! Nodes out of an array, with a bit set for each that is taken.
#![expect(unsafe_code, reason = "hands out raw memory")]

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use maple_tree::{NodeMemory, NodeSource};

struct Arena {
    nodes: UnsafeCell<MaybeUninit<[NodeMemory; 64]>>,
    taken: AtomicU64,
}

// SAFETY: a node is touched by who took its bit only.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena {
    nodes: UnsafeCell::new(MaybeUninit::uninit()),
    taken: AtomicU64::new(0),
};

#[derive(Clone, Copy)]
pub(crate) struct ArenaNodes;

impl ArenaNodes {
    pub(crate) fn in_use(self) -> u32 {
        ARENA.taken.load(Ordering::Relaxed).count_ones()
    }
}

fn first() -> NonNull<NodeMemory> {
    NonNull::new(ARENA.nodes.get().cast()).expect("a static is not at zero")
}

// SAFETY: a node is handed out once until its bit is cleared; every handle is of the one
// arena, on any thread.
unsafe impl NodeSource for ArenaNodes {
    fn allocate(&self) -> Option<NonNull<NodeMemory>> {
        let take = |taken: u64| (taken != u64::MAX).then(|| taken | (taken + 1));
        // ORDERING: `Acquire` pairs with the `Release` in `free`: its last user is done.
        let before = ARENA
            .taken
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, take);
        let place = before.ok()?.trailing_ones() as usize;
        // SAFETY: there are 64 bits, and as many nodes.
        Some(unsafe { first().add(place) })
    }

    unsafe fn free(&self, node: NonNull<NodeMemory>) {
        let offset = node.addr().get() - first().addr().get();
        let bit = 1 << (offset / size_of::<NodeMemory>());
        ARENA.taken.fetch_and(!bit, Ordering::Release);
    }
}
