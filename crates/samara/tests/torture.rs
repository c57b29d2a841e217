//! Torture on the running kernel: identical, repeatable, and gone afterwards.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output};

/// Whether the model's newest profile is that of the running kernel; says so if not.
fn is_known_kernel() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let is_known = release.starts_with("6.18.");
    if !is_known {
        eprintln!(
            "skipped: torture on Linux {}: no profile is its own",
            release.trim()
        );
    }
    is_known
}

fn torture(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_samara"))
        .arg("torture")
        .args(arguments)
        .output()
        .expect("samara runs")
}

/// Tortures, and gives what the verdict says as JSON.
#[track_caller]
fn assert_identical(directory: &Path, arguments: &[&str]) -> serde_json::Value {
    let json = directory.join("verdict.json");
    let path = json.to_str().expect("a path of ours");
    let trace = directory.join("found.trace");
    let save = trace.to_str().expect("a path of ours");
    let run = torture(&[arguments, &["--json", path, "--save", save]].concat());
    let verdict = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(0), "{verdict}");
    assert!(verdict.contains("identical after all"), "{verdict}");
    let text = std::fs::read_to_string(json).expect("a verdict");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn every_mix_is_identical() {
    if is_known_kernel() {
        let directory = tempfile::tempdir().expect("a directory");
        let verdict = assert_identical(directory.path(), &["--seed", "1", "--calls", "10000"]);
        assert_eq!(verdict["lives"], 10);
        assert_eq!(verdict["comparisons"], 10_000);
        for kind in [
            "mmap", "munmap", "mprotect", "mremap", "brk", "madvise", "mlock", "mlock2",
        ] {
            assert!(
                verdict["calls"][kind].as_u64() > Some(0),
                "{kind}: {verdict}"
            );
        }
    }
}

#[test]
fn the_same_seed_makes_the_same_calls_however_many_go_on_at_a_time() {
    if is_known_kernel() {
        let directory = tempfile::tempdir().expect("a directory");
        let led = |seed: &str, processes: &str| {
            let arguments = ["--seed", seed, "--calls", "4500", "--processes", processes];
            let verdict = assert_identical(directory.path(), &arguments);
            (verdict["sequence"].clone(), verdict["calls"].clone())
        };
        let first = led("5", "1");
        assert_eq!(first, led("5", "3"));
        assert_ne!(first.0, led("6", "1").0);
    }
}

#[test]
fn as_many_mappings_are_made_as_may_be() {
    /// What torture makes at most.
    const MOST: u64 = 1 << 17;
    let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").expect("/proc");
    let limit: u64 = limit.trim().parse().expect("a number");
    if limit > MOST {
        let refused = torture(&["--mix", "count"]);
        let text = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{text}");
        assert!(text.contains("vm.max_map_count"), "{text}");
    } else if is_known_kernel() {
        let directory = tempfile::tempdir().expect("a directory");
        let peak = |seed: u32| {
            let arguments = [
                "--mix",
                "count",
                "--seed",
                &seed.to_string(),
                "--calls",
                "40",
            ];
            assert_identical(directory.path(), &arguments)["peak_vmas"].clone()
        };
        // The last mapping of its own comes when there are as many as may be, which the calls of
        // many seeds bring about.
        assert!((1..20).any(|seed| peak(seed) == limit + 1));
    }
}

/// Tortures where the model is told that no process may have more than 14 mappings, and the kernel
/// knows better: a divergence. `None` where that can't be arranged.
fn diverged(directory: &Path, arguments: &[&str]) -> Option<Output> {
    let told = directory.join("told");
    std::fs::write(&told, "14\n").expect("a file");
    let mount = "mount --bind \"$0\" /proc/sys/vm/max_map_count && exec \"$@\"";
    let mut command = Command::new("unshare");
    if std::fs::metadata("/proc/self").expect("/proc").uid() != 0 {
        command.arg("-r");
    }
    let output = command
        .args(["-m", "sh", "-c", mount])
        .args([told.as_os_str(), env!("CARGO_BIN_EXE_samara").as_ref()])
        .args(["torture", "--seed", "3", "--mix", "maps"])
        .args(arguments)
        .env("TMPDIR", directory)
        .output();
    let output = output.ok().filter(|output| {
        String::from_utf8_lossy(&output.stderr).contains("samara") && is_known_kernel()
    });
    if output.is_none() {
        eprintln!("skipped: nothing may be mounted, or the kernel is not known");
    }
    output
}

#[test]
fn a_divergence_is_shrunk_and_kept_for_replay() {
    let directory = tempfile::tempdir().expect("a directory");
    let trace = directory.path().join("kept.trace");
    let save = trace.to_str().expect("a path of ours");
    let Some(run) = diverged(directory.path(), &["--save", save]) else {
        return;
    };
    let text = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{text}");
    assert!(text.contains("predicted  -1 ENOMEM"), "{text}");
    let replayed = Command::new(env!("CARGO_BIN_EXE_samara"))
        .args(["replay", save])
        .output()
        .expect("samara runs");
    let text = String::from_utf8_lossy(&replayed.stderr);
    assert_eq!(replayed.status.code(), Some(1), "{text}");
    assert!(text.contains("predicted  -1 ENOMEM"), "{text}");
}

#[test]
fn a_divergence_that_cannot_be_saved_is_told_all_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    let json = directory.path().join("verdict.json");
    let path = json.to_str().expect("a path of ours");
    let Some(run) = diverged(directory.path(), &["--save", "/dev/full", "--json", path]) else {
        return;
    };
    let text = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{text}");
    assert!(text.contains("predicted  -1 ENOMEM"), "{text}");
    let words = "the trace was not kept: cannot write /dev/full";
    assert!(text.contains(words), "{text}");
    let verdict = std::fs::read_to_string(json).expect("a verdict");
    assert!(verdict.contains(words) && verdict.contains("-1 ENOMEM"));
}

#[test]
fn a_divergence_stays_one_where_the_verdict_cannot_be_saved() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(run) = diverged(directory.path(), &["--json", "/dev/full"]) else {
        return;
    };
    let text = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{text}");
    assert!(text.contains("predicted  -1 ENOMEM"), "{text}");
    assert!(text.contains("cannot write /dev/full"), "{text}");
    assert!(directory.path().join("samara-torture-3.trace").exists());
}

#[test]
fn nothing_is_left_after_an_interruption() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let directory = tempfile::tempdir().expect("a directory");
        let child = Command::new(env!("CARGO_BIN_EXE_samara"))
            .args(["torture", "--seconds", "600", "--processes", "2"])
            .env("TMPDIR", directory.path())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("samara runs");
        let pid = child.id();
        // Not a wait for something: any moment is right.
        while children_of(pid).is_empty() {
            std::thread::yield_now();
        }
        kill(Pid::from_raw(pid as i32), signal).expect("it is alive");
        let run = child.wait_with_output().expect("it ends");
        let verdict = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.code().is_some(), "{:?}", run.status);
        assert!(verdict.contains("interrupted"), "{verdict}");
        let left = std::fs::read_dir(directory.path()).expect("a directory");
        assert_eq!(left.count(), 0);
    }
}

/// The processes that a process has started.
fn children_of(pid: u32) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it is alive");
    let of = |task: std::io::Result<std::fs::DirEntry>| {
        let path = task.ok()?.path().join("children");
        std::fs::read_to_string(path).ok()
    };
    tasks.filter_map(of).collect()
}
