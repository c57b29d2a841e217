//! Tests that take a build or a command of their own.

use crate::cargo::with_cfgs;
use crate::ci::{Checked, Outcome};
use crate::run::{command, succeed};

/// The tree and page tables under loom, with small nodes: a few entries make a tree of two levels
/// then. Each model says how many orders it went through; what is broken on purpose does not.
pub(crate) fn loom() -> Checked {
    counted(&["loom", "small_nodes"], EVERYTHING, "loom")
}

/// The tree under shuttle, at both sizes of nodes, and shared address spaces with small ones: each
/// test says how many orders it went through.
pub(crate) fn shuttle() -> Checked {
    counted(&["shuttle", "small_nodes"], EVERYTHING, "shuttle")?;
    counted(
        &["shuttle"],
        &["--workspace", "--exclude", "maple-mm"],
        "shuttle",
    )
}

/// The packages that have such a test are found among these; so all share what they depend on.
const EVERYTHING: &[&str] = &["--workspace"];

/// Tests that say how many orders they went through, and those of what is broken on purpose: their
/// panics are shown only if one of them fails.
fn counted(cfgs: &[&str], packages: &[&str], name: &str) -> Checked {
    let test = [&["test", "--all-features", "--test", name], packages].concat();
    for which in [&["--nocapture", "--skip", "planted::"][..], &["planted::"]] {
        let arguments = [&test[..], &["--"], which].concat();
        succeed(&mut with_cfgs(cfgs, &arguments)?)?;
    }
    Ok(Outcome::Passed)
}

/// A million entries and ten million writes beside readers, in release mode.
pub(crate) fn million() -> Checked {
    let arguments = [
        "test",
        "--release",
        "-p",
        "maple-tree",
        "--features",
        "crossbeam",
        "--test",
        "million",
        "--",
        "--ignored",
        "--nocapture",
    ];
    succeed(&mut command(env!("CARGO"), &arguments))?;
    Ok(Outcome::Passed)
}
