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

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use cli::{Cli, Command, ReplayArgs};
use verdict::{Status, Verdict};

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        None => {
            print!("{}", cli::GUIDE);
            Ok(Status::Identical)
        }
        Some(Command::Trace(args)) => trace::run(&args),
        Some(Command::Replay(args)) => replay(&args),
        Some(Command::Show(args)) => show::run(&args.what),
    };
    match done {
        Ok(status) => ExitCode::from(status as u8),
        Err(error) => {
            eprintln!("samara: {error:#}");
            ExitCode::from(Status::CouldNotRun as u8)
        }
    }
}

/// The run that is built in.
const BUILT_IN: &[u8] = include_bytes!("../assets/built-in.trace");

fn replay(args: &ReplayArgs) -> Result<Status> {
    if args.list {
        return list(args);
    }
    let verdict = match &args.file {
        None => replay::replay(BUILT_IN, "replay of the built-in run".to_owned())?,
        Some(path) => {
            let file = fs::File::open(path)
                .with_context(|| format!("cannot open the trace {}", path.display()))?;
            let name = format!("replay of {}", path.display());
            replay::replay(std::io::BufReader::new(file), name)
                .with_context(|| format!("cannot replay {}", path.display()))?
        }
    };
    report(&verdict, args.json.as_deref())?;
    Ok(verdict.status())
}

/// Prints what a trace holds.
fn list(args: &ReplayArgs) -> Result<Status> {
    let bytes = match &args.file {
        None => BUILT_IN.to_vec(),
        Some(path) => {
            fs::read(path).with_context(|| format!("cannot open the trace {}", path.display()))?
        }
    };
    let mut reader = trace_file::Reader::new(&bytes[..])?;
    let mut out = std::io::stdout().lock();
    while let Some(event) = reader.next_event()? {
        // Whoever reads us may have seen enough.
        if writeln!(out, "{event}").is_err() {
            break;
        }
    }
    Ok(Status::Identical)
}

/// Writes a verdict to standard error and, if asked, as JSON to a file.
fn report(verdict: &Verdict, json: Option<&Path>) -> Result<()> {
    eprint!("{verdict}");
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&verdict.as_json()).context("cannot make JSON")?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
