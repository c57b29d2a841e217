//! The tree's tests under the compiler's sanitizers: threads and addresses.

use crate::ci::{Checked, Outcome};
use crate::nightly::{self, Selector};
use crate::run::{succeed, target, top};
use std::fs;

/// How often the tests of races run: what a thread sanitizer sees depends on the schedule.
const ROUNDS: usize = 3;

/// The tests in which threads meet, besides those of [`reader_tests`].
const THREADED: [&str; 4] = ["races", "snapshots", "slab", "foreign_rcu"];

/// The tests whose memory is looked at: every operation, on nodes of the heap itself. (`drops` is
/// not among them: a drop that panics leaks, as documented.)
const WATCHED: [&str; 5] = ["surface", "traces", "races", "snapshots", "reservations"];

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

/// The unit tests break trees on purpose, and leak what they broke.
const ADDRESS_NOT_LEAKS: Sanitizer = Sanitizer {
    options: ("ASAN_OPTIONS", "detect_leaks=0"),
    ..ADDRESS
};

/// What a run tests.
#[derive(Clone, Copy)]
enum Tests<'a> {
    /// The unit tests.
    Unit,
    /// These integration tests, and those of readers.
    Integration(&'a [&'a str]),
}

/// The tests in which threads meet, under ThreadSanitizer, several times.
pub(crate) fn thread() -> Checked {
    let with_source = |found| nightly::needs_rust_src(found).map(|()| found);
    let selector = match nightly::selector().and_then(with_source) {
        Ok(selector) => selector,
        Err(absent) => return Ok(Outcome::Skipped(absent)),
    };
    for _ in 0..ROUNDS {
        test(selector, &THREAD, Tests::Integration(&THREADED))?;
    }
    Ok(Outcome::Passed)
}

/// The tests of the tree under AddressSanitizer, which also looks for leaks.
pub(crate) fn address() -> Checked {
    match nightly::selector() {
        Ok(selector) => {
            test(selector, &ADDRESS_NOT_LEAKS, Tests::Unit)?;
            test(selector, &ADDRESS, Tests::Integration(&WATCHED))?;
            Ok(Outcome::Passed)
        }
        Err(absent) => Ok(Outcome::Skipped(absent)),
    }
}

fn test(selector: Selector, sanitizer: &Sanitizer, tests: Tests<'_>) -> Result<(), String> {
    let name = sanitizer.name;
    let (variable, options) = sanitizer.options;
    let mut cargo = nightly::cargo(selector);
    cargo.args(["test", "-p", "maple-tree", "--all-features"]);
    // Given a target, cargo keeps the flags from the build scripts and macros of dependencies.
    cargo.args(["--target", &nightly::host(selector)?]);
    if sanitizer.library == Library::Instrumented {
        cargo.arg("-Zbuild-std");
    }
    match tests {
        Tests::Unit => {
            cargo.arg("--lib");
        }
        Tests::Integration(names) => {
            let readers = reader_tests()?;
            let names = names
                .iter()
                .copied()
                .chain(readers.iter().map(String::as_str));
            cargo.args(names.flat_map(|name| ["--test", name]));
        }
    }
    cargo
        .env("RUSTFLAGS", format!("-Zsanitizer={name}"))
        .env(
            "CARGO_TARGET_DIR",
            target().join(format!("{name}-sanitizer")),
        )
        .env(variable, options);
    succeed(&mut cargo)
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
