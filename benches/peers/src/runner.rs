//! Runs every piece of work on every structure, in turn, for several rounds.

use crate::beside::Pair;
use crate::data::Data;
use crate::fixture::{Age, Fixture};
use crate::kinds::{Bytes, Kind};
use crate::measure::{Chunk, Spread};
use crate::subject::Subject;
use crate::work::Work;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    /// About how long one chunk takes, in nanoseconds.
    pub(crate) chunk_nanos: u64,
    /// How long two threads run beside each other.
    pub(crate) beside: Duration,
}

/// One number of the table.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Cell {
    pub(crate) n: usize,
    pub(crate) data: Data,
    pub(crate) age: Age,
    pub(crate) work: Work,
    pub(crate) structure: &'static str,
    pub(crate) unit: &'static str,
    /// Nothing if the structure cannot do this work.
    pub(crate) spread: Option<Spread>,
    /// Why it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why_not: Option<&'static str>,
    pub(crate) rounds: Vec<f64>,
    /// Of `memory`: what the structure itself accounts for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) own_account: Option<f64>,
}

/// The table of one data set, size and age.
pub(crate) struct Run<'r> {
    pub(crate) fixture: &'r Rc<Fixture>,
    pub(crate) age: Age,
    pub(crate) kinds: &'r [Kind],
    pub(crate) effort: Effort,
}

impl Run<'_> {
    /// Measures `works` on every kind and on `foreign`, and checks all content at the end.
    pub(crate) fn all(
        &self,
        works: &[Work],
        foreign: Vec<Box<dyn Subject>>,
    ) -> Result<Vec<Cell>, String> {
        let mut cells = self.bytes(works, &foreign)?;
        let make = |kind: &Kind| (kind.subject)(self.fixture, self.age);
        let mut subjects: Vec<_> = self.kinds.iter().map(make).chain(foreign).collect();
        subjects.iter().try_for_each(|subject| subject.check())?;
        for &work in works.iter().filter(|work| work.is_for(self.age)) {
            match work {
                Work::Bytes | Work::BesideReads | Work::BesideWrites => {}
                _ => cells.extend(self.interleaved(work, &mut subjects)),
            }
        }
        subjects.iter().try_for_each(|subject| subject.verify())?;
        let foreign: Vec<_> = subjects.split_off(self.kinds.len());
        drop(subjects);
        cells.extend(self.beside(works, &foreign)?);
        Ok(cells)
    }

    /// A, B, C, A, B, C and so on, so that a noisy minute is shared by all.
    fn interleaved(&self, work: Work, subjects: &mut [Box<dyn Subject>]) -> Vec<Cell> {
        let turns: Vec<_> = subjects
            .iter_mut()
            .map(|subject| calibrate(subject.as_mut(), work, self.effort.chunk_nanos))
            .collect();
        let mut rounds = vec![Vec::new(); subjects.len()];
        for _ in 0..self.effort.rounds {
            for (at, subject) in subjects.iter_mut().enumerate() {
                if let Some(turn) = turns[at] {
                    rounds[at].extend(turn.take(subject.as_mut(), work));
                }
            }
        }
        subjects.iter_mut().for_each(|subject| subject.tidy());
        let named = subjects.iter().zip(rounds);
        named
            .map(|(subject, rounds)| {
                self.cell(work, (subject.name(), subject.why_not(work)), rounds)
            })
            .collect()
    }

    fn cell(
        &self,
        work: Work,
        (structure, why_not): (&'static str, Option<&'static str>),
        rounds: Vec<f64>,
    ) -> Cell {
        Cell {
            n: self.fixture.n(),
            data: self.fixture.data,
            age: self.age,
            work,
            structure,
            unit: work.unit(),
            spread: Spread::of(&rounds),
            why_not,
            rounds,
            own_account: None,
        }
    }

    /// Each structure in a process of its own: a slab that another one filled would be free to use.
    fn bytes(&self, works: &[Work], foreign: &[Box<dyn Subject>]) -> Result<Vec<Cell>, String> {
        if !works.contains(&Work::Bytes) {
            return Ok(Vec::new());
        }
        let mut cells = Vec::new();
        for kind in self.kinds {
            let bytes = self.ask_bytes(kind.name)?;
            let mut cell = self.cell(Work::Bytes, (kind.name, None), vec![bytes.counted]);
            cell.own_account = bytes.own;
            cells.push(cell);
        }
        for subject in foreign {
            let bytes = subject.bytes();
            let named = (subject.name(), subject.why_not(Work::Bytes));
            cells.push(self.cell(Work::Bytes, named, bytes.into_iter().collect()));
        }
        Ok(cells)
    }

    fn ask_bytes(&self, name: &str) -> Result<Bytes, String> {
        let me = std::env::current_exe().map_err(|error| error.to_string())?;
        let n = self.fixture.n().to_string();
        let output = Command::new(me)
            .args(["--bytes-of", name, "--n", &n])
            .args(["--data", self.fixture.data.name(), "--age", self.age.name()])
            .output()
            .map_err(|error| error.to_string())?;
        serde_json::from_slice(&output.stdout).map_err(|error| {
            let errors = String::from_utf8_lossy(&output.stderr);
            format!("the process that counts the bytes of {name}: {error}\n{errors}")
        })
    }

    fn beside(&self, works: &[Work], foreign: &[Box<dyn Subject>]) -> Result<Vec<Cell>, String> {
        let wanted = [Work::BesideReads, Work::BesideWrites];
        let wanted: Vec<_> = wanted
            .into_iter()
            .filter(|work| works.contains(work))
            .collect();
        let Some(pair) = Pair::new(self.effort.beside).filter(|_| !wanted.is_empty()) else {
            return Ok(Vec::new());
        };
        let make = |kind: &Kind| kind.shared.map(|make| make(self.fixture, self.age));
        let shared: Vec<_> = self.kinds.iter().map(make).collect();
        let mut found = vec![Vec::new(); self.kinds.len()];
        for _ in 0..self.effort.rounds {
            for (shared, found) in shared.iter().zip(&mut found) {
                if let Some(shared) = shared {
                    found.push(shared.run(self.fixture, pair)?);
                }
            }
        }
        let mut cells = Vec::new();
        for work in wanted {
            for (kind, found) in self.kinds.iter().zip(&found) {
                let rounds = found.iter().map(|rates| rates.of(work)).collect();
                cells.push(self.cell(work, (kind.name, (kind.why_not)(work)), rounds));
            }
            for subject in foreign {
                cells.push(self.cell(work, (subject.name(), subject.why_not(work)), Vec::new()));
            }
        }
        Ok(cells)
    }
}

/// How many portions of work a structure does each time that its turn comes.
#[derive(Clone, Copy)]
struct Turn {
    /// Before measuring: the others have had the caches and the branch predictor since.
    warm: u64,
    timed: u64,
}

impl Turn {
    /// The nanoseconds of an operation.
    fn take(self, subject: &mut dyn Subject, work: Work) -> Option<f64> {
        if self.warm > 0 {
            subject.chunk(work, self.warm)?;
        }
        subject.chunk(work, self.timed).map(Chunk::each)
    }
}

/// Finds the turn that takes about `nanos`. `None` if the subject cannot do the work.
fn calibrate(subject: &mut dyn Subject, work: Work, nanos: u64) -> Option<Turn> {
    const MOST: u64 = 1 << 24;
    /// What takes longer than this by itself leaves no cache as it was anyway.
    const LONG: u64 = 100_000_000;
    let mut reps = 1;
    loop {
        let chunk = subject.chunk(work, reps)?;
        if chunk.nanos >= nanos / 4 || reps >= MOST {
            let timed = u128::from(reps) * u128::from(nanos) / u128::from(chunk.nanos.max(1));
            let timed = u64::try_from(timed).unwrap_or(MOST).clamp(1, MOST);
            let is_long = chunk.nanos / reps >= LONG;
            let warm = if is_long { 0 } else { (timed / 4).max(1) };
            return Some(Turn { warm, timed });
        }
        reps *= 2;
    }
}
