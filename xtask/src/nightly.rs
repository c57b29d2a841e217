//! Finds the parts of a nightly toolchain that some checks need, and says which one is absent.

use crate::run::works;
use std::path::PathBuf;
use std::process::Command;

/// How `cargo` is told to be a nightly one: nothing if it is one anyway.
pub(crate) type Selector = &'static str;

/// The selector of the nightly toolchain.
///
/// # Errors
///
/// What to say where there is none.
pub(crate) fn selector() -> Result<Selector, String> {
    ["", "+nightly"]
        .into_iter()
        .find(|selector| is_nightly(selector))
        .ok_or_else(|| "a nightly toolchain is not installed".to_owned())
}

/// `cargo`, nightly. The name is not [`cargo`](env!) itself: only `rustup`'s takes a selector.
pub(crate) fn cargo(selector: Selector) -> Command {
    tool("cargo", selector)
}

/// Whether the subcommand is installed, such as `fuzz` of `cargo-fuzz`.
///
/// # Errors
///
/// What to say where it is not.
pub(crate) fn needs_subcommand(selector: Selector, name: &str) -> Result<(), String> {
    if works(cargo(selector).args([name, "--version"])) {
        return Ok(());
    }
    Err(format!("cargo-{name} is not installed"))
}

/// Whether the standard library's source is installed, from which it can be built anew.
///
/// # Errors
///
/// What to say where it is not.
pub(crate) fn needs_rust_src(selector: Selector) -> Result<(), String> {
    let library = "lib/rustlib/src/rust/library/std/Cargo.toml";
    if sysroot(selector).is_some_and(|sysroot| sysroot.join(library).is_file()) {
        return Ok(());
    }
    Err("rust-src is not installed for the nightly toolchain".to_owned())
}

/// Whether the tools that read coverage profiles are installed.
pub(crate) fn has_llvm_tools(selector: Selector) -> bool {
    let tool = |sysroot: PathBuf| {
        let host = host(selector).ok()?;
        let tool = sysroot.join("lib/rustlib").join(host).join("bin/llvm-cov");
        tool.is_file().then_some(())
    };
    sysroot(selector).and_then(tool).is_some()
}

fn sysroot(selector: Selector) -> Option<PathBuf> {
    let mut rustc = tool("rustc", selector);
    let output = rustc.args(["--print", "sysroot"]).output().ok()?;
    Some(PathBuf::from(
        String::from_utf8_lossy(&output.stdout).trim(),
    ))
}

/// The target triple of this machine, which a sanitizer has to be told.
///
/// # Errors
///
/// If `rustc` does not name it.
pub(crate) fn host(selector: Selector) -> Result<String, String> {
    let output = tool("rustc", selector).arg("-vV").output();
    let version = output.map_err(|error| error.to_string())?.stdout;
    let version = String::from_utf8_lossy(&version).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| "`rustc -vV` names no host".to_owned())
}

fn is_nightly(selector: Selector) -> bool {
    let version = tool("rustc", selector).arg("--version").output();
    version.is_ok_and(|output| {
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("nightly")
    })
}

fn tool(name: &str, selector: Selector) -> Command {
    let mut command = Command::new(name);
    command
        .args((!selector.is_empty()).then_some(selector))
        .current_dir(crate::run::top());
    command
}
