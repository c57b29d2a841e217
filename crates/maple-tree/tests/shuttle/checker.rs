//! [`ShuttleChecker`]: lets shuttle change threads at every step on a shared word,
//! and knows which nodes are freed.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::thread::panicking;

use maple_tree::sync::{Change, Checker, set_checker};
use shuttle::sync::atomic::AtomicBool;

#[derive(Default)]
struct Nodes {
    alive: HashSet<usize>,
    freed: HashSet<usize>,
}

// Shuttle's threads are all on one thread of the system, so these are theirs together.
thread_local! {
    static NODES: RefCell<Nodes> = RefCell::default();
}

/// Begins a run.
pub(crate) fn begin() {
    set_checker(&ShuttleChecker);
    NODES.take();
}

/// How many nodes are written and not freed.
pub(crate) fn nodes() -> usize {
    NODES.with_borrow(|nodes| nodes.alive.len())
}

/// Another thread may run here.
pub(crate) fn point() {
    if !panicking() {
        // Not `yield_now`, which tells the scheduler that this thread has nothing to do.
        AtomicBool::new(false).load(Ordering::SeqCst);
    }
}

struct ShuttleChecker;

impl Checker for ShuttleChecker {
    fn load(&self, _: usize, _: Ordering, plain: &dyn Fn() -> *mut ()) -> *mut () {
        point();
        let node = plain();
        let is_freed = NODES.with_borrow(|nodes| nodes.freed.contains(&node.addr()));
        assert!(
            !is_freed || panicking(),
            "a node is looked at that was freed"
        );
        node
    }

    fn store(&self, _: (usize, *mut ()), _: Ordering, plain: &dyn Fn()) {
        point();
        plain();
    }

    fn load_number(&self, _: usize, _: Ordering, plain: &dyn Fn() -> usize) -> usize {
        point();
        plain()
    }

    fn change_number(&self, _: (usize, Change), _: Ordering, plain: &dyn Fn() -> usize) -> usize {
        point();
        plain()
    }

    fn written(&self, node: usize) {
        NODES.with_borrow_mut(|nodes| {
            nodes.freed.remove(&node);
            nodes.alive.insert(node);
        });
    }

    fn shared(&self, _: usize, _: *mut ()) {}

    fn freed(&self, node: usize) {
        let was_alive = NODES.with_borrow_mut(|nodes| {
            nodes.freed.insert(node);
            nodes.alive.remove(&node)
        });
        assert!(was_alive || panicking(), "a node is freed twice");
    }
}
