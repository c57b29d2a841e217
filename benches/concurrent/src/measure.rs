//! Pinning, and what is made of several rounds of a measurement.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::sync::OnceLock;

/// The median of several rounds, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    /// A quarter lies below.
    pub(crate) low: f64,
    pub(crate) median: f64,
    /// A quarter lies above.
    pub(crate) high: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// Of at least one round.
    pub(crate) fn of(rounds: &[f64]) -> Option<Self> {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let at = |quarters: usize| {
            let (whole, rest) = (last * quarters / 4, last * quarters % 4);
            let next = sorted[(whole + 1).min(last)];
            sorted[whole] + (next - sorted[whole]) * rest as f64 / 4.0
        };
        Some(Self {
            least: at(0),
            low: at(1),
            median: at(2),
            high: at(3),
            most: at(4),
        })
    }
}

/// The middle one; zero of none.
pub(crate) fn median(mut of: Vec<f64>) -> f64 {
    let half = of.len() / 2;
    if of.is_empty() {
        return 0.0;
    }
    *of.select_nth_unstable_by(half, f64::total_cmp).1
}

/// The largest; zero of none.
pub(crate) fn longest(of: &[f64]) -> f64 {
    of.iter().copied().fold(0.0, f64::max)
}

/// The CPUs that this process could use when this was first asked, which is before [`pin`].
pub(crate) fn cpus() -> &'static [usize] {
    static CPUS: OnceLock<Vec<usize>> = OnceLock::new();
    CPUS.get_or_init(|| {
        let Ok(set) = sched_getaffinity(None) else {
            return Vec::new();
        };
        let is_in = |cpu: &usize| set.is_set(*cpu);
        (0..CpuSet::MAX_CPU).filter(is_in).collect()
    })
}

/// Keeps this thread on one CPU, the threads of a turn by turns on all of them. Where that fails
/// times are less steady, not wrong.
pub(crate) fn pin(thread: usize) {
    let cpus = cpus();
    if let Some(&cpu) = cpus.get(thread % cpus.len().max(1)) {
        let mut set = CpuSet::new();
        set.set(cpu);
        let _: Result<(), _> = sched_setaffinity(None, &set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_rounds_lie_between_the_quarters() {
        let spread = Spread::of(&[5.0, 1.0, 2.0, 4.0, 3.0]).expect("there are rounds");
        let Spread {
            least,
            low,
            median,
            high,
            most,
        } = spread;
        assert_eq!([least, low, median, high, most], [1.0, 2.0, 3.0, 4.0, 5.0]);
        let spread = Spread::of(&[1.0, 2.0]).expect("there are rounds");
        assert_eq!([spread.low, spread.median, spread.high], [1.25, 1.5, 1.75]);
        assert!(Spread::of(&[]).is_none());
    }
}
