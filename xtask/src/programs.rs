//! What the built program is run for: the main job, the replay that is built in, random calls,
//! threads.

use crate::ci::{Checked, Outcome};
use crate::run::{cargo, command, run, succeed, target};
use std::path::Path;

/// What the main job traces: a shell, a pipe, and programs that load libraries and sort.
const PROGRAM: [&str; 3] = ["sh", "-c", "ls -l /usr/bin | sort | head -3"];

/// Traces a real program: its output is untouched and the verdict is `identical`.
pub(crate) fn main_job() -> Checked {
    let samara = release()?;
    let alone = run(&mut command(PROGRAM[0], &PROGRAM[1..]))?;
    let traced = run(command(&samara, &["trace", "--"]).args(PROGRAM))?;
    if !traced.status.success() {
        return Err(format!("the trace ended with {}", traced.status));
    }
    if traced.stdout != alone.stdout {
        return Err("the program's output is not what it is without the trace".to_owned());
    }
    let verdict = &traced.stderr;
    if !verdict.contains("identical at all") || verdict.contains("calls not modelled") {
        return Err("the verdict is not `identical at all …`, with every call modelled".to_owned());
    }
    Ok(Outcome::Passed)
}

/// Replays the trace that is built in.
pub(crate) fn replay() -> Checked {
    let replayed = run(&mut command(&release()?, &["replay"]))?;
    if replayed.status.success() {
        return Ok(Outcome::Passed);
    }
    Err(format!("the replay ended with {}", replayed.status))
}

/// How many calls of torture each seed is given.
const CALLS: &str = "100000";

/// Tortures the kernel and the model with calls that follow from a seed: the same ones in every
/// run, and some that no run had before, whose seed the verdict names.
pub(crate) fn torture() -> Checked {
    let release_of_kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    let kernel = release_of_kernel.unwrap_or_default();
    if !kernel.starts_with("6.18.") {
        let reason = format!(
            "the newest profile is 6.18, this kernel is {}",
            kernel.trim()
        );
        return Ok(Outcome::Skipped(reason));
    }
    let samara = release()?;
    for seed in [&["--seed", "1"][..], &[]] {
        let arguments = [&["torture", "--calls", CALLS][..], seed].concat();
        succeed(&mut command(&samara, &arguments))?;
    }
    Ok(Outcome::Passed)
}

/// How long threads are let loose on one address space, in seconds.
const STRESS: &str = "10";

/// Lets threads use one address space of the model at once. The verdict names the seed, the time
/// and how many operations there were.
pub(crate) fn stress() -> Checked {
    let arguments = ["stress", "--threads", "4", "--seconds", STRESS];
    succeed(&mut command(&release()?, &arguments))?;
    Ok(Outcome::Passed)
}

/// The release build, made if need be.
fn release() -> Result<String, String> {
    cargo(&["build", "--release", "-p", "samara"])?;
    Ok(path_of(&target().join("release/samara")))
}

/// A path as text; cargo's target directory has no other characters here.
pub(crate) fn path_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
