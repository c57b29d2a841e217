//! What two processors are: below a hypervisor that changes, and nobody tells.

use crate::crew;
use crate::measure::median;
use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicU64, Ordering};

const ROUNDS: usize = 9;

/// Steps of arithmetic: some milliseconds.
const STEPS: u64 = 4_000_000;

/// How often a line of the cache is handed over, there and back.
const TURNS: u64 = 10_000;

/// Two numbers that all others depend on: near two, processors are cores of their own; near one,
/// they share one, or something else runs.
pub(crate) fn shown() -> String {
    let speedups = (0..ROUNDS).map(|_| 2.0 * compute(1) / compute(2));
    let hand_overs = (0..ROUNDS).map(|_| hand_over());
    format!(
        "Two threads that only compute do {:.2} times what one does; a line of the cache goes from \
         one to the other in {:.0} ns.",
        median(speedups.collect()),
        median(hand_overs.collect()),
    )
}

/// How long it takes until all threads have computed, in seconds.
fn compute(threads: usize) -> f64 {
    let shares = crew::all(threads, |thread| {
        let (mut a, mut b) = (thread as u64, 1_u64);
        for step in 0..STEPS {
            a = a.wrapping_mul(3).wrapping_add(step);
            b = b.rotate_left(5) ^ a ^ (b >> 3);
        }
        black_box((a, b));
    });
    crew::seconds(&shares)
}

/// Nanoseconds.
fn hand_over() -> f64 {
    let turn = AtomicU64::new(0);
    let shares = crew::all(2, |thread| {
        for round in 0..TURNS {
            let mine = 2 * round + thread as u64;
            // ORDERING: `Acquire` and `Release` pair with each other.
            while turn.load(Ordering::Acquire) != mine {
                spin_loop();
            }
            turn.store(mine + 1, Ordering::Release);
        }
    });
    crew::seconds(&shares) * 1e9 / (2 * TURNS) as f64
}
