//! What the benchmark programs have in common: processors, what a run was made on, numbers to read.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fmt;
use std::sync::OnceLock;

/// The CPUs that this process could use when this was first asked, which is before [`pin`].
#[must_use]
pub fn cpus() -> &'static [usize] {
    static CPUS: OnceLock<Vec<usize>> = OnceLock::new();
    CPUS.get_or_init(|| {
        let Ok(set) = sched_getaffinity(None) else {
            return Vec::new();
        };
        let is_in = |cpu: &usize| set.is_set(*cpu);
        (0..CpuSet::MAX_CPU).filter(is_in).collect()
    })
}

/// Keeps this thread on `cpus`. Whether that worked; if not, times are less steady, not wrong.
pub fn pin(cpus: &[usize]) -> bool {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|&cpu| set.set(cpu));
    sched_setaffinity(None, &set).is_ok()
}

/// What was measured, on what, and how. Displayed as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The processor, as the kernel names it, and how many there are.
    pub machine: String,
    /// The release of Linux.
    pub kernel: String,
    /// The program and its arguments, without the directories that lead to anything.
    pub command: String,
}

impl Origin {
    /// That of this run of `program`.
    #[must_use]
    pub fn of(program: &str) -> Self {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease");
        Self {
            machine: machine(),
            kernel: kernel.unwrap_or_default().trim().to_owned(),
            command: command(program, std::env::args().skip(1)),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            machine,
            kernel,
            command,
        } = self;
        write!(f, "{machine}, Linux {kernel}; `{command}`")
    }
}

fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut names = text
        .lines()
        .filter_map(|line| line.strip_prefix("model name"));
    let name = names.next().map_or("unknown processor", |name| {
        name.trim_start_matches(['\t', ' ', ':'])
    });
    format!("{name}, {} CPUs", cpus().len())
}

fn command(program: &str, words: impl Iterator<Item = String>) -> String {
    let words = words.map(|word| {
        let is_path = word.starts_with('/');
        let name = word.rsplit('/').next().unwrap_or_default();
        if is_path { name.to_owned() } else { word }
    });
    std::iter::once(program.to_owned())
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A number with three digits that matter.
#[must_use]
pub fn digits(number: f64) -> String {
    match number.abs() {
        1_000_000.0.. => digits(number / 1_000_000.0) + "M",
        10_000.0.. => digits(number / 1_000.0) + "k",
        100.0.. => format!("{number:.0}"),
        10.0.. => format!("{number:.1}"),
        0.0 => "0".to_owned(),
        _ => format!("{number:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        let numbers = [0.0, 0.5, 1.234, 12.34, 1234.0, 12_345.0, 12_345_678.0];
        let texts = ["0", "0.50", "1.23", "12.3", "1234", "12.3k", "12.3M"];
        assert_eq!(numbers.map(digits), texts);
    }

    #[test]
    fn a_command_names_no_directory_of_this_machine() {
        let words = ["--json", "/some/where/out.json", "-n", "3"].map(str::to_owned);
        let line = command("bench", words.into_iter());
        assert_eq!(line, "bench --json out.json -n 3");
    }

    #[test]
    fn a_thread_stays_where_it_is_pinned() {
        let all = cpus();
        let &[.., last] = all else {
            panic!("this thread runs on a processor");
        };
        std::thread::spawn(move || {
            assert!(pin(&[last]));
            let set = sched_getaffinity(None).expect("it is this thread");
            assert_eq!((set.count(), set.is_set(last)), (1, true));
        })
        .join()
        .expect("the thread's own assertions hold");
        assert_eq!(cpus(), all, "asked before");
    }
}
