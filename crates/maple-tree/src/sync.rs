//! The steps that readers and a writer take on words they share, where a model
//! checker can watch and order them.
//!
//! In every usual build these are plain steps on atomics. With `--cfg loom` or
//! `--cfg shuttle` they go through a `Checker`, once a test has set one: the
//! nodes are laid out as ever, so it is the real code that is checked.

#[cfg(feature = "rcu")]
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

#[cfg(any(loom, shuttle))]
pub use checked::{Change, Checker, set_checker};
#[cfg(any(loom, shuttle))]
pub(crate) use checked::{freed, shared, written};

/// Loads the address of a node that is looked at next.
#[inline(always)]
pub(crate) fn load<N>(word: &AtomicPtr<N>, order: Ordering) -> *mut N {
    #[cfg(any(loom, shuttle))]
    if let Some(checker) = checked::checker() {
        let plain = || word.load(order).cast();
        return checker
            .load(checked::address(word), order, &plain)
            .cast::<N>();
    }
    word.load(order)
}

/// Stores the address of a node for readers to find.
#[inline(always)]
pub(crate) fn store<N>(word: &AtomicPtr<N>, node: *mut N, order: Ordering) {
    #[cfg(any(loom, shuttle))]
    if let Some(checker) = checked::checker() {
        let plain = || word.store(node, order);
        return checker.store((checked::address(word), node.cast()), order, &plain);
    }
    word.store(node, order);
}

/// Loads how many links name a node.
#[inline(always)]
pub(crate) fn count(refs: &AtomicU32, order: Ordering) -> u32 {
    #[cfg(any(loom, shuttle))]
    if let Some(checker) = checked::checker() {
        let plain = || refs.load(order) as usize;
        return checker.load_number(checked::address(refs), order, &plain) as u32;
    }
    refs.load(order)
}

/// Counts one link more; returns how many there were.
#[inline(always)]
pub(crate) fn count_up(refs: &AtomicU32, order: Ordering) -> u32 {
    #[cfg(any(loom, shuttle))]
    if let Some(checker) = checked::checker() {
        let plain = || refs.fetch_add(1, order) as usize;
        let step = (checked::address(refs), Change::Add(1));
        return checker.change_number(step, order, &plain) as u32;
    }
    refs.fetch_add(1, order)
}

/// Counts one link less; returns how many there were.
#[inline(always)]
pub(crate) fn count_down(refs: &AtomicU32, order: Ordering) -> u32 {
    #[cfg(any(loom, shuttle))]
    if let Some(checker) = checked::checker() {
        let plain = || refs.fetch_sub(1, order) as usize;
        let step = (checked::address(refs), Change::Subtract(1));
        return checker.change_number(step, order, &plain) as u32;
    }
    refs.fetch_sub(1, order)
}

/// Loads a number that a writer keeps for readers.
#[cfg(feature = "rcu")]
#[inline(always)]
pub(crate) fn number(word: &AtomicUsize, order: Ordering) -> usize {
    #[cfg(any(loom, shuttle))]
    if let Some(checker) = checked::checker() {
        let plain = || word.load(order);
        return checker.load_number(checked::address(word), order, &plain);
    }
    word.load(order)
}

/// Adds to a number that a writer keeps for readers; returns what it was.
#[cfg(feature = "rcu")]
#[inline(always)]
pub(crate) fn add(word: &AtomicUsize, more: usize, order: Ordering) -> usize {
    #[cfg(any(loom, shuttle))]
    if let Some(checker) = checked::checker() {
        let plain = || word.fetch_add(more, order);
        let step = (checked::address(word), Change::Add(more));
        return checker.change_number(step, order, &plain);
    }
    word.fetch_add(more, order)
}

/// Stores a number for readers.
#[cfg(feature = "rcu")]
#[inline(always)]
pub(crate) fn set(word: &AtomicUsize, number: usize, order: Ordering) {
    #[cfg(any(loom, shuttle))]
    if let Some(checker) = checked::checker() {
        let plain = || {
            word.store(number, order);
            number
        };
        let step = (checked::address(word), Change::Store(number));
        checker.change_number(step, order, &plain);
        return;
    }
    word.store(number, order);
}

/// What is there only for a checker.
#[cfg(any(loom, shuttle))]
mod checked {
    extern crate std;

    use core::sync::atomic::{AtomicPtr, Ordering};
    use std::sync::OnceLock;

    /// Who watches the steps, and may run other threads before any of them.
    ///
    /// Words and nodes are named by their addresses.
    pub trait Checker: Sync {
        /// A thread loads from `word` a node that it looks at next. `plain` does it
        /// without a checker.
        fn load(&self, word: usize, order: Ordering, plain: &dyn Fn() -> *mut ()) -> *mut ();

        /// The writer stores a node to a word. `plain` does it without a checker, and
        /// is to be called in any case.
        fn store(&self, step: (usize, *mut ()), order: Ordering, plain: &dyn Fn());

        /// A thread loads a number: how many links name a node, or one that a writer
        /// keeps for readers. `plain` does it without a checker.
        fn load_number(&self, word: usize, order: Ordering, plain: &dyn Fn() -> usize) -> usize;

        /// A thread changes such a number, and is told what it was. `plain` does it
        /// without a checker, and is to be called in any case.
        fn change_number(
            &self,
            step: (usize, Change),
            order: Ordering,
            plain: &dyn Fn() -> usize,
        ) -> usize;

        /// A node was written, which other threads may find soon.
        fn written(&self, node: usize);

        /// So was the word of a child in it.
        fn shared(&self, word: usize, child: *mut ());

        /// The memory of a node is given up.
        fn freed(&self, node: usize);
    }

    /// How a number changes, in one step.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Change {
        /// By so much more.
        Add(usize),
        /// By so much less.
        Subtract(usize),
        /// To this.
        Store(usize),
    }

    static CHECKER: OnceLock<&'static dyn Checker> = OnceLock::new();

    /// Sets who watches from now on; the first one set stays.
    pub fn set_checker(checker: &'static dyn Checker) {
        CHECKER.get_or_init(|| checker);
    }

    pub(super) fn checker() -> Option<&'static dyn Checker> {
        CHECKER.get().copied()
    }

    pub(super) fn address<W>(word: &W) -> usize {
        core::ptr::from_ref(word).addr()
    }

    pub(crate) fn written<N>(node: *const N) {
        if let Some(checker) = checker() {
            checker.written(node.addr());
        }
    }

    pub(crate) fn shared<N>(word: &AtomicPtr<N>) {
        if let Some(checker) = checker() {
            checker.shared(address(word), word.load(Ordering::Relaxed).cast());
        }
    }

    pub(crate) fn freed<N>(node: *const N) {
        if let Some(checker) = checker() {
            checker.freed(node.addr());
        }
    }
}
