//! Threads that begin at once.

use benchkit::{cpus, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What a thread did, and when.
pub(crate) struct Share<T> {
    pub(crate) done: T,
    begin: Instant,
    end: Instant,
}

impl<T> Share<T> {
    pub(crate) fn seconds(&self) -> f64 {
        (self.end - self.begin).as_secs_f64()
    }
}

/// From when the first thread began to when the last one ended, in seconds.
pub(crate) fn seconds<T>(shares: &[Share<T>]) -> f64 {
    let begin = shares.iter().map(|share| share.begin).min();
    let end = shares.iter().map(|share| share.end).max();
    match (begin, end) {
        (Some(begin), Some(end)) => (end - begin).as_secs_f64(),
        _ => 0.0,
    }
}

/// Runs `work` in `threads` threads, whose numbers it gets, and waits for them.
pub(crate) fn all<T: Send>(threads: usize, work: impl Fn(usize) -> T + Sync) -> Vec<Share<T>> {
    let missing = AtomicUsize::new(threads);
    thread::scope(|scope| crew(scope, &missing, &work).map(join).collect())
}

/// As [`all`], for `turn`, and longer where threads have to share processors; `is_over` tells them
/// when it is time to end.
pub(crate) fn for_a_while<T: Send>(
    (threads, turn): (usize, Duration),
    work: impl Fn(usize, &AtomicBool) -> T + Sync,
) -> Vec<Share<T>> {
    let missing = AtomicUsize::new(threads);
    let is_over = AtomicBool::new(false);
    let work = |thread| work(thread, &is_over);
    thread::scope(|scope| {
        let crew: Vec<_> = crew(scope, &missing, &work).collect();
        while missing.load(Ordering::Relaxed) > 0 {
            thread::sleep(Duration::from_micros(50));
        }
        let threads_each = threads.div_ceil(cpus().len().max(1));
        thread::sleep(turn * u32::try_from(threads_each).unwrap_or(1));
        // Relaxed: it only says when to stop.
        is_over.store(true, Ordering::Relaxed);
        crew.into_iter().map(join).collect()
    })
}

/// Keeps a thread on one processor, the threads of a turn by turns on all of them.
fn stay(thread: usize) {
    if let Some(cpu) = cpus().iter().cycle().nth(thread) {
        pin(&[*cpu]);
    }
}

type Handle<'s, T> = thread::ScopedJoinHandle<'s, Share<T>>;

fn crew<'s, T: Send + 's>(
    scope: &'s thread::Scope<'s, '_>,
    missing: &'s AtomicUsize,
    work: &'s (impl Fn(usize) -> T + Sync),
) -> impl Iterator<Item = Handle<'s, T>> {
    let spawn = move |thread| {
        scope.spawn(move || {
            stay(thread);
            wait(missing);
            let begin = Instant::now();
            let done = work(thread);
            let end = Instant::now();
            Share { done, begin, end }
        })
    };
    // All of them are started before the first is waited for.
    let threads = missing.load(Ordering::Relaxed);
    (0..threads).map(spawn).collect::<Vec<_>>().into_iter()
}

/// Waits until everybody is there.
fn wait(missing: &AtomicUsize) {
    // ORDERING: what the threads do is ordered by their start and their end.
    missing.fetch_sub(1, Ordering::Relaxed);
    let mut spins = 0_u32;
    while missing.load(Ordering::Relaxed) > 0 {
        spins += 1;
        // More threads than processors: the ones that are missing need one.
        if spins.is_multiple_of(256) {
            thread::yield_now();
        }
        std::hint::spin_loop();
    }
}

fn join<T>(handle: Handle<'_, T>) -> Share<T> {
    handle
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
