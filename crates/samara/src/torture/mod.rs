//! `samara torture`: random calls in processes of our own and in the model, compared after each.
//!
//! A run is made of lives. Each begins with a fresh process that has nothing but a stack and two
//! pages of its own, under rights and limits that are drawn; it makes calls that are drawn from
//! what the model says is mapped, forks, and ends. A life follows from the seed and its number
//! alone, so lives are led side by side and a run is the same each time. A divergence is shrunk
//! by leading shorter lives, and kept as a trace.

mod calls;
mod chooser;
mod conditions;
mod executor;
mod eyes;
mod guard;
mod kinds;
mod life;
mod mix;
mod report;
mod rng;
mod sequence;
mod shrink;
mod step;
mod target;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use parking_lot::Mutex;

pub(crate) use mix::Mix;

use crate::cli::TortureArgs;
use crate::event::SystemFacts;
use crate::facts;
use crate::output::OutputFile;
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::spawn::processor_time;
use crate::verdict::{Divergence, Status};
use conditions::Conditions;
use life::Life;
use report::{Report, Shrunk, Totals, rate};
use sequence::Sequence;
use shrink::{Found, Stage};
use step::{Outcome, Step};
use target::Pool;

/// No life is longer, in calls.
const LIFE: u64 = 1000;
/// How long a run is that has neither a number of calls nor a time.
const USUAL_TIME: Duration = Duration::from_secs(10);

/// Runs the process that is tortured.
///
/// # Errors
///
/// If it can't become that.
pub(crate) fn run_child() -> Result<()> {
    executor::run()
}

/// Tortures.
///
/// # Errors
///
/// Why no process could be tortured.
pub(crate) fn run(args: &TortureArgs) -> Result<Status> {
    #[cfg(planted_mistakes)]
    if args.plant.as_deref() == Some("list") {
        return crate::print(&crate::trace::mistakes()).context("cannot write the list");
    } else {
        crate::trace::plant(args.plant.as_deref())?;
    }
    let json = args.json.as_deref().map(OutputFile::create).transpose()?;
    let report = Run::new(args)?.lead()?;
    crate::seen(std::io::Write::write_all(
        &mut std::io::stderr(),
        report.to_string().as_bytes(),
    ))
    .context("cannot write the verdict")?;
    if let Some(json) = json {
        json.write_json(&report.as_json())?;
    }
    Ok(report.status())
}

/// A divergence as it was met.
struct Met {
    life: u64,
    mix: Mix,
    conditions: Conditions,
    steps: Vec<Step>,
}

/// What the threads of a run share.
struct Run {
    seed: u64,
    mix: Mix,
    processes: usize,
    calls: Option<u64>,
    time: Option<Duration>,
    save: PathBuf,
    system: SystemFacts,
    next_life: AtomicU64,
    compared: AtomicU64,
    stop: AtomicBool,
    totals: Mutex<Totals>,
    met: Mutex<Option<Met>>,
}

impl Run {
    fn new(args: &TortureArgs) -> Result<Self> {
        let seed = args.seed.unwrap_or_else(fresh_seed);
        let name = || format!("samara-torture-{seed}.trace");
        let time = match (args.seconds, args.calls) {
            (None, None) => Some(USUAL_TIME),
            (time, _) => time,
        };
        Ok(Self {
            seed,
            mix: args.mix,
            processes: usize::from(args.processes),
            calls: args.calls,
            time,
            save: args
                .save
                .clone()
                .unwrap_or_else(|| std::env::temp_dir().join(name())),
            system: facts::system()?,
            next_life: AtomicU64::new(0),
            compared: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            totals: Mutex::new(Totals::default()),
            met: Mutex::new(None),
        })
    }

    /// Leads lives until there are enough, and reports.
    fn lead(&self) -> Result<Report> {
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        // Before there are threads, so that none of them gets any.
        signals.thread_block()?;
        let signals =
            SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let start = Instant::now();
        let used = processor_time()?;
        let led = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.processes)
                .map(|_| scope.spawn(|| self.work()))
                .collect();
            let interrupted = self.watch(&signals, start, || {
                threads.iter().all(thread::ScopedJoinHandle::is_finished)
            });
            let mut led = Ok(interrupted);
            for thread in threads {
                match thread.join() {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => led = Err(error),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            led
        });
        let elapsed = start.elapsed();
        let used = processor_time()?.saturating_sub(used);
        let interrupted = led?;
        let mut report = self.report(elapsed, used);
        if interrupted {
            report.notes.push("interrupted".to_owned());
        }
        let met = self.met.lock().take();
        if let Some(met) = met {
            self.shrink(&met, &mut report)?;
        }
        Ok(report)
    }

    /// Shows progress until all threads are done or somebody wants an end; whether that was so.
    fn watch(&self, signals: &SignalFd, start: Instant, is_done: impl Fn() -> bool) -> bool {
        let mut progress = Progress::new();
        let mut interrupted = false;
        while !is_done() {
            thread::sleep(Duration::from_millis(20));
            if let Ok(Some(_)) = signals.read_signal() {
                interrupted = true;
                self.stop.store(true, Ordering::Relaxed);
            }
            if self.time.is_some_and(|time| start.elapsed() >= time) {
                self.stop.store(true, Ordering::Relaxed);
            }
            let divergences = u64::from(self.met.lock().is_some());
            let compared = self.compared.load(Ordering::Relaxed);
            progress.show(
                compared,
                self.next_life.load(Ordering::Relaxed),
                divergences,
            );
        }
        progress.finish();
        interrupted
    }

    /// Leads one life after another.
    fn work(&self) -> Result<()> {
        let pool = Pool::open()?;
        while !self.is_over() {
            let number = self.next_life.fetch_add(1, Ordering::Relaxed);
            let calls = match self.calls {
                Some(calls) => calls.saturating_sub(number.saturating_mul(LIFE)).min(LIFE),
                None => LIFE,
            };
            if calls == 0 {
                break;
            }
            if let Err(error) = self.lead_life(&pool, number, calls) {
                self.stop.store(true, Ordering::Relaxed);
                return Err(error.context(format!("life {number} of seed {}", self.seed)));
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn lead_life(&self, pool: &Pool, number: u64, calls: u64) -> Result<()> {
        let mut sequence = Sequence::of_life((self.seed, number), self.mix, &self.system);
        let recorder = Recorder::default();
        let mut life = Life::start(pool, &self.system, sequence.conditions(), recorder)?;
        let mut totals = Totals {
            lives: 1,
            ..Totals::default()
        };
        let mut steps = Vec::new();
        let mut outcome = Outcome::Skipped;
        while totals.comparisons < calls && !self.is_over() {
            let step = sequence.next(&life);
            steps.push(step);
            totals.add_step(&step);
            outcome = life.step(&step)?;
            match &outcome {
                Outcome::Skipped => {}
                Outcome::Same(kind) => totals.count(*kind),
                Outcome::Diverged(_) => break,
            }
            self.compared.fetch_add(1, Ordering::Relaxed);
            totals.peak_vmas = totals.peak_vmas.max(life.peak_vmas());
        }
        if !matches!(outcome, Outcome::Diverged(_)) {
            outcome = life.look()?;
        }
        if matches!(outcome, Outcome::Diverged(_)) {
            self.stop.store(true, Ordering::Relaxed);
            let met = Met {
                life: number,
                mix: self.mix.of_life(number),
                conditions: sequence.conditions().clone(),
                steps,
            };
            self.met.lock().get_or_insert(met);
        }
        totals.not_made = sequence
            .not_modelled
            .iter()
            .map(|&name| name.to_owned())
            .collect();
        self.totals.lock().add(&totals);
        Ok(())
    }

    fn report(&self, elapsed: Duration, used: Duration) -> Report {
        let totals = self.totals.lock().clone();
        let calls = totals.comparisons;
        Report {
            seed: self.seed,
            mix: self.mix,
            processes: self.processes,
            totals,
            milliseconds: elapsed.as_millis() as u64,
            calls_per_second: rate(calls, elapsed),
            calls_per_processor_second: rate(calls, used),
            divergence: None,
            notes: Vec::new(),
        }
    }

    /// Finds the shortest sequence, and keeps it.
    fn shrink(&self, met: &Met, report: &mut Report) -> Result<()> {
        let pool = Pool::open()?;
        let stage = Stage {
            pool: &pool,
            system: &self.system,
            conditions: &met.conditions,
        };
        let found = stage.shrink(&met.steps)?;
        if found.is_none() {
            report
                .notes
                .push("it does not happen again with the same calls".to_owned());
        }
        let steps = found.as_ref().map_or(&met.steps, |found| &found.steps);
        let kept = self.keep(stage, steps)?;
        let (found, trace) = match kept {
            Some(found) => (Some(found), Some(self.save.clone())),
            None => (found, None),
        };
        report.divergence = Some(shrunk(met, found, trace));
        Ok(())
    }

    /// Records the sequence; what it ended with this time.
    fn keep(&self, stage: Stage<'_>, steps: &[Step]) -> Result<Option<Found>> {
        let found = stage.perform(steps, Recorder::create(&self.save)?)?;
        if found.is_none() {
            remove(&self.save);
        }
        Ok(found)
    }
}

fn remove(path: &Path) {
    // It was made a moment ago; if it is gone, so much the better.
    let _ = std::fs::remove_file(path);
}

fn shrunk(met: &Met, found: Option<Found>, trace: Option<PathBuf>) -> Shrunk {
    let (steps, divergence) = match found {
        None => (met.steps.clone(), None),
        Some(Found { steps, difference }) => (steps, Some(difference)),
    };
    let shown = steps.iter().map(ToString::to_string).collect();
    let divergence = match divergence {
        Some(difference) => Divergence {
            process: difference.pid,
            comparison: steps.len() as u64,
            call: difference.call,
            predicted: difference.predicted,
            actual: difference.actual,
            lines: difference.lines,
        },
        None => Divergence {
            process: 0,
            comparison: steps.len() as u64,
            call: "the last of these".to_owned(),
            predicted: "not the same twice".to_owned(),
            actual: "not the same twice".to_owned(),
            lines: Vec::new(),
        },
    };
    Shrunk {
        life: met.life,
        mix: met.mix,
        found_after: met.steps.len(),
        steps: shown,
        divergence,
        trace,
    }
}

/// A seed that another run does not have.
fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let nanoseconds = since.map_or(1, |since| since.as_nanos() as u64);
    // Short enough to be typed.
    (nanoseconds ^ u64::from(std::process::id()) << 32) % 1_000_000_007
}
