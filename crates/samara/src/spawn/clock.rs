//! Counting what is done within a time.
//!
//! A burst ends by the clock on the wall, so that a run takes as long as it was asked to, and is
//! measured in processor time, so that what else runs on the machine does not count.

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use nix::time::{ClockId, clock_gettime};

/// What was done within a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Burst {
    pub(crate) forks: u64,
    /// What it took of the processor.
    pub(crate) processor_time: Duration,
}

impl Burst {
    /// Forks in ten seconds.
    pub(crate) fn in_ten_seconds(self) -> f64 {
        self.forks as f64 * 10.0 / self.processor_time.as_secs_f64()
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
    let processor_before = processor_time()?;
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
            break;
        }
        // Long forks are looked at one by one, so that the time is kept.
        let per_fork = elapsed.as_nanos() as u64 / forks;
        until_look = (20_000 / per_fork.max(1)).clamp(1, LOOK_EVERY);
    }
    let processor_time = processor_time()?.saturating_sub(processor_before);
    Ok(Burst {
        forks,
        // What was too short to be seen is no reason to divide by zero.
        processor_time: processor_time.max(Duration::from_nanos(1)),
    })
}

/// What this process and the children it waited for have used of the processor.
pub(crate) fn processor_time() -> Result<Duration> {
    let own = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
    let children = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let children = children.user_time() + children.system_time();
    let children = Duration::from_micros(children.num_microseconds().try_into()?);
    Ok(Duration::from(own) + children)
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
        assert!(burst.processor_time > Duration::ZERO);
    }
}
