//! Mutations of the write pipeline that no test notices, each held against a list with reasons.

use crate::ci::{Checked, Outcome};
use crate::nightly;
use crate::programs::path_of;
use crate::reasons::Reasons;
use crate::run::{run, succeed, target};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

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
    /// How long the tests may take on one mutation, in seconds.
    seconds: u32,
    build: Build,
    /// The lists of what the pass settles; the next ones leave that out.
    settles: &'static [&'static str],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Build {
    /// Built in a fifth of the time, but tests run longer: what they did not end may yet end.
    Plain,
    Optimised,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Nodes {
    Full,
    /// Few entries make a tall tree: a few seconds of random operations reach every kind of write.
    Small,
}

/// The tests that notice most mutations, as small nodes make tall trees.
const QUICK: &[&str] = &[
    "--lib",
    "--test=allocation_failure",
    "--test=occupancy",
    "--test=random_operations",
];

/// The same, and one that takes half a minute where nothing is optimised.
const LONGER: &[&str] = &[
    "--lib",
    "--test=allocation_failure",
    "--test=occupancy",
    "--test=paths",
    "--test=random_operations",
];

/// The first is over all mutations, built in the shortest time: most are noticed at once. Each of
/// the others is over what those before it neither settled nor missed with a reason listed, and
/// worth more time on each mutation.
const PASSES: [Pass; 3] = [
    Pass {
        nodes: Nodes::Small,
        place: "mutants-unoptimised",
        tests: QUICK,
        seconds: 20,
        build: Build::Plain,
        settles: &[CAUGHT],
    },
    Pass {
        nodes: Nodes::Small,
        place: "mutants-small-nodes",
        tests: LONGER,
        seconds: 120,
        build: Build::Optimised,
        settles: &[CAUGHT, ENDLESS],
    },
    Pass {
        nodes: Nodes::Full,
        place: "mutants",
        tests: &["--lib", "--tests"],
        seconds: 900,
        build: Build::Optimised,
        settles: &[CAUGHT, ENDLESS],
    },
];

/// Where `cargo-mutants` keeps its lists, below the place it is given.
const LISTS: &str = "mutants.out";

/// The lists of what a test noticed, of what never ended and of what cannot be built.
///
/// `--iterate` leaves out what is in the first and the last, and would go through the second again.
const CAUGHT: &str = "caught.txt";
const ENDLESS: &str = "timeout.txt";
const UNVIABLE: &str = "unviable.txt";

/// The list of those that no test noticed.
const MISSED: &str = "missed.txt";

/// The status of `cargo-mutants` where it found survivors or mutations that never end.
const FOUND_SOME: [i32; 2] = [2, 3];

/// `cargo xtask mutants [--from PASS]`: passes before the given one were carried out already, by a
/// run that was cut off.
pub(crate) fn survivors(words: &[&str]) -> Checked {
    let first = match words {
        [] => 1,
        ["--from", pass] => pass
            .parse()
            .ok()
            .filter(|pass| (1..=PASSES.len()).contains(pass))
            .ok_or_else(|| format!("--from {pass}: there are passes 1 to {}", PASSES.len()))?,
        _ => return Err("usage: cargo xtask mutants [--from PASS]".to_owned()),
    };
    if let Err(absent) = nightly::needs_subcommand("", "mutants") {
        return Ok(Outcome::Skipped(absent));
    }
    // Read before the hours that the passes take.
    let reasons = Reasons::read(REASONS)?;
    let mut settled: Vec<Pass> = Vec::new();
    for (number, pass) in (1..).zip(PASSES) {
        if number >= first {
            mutate(&pass, &settled, &reasons)?;
        }
        settled.push(pass);
    }
    let last = settled.last().ok_or("no pass over the mutations")?;
    let missed = read(last, MISSED)? + &explained(&settled, &reasons)?;
    let places: BTreeSet<String> = missed.lines().map(without_place).collect();
    println!("\nsurvivors:");
    match reasons.print(&places) {
        0 => Ok(Outcome::Passed),
        unlisted => Err(format!("{unlisted} survivors have no reason in {REASONS}")),
    }
}

/// Carries out `pass`, over what none of those `before` it settled and has no reason among
/// `reasons`.
fn mutate(pass: &Pass, before: &[Pass], reasons: &Reasons) -> Result<(), String> {
    let place = target().join(pass.place);
    fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    leave_out(before, reasons, &place.join(LISTS))?;
    // Tests that fail anyway would notice everything. They may take longer than a mutation's.
    succeed(cargo(pass, "test").args(pass.tests))?;
    let mut cargo = cargo(pass, "mutants");
    cargo
        .args(["-f", SOURCES, "--no-shuffle", "--output", &path_of(&place)])
        .args(["--iterate", "--baseline=skip"])
        .args(["--timeout", &pass.seconds.to_string()])
        .args(pass.tests.iter().map(|test| format!("--cargo-arg={test}")))
        .env_remove("CARGO_TARGET_DIR");
    let status = run(&mut cargo)?.status;
    if status.success() || status.code().is_some_and(|code| FOUND_SOME.contains(&code)) {
        return Ok(());
    }
    Err(format!("`cargo mutants` ended with {status}"))
}

/// `cargo` with the subcommand and what it is to build for `pass`.
fn cargo(pass: &Pass, subcommand: &str) -> Command {
    let mut cargo = nightly::cargo("");
    cargo
        .args([subcommand, "-p", "maple-tree", "--all-features"])
        // Nobody debugs a mutation, and it is built some hundred times.
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    if pass.nodes == Nodes::Small {
        cargo.env("RUSTFLAGS", "--cfg small_nodes");
    }
    if pass.build == Build::Plain {
        cargo.env("CARGO_PROFILE_DEV_OPT_LEVEL", "0");
    }
    cargo
}

/// Makes the lists at `lists` those of a run that settled what the passes `before` did and what
/// has a reason, and nothing else.
fn leave_out(before: &[Pass], reasons: &Reasons, lists: &Path) -> Result<(), String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", lists.display());
    if lists.exists() {
        fs::remove_dir_all(lists).map_err(wrong)?;
    }
    fs::create_dir_all(lists).map_err(wrong)?;
    let mut settled = explained(before, reasons)?;
    let mut unviable = String::new();
    for pass in before {
        for list in pass.settles {
            settled += &read(pass, list)?;
        }
        unviable += &read(pass, UNVIABLE)?;
    }
    fs::write(lists.join(CAUGHT), settled).map_err(wrong)?;
    fs::write(lists.join(UNVIABLE), unviable).map_err(wrong)
}

/// What has a reason among that which a pass left open, one a line.
fn explained(passes: &[Pass], reasons: &Reasons) -> Result<String, String> {
    let mut explained = String::new();
    for pass in passes {
        for list in [MISSED, ENDLESS] {
            let listed = |line: &&str| reasons.of(&without_place(line)).is_some();
            let open = if pass.settles.contains(&list) {
                String::new()
            } else {
                read(pass, list)?
            };
            for line in open.lines().filter(listed) {
                explained += line;
                explained += "\n";
            }
        }
    }
    Ok(explained)
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
