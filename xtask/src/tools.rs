//! Checks that need a tool which not every machine has; where it is absent they say so by name.

use crate::ci::{Checked, Outcome};
use crate::run::{command, succeed, works};
use std::process::Command;

/// The test binaries of the tree whose memory is looked at: small ones, which do every operation on
/// nodes of the heap itself. (`drops` is not among them: a drop that panics leaks, as documented.)
const WATCHED: [&str; 2] = ["surface", "traces"];

/// Only what is certainly lost counts: the test harness keeps a few things to its end.
const VALGRIND: &str = "valgrind --quiet --error-exitcode=9 --leak-check=full \
                        --show-leak-kinds=definite --errors-for-leak-kinds=definite";

/// Runs tests of the tree under valgrind, which sees invalid reads, double frees and leaks.
pub(crate) fn valgrind() -> Checked {
    if !works(Command::new("valgrind").arg("--version")) {
        return Ok(Outcome::Skipped("valgrind is not installed".to_owned()));
    }
    // With the features that all tests were built with.
    let mut arguments = vec!["test", "--workspace", "--all-features"];
    arguments.extend(WATCHED.iter().flat_map(|name| ["--test", name]));
    let mut tests = command(env!("CARGO"), &arguments);
    succeed(tests.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", VALGRIND))?;
    Ok(Outcome::Passed)
}
