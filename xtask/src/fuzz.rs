//! The fuzz targets: a smoke run for every machine, and the search for those with `cargo-fuzz`.

use crate::ci::{Checked, Outcome};
use crate::run::{command, succeed, target, top};
use crate::{nightly, programs};
use std::fs;

/// How long each target searches unless told otherwise.
const SECONDS: u64 = 60;

/// The longest script, in bytes; longer ones hardly reach anything new and are slow.
const BYTES_MOST: u64 = 300;

/// Replays and mutates the corpus with a stable compiler, and holds the fuzz crate to the checks
/// that the workspace has: it is a workspace of its own.
pub(crate) fn smoke() -> Checked {
    for arguments in [
        &["fmt", "--check"][..],
        &["clippy", "--all-targets", "--", "-D", "warnings"],
        &["test", "--test=smoke"],
    ] {
        succeed(
            command(env!("CARGO"), arguments)
                .current_dir(top().join("fuzz"))
                .env("CARGO_TARGET_DIR", target()),
        )?;
    }
    Ok(Outcome::Passed)
}

/// What to search, for how long, on which nodes.
struct Search {
    /// All targets if it is `None`.
    target: Option<String>,
    seconds: u64,
    nodes: Nodes,
}

/// The size of the tree's nodes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nodes {
    Full,
    /// Few entries make a tall tree.
    Small,
}

/// `cargo xtask fuzz [TARGET] [--seconds N] [--small-nodes]`.
pub(crate) fn search(words: &[&str]) -> Checked {
    let search = parse(words)?;
    let targets = targets()?;
    if let Some(wanted) = search.target.as_deref().filter(|name| !has(&targets, name)) {
        let known = targets.join(", ");
        return Err(format!(
            "no fuzz target is called `{wanted}`; there are {known}"
        ));
    }
    let selector = match nightly::selector() {
        Ok(selector) => selector,
        Err(absent) => return Ok(Outcome::Skipped(absent)),
    };
    if let Err(absent) = nightly::needs_subcommand(selector, "fuzz") {
        return Ok(Outcome::Skipped(absent));
    }
    let wanted = |name: &&String| search.target.as_ref().is_none_or(|target| target == *name);
    for name in targets.iter().filter(wanted) {
        run(selector, name, &search)?;
    }
    Ok(Outcome::Passed)
}

fn parse(words: &[&str]) -> Result<Search, String> {
    let mut search = Search {
        target: None,
        seconds: SECONDS,
        nodes: Nodes::Full,
    };
    let mut words = words.iter();
    while let Some(&word) = words.next() {
        match word {
            "--seconds" => {
                let number = words.next().and_then(|number| number.parse().ok());
                search.seconds = number.ok_or("`--seconds` needs a number")?;
            }
            "--small-nodes" => search.nodes = Nodes::Small,
            name if !name.starts_with('-') && search.target.is_none() => {
                search.target = Some(name.to_owned());
            }
            _ => {
                return Err(format!(
                    "`{word}` is unknown: cargo xtask fuzz [TARGET] [--seconds N] [--small-nodes]"
                ));
            }
        }
    }
    Ok(search)
}

/// The names of the targets: those that have a corpus.
fn targets() -> Result<Vec<String>, String> {
    let corpus = top().join("fuzz/corpus");
    let listed = fs::read_dir(&corpus).map_err(|error| format!("fuzz/corpus: {error}"))?;
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut names: Vec<String> = listed.filter_map(|entry| Some(name(entry.ok()?))).collect();
    names.sort();
    Ok(names)
}

fn has(targets: &[String], name: &str) -> bool {
    targets.iter().any(|target| target == name)
}

/// Searches with one target. What is found goes below the target directory; the corpus of the
/// repository is only read, so that it stays small.
fn run(selector: nightly::Selector, name: &str, search: &Search) -> Result<(), String> {
    let small = search.nodes == Nodes::Small;
    let place = target().join(if small { "fuzz-small-nodes" } else { "fuzz" });
    let found = place.join("corpus").join(name);
    fs::create_dir_all(&found).map_err(|error| format!("{}: {error}", found.display()))?;
    let mut cargo = nightly::cargo(selector);
    cargo
        // Tracing comparisons costs half the speed, and scripts hold no magic numbers to find.
        .args(["fuzz", "run", "--no-trace-compares", name])
        .args([programs::path_of(&found), format!("fuzz/corpus/{name}")])
        .arg("--")
        .arg(format!("-max_total_time={}", search.seconds))
        .arg(format!("-max_len={BYTES_MOST}"))
        .env("CARGO_TARGET_DIR", place);
    if small {
        cargo.env("RUSTFLAGS", "--cfg small_nodes");
    }
    succeed(&mut cargo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_and_the_options_come_in_any_order() {
        let search = parse(&["--small-nodes", "snapshots", "--seconds", "5"]).unwrap();
        assert_eq!(search.target.as_deref(), Some("snapshots"));
        assert!(search.seconds == 5 && search.nodes == Nodes::Small);
    }

    #[test]
    fn what_is_no_option_is_named() {
        for words in [&["--second", "5"][..], &["one", "two"], &["--seconds", "x"]] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn every_target_has_a_corpus_and_a_program() {
        let manifest = fs::read_to_string(top().join("fuzz/Cargo.toml")).unwrap();
        for name in targets().unwrap() {
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        }
    }
}
