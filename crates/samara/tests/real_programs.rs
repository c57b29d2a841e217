//! Traces programs people run: each must end identical, with no call unmodelled.
//!
//! A program that is absent is skipped by name.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Whether PATH holds a program that answers `--version`; says so if not.
fn is_there(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&paths).any(|path| path.join(program).is_file());
    if !there {
        // Past the harness's capture: what was skipped must be seen.
        let _ = writeln!(
            std::io::stderr(),
            "skipped: trace of {program}: it is not installed"
        );
    }
    there
}

/// Traces a command in `directory` and demands a clean verdict and exit status 0 of the program.
#[track_caller]
fn assert_identical(directory: &Path, command: &[impl AsRef<OsStr>]) {
    let run = Command::new(env!("CARGO_BIN_EXE_samara"))
        .args(["trace", "--"])
        .args(command)
        .current_dir(directory)
        .output()
        .expect("samara runs");
    let verdict = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(0), "{verdict}");
    assert!(verdict.contains("identical at all"), "{verdict}");
    assert!(verdict.contains("not modelled   none"), "{verdict}");
    assert!(verdict.contains("exited with status 0"), "{verdict}");
}

#[test]
fn sh_with_a_pipe_of_three() {
    if is_there("sh") {
        let command = ["sh", "-c", "ls -l /usr/bin | sort | head -3"];
        assert_identical(Path::new("/"), &command);
    }
}

#[test]
fn python_with_threads_and_a_subprocess() {
    const SCRIPT: &str = "
import subprocess, threading
def work():
    blocks = [bytearray(200000) for _ in range(30)]
    for size in range(100000, 900000, 20000):
        blocks.append(bytearray(size))
        blocks.pop(0)
threads = [threading.Thread(target=work) for _ in range(6)]
[thread.start() for thread in threads]
print(len(subprocess.check_output(['ls', '/'])))
[thread.join() for thread in threads]
";
    if is_there("python3") {
        assert_identical(Path::new("/"), &["python3", "-c", SCRIPT]);
    }
}

#[test]
fn gcc_compiles_and_links() {
    if is_there("gcc") {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let source = "#include <stdio.h>\nint main(void) { puts(\"built\"); return 0; }\n";
        fs::write(directory.path().join("program.c"), source).expect("a source file");
        assert_identical(
            directory.path(),
            &["gcc", "-O2", "-o", "program", "program.c"],
        );
        assert_identical(directory.path(), &["./program"]);
    }
}

#[test]
fn bash_with_subshells_and_pipes() {
    const SCRIPT: &str = "
for i in 1 2 3; do
    (echo \"$i\" | cat) >/dev/null
    lines=$(ls / | wc -l)
    { sleep 0.01; echo \"$lines\"; } | (read -r x; test \"$x\" -gt 0) &
done
wait
diff <(ls /) <(ls /)
";
    if is_there("bash") {
        assert_identical(Path::new("/"), &["bash", "-c", SCRIPT]);
    }
}

#[test]
fn perl_with_a_fork() {
    const SCRIPT: &str = "
my %count; $count{$_ % 97}++ for 1..20000;
my @sorted = sort { $a <=> $b } map { rand } 1..5000;
my $pid = fork; if (!$pid) { my $text = 'x' x 3000000; exit 0 } waitpid $pid, 0;
my $listing = `ls /`; exit !length $listing;
";
    if is_there("perl") {
        assert_identical(Path::new("/"), &["perl", "-e", SCRIPT]);
    }
}

#[test]
fn git_in_a_small_repository() {
    if !is_there("git") {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let git = |arguments: &[&str]| {
        let identity = [
            "-c",
            "user.name=Maple",
            "-c",
            "user.email=maple@example.org",
        ];
        let command = [&["git"][..], &identity, arguments].concat();
        assert_identical(directory.path(), &command);
    };
    git(&["init", "-q"]);
    for number in 0..10 {
        fs::write(
            directory.path().join(format!("file-{number}")),
            "seed\n".repeat(number + 1),
        )
        .expect("a file");
    }
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "Plant the seeds"]);
    git(&["log", "--oneline", "--stat"]);
    git(&["gc", "-q"]);
    git(&["status", "--short"]);
}

/// The old bottom-up layout, and stack limits that move everything.
#[test]
fn other_layouts() {
    let root = Path::new("/");
    assert_identical(root, &["sh", "-c", "ulimit -s unlimited; ls | sort"]);
    assert_identical(root, &["sh", "-c", "ulimit -s 1000000; ls | sort"]);
    if is_there("setarch") {
        for layout in ["-L", "-R", "-RL"] {
            assert_identical(root, &["setarch", layout, "sh", "-c", "ls | sort"]);
        }
    }
}

#[test]
fn cargo_version() {
    if is_there("cargo") {
        assert_identical(Path::new("/"), &["cargo", "--version"]);
    }
}
