//! Tests that take a build or a command of their own.

use crate::cargo::with_cfgs;
use crate::ci::{Checked, Outcome};
use crate::run::{command, succeed};

/// The tree and page tables under loom, with small nodes: a few entries make a tree of two levels
/// then. Each model says how many orders it went through; what is broken on purpose does not.
pub(crate) fn loom() -> Checked {
    for package in ["maple-tree", "maple-mm"] {
        counted(&["loom", "small_nodes"], package, "loom")?;
    }
    Ok(Outcome::Passed)
}

/// The tree under shuttle, at both sizes of nodes, and shared address spaces with small ones: each
/// test says how many orders it went through.
pub(crate) fn shuttle() -> Checked {
    for cfgs in [&["shuttle"][..], &["shuttle", "small_nodes"]] {
        counted(cfgs, "maple-tree", "shuttle")?;
    }
    counted(&["shuttle", "small_nodes"], "maple-mm", "shuttle")?;
    Ok(Outcome::Passed)
}

/// Tests that say how many orders they went through, and those of what is broken on purpose: their
/// panics are shown only if one of them fails.
fn counted(cfgs: &[&str], package: &str, name: &str) -> Result<(), String> {
    for which in [&["--nocapture", "--skip", "planted::"][..], &["planted::"]] {
        let arguments = [&tests_of(package, name)[..], &["--"], which].concat();
        succeed(&mut with_cfgs(cfgs, &arguments))?;
    }
    Ok(())
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

fn tests_of<'a>(package: &'a str, name: &'a str) -> [&'a str; 7] {
    [
        "test",
        "-p",
        package,
        "--features",
        "maple-tree/rcu",
        "--test",
        name,
    ]
}
