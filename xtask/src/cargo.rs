//! The checks that are cargo's: format, clippy, documentation, and the tests with small nodes.

use crate::ci::{Checked, Outcome};
use crate::run::{cargo, command, succeed, target};
use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
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

/// What follows `--` is for this repository's crates alone.
fn clippy_with(cfg: &str, packages: &[&str]) -> Checked {
    let denied = ["--", "--cfg", cfg, "-D", "warnings"];
    cargo(&[&["clippy"], packages, &denied].concat())?;
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
    let arguments = [
        "test",
        "-p",
        "maple-tree",
        "--features",
        "crossbeam",
        "--lib",
        "--tests",
    ];
    succeed(&mut with_cfgs(&["small_nodes"], &arguments)?)?;
    Ok(Outcome::Passed)
}

/// A cargo command that compiles this repository's crates with `--cfg CFG` for each of `cfgs`.
///
/// What they depend on is compiled as ever, so all configurations share it; `RUSTFLAGS` would
/// compile it for each. What cargo puts where people look for it (`debug/samara`) is in a directory
/// of its own.
pub(crate) fn with_cfgs(cfgs: &[&str], arguments: &[&str]) -> Result<Command, String> {
    let name = cfgs.join("-").replace('_', "-");
    let mut command = command(env!("CARGO"), arguments);
    command
        .env("RUSTC_WORKSPACE_WRAPPER", wrapper(&name, cfgs)?)
        .env("CARGO_TARGET_DIR", target().join(name));
    // Cargo before 1.91 does not know this, and shares nothing.
    if env::var_os("CARGO_BUILD_BUILD_DIR").is_none() {
        command.env("CARGO_BUILD_BUILD_DIR", target());
    }
    Ok(command)
}

/// A program that runs the compiler it is given with `cfgs` on. Cargo tells builds apart by its path.
fn wrapper(name: &str, cfgs: &[&str]) -> Result<PathBuf, String> {
    let directory = target().join("cfgs");
    let path = directory.join(name);
    let flags: Vec<String> = cfgs.iter().map(|cfg| format!("--cfg {cfg}")).collect();
    let script = format!("#!/bin/sh\nexec \"$@\" {}\n", flags.join(" "));
    let is_there = fs::read_to_string(&path).is_ok_and(|text| text == script);
    let written = match is_there {
        true => Ok(()),
        false => fs::create_dir_all(directory).and_then(|()| fs::write(&path, script)),
    };
    let made = written.and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o755)));
    made.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}
