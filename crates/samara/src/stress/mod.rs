//! `samara stress`: threads that use one address space at once, and check all they can know.
//!
//! A run is made of rounds. Each begins with a machine of its own, which may be short of frames, of
//! tree nodes or of mappings, and one address space; every thread maps, unmaps, moves, protects,
//! forks, reads and writes there, and knows what it must find of what is its own. Its steps follow
//! from the seed, the round and its number alone; which of them meet differs from run to run. At
//! the end of a round everything is looked at once more and given up, and nothing may be left.

mod access;
mod books;
mod commons;
mod conditions;
mod crew;
mod family;
mod hand;
mod kinds;
mod ladder;
mod life;
mod machine;
mod mapping;
mod maps;
mod meddle;
mod nodes;
mod places;
mod report;
mod tag;
mod violation;
mod watch;
mod worker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cli::StressArgs;
use crate::means;
use crate::output::{self, OutputFile};
use crate::torture::fresh_seed;
use crate::verdict::Status;
use conditions::Conditions;
use crew::{Crew, PATIENCE, Task};
use hand::Tally;
use machine::Machine;
use report::Report;
use violation::Violation;
use watch::Watch;

/// How long a run is that was not told.
const USUAL_TIME: Duration = Duration::from_secs(10);

/// Runs the stress.
///
/// # Errors
///
/// Why it cannot be run. A violation is no error but a status.
pub(crate) fn run(args: &StressArgs) -> Result<Status> {
    #[cfg(planted_mistakes)]
    if args.plant.as_deref() == Some("list") {
        let list = crate::trace::mistakes(|rule| rule == maple_mm::planted::Rule::Beside);
        return crate::print(&list).context("cannot write the list");
    } else {
        crate::trace::plant(args.plant.as_deref())?;
    }
    let json = args.json.as_deref().map(OutputFile::create).transpose()?;
    means::check_memory(memory(args.threads))?;
    let seed = args.seed.unwrap_or_else(fresh_seed);
    let time = args.seconds.unwrap_or(USUAL_TIME);
    let report = rounds(Report::new(seed, args.threads), time)?;
    let told = crate::tell(&report.to_string()).context("cannot write the verdict");
    let json = json.map(|json| json.write_json(&report.as_json()));
    let written = [told, json.unwrap_or(Ok(()))];
    Ok(output::concluded(report.status(), written))
}

/// What a round takes, in bytes: frames with what is noted for each, and what threads note.
fn memory(threads: u8) -> usize {
    const FRAME: usize = 4096 + 28;
    const THREAD: usize = 1 << 20;
    let frames = Conditions::plenty_of_frames(threads.into()) as usize;
    frames * FRAME + usize::from(threads) * THREAD
}

/// Makes rounds until the time is up or something is violated: the first one whole in any case.
fn rounds(mut report: Report, time: Duration) -> Result<Report> {
    let start = Instant::now();
    let deadline = start + time;
    make_round(&mut report, 0, None)?;
    for round in 1.. {
        if report.violation.is_some() || Instant::now() >= deadline {
            break;
        }
        make_round(&mut report, round, Some(deadline))?;
    }
    report.time = start.elapsed();
    Ok(report)
}

fn make_round(report: &mut Report, round: u64, deadline: Option<Instant>) -> Result<()> {
    let threads = report.threads;
    let names = (0..threads).map(|thread| format!("thread {thread}"));
    let watch = Arc::new(Watch::new(names.chain(["the end".to_owned()])));
    let conditions = Conditions::of_round(report.seed, round, threads);
    let machine = Machine::new((report.seed, round), conditions, &watch, threads)?;
    let machine = Arc::new(machine);
    report.begin_round(conditions.short);
    let task = |thread| -> Task<(Tally, Option<Violation>)> {
        let machine = Arc::clone(&machine);
        Box::new(move || worker::run(machine, thread))
    };
    let tasks = (0..threads).map(task).collect();
    let crew = crew::run((tasks, 0), &watch, (deadline, PATIENCE))?;
    for (tally, violation) in take(report, (crew, &watch), (round, 0)) {
        report.tally.add(&tally);
        report.violation = report.violation.take().or(violation);
    }
    if report.violation.is_some() {
        return Ok(());
    }
    let close: Task<_> = Box::new(move || books::close(machine));
    let seat = usize::from(threads);
    let crew = crew::run((vec![close], seat), &watch, (deadline, PATIENCE))?;
    for violation in take(report, (crew, &watch), (round, seat)) {
        report.violation = report.violation.take().or(violation);
    }
    Ok(())
}

/// What the threads found, unless one did not come to an end: that is a violation.
fn take<T>(
    report: &mut Report,
    (crew, watch): (Crew<T>, &Watch),
    (round, first): (u64, usize),
) -> Vec<T> {
    let (seat, what) = match crew {
        Crew::All(ended) => return ended,
        Crew::Panicked(seat, text) => (seat, format!("a panic: {text}")),
        Crew::Stuck(names) => {
            let seconds = PATIENCE.as_secs();
            let what = format!("{} stands still for {seconds} seconds", names.join(", "));
            let is_first = |seat: &usize| watch.seat(*seat).name() == names[0];
            report.threads_then = watch.all();
            ((first..).find(is_first).unwrap_or(first), what)
        }
    };
    let seat = watch.seat(seat);
    report.violation = Some(Violation {
        what,
        addr: None,
        who: seat.name().to_owned(),
        doing: seat.doing(),
        round,
        step: seat.step(),
    });
    Vec::new()
}
