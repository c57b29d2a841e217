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
    /// The size of the nodes, and where `cargo-mutants` writes what it found, below the target
    /// directory.
    nodes: Nodes,
    place: &'static str,
    /// The tests that are built and run.
    tests: &'static [&'static str],
    /// How long the tests may take on one mutation, in seconds; what never ends is noticed so.
    seconds: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Nodes {
    Full,
    /// Few entries make a tall tree: a few seconds of random operations reach every kind of write.
    Small,
}

/// The first is over all mutations, most of which few tests of a few seconds notice; the second is
/// over those that the first did not, which alone are worth all tests.
const PASSES: [Pass; 2] = [
    Pass {
        nodes: Nodes::Small,
        place: "mutants-small-nodes",
        tests: &[
            "--lib",
            "--test=random_operations",
            "--test=allocation_failure",
            "--test=occupancy",
            "--test=paths",
        ],
        seconds: 120,
    },
    Pass {
        nodes: Nodes::Full,
        place: "mutants",
        tests: &["--lib", "--tests"],
        seconds: 900,
    },
];

/// Where `cargo-mutants` keeps its lists, below the place it is given.
const LISTS: &str = "mutants.out";

/// What a pass settled, by its lists on the left, is what the next one leaves out, by those on the
/// right, which are all that `--iterate` looks at: it would go through what never ends once more.
const SETTLED: [(&[&str], &str); 2] = [
    (&["caught.txt", "timeout.txt"], "caught.txt"),
    (&["unviable.txt"], "unviable.txt"),
];

/// The list of those that no test noticed.
const MISSED: &str = "missed.txt";

/// The status of `cargo-mutants` where it found survivors or mutations that never end.
const FOUND_SOME: [i32; 2] = [2, 3];

/// `cargo xtask mutants`.
pub(crate) fn survivors() -> Checked {
    if let Err(absent) = nightly::needs_subcommand("", "mutants") {
        return Ok(Outcome::Skipped(absent));
    }
    // Read before the hours that the passes take.
    let reasons = Reasons::read(REASONS)?;
    let [first, second] = PASSES;
    mutate(&first, None)?;
    mutate(&second, Some(&first))?;
    let missed = read(&second, MISSED)?;
    let places: BTreeSet<String> = missed.lines().map(without_place).collect();
    println!("\nsurvivors:");
    match reasons.print(&places) {
        0 => Ok(Outcome::Passed),
        unlisted => Err(format!("{unlisted} survivors have no reason in {REASONS}")),
    }
}

/// Carries out `pass`, over what `before` left alone if there is one.
fn mutate(pass: &Pass, before: Option<&Pass>) -> Result<(), String> {
    let place = target().join(pass.place);
    fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    if let Some(before) = before {
        leave_out(before, &place.join(LISTS))?;
    }
    let mut cargo = nightly::cargo("");
    cargo
        .args(["mutants", "-p", "maple-tree", "--all-features"])
        .args(["-f", SOURCES, "--no-shuffle", "--output", &path_of(&place)])
        .args(["--timeout", &pass.seconds.to_string()])
        .args(before.map(|_| "--iterate"))
        .args(pass.tests.iter().map(|test| format!("--cargo-arg={test}")))
        // Nobody debugs a mutation, and it is built some hundred times.
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env_remove("CARGO_TARGET_DIR");
    if pass.nodes == Nodes::Small {
        cargo.env("RUSTFLAGS", "--cfg small_nodes");
    }
    let status = run(&mut cargo)?.status;
    if status.success() || status.code().is_some_and(|code| FOUND_SOME.contains(&code)) {
        return Ok(());
    }
    Err(format!("`cargo mutants` ended with {status}"))
}

/// Makes the lists at `lists` those of a run that settled what `before` did, and nothing else.
fn leave_out(before: &Pass, lists: &Path) -> Result<(), String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", lists.display());
    if lists.exists() {
        fs::remove_dir_all(lists).map_err(wrong)?;
    }
    fs::create_dir_all(lists).map_err(wrong)?;
    for (from, to) in SETTLED {
        let texts: Result<Vec<String>, String> =
            from.iter().map(|list| read(before, list)).collect();
        fs::write(lists.join(to), texts?.concat()).map_err(wrong)?;
    }
    Ok(())
}

/// A list that `cargo-mutants` wrote in `pass`.
fn read(pass: &Pass, list: &str) -> Result<String, String> {
    let file = target().join(pass.place).join(LISTS).join(list);
    fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))
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
