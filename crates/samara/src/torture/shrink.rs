//! The shortest sequence that still diverges, found by leaving out ever smaller parts.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::conditions::Conditions;
use super::life::Life;
use super::step::{Difference, Outcome, Step};
use super::target::Pool;
use crate::event::SystemFacts;
use crate::recorder::Recorder;

/// What a sequence is tried with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) system: &'a SystemFacts,
    pub(crate) conditions: &'a Conditions,
}

/// How a sequence that is tried ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The steps up to the one that diverges.
    pub(crate) steps: Vec<Step>,
    pub(crate) difference: Difference,
}

/// However long a sequence is, it is not shrunk for longer.
const LONGEST: Duration = Duration::from_secs(60);

impl Stage<'_> {
    /// Makes `steps` in fresh processes, everything being compared after each; `None` if nothing
    /// diverges.
    ///
    /// # Errors
    ///
    /// If a process can't be started or ends.
    pub(crate) fn perform(&self, steps: &[Step], recorder: Recorder) -> Result<Option<Found>> {
        let mut life = Life::start(self.pool, self.system, self.conditions, recorder)?;
        life.watch_closely();
        let mut made = Vec::new();
        for step in steps {
            match life.step(step)? {
                Outcome::Skipped => {}
                Outcome::Same(_) => made.push(*step),
                Outcome::Diverged(difference) => {
                    made.push(*step);
                    life.finish()?;
                    return Ok(Some(Found {
                        steps: made,
                        difference,
                    }));
                }
            }
        }
        life.finish()?;
        Ok(None)
    }

    /// The shortest sequence found that diverges; `None` if `steps` do not when made again.
    ///
    /// # Errors
    ///
    /// As [`perform`](Self::perform).
    pub(crate) fn shrink(&self, steps: &[Step]) -> Result<Option<Found>> {
        let start = Instant::now();
        let Some(mut best) = self.perform(steps, Recorder::default())? else {
            return Ok(None);
        };
        let mut part = best.steps.len() / 2;
        while part > 0 && start.elapsed() < LONGEST {
            let before = best.steps.len();
            best = self.without_parts(best, part, start)?;
            // Single steps are gone over again until each is needed.
            if part > 1 || best.steps.len() == before {
                part /= 2;
            }
            part = part.min(best.steps.len());
        }
        Ok(Some(best))
    }

    /// Leaves out each part of so many steps that is not needed, the later ones first.
    fn without_parts(&self, mut best: Found, part: usize, start: Instant) -> Result<Found> {
        // The last step is the one that diverges.
        let mut end = best.steps.len().saturating_sub(1);
        while end > 0 && start.elapsed() < LONGEST {
            let from = end.saturating_sub(part);
            let mut fewer = best.steps.clone();
            fewer.drain(from..end);
            if let Some(found) = self.perform(&fewer, Recorder::default())? {
                best = found;
            }
            end = from.min(best.steps.len().saturating_sub(1));
        }
        Ok(best)
    }
}
