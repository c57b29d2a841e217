//! The command line from outside: exit statuses, what passes through, records and replays.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn samara(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samara"));
    command.args(arguments);
    command
}

#[track_caller]
fn ran(arguments: &[&str]) -> Output {
    samara(arguments).output().expect("samara runs")
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Refused with exit status 2 and a message that contains `words`.
#[track_caller]
fn assert_refused(arguments: &[&str], words: &str) {
    let output = ran(arguments);
    assert_eq!(output.status.code(), Some(2), "{}", errors(&output));
    assert!(errors(&output).contains(words), "{}", errors(&output));
    assert!(!errors(&output).contains("panicked"), "{}", errors(&output));
}

mod pass_through {
    use super::*;

    #[test]
    fn output_and_errors_are_the_programs_own() {
        let output = ran(&[
            "trace",
            "--",
            "sh",
            "-c",
            "printf 'out\\n'; printf 'err\\n' >&2",
        ]);
        assert_eq!(output.stdout, b"out\n");
        assert!(errors(&output).starts_with("err\n"), "{}", errors(&output));
        assert_eq!(output.status.code(), Some(0));
    }

    #[test]
    fn input_reaches_the_program() {
        let mut child = samara(&["trace", "--", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("samara runs");
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all(b"seed\n").expect("the program reads");
        drop(input);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.stdout, b"seed\n");
    }

    #[test]
    fn the_programs_exit_status_is_told_and_ours_is_the_verdict() {
        let output = ran(&["trace", "--", "sh", "-c", "exit 7"]);
        assert_eq!(output.status.code(), Some(0));
        assert!(errors(&output).contains("exited with status 7"));
        let output = ran(&["trace", "--", "sh", "-c", "kill -TERM $$"]);
        assert_eq!(output.status.code(), Some(0));
        assert!(
            errors(&output).contains("killed by SIGTERM"),
            "{}",
            errors(&output)
        );
    }

    #[test]
    fn a_closed_pipe_ends_the_program_as_usual() {
        let script = "yes | head -1; echo ${PIPESTATUS[0]}";
        if !Path::new("/bin/bash").exists() {
            let _ = writeln!(
                std::io::stderr(),
                "skipped: closed pipe: bash is not installed"
            );
            return;
        }
        let output = ran(&["trace", "--", "/bin/bash", "-c", script]);
        assert_eq!(output.stdout, b"y\n141\n", "{}", errors(&output));
    }

    #[test]
    fn descriptors_of_ours_do_not_leak_into_the_program() {
        let alone = Command::new("ls")
            .arg("/proc/self/fd")
            .output()
            .expect("ls runs");
        let traced = ran(&["trace", "--", "ls", "/proc/self/fd"]);
        assert_eq!(traced.stdout, alone.stdout);
    }

    #[test]
    fn the_interrupt_key_stops_the_program_and_the_verdict_is_written() {
        let script = "trap 'echo caught; exit 3' INT; kill -INT $$; sleep 5";
        // Where the tests run in the background the key is ignored from the start, and a shell
        // cannot trap what it was started to ignore.
        let heard = ["trace", "--", "env", "--default-signal=INT"];
        let output = ran(&[&heard[..], &["sh", "-c", script]].concat());
        assert_eq!(output.stdout, b"caught\n");
        assert!(
            errors(&output).contains("exited with status 3"),
            "{}",
            errors(&output)
        );
    }

    #[test]
    fn a_signal_to_its_own_process_group_is_the_programs_affair() {
        let script = "trap '' TERM HUP; kill -TERM 0; kill -HUP 0; echo survived";
        let mut command = samara(&["trace", "--", "sh", "-c", script]);
        let output = command.process_group(0).output().expect("samara runs");
        assert_eq!(output.stdout, b"survived\n");
        assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    }

    #[test]
    fn a_request_to_end_reaches_the_program_and_the_verdict_is_written() {
        let mut child = samara(&["trace", "--", "sh", "-c", "echo ready; exec sleep 60"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("samara runs");
        let mut line = String::new();
        let output = child.stdout.take().expect("a pipe");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line)
            .expect("the program is ready");
        // The program may be between two calls of ours: ask until it has heard.
        while child.try_wait().expect("it can be waited for").is_none() {
            let id = child.id().to_string();
            let _ = Command::new("sh")
                .args(["-c", &format!("kill -TERM {id}")])
                .status();
        }
        let output = child.wait_with_output().expect("it ends");
        assert!(
            errors(&output).contains("identical at all"),
            "{}",
            errors(&output)
        );
    }

    #[test]
    fn a_program_dies_with_its_tracer() {
        let mut child = samara(&["trace", "--", "sh", "-c", "echo $$; exec sleep 60"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("samara runs");
        let mut line = String::new();
        let output = child.stdout.take().expect("a pipe");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line)
            .expect("the program says its id");
        child.kill().expect("samara can be killed");
        assert_eq!(child.wait().expect("it ends").signal(), Some(9));
        let process = format!("/proc/{}", line.trim());
        let gone = || {
            let state = fs::read_to_string(format!("{process}/stat")).unwrap_or_default();
            state.is_empty() || state.contains(") Z ") || state.contains(") X ")
        };
        let begun = std::time::Instant::now();
        while !gone() && begun.elapsed().as_secs() < 10 {
            std::thread::yield_now();
        }
        assert!(gone(), "{process} lives on");
    }
}

mod refusals {
    use super::*;

    #[test]
    fn what_cannot_run_ends_with_2_and_says_why() {
        assert_refused(
            &["trace", "--", "no-such-program-at-all"],
            "no such program",
        );
        assert_refused(
            &["trace", "--", "/no/such/file"],
            "cannot run /no/such/file",
        );
        assert_refused(&["trace", "--", "/etc/passwd"], "not executable");
        assert_refused(&["trace", "--", "/tmp"], "it is a directory");
        assert_refused(&["trace"], "PROGRAM");
    }

    #[test]
    fn a_program_for_another_machine_is_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("program");
        let write = |head: &[u8]| {
            let mut bytes = head.to_vec();
            bytes.resize(256, 0);
            fs::write(&path, bytes).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
        };
        let name = directory.path().join("program").display().to_string();
        write(b"\x7fELF\x01\x01\x01");
        assert_refused(&["trace", "--", &name], "32-bit");
        let mut arm = [0; 20];
        arm[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        arm[18] = 183;
        write(&arm);
        assert_refused(&["trace", "--", &name], "another machine");
        write(b"neither program nor script");
        assert_refused(&["trace", "--", &name], "neither a program nor a script");
        write(b"#!/no/such/interpreter\n");
        assert_refused(&["trace", "--", &name], "its interpreter");
    }

    #[test]
    fn files_that_cannot_be_written_are_named() {
        assert_refused(
            &["trace", "--record", "/no/such/x", "--", "true"],
            "cannot write /no/such/x",
        );
        assert_refused(
            &["trace", "--json", "/no/such/x", "--", "true"],
            "cannot write /no/such/x",
        );
    }

    #[test]
    fn a_second_tracer_is_refused_with_advice() {
        // A program under ptrace cannot trace its own children's tracer; samara under samara can
        // run, but what it traces is already being traced.
        let us = env!("CARGO_BIN_EXE_samara");
        let output = ran(&["trace", "--", us, "trace", "--", "true"]);
        let text = errors(&output);
        assert!(
            text.contains("cannot trace") || text.contains("not allowed to trace"),
            "{text}"
        );
        assert!(!text.contains("panicked"), "{text}");
    }
}

mod traces {
    use super::*;

    #[test]
    fn what_is_recorded_replays() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("run.trace").display().to_string();
        let json = directory.path().join("verdict.json").display().to_string();
        let script = "ls / | sort | head -1; (ls /usr; ls /etc) | wc -l";
        let traced = ran(&[
            "trace", "--record", &file, "--json", &json, "--", "sh", "-c", script,
        ]);
        assert_eq!(traced.status.code(), Some(0), "{}", errors(&traced));
        let replayed = ran(&["replay", &file]);
        assert_eq!(replayed.status.code(), Some(0), "{}", errors(&replayed));
        let count = |output: &Output| {
            let text = errors(output);
            let line = text
                .lines()
                .find(|line| line.contains("verdict"))
                .map(str::to_owned);
            line.unwrap_or_default()
        };
        assert_eq!(count(&traced), count(&replayed));
        let verdict: serde_json::Value =
            serde_json::from_slice(&fs::read(&json).expect("a verdict")).expect("JSON");
        assert_eq!(verdict["divergences"], 0);
        assert!(verdict["comparisons"].as_u64().expect("a number") > 50);
        assert!(verdict["calls"]["mmap"].as_u64().expect("a number") > 10);
        let listed = ran(&["replay", "--list", &file]);
        assert!(String::from_utf8_lossy(&listed.stdout).contains("fork makes mm"));
    }

    #[test]
    fn the_built_in_run_is_identical() {
        let output = ran(&["replay"]);
        assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
        let text = errors(&output);
        assert!(text.contains("identical at all"), "{text}");
        assert!(text.contains("not modelled   none"), "{text}");
    }

    #[test]
    fn damaged_and_foreign_files_are_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("run.trace");
        let name = path.display().to_string();
        ran(&["trace", "--record", &name, "--", "true"]);
        let whole = fs::read(&path).expect("a trace");
        fs::write(&path, &whole[..whole.len() - 5]).expect("a file");
        assert_refused(&["replay", &name], "ends too early");
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0x55;
        fs::write(&path, &damaged).expect("a file");
        assert_refused(&["replay", &name], "damaged");
        fs::write(&path, "hello").expect("a file");
        assert_refused(&["replay", &name], "not a samara trace");
        assert_refused(&["replay", "/no/such/file"], "cannot open the trace");
        assert_refused(&["replay", "/"], "cannot read the trace");
    }
}

mod screens {
    use super::*;

    #[test]
    fn samara_alone_says_what_to_try() {
        let output = ran(&[]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0));
        for words in ["samara trace -- ls", "samara replay", "samara show"] {
            assert!(text.contains(words), "{text}");
        }
        assert!(text.lines().count() <= 25);
    }

    #[test]
    fn show_draws_live_processes_and_files() {
        let own = format!("{}", std::process::id());
        for what in ["self", &own] {
            let output = ran(&["show", what]);
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(
                text.contains("maple tree") && text.contains("[stack]"),
                "{text}"
            );
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("maps");
        fs::copy("/proc/self/maps", &path).expect("a copy");
        assert_eq!(
            ran(&["show", &path.display().to_string()]).status.code(),
            Some(0)
        );
        assert_refused(&["show", "/no/such/file"], "cannot read");
        assert_refused(&["show", "999999999"], "is there a process");
        assert_refused(&["show", "/etc/passwd"], "line 1");
        let kernel_thread = ran(&["show", "2"]);
        assert_eq!(kernel_thread.status.code(), Some(2));
    }
}
