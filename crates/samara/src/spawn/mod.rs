//! `samara spawn`: how fast address spaces fork, in each way the model has, beside the published
//! figures, a floor and this kernel.

mod clock;
mod contest;
mod floor;
mod helper;
mod kernel_process;
mod parent;
mod plan;
mod plot;
mod published;
mod report;
mod resident;
mod space;
mod table;

pub(crate) use clock::processor_time;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

use crate::cli::{SpawnArgs, SpawnParentArgs, Touched};
use crate::means;
use crate::output::{self, OutputFile};
use crate::progress;
use crate::verdict::Status;
use contest::{Contest, ROUNDS};
use parent::{Model, Parent, Way};
use published::PUBLISHED;
use report::{Contestant, Kind, Line, Machine, Point, Report};

/// Measures, checks, prints.
///
/// # Errors
///
/// If something can't be written, a parent can't be made or the kernel does not fork. A check
/// that fails is no error but a status.
pub(crate) fn run(args: &SpawnArgs) -> Result<Status> {
    for &mebibytes in &args.resident {
        resident::check_memory(mebibytes)?;
    }
    means::check_memory(memory(args))?;
    let outputs = Outputs::open(args)?;
    let report = measure::<Model>(args)?;
    let written = outputs.write(&report);
    Ok(output::concluded(status(&report), written))
}

/// What the largest parent and its children take, in bytes, without what is resident.
fn memory(args: &SpawnArgs) -> usize {
    const MAPPING: usize = 640;
    const PAGE_AND_TABLES: usize = 5 << 10;
    let each = match args.touched {
        Touched::None => MAPPING,
        Touched::Half | Touched::All => MAPPING + PAGE_AND_TABLES,
    };
    let most = args.vmas.iter().max().copied().unwrap_or(0);
    each.saturating_mul(most as usize)
}

const fn status(report: &Report) -> Status {
    if report.failures.is_empty() {
        Status::Identical
    } else {
        Status::Diverged
    }
}

/// Is the process that the kernel forks.
///
/// # Errors
///
/// If it can't have the mappings, or the kernel does not fork.
pub(crate) fn run_parent(args: &SpawnParentArgs) -> Result<Status> {
    helper::run(args)?;
    Ok(Status::Identical)
}

/// Where the results go.
struct Outputs {
    json: Json,
    plot: Option<OutputFile>,
}

enum Json {
    No,
    StandardOutput,
    File(OutputFile),
}

impl Outputs {
    fn open(args: &SpawnArgs) -> Result<Self> {
        ensure!(
            args.plot.as_deref() != Some(Path::new("-")),
            "--plot -: the table goes to standard output; name a file, such as forks.svg"
        );
        let paths = (args.json.as_deref(), args.plot.as_deref());
        output::ensure_distinct(("--json", paths.0), ("--plot", paths.1))?;
        let json = match args.json.as_deref() {
            None => Json::No,
            Some(path) if path == Path::new("-") => Json::StandardOutput,
            Some(path) => Json::File(OutputFile::create(path)?),
        };
        let plot = args.plot.as_deref().map(OutputFile::create).transpose()?;
        Ok(Self { json, plot })
    }

    /// Writes all of them; what came of each.
    fn write(self, report: &Report) -> [Result<()>; 3] {
        let text = table::text(report);
        let printed = |text: &str| crate::print(text).map(|_| ());
        let (json, table) = match self.json {
            Json::No => (Ok(()), printed(&text)),
            Json::File(file) => (file.write_json(report), printed(&text)),
            Json::StandardOutput => {
                let json = serde_json::to_string_pretty(report).context("cannot make JSON");
                let json =
                    json.and_then(|json| printed(&(json + "\n")).context("cannot write the JSON"));
                (json, crate::tell(&text))
            }
        };
        let table = table.context("cannot write the table");
        let plot = self
            .plot
            .map(|file| plot::svg(report).and_then(|svg| file.write_text(&svg)));
        [table, json, plot.unwrap_or(Ok(()))]
    }
}

fn measure<P: Parent>(args: &SpawnArgs) -> Result<Report> {
    let mut sizes = args.vmas.clone();
    sizes.sort_unstable();
    sizes.dedup();
    let mut run = Run::new(args, sizes);
    for size in run.report.sizes.clone() {
        run.size::<P>(size)
            .with_context(|| format!("at {size} mappings"))?;
    }
    for &mebibytes in &args.resident {
        run.resident(mebibytes)
            .with_context(|| format!("with {mebibytes} MiB resident"))?;
    }
    run.bar.finish_and_clear();
    run.finish();
    Ok(run.report)
}

/// A run on its way.
struct Run<'a> {
    args: &'a SpawnArgs,
    contestants: Vec<Contestant>,
    report: Report,
    bar: ProgressBar,
}

impl<'a> Run<'a> {
    fn new(args: &'a SpawnArgs, sizes: Vec<u32>) -> Self {
        let contestants = contestants(args);
        let mut turns = sizes.len() * contestants.len() * ROUNDS;
        turns += args.resident.len() * resident::TURNS;
        let lines = contestants.iter();
        let report = Report {
            machine: machine(),
            seconds: args.seconds.as_secs_f64(),
            rounds: ROUNDS,
            touched_percent: args.touched.percent(),
            sizes,
            nodes: Vec::new(),
            lines: lines.map(|who| Line::new(who.name(), who.kind())).collect(),
            resident: Vec::new(),
            checks_passed: 0,
            failures: Vec::new(),
            notes: Vec::new(),
        };
        Self {
            args,
            contestants,
            report,
            bar: progress::steps(turns as u64),
        }
    }

    fn size<P: Parent>(&mut self, size: u32) -> Result<()> {
        self.bar.set_message(format!("{size} mappings"));
        let contestants = self.contestants_at(size);
        let mut contest: Contest<P> = Contest::new(size, self.args.touched, &contestants)?;
        self.report.nodes.push(contest.nodes());
        let rates = contest.run(&contestants, self.args.seconds, || self.bar.inc(1))?;
        for (&who, rounds) in contestants.iter().zip(rates) {
            let vmas = contest.vmas(who, size);
            self.add(who, Point::of_rounds(size, vmas, rounds));
            if let Some(outcome) = contest.check(who) {
                let what = format!("{} at {size} mappings", who.name());
                self.note_check(&what, outcome);
            }
        }
        Ok(())
    }

    fn resident(&mut self, mebibytes: u32) -> Result<()> {
        self.bar.set_message(format!("{mebibytes} MiB resident"));
        let (lines, checked) = resident::measure(self.args, mebibytes, || self.bar.inc(1))?;
        self.report.resident.extend(lines);
        self.note_check(&format!("all with {mebibytes} MiB resident"), checked);
        Ok(())
    }

    fn note_check(&mut self, what: &str, outcome: Result<()>) {
        match outcome {
            Ok(()) => self.report.checks_passed += 1,
            Err(error) => self.report.failures.push(format!("{what}: {error:#}")),
        }
    }

    /// All but the kernel where it allows no process so many mappings.
    fn contestants_at(&mut self, size: u32) -> Vec<Contestant> {
        let mut contestants = self.contestants.clone();
        let limit = kernel_process::max_map_count().unwrap_or(u32::MAX);
        if size > limit && self.args.kernel {
            contestants.retain(|&who| who != Contestant::Kernel);
            self.report.notes.push(format!(
                "This kernel was not measured at {size} mappings: it allows a process {limit}. \
                 To measure it: sysctl -w vm.max_map_count={}",
                u64::from(size) + 1
            ));
        }
        contestants
    }

    fn add(&mut self, who: Contestant, point: Point) {
        if point.vmas != point.size {
            self.report.notes.push(format!(
                "This kernel's process had {} mappings where {} were asked for: no process of \
                 this program has fewer.",
                point.vmas, point.size
            ));
        }
        let mut lines = self.report.lines.iter_mut();
        if let Some(line) = lines.find(|line| line.name == who.name()) {
            line.points.push(point);
        }
    }

    /// Adds the published lines.
    fn finish(&mut self) {
        for published in &PUBLISHED {
            let mut line = Line::new(published.name.to_owned(), Kind::Published);
            for &size in &self.report.sizes {
                if let Some(forks) = published.at(size) {
                    line.points.push(Point::new(size, size, f64::from(forks)));
                }
            }
            self.report.lines.push(line);
        }
        self.report.lines.retain(|line| !line.points.is_empty());
    }
}

fn contestants(args: &SpawnArgs) -> Vec<Contestant> {
    let mut contestants: Vec<_> = Way::all(args).into_iter().map(Contestant::Way).collect();
    contestants.push(Contestant::Floor);
    if args.kernel {
        contestants.push(Contestant::Kernel);
    }
    contestants
}

/// Stays on this processor from now on, and says what it is.
fn machine() -> Machine {
    let first_line = |path: &str, starts: &str| {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(starts))?;
        Some(line.rsplit(": ").next()?.trim().to_owned())
    };
    let unknown = || "unknown".to_owned();
    Machine {
        processor: first_line("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
        kernel: first_line("/proc/sys/kernel/osrelease", "").unwrap_or_else(unknown),
        pinned_to: pin(),
    }
}

/// Keeps this process and those it starts on the processor it is on: moving costs what was
/// cached, and a child on another processor would run beside its parent.
fn pin() -> Option<usize> {
    let here = sched_getcpu().ok()?;
    let mut set = CpuSet::new();
    set.set(here).ok()?;
    sched_setaffinity(Pid::from_raw(0), &set).ok()?;
    Some(here)
}

#[cfg(test)]
mod tests;
