//! Samara: mirrors a running program's address spaces and compares them with the kernel's.

mod attach;
mod call;
mod cli;
mod compare;
mod convert;
mod decode;
mod details;
mod engine;
mod event;
mod facts;
mod file_probe;
mod files;
mod kernel;
mod launch;
mod means;
mod mirror;
mod observe;
mod output;
mod patience;
mod probe;
mod process_call;
mod procfs;
mod progress;
mod ptrace;
mod recorder;
mod replay;
mod seccomp;
mod segments;
mod session;
mod show;
mod spawn;
mod stress;
mod torture;
mod trace;
mod trace_file;
mod verdict;

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::process::ExitCode;

use anyhow::{Context, Error, Result};
use clap::Parser;

use cli::{Cli, Command, ReplayArgs};
use output::OutputFile;
use verdict::{Status, Verdict};

fn main() -> ExitCode {
    ptrace::let_writes_past_the_limit_fail();
    ptrace::abort_in_words();
    // Nothing else may stand in this function: its stack is not checked yet.
    match means::check() {
        Ok(()) => obey(),
        Err(error) => {
            complain(&error);
            ExitCode::from(Status::CouldNotRun as u8)
        }
    }
}

/// Does what the command line asks.
#[inline(never)]
fn obey() -> ExitCode {
    let done = match Cli::try_parse() {
        Ok(cli) => run(cli.command),
        // A wrong command line, or a wish for help.
        Err(error) => match seen(error.print()) {
            Ok(_) => return ExitCode::from(error.exit_code() as u8),
            other => other.context("cannot write the help"),
        },
    };
    match done {
        Ok(status) => ExitCode::from(status as u8),
        Err(error) => {
            complain(&error);
            ExitCode::from(Status::CouldNotRun as u8)
        }
    }
}

/// Says on standard error what went wrong, and what helps.
fn complain(error: &Error) {
    // There is no other place to complain.
    let _ = writeln!(io::stderr(), "samara: {}", means::said(error));
}

fn run(command: Option<Command>) -> Result<Status> {
    match command {
        None => print(cli::GUIDE).context("cannot write the guide"),
        Some(Command::Trace(args)) => trace::run(&args),
        Some(Command::Replay(args)) => replay(&args),
        Some(Command::Show(args)) => show::run(&args.what),
        Some(Command::Spawn(args)) => spawn::run(&args),
        Some(Command::SpawnParent(args)) => spawn::run_parent(&args),
        Some(Command::Torture(args)) => torture::run(&args),
        Some(Command::Stress(args)) => stress::run(&args),
        Some(Command::TortureChild) => torture::run_child().map(|()| Status::Identical),
    }
}

/// Writes to standard output, and all of it.
fn print(text: &str) -> io::Result<Status> {
    let mut out = io::stdout().lock();
    seen(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// The outcome of writing for a reader, who may leave when they have seen enough.
fn seen(written: io::Result<()>) -> io::Result<Status> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(Status::Identical),
    }
}

/// The run that is built in.
const BUILT_IN: &[u8] = include_bytes!("../assets/built-in.trace");

fn replay(args: &ReplayArgs) -> Result<Status> {
    #[cfg(planted_mistakes)]
    trace::plant(args.plant.as_deref())?;
    let (input, name): (Box<dyn Read>, _) = match &args.file {
        None => (Box::new(BUILT_IN), "the built-in run".to_owned()),
        Some(path) => {
            let name = path.display().to_string();
            let file = File::open(path).with_context(|| format!("cannot open the trace {name}"))?;
            (Box::new(BufReader::new(file)), name)
        }
    };
    if args.list {
        return list(input).with_context(|| format!("cannot list {name}"));
    }
    let json = args.json.as_deref().map(OutputFile::create).transpose()?;
    let verdict = replay::replay(input, format!("replay of {name}"))
        .with_context(|| format!("cannot replay {name}"))?;
    let written = report(&verdict, json);
    Ok(output::concluded(verdict.status(), written))
}

/// Prints what a trace holds.
fn list(input: impl Read) -> Result<Status> {
    let mut reader = trace_file::Reader::new(input)?;
    let mut out = io::stdout().lock();
    let mut written = Ok(());
    while let Some(event) = reader.next_event()? {
        written = writeln!(out, "{event}");
        if written.is_err() {
            break;
        }
    }
    Ok(seen(written.and_then(|()| out.flush()))?)
}

/// Writes a verdict to standard error and, if asked, as JSON to a file; what came of each.
fn report(verdict: &Verdict, json: Option<OutputFile>) -> [Result<()>; 2] {
    let written = tell(&verdict.to_string()).context("cannot write the verdict");
    let json = json.map(|json| json.write_json(&verdict.as_json()));
    [written, json.unwrap_or(Ok(()))]
}

/// Writes to standard error.
fn tell(text: &str) -> io::Result<()> {
    seen(io::stderr().write_all(text.as_bytes())).map(|_| ())
}
