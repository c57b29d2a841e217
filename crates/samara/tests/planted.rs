//! A mistake planted in the model must be found, and the call named.
//!
//! Only in builds with `--cfg planted_mistakes`: the mistakes exist nowhere else.

#![cfg(planted_mistakes)]

use std::process::Command;

#[track_caller]
fn assert_found(mistake: &str, script: &str, call: &str) {
    let trace = |plant: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_samara"));
        command
            .arg("trace")
            .args(plant)
            .args(["--", "sh", "-c", script]);
        let output = command.output().expect("samara runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    assert_eq!(trace(&[]).0, Some(0));
    let (status, verdict) = trace(&["--plant", mistake]);
    assert_eq!(status, Some(1), "{verdict}");
    let found = verdict.split("first divergence").nth(1).unwrap_or_default();
    assert!(found.contains(call), "{verdict}");
}

#[test]
fn a_wrong_merge_rule_is_found() {
    assert_found("merge", "ls /", "(");
}

#[test]
fn a_wrong_gap_rule_is_found() {
    assert_found("gap", "ls /", "mmap(");
}
