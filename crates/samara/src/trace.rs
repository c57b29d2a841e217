//! `samara trace`: starts the program or joins a process, follows it to its end, reports.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Result, bail};

use crate::attach;
use crate::cli::TraceArgs;
use crate::engine::{Ended, Engine};
use crate::launch;
use crate::output::{self, OutputFile};
use crate::progress::Progress;
use crate::ptrace::{self, Privilege, Tid};
use crate::recorder::Recorder;
use crate::session::{Outcome, Session};
use crate::verdict::{Status, Verdict};

/// Runs a trace.
///
/// # Errors
///
/// Why the program could not be run or traced, and what to do about it.
pub(crate) fn run(args: &TraceArgs) -> Result<Status> {
    #[cfg(planted_mistakes)]
    plant(args.plant.as_deref())?;
    let paths = (args.record.as_deref(), args.json.as_deref());
    output::ensure_distinct(("--record", paths.0), ("--json", paths.1))?;
    let record = paths.0.map(OutputFile::create).transpose()?;
    let json = paths.1.map(OutputFile::create).transpose()?;
    let (verdict, recorded) = match args.pid {
        Some(pid) => join(pid, record)?,
        None => start(args, record)?,
    };
    let [told, json] = crate::report(&verdict, json);
    Ok(output::concluded(verdict.status(), [told, json, recorded]))
}

/// Runs the program from its beginning to its end.
fn start(args: &TraceArgs, record: Option<OutputFile>) -> Result<(Verdict, Result<()>)> {
    let program = launch::prepare(&args.program)?;
    let recorder = record.map(Recorder::new).unwrap_or_default();
    let session = Session::new(shown(args), recorder, Progress::new())?;
    let privilege = launch::privilege();
    let path = Path::new(OsStr::from_bytes(program.path.as_bytes()));
    let started = match ptrace::start(&program, privilege) {
        Ok(started) => started,
        Err((step, error)) => bail!(launch::explain(step, error, path)),
    };
    ptrace::raise_file_limit();
    ptrace::leave_keys_to_the_program();
    ptrace::leave_requests_to_the_program(started.tid);
    let (session, ended) = Engine::new(started.tid, session).run()?;
    let outcome = session.finish();
    if let Some((step, error)) = ptrace::start_failure(&started) {
        bail!(launch::explain(step, error, path));
    }
    let (mut verdict, recorded) = concluded(outcome, ended)?;
    if privilege == Privilege::NoNew {
        let note = "run without the right to keep privileges: setuid programs ran as you";
        verdict.notes.push(note.to_owned());
    }
    Ok((verdict, recorded))
}

/// Mirrors a process that runs already until it ends, or until we are asked to let it go.
fn join(pid: Tid, record: Option<OutputFile>) -> Result<(Verdict, Result<()>)> {
    ptrace::raise_file_limit();
    ptrace::take_requests_for_us();
    let seized = ptrace::seizing(|| attach::seize(pid))?;
    let leader = seized.leader;
    let recorder = record.map(Recorder::new).unwrap_or_default();
    let session = Session::new(seized.shown, recorder, Progress::new())?;
    let shares = |tid| attach::member(leader, tid);
    let engine = Engine::join((leader, &seized.members), session, shares)?;
    let (session, ended) = engine.run()?;
    concluded(session.finish(), ended)
}

fn concluded(outcome: Outcome, ended: Option<Ended>) -> Result<(Verdict, Result<()>)> {
    let Outcome {
        mut verdict,
        fatal,
        recorder,
    } = outcome;
    if let Some(fatal) = fatal {
        bail!(fatal);
    }
    verdict.ended = ended.map(in_words);
    Ok((verdict, recorder.finish()))
}

/// The command in one line that fits a terminal.
fn shown(args: &TraceArgs) -> String {
    const MOST: usize = 70;
    let words = args.program.iter().map(|word| word.to_string_lossy());
    let command = words.collect::<Vec<_>>().join(" ");
    let line = command.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn in_words(ended: Ended) -> String {
    match ended {
        Ended::Exited(status) => format!("exited with status {status}"),
        Ended::Killed(signal) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(name) => format!("was killed by {name}"),
            Err(_) => format!("was killed by signal {signal}"),
        },
        Ended::LetGo => "was let go, and runs on".to_owned(),
    }
}

/// Turns one rule of the model wrong, by its name.
#[cfg(planted_mistakes)]
pub(crate) fn plant(name: Option<&str>) -> Result<()> {
    use maple_mm::planted::{self, Mistake};
    let Some(name) = name else { return Ok(()) };
    let mut all = Mistake::ALL.iter();
    match all.find(|mistake| mistake.name() == name) {
        Some(&mistake) => planted::set(mistake),
        None => {
            bail!("unknown mistake {name}; there are\n{}", mistakes(|_| true));
        }
    }
    Ok(())
}

/// The names of the mistakes that turn a chosen kind of rule wrong, with the kind, a line each.
#[cfg(planted_mistakes)]
pub(crate) fn mistakes(is_chosen: impl Fn(maple_mm::planted::Rule) -> bool) -> String {
    let all = maple_mm::planted::Mistake::ALL.iter();
    all.filter(|mistake| is_chosen(mistake.rule()))
        .map(|mistake| format!("{} {:?}\n", mistake.name(), mistake.rule()))
        .collect()
}
