//! What tells a thread of its own steps, so that a step of another one can be placed between two
//! of them: an `Rcu`, a memory and a flusher that call a hook of the thread first.
//!
//! ```text
//!  this thread   step 0   step 1   step 2              step 3   ...
//!  another                        |----|------...      ends, or waits for this one
//! ```
#![expect(unsafe_code, reason = "`Rcu` is an unsafe trait")]

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use maple_mm::paging::{
    Arena, ArenaLayout, Content, FlushRange, Frame, FrameInfo, FrameSize, OutOfFrames, Parts,
    PhysAddr, PhysMemory, TlbFlusher, Words,
};
use maple_tree::{EpochRcu, Rcu, RcuHead};

/// After which a thread that did not go on fails its test.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a thread is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Take a guard of the `Rcu`, so that it has so many.
    Enter(usize),
    /// Give a guard back, of so many.
    Leave(usize),
    /// Ask for a frame.
    Allocate,
    /// Look into a frame.
    Words,
    /// Look at what is noted of a frame.
    Info,
    /// Tell other processors of what has changed.
    Flush,
}

type Hook = Box<dyn FnMut(Step)>;

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    /// How many guards this thread has.
    static GUARDS: Cell<usize> = const { Cell::new(0) };
    /// Who is to know when this thread waits.
    static LISTENER: RefCell<Option<Sender<Progress>>> = const { RefCell::new(None) };
}

/// The steps of the hook itself are not told of.
fn tell(step: Step) {
    if let Ok(Some(mut hook)) = HOOK.try_with(RefCell::take) {
        hook(step);
        HOOK.set(Some(hook));
    }
}

/// Does what is no step of who does it: what others gave up is freed by whoever comes by.
fn untold<T>(act: impl FnOnce() -> T) -> T {
    let hook = HOOK.try_with(RefCell::take).unwrap_or_default();
    let result = act();
    if hook.is_some() {
        HOOK.set(hook);
    }
    result
}

/// Calls `hook` at each step of `act`.
fn hooked<T>(hook: impl FnMut(Step) + 'static, act: impl FnOnce() -> T) -> T {
    HOOK.set(Some(Box::new(hook)));
    let result = act();
    HOOK.set(None);
    result
}

/// How far another thread came by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Ended,
    /// For a table, or the gate.
    Waits,
}

/// What another thread does.
pub(crate) struct Other<T> {
    /// While the one that started it stood still.
    pub(crate) progress: Progress,
    result: Receiver<T>,
}

impl<T: Send + 'static> Other<T> {
    /// Has `act` done by another thread, and returns when that has ended, or waits.
    #[track_caller]
    pub(crate) fn start(act: impl FnOnce() -> T + Send + 'static) -> Self {
        let (tell, told) = channel();
        let (give, result) = channel();
        thread::spawn(move || {
            LISTENER.set(Some(tell.clone()));
            // Nobody asks where the test has failed.
            let _: Result<(), _> = give.send(act());
            // Nobody listens any more where it has waited.
            let _: Result<(), _> = tell.send(Progress::Ended);
        });
        let progress = told.recv_timeout(PATIENCE);
        let progress = progress.expect("it ends, or waits for a table or the gate");
        Self { progress, result }
    }

    /// What it returned. Nobody is to be in its way any more.
    #[track_caller]
    pub(crate) fn join(self) -> T {
        let result = self.result.recv_timeout(PATIENCE);
        result.expect("another thread does not come to its end")
    }
}

/// Does `act`, which nobody is in the way of.
#[track_caller]
pub(crate) fn elsewhere<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    Other::start(act).join()
}

/// Does `act`; at the `number`th of its steps that `counts` accepts, from 0 on, `other` is started:
/// what it returned and what was started, `None` if there are fewer such steps.
pub(crate) fn place<T, O: 'static>(
    (number, mut counts): (usize, impl FnMut(Step) -> bool + 'static),
    act: impl FnOnce() -> T,
    other: impl FnOnce() -> Other<O> + 'static,
) -> (T, Option<Other<O>>) {
    let started = Rc::new(RefCell::new(None));
    let in_hook = Rc::clone(&started);
    let mut other = Some(other);
    let mut left = number;
    let hook = move |step| {
        if other.is_none() || !counts(step) {
            return;
        }
        if left == 0 {
            let start = other.take().expect("it was looked at");
            *in_hook.borrow_mut() = Some(start());
        }
        left = left.saturating_sub(1);
    };
    let result = hooked(hook, act);
    let started = started.take();
    (result, started)
}

/// Called by who waits for a table, or the gate.
fn relax(_: u32) {
    if let Some(tell) = LISTENER.take() {
        // Said once: who has heard of it listens no more.
        let _: Result<(), _> = tell.send(Progress::Waits);
    }
    thread::yield_now();
}

/// [`EpochRcu`]; who takes a guard, or gives one back, is told first.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HookRcu;

/// A guard; `None` while it is given back.
pub(crate) struct HookGuard(Option<<EpochRcu as Rcu>::Guard<'static>>);

// SAFETY: all is done by `EpochRcu`, and a guard holds one of its guards as long as it lives.
unsafe impl Rcu for HookRcu {
    type Guard<'a> = HookGuard;

    fn read_lock(&self) -> HookGuard {
        let guards = GUARDS.get() + 1;
        tell(Step::Enter(guards));
        GUARDS.set(guards);
        HookGuard(Some(untold(|| EpochRcu.read_lock())))
    }

    unsafe fn call_rcu(&self, head: NonNull<RcuHead>, free: unsafe fn(NonNull<RcuHead>)) {
        untold(|| {
            // SAFETY: the contract is the same.
            unsafe { EpochRcu.call_rcu(head, free) };
        });
    }

    fn synchronize(&self) {
        untold(|| EpochRcu.synchronize());
    }

    fn barrier(&self) {
        untold(|| EpochRcu.barrier());
    }
}

impl Drop for HookGuard {
    fn drop(&mut self) {
        let guards = GUARDS.get();
        tell(Step::Leave(guards));
        untold(|| self.0 = None);
        GUARDS.set(guards - 1);
    }
}

/// An arena; who asks it for something is told first.
#[derive(Clone, Debug)]
pub(crate) struct HookMemory(Arc<Arena<parking_lot::RawMutex>>);

impl HookMemory {
    pub(crate) fn new(frames: u32) -> Self {
        let arena = Arena::new(ArenaLayout::of_frames(frames)).expect("the host has memory");
        Self(Arc::new(arena.with_relax(relax)))
    }

    pub(crate) fn fail_after(&self, allocations: Option<u64>) {
        self.0.fail_after(allocations);
    }
}

impl PhysMemory for HookMemory {
    fn allocate(&self, size: FrameSize, content: Content) -> Result<Frame, OutOfFrames> {
        tell(Step::Allocate);
        self.0.allocate(size, content)
    }

    fn free(&self, addr: PhysAddr) {
        self.0.free(addr);
    }

    fn words(&self, addr: PhysAddr) -> &Words {
        tell(Step::Words);
        self.0.words(addr)
    }

    fn info(&self, addr: PhysAddr) -> &FrameInfo {
        tell(Step::Info);
        self.0.info(addr)
    }

    fn zero_page(&self) -> PhysAddr {
        self.0.zero_page()
    }

    fn contains(&self, addr: PhysAddr) -> bool {
        self.0.contains(addr)
    }

    fn in_use(&self) -> usize {
        self.0.in_use()
    }

    fn split(&self, addr: PhysAddr) -> Parts {
        self.0.split(addr)
    }

    fn relax(&self, spins: u32) {
        self.0.relax(spins);
    }

    fn copy(&self, from: PhysAddr, to: PhysAddr, size: FrameSize) {
        self.0.copy(from, to, size);
    }

    fn fill(&self, addr: PhysAddr, size: FrameSize, word: u64) {
        self.0.fill(addr, size, word);
    }
}

/// Flushes nothing; who would is told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HookTlb;

impl TlbFlusher for HookTlb {
    fn range(&self, _: &FlushRange) {
        tell(Step::Flush);
    }

    fn freed_tables(&self, _: &FlushRange) {
        tell(Step::Flush);
    }

    fn full(&self) {
        tell(Step::Flush);
    }
}
