//! The same work on maple-tree and on every structure one would pick instead, in one run.
//!
//! `cargo run --release -p peers -- --help` says what can be chosen. Start reading at `work.rs`
//! (what is measured), then `structure.rs` (what is asked of a structure) and `subject.rs` (how it is
//! timed).

mod args;
mod beside;
mod data;
mod fixture;
mod heap;
mod kinds;
mod linux;
mod measure;
mod model;
mod report;
mod runner;
mod script;
mod structure;
mod structures;
mod subject;
mod verify;
mod work;

use anyhow::{Context, bail};
use args::Args;
use benchkit::Origin;
use clap::Parser;
use fixture::{Age, Fixture};
use kinds::{KINDS, Kind};
use linux::Library;
use runner::{Cell, Run};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::rc::Rc;

/// Keeps freed memory in the process: whether the C library hands pages back, and faults them in
/// again, would depend on which structure was freed last.
const KEEP: [(&str, &str); 3] = [
    ("MALLOC_TRIM_THRESHOLD_", "68719476736"),
    ("MALLOC_MMAP_THRESHOLD_", "33554432"),
    ("MALLOC_TOP_PAD_", "16777216"),
];

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(name) = &args.bytes_of {
        return print_bytes(name, &args);
    }
    if KEEP
        .iter()
        .any(|(name, _)| std::env::var_os(name).is_none())
    {
        return again();
    }
    let targets = args.targets;
    let args = if targets { report::wanted(args) } else { args }.filled();
    let json = args.json.as_ref().map(std::fs::File::create).transpose();
    let json = json.context("the file for --json cannot be written")?;
    // Before a thread is kept on one CPU.
    let origin = Origin::of("peers");
    let cells = measure_all(&args)?;
    if targets {
        println!("{origin}");
        print!("{}", report::targets(&cells));
    }
    if let Some(json) = json {
        serde_json::to_writer_pretty(json, &report::document(&origin, &args, &cells))?;
    }
    Ok(())
}

/// Starts this program once more, with [`KEEP`] in its environment, in place of itself.
fn again() -> anyhow::Result<()> {
    let me = std::env::current_exe()?;
    let mut command = Command::new(me);
    command.args(std::env::args_os().skip(1)).envs(KEEP);
    Err(command.exec()).context("starting again with other allocator settings")
}

fn print_bytes(name: &str, args: &Args) -> anyhow::Result<()> {
    let kind = KINDS.iter().find(|kind| kind.name == name);
    let (Some(kind), [n, ..], [data, ..], [age, ..]) =
        (kind, &args.n[..], &args.data[..], &args.age[..])
    else {
        bail!("--bytes-of needs a structure, --n, --data and --age");
    };
    let bytes = (kind.bytes)(&Fixture::new(*data, *n), *age);
    println!("{}", serde_json::to_string(&bytes)?);
    Ok(())
}

fn measure_all(args: &Args) -> anyhow::Result<Vec<Cell>> {
    let kinds: Vec<Kind> = KINDS
        .into_iter()
        .filter(|kind| args.wants(kind.name))
        .collect();
    let library = args.c_lib.as_ref().map(|path| Library::open(path));
    let library = library.transpose()?.map(Rc::new);
    let cpus = benchkit::cpus();
    if cpus.is_empty() || !benchkit::pin(&cpus[cpus.len() - 1..]) {
        eprintln!("note: this thread could not be kept on one CPU; times will vary more");
    }
    let mut cells = Vec::new();
    for &n in &args.n {
        if n == 0 {
            bail!("--n 0: a data set has at least one entry");
        }
        for &data in &args.data {
            let fixture = Rc::new(Fixture::new(data, n));
            for &age in &args.age {
                cells.extend(one_table(args, (&fixture, age), &kinds, library.as_ref())?);
            }
        }
    }
    Ok(cells)
}

/// Checks, measures and prints one size of one data set at one age.
fn one_table(
    args: &Args,
    (fixture, age): (&Rc<Fixture>, Age),
    kinds: &[Kind],
    library: Option<&Rc<Library>>,
) -> anyhow::Result<Vec<Cell>> {
    let works = report::works(args, fixture.n(), age);
    if works.is_empty() {
        return Ok(Vec::new());
    }
    let mut foreign = match library {
        Some(library) => linux::subjects(library, fixture, age)?,
        None => Vec::new(),
    };
    foreign.retain(|subject| args.wants(subject.name()));
    let run = Run {
        fixture,
        age,
        kinds,
        effort: args.effort(fixture.n()),
    };
    let cells = run.all(&works, foreign).map_err(anyhow::Error::msg)?;
    println!("{}", report::table(&cells));
    Ok(cells)
}
