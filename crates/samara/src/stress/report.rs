//! What a run showed: counts, and the violation if there was one.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::conditions::Short;
use super::hand::Tally;
use super::kinds::Kind;
use super::violation::Violation;
use crate::verdict::Status;

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) seed: u64,
    pub(super) threads: u8,
    /// Rounds, by what they were short of.
    pub(super) rounds: BTreeMap<&'static str, u64>,
    pub(super) tally: Tally,
    pub(super) time: Duration,
    pub(super) violation: Option<Violation>,
    /// What each thread was about when one stood still.
    pub(super) threads_then: Vec<String>,
}

impl Report {
    pub(super) fn new(seed: u64, threads: u8) -> Self {
        Self {
            seed,
            threads,
            rounds: BTreeMap::new(),
            tally: Tally::default(),
            time: Duration::ZERO,
            violation: None,
            threads_then: Vec::new(),
        }
    }

    pub(super) fn begin_round(&mut self, short: Short) {
        let name = match short {
            Short::Nothing => "plenty",
            Short::Frames => "few frames",
            Short::Nodes => "few nodes",
            Short::Mappings => "few mappings",
        };
        *self.rounds.entry(name).or_default() += 1;
    }

    pub(super) fn status(&self) -> Status {
        if self.violation.is_some() {
            Status::Diverged
        } else if self.tally.total() == 0 {
            Status::CouldNotRun
        } else {
            Status::Identical
        }
    }

    fn headline(&self) -> String {
        let total = self.tally.total();
        match (&self.violation, total) {
            (Some(_), _) => format!("VIOLATED after about {total} operations"),
            (None, 0) => "nothing was done".to_owned(),
            (None, _) => format!("held at all {total} operations, and nothing is left over"),
        }
    }

    /// Everything, with the headline first.
    pub(super) fn as_json(&self) -> impl Serialize {
        #[derive(Serialize)]
        struct Whole<'a> {
            verdict: String,
            seed: u64,
            threads: u8,
            milliseconds: u64,
            rounds: &'a BTreeMap<&'static str, u64>,
            operations: u64,
            of_kind: &'a BTreeMap<Kind, u64>,
            forks: u64,
            maps_texts: u64,
            faults: u64,
            refused_for_memory: u64,
            violation: &'a Option<Violation>,
            threads_then: &'a [String],
        }
        Whole {
            verdict: self.headline(),
            seed: self.seed,
            threads: self.threads,
            milliseconds: self.time.as_millis() as u64,
            rounds: &self.rounds,
            operations: self.tally.total(),
            of_kind: &self.tally.operations,
            forks: self.tally.of(Kind::Fork),
            maps_texts: self.tally.of(Kind::Maps),
            faults: self.tally.of(Kind::Fault),
            refused_for_memory: self.tally.refused,
            violation: &self.violation,
            threads_then: &self.threads_then,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, value: &str| {
            writeln!(f, "  {name:<14} {value}")
        };
        let (seed, threads) = (self.seed, self.threads);
        writeln!(f, "samara: stress --threads {threads} --seed {seed}")?;
        let rounds = self.rounds.iter();
        let rounds: Vec<_> = rounds
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        let all: u64 = self.rounds.values().sum();
        row(f, "rounds", &format!("{all} ({})", rounds.join(", ")))?;
        let mut kinds: Vec<_> = self.tally.operations.iter().collect();
        kinds.sort_by_key(|&(kind, count)| (Reverse(*count), *kind));
        let kinds = kinds.iter();
        let kinds: Vec<_> = kinds
            .map(|(kind, count)| format!("{} {count}", kind.name()))
            .collect();
        let total = self.tally.total();
        row(f, "operations", &format!("{total} ({})", kinds.join(", ")))?;
        row(f, "forks", &self.tally.of(Kind::Fork).to_string())?;
        row(f, "maps texts", &self.tally.of(Kind::Maps).to_string())?;
        row(f, "faults", &self.tally.of(Kind::Fault).to_string())?;
        let refused = format!("{} for want of memory", self.tally.refused);
        row(f, "refused", &refused)?;
        row(f, "time", &format!("{:.1} s", self.time.as_secs_f64()))?;
        row(f, "verdict", &self.headline())?;
        if let Some(violation) = &self.violation {
            write!(f, "\n{violation}")?;
        }
        for thread in &self.threads_then {
            writeln!(f, "  {thread}")?;
        }
        Ok(())
    }
}
