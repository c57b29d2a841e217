//! Programs and torture on file systems that are mounted for it, where we may: overlayfs gives its
//! mappings another file, tmpfs with huge pages places them on boundaries.

use std::process::{Command, Output};

/// Runs a script of the shell in a mount namespace of its own, in a directory of its own; `None`
/// where that is not permitted.
fn mounted(script: &str) -> Option<Output> {
    let directory = tempfile::tempdir().expect("a directory");
    let may = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", script]);
        command.current_dir(directory.path());
        command.env("SAMARA", env!("CARGO_BIN_EXE_samara"));
        command.output()
    };
    let is_permitted = may("mount -t tmpfs none .").is_ok_and(|run| run.status.success());
    if !is_permitted {
        eprintln!("skipped: nothing may be mounted here");
        return None;
    }
    Some(may(script).expect("it ran before"))
}

#[track_caller]
fn assert_identical(script: &str) {
    let Some(run) = mounted(script) else {
        return;
    };
    let output = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{output}");
    assert!(output.contains("  identical "), "{output}");
    assert!(!output.contains("DIVERGED"), "{output}");
}

/// Mounts an overlay at `m`, its upper directory on tmpfs or where the temporary directory is.
fn overlay(upper: &str, then: &str) -> String {
    format!(
        "mkdir here; mount -t tmpfs none here; mkdir here/u here/w here/l u w l m
         mount -t overlay none m -o lowerdir={upper}l,upperdir={upper}u,workdir={upper}w
         {then}"
    )
}

/// Once, each program in a container diverged, and torture after a few hundred calls.
#[test]
fn mappings_on_overlayfs_take_the_file_below() {
    for upper in ["", "here/"] {
        for mix in ["files", "remap"] {
            let torture =
                format!("TMPDIR=$PWD/m $SAMARA torture --mix {mix} --seed 1 --calls 3000");
            assert_identical(&overlay(upper, &torture));
        }
    }
}

#[test]
fn a_program_of_an_overlay_is_identical() {
    let trace = "cp /bin/true m/program; $SAMARA trace -- m/program";
    assert_identical(&overlay("", trace));
    let lower = "cp /bin/true l/program; $SAMARA trace -- m/program";
    assert_identical(&overlay("", lower));
}

/// Once, torture on it diverged after 30 calls.
#[test]
fn mappings_of_a_tmpfs_with_huge_pages_are_aligned() {
    for huge in ["always", "advise"] {
        assert_identical(&format!(
            "mkdir m; mount -t tmpfs -o huge={huge} none m
             TMPDIR=$PWD/m $SAMARA torture --mix files --seed 1 --calls 3000"
        ));
    }
}
