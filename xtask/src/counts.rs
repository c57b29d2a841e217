//! Instruction counts of the tree's core operations, held against a baseline in the repository.
//!
//! A count is the same in every run of one binary, on a busy machine too, so that 3 % more is not
//! noise. It belongs to one compiler: with another the comparison is skipped.

use crate::ci::{Checked, Outcome};
use crate::run::{command, run, target, top, works};
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

/// The counts of the last release of the tree that was looked at.
const BASELINE: &str = "benches/counts/baseline.txt";

/// More than this is worse, in percent.
const MARGIN: u64 = 3;

/// The version of the runner, which must be that of the library in `benches/counts`.
const RUNNER: &str = "0.20.0";

/// Instructions by the name of the benchmark.
type Counts = BTreeMap<String, u64>;

/// What to do with the counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Print the comparison; a worse count is no failure.
    Show,
    /// A worse count is a failure, and one that is missing too.
    Compare,
    /// They are the new baseline.
    Save,
}

/// Prints the comparison.
pub(crate) fn shown() -> Checked {
    counted(Use::Show)
}

/// `cargo xtask counts [--save]`.
pub(crate) fn counts(words: &[&str]) -> Checked {
    match words {
        [] => counted(Use::Compare),
        ["--save"] => counted(Use::Save),
        _ => Err("cargo xtask counts [--save]".to_owned()),
    }
}

fn counted(purpose: Use) -> Checked {
    if let Some(absent) = absent() {
        return Ok(Outcome::Skipped(absent));
    }
    let compiler = compiler()?;
    if purpose == Use::Save {
        return save(&measured()?, &compiler);
    }
    let text = fs::read_to_string(top().join(BASELINE)).map_err(|error| {
        format!("{BASELINE}: {error}; make one with `cargo xtask counts --save`")
    })?;
    let (theirs, baseline) = parse_baseline(&text)?;
    if theirs != compiler {
        return Ok(Outcome::Skipped(format!(
            "the counts in {BASELINE} belong to {theirs}, this is {compiler}"
        )));
    }
    match (compare(&baseline, &measured()?).wrong(), purpose) {
        (Some(wrong), Use::Compare) => Err(wrong),
        _ => Ok(Outcome::Passed),
    }
}

/// Where a run falls behind the baseline, by the names of the benchmarks.
#[derive(Debug, Default, PartialEq, Eq)]
struct Behind {
    worse: Vec<String>,
    /// In the baseline, and not in the run: a benchmark that is renamed or lost guards nothing.
    gone: Vec<String>,
}

impl Behind {
    fn wrong(&self) -> Option<String> {
        let named = |what: &str, names: &[String]| {
            (!names.is_empty()).then(|| format!("{what}: {}", names.join(", ")))
        };
        let worse = named(&format!("more than {MARGIN} % worse"), &self.worse);
        let gone = named("no longer counted (`--save` if that is meant)", &self.gone);
        let all: Vec<String> = worse.into_iter().chain(gone).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// What has to be installed and is not.
fn absent() -> Option<String> {
    if !works(Command::new("valgrind").arg("--version")) {
        return Some("valgrind is not installed".to_owned());
    }
    let version = Command::new("gungraun-runner").arg("--version").output();
    let is_ours = version.is_ok_and(|output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_whitespace().any(|word| word == RUNNER)
    });
    (!is_ours).then(|| format!("gungraun-runner {RUNNER} is not installed"))
}

/// The compiler, as the first line of `rustc -vV` names it, and its target.
fn compiler() -> Result<String, String> {
    let output = command("rustc", &["-vV"]).output();
    let text = output.map_err(|error| error.to_string())?.stdout;
    let text = String::from_utf8_lossy(&text).into_owned();
    let version = text.lines().next().unwrap_or_default();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(format!("{version}, {}", host.unwrap_or_default()))
}

/// Runs the benchmarks.
fn measured() -> Result<Counts, String> {
    // The caches of the model say nothing about instructions, and cost half of the time.
    let options = ["--callgrind-args=--cache-sim=no", "--color=never"];
    let mut cargo = command(env!("CARGO"), &["bench", "--bench", "core", "--"]);
    cargo
        .args(options)
        .current_dir(top().join("benches/counts"))
        .env("CARGO_TARGET_DIR", target());
    let ran = run(&mut cargo)?;
    if !ran.status.success() {
        return Err(format!("the benchmarks ended with {}", ran.status));
    }
    let counts = parse_output(&ran.stdout);
    match counts.is_empty() {
        true => Err("the benchmarks printed no count".to_owned()),
        false => Ok(counts),
    }
}

/// Reads the runner's output: `FILE::GROUP::FUNCTION ID:(…)`, then `Instructions: COUNT|…`.
fn parse_output(text: &str) -> Counts {
    let mut counts = Counts::new();
    let mut name = None;
    for line in text.lines() {
        if let Some((_, rest)) = line.rsplit_once("Instructions:") {
            let count = rest
                .trim()
                .split('|')
                .next()
                .and_then(|count| count.parse().ok());
            counts.extend(name.take().zip(count));
        } else if let Some((path, _)) = line.split_once(":(")
            && let Some((path, id)) = path.split_once(' ')
        {
            let function = path.rsplit("::").next().unwrap_or(path);
            name = Some(format!("{function} {id}"));
        }
    }
    counts
}

/// Reads the baseline: the compiler behind `# `, then `FUNCTION ID COUNT` lines.
fn parse_baseline(text: &str) -> Result<(String, Counts), String> {
    let mut lines = text.lines();
    let compiler = lines.next().and_then(|line| line.strip_prefix("# "));
    let compiler = compiler.ok_or_else(|| format!("{BASELINE} does not begin with `# rustc …`"))?;
    let pair = |line: &str| {
        let (name, count) = line.rsplit_once(' ')?;
        Some((name.trim().to_owned(), count.parse().ok()?))
    };
    let counts = lines.filter(|line| !line.trim().is_empty()).map(|line| {
        pair(line).ok_or_else(|| format!("{BASELINE}: `{line}` is not a name and a count"))
    });
    Ok((compiler.to_owned(), counts.collect::<Result<_, _>>()?))
}

fn save(counts: &Counts, compiler: &str) -> Checked {
    let lines = counts
        .iter()
        .map(|(name, count)| format!("{name} {count}\n"));
    let text = format!("# {compiler}\n{}", lines.collect::<String>());
    fs::write(top().join(BASELINE), text).map_err(|error| format!("{BASELINE}: {error}"))?;
    println!("saved {} counts in {BASELINE}", counts.len());
    Ok(Outcome::Passed)
}

/// Prints each count beside its baseline; returns what is worse and what is gone.
fn compare(baseline: &Counts, counts: &Counts) -> Behind {
    println!(
        "\n{:<42} {:>12} {:>12} {:>8}",
        "instructions", "baseline", "now", "change"
    );
    let mut behind = Behind::default();
    for (name, &count) in counts {
        let Some(&before) = baseline.get(name) else {
            println!("{name:<42} {:>12} {count:>12}", "new");
            continue;
        };
        let change = 100.0 * (count as f64 / before as f64 - 1.0);
        let verdict = match 100 * count {
            hundredfold if hundredfold > (100 + MARGIN) * before => "WORSE",
            hundredfold if hundredfold < (100 - MARGIN) * before => "better",
            _ => "",
        };
        println!("{name:<42} {before:>12} {count:>12} {change:>+7.1}% {verdict}");
        if verdict == "WORSE" {
            behind.worse.push(name.clone());
        }
    }
    for name in baseline.keys().filter(|name| !counts.contains_key(*name)) {
        println!("{name:<42} is no longer counted");
        behind.gone.push(name.clone());
    }
    behind
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, u64)]) -> Counts {
        let pair = |&(name, count): &(&str, u64)| (name.to_owned(), count);
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_count_belongs_to_the_name_before_it() {
        let text = "\
core::core::lookup plain_1000:(Fixture :: new(Kind :: Plain, 1_000))
  Instructions:                        224623|224620               (+0.0%)
core::core::lookup gaps_1000:(Fixture :: new(Kind :: Gaps, 1_000))
  Instructions:                        247271|N/A                  (*********)
";
        let expected = [
            ("lookup plain_1000", 224_623),
            ("lookup gaps_1000", 247_271),
        ];
        assert_eq!(parse_output(text), counts(&expected));
    }

    #[test]
    fn a_baseline_names_its_compiler() {
        let (compiler, read) = parse_baseline("# rustc 1.2, host\na b 7\n").unwrap();
        assert_eq!(
            (compiler.as_str(), read),
            ("rustc 1.2, host", counts(&[("a b", 7)]))
        );
        assert!(parse_baseline("a b 7\n").is_err());
    }

    #[test]
    fn only_more_than_the_margin_is_worse() {
        let before = counts(&[("a", 1000), ("b", 1000), ("c", 1000)]);
        let now = counts(&[("a", 1030), ("b", 1031), ("c", 500), ("d", 9)]);
        let behind = compare(&before, &now);
        assert_eq!(behind.worse, ["b"]);
        assert!(behind.gone.is_empty() && behind.wrong().unwrap().contains(": b"));
        assert_eq!(compare(&before, &before).wrong(), None);
    }

    #[test]
    fn a_benchmark_that_disappears_is_a_failure() {
        let before = counts(&[("a", 1000), ("b", 1000)]);
        let behind = compare(&before, &counts(&[("a", 1000), ("c", 1000)]));
        assert!(behind.worse.is_empty());
        assert_eq!(behind.gone, ["b"]);
        assert!(behind.wrong().unwrap().contains(": b"));
    }
}
