//! The bodies of the fuzz targets: each takes bytes as a script and panics if the tree is wrong.
//!
//! They are plain functions of a byte slice, so that `cargo fuzz` drives them with a nightly
//! compiler and `tests/smoke.rs` replays and mutates the corpus with a stable one. Any bytes are a
//! script; no script takes long, for the number of steps and the sizes of trees are bounded.
//!
//! What a failing script did is printed as a trace of [`testkit::Op`] lines, which a test of the
//! tree can hold as they are. To see it: `cargo run --bin TARGET -- FILE` in this directory.

mod concurrent;
mod duplicate;
mod gap_search;
mod operations;
mod script;
mod snapshots;
mod trial;

pub use concurrent::concurrent;
pub use duplicate::duplicate;
pub use gap_search::gap_search;
pub use operations::operations;
pub use snapshots::snapshots;

use std::process::ExitCode;

/// A fuzz target's body.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also the name of its directory in `corpus/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("operations", operations),
    ("gap_search", gap_search),
    ("snapshots", snapshots),
    ("duplicate", duplicate),
    ("concurrent", concurrent),
];

/// Runs `target` on each file that the command line names: what a target's program does where it
/// was not built by `cargo fuzz`.
///
/// # Panics
///
/// If the tree is wrong.
#[must_use]
pub fn replay_files(target: Target) -> ExitCode {
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        eprintln!("name the files to replay, or run this target with `cargo fuzz run`");
        return ExitCode::from(2);
    }
    for file in files {
        match std::fs::read(&file) {
            Ok(script) => target(&script),
            Err(error) => {
                eprintln!("{file}: {error}");
                return ExitCode::from(2);
            }
        }
        println!("{file}: nothing wrong");
    }
    ExitCode::SUCCESS
}
