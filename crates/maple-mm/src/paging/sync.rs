//! The steps that threads take on the words of page tables they share, where a model checker can
//! watch and order them.
//!
//! In every usual build these are plain steps on atomics. With `--cfg loom` or `--cfg shuttle` they
//! go through a `Checker`, once a test has set one: words lie where they ever do, so it is the real code that is
//! checked.
//!
//! Not here: which part of a frame a piece is, how often tables were shared, and parts of words of
//! pages, from which no thread concludes anything; and how an arena hands frames out, which the
//! checkers' memories do in ways of their own: whether its orderings are too weak no test tells.

use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

#[cfg(any(loom, shuttle))]
pub(crate) use checked::is_broken;
#[cfg(any(loom, shuttle))]
pub use checked::{At, Checker, Rule, set_checker};

/// Whether a rule is broken on purpose: never, but where a test of models wants to see that it is
/// found.
macro_rules! broken {
    ($rule:ident) => {{
        #[cfg(any(loom, shuttle))]
        let is_broken = $crate::paging::sync::is_broken($crate::paging::sync::Rule::$rule);
        #[cfg(not(any(loom, shuttle)))]
        let is_broken = false;
        is_broken
    }};
}
pub(crate) use broken;

/// What a thread does to a word, at once. The word's number before is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(any(loom, shuttle)),
    expect(unreachable_pub, reason = "a checker is told")
)]
pub enum Step<N> {
    /// Loads it.
    Load,
    /// Loads it, where of two threads at least one is to see the other: see [`look`].
    Look,
    /// Stores a number.
    Store(N),
    /// Exchanges it for another.
    Swap(N),
    /// Exchanges it for the second if it is the first. If not, what is loaded is acquired.
    Replace(N, N),
    /// Adds so much; wraps.
    Add(N),
    /// Takes so much off; wraps.
    Subtract(N),
    /// Sets bits.
    Or(N),
    /// Clears all but these bits.
    And(N),
    /// Loads a word of a page's contents.
    Read,
    /// Stores one.
    Write(N),
}

/// An atomic word.
pub(crate) trait Word {
    /// What it holds.
    type Number: Copy + PartialEq;

    /// Takes a step as it is.
    fn plain(&self, step: Step<Self::Number>, order: Ordering) -> Self::Number;

    /// Takes it before the eyes of a checker.
    #[cfg(any(loom, shuttle))]
    fn checked(&self, step: Step<Self::Number>, order: Ordering) -> Self::Number;
}

macro_rules! words {
    ($($word:ty: $number:ty;)*) => {$(
        impl Word for $word {
            type Number = $number;

            #[inline(always)]
            fn plain(&self, step: Step<$number>, order: Ordering) -> $number {
                match step {
                    Step::Load | Step::Look | Step::Read => self.load(order),
                    Step::Store(number) | Step::Write(number) => {
                        self.store(number, order);
                        number
                    }
                    Step::Swap(number) => self.swap(number, order),
                    Step::Replace(old, new) => {
                        let replaced = self.compare_exchange(old, new, order, Ordering::Acquire);
                        replaced.unwrap_or_else(|before| before)
                    }
                    Step::Add(more) => self.fetch_add(more, order),
                    Step::Subtract(less) => self.fetch_sub(less, order),
                    Step::Or(bits) => self.fetch_or(bits, order),
                    Step::And(bits) => self.fetch_and(bits, order),
                }
            }

            #[cfg(any(loom, shuttle))]
            fn checked(&self, step: Step<$number>, order: Ordering) -> $number {
                let Some(checker) = checked::checker() else {
                    return self.plain(step, order);
                };
                let word = checked::At {
                    addr: core::ptr::from_ref(self).addr(),
                    bytes: size_of::<$number>(),
                    now: self.load(Ordering::Relaxed) as u64,
                };
                let plain = || self.plain(step, order) as u64;
                checker.step(word, (step.wide(|number| number as u64), order), &plain) as $number
            }
        }
    )*};
}

words! {
    AtomicU32: u32;
    AtomicU64: u64;
    AtomicUsize: usize;
}

#[inline(always)]
fn take<W: Word>(word: &W, step: Step<W::Number>, order: Ordering) -> W::Number {
    #[cfg(any(loom, shuttle))]
    return word.checked(step, order);
    #[cfg(not(any(loom, shuttle)))]
    word.plain(step, order)
}

#[inline(always)]
pub(crate) fn load<W: Word>(word: &W, order: Ordering) -> W::Number {
    take(word, Step::Load, order)
}

/// Loads a word where of two threads, each of which changes one word and then looks at the other's,
/// at least one is to see the other.
///
/// Loom takes `SeqCst` loads and stores for weaker ones, and would let both miss each other, so
/// there this is an addition of nothing.
#[inline(always)]
pub(super) fn look<W: Word>(word: &W) -> W::Number {
    take(word, Step::Look, Ordering::SeqCst)
}

#[inline(always)]
pub(crate) fn store<W: Word>(word: &W, number: W::Number, order: Ordering) {
    take(word, Step::Store(number), order);
}

#[inline(always)]
pub(super) fn swap<W: Word>(word: &W, number: W::Number, order: Ordering) -> W::Number {
    take(word, Step::Swap(number), order)
}

/// Exchanges `old` for `new`; or says what is there instead, acquired.
#[inline(always)]
pub(super) fn replace<W: Word>(
    word: &W,
    (old, new): (W::Number, W::Number),
    order: Ordering,
) -> Result<(), W::Number> {
    let before = take(word, Step::Replace(old, new), order);
    if before == old { Ok(()) } else { Err(before) }
}

#[inline(always)]
pub(super) fn add<W: Word>(word: &W, more: W::Number, order: Ordering) -> W::Number {
    take(word, Step::Add(more), order)
}

#[inline(always)]
pub(super) fn subtract<W: Word>(word: &W, less: W::Number, order: Ordering) -> W::Number {
    take(word, Step::Subtract(less), order)
}

#[inline(always)]
pub(super) fn or<W: Word>(word: &W, bits: W::Number, order: Ordering) -> W::Number {
    take(word, Step::Or(bits), order)
}

#[inline(always)]
pub(super) fn and<W: Word>(word: &W, bits: W::Number, order: Ordering) -> W::Number {
    take(word, Step::And(bits), order)
}

/// Loads a word of a page.
#[inline(always)]
pub(super) fn read(word: &AtomicU64) -> u64 {
    // Relaxed: contents are ordered by what makes the page reachable, and by their users.
    take(word, Step::Read, Ordering::Relaxed)
}

/// Stores a word of a page.
#[inline(always)]
pub(super) fn write(word: &AtomicU64, number: u64) {
    // Relaxed: as in `read`.
    take(word, Step::Write(number), Ordering::Relaxed);
}

/// What is there only for a checker.
#[cfg(any(loom, shuttle))]
mod checked {
    extern crate std;

    use core::sync::atomic::Ordering;
    use std::sync::OnceLock;

    use super::Step;

    /// A word of memory.
    #[derive(Clone, Copy, Debug)]
    pub struct At {
        /// Its address.
        pub addr: usize,
        /// How long it is: 4 or 8.
        pub bytes: usize,
        /// What it holds now.
        pub now: u64,
    }

    /// Who watches the steps, and may run other threads before any of them.
    pub trait Checker: Sync {
        /// A thread takes a step on a word, and is told what the word was. `plain` does it without
        /// a checker, and is to be called in any case but for loads.
        fn step(&self, word: At, step: (Step<u64>, Ordering), plain: &dyn Fn() -> u64) -> u64;

        /// Whether a rule is broken, to see that it is found.
        fn is_broken(&self, rule: Rule) -> bool;
    }

    /// A rule that can be broken where it stands.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Rule {
        /// A table that is taken out is marked as dead (K3).
        Dead,
        /// Who finds an entry empty has held its table (K4).
        Empty,
        /// An entry is looked at again by who holds its table.
        Still,
        /// Who holds the table asks again whether a page has other owners.
        Own,
        /// Who enters looks at the gate.
        Gate,
        /// Who closes the gate waits for who is inside.
        Inside,
        /// A page that is to be copied is pinned.
        Pin,
        /// A fault asks, with the table held, whether its mapping is there still.
        Live,
        /// What refuses a fault was there between two calls.
        Refused,
        /// A moment is one between two calls.
        Moment,
    }

    static CHECKER: OnceLock<&'static dyn Checker> = OnceLock::new();

    /// Sets who watches from now on; the first one set stays.
    pub fn set_checker(checker: &'static dyn Checker) {
        CHECKER.get_or_init(|| checker);
    }

    pub(super) fn checker() -> Option<&'static dyn Checker> {
        CHECKER.get().copied()
    }

    pub(crate) fn is_broken(rule: Rule) -> bool {
        checker().is_some_and(|checker| checker.is_broken(rule))
    }

    impl<N: Copy> Step<N> {
        pub(super) fn wide(self, to: impl Fn(N) -> u64) -> Step<u64> {
            match self {
                Self::Load => Step::Load,
                Self::Look => Step::Look,
                Self::Read => Step::Read,
                Self::Store(number) => Step::Store(to(number)),
                Self::Swap(number) => Step::Swap(to(number)),
                Self::Replace(old, new) => Step::Replace(to(old), to(new)),
                Self::Add(more) => Step::Add(to(more)),
                Self::Subtract(less) => Step::Subtract(to(less)),
                Self::Or(bits) => Step::Or(to(bits)),
                Self::And(bits) => Step::And(to(bits)),
                Self::Write(number) => Step::Write(to(number)),
            }
        }
    }
}
