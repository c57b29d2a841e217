//! The checks that are cargo's: format, clippy, documentation, and the tests with small nodes.

use crate::ci::{Checked, Outcome};
use crate::run::{cargo, command, succeed, target};
use std::process::Command;

/// `rustfmt` would change nothing.
pub(crate) fn format() -> Checked {
    cargo(&["fmt", "--all", "--check"])?;
    Ok(Outcome::Passed)
}

/// Clippy has nothing to say, of tests and examples either.
///
/// No member asks for every feature of another, so they are named: what is behind one is compiled
/// out otherwise, and passes unseen.
pub(crate) fn clippy() -> Checked {
    cargo(&[
        "clippy",
        "--workspace",
        "--all-features",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ])?;
    Ok(Outcome::Passed)
}

/// Clippy on what is compiled only with small nodes.
pub(crate) fn clippy_small_nodes() -> Checked {
    clippy_with(
        "small_nodes",
        &["-p", "maple-tree", "--all-features", "--all-targets"],
    )
}

/// Clippy on what is compiled only with planted mistakes.
pub(crate) fn clippy_planted() -> Checked {
    clippy_with("planted_mistakes", &["-p", "maple-mm", "-p", "samara"])
}

fn clippy_with(cfg: &str, packages: &[&str]) -> Checked {
    let arguments = [&["clippy"], packages, &["--", "-D", "warnings"]].concat();
    succeed(&mut with_cfg(cfg, &arguments))?;
    Ok(Outcome::Passed)
}

/// The documentation builds without a warning: with private items, and the libraries' own pages
/// with no feature and with all of them.
pub(crate) fn docs() -> Checked {
    for of in [
        &["--workspace", "--all-features", "--document-private-items"][..],
        &["-p", "maple-tree", "-p", "maple-mm", "--all-features"],
        &["-p", "maple-tree", "-p", "maple-mm"],
    ] {
        let arguments = [&["doc", "--no-deps"], of].concat();
        succeed(command(env!("CARGO"), &arguments).env("RUSTDOCFLAGS", "-D warnings"))?;
    }
    Ok(Outcome::Passed)
}

/// The tests of the tree with tiny nodes, where few entries make a tall tree; those of readers
/// beside a writer are among them.
pub(crate) fn small_nodes() -> Checked {
    succeed(&mut with_cfg(
        "small_nodes",
        &[
            "test",
            "-p",
            "maple-tree",
            "--features",
            "crossbeam",
            "--lib",
            "--tests",
        ],
    ))?;
    Ok(Outcome::Passed)
}

/// As [`with_cfgs`], with one of them.
pub(crate) fn with_cfg(cfg: &str, arguments: &[&str]) -> Command {
    with_cfgs(&[cfg], arguments)
}

/// A cargo command under `--cfg CFG` for each of `cfgs`, in a target directory of its own:
/// otherwise each configuration would throw the other's build away.
pub(crate) fn with_cfgs(cfgs: &[&str], arguments: &[&str]) -> Command {
    let flags: Vec<String> = cfgs.iter().map(|cfg| format!("--cfg {cfg}")).collect();
    let mut command = command(env!("CARGO"), arguments);
    command
        .env("RUSTFLAGS", flags.join(" "))
        .env("CARGO_TARGET_DIR", cfg_target(cfgs));
    command
}

/// Where [`with_cfgs`] builds.
fn cfg_target(cfgs: &[&str]) -> std::path::PathBuf {
    target().join(cfgs.join("-").replace('_', "-"))
}
