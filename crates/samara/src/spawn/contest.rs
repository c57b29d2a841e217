//! One size: everybody who takes part forks in turn.

use std::time::Duration;

use anyhow::{Context, Result};

use super::clock::{Burst, forks_within};
use super::floor::Floor;
use super::kernel_process::KernelProcess;
use super::parent::{Parent, Way};
use super::report::Contestant;
use crate::cli::Touched;

/// In how many parts the time of each contestant is cut.
pub(crate) const ROUNDS: usize = 9;

/// How long each forks before it is measured, at most.
const WARM_UP_MOST: Duration = Duration::from_millis(20);

/// Parents with the same mappings, one for each kind of contestant.
pub(crate) struct Contest<P> {
    parent: P,
    floor: Floor,
    kernel: Option<KernelProcess>,
}

impl<P: Parent> Contest<P> {
    /// Makes the parents; the kernel's only where it takes part.
    ///
    /// # Errors
    ///
    /// If one can't be made.
    pub(crate) fn new(size: u32, touched: Touched, contestants: &[Contestant]) -> Result<Self> {
        let ways: Vec<Way> = contestants.iter().filter_map(|who| who.way()).collect();
        let parent = P::make(size, touched, &ways)?;
        let has_kernel = contestants.contains(&Contestant::Kernel);
        Ok(Self {
            floor: Floor::of(parent.mappings()),
            parent,
            kernel: has_kernel
                .then(|| KernelProcess::start(size, touched))
                .transpose()?,
        })
    }

    /// Gives each contestant `time` in all, in turns, and returns what each made in each round, as
    /// forks in ten seconds. Calls `tick` after each turn.
    ///
    /// Each round begins with another contestant, so that nobody always comes after the same.
    ///
    /// # Errors
    ///
    /// If a fork fails.
    pub(crate) fn run(
        &mut self,
        contestants: &[Contestant],
        time: Duration,
        tick: impl Fn(),
    ) -> Result<Vec<Vec<f64>>> {
        let mut rates = vec![Vec::with_capacity(ROUNDS); contestants.len()];
        for &contestant in contestants {
            // The first of each finds cold caches and memory that was never used.
            self.burst(contestant, (time / 50).min(WARM_UP_MOST))?;
        }
        for round in 0..ROUNDS {
            for turn in 0..contestants.len() {
                let place = (round + turn) % contestants.len();
                let burst = self.burst(contestants[place], time / ROUNDS as u32)?;
                rates[place].push(burst.in_ten_seconds());
                tick();
            }
        }
        Ok(rates)
    }

    fn burst(&mut self, contestant: Contestant, time: Duration) -> Result<Burst> {
        match contestant {
            Contestant::Way(way) => forks_within(time, || self.parent.fork_and_exit(way)),
            Contestant::Floor => forks_within(time, || {
                self.floor.run();
                Ok(())
            }),
            Contestant::Kernel => {
                let kernel = self.kernel.as_mut().context("no process to fork")?;
                kernel.forks_within(time)
            }
        }
    }

    /// Checks what a contestant makes; there is nothing to check of those that are no way.
    pub(crate) fn check(&mut self, contestant: Contestant) -> Option<Result<()>> {
        contestant.way().map(|way| self.parent.check(way))
    }

    /// The nodes of a copy of the parent's tree.
    pub(crate) fn nodes(&self) -> usize {
        self.floor.nodes()
    }

    /// The mappings of the parent that a contestant forks; `size` but for the kernel's.
    pub(crate) fn vmas(&self, contestant: Contestant, size: u32) -> u32 {
        match (contestant, &self.kernel) {
            (Contestant::Kernel, Some(kernel)) => kernel.vmas,
            _ => size,
        }
    }
}
