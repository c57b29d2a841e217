//! The list of checks, and the table at the end that says what ran, for how long, what was skipped.

use crate::{
    cargo, counts, documents, examples, fuzz, heavy, linux_names, miri, no_std, planted, programs,
    run, sanitizers, sources, tools,
};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What a check that did not fail says.
pub(crate) enum Outcome {
    /// It ran, whole.
    Passed,
    /// It did not run: what is absent, and so what was not checked.
    Skipped(String),
}

/// How a check ends; the error says what is wrong and where.
pub(crate) type Checked = Result<Outcome, String>;

/// One check by its name.
pub(crate) struct Check {
    /// As `cargo xtask list` prints it.
    pub(crate) name: &'static str,
    run: fn() -> Checked,
}

/// Every check, the quick ones first, each build configuration's uses one after another.
pub(crate) const CHECKS: &[Check] = &[
    Check {
        name: "format",
        run: cargo::format,
    },
    Check {
        name: "licenses",
        run: sources::licenses,
    },
    Check {
        name: "shape of files",
        run: sources::shape,
    },
    Check {
        name: "machine paths",
        run: sources::machine_paths,
    },
    Check {
        name: "unsafe boundary",
        run: documents::unsafe_boundary,
    },
    Check {
        name: "invariants",
        run: documents::invariants,
    },
    Check {
        name: "names of Linux",
        run: linux_names::aliased,
    },
    Check {
        name: "clippy",
        run: cargo::clippy,
    },
    Check {
        name: "clippy, small nodes",
        run: cargo::clippy_small_nodes,
    },
    Check {
        name: "clippy, planted mistakes",
        run: cargo::clippy_planted,
    },
    Check {
        name: "no_std, host",
        run: no_std::host,
    },
    Check {
        name: "no_std, bare metal",
        run: no_std::bare_metal,
    },
    Check {
        name: "docs",
        run: cargo::docs,
    },
    Check {
        name: "README commands",
        run: documents::readme_commands,
    },
    Check {
        name: "examples",
        run: examples::all,
    },
    Check {
        name: "small nodes",
        run: cargo::small_nodes,
    },
    Check {
        name: "loom",
        run: heavy::loom,
    },
    Check {
        name: "shuttle",
        run: heavy::shuttle,
    },
    Check {
        name: "million entries",
        run: heavy::million,
    },
    Check {
        name: "fuzz corpus",
        run: fuzz::smoke,
    },
    Check {
        name: "main job",
        run: programs::main_job,
    },
    Check {
        name: "built-in replay",
        run: programs::replay,
    },
    Check {
        name: "torture",
        run: programs::torture,
    },
    Check {
        name: "stress",
        run: programs::stress,
    },
    Check {
        name: "stress, data races",
        run: sanitizers::stress_races,
    },
    Check {
        name: "stress, addresses",
        run: sanitizers::stress_addresses,
    },
    Check {
        name: "planted mistakes",
        run: planted::all,
    },
    Check {
        name: "valgrind",
        run: tools::valgrind,
    },
    Check {
        name: "miri",
        run: miri::quick,
    },
    Check {
        name: "counts",
        run: counts::shown,
    },
];

/// Runs one check that is not in the list, or not as the list has it.
pub(crate) fn conclude(result: Checked) -> ExitCode {
    let skipped = match &result {
        Ok(Outcome::Skipped(reason)) => Some(reason.clone()),
        _ => None,
    };
    for line in skipped.into_iter().chain(run::take_skipped()) {
        println!("skipped: {line}");
    }
    match result {
        Ok(_) => ExitCode::SUCCESS,
        Err(reason) => {
            println!("FAILED: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// One line of the table at the end.
struct Line {
    name: &'static str,
    taken: Duration,
    result: Checked,
}

/// Runs `checks`, all of them whatever fails, and prints the table.
pub(crate) fn run(checks: &[Check]) -> ExitCode {
    let lines: Vec<Line> = checks.iter().map(timed).collect();
    table(&lines);
    if lines.iter().any(|line| line.result.is_err()) {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn timed(check: &Check) -> Line {
    println!("\n=== {}", check.name);
    let begin = Instant::now();
    let result = (check.run)();
    if let Err(reason) = &result {
        println!("FAILED: {}: {reason}", check.name);
    }
    Line {
        name: check.name,
        taken: begin.elapsed(),
        result,
    }
}

fn table(lines: &[Line]) {
    println!("\n{:<28} {:>8}  result", "check", "seconds");
    for line in lines {
        let result = match &line.result {
            Ok(Outcome::Passed) => "ok",
            Ok(Outcome::Skipped(_)) => "skipped",
            Err(_) => "FAILED",
        };
        println!(
            "{:<28} {:>8.1}  {result}",
            line.name,
            line.taken.as_secs_f64()
        );
    }
    let total: Duration = lines.iter().map(|line| line.taken).sum();
    println!("{:<28} {:>8.1}", "all", total.as_secs_f64());
    skipped(lines);
    failed(lines);
}

/// Whole checks that were skipped, and the single tests that said so of themselves.
fn skipped(lines: &[Line]) {
    let whole = lines.iter().filter_map(|line| match &line.result {
        Ok(Outcome::Skipped(reason)) => Some(format!("{}: {reason}", line.name)),
        _ => None,
    });
    let skipped: Vec<String> = whole.chain(run::take_skipped()).collect();
    match skipped.as_slice() {
        [] => println!("\nskipped: nothing"),
        _ => skipped.iter().for_each(|line| println!("skipped: {line}")),
    }
}

fn failed(lines: &[Line]) {
    for line in lines {
        if let Err(reason) = &line.result {
            println!("FAILED: {}: {reason}", line.name);
        }
    }
}
