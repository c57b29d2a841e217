//! The tests of threads, and `samara stress`, under the compiler's sanitizers: threads and
//! addresses.

use crate::ci::{Checked, Outcome};
use crate::nightly::{self, Selector};
use crate::run::{succeed, target, top};
use std::fs;

/// How often the tests of races run: what a thread sanitizer sees depends on the schedule.
const ROUNDS: usize = 3;

/// The tests in which threads meet, besides those of [`reader_tests`].
const THREADED: [&str; 5] = ["races", "snapshots", "slab", "foreign_rcu", "epoch"];

/// The tests whose memory is looked at: every operation, on nodes of the heap itself. (`drops` is
/// not among them: a drop that panics leaks, as documented.)
const WATCHED: [&str; 5] = ["surface", "traces", "races", "snapshots", "reservations"];

/// The tests of `maple-mm` in which threads meet, besides its unit tests.
const THREADED_MM: [&str; 3] = ["shared", "paging", "between_steps"];

/// How long threads are let loose on one address space, in seconds.
const STRESS: &str = "20";

/// And in every run of the checks.
const STRESS_BRIEFLY: &str = "5";

/// One of the sanitizers.
struct Sanitizer {
    /// As `-Zsanitizer=` takes it.
    name: &'static str,
    /// Whether the standard library is built anew with it.
    library: Library,
    /// Options of its run time.
    options: (&'static str, &'static str),
}

/// The standard library that the tests run on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Library {
    Shipped,
    /// Otherwise what it synchronizes is not seen, and is reported.
    Instrumented,
}

const THREAD: Sanitizer = Sanitizer {
    name: "thread",
    library: Library::Instrumented,
    options: ("TSAN_OPTIONS", "halt_on_error=1"),
};

const ADDRESS: Sanitizer = Sanitizer {
    name: "address",
    library: Library::Shipped,
    options: ("ASAN_OPTIONS", "detect_leaks=1"),
};

/// The unit tests break trees on purpose, and leak what they broke; those of `maple-mm` leak sources
/// of nodes, which a machine wants for ever, and look at the books themselves.
const ADDRESS_NOT_LEAKS: Sanitizer = Sanitizer {
    options: ("ASAN_OPTIONS", "detect_leaks=0"),
    ..ADDRESS
};

/// What a run is of.
#[derive(Clone, Copy)]
enum Work<'a> {
    /// The unit tests of the tree.
    TreeUnits,
    /// These integration tests of the tree, and those of readers.
    Tree(&'a [&'a str]),
    /// The unit tests of `maple-mm`, and these integration tests.
    Mm(&'a [&'a str]),
    /// `samara stress`, for so many seconds.
    Stress(&'a str),
}

/// The tests in which threads meet, under ThreadSanitizer, several times.
pub(crate) fn thread() -> Checked {
    let selector = match with_source() {
        Ok(selector) => selector,
        Err(absent) => return Ok(Outcome::Skipped(absent)),
    };
    for _ in 0..ROUNDS {
        work(selector, &THREAD, Work::Tree(&THREADED))?;
    }
    work(selector, &THREAD, Work::Mm(&THREADED_MM))?;
    work(selector, &THREAD, Work::Stress(STRESS))?;
    Ok(Outcome::Passed)
}

/// `samara stress` alone under ThreadSanitizer, as every run of the checks has it.
pub(crate) fn stress_races() -> Checked {
    briefly(with_source(), &THREAD)
}

/// The same under AddressSanitizer.
pub(crate) fn stress_addresses() -> Checked {
    briefly(nightly::selector(), &ADDRESS)
}

fn briefly(selector: Result<Selector, String>, sanitizer: &Sanitizer) -> Checked {
    match selector {
        Ok(selector) => {
            work(selector, sanitizer, Work::Stress(STRESS_BRIEFLY)).map(|()| Outcome::Passed)
        }
        Err(absent) => Ok(Outcome::Skipped(absent)),
    }
}

fn with_source() -> Result<Selector, String> {
    let selector = nightly::selector()?;
    nightly::needs_rust_src(selector)?;
    Ok(selector)
}

/// The tests of the tree, those of threads of `maple-mm`, and `samara stress`, under
/// AddressSanitizer, which also looks for leaks.
pub(crate) fn address() -> Checked {
    match nightly::selector() {
        Ok(selector) => {
            work(selector, &ADDRESS_NOT_LEAKS, Work::TreeUnits)?;
            work(selector, &ADDRESS, Work::Tree(&WATCHED))?;
            work(selector, &ADDRESS_NOT_LEAKS, Work::Mm(&THREADED_MM))?;
            work(selector, &ADDRESS, Work::Stress(STRESS))?;
            Ok(Outcome::Passed)
        }
        Err(absent) => Ok(Outcome::Skipped(absent)),
    }
}

fn work(selector: Selector, sanitizer: &Sanitizer, work: Work<'_>) -> Result<(), String> {
    let name = sanitizer.name;
    let (variable, options) = sanitizer.options;
    let mut cargo = nightly::cargo(selector);
    cargo.arg(match work {
        Work::Stress(_) => "run",
        _ => "test",
    });
    // Given a target, cargo keeps the flags from the build scripts and macros of dependencies.
    cargo.args(["--target", &nightly::host(selector)?]);
    if sanitizer.library == Library::Instrumented {
        cargo.arg("-Zbuild-std");
    }
    cargo.args(arguments(work)?);
    cargo
        .env("RUSTFLAGS", format!("-Zsanitizer={name}"))
        .env(
            "CARGO_TARGET_DIR",
            target().join(format!("{name}-sanitizer")),
        )
        .env(variable, options);
    succeed(&mut cargo)
}

/// What cargo is told to build and run.
fn arguments(work: Work<'_>) -> Result<Vec<String>, String> {
    let (first, tests): (&[&str], Vec<String>) = match work {
        Work::TreeUnits => (&["-p", "maple-tree", "--all-features", "--lib"], vec![]),
        Work::Tree(names) => {
            let mut names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            names.extend(reader_tests()?);
            (&["-p", "maple-tree", "--all-features"], names)
        }
        Work::Mm(names) => {
            let names = names.iter().map(|name| (*name).to_owned());
            (&["-p", "maple-mm", "--lib"], names.collect())
        }
        Work::Stress(seconds) => (
            &["-p", "samara", "--", "stress", "--seconds", seconds],
            vec![],
        ),
    };
    let first = first.iter().map(|word| (*word).to_owned());
    let tests = tests
        .into_iter()
        .flat_map(|name| ["--test".to_owned(), name]);
    Ok(first.chain(tests).collect())
}

/// The integration tests of readers beside a writer: those named `readers…` and `rcu_…`.
pub(crate) fn reader_tests() -> Result<Vec<String>, String> {
    let directory = top().join("crates/maple-tree/tests");
    let listed = fs::read_dir(&directory).map_err(|error| error.to_string())?;
    let name = |entry: fs::DirEntry| entry.path().file_stem()?.to_str().map(str::to_owned);
    let names = listed.filter_map(|entry| name(entry.ok()?));
    let mut names: Vec<String> = names
        .filter(|name| name.starts_with("readers") || name.starts_with("rcu_"))
        .collect();
    names.sort();
    Ok(names)
}
