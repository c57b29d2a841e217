//! The command line: what can be asked, and the screen that says so.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// What `samara` alone prints.
pub(crate) const GUIDE: &str = "\
samara mirrors a program's address space in a model of Linux's, call by call,
and checks that the model and the kernel agree to the last byte.

It runs any program, follows its threads, forks and execs, predicts the result of
every mmap, munmap, mprotect, mremap, brk, madvise, mlock and fork (the address,
the error, which mappings split and which merge), and after each one compares the
model with the kernel's /proc/PID/maps.

Try:
  samara trace -- ls -l                    trace a program; the verdict follows its output
  samara trace -- sh -c 'ls | sort'        forks, execs and pipes are followed
  samara trace --record run.trace -- ls    keep the run ...
  samara replay run.trace                  ... and check it again, without a kernel
  samara replay                            check a run that is built in
  samara show self                         the tree of mappings of a live process
  samara show 1234                         the same by process id, or of a saved maps file

Exit status: 0 identical, 1 diverged, 2 could not run.
`samara help COMMAND` tells more.
";

/// Mirrors a running program's address space and compares it with the kernel's.
#[derive(Debug, Parser)]
#[command(name = "samara", version, disable_help_subcommand = false)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a program, mirror its address spaces and compare them with the kernel's
    #[command(after_help = "\
Example:
  samara trace -- sh -c 'ls -l /usr/bin | sort | head -3'
  samara trace --record run.trace --json verdict.json -- python3 script.py

The program's input, output and signals are its own; the verdict goes to standard error.
Exit status: 0 identical, 1 diverged, 2 could not run.
Without the right to install a seccomp filter, setuid programs run without privilege.")]
    Trace(TraceArgs),
    /// Check a recorded run, without a kernel
    #[command(after_help = "\
Example:
  samara replay              (a run that is built in: sh and python3 with threads and forks)
  samara replay run.trace    (made by `samara trace --record run.trace -- PROGRAM`)

Exit status: 0 identical, 1 diverged, 2 the file could not be read.")]
    Replay(ReplayArgs),
    /// Print the tree of mappings of a live process or of a maps file
    #[command(after_help = "\
Example:
  samara show self
  samara show 1234
  samara show saved-maps.txt")]
    Show(ShowArgs),
}

/// `samara trace`
#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// Also write a trace that `samara replay` can check
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// Also write the verdict as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Plant a mistake in the model: merge, gap or errno
    #[cfg(planted_mistakes)]
    #[arg(long, hide = true)]
    pub(crate) plant: Option<String>,
    /// The program and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "PROGRAM"
    )]
    pub(crate) program: Vec<OsString>,
}

/// `samara replay`
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The trace; the built-in one if left out
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Also write the verdict as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Print every recorded event on standard output
    #[arg(long, conflicts_with = "json")]
    pub(crate) list: bool,
}

/// `samara show`
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// A process id, `self`, or a file in the format of /proc/PID/maps
    #[arg(value_name = "PID|FILE")]
    pub(crate) what: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent_and_every_subcommand_has_an_example() {
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands() {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.contains("Example:"), "{}", command.get_name());
        }
    }

    #[test]
    fn the_guide_fits_a_screen() {
        assert!(GUIDE.lines().count() <= 24 + 1);
        assert!(GUIDE.lines().all(|line| line.len() <= 90));
    }

    #[test]
    fn options_after_the_program_are_its_own() {
        let cli = Cli::try_parse_from(["samara", "trace", "--", "ls", "--json", "x"]).unwrap();
        let Some(Command::Trace(args)) = cli.command else {
            panic!("trace")
        };
        assert_eq!(args.program.len(), 3);
        assert_eq!(args.json, None);
    }
}
