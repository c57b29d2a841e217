//! The slab behind `HeapNodes`: no node is handed out twice, chunks come and go, and failure is told.
//!
//! The global allocator of this test counts the chunks that live, refuses them on request, and can
//! be made to use nodes itself. There is one slab in a process, so the tests take turns.
#![expect(
    unsafe_code,
    reason = "uses nodes as raw memory, and is a global allocator"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashSet;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, MutexGuard, PoisonError};
use std::thread;

use maple_tree::{GlobalNodes, HeapNodes, MapleTree, NodeMemory, NodeSource, StoreErrorKind};
use testkit::{assert_valid, range};

const CHUNK: usize = 64 * 1024;
/// Nodes of a chunk: one place is the header's.
const PER_CHUNK: usize = CHUNK / size_of::<NodeMemory>() - 1;
/// Words of a node.
const WORDS: usize = size_of::<NodeMemory>() / size_of::<u64>();

#[global_allocator]
static ALLOCATOR: Watched = Watched {
    chunks: AtomicUsize::new(0),
    refusing: AtomicBool::new(false),
    using_nodes: AtomicBool::new(false),
};

/// The system's allocator, watched for chunks.
struct Watched {
    chunks: AtomicUsize,
    refusing: AtomicBool,
    using_nodes: AtomicBool,
}

impl Watched {
    fn chunks(&self) -> usize {
        self.chunks.load(Ordering::Relaxed)
    }

    /// Does what an allocator does that keeps a tree, if it was told to; once.
    fn use_nodes(&self) {
        if self.using_nodes.swap(false, Ordering::Relaxed) {
            let node = HeapNodes.allocate().expect("there is memory");
            // SAFETY: it came from there just now.
            unsafe { HeapNodes.free(node) };
        }
    }
}

fn is_chunk(layout: Layout) -> bool {
    layout.size() == CHUNK && layout.align() == CHUNK
}

// SAFETY: passes on what the system's allocator does, or null.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_chunk(layout) {
            if self.refusing.load(Ordering::Relaxed) {
                return std::ptr::null_mut();
            }
            self.chunks.fetch_add(1, Ordering::Relaxed);
            self.use_nodes();
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if is_chunk(layout) {
            self.chunks.fetch_sub(1, Ordering::Relaxed);
            self.use_nodes();
        }
        // SAFETY: the caller's promise; `alloc` took it from there.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// The slab to oneself, without chunks.
struct Turn(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

#[track_caller]
fn turn() -> Turn {
    static TURN: Mutex<()> = Mutex::new(());
    let guard = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    HeapNodes::release_reserve();
    assert_eq!(ALLOCATOR.chunks(), 0, "the test before left nodes behind");
    Turn(guard)
}

/// Every node is back: only the reserve is left, and goes when asked to.
#[track_caller]
fn assert_settled() {
    assert!(
        ALLOCATOR.chunks() <= 1,
        "{} chunks are left",
        ALLOCATOR.chunks()
    );
    let reserve = ALLOCATOR.chunks() * CHUNK;
    assert_eq!(HeapNodes::release_reserve(), reserve);
    assert_eq!(ALLOCATOR.chunks(), 0);
    assert_eq!(HeapNodes::release_reserve(), 0);
}

/// A node of the slab that this owns, with a number in every word.
struct Marked {
    node: NonNull<NodeMemory>,
    mark: u64,
}

// SAFETY: the memory is owned, and the slab takes it back on any thread.
unsafe impl Send for Marked {}

impl Marked {
    fn new(node: NonNull<NodeMemory>, mark: u64) -> Self {
        // SAFETY: the node was handed out to this, and is of this size and more aligned.
        unsafe { node.cast().write([mark; WORDS]) };
        Self { node, mark }
    }

    /// Checks that nobody else wrote to the node, and gives it up.
    fn check(self) -> NonNull<NodeMemory> {
        // SAFETY: `new` filled the node in, which is still this one's.
        let words: [u64; WORDS] = unsafe { self.node.cast().read() };
        assert_eq!(words, [self.mark; WORDS], "someone else has this node too");
        self.node
    }
}

/// Allocates `count` nodes in one call.
fn allocate(count: usize) -> Vec<NonNull<NodeMemory>> {
    let mut nodes = Vec::with_capacity(count);
    let done = HeapNodes.allocate_many(count, &mut |node| nodes.push(node));
    assert_eq!(done, nodes.len());
    nodes
}

/// Frees nodes that came from `HeapNodes`, which `Vec` handed over, in one call.
fn free(nodes: &[NonNull<NodeMemory>]) {
    // SAFETY: the tests of this file pass nodes they allocated, once.
    unsafe { HeapNodes.free_many(nodes) };
}

/// Numbers that look random: `xorshift64`.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

mod nodes {
    use super::*;

    #[test]
    fn are_distinct_and_aligned_whether_asked_for_singly_or_at_once() {
        let _turn = turn();
        let mut nodes = allocate(2 * PER_CHUNK + 1);
        nodes.extend((0..PER_CHUNK).map(|_| HeapNodes.allocate().unwrap()));

        let addresses: HashSet<usize> = nodes.iter().map(|node| node.addr().get()).collect();

        assert_eq!(addresses.len(), 3 * PER_CHUNK + 1);
        assert!(
            addresses
                .iter()
                .all(|node| node % size_of::<NodeMemory>() == 0)
        );
        assert_eq!(ALLOCATOR.chunks(), 4);
        free(&nodes);
        assert_settled();
    }

    #[test]
    fn of_one_call_are_neighbours() {
        let _turn = turn();
        let nodes = allocate(PER_CHUNK);
        for pair in nodes.windows(2) {
            let apart = pair[1].addr().get() - pair[0].addr().get();
            assert_eq!(apart, size_of::<NodeMemory>());
        }
        free(&nodes);
        assert_settled();
    }

    #[test]
    fn that_were_freed_are_handed_out_again_before_a_chunk_is_asked_for() {
        let _turn = turn();
        let mut nodes = allocate(4 * PER_CHUNK);
        let holes: Vec<_> = nodes.iter().copied().step_by(3).collect();
        nodes = (0..nodes.len())
            .filter(|place| place % 3 != 0)
            .map(|place| nodes[place])
            .collect();
        free(&holes);

        nodes.extend(allocate(holes.len()));

        assert_eq!(ALLOCATOR.chunks(), 4);
        let addresses: HashSet<_> = nodes.iter().collect();
        assert_eq!(addresses.len(), 4 * PER_CHUNK);
        free(&nodes);
        assert_settled();
    }

    #[test]
    fn none_are_asked_for_and_none_come() {
        let _turn = turn();
        assert!(allocate(0).is_empty());
        free(&[]);
        assert_eq!(ALLOCATOR.chunks(), 0);
    }

    #[test]
    #[cfg(debug_assertions)]
    fn freed_twice_are_noticed_and_the_slab_goes_on() {
        let _turn = turn();
        let nodes = allocate(2);
        free(&nodes[..1]);
        // The contract is broken on purpose; the chunk lives, as its second node does.
        let again = std::panic::catch_unwind(|| free(&nodes_at(nodes[0])));
        assert!(again.is_err());
        free(&nodes[1..]);
        assert_settled();
    }

    /// The pointer alone may cross `catch_unwind`.
    #[cfg(debug_assertions)]
    fn nodes_at(node: NonNull<NodeMemory>) -> [NonNull<NodeMemory>; 1] {
        [node]
    }
}

mod chunks {
    use super::*;

    #[test]
    fn go_back_but_for_as_many_as_are_in_use_or_one() {
        let _turn = turn();
        let nodes = allocate(5 * PER_CHUNK);
        assert_eq!(ALLOCATOR.chunks(), 5);
        // In use, and in reserve: 4 + 1, 3 + 2, 2 + 2, 1 + 1, 0 + 1.
        for (chunk, left) in nodes.chunks(PER_CHUNK).zip([5, 5, 4, 2, 1]) {
            free(chunk);
            assert_eq!(ALLOCATOR.chunks(), left);
        }
        assert_settled();
    }

    #[test]
    fn of_the_reserve_are_used_before_others_are_asked_for() {
        let _turn = turn();
        let nodes = allocate(6 * PER_CHUNK);
        let (kept, freed) = nodes.split_at(3 * PER_CHUNK);
        free(freed);
        assert_eq!(ALLOCATOR.chunks(), 6);
        let again = allocate(3 * PER_CHUNK);
        assert_eq!(ALLOCATOR.chunks(), 6);
        free(&again);
        assert_eq!(HeapNodes::release_reserve(), 3 * CHUNK);
        assert_eq!(ALLOCATOR.chunks(), 3);
        free(kept);
        assert_settled();
    }

    #[test]
    fn go_back_in_one_call_too() {
        let _turn = turn();
        let mut nodes = allocate(5 * PER_CHUNK);
        // Every chunk becomes empty only near the end.
        let mut random = Random(7);
        for place in (1..nodes.len()).rev() {
            nodes.swap(place, random.below(place + 1));
        }
        free(&nodes);
        assert_eq!(ALLOCATOR.chunks(), 1);
        assert_settled();
    }

    #[test]
    fn stay_while_one_of_their_nodes_is_used() {
        let _turn = turn();
        let nodes = allocate(3 * PER_CHUNK);
        let (kept, freed) = nodes.split_at(1);
        free(freed);
        // The one with a node in it, and the reserve.
        assert_eq!(ALLOCATOR.chunks(), 2);
        assert_eq!(HeapNodes::release_reserve(), CHUNK);
        assert_eq!(ALLOCATOR.chunks(), 1);
        free(kept);
        assert_settled();
    }

    /// One node more than a chunk has comes and goes: the reserve serves.
    #[test]
    fn are_not_asked_for_over_and_over_at_an_edge() {
        let _turn = turn();
        let nodes = allocate(PER_CHUNK);
        let one = allocate(1);
        free(&one);
        ALLOCATOR.refusing.store(true, Ordering::Relaxed);
        for _ in 0..3 {
            let one = allocate(1);
            assert_eq!(one.len(), 1);
            free(&one);
        }
        ALLOCATOR.refusing.store(false, Ordering::Relaxed);
        free(&nodes);
        assert_settled();
    }

    /// An allocator that keeps a tree may be asked for a chunk by that very tree's thread.
    #[test]
    fn come_from_an_allocator_that_uses_nodes() {
        let _turn = turn();
        ALLOCATOR.using_nodes.store(true, Ordering::Relaxed);
        let nodes = allocate(3 * PER_CHUNK);
        assert!(!ALLOCATOR.using_nodes.load(Ordering::Relaxed));
        assert_eq!(nodes.len(), 3 * PER_CHUNK);
        ALLOCATOR.using_nodes.store(true, Ordering::Relaxed);
        free(&nodes);
        assert!(!ALLOCATOR.using_nodes.load(Ordering::Relaxed));
        assert_settled();
    }
}

mod failure {
    use super::*;

    /// Runs `act` while the allocator has no chunks.
    fn refused<R>(act: impl FnOnce() -> R) -> R {
        ALLOCATOR.refusing.store(true, Ordering::Relaxed);
        let result = act();
        ALLOCATOR.refusing.store(false, Ordering::Relaxed);
        result
    }

    #[test]
    fn of_the_first_chunk_is_told() {
        let _turn = turn();
        assert_eq!(refused(|| HeapNodes.allocate()), None);
        assert!(refused(|| allocate(3)).is_empty());
        let nodes = allocate(3);
        assert_eq!(nodes.len(), 3);
        free(&nodes);
        assert_settled();
    }

    #[test]
    fn of_a_later_chunk_leaves_what_was_at_hand() {
        let _turn = turn();
        let mut nodes = allocate(PER_CHUNK - 10);
        nodes.extend(refused(|| allocate(100)));
        assert_eq!(nodes.len(), PER_CHUNK);
        assert_eq!(refused(|| HeapNodes.allocate()), None);
        nodes.extend(allocate(100));
        assert_eq!(nodes.len(), PER_CHUNK + 100);
        free(&nodes);
        assert_settled();
    }

    #[test]
    fn reaches_the_tree_which_hands_the_value_back() {
        let _turn = turn();
        let mut tree = MapleTree::new();
        let error = refused(|| tree.insert(range(3, 5), 7_u64)).unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::OutOfNodes);
        assert_eq!(error.value, 7);
        tree.insert(range(3, 5), 8).unwrap();
        assert_eq!(tree.get(4), Some(&8));
        assert_valid(&tree);
        drop(tree);
        assert_settled();
    }
}

mod threads {
    use super::*;

    const THREADS: u64 = 4;
    const STEPS: u64 = if cfg!(miri) { 60 } else { 20_000 };
    /// A thread holds about so many nodes: more than a chunk, and not under Miri.
    const HELD: usize = if cfg!(miri) { 20 } else { 600 };

    /// Where threads leave nodes for others to free.
    type Exchange = Mutex<Vec<Marked>>;

    fn take_some(held: &mut Vec<Marked>, random: &mut Random, mark: u64) {
        let count = [1, 1, 3, 16, 100][random.below(5)].min(HELD);
        if count == 1 {
            held.push(Marked::new(HeapNodes.allocate().unwrap(), mark));
        } else {
            held.extend(
                allocate(count)
                    .into_iter()
                    .map(|node| Marked::new(node, mark)),
            );
        }
    }

    fn give_some(held: &mut Vec<Marked>, random: &mut Random) {
        let count = (1 + random.below(120)).min(held.len());
        let nodes: Vec<_> = (0..count)
            .map(|_| held.swap_remove(random.below(held.len())).check())
            .collect();
        match nodes[..] {
            // SAFETY: the node was allocated here or on another thread, and given up just now.
            [node] => unsafe { HeapNodes.free(node) },
            _ => free(&nodes),
        }
    }

    fn churn(seed: u64, exchange: &Exchange) {
        let mut random = Random(seed);
        let mut held = Vec::new();
        for step in 0..STEPS {
            if random.below(HELD) >= held.len() {
                take_some(&mut held, &mut random, seed << 32 | step);
            } else {
                give_some(&mut held, &mut random);
            }
            if random.below(8) == 0 {
                std::mem::swap(&mut held, &mut exchange.lock().unwrap());
            }
        }
        exchange.lock().unwrap().append(&mut held);
    }

    #[test]
    fn never_hold_the_same_node() {
        let _turn = turn();
        let exchange = Exchange::default();
        thread::scope(|scope| {
            for seed in 1..=THREADS {
                let exchange = &exchange;
                scope.spawn(move || churn(seed, exchange));
            }
        });
        let left: Vec<_> = exchange
            .into_inner()
            .unwrap()
            .into_iter()
            .map(Marked::check)
            .collect();
        let distinct: HashSet<_> = left.iter().collect();
        assert_eq!(distinct.len(), left.len());
        free(&left);
        assert_settled();
    }

    /// Nothing but the lock is between these threads: each takes a few nodes, looks whether another
    /// has them too, and gives them back.
    #[test]
    fn never_hold_the_same_node_when_they_all_hurry() {
        let _turn = turn();
        let rounds = if cfg!(miri) { 40 } else { 200_000 };
        // The chunk stays, with room for all.
        let kept = allocate(1);
        let start = Barrier::new(THREADS as usize);
        thread::scope(|scope| {
            for seed in 1..=THREADS {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    for round in 0..rounds {
                        let mark = seed << 32 | round;
                        let nodes =
                            [(); 3].map(|()| Marked::new(HeapNodes.allocate().unwrap(), mark));
                        free(&nodes.map(Marked::check));
                    }
                });
            }
        });
        free(&kept);
        assert_settled();
    }

    /// Snapshots carry nodes of one thread's tree to another's.
    #[test]
    fn share_the_slab_between_their_trees() {
        let _turn = turn();
        let count = if cfg!(miri) { 40 } else { 5_000 };
        let mut origin = MapleTree::with_gaps();
        for index in 0..count {
            origin
                .insert(range(4 * index, 4 * index + 1), index)
                .unwrap();
        }
        thread::scope(|scope| {
            for own in 0..THREADS {
                let mut tree = origin.snapshot();
                scope.spawn(move || {
                    for index in 0..count {
                        tree.store(range(4 * index, 4 * index + 2), own).unwrap();
                    }
                    assert_valid(&tree);
                    assert!((0..count).all(|index| tree.get(4 * index + 2) == Some(&own)));
                });
            }
        });
        assert!((0..count).all(|index| origin.get(4 * index) == Some(&index)));
        drop(origin);
        assert_settled();
    }
}

mod other_sources {
    use super::*;

    /// Has only the two methods that a source must have, and passes them on.
    struct Plain;

    // SAFETY: passes on what `GlobalNodes` hands out.
    unsafe impl NodeSource for Plain {
        fn allocate(&self) -> Option<NonNull<NodeMemory>> {
            GlobalNodes.allocate()
        }

        unsafe fn free(&self, node: NonNull<NodeMemory>) {
            // SAFETY: the caller's promise.
            unsafe { GlobalNodes.free(node) }
        }
    }

    #[test]
    fn hand_out_many_by_handing_out_each() {
        let mut nodes = Vec::new();
        assert_eq!(Plain.allocate_many(9, &mut |node| nodes.push(node)), 9);
        let distinct: HashSet<_> = nodes.iter().collect();
        assert_eq!(distinct.len(), 9);
        // SAFETY: all came from there just now, and are distinct.
        unsafe { Plain.free_many(&nodes) };
    }

    #[test]
    fn without_the_slab_leave_it_alone() {
        let _turn = turn();
        let mut tree = MapleTree::new_in(GlobalNodes);
        for index in 0..100_u64 {
            tree.insert(range(2 * index, 2 * index), index).unwrap();
        }
        assert_eq!(ALLOCATOR.chunks(), 0);
        assert_valid(&tree);
    }
}
