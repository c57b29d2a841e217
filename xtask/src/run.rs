//! Runs programs: their output is passed on as it comes, and read along for what they skipped.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;

/// What a test writes at the start of a line, past the test harness's capture, when it skips.
const SKIPPED: &str = "skipped: ";

/// The `skipped: ` lines of everything that ran so far.
static SKIPS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// How a program ended, and all that it wrote.
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The top of the repository.
pub(crate) fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the repository")
}

/// Where cargo builds: all that runs it here runs it at the top.
pub(crate) fn target() -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    top().join(named)
}

/// A command that runs at the top of the repository.
pub(crate) fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(top());
    command
}

/// Runs `cargo` and expects success.
pub(crate) fn cargo(arguments: &[&str]) -> Result<(), String> {
    succeed(&mut command(env!("CARGO"), arguments))
}

/// Runs `command` and expects success.
pub(crate) fn succeed(command: &mut Command) -> Result<(), String> {
    let ran = run(command)?;
    if ran.status.success() {
        return Ok(());
    }
    Err(format!("`{}` ended with {}", line_of(command), ran.status))
}

/// Runs `command`, passes its output on, and returns how it ended.
pub(crate) fn run(command: &mut Command) -> Result<Ran, String> {
    println!("$ {}", line_of(command));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let spawned = command.spawn();
    let mut child =
        spawned.map_err(|error| format!("`{}` did not start: {error}", line_of(command)))?;
    let stdout = child.stdout.take().expect("the output is piped");
    let stderr = child.stderr.take().expect("the errors are piped");
    let errors = thread::spawn(move || pass_on(stderr, std::io::stderr()));
    let stdout = pass_on(stdout, std::io::stdout());
    let stderr = errors.join().expect("reading does not panic");
    let status = child.wait().map_err(|error| error.to_string())?;
    Ok(Ran {
        status,
        stdout,
        stderr,
    })
}

/// Whether `command` runs and succeeds; its output is of no interest.
pub(crate) fn works(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Takes the `skipped: ` lines seen so far.
pub(crate) fn take_skipped() -> Vec<String> {
    let mut skips = std::mem::take(&mut *SKIPS.lock().expect("no thread panics with the lock"));
    skips.sort();
    skips.dedup();
    skips
}

fn pass_on(from: impl Read, mut to: impl Write) -> String {
    let mut all = String::new();
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        // A reader of our output that went away is no reason to stop the checks.
        let _ = to.write_all(&line).and_then(|()| to.flush());
        let text = String::from_utf8_lossy(&line);
        if let Some(skip) = text.trim_end().strip_prefix(SKIPPED) {
            SKIPS
                .lock()
                .expect("no thread panics with the lock")
                .push(skip.to_owned());
        }
        all.push_str(&text);
        line.clear();
    }
    all
}

fn line_of(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| {
        Some(format!(
            "{}={:?}",
            name.to_string_lossy(),
            value?.to_string_lossy()
        ))
    });
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    let words = words.map(|word| word.to_string_lossy().into_owned());
    set.chain(words).collect::<Vec<_>>().join(" ")
}
