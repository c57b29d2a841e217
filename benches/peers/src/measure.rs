//! Clocks, and what is made of several rounds of a measurement.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// What a timed piece of work took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chunk {
    /// How many operations.
    pub(crate) ops: u64,
    /// Thread CPU time of all of them, in nanoseconds.
    pub(crate) nanos: u64,
}

impl Chunk {
    /// Nanoseconds an operation.
    pub(crate) fn each(self) -> f64 {
        self.nanos as f64 / self.ops as f64
    }

    /// Does `work`, which is `ops` operations, and adds what it took.
    pub(crate) fn time<T>(&mut self, ops: u64, work: impl FnOnce() -> T) -> T {
        let begin = thread_time();
        let result = work();
        let taken = thread_time().saturating_sub(begin);
        self.ops += ops;
        self.nanos += u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX);
        result
    }
}

/// The CPU time of this thread: time that another process has the CPU does not count.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// The median of several rounds, and how far they lie apart.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of at least one round.
    pub(crate) fn of(rounds: &[f64]) -> Option<Self> {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let half = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[half]
        } else {
            f64::midpoint(sorted[half - 1], sorted[half])
        };
        Some(Self { median, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_of_rounds_lies_between_the_two_in_the_middle() {
        let spread = Spread::of(&[4.0, 1.0, 2.0, 8.0]).expect("there are rounds");
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 3.0, 8.0));
        assert!(Spread::of(&[]).is_none());
    }
}
