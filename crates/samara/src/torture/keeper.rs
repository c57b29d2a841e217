//! What becomes of a divergence: made again, shrunk, and kept as a trace. What fails on the way is
//! noted, and what was met is told however that ends.

use std::path::PathBuf;

use anyhow::Result;

use super::conditions::Conditions;
use super::mix::Mix;
use super::report::Shrunk;
use super::requests::Requests;
use super::shrink::{Found, Stage};
use super::step::{Difference, Step};
use super::target::Pool;
use crate::event::SystemFacts;
use crate::means;
use crate::output::OutputFile;
use crate::recorder::Recorder;
use crate::verdict::Divergence;

/// A divergence as it was met.
#[derive(Debug)]
pub(crate) struct Met {
    pub(crate) life: u64,
    pub(crate) mix: Mix,
    pub(crate) conditions: Conditions,
    pub(crate) steps: Vec<Step>,
    pub(crate) difference: Difference,
}

/// Finds the shortest sequence, and keeps it.
#[derive(Debug)]
pub(crate) struct Keeper<'a> {
    pub(crate) system: &'a SystemFacts,
    pub(crate) requests: &'a Requests,
    pub(crate) notes: &'a mut Vec<String>,
}

impl Keeper<'_> {
    /// Does so in `save`.
    pub(crate) fn keep(mut self, met: Met, save: OutputFile) -> Shrunk {
        let path = save.path().to_owned();
        match self.make_again(&met, save) {
            Ok((found, is_kept)) => shrunk(met, found, is_kept.then_some(path)),
            Err(error) => {
                let why = means::said(&error);
                self.note(format!("the calls could not be made again: {why}"));
                shrunk(met, None, None)
            }
        }
    }

    fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// The shortest sequence, if it diverges again, and whether it was kept.
    fn make_again(&mut self, met: &Met, save: OutputFile) -> Result<(Option<Found>, bool)> {
        let pool = Pool::open()?;
        let stage = Stage {
            pool: &pool,
            system: self.system,
            conditions: &met.conditions,
            requests: self.requests,
        };
        let found = stage.shrink(&met.steps)?;
        if self.requests.is_asked() {
            self.note("shrinking was interrupted: fewer steps may do".to_owned());
        }
        let steps = found.as_ref().map_or(&met.steps, |found| &found.steps);
        let (again, kept) = match stage.perform(steps, Recorder::new(save)) {
            Ok((Some(again), recorder)) => (Some(again), recorder.finish()),
            // What does not diverge is not worth a file.
            Ok((None, _)) => (None, Ok(())),
            Err(error) => (None, Err(error)),
        };
        let is_kept = again.is_some() && kept.is_ok();
        if let Err(error) = kept {
            self.note(format!("the trace was not kept: {}", means::said(&error)));
        }
        let found = again.or(found);
        if found.is_none() {
            self.note("it does not happen again with the same calls".to_owned());
        }
        Ok((found, is_kept))
    }
}

fn shrunk(met: Met, found: Option<Found>, trace: Option<PathBuf>) -> Shrunk {
    let found_after = met.steps.len();
    let Found { steps, difference } = found.unwrap_or(Found {
        steps: met.steps,
        difference: met.difference,
    });
    Shrunk {
        life: met.life,
        mix: met.mix,
        found_after,
        steps: steps.iter().map(ToString::to_string).collect(),
        divergence: Divergence {
            process: difference.pid,
            comparison: steps.len() as u64,
            call: difference.call,
            predicted: difference.predicted,
            actual: difference.actual,
            lines: difference.lines,
        },
        trace,
    }
}
