//! [`LoomChecker`]: every shared word of the tree as an atomic of loom, every node
//! as a cell of loom.
//!
//! A node is 256 bytes, so its words cannot be loom's atomics, which are larger.
//! They have shadows instead, by address: a load may return any value that the
//! memory model allows, as loom does it. A node's shadow is written where the node
//! is made or freed, and read wherever a thread follows a pointer to it: loom
//! reports every pair of these that nothing orders.
//!
//! Numbers have shadows where the model asks for them: the counts of links, and what a
//! writer keeps for snapshots.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::thread::panicking;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicPtr, AtomicUsize};
use maple_tree::sync::{Change, Checker, set_checker};

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
    /// The addition that begins a call of the writer's.
    Begin,
    /// The same is not made at all.
    NoBegin,
    /// The store that ends one.
    End,
    /// The addition that a snapshot begins with.
    Sequence,
    /// The addition that a snapshot ends with.
    Confirm,
}

/// Whether numbers are loom's, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbers {
    Plain,
    Shadowed,
}

#[derive(Default)]
struct Shadows {
    words: HashMap<usize, Rc<AtomicPtr<()>>>,
    nodes: HashMap<usize, Rc<UnsafeCell<()>>>,
    numbers: HashMap<usize, Rc<AtomicUsize>>,
}

// Loom's threads are all on one thread of the system, so these are theirs together.
thread_local! {
    static SHADOWS: RefCell<Shadows> = RefCell::default();
    static WEAKENED: Cell<Weakened> = const { Cell::new(Weakened::Nothing) };
    static NUMBERS: Cell<Numbers> = const { Cell::new(Numbers::Plain) };
}

/// Runs `execution` once, within loom, with shadows of its own.
pub(crate) fn shadowed((weakened, numbers): (Weakened, Numbers), execution: impl FnOnce()) {
    set_checker(&LoomChecker);
    WEAKENED.set(weakened);
    NUMBERS.set(numbers);
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

/// As [`shadow_of`] a number; `None` where they are plain.
fn number_of(word: usize, now: impl FnOnce() -> usize) -> Option<Rc<AtomicUsize>> {
    if panicking() || NUMBERS.get() == Numbers::Plain {
        return None;
    }
    Some(SHADOWS.with_borrow_mut(|shadows| {
        let shadow = shadows.numbers.entry(word);
        shadow
            .or_insert_with(|| Rc::new(AtomicUsize::new(now())))
            .clone()
    }))
}

/// Whether `word` says how many links name a node: nodes begin with that.
fn is_count(word: usize) -> bool {
    SHADOWS.with_borrow(|shadows| shadows.nodes.contains_key(&word))
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

    fn load_number(&self, word: usize, order: Ordering, plain: &dyn Fn() -> usize) -> usize {
        let Some(shadow) = number_of(word, plain) else {
            return plain();
        };
        shadow.load(order)
    }

    fn change_number(
        &self,
        (word, change): (usize, Change),
        order: Ordering,
        plain: &dyn Fn() -> usize,
    ) -> usize {
        let shadow = SHADOWS.with_borrow(|shadows| shadows.numbers.get(&word).cloned());
        let Some(shadow) = shadow.filter(|_| !panicking()) else {
            // All numbers are plain, or no thread has looked at this one.
            return plain();
        };
        let (mut change, mut order) = (change, order);
        match (WEAKENED.get(), change) {
            _ if is_count(word) => {}
            (Weakened::Begin, Change::Add(1)) | (Weakened::End, Change::Store(_)) => {
                order = Ordering::Relaxed;
            }
            (Weakened::NoBegin, Change::Add(1)) => change = Change::Add(0),
            // These differ in nothing else.
            (Weakened::Sequence, Change::Add(0)) if order == Ordering::AcqRel => {
                order = Ordering::Relaxed;
            }
            (Weakened::Confirm, Change::Add(0)) if order == Ordering::Release => {
                order = Ordering::Relaxed;
            }
            _ => {}
        }
        let before = match change {
            Change::Add(more) => shadow.fetch_add(more, order),
            Change::Subtract(less) => shadow.fetch_sub(less, order),
            Change::Store(number) => {
                shadow.store(number, order);
                number
            }
        };
        // Loom changes threads before a step, so nobody comes between the two.
        plain();
        before
    }

    fn written(&self, node: usize) {
        if panicking() {
            return;
        }
        let shadow = Rc::new(UnsafeCell::new(()));
        shadow.with_mut(|_| {});
        SHADOWS.with_borrow_mut(|shadows| shadows.nodes.insert(node, shadow));
        // One link.
        number_of(node, || 1);
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
            shadows.numbers.remove(&node);
            shadows.nodes.remove(&node)
        });
        let shadow = shadow.expect("a node is freed twice");
        shadow.with_mut(|_| {});
    }
}
