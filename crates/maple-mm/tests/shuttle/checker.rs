//! [`ShuttleChecker`]: lets shuttle change threads at every step on a word that threads share, of
//! the tree and of page tables, and knows which nodes and frames are freed.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::thread::panicking;

use maple_mm::paging::sync as tables;
use maple_tree::sync as tree;
use shuttle::sync::atomic::AtomicBool;

use crate::memory::Memory;

#[derive(Default)]
struct Nodes {
    alive: HashSet<usize>,
    freed: HashSet<usize>,
}

// Shuttle's threads are all on one thread of the system, so these are theirs together.
thread_local! {
    static NODES: RefCell<Nodes> = RefCell::default();
    static MEMORY: Cell<Option<&'static Memory>> = const { Cell::new(None) };
    static BROKEN: Cell<Option<tables::Rule>> = const { Cell::new(None) };
    static IS_WATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Begins a run whose frames are of `memory`; `broken` is a rule that is not kept, to see that it
/// is found.
pub(crate) fn begin(memory: &'static Memory, broken: Option<tables::Rule>) {
    tree::set_checker(&ShuttleChecker);
    tables::set_checker(&ShuttleChecker);
    NODES.take();
    MEMORY.set(Some(memory));
    BROKEN.set(broken);
    IS_WATCHING.set(true);
}

/// From here on one thread is left, and all rules are kept.
pub(crate) fn stop_watching() {
    IS_WATCHING.set(false);
}

/// How many nodes are written and not freed.
pub(crate) fn nodes() -> usize {
    NODES.with_borrow(|nodes| nodes.alive.len())
}

/// Another thread may run here.
pub(crate) fn point() {
    if IS_WATCHING.get() && !panicking() {
        // Not `yield_now`, which tells the scheduler that this thread has nothing to do.
        AtomicBool::new(false).load(Ordering::SeqCst);
    }
}

struct ShuttleChecker;

impl tables::Checker for ShuttleChecker {
    fn step(
        &self,
        word: tables::At,
        _: (tables::Step<u64>, Ordering),
        plain: &dyn Fn() -> u64,
    ) -> u64 {
        point();
        if let Some(memory) = MEMORY.get() {
            let is_freed = IS_WATCHING.get() && memory.is_freed(word.addr);
            assert!(
                !is_freed || panicking(),
                "a frame is looked at that was freed"
            );
        }
        plain()
    }

    fn is_broken(&self, rule: tables::Rule) -> bool {
        IS_WATCHING.get() && BROKEN.get() == Some(rule)
    }
}

impl tree::Checker for ShuttleChecker {
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

    fn change_number(
        &self,
        _: (usize, tree::Change),
        _: Ordering,
        plain: &dyn Fn() -> usize,
    ) -> usize {
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
