//! The command line: what can be asked, and the screen that says so.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use maple_mm::ForkStrategy;

use crate::torture::Mix;

/// What `samara` alone prints.
pub(crate) const GUIDE: &str = "\
samara mirrors a program's address space in a model of Linux's, call by call,
and checks that the model and the kernel agree to the last byte.

It runs any program, follows its threads, forks and execs, predicts the result of
every mmap, munmap, mprotect, mremap, brk, madvise, mlock and fork (the address,
the error, which mappings split and merge), and compares /proc/PID/maps after each.

Try:
  samara trace -- ls -l                    trace a program; the verdict follows its output
  samara trace -- sh -c 'ls | sort'        forks, execs and pipes are followed
  samara trace --pid 1234                  one that runs already, until Ctrl-C
  samara trace --record run.trace -- ls    keep the run ...
  samara replay run.trace                  ... and check it again, without a kernel
  samara replay                            check a run that is built in
  samara show self                         the tree of mappings of a live process
  samara show 1234                         the same by process id, or of a saved maps file
  samara spawn --plot forks.svg            how fast each way to fork an address space is
  samara torture --seconds 60              random calls in the kernel and in the model
  samara stress --threads 8                threads that use one address space at once

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
  samara trace --pid 1234    (until it ends or Ctrl-C lets it go)

The program's input, output and signals are its own; the verdict goes to standard error.
Exit status: 0 identical, 1 diverged, 2 could not run.
Without the right to install a seccomp filter, setuid programs run without privilege.
A process that is joined stops at each of its system calls, as no filter can be given to it; what
it did before is not known, so borders between mappings that are alike are learned there.")]
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
    /// Measure how fast address spaces fork, in each way the model has
    #[command(after_help = "\
Example:
  samara spawn
  samara spawn --vmas 821,51221 --strategy duplicate-with,store-each --seconds 2
  samara spawn --kernel --json forks.json --plot forks.svg
  samara spawn --vmas 21,51221 --touched 100 --resident 0,1024

Each fork makes a child and drops it, as exit and wait do. The ways take turns, so that all are
measured under the same conditions; the table shows medians. The original figures are printed
beside them, and with --kernel this kernel's fork, _exit and waitpid of a process with the same
mappings, which makes a task too.
Exit status: 0 all checks of parent and child passed, 1 one failed, 2 could not run.")]
    Spawn(SpawnArgs),
    /// Make random memory calls in processes of its own and in the model, and compare after each
    #[command(after_help = "\
Example:
  samara torture
  samara torture --seed 7 --calls 100000 --mix remap
  samara torture --seconds 60 --processes 2 --json torture.json

After each call the result, the text of maps and the counters are compared, and VmFlags of all
mappings; of more than 32 mappings VmFlags only after every fourth call and at the end, of more
than 2000 (--mix count) only the neighbourhood of a call, and all after every 200th.
What diverges is made again in ever shorter sequences; the shortest is printed and kept for
`samara replay`. The same seed makes the same calls.
Nothing is touched but processes of its own, three System V segments that end with them, and for
each of --processes a file of 8 MiB without a name among temporary files (TMPDIR). There are at
most 4 processes at once for each of --processes, and none maps more than 64 MiB (--mix count:
a page for each mapping besides, 256 MiB as a rule, of which few are touched).
The limits of setrlimit are set low and changed on the way, in these processes only.
vm.max_map_count is one number for the whole machine: no namespace has its own, and lowering it
would make other programs fail. So it is left as it is, and met from below: --mix count makes as
many mappings as it allows, and goes on there; where it is above 131072, that is refused. Every
mix heeds what it is at the start, so on a machine of your own it can be lowered beforehand.
Exit status: 0 identical, 1 diverged, 2 could not run.")]
    Torture(TortureArgs),
    /// Let threads use one address space at once, and check what each of them must find
    #[command(after_help = "\
Example:
  samara stress
  samara stress --threads 8 --seconds 60 --seed 7 --json stress.json

Threads map, unmap, protect, move, discard and fork, fault, read and write in one address space of
the model, with page tables and frames, and read its maps meanwhile. What each owns holds words
that say who wrote them and when, so that every access is known beforehand: what it finds, or why
it is refused. Others fault, read and write there at the same time. Some pages all threads write, a
word each. Forks are one moment, frames are poisoned when they are freed, and every second round is
short of frames, of tree nodes, or of mappings. At the end of each round nothing may be left over.
The same seed makes the same steps in each thread; which of them meet differs from run to run. What
stands still for a minute is told, with what each thread is about.
Nothing outside this program is touched.
Exit status: 0 all held, 1 something was violated, 2 could not run.")]
    Stress(StressArgs),
    /// The process that `torture` tortures
    #[command(
        hide = true,
        after_help = "Example:\n  none: it is driven through a socket on its standard input"
    )]
    TortureChild,
    /// The process that `spawn --kernel` measures
    #[command(
        hide = true,
        after_help = "Example:\n  echo 100000000 | samara spawn-parent 121 0"
    )]
    SpawnParent(SpawnParentArgs),
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
    /// Plant a mistake in the model
    #[cfg(planted_mistakes)]
    #[arg(long, hide = true)]
    pub(crate) plant: Option<String>,
    /// Mirror a process that runs already, until it ends or Ctrl-C lets it go
    #[arg(long, value_name = "PID", conflicts_with = "program")]
    pub(crate) pid: Option<i32>,
    /// The program and its arguments
    #[arg(
        required_unless_present = "pid",
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
    /// Plant a mistake in the model
    #[cfg(planted_mistakes)]
    #[arg(long, hide = true)]
    pub(crate) plant: Option<String>,
}

/// `samara show`
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// A process id, `self`, or a file in the format of /proc/PID/maps
    #[arg(value_name = "PID|FILE")]
    pub(crate) what: String,
}

/// `samara spawn`
#[derive(Debug, Args)]
pub(crate) struct SpawnArgs {
    /// How many mappings the parent has: one or more numbers up to 1000000
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        default_values_t = SPAWN_SIZES,
        hide_default_value = true,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub(crate) vmas: Vec<u32>,
    /// How many of them were written before, in percent
    #[arg(long, value_name = "PERCENT", default_value = "0")]
    pub(crate) touched: Touched,
    /// How a child gets its pages [default: none, or copy,share where any are touched]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) pages: Vec<Pages>,
    /// Which ways to fork [default: all]
    #[arg(
        long,
        value_name = "NAME,...",
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(ForkStrategy::ALL.map(ForkStrategy::name))
            .try_map(|name| strategy(&name))
    )]
    pub(crate) strategy: Vec<ForkStrategy>,
    /// Also measure forks of a parent with so many MiB resident, and first writes of its child
    #[arg(
        long,
        value_name = "MIB,...",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(0..=65_536)
    )]
    pub(crate) resident: Vec<u32>,
    /// How long each way is measured at each size
    #[arg(long, value_name = "S", default_value = "0.5", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// Also measure this kernel, on a process with the same mappings
    #[arg(long)]
    pub(crate) kernel: bool,
    /// Also write the table as JSON; `-` is standard output, and the table goes to standard error
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Also draw the table as SVG
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,
}

/// `samara torture`
#[derive(Debug, Args)]
pub(crate) struct TortureArgs {
    /// What the calls follow from [default: another one each time]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// How many calls are made
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) calls: Option<u64>,
    /// How long calls are made [default: 10, or until there are --calls]
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) seconds: Option<Duration>,
    /// How many are tortured side by side
    #[arg(long, value_name = "P", default_value = "1", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) processes: u8,
    /// What kinds of call are made
    #[arg(long, value_name = "NAME", default_value = "each")]
    pub(crate) mix: Mix,
    /// Where a divergence is kept [default: samara-torture-SEED.trace among temporary files]
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// Also write the verdict as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Plant a mistake in the model
    #[cfg(planted_mistakes)]
    #[arg(long, hide = true)]
    pub(crate) plant: Option<String>,
}

/// `samara stress`
#[derive(Debug, Args)]
pub(crate) struct StressArgs {
    /// How many threads there are
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) threads: u8,
    /// How long they go on [default: 10]
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) seconds: Option<Duration>,
    /// What the steps follow from [default: another one each time]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Also write the verdict as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Plant a mistake in the model
    #[cfg(planted_mistakes)]
    #[arg(long, hide = true)]
    pub(crate) plant: Option<String>,
}

/// `samara spawn-parent`
#[derive(Debug, Args)]
pub(crate) struct SpawnParentArgs {
    /// How many mappings it is to have
    pub(crate) vmas: u32,
    /// How many of them it writes, in percent
    pub(crate) touched: Touched,
}

/// The sizes of the published table.
pub(crate) const SPAWN_SIZES: [u32; 11] = [
    21, 121, 221, 421, 821, 1_621, 3_221, 6_421, 12_821, 25_621, 51_221,
];

/// How many mappings of a parent were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Touched {
    /// None.
    #[value(name = "0")]
    None,
    /// Every second pair.
    #[value(name = "50")]
    Half,
    /// All.
    #[value(name = "100")]
    All,
}

impl Touched {
    /// Whether the mapping with this number is.
    pub(crate) const fn contains(self, number: u32) -> bool {
        match self {
            Self::None => false,
            Self::Half => (number / 2).is_multiple_of(2),
            Self::All => true,
        }
    }

    /// As on the command line.
    pub(crate) const fn percent(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Half => 50,
            Self::All => 100,
        }
    }
}

/// How a child gets its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pages {
    /// There are none: mappings only.
    None,
    /// An entry in tables of its own for each.
    Copy,
    /// It shares the tables, until either side writes.
    Share,
}

fn strategy(name: &str) -> Result<ForkStrategy, &'static str> {
    let mut all = ForkStrategy::ALL.into_iter();
    all.find(|strategy| strategy.name() == name)
        .ok_or("no such way to fork")
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds: f64 = text.parse().map_err(|_| "give a number of seconds")?;
    if !(0.001..=3600.0).contains(&seconds) {
        return Err("give between 0.001 and 3600 seconds");
    }
    Ok(Duration::from_secs_f64(seconds))
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
