//! [`LoomChecker`]: every word of page tables that threads share as an atomic of loom, every word
//! of a page as a cell of loom.
//!
//! Frames cannot hold loom's atomics, which are larger than a word. They have shadows instead, by
//! address: a load may return any value that the memory model allows, as loom does it. What a page
//! holds is a plain cell: loom reports every read and write of it that nothing orders. So is the
//! life of a frame, which is written where the frame is allocated or freed, and read at each step
//! on one of its words, or on what is noted for it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::thread::panicking;

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU64;
use maple_mm::paging::sync::{At, Checker, Rule, Step, set_checker};
use maple_mm::paging::{FRAME_BYTES, FrameInfo, Words};

/// What is taken away, to see that it is found missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Weakened {
    #[default]
    Nothing,
    /// The `Acquire` of who locks a table.
    Lock,
    /// The `Release` of who unlocks it.
    Unlock,
    /// The `Release` of who writes an entry.
    Publish,
    /// The `Acquire` of who reads one.
    Follow,
    /// Who enters looks at the gate, and who closes it for who is inside, with loads that may
    /// return what was there before.
    Looks,
    /// The `Release` of who leaves.
    Leave,
    /// The `Release` of who opens the gate.
    Open,
    /// The `AcqRel` of who gives a reference up.
    GiveUp,
    /// The `Acquire` of who asks whether it is the only owner.
    Alone,
    /// A rule is not kept.
    Broken(Rule),
}

/// Whether what is counted for an address space is loom's, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counters {
    Plain,
    Shadowed,
}

/// What a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// In a frame.
    Entry,
    /// What is noted for a table, and its lock.
    Tally,
    /// How many references to a frame there are.
    Count,
    /// The gate, or who is inside.
    Gate,
    /// What is counted for an address space.
    Counter,
}

#[derive(Default)]
struct Shadows {
    /// Where frames are, and what is noted for them.
    memory: Option<(Range<usize>, Range<usize>)>,
    lives: HashMap<usize, Rc<UnsafeCell<()>>>,
    words: HashMap<usize, Rc<AtomicU64>>,
    contents: HashMap<usize, Rc<UnsafeCell<()>>>,
}

// Loom's threads are all on one thread of the system, so these are theirs together.
thread_local! {
    static SHADOWS: RefCell<Shadows> = RefCell::default();
    static WEAKENED: Cell<Weakened> = const { Cell::new(Weakened::Nothing) };
    static COUNTERS: Cell<Counters> = const { Cell::new(Counters::Plain) };
    static IS_WATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `execution` once, within loom, with shadows of its own.
pub(crate) fn shadowed((weakened, counters): (Weakened, Counters), execution: impl FnOnce()) {
    set_checker(&LoomChecker);
    WEAKENED.set(weakened);
    COUNTERS.set(counters);
    SHADOWS.take();
    IS_WATCHING.set(true);
    execution();
    SHADOWS.take();
}

/// From here on one thread is left, and words are what they are.
pub(crate) fn stop_watching() {
    IS_WATCHING.set(false);
}

/// Tells where frames are.
pub(crate) fn set_memory(frames: &[Words], infos: &[FrameInfo]) {
    let memory = Some((addresses(frames), addresses(infos)));
    SHADOWS.with_borrow_mut(|shadows| shadows.memory = memory);
}

/// A frame is allocated; its first words are known, and zero.
pub(crate) fn born(frame: usize, words: &Words) {
    if panicking() {
        return;
    }
    let life = Rc::new(UnsafeCell::new(()));
    SHADOWS.with_borrow_mut(|shadows| shadows.lives.insert(frame, life));
    for (at, word) in words.iter().enumerate().take(super::memory::USED_WORDS) {
        word.store(0, Ordering::Relaxed);
        let addr = std::ptr::from_ref(word).addr();
        // A table's, or a page's: one is not used.
        let entry = Rc::new(AtomicU64::new(0));
        let content = (at == 0).then(|| Rc::new(UnsafeCell::new(())));
        SHADOWS.with_borrow_mut(|shadows| {
            shadows.words.insert(addr, entry);
            shadows.contents.extend(content.map(|cell| (addr, cell)));
        });
    }
}

/// A frame is freed.
pub(crate) fn died(frame: usize, words: &Words, info: &FrameInfo) {
    if panicking() {
        return;
    }
    let life = SHADOWS.with_borrow_mut(|shadows| {
        let gone = [addresses(words), addresses(std::slice::from_ref(info))];
        let is_left = |addr: &usize| !gone.iter().any(|gone| gone.contains(addr));
        shadows.words.retain(|addr, _| is_left(addr));
        shadows.contents.retain(|addr, _| is_left(addr));
        shadows.lives.remove(&frame)
    });
    life.expect("a frame is freed twice").with_mut(|_| {});
}

fn addresses<T>(of: &[T]) -> Range<usize> {
    let range = of.as_ptr_range();
    range.start.addr()..range.end.addr()
}

/// How a word of a page is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Read,
    Written,
}

/// A word of a page is used.
pub(crate) fn use_content(word: &std::sync::atomic::AtomicU64, how: Use) {
    if !panicking() && IS_WATCHING.get() {
        use_word(std::ptr::from_ref(word).addr(), how);
    }
}

fn use_word(addr: usize, how: Use) {
    let content = SHADOWS.with_borrow(|shadows| shadows.contents.get(&addr).cloned());
    let content = content.expect("a page is used that was freed, or another word than its first");
    match how {
        Use::Read => content.with(|_| {}),
        Use::Written => content.with_mut(|_| {}),
    }
}

struct LoomChecker;

/// What a word is, and of which frame.
fn kind_of(word: At) -> (Kind, Option<usize>) {
    let memory = SHADOWS.with_borrow(|shadows| shadows.memory.clone());
    let (frames, infos) = memory.expect("memory is known");
    let offset = |range: &Range<usize>| range.contains(&word.addr).then(|| word.addr - range.start);
    if let Some(offset) = offset(&frames) {
        return (Kind::Entry, Some(offset / FRAME_BYTES as usize));
    }
    match (offset(&infos), word.bytes) {
        (Some(offset), 4) => (Kind::Count, Some(offset / size_of::<FrameInfo>())),
        (Some(offset), _) => (Kind::Tally, Some(offset / size_of::<FrameInfo>())),
        (None, 4) => (Kind::Gate, None),
        (None, _) => (Kind::Counter, None),
    }
}

fn look_at(frame: usize) {
    let life = SHADOWS.with_borrow(|shadows| shadows.lives.get(&frame).cloned());
    let life = life.expect("a frame is looked at that was freed");
    life.with(|_| {});
}

/// The shadow of a word, made by the first who uses it.
fn shadow_of(word: At) -> Rc<AtomicU64> {
    // Released before the shadow is used: that is where loom changes threads.
    SHADOWS.with_borrow_mut(|shadows| {
        let shadow = shadows.words.entry(word.addr);
        let made = || Rc::new(AtomicU64::new(word.now));
        shadow.or_insert_with(made).clone()
    })
}

/// The ordering that is left of `order`.
fn left_of(order: Ordering, kind: Kind, step: Step<u64>) -> Ordering {
    match (WEAKENED.get(), kind, step) {
        (Weakened::Lock, Kind::Tally, Step::Or(_))
        | (Weakened::Unlock, Kind::Tally, Step::Store(_))
        | (Weakened::Publish, Kind::Entry, Step::Store(_))
        | (Weakened::Follow, Kind::Entry, Step::Load)
        | (Weakened::Leave, Kind::Gate, Step::Subtract(_))
        | (Weakened::Open, Kind::Gate, Step::Store(_))
        | (Weakened::GiveUp, Kind::Count, Step::Subtract(_))
        | (Weakened::Alone, Kind::Count, Step::Load) => Ordering::Relaxed,
        (Weakened::Publish, Kind::Entry, Step::Swap(_) | Step::Replace(..)) => Ordering::Acquire,
        _ => order,
    }
}

/// The step as loom is to take it.
fn taken(step: Step<u64>, kind: Kind) -> Step<u64> {
    match (step, kind) {
        // Who waits changes these words, too, to what they are. Nobody comes between what such a
        // step loads and what it stores, so a store comes after all of them; loom does not conclude
        // that, and would let who waits load its own number for ever.
        (Step::Store(number), Kind::Tally | Kind::Gate) => Step::Swap(number),
        _ => step,
    }
}

/// Takes a step on a shadow.
fn take(shadow: &AtomicU64, (step, order): (Step<u64>, Ordering)) -> u64 {
    match step {
        Step::Look if WEAKENED.get() == Weakened::Looks => shadow.load(Ordering::Acquire),
        // Loom's `SeqCst` loads may miss what they must not. This misses nothing, and passes no more
        // on than a load.
        Step::Look => shadow.fetch_add(0, Ordering::Acquire),
        Step::Load | Step::Read => shadow.load(order),
        Step::Store(number) | Step::Write(number) => {
            shadow.store(number, order);
            number
        }
        Step::Swap(number) => shadow.swap(number, order),
        Step::Replace(old, new) => {
            let replaced = shadow.compare_exchange(old, new, order, Ordering::Acquire);
            replaced.unwrap_or_else(|before| before)
        }
        Step::Add(more) => shadow.fetch_add(more, order),
        Step::Subtract(less) => shadow.fetch_sub(less, order),
        Step::Or(bits) => shadow.fetch_or(bits, order),
        Step::And(bits) => shadow.fetch_and(bits, order),
    }
}

impl Checker for LoomChecker {
    fn step(&self, word: At, (step, order): (Step<u64>, Ordering), plain: &dyn Fn() -> u64) -> u64 {
        if panicking() || !IS_WATCHING.get() {
            return plain();
        }
        let (kind, frame) = kind_of(word);
        if let Some(frame) = frame {
            look_at(frame);
        }
        if kind == Kind::Counter && COUNTERS.get() == Counters::Plain {
            return plain();
        }
        let content = match step {
            Step::Read => Some(Use::Read),
            Step::Write(_) => Some(Use::Written),
            _ => None,
        };
        if let Some(how) = content {
            use_word(word.addr, how);
            // Nobody else uses it at once, so it is what was written last.
            return plain();
        }
        let before = take(
            &shadow_of(word),
            (taken(step, kind), left_of(order, kind, step)),
        );
        if !matches!(step, Step::Load | Step::Look) {
            // Loom changes threads before a step, so nobody comes between the two.
            plain();
        }
        before
    }

    fn is_broken(&self, rule: Rule) -> bool {
        WEAKENED.get() == Weakened::Broken(rule)
    }
}
