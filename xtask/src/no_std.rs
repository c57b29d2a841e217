//! The libraries need no `std`: shown by taking it away.
//!
//! Declaring `#![no_std]` is not enough: a dependency may bring `std` back, which shows only on a
//! target that has none. Where such a target is not installed, the host's own sysroot without its
//! `std` does as well.

use crate::ci::{Checked, Outcome};
use crate::run::{command, succeed, target, top, works};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const LIBRARIES: [&str; 2] = ["maple-tree", "maple-mm"];
/// What is asked of them: nothing, and then every feature that promises to do without `std`.
const FEATURES: [&[&str]; 2] = [&[], &["--features", "maple-tree/rcu,maple-tree/serde"]];
const BARE_METAL: &str = "x86_64-unknown-none";
/// The libraries of a sysroot that remain, by the beginning of their file names.
const KEPT: [&str; 3] = ["libcore-", "liballoc-", "libcompiler_builtins-"];

/// Builds both libraries against a sysroot that holds `core` and `alloc` only.
pub(crate) fn host() -> Checked {
    for library in LIBRARIES {
        declares_no_std(library)?;
    }
    let host = host_triple()?;
    let sysroot = sysroot_without_std(&host)?;
    refuses_std(&sysroot)?;
    let flags = format!("--sysroot {}", sysroot.display());
    let built = target().join("no-std");
    for features in FEATURES {
        let mut check = command(env!("CARGO"), &["check", "--target", &host]);
        check.args(libraries()).args(features);
        succeed(
            check
                .env("RUSTFLAGS", &flags)
                .env("CARGO_TARGET_DIR", &built),
        )?;
    }
    Ok(Outcome::Passed)
}

/// Builds both libraries for a machine without an operating system.
pub(crate) fn bare_metal() -> Checked {
    let installed = rustc(&["--print", "target-libdir", "--target", BARE_METAL])?;
    if !Path::new(&installed).is_dir() {
        return Ok(Outcome::Skipped(format!(
            "target {BARE_METAL} is not installed"
        )));
    }
    for features in FEATURES {
        let mut build = command(env!("CARGO"), &["build", "--target", BARE_METAL]);
        succeed(build.args(libraries()).args(features))?;
    }
    Ok(Outcome::Passed)
}

/// The arguments that name the libraries.
fn libraries() -> impl Iterator<Item = &'static str> {
    let named = LIBRARIES.iter().flat_map(|&library| ["-p", library]);
    ["--no-default-features"].into_iter().chain(named)
}

fn declares_no_std(library: &str) -> Result<(), String> {
    let file = top().join("crates").join(library).join("src/lib.rs");
    let text = fs::read_to_string(&file).map_err(|error| format!("{library}: {error}"))?;
    if text.lines().any(|line| line.starts_with("#![no_std]")) {
        return Ok(());
    }
    Err(format!(
        "crates/{library}/src/lib.rs does not declare `#![no_std]`"
    ))
}

/// Makes a sysroot of links to the host's libraries, all but `std` and what stands on it.
fn sysroot_without_std(host: &str) -> Result<PathBuf, String> {
    let libraries = PathBuf::from(rustc(&["--print", "target-libdir"])?);
    let sysroot = target().join("sysroot-without-std");
    let place = sysroot.join("lib/rustlib").join(host).join("lib");
    let made = fs::remove_dir_all(&sysroot);
    match made {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.to_string()),
        _ => fs::create_dir_all(&place).map_err(|error| error.to_string())?,
    }
    let found = fs::read_dir(&libraries).map_err(|error| error.to_string())?;
    for file in found.filter_map(Result::ok) {
        let name = file.file_name().to_string_lossy().into_owned();
        if KEPT.iter().any(|kept| name.starts_with(kept)) {
            let linked = std::os::unix::fs::symlink(file.path(), place.join(&name));
            linked.map_err(|error| format!("{name}: {error}"))?;
        }
    }
    Ok(sysroot)
}

/// The check can fail: a crate that uses `std` does not compile against `sysroot`.
fn refuses_std(sysroot: &Path) -> Result<(), String> {
    for (probe, compiles) in [
        ("#![no_std] extern crate alloc;", true),
        ("use std::fs;", false),
    ] {
        let file = sysroot.join("probe.rs");
        fs::write(&file, probe).map_err(|error| error.to_string())?;
        let mut rustc = Command::new("rustc");
        rustc
            .args(["--crate-type=lib", "--emit=metadata", "--sysroot"])
            .arg(sysroot);
        rustc.arg("--out-dir").arg(sysroot).arg(&file);
        if works(&mut rustc) != compiles {
            return Err(format!(
                "the sysroot without std is of no use: `{probe}` proves nothing"
            ));
        }
    }
    Ok(())
}

fn host_triple() -> Result<String, String> {
    let version = rustc(&["-vV"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| "`rustc -vV` names no host".to_owned())
}

fn rustc(arguments: &[&str]) -> Result<String, String> {
    let output = command("rustc", arguments)
        .output()
        .map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
