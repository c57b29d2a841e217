//! The shortest sequence that still diverges, found by leaving out ever smaller parts.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::conditions::Conditions;
use super::life::Life;
use super::requests::Requests;
use super::step::{Difference, Outcome, Step};
use super::target::Pool;
use crate::event::SystemFacts;
use crate::means;
use crate::recorder::Recorder;

/// What a sequence is tried with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) system: &'a SystemFacts,
    pub(crate) conditions: &'a Conditions,
    /// Who asks for an end gets the shortest sequence so far.
    pub(crate) requests: &'a Requests,
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
    /// diverges. The recording is to be completed.
    ///
    /// # Errors
    ///
    /// If a process can't be started or ends.
    pub(crate) fn perform(
        &self,
        steps: &[Step],
        recorder: Recorder,
    ) -> Result<(Option<Found>, Recorder)> {
        let mut life = Life::start(self.pool, self.system, self.conditions, recorder)?;
        life.watch_closely();
        let mut made = Vec::new();
        for step in steps {
            match life.step(step)? {
                Outcome::Skipped => {}
                Outcome::Same(_) => made.push(*step),
                Outcome::Diverged(difference) => {
                    means::check_spare()?;
                    made.push(*step);
                    let found = Found {
                        steps: made,
                        difference,
                    };
                    return Ok((Some(found), life.into_recorder()));
                }
            }
        }
        Ok((None, life.into_recorder()))
    }

    /// The same without a recording.
    fn attempt(&self, steps: &[Step]) -> Result<Option<Found>> {
        let (found, _) = self.perform(steps, Recorder::default())?;
        Ok(found)
    }

    /// The shortest sequence found that diverges; `None` if `steps` do not when made again.
    ///
    /// # Errors
    ///
    /// As [`perform`](Self::perform).
    pub(crate) fn shrink(&self, steps: &[Step]) -> Result<Option<Found>> {
        let start = Instant::now();
        let Some(mut best) = self.attempt(steps)? else {
            return Ok(None);
        };
        let mut part = best.steps.len() / 2;
        while part > 0 && self.goes_on(start) {
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

    fn goes_on(&self, start: Instant) -> bool {
        start.elapsed() < LONGEST && !self.requests.is_asked()
    }

    /// Leaves out each part of so many steps that is not needed, the later ones first.
    fn without_parts(&self, mut best: Found, part: usize, start: Instant) -> Result<Found> {
        // The last step is the one that diverges.
        let mut end = best.steps.len().saturating_sub(1);
        while end > 0 && self.goes_on(start) {
            let from = end.saturating_sub(part);
            let mut fewer = best.steps.clone();
            fewer.drain(from..end);
            if let Some(found) = self.attempt(&fewer)? {
                best = found;
            }
            end = from.min(best.steps.len().saturating_sub(1));
        }
        Ok(best)
    }
}
