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
mod keeper;
mod kinds;
mod life;
mod missing;
mod mix;
mod report;
mod requests;
mod reveal;
mod rng;
mod sequence;
mod shrink;
mod step;
mod target;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;

pub(crate) use mix::Mix;
pub(crate) use rng::Rng;

use crate::cli::TortureArgs;
use crate::event::SystemFacts;
use crate::facts;
use crate::means;
use crate::output::{self, OutputFile};
use crate::progress::Progress;
use crate::ptrace;
use crate::recorder::Recorder;
use crate::spawn::processor_time;
use crate::verdict::Status;
use keeper::{Keeper, Met};
use life::Life;
use report::{Report, Totals, rate};
use requests::Requests;
use sequence::Sequence;
use step::Outcome;
use target::Pool;

/// No life is longer, in calls.
const LIFE: u64 = 1000;
/// How long a run is that has neither a number of calls nor a time.
const USUAL_TIME: Duration = Duration::from_secs(10);

/// What the model of one family takes, in bytes, and each mapping where there are very many.
const MEMORY: u64 = 8 << 20;
const MEMORY_OF_MAPPING: u64 = 3 << 10;
/// No process gets more mappings.
const MOST_MAPPINGS: u64 = 1 << 17;

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
        let for_one_thread = |rule| rule != maple_mm::planted::Rule::Beside;
        let list = crate::trace::mistakes(for_one_thread);
        return crate::print(&list).context("cannot write the list");
    } else {
        crate::trace::plant(args.plant.as_deref())?;
    }
    let run = Run::new(args)?;
    run.check_means()?;
    ptrace::raise_file_limit();
    let (save, json) = outputs(args, run.seed)?;
    let report = run.lead(save)?;
    let told = crate::tell(&report.to_string()).context("cannot write the verdict");
    let json = json.map(|json| json.write_json(&report.as_json()));
    let written = [told, json.unwrap_or(Ok(()))];
    Ok(output::concluded(report.status(), written))
}

/// Opens the file for a divergence, and that for the verdict.
fn outputs(args: &TortureArgs, seed: u64) -> Result<(OutputFile, Option<OutputFile>)> {
    let paths = (args.save.as_deref(), args.json.as_deref());
    output::ensure_distinct(("--save", paths.0), ("--json", paths.1))?;
    let save = match paths.0 {
        Some(path) => OutputFile::create(path)?,
        None => {
            let path = std::env::temp_dir().join(format!("samara-torture-{seed}.trace"));
            OutputFile::create(&path).context(
                "no place to keep a divergence: name a file with --save, or another directory \
                 with TMPDIR",
            )?
        }
    };
    let json = paths.1.map(OutputFile::create).transpose()?;
    Ok((save, json))
}

/// What the threads of a run share.
struct Run {
    seed: u64,
    mix: Mix,
    processes: usize,
    calls: Option<u64>,
    time: Option<Duration>,
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
            system: facts::system()?,
            next_life: AtomicU64::new(0),
            compared: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            totals: Mutex::new(Totals::default()),
            met: Mutex::new(None),
        })
    }

    /// Checks that the limits this program is run under leave room for the run.
    fn check_means(&self) -> Result<()> {
        let mut each = MEMORY;
        if self.mix == Mix::Count {
            let most = self.system.max_map_count;
            ensure!(
                most <= MOST_MAPPINGS,
                "vm.max_map_count is {most} here, and torture makes at most {MOST_MAPPINGS} \
                 mappings, so --mix count would not meet it: choose another mix, or lower it on \
                 a machine of your own (sysctl vm.max_map_count=65530)"
            );
            each += most * MEMORY_OF_MAPPING;
        }
        let all = each.saturating_mul(self.processes as u64);
        means::check_memory(usize::try_from(all)?)
    }

    /// Leads lives until there are enough, and reports. A divergence is kept in `save`.
    fn lead(&self, save: OutputFile) -> Result<Report> {
        // Before there are threads, so that none of them gets any.
        let requests = Requests::take()?;
        let start = Instant::now();
        let used = processor_time()?;
        let led = self.lead_lives(&requests, start);
        let elapsed = start.elapsed();
        let used = processor_time()?.saturating_sub(used);
        let mut report = self.report(elapsed, used);
        if requests.is_asked() {
            report.notes.push("interrupted".to_owned());
        }
        let met = self.met.lock().take();
        match met {
            None => led?,
            Some(met) => {
                if let Err(error) = led {
                    report
                        .notes
                        .push(format!("another life ended: {}", means::said(&error)));
                }
                let keeper = Keeper {
                    system: &self.system,
                    requests: &requests,
                    notes: &mut report.notes,
                };
                report.divergence = Some(keeper.keep(met, save));
            }
        }
        Ok(report)
    }

    /// Leads lives, so many side by side as was asked for.
    fn lead_lives(&self, requests: &Requests, start: Instant) -> Result<()> {
        thread::scope(|scope| {
            let mut threads = Vec::new();
            let mut led = Ok(());
            for _ in 0..self.processes {
                let begun = thread::Builder::new().spawn_scoped(scope, || self.work());
                match begun {
                    Ok(thread) => threads.push(thread),
                    Err(error) => {
                        self.stop.store(true, Ordering::Relaxed);
                        led = Err(means::not_started("a thread", error));
                        break;
                    }
                }
            }
            self.watch(requests, start, || {
                threads.iter().all(thread::ScopedJoinHandle::is_finished)
            });
            for thread in threads {
                match thread.join() {
                    Ok(worked) => led = led.and(worked),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            led
        })
    }

    /// Shows progress until all threads are done; has them stop when somebody wants an end.
    fn watch(&self, requests: &Requests, start: Instant, is_done: impl Fn() -> bool) {
        let mut progress = Progress::new();
        while !is_done() {
            thread::sleep(Duration::from_millis(20));
            if requests.is_asked() || self.time.is_some_and(|time| start.elapsed() >= time) {
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
        if let Outcome::Diverged(difference) = outcome {
            means::check_spare()?;
            self.stop.store(true, Ordering::Relaxed);
            let met = Met {
                life: number,
                mix: self.mix.of_life(number),
                conditions: sequence.conditions().clone(),
                steps,
                difference,
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
}

/// A seed that another run does not have.
pub(crate) fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let nanoseconds = since.map_or(1, |since| since.as_nanos() as u64);
    // Short enough to be typed.
    (nanoseconds ^ u64::from(std::process::id()) << 32) % 1_000_000_007
}
