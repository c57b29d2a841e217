//! Replays the corpus of every fuzz target, and mutations of it, with a stable compiler.
//!
//! No coverage guides these mutations: this shows that the targets work and that what was found
//! once stays found. `cargo xtask fuzz` is the search.

use samara_fuzz::{TARGETS, Target};
use std::path::{Path, PathBuf};
use std::{fs, thread};
use testkit::SplitMix;

/// Mutated scripts of each target.
const MUTATIONS: u64 = 2500;

/// A mutated script is not longer than this.
const BYTES_MOST: usize = 300;

/// Everything random follows from it.
const SEED: u64 = 0x5a3a;

#[test]
fn operations_agree_with_the_model() {
    smoke("operations");
}

#[test]
fn gap_searches_agree_with_a_linear_scan() {
    smoke("gap_search");
}

#[test]
fn snapshots_agree_with_their_models() {
    smoke("snapshots");
}

#[test]
fn duplicates_agree_with_the_mapped_model() {
    smoke("duplicate");
}

#[test]
fn readers_see_what_was_there_while_they_looked() {
    smoke("concurrent");
}

/// Replays and mutates the corpus of the target called `name`.
fn smoke(name: &'static str) {
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    let (_, target) = *found.expect("the test names a target");
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "corpus/{name} holds no script");
    for script in &corpus {
        run(name, target, script);
    }
    let mut rng = SplitMix::new(SEED);
    for _ in 0..MUTATIONS {
        let script = mutated(&mut rng, &corpus);
        run(name, target, &script);
    }
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    let listed = fs::read_dir(&directory).expect("every target has a corpus");
    let mut files: Vec<PathBuf> = listed.filter_map(|file| Some(file.ok()?.path())).collect();
    files.sort();
    let read = |file: &PathBuf| fs::read(file).expect("a file of the corpus can be read");
    files.iter().map(read).collect()
}

/// Runs `target`; what makes it panic is kept in a file.
fn run(name: &'static str, target: Target, script: &[u8]) {
    let keep = Keep { name, script };
    target(script);
    drop(keep);
}

/// Writes the script down if a panic passes by.
struct Keep<'a> {
    name: &'a str,
    script: &'a [u8],
}

impl Drop for Keep<'_> {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        let name = self.name;
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.script"));
        match fs::write(&file, self.script) {
            Ok(()) => eprintln!("repeat with: cargo run --bin {name} -- {}", file.display()),
            Err(error) => eprintln!(
                "{}: {error}; the script: {:x?}",
                file.display(),
                self.script
            ),
        }
    }
}

/// A script of the corpus with a few changes, or joined from two, or random from the start.
fn mutated(rng: &mut SplitMix, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut script = corpus[rng.index(corpus.len())].clone();
    match rng.below(8) {
        0 => script = random(rng),
        1 | 2 => {
            let other = &corpus[rng.index(corpus.len())];
            script.truncate(rng.index(script.len() + 1));
            script.extend_from_slice(&other[rng.index(other.len() + 1)..]);
        }
        _ => {}
    }
    for _ in 0..1 + rng.below(6) {
        change(rng, &mut script);
    }
    script.truncate(BYTES_MOST);
    script
}

fn random(rng: &mut SplitMix) -> Vec<u8> {
    let length = 1 + rng.below(BYTES_MOST as u64);
    (0..length).map(|_| rng.next_u64() as u8).collect()
}

/// Changes, inserts, removes or repeats a few bytes.
fn change(rng: &mut SplitMix, script: &mut Vec<u8>) {
    let at = rng.index(script.len() + 1);
    let end = (at + rng.index(12)).min(script.len());
    match rng.below(5) {
        0 => drop(script.drain(at..end)),
        1 => {
            let again = script[at..end].to_vec();
            script.splice(end..end, again);
        }
        2 => script.insert(at, rng.next_u64() as u8),
        _ if at < script.len() => script[at] = rng.next_u64() as u8,
        _ => script.push(rng.next_u64() as u8),
    }
}
