//! Tests of the tree that take a build or a command of their own.

use crate::cargo::with_cfgs;
use crate::ci::{Checked, Outcome};
use crate::run::{command, succeed};

/// Under loom, with small nodes: a few entries make a tree of two levels then.
pub(crate) fn loom() -> Checked {
    test("loom", &[&["loom", "small_nodes"]])
}

/// Under shuttle, at both sizes of nodes.
pub(crate) fn shuttle() -> Checked {
    test("shuttle", &[&["shuttle"], &["shuttle", "small_nodes"]])
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

fn test(name: &str, builds: &[&[&str]]) -> Checked {
    let arguments = [
        "test",
        "-p",
        "maple-tree",
        "--features",
        "rcu",
        "--test",
        name,
    ];
    for cfgs in builds {
        succeed(&mut with_cfgs(cfgs, &arguments))?;
    }
    Ok(Outcome::Passed)
}
