//! Threads on one address space: all holds, every kind of step is made, and misuse is refused.

use std::process::{Command, Output};

fn stress(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_samara"))
        .arg("stress")
        .args(arguments)
        .output()
        .expect("samara runs")
}

/// Lets threads loose, and gives what the verdict says as JSON.
#[track_caller]
fn assert_held(arguments: &[&str]) -> serde_json::Value {
    let directory = tempfile::tempdir().expect("a directory");
    let json = directory.path().join("verdict.json");
    let path = json.to_str().expect("a path of ours");
    let run = stress(&[arguments, &["--json", path]].concat());
    let verdict = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(0), "{verdict}");
    assert!(verdict.contains("held at all"), "{verdict}");
    let text = std::fs::read_to_string(json).expect("a verdict");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn all_holds_for_several_threads_and_nothing_is_left_over() {
    let verdict = assert_held(&["--threads", "4", "--seconds", "3", "--seed", "1"]);
    assert_eq!(
        (&verdict["seed"], &verdict["threads"]),
        (&1.into(), &4.into())
    );
    assert!(verdict["violation"].is_null(), "{verdict}");
    for count in ["operations", "forks", "maps_texts", "faults"] {
        assert!(verdict[count].as_u64() > Some(0), "{count}: {verdict}");
    }
    for kind in [
        "mmap", "munmap", "mprotect", "mremap", "read", "write", "meddle",
    ] {
        assert!(
            verdict["of_kind"][kind].as_u64() > Some(0),
            "{kind}: {verdict}"
        );
    }
}

#[test]
fn one_thread_alone_and_more_than_there_are_processors_hold() {
    for threads in ["1", "13"] {
        let verdict = assert_held(&["--threads", threads, "--seconds", "1"]);
        assert!(verdict["rounds"]["plenty"].as_u64() > Some(0), "{verdict}");
    }
}

#[test]
fn the_same_seed_makes_the_same_steps() {
    let steps = |seed: &str| {
        // The first round is made whole.
        let verdict = assert_held(&["--threads", "3", "--seconds", "0.001", "--seed", seed]);
        assert_eq!(verdict["rounds"]["plenty"], 1);
        verdict["of_kind"].clone()
    };
    let first = steps("5");
    assert_eq!(first, steps("5"));
    assert_ne!(first, steps("6"));
}

#[test]
fn what_cannot_be_is_refused_with_what_to_do() {
    for (arguments, words) in [
        (&["--threads", "0"][..], "1..=64"),
        (&["--threads", "65"], "1..=64"),
        (&["--seconds", "0"], "seconds"),
        (&["--seed", "one"], "--seed"),
        (&["--json", "/nowhere/at/all"], "/nowhere/at/all"),
        (&["more"], "more"),
    ] {
        let run = stress(arguments);
        let text = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(2), "{text}");
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn a_verdict_that_cannot_be_written_is_no_success() {
    let run = stress(&["--seconds", "0.01", "--json", "/dev/full"]);
    let text = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(2), "{text}");
    assert!(text.contains("cannot write /dev/full"), "{text}");
}
