//! Small limits, full disks, outputs that take nothing: status 2 and words that help, no panic, no
//! hang, and nothing left behind.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A copy of the program where anybody may run it, so that its processes can be told from others,
/// and a directory for its temporary files.
struct Place {
    directory: TempDir,
    program: PathBuf,
    temporary: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (program, temporary) = (
            directory.path().join("program"),
            directory.path().join("tmp"),
        );
        // Not by this process: a child that another test forks meanwhile would have the copy open
        // for writing, and what is open so is not run.
        let copied = Command::new("cp")
            .args([Path::new(env!("CARGO_BIN_EXE_samara")), &program])
            .status();
        assert!(copied.expect("there is cp").success());
        fs::create_dir(&temporary).expect("a directory");
        for (path, mode) in [
            (directory.path(), 0o755),
            (&program, 0o755),
            (&temporary, 0o1777),
        ] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
        }
        Self {
            directory,
            program,
            temporary,
        }
    }

    /// A shell that makes `before` and then becomes samara with `arguments`.
    fn command(&self, before: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("{before}; exec \"$0\" \"$@\"")])
            .arg(&self.program)
            .args(arguments)
            .env("TMPDIR", &self.temporary);
        command
    }

    fn ran(&self, before: &str, arguments: &[&str]) -> Output {
        let mut command = self.command(before, arguments);
        command.output().expect("a shell runs")
    }

    /// Status 2, words that help, and nothing left.
    #[track_caller]
    fn assert_refused(&self, output: &Output, words: &str) {
        let text = errors(output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(words), "no {words:?}: {text}");
        assert!(!text.contains("panicked"), "{text}");
        self.assert_nothing_left();
    }

    #[track_caller]
    fn assert_nothing_left(&self) {
        let files: Vec<_> = fs::read_dir(&self.temporary)
            .expect("a directory")
            .collect();
        assert!(files.is_empty(), "{files:?}");
        let begun = Instant::now();
        while self.has_processes() && begun.elapsed() < Duration::from_secs(10) {
            std::thread::yield_now();
        }
        assert!(!self.has_processes(), "a process is left");
    }

    fn has_processes(&self) -> bool {
        let processes = fs::read_dir("/proc").expect("/proc");
        let is_ours = |path: PathBuf| {
            fs::read_link(path.join("exe")).is_ok_and(|exe| exe.starts_with(&self.program))
        };
        processes.flatten().any(|entry| is_ours(entry.path()))
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").expect("/proc").uid() == 0
}

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

const TORTURE: &[&str] = &["torture", "--seed", "3", "--calls", "1000"];

#[test]
fn torture_says_which_limit_is_too_small_and_what_to_do() {
    let place = Place::new();
    for (before, words) in [
        ("ulimit -d 700", "`ulimit -d`"),
        ("ulimit -d 3000", "`ulimit -d`"),
        ("ulimit -s 64", "`ulimit -s 256`"),
        ("ulimit -n 4", "`ulimit -n`"),
        ("ulimit -n 20", "`ulimit -n`"),
        ("ulimit -n 60", "`ulimit -n`"),
        ("ulimit -f 0", "`ulimit -f`"),
        ("ulimit -f 100", "`ulimit -f`"),
    ] {
        place.assert_refused(&place.ran(before, TORTURE), words);
    }
}

#[test]
fn other_commands_say_so_too() {
    let place = Place::new();
    let trace = &["trace", "--", "true"][..];
    let spawn = &["spawn", "--vmas", "21", "--seconds", "0.001", "--kernel"][..];
    for (before, arguments, words) in [
        ("ulimit -d 700", trace, "`ulimit -d`"),
        ("ulimit -s 64", trace, "`ulimit -s 256`"),
        ("ulimit -n 4", trace, "`ulimit -n`"),
        ("ulimit -d 700", &["replay"], "`ulimit -d`"),
        ("ulimit -s 64", &["replay"], "`ulimit -s 256`"),
        ("ulimit -d 700", spawn, "`ulimit -d`"),
        ("ulimit -s 64", spawn, "`ulimit -s 256`"),
        ("ulimit -n 4", spawn, "`ulimit -n`"),
    ] {
        place.assert_refused(&place.ran(before, arguments), words);
    }
}

#[test]
fn memory_that_runs_out_on_the_way_is_said() {
    let place = Place::new();
    let maps = place.directory.path().join("maps");
    let line = |at: u64| {
        format!(
            "{:x}-{:x} r--p 00000000 00:00 0 \n",
            at << 16,
            (at << 16) + 4096
        )
    };
    fs::write(&maps, (1..20_000).map(line).collect::<String>()).expect("a file");
    let show = ["show", maps.to_str().expect("a path of ours")];
    for before in ["ulimit -d 1600", "ulimit -d 3000", "ulimit -d 4000"] {
        place.assert_refused(&place.ran(before, &show), "`ulimit -d`");
    }
    assert_eq!(place.ran(":", &show).status.code(), Some(0));
}

#[test]
fn where_no_process_may_be_started_that_is_said() {
    if is_root() && !has("setpriv") || !has("bash") {
        return;
    }
    let place = Place::new();
    let spawn = &["spawn", "--vmas", "21", "--seconds", "0.001", "--kernel"][..];
    for arguments in [TORTURE, &["trace", "--", "true"], spawn] {
        // The limit does not hold for root.
        let mut command = Command::new(if is_root() { "setpriv" } else { "env" });
        if is_root() {
            command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        }
        command
            .args(["bash", "-c", "ulimit -u 1; exec \"$0\" \"$@\""])
            .arg(&place.program)
            .args(arguments)
            .env("TMPDIR", &place.temporary);
        let output = command.output().expect("a shell runs");
        place.assert_refused(&output, "`ulimit -u`");
    }
}

#[test]
fn a_full_disk_is_no_divergence() {
    let place = Place::new();
    let mount = "mount -t tmpfs -o size=1m none \"$TMPDIR\"";
    let inside = [
        &["-m", "sh", "-c", "eval \"$0\" && exec \"$@\"", mount][..],
        &[place.program.to_str().expect("a path of ours")],
        TORTURE,
    ];
    let mut command = Command::new("unshare");
    if !is_root() {
        command.arg("-r");
    }
    let output = command
        .args(inside.concat())
        .env("TMPDIR", &place.temporary)
        .output();
    match output {
        Ok(output) if !errors(&output).contains("samara") => {
            eprintln!(
                "skipped: no file system may be mounted: {}",
                errors(&output)
            );
        }
        Err(error) => eprintln!("skipped: no unshare: {error}"),
        Ok(output) => place.assert_refused(&output, "cannot reserve 8 MiB"),
    }
}

#[test]
fn a_directory_for_temporary_files_that_cannot_be_used_is_named() {
    let place = Place::new();
    let output = place.ran("TMPDIR=/no/such/place", TORTURE);
    place.assert_refused(&output, "/no/such/place");
    assert!(errors(&output).contains("TMPDIR"), "{}", errors(&output));
    let kept = place.directory.path().join("kept.trace");
    let save = &["--save", kept.to_str().expect("a path of ours")][..];
    let output = place.ran("TMPDIR=/no/such/place", &[TORTURE, save].concat());
    place.assert_refused(&output, "another directory can be named by TMPDIR");
    assert!(!kept.exists());
}

#[test]
fn outputs_that_cannot_be_written_are_found_before_anything_runs() {
    let place = Place::new();
    // An hour would pass if it were found later.
    let hour = &["torture", "--seconds", "3600"][..];
    for arguments in [
        [hour, &["--save", "/no/such/x"]].concat(),
        [hour, &["--json", "/no/such/x"]].concat(),
        vec!["trace", "--record", "/no/such/x", "--", "sleep", "3600"],
        vec!["trace", "--json", "/no/such/x", "--", "sleep", "3600"],
        vec!["replay", "--json", "/no/such/x"],
        vec!["spawn", "--seconds", "3600", "--json", "/no/such/x"],
        vec!["spawn", "--seconds", "3600", "--plot", "/no/such/x"],
    ] {
        let output = place.ran(":", &arguments);
        place.assert_refused(&output, "cannot write /no/such/x");
    }
    let same = [hour, &["--save", "x", "--json", "x"]].concat();
    place.assert_refused(&place.ran(":", &same), "name the same file");
    let same = ["trace", "--record", "x", "--json", "x", "--", "true"];
    place.assert_refused(&place.ran(":", &same), "name the same file");
}

#[test]
fn what_could_not_run_leaves_former_results_and_no_new_ones() {
    let place = Place::new();
    let (old, new) = (
        place.directory.path().join("old"),
        place.directory.path().join("new"),
    );
    fs::write(&old, "before").expect("a file");
    let name = |path: &Path| path.to_str().expect("a path of ours").to_owned();
    let arguments = [
        "trace",
        "--record",
        &name(&old),
        "--json",
        &name(&new),
        "--",
        "no-such-program-at-all",
    ];
    place.assert_refused(&place.ran(":", &arguments), "no such program");
    assert_eq!(fs::read(&old).expect("it is there"), b"before");
    assert!(!new.exists());
}

#[test]
fn one_output_that_takes_nothing_does_not_cost_the_others() {
    let place = Place::new();
    let json = place.directory.path().join("out.json");
    let path = json.to_str().expect("a path of ours");
    let spawn = ["spawn", "--vmas", "21", "--seconds", "0.001", "--json"];
    let mut command = place.command("exec >/dev/full", &[&spawn[..], &[path]].concat());
    place.assert_refused(
        &command.output().expect("it runs"),
        "cannot write the table",
    );
    assert!(fs::read_to_string(&json).is_ok_and(|text| text.contains("lines")));
    let mut command = place.command("exec 2>/dev/full", &["replay", "--json", path]);
    let status = command.status().expect("it runs");
    assert_eq!(status.code(), Some(2));
    assert!(fs::read_to_string(&json).is_ok_and(|text| text.contains("identical")));
    let replay = ["replay", "--json", "/dev/full"];
    let output = place.ran(":", &replay);
    place.assert_refused(&output, "cannot write /dev/full");
    assert!(errors(&output).contains("identical at all"));
}

#[test]
fn a_program_that_is_traced_finds_the_default_where_samara_is_told_of_long_files() {
    let place = Place::new();
    let script = "ulimit -f 0; (echo a > \"$TMPDIR/a\"); echo $? >&2; rm \"$TMPDIR/a\"";
    let alone = Command::new("sh")
        .args(["-c", script])
        .env("TMPDIR", &place.temporary)
        .output()
        .expect("sh runs");
    let traced = place.ran(":", &["trace", "--", "sh", "-c", script]);
    let (alone, traced) = (errors(&alone), errors(&traced));
    let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    assert_eq!(first(&traced), first(&alone), "{traced}");
    place.assert_nothing_left();
}
