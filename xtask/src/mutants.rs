//! Mutations of the write pipeline that no test notices, each held against a list with reasons.

use crate::ci::{Checked, Outcome};
use crate::nightly;
use crate::programs::path_of;
use crate::reasons::Reasons;
use crate::run::{run, target};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What is mutated.
const SOURCES: &str = "crates/maple-tree/src/write/**/*.rs";

/// The mutations that change nothing that matters, each with its reason.
const REASONS: &str = "crates/maple-tree/surviving-mutants.txt";

/// One pass over the mutations.
struct Pass {
    /// The tests that are built and run.
    tests: &'static [&'static str],
    /// How long the tests may take on one mutation, in seconds; what never ends is noticed so.
    seconds: u32,
    /// Whether it is over what the pass before left alone.
    over: Over,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    All,
    Survivors,
}

/// Most mutations are noticed by tests of a few seconds; only the others are worth all tests.
const PASSES: [Pass; 2] = [
    Pass {
        tests: &["--lib", "--test=traces", "--test=allocation_failure"],
        seconds: 120,
        over: Over::All,
    },
    Pass {
        tests: &["--lib", "--tests"],
        seconds: 900,
        over: Over::Survivors,
    },
];

/// The status of `cargo-mutants` where it found survivors or mutations that never end.
const FOUND_SOME: [i32; 2] = [2, 3];

/// `cargo xtask mutants`.
pub(crate) fn survivors() -> Checked {
    if let Err(absent) = nightly::needs_subcommand("", "mutants") {
        return Ok(Outcome::Skipped(absent));
    }
    let place = target().join("mutants");
    fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    for pass in PASSES {
        mutate(&pass, &place)?;
    }
    let missed = place.join("mutants.out/missed.txt");
    let missed =
        fs::read_to_string(&missed).map_err(|error| format!("{}: {error}", missed.display()))?;
    let places: BTreeSet<String> = missed.lines().map(without_place).collect();
    println!("\nsurvivors:");
    match Reasons::read(REASONS)?.print(&places) {
        0 => Ok(Outcome::Passed),
        unlisted => Err(format!("{unlisted} survivors have no reason in {REASONS}")),
    }
}

fn mutate(pass: &Pass, place: &Path) -> Result<(), String> {
    let mut cargo = nightly::cargo("");
    cargo
        .args(["mutants", "-p", "maple-tree", "--all-features"])
        .args(["-f", SOURCES, "--no-shuffle", "--output", &path_of(place)])
        .args(["--timeout", &pass.seconds.to_string()])
        .args((pass.over == Over::Survivors).then_some("--iterate"))
        .args(pass.tests.iter().map(|test| format!("--cargo-arg={test}")))
        // Nobody debugs a mutation, and it is built some hundred times.
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env_remove("CARGO_TARGET_DIR");
    let status = run(&mut cargo)?.status;
    if status.success() || status.code().is_some_and(|code| FOUND_SOME.contains(&code)) {
        return Ok(());
    }
    Err(format!("`cargo mutants` ended with {status}"))
}

/// A mutation's text without its line and column: `PATH:LINE:COLUMN: TEXT`.
fn without_place(line: &str) -> String {
    let mut parts = line.splitn(4, ':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(path), Some(_), Some(_), Some(text)) => format!("{path}:{text}"),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutation_is_known_by_its_text() {
        let line = "src/write/plan.rs:12:5: replace a::b -> bool with true";
        assert_eq!(
            without_place(line),
            "src/write/plan.rs: replace a::b -> bool with true"
        );
    }
}
