//! What torture showed: counts, speed, and the divergence if there was one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::life::{FEW, FLAGS_EVERY};
use super::mix::Mix;
use super::step::Step;
use crate::call::CallKind;
use crate::verdict::{Divergence, Status};

/// What lives showed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Totals {
    pub(crate) lives: u64,
    pub(crate) calls: BTreeMap<CallKind, u64>,
    pub(crate) comparisons: u64,
    pub(crate) peak_vmas: usize,
    /// Calls that were not made because the model does not know them.
    pub(crate) not_made: BTreeSet<String>,
    /// A number that two runs share if they made the same calls.
    pub(crate) sequence: u64,
}

impl Totals {
    /// Counts a call and its comparison.
    pub(crate) fn count(&mut self, kind: CallKind) {
        *self.calls.entry(kind).or_default() += 1;
        self.comparisons += 1;
    }

    /// Remembers a step in the number that tells sequences apart.
    pub(crate) fn add_step(&mut self, step: &Step) {
        let mixed = self.sequence.rotate_left(5) ^ step.fingerprint();
        self.sequence = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    /// Adds what other lives showed.
    pub(crate) fn add(&mut self, other: &Self) {
        self.lives += other.lives;
        self.comparisons += other.comparisons;
        for (&kind, count) in &other.calls {
            *self.calls.entry(kind).or_default() += count;
        }
        self.peak_vmas = self.peak_vmas.max(other.peak_vmas);
        self.not_made.extend(other.not_made.iter().cloned());
        // In whichever order lives end.
        self.sequence = self.sequence.wrapping_add(other.sequence);
    }
}

/// A divergence, shrunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Shrunk {
    /// The life it came from.
    pub(crate) life: u64,
    pub(crate) mix: Mix,
    /// How many steps that life had made.
    pub(crate) found_after: usize,
    /// The shortest sequence, as the trace holds it.
    pub(crate) steps: Vec<String>,
    #[serde(flatten)]
    pub(crate) divergence: Divergence,
    /// Where the sequence is kept, for `samara replay`.
    pub(crate) trace: Option<PathBuf>,
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) mix: Mix,
    pub(crate) processes: usize,
    #[serde(flatten)]
    pub(crate) totals: Totals,
    pub(crate) milliseconds: u64,
    pub(crate) calls_per_second: u64,
    /// The same in the time that this program and its children had a processor.
    pub(crate) calls_per_processor_second: u64,
    pub(crate) divergence: Option<Shrunk>,
    pub(crate) notes: Vec<String>,
}

/// Calls in a second.
pub(crate) fn rate(calls: u64, time: Duration) -> u64 {
    (calls as f64 / time.as_secs_f64().max(1e-9)) as u64
}

impl Report {
    pub(crate) const fn status(&self) -> Status {
        if self.divergence.is_some() {
            Status::Diverged
        } else if self.totals.comparisons == 0 {
            Status::CouldNotRun
        } else {
            Status::Identical
        }
    }

    fn headline(&self) -> String {
        match (&self.divergence, self.totals.comparisons) {
            (Some(shrunk), _) => {
                let steps = shrunk.steps.len();
                format!(
                    "DIVERGED after {} calls; {steps} steps suffice",
                    self.totals.comparisons
                )
            }
            (None, 0) => "nothing was compared".to_owned(),
            (None, comparisons) => format!("identical after all {comparisons} calls"),
        }
    }

    /// Everything, with the headline first.
    pub(crate) fn as_json(&self) -> impl Serialize {
        #[derive(Serialize)]
        struct Whole<'a> {
            verdict: String,
            #[serde(flatten)]
            rest: &'a Report,
        }
        Whole {
            verdict: self.headline(),
            rest: self,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, value: &str| {
            writeln!(f, "  {name:<14} {value}")
        };
        let totals = &self.totals;
        let mix = format!("{:?}", self.mix).to_lowercase();
        writeln!(f, "samara: torture --seed {} --mix {mix}", self.seed)?;
        let lives = format!("{}, {} at a time", totals.lives, self.processes);
        row(f, "lives", &lives)?;
        let mut kinds: Vec<_> = totals.calls.iter().collect();
        kinds.sort_by_key(|&(kind, count)| (std::cmp::Reverse(*count), *kind));
        let kinds: Vec<String> = kinds
            .iter()
            .map(|(kind, count)| format!("{} {count}", kind.name()))
            .collect();
        let calls = format!("{} ({})", totals.comparisons, kinds.join(", "));
        row(f, "calls", &calls)?;
        let compared = format!(
            "result, maps and counters after each; VmFlags, too, or after every {FLAGS_EVERY}th \
             where there are more than {FEW} mappings"
        );
        row(f, "compared", &compared)?;
        row(f, "peak VMAs", &totals.peak_vmas.to_string())?;
        let time = self.milliseconds as f64 / 1000.0;
        row(f, "time", &format!("{time:.1} s"))?;
        let speed = format!(
            "{} calls a second, {} a second of processor time",
            self.calls_per_second, self.calls_per_processor_second
        );
        row(f, "speed", &speed)?;
        if !totals.not_made.is_empty() {
            let names: Vec<&str> = totals.not_made.iter().map(String::as_str).collect();
            row(f, "not made", &names.join(", "))?;
        }
        for note in &self.notes {
            row(f, "note", note)?;
        }
        row(f, "verdict", &self.headline())?;
        match &self.divergence {
            Some(shrunk) => write!(f, "\n{shrunk}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Shrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the shortest sequence found:")?;
        for step in &self.steps {
            writeln!(f, "  {step}")?;
        }
        if let Some(trace) = &self.trace {
            writeln!(f, "kept for `samara replay {}`", trace.display())?;
        }
        write!(f, "\n{}", self.divergence)
    }
}
