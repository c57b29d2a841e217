//! What the tests share that trace programs of their own.

use std::process::Command;

/// What `samara trace` and a `samara replay` of its recording said.
pub(crate) struct Traced {
    pub(crate) verdict: String,
    pub(crate) replayed: String,
    /// Whether both found everything identical.
    pub(crate) is_identical: bool,
}

/// Traces this very binary, run with `arguments`, and replays the recording.
pub(crate) fn trace(arguments: &[&str]) -> Traced {
    let us = std::env::current_exe().expect("a test binary has a path");
    let directory = tempfile::tempdir().expect("a directory");
    let recording = directory.path().join("trace");
    let samara = || Command::new(env!("CARGO_BIN_EXE_samara"));
    let run = |command: &mut Command| {
        let output = command.output().expect("samara runs");
        let verdict = String::from_utf8_lossy(&output.stderr).into_owned();
        let is_identical = output.status.code() == Some(0) && verdict.contains("identical at all");
        (verdict, is_identical)
    };
    let mut trace = samara();
    trace.arg("trace").arg("--record").arg(&recording).arg("--");
    let (verdict, is_traced) = run(trace.arg(us).args(arguments));
    let (replayed, is_replayed) = run(samara().arg("replay").arg(&recording));
    Traced {
        verdict,
        replayed,
        is_identical: is_traced && is_replayed,
    }
}

impl Traced {
    /// What was not modelled, or `none`, as `samara trace` said and as `samara replay` did.
    pub(crate) fn not_modelled(&self) -> [&str; 2] {
        [&self.verdict, &self.replayed].map(|verdict| {
            let mut rows = verdict.lines().map(str::trim_start);
            let row = rows.find_map(|row| row.strip_prefix("not modelled"));
            row.unwrap_or_default().trim_start()
        })
    }

    /// Whether the program went well, and says so; shows everything if not.
    pub(crate) fn report(&self, program: &str, is_expected: impl Fn(&str) -> bool) -> bool {
        let good = self.is_identical
            && self.not_modelled().into_iter().all(is_expected)
            && self.verdict.contains("exited with status 0");
        println!("{program} ... {}", if good { "ok" } else { "FAILED" });
        if !good {
            println!("{}\n{}", self.verdict, self.replayed);
        }
        good
    }
}
