//! [`LoomChecker`]: every shared word of the tree as an atomic of loom, every node
//! as a cell of loom.
//!
//! A node is 256 bytes, so its words cannot be loom's atomics, which are larger.
//! They have shadows instead, by address: a load may return any value that the
//! memory model allows, as loom does it. A node's shadow is written where the node
//! is made or freed, and read wherever a thread follows a pointer to it: loom
//! reports every pair of these that nothing orders.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::thread::panicking;

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicPtr;
use maple_tree::sync::{Checker, set_checker};

/// How long a node is.
const NODE: usize = 256;

/// An ordering that is taken away, to see that loom finds it missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Weakened {
    #[default]
    Nothing,
    /// Stores of nodes for readers to find.
    Publish,
    /// Loads of nodes to look at.
    Look,
}

#[derive(Default)]
struct Shadows {
    words: HashMap<usize, Rc<AtomicPtr<()>>>,
    nodes: HashMap<usize, Rc<UnsafeCell<()>>>,
}

// Loom's threads are all on one thread of the system, so these are theirs together.
thread_local! {
    static SHADOWS: RefCell<Shadows> = RefCell::default();
    static WEAKENED: Cell<Weakened> = const { Cell::new(Weakened::Nothing) };
}

/// Runs `execution` once, within loom, with shadows of its own.
pub(crate) fn shadowed(weakened: Weakened, execution: impl FnOnce()) {
    set_checker(&LoomChecker);
    WEAKENED.set(weakened);
    SHADOWS.take();
    execution();
    SHADOWS.take();
}

/// How many nodes are written and not freed.
pub(crate) fn nodes() -> usize {
    SHADOWS.with_borrow(|shadows| shadows.nodes.len())
}

struct LoomChecker;

/// The shadow of a word; `now` is what it holds if nobody has used it yet.
fn shadow_of(word: usize, now: impl FnOnce() -> *mut ()) -> Rc<AtomicPtr<()>> {
    // Released before the shadow is used: that is where loom changes threads.
    SHADOWS.with_borrow_mut(|shadows| {
        let shadow = shadows.words.entry(word);
        shadow
            .or_insert_with(|| Rc::new(AtomicPtr::new(now())))
            .clone()
    })
}

fn look_at(node: usize) {
    let shadow = SHADOWS.with_borrow(|shadows| shadows.nodes.get(&node).cloned());
    let shadow = shadow.expect("a node is looked at that was freed");
    shadow.with(|_| {});
}

impl Checker for LoomChecker {
    fn load(&self, word: usize, order: Ordering, plain: &dyn Fn() -> *mut ()) -> *mut () {
        if panicking() {
            return plain();
        }
        let order = match WEAKENED.get() {
            Weakened::Look => Ordering::Relaxed,
            _ => order,
        };
        let node = shadow_of(word, plain).load(order);
        if !node.is_null() {
            look_at(node.addr());
        }
        node
    }

    fn store(&self, (word, node): (usize, *mut ()), order: Ordering, plain: &dyn Fn()) {
        plain();
        if panicking() {
            return;
        }
        let order = match WEAKENED.get() {
            Weakened::Publish => Ordering::Relaxed,
            _ => order,
        };
        let shadow = SHADOWS.with_borrow(|shadows| shadows.words.get(&word).cloned());
        let shadow = shadow.expect("a word is shown before it is stored to");
        shadow.store(node, order);
    }

    fn written(&self, node: usize) {
        if panicking() {
            return;
        }
        let shadow = Rc::new(UnsafeCell::new(()));
        shadow.with_mut(|_| {});
        SHADOWS.with_borrow_mut(|shadows| shadows.nodes.insert(node, shadow));
    }

    fn shared(&self, word: usize, child: *mut ()) {
        if panicking() {
            return;
        }
        let shadow = Rc::new(AtomicPtr::new(child));
        SHADOWS.with_borrow_mut(|shadows| shadows.words.insert(word, shadow));
    }

    fn freed(&self, node: usize) {
        if panicking() {
            return;
        }
        let shadow = SHADOWS.with_borrow_mut(|shadows| {
            shadows
                .words
                .retain(|word, _| !(node..node + NODE).contains(word));
            shadows.nodes.remove(&node)
        });
        let shadow = shadow.expect("a node is freed twice");
        shadow.with_mut(|_| {});
    }
}
