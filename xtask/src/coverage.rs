//! Coverage of the tree by its own tests, and the places that no test reaches.
//!
//! `cargo-llvm-cov` measures; with a nightly toolchain branches, otherwise lines. The side of an
//! assertion that fails is not counted: no test can reach it while the code is right.

use crate::ci::{Checked, Outcome};
use crate::code::without_comments;
use crate::nightly::{self, Selector};
use crate::programs::path_of;
use crate::reasons::Reasons;
use crate::run::{succeed, target, top};
use std::collections::BTreeSet;
use std::fs;

/// Below this the command fails, in percent.
const LEAST: f64 = 95.0;

/// The sources that are measured.
const SOURCES: &str = "crates/maple-tree/src/";

/// The places known not to be reached, each with its reason.
const REASONS: &str = "crates/maple-tree/uncovered.txt";

/// Macros whose failing side is not counted.
const ASSERTIONS: [&str; 6] = [
    "assert!(",
    "assert_eq!(",
    "assert_ne!(",
    "debug_assert!(",
    "debug_assert_eq!(",
    "unreachable!(",
];

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Measure {
    Branches,
    Lines,
}

/// `cargo xtask coverage`.
pub(crate) fn coverage() -> Checked {
    let nightly = nightly::selector()
        .ok()
        .filter(|&found| nightly::has_llvm_tools(found));
    let (selector, measure) = match nightly {
        Some(selector) => (selector, Measure::Branches),
        None if nightly::has_llvm_tools("") => ("", Measure::Lines),
        None => return Ok(Outcome::Skipped("llvm-tools are not installed".to_owned())),
    };
    if let Err(absent) = nightly::needs_subcommand(selector, "llvm-cov") {
        return Ok(Outcome::Skipped(absent));
    }
    if measure == Measure::Lines {
        println!("skipped: branches: llvm-tools are not installed for a nightly toolchain");
    }
    let files = parse(&measured(selector, measure)?, measure)?;
    judge(&files, measure)
}

/// Runs the tests and returns the report, in the format of lcov.
fn measured(selector: Selector, measure: Measure) -> Result<String, String> {
    let place = target().join("coverage");
    fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    let report = place.join("report.lcov");
    let mut cargo = nightly::cargo(selector);
    cargo
        .args(["llvm-cov", "test", "-p", "maple-tree", "--all-features"])
        .args(["--lib", "--tests"])
        .args(["--no-cfg-coverage", "--no-cfg-coverage-nightly", "--lcov"])
        .args((measure == Measure::Branches).then_some("--branch"))
        .args(["--output-path", &path_of(&report)])
        .env("CARGO_TARGET_DIR", place);
    succeed(&mut cargo)?;
    fs::read_to_string(&report).map_err(|error| format!("{}: {error}", report.display()))
}

/// One source file's coverage.
struct Covered {
    /// Below [`SOURCES`].
    path: String,
    reached: usize,
    /// Once for each branch, or line, that was not reached.
    missed: Vec<Missed>,
    text: String,
}

/// What was not reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Missed {
    /// From 1.
    line: usize,
    /// Which side of a condition, in words; empty for a line.
    side: &'static str,
}

/// Reads the report: `SF:` begins a file; `BRDA:LINE,…,TAKEN` is a branch, `DA:LINE,COUNT` a line.
fn parse(report: &str, measure: Measure) -> Result<Vec<Covered>, String> {
    let mut files: Vec<Covered> = Vec::new();
    let mut asserted = BTreeSet::new();
    let mut ours = false;
    for line in report.lines() {
        let Some((kind, rest)) = line.split_once(':') else {
            continue;
        };
        match kind {
            "SF" => {
                ours = rest.contains(SOURCES) && !rest.ends_with("tests.rs");
                if ours {
                    files.push(begun(rest)?);
                    asserted = assertions(&files[files.len() - 1].text);
                }
            }
            _ if !ours => {}
            "BRDA" if measure == Measure::Branches => count(&mut files, rest, &asserted),
            "DA" if measure == Measure::Lines => count(&mut files, rest, &asserted),
            _ => {}
        }
    }
    Ok(files)
}

fn begun(path: &str) -> Result<Covered, String> {
    let below = path.split(SOURCES).last().unwrap_or(path).to_owned();
    let file = top().join(SOURCES).join(&below);
    Ok(Covered {
        path: below,
        reached: 0,
        missed: Vec::new(),
        text: fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?,
    })
}

/// Counts a branch, `LINE,BLOCK,BRANCH,TAKEN`, or a line, `LINE,COUNT`. Of the two branches of a
/// condition the first is the one where it holds.
fn count(files: &mut [Covered], fields: &str, asserted: &BTreeSet<usize>) {
    let fields: Vec<&str> = fields.split(',').collect();
    let line = fields.first().and_then(|line| line.parse().ok());
    let (Some(file), Some(line)) = (files.last_mut(), line) else {
        return;
    };
    let side = match fields.as_slice() {
        [_, _, branch, _]
            if branch
                .parse()
                .is_ok_and(|branch: u32| branch.is_multiple_of(2)) =>
        {
            " (never true)"
        }
        [_, _, _, _] => " (never false)",
        _ => "",
    };
    match fields.last() {
        Some(&("0" | "-")) if asserted.contains(&line) => {}
        Some(&("0" | "-")) => file.missed.push(Missed { line, side }),
        _ => file.reached += 1,
    }
}

/// The lines, from 1, that belong to an assertion.
fn assertions(text: &str) -> BTreeSet<usize> {
    let code = without_comments(text);
    let mut lines = BTreeSet::new();
    for (at, name) in ASSERTIONS.iter().flat_map(|name| code.match_indices(name)) {
        let first = 1 + code[..at].matches('\n').count();
        let body = &code[at + name.len()..];
        let spanned = body[..closing(body)].matches('\n').count();
        lines.extend(first..=first + spanned);
    }
    lines
}

/// Where the parenthesis is closed that was opened right before `code`.
fn closing(code: &str) -> usize {
    let mut open = 1_usize;
    for (at, character) in code.char_indices() {
        match character {
            '(' => open += 1,
            ')' if open == 1 => return at,
            ')' => open -= 1,
            _ => {}
        }
    }
    code.len()
}

/// Prints the table and the places that were not reached.
fn judge(files: &[Covered], measure: Measure) -> Checked {
    let what = match measure {
        Measure::Branches => "branches",
        Measure::Lines => "lines",
    };
    println!("\n{what:<28} {:>8} {:>8} {:>8}", "reached", "of", "percent");
    for file in files {
        row(&file.path, file.reached, file.missed.len());
    }
    let reached = files.iter().map(|file| file.reached).sum();
    let missed = files.iter().map(|file| file.missed.len()).sum();
    row("all", reached, missed);

    println!("\nnot reached:");
    files.iter().for_each(print_lines);
    let places: BTreeSet<String> = files.iter().flat_map(places).collect();
    println!("\nby their text, as {REASONS} lists them:");
    let unlisted = Reasons::read(REASONS)?.print(&places);
    verdict(percent(reached, missed), unlisted).map_err(|wrong| format!("{what}: {wrong}"))?;
    Ok(Outcome::Passed)
}

/// What is wrong with a coverage of `percent`, which is `None` where nothing was measured, and
/// so many places not reached that have no reason.
fn verdict(percent: Option<f64>, unlisted: usize) -> Result<(), String> {
    match percent {
        None => Err("nothing was measured: the report names no file of the tree".to_owned()),
        Some(percent) if percent < LEAST => Err(format!(
            "{percent:.1} % are reached, {LEAST} % is the least"
        )),
        Some(_) if unlisted > 0 => Err(format!(
            "{unlisted} places that no test reaches have no reason in {REASONS}"
        )),
        Some(_) => Ok(()),
    }
}

fn print_lines(file: &Covered) {
    for Missed { line, side } in &file.missed {
        println!("  {SOURCES}{}:{line}{side}", file.path);
    }
}

fn places(file: &Covered) -> impl Iterator<Item = String> {
    let lines: Vec<&str> = file.text.lines().collect();
    file.missed.iter().map(move |&Missed { line, side }| {
        let text = lines.get(line - 1).map_or("", |text| text.trim());
        format!("{}: {text}{side}", file.path)
    })
}

fn row(name: &str, reached: usize, missed: usize) {
    let all = reached + missed;
    let percent = percent(reached, missed).map_or("-".to_owned(), |it| format!("{it:.1}"));
    println!("{name:<28} {reached:>8} {all:>8} {percent:>8}");
}

/// The share that was reached; of nothing there is none.
fn percent(reached: usize, missed: usize) -> Option<f64> {
    let all = reached + missed;
    (all > 0).then(|| 100.0 * reached as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_an_assertion_are_found_over_several_lines() {
        let text = "a;\nassert!(\n    f(x),\n    \")\"\n);\nb;\ndebug_assert!(y);\n";
        assert_eq!(assertions(text), BTreeSet::from([2, 3, 4, 5, 7]));
    }

    #[test]
    fn a_branch_that_was_not_taken_is_missed_unless_it_is_an_assertion() {
        let mut files = [Covered {
            path: String::new(),
            reached: 0,
            missed: Vec::new(),
            text: String::new(),
        }];
        for fields in ["3,0,0,7", "3,0,1,0", "4,0,1,0", "5,0,0,-"] {
            count(&mut files, fields, &BTreeSet::from([4]));
        }
        let missed = [(3, " (never false)"), (5, " (never true)")];
        assert_eq!(
            files[0].missed,
            missed.map(|(line, side)| Missed { line, side })
        );
        assert_eq!(files[0].reached, 1);
    }

    #[test]
    fn measuring_nothing_is_a_failure() {
        assert_eq!(percent(0, 0), None);
        assert!(verdict(percent(0, 0), 0).is_err());
        let elsewhere = "SF:other/src/lib.rs\nBRDA:3,0,0,7\nend_of_record\n";
        assert!(parse(elsewhere, Measure::Branches).unwrap().is_empty());
    }

    #[test]
    fn a_missed_place_without_a_reason_is_a_failure() {
        let enough = percent(199, 1);
        assert_eq!(verdict(enough, 0), Ok(()));
        assert!(verdict(enough, 1).is_err());
        assert!(verdict(percent(9, 1), 0).is_err());
    }
}
