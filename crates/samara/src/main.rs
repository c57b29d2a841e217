//! Samara: mirrors a running program's address spaces and compares them with the kernel's.

mod call;
mod cli;
mod compare;
mod convert;
mod decode;
mod engine;
mod event;
mod facts;
mod files;
mod kernel;
mod launch;
mod mirror;
mod observe;
mod procfs;
mod progress;
mod ptrace;
mod recorder;
mod replay;
mod seccomp;
mod session;
mod show;
mod trace;
mod trace_file;
mod verdict;

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use cli::{Cli, Command, ReplayArgs};
use verdict::{Status, Verdict};

fn main() -> ExitCode {
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
            // There is no other place to complain.
            let _ = writeln!(io::stderr(), "samara: {error:#}");
            ExitCode::from(Status::CouldNotRun as u8)
        }
    }
}

fn run(command: Option<Command>) -> Result<Status> {
    match command {
        None => print(cli::GUIDE).context("cannot write the guide"),
        Some(Command::Trace(args)) => trace::run(&args),
        Some(Command::Replay(args)) => replay(&args),
        Some(Command::Show(args)) => show::run(&args.what),
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
    let json = args.json.as_deref().map(JsonFile::create).transpose()?;
    let verdict = replay::replay(input, format!("replay of {name}"))
        .with_context(|| format!("cannot replay {name}"))?;
    report(&verdict, json)?;
    Ok(verdict.status())
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

/// Where a verdict goes as JSON. It is opened before anything runs, so that a path that can't be
/// written is found in time; what it held before stays until there is a verdict.
#[derive(Debug)]
struct JsonFile {
    path: PathBuf,
    file: File,
}

impl JsonFile {
    /// Opens the file, or makes an empty one.
    ///
    /// # Errors
    ///
    /// If it can't be written.
    fn create(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        let path = path.to_owned();
        Ok(Self { path, file })
    }

    fn write(mut self, verdict: &Verdict) -> Result<()> {
        let text = serde_json::to_string_pretty(&verdict.as_json()).context("cannot make JSON")?;
        let replace = || {
            // Pipes and devices have no length.
            if self.file.metadata()?.is_file() {
                self.file.set_len(0)?;
            }
            self.file.write_all((text + "\n").as_bytes())
        };
        replace().with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Writes a verdict to standard error and, if asked, as JSON to a file.
fn report(verdict: &Verdict, json: Option<JsonFile>) -> Result<()> {
    let written = seen(io::stderr().write_all(verdict.to_string().as_bytes()));
    if let Some(json) = json {
        json.write(verdict)?;
    }
    written.context("cannot write the verdict")?;
    Ok(())
}
