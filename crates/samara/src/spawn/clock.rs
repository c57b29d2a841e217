//! Counting what is done within a time.

use std::time::{Duration, Instant};

use anyhow::Result;

/// What was done within a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Burst {
    pub(crate) forks: u64,
    pub(crate) elapsed: Duration,
}

impl Burst {
    /// Forks in ten seconds.
    pub(crate) fn in_ten_seconds(self) -> f64 {
        self.forks as f64 * 10.0 / self.elapsed.as_secs_f64()
    }
}

/// Between two looks at the clock at most so many: a look is a few dozen nanoseconds, and a fork
/// of few mappings takes under a microsecond.
const LOOK_EVERY: u64 = 64;

/// Forks until `time` is over, at least once.
///
/// # Errors
///
/// What `fork` says.
#[inline]
pub(crate) fn forks_within(time: Duration, mut fork: impl FnMut() -> Result<()>) -> Result<Burst> {
    let start = Instant::now();
    let mut forks = 0;
    let mut until_look = 1;
    loop {
        for _ in 0..until_look {
            fork()?;
        }
        forks += until_look;
        let elapsed = start.elapsed();
        if elapsed >= time {
            return Ok(Burst { forks, elapsed });
        }
        // Long forks are looked at one by one, so that the time is kept.
        let per_fork = elapsed.as_nanos() as u64 / forks;
        until_look = (20_000 / per_fork.max(1)).clamp(1, LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_least_one_fork_is_made_and_each_is_counted() {
        let mut made = 0;
        let burst = forks_within(Duration::ZERO, || {
            made += 1;
            Ok(())
        });
        assert_eq!((burst.unwrap().forks, made), (1, 1));
        let burst = forks_within(Duration::from_millis(1), || {
            made += 1;
            Ok(())
        });
        let burst = burst.unwrap();
        assert_eq!(burst.forks, made - 1);
        assert!(burst.elapsed >= Duration::from_millis(1));
    }
}
