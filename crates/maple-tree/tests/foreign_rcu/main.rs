//! A tree on foreign ground: with the reclamation, the lock and the nodes of
//! somebody who has none of ours, as a kernel would.
#![cfg(all(feature = "rcu", not(loom), not(shuttle)))]

#[path = "../beside/mod.rs"]
mod beside;
mod qsbr;
mod spin;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use maple_tree::{IndexRange, MapleTree, RcuMapleTree};

use beside::nodes::CountedNodes;
use beside::{Field, Progress, Stamp, Stamped, read_at_random, write_at_random};
use qsbr::Qsbr;
use spin::SpinLock;

type Tree = RcuMapleTree<Stamped, Qsbr, SpinLock, CountedNodes>;

const SPAN: u64 = if cfg!(miri) { 60 } else { 4000 };
/// Where each store is waited for.
const STORES: u64 = if cfg!(miri) { 5 } else { 50 };
const WRITES: u64 = if cfg!(miri) { 60 } else { 40_000 };

fn tree(with_gaps: bool, nodes: &CountedNodes) -> Tree {
    let core = if with_gaps {
        MapleTree::with_gaps_in(nodes.clone())
    } else {
        MapleTree::new_in(nodes.clone())
    };
    Tree::from_tree(core, Qsbr::new())
}

/// Readers and a writer, all registered, until the writer is through.
fn stress(tree: &Tree, seed: u64, alive: &'static AtomicUsize) {
    let progress = Progress::default();
    let field = |seed| Field {
        span: SPAN,
        writes: WRITES,
        seed,
    };
    thread::scope(|scope| {
        for reader in 1..=3 {
            let progress = &progress;
            scope.spawn(move || {
                let registered = tree.rcu().register();
                let field = field(seed + reader);
                read_at_random(tree, field, progress, || registered.quiescent());
            });
        }
        let registered = tree.rcu().register();
        write_at_random(tree, (field(seed), alive), &progress, || {
            registered.quiescent();
        });
        progress.end();
    });
}

#[test]
fn readers_see_whole_values_in_order_beside_every_kind_of_write() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    for (with_gaps, seed) in [(false, 10), (true, 20)] {
        let nodes = CountedNodes::default();
        let tree = tree(with_gaps, &nodes);
        stress(&tree, seed, &ALIVE);
        tree.write().validate().unwrap();
        tree.write().clear();
        tree.barrier();
        let left = (tree.rcu().outstanding(), ALIVE.load(Ordering::Relaxed));
        assert_eq!(left, (0, 0), "outstanding calls, values");
        drop(tree);
        assert_eq!(nodes.out(), 0, "nodes that did not come back");
    }
}

#[test]
fn what_waits_when_the_tree_is_dropped_is_freed_with_it() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    let nodes = CountedNodes::default();
    let tree = tree(true, &nodes);
    let writes = if cfg!(miri) { 100 } else { 2000 };
    for i in 0..writes {
        let range = IndexRange::new(i % 700, i % 700 + 3).unwrap();
        let stamp = Stamp::new(i, range, &ALIVE);
        tree.write().store(range, stamp).unwrap();
    }
    assert!(tree.rcu().outstanding() > 0);
    drop(tree);
    assert_eq!((nodes.out(), ALIVE.load(Ordering::Relaxed)), (0, 0));
}

#[test]
fn a_reader_holds_back_what_it_found_and_nothing_else_does() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    let nodes = CountedNodes::default();
    let tree = tree(false, &nodes);
    let range = IndexRange::new(10, 19).unwrap();
    let stamp = Stamp::new(1, range, &ALIVE);
    tree.write().store(range, stamp.clone()).unwrap();
    let registered = tree.rcu().register();
    let reader = tree.read();
    let found = reader.get(12).unwrap();
    tree.write().clear();
    thread::scope(|scope| {
        scope.spawn(|| {
            let registered = tree.rcu().register();
            tree.write().hand_over();
            (0..100).for_each(|_| registered.quiescent());
        });
    });
    assert_eq!(Arc::strong_count(found), 2);
    drop(reader);
    registered.quiescent();
    registered.quiescent();
    assert_eq!(Arc::strong_count(&stamp), 1);
}

#[test]
fn waiting_for_readers_ends_when_they_have_left() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    let nodes = CountedNodes::default();
    let tree = tree(false, &nodes);
    let progress = Progress::default();
    let field = Field {
        span: SPAN,
        writes: 0,
        seed: 5,
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let registered = tree.rcu().register();
            read_at_random(&tree, field, &progress, || registered.quiescent());
        });
        for i in 0..STORES {
            let range = IndexRange::single(i);
            tree.write()
                .store(range, Stamp::new(i, range, &ALIVE))
                .unwrap();
            progress.finish(i);
            tree.synchronize();
            tree.barrier();
        }
        progress.end();
    });
    assert_eq!(ALIVE.load(Ordering::Relaxed), STORES as usize);
}
