//! What a run showed: counts, and the first divergence; as text for people and as JSON.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::call::CallKind;
use crate::means;

/// How a run ends for the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Identical = 0,
    Diverged = 1,
    CouldNotRun = 2,
}

/// A place where model and kernel disagree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Divergence {
    /// The process (thread) that made the call; 0 in a replay.
    pub(crate) process: i32,
    /// The number of the comparison that found it.
    pub(crate) comparison: u64,
    /// The call with its arguments, or what else was compared.
    pub(crate) call: String,
    pub(crate) predicted: String,
    pub(crate) actual: String,
    /// Lines that differ.
    pub(crate) lines: Vec<LinePair>,
}

/// A line of the kernel's `maps` and of the model's, where they differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LinePair {
    pub(crate) kernel: Option<String>,
    pub(crate) model: Option<String>,
}

/// What was learned from the kernel on the way: facts that `maps` does not show, or identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Learned {
    /// First writes to private memory, and growth of stacks.
    pub(crate) writes: u64,
    pub(crate) stack_growths: u64,
    pub(crate) files: u64,
    pub(crate) renames: u64,
    pub(crate) limits: u64,
    /// What happened before a process was joined.
    pub(crate) history: u64,
    /// Which of two neighbours was written first between two looks.
    pub(crate) orders: u64,
}

impl Learned {
    pub(crate) const fn total(&self) -> u64 {
        self.writes
            + self.stack_growths
            + self.files
            + self.renames
            + self.limits
            + self.history
            + self.orders
    }
}

/// The result of a trace or a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    pub(crate) program: String,
    pub(crate) processes: u64,
    pub(crate) threads: u64,
    pub(crate) forks: u64,
    pub(crate) execs: u64,
    pub(crate) calls: BTreeMap<CallKind, u64>,
    pub(crate) comparisons: u64,
    /// So many of them looked at the mappings around a call, the others at all of them.
    pub(crate) of_neighbourhoods: u64,
    pub(crate) peak_vmas: usize,
    pub(crate) not_modelled: BTreeMap<String, u64>,
    pub(crate) learned: Learned,
    pub(crate) divergences: u64,
    pub(crate) first_divergence: Option<Divergence>,
    /// Whether there was no memory left for the model when it first said something else.
    pub(crate) out_of_memory: bool,
    /// How the traced program ended, in words.
    pub(crate) ended: Option<String>,
    pub(crate) notes: Vec<String>,
}

impl Verdict {
    pub(crate) fn count_call(&mut self, kind: CallKind) {
        *self.calls.entry(kind).or_default() += 1;
    }

    pub(crate) fn count_not_modelled(&mut self, name: &str) {
        *self.not_modelled.entry(name.to_owned()).or_default() += 1;
    }

    pub(crate) fn diverged(&mut self, divergence: Divergence) {
        if self.divergences == 0 {
            self.out_of_memory = means::check_spare().is_err();
        }
        self.divergences += 1;
        self.first_divergence.get_or_insert(divergence);
    }

    pub(crate) fn status(&self) -> Status {
        if self.comparisons == 0 || self.out_of_memory {
            Status::CouldNotRun
        } else if self.divergences == 0 {
            Status::Identical
        } else {
            Status::Diverged
        }
    }

    /// Everything, with the headline first.
    pub(crate) fn as_json(&self) -> impl Serialize {
        #[derive(Serialize)]
        struct Report<'a> {
            verdict: String,
            #[serde(flatten)]
            rest: &'a Verdict,
        }
        Report {
            verdict: self.headline(),
            rest: self,
        }
    }

    fn total_calls(&self) -> u64 {
        self.calls.values().sum()
    }

    /// The line that matters most.
    fn headline(&self) -> String {
        let n = match self.of_neighbourhoods {
            0 => format!("{} comparisons", self.comparisons),
            some => format!(
                "{} comparisons, {some} of them of the neighbourhood of a call",
                self.comparisons
            ),
        };
        if self.comparisons == 0 {
            return "nothing was compared".to_owned();
        }
        if self.out_of_memory {
            return "samara ran out of memory, so the model differs: raise `ulimit -d` and \
                    `ulimit -v`"
                .to_owned();
        }
        if self.divergences > 0 {
            let times = if self.divergences == 1 {
                "once"
            } else {
                "more than once"
            };
            return format!("DIVERGED {times} ({} of {n})", self.divergences);
        }
        if self.not_modelled.is_empty() {
            return format!("identical at all {n}");
        }
        let calls: u64 = self.not_modelled.values().sum();
        format!("identical at all {n}, but calls not modelled: {calls}")
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, value: &str| {
            writeln!(f, "  {name:<14} {value}")
        };
        writeln!(f, "samara: {}", self.program)?;
        if let Some(ended) = &self.ended {
            row(f, "program", ended)?;
        }
        let processes = format!("{} ({} threads more)", self.processes, self.threads);
        row(f, "processes", &processes)?;
        row(
            f,
            "forks, execs",
            &format!("{}, {}", self.forks, self.execs),
        )?;
        let calls = format!("{} ({})", self.total_calls(), self.calls_by_kind());
        row(f, "memory calls", &calls)?;
        row(f, "peak VMAs", &self.peak_vmas.to_string())?;
        row(f, "learned", &self.learned_text())?;
        let missing = if self.not_modelled.is_empty() {
            "none".to_owned()
        } else {
            let one = |(name, count): (&String, &u64)| format!("{name} {count}");
            self.not_modelled
                .iter()
                .map(one)
                .collect::<Vec<_>>()
                .join(", ")
        };
        row(f, "not modelled", &missing)?;
        for note in &self.notes {
            row(f, "note", note)?;
        }
        row(f, "verdict", &self.headline())?;
        match &self.first_divergence {
            Some(divergence) => write!(f, "\n{divergence}"),
            None => Ok(()),
        }
    }
}

impl Verdict {
    fn calls_by_kind(&self) -> String {
        let mut kinds: Vec<_> = self.calls.iter().collect();
        kinds.sort_by_key(|&(kind, count)| (std::cmp::Reverse(*count), *kind));
        let one = |(kind, count): (&CallKind, &u64)| format!("{} {count}", kind.name());
        kinds.into_iter().map(one).collect::<Vec<_>>().join(", ")
    }

    fn learned_text(&self) -> String {
        let Learned {
            writes,
            stack_growths,
            files,
            renames,
            limits,
            history,
            orders,
        } = self.learned;
        let some = |name: &str, count: u64| match count {
            0 => String::new(),
            count => format!(", {name} {count}"),
        };
        let past = some("what came before", history) + &some("orders of writes", orders);
        format!(
            "{} facts (first writes {writes}, stack growth {stack_growths}, files {files}, \
             renames {renames}, limits {limits}{past})",
            self.learned.total()
        )
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            process,
            comparison,
            call,
            predicted,
            actual,
            lines,
        } = self;
        writeln!(
            f,
            "first divergence, at comparison {comparison}, process {process}:"
        )?;
        writeln!(f, "  {call}")?;
        writeln!(f, "    predicted  {predicted}")?;
        writeln!(f, "    actual     {actual}")?;
        if lines.is_empty() {
            return writeln!(f, "    the mappings are the same");
        }
        let width = lines
            .iter()
            .filter_map(|pair| pair.kernel.as_deref())
            .map(str::len)
            .max();
        // A width past 65,535 panics, and a forged trace can hold a line as long.
        let width = width.unwrap_or(0).clamp("kernel".len(), 200);
        let mut table = String::new();
        let _ = writeln!(table, "    {:<width$}  | model", "kernel");
        for LinePair { kernel, model } in lines {
            let (kernel, model) = (kernel.as_deref(), model.as_deref());
            let _ = writeln!(
                table,
                "    {:<width$}  | {}",
                kernel.unwrap_or("-"),
                model.unwrap_or("-")
            );
        }
        f.write_str(&table)
    }
}

/// Lines of the two texts that differ, those of the same start address side by side, with the
/// columns squeezed.
pub(crate) fn differing_lines(kernel: &str, model: &str) -> Vec<LinePair> {
    const MOST: usize = 24;
    let squeeze = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let (mut kernel, mut model) = (kernel.lines().peekable(), model.lines().peekable());
    let mut pairs = Vec::new();
    while pairs.len() < MOST {
        let order = match (kernel.peek(), model.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(kernel), Some(model)) => start_of(kernel).cmp(&start_of(model)),
        };
        let kernel = if order.is_le() { kernel.next() } else { None };
        let model = if order.is_ge() { model.next() } else { None };
        if kernel != model {
            pairs.push(LinePair {
                kernel: kernel.map(squeeze),
                model: model.map(squeeze),
            });
        }
    }
    pairs
}

/// The address a line begins with; lines without one come first.
fn start_of(line: &str) -> u64 {
    let digits = line.split('-').next().unwrap_or_default();
    u64::from_str_radix(digits, 16).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_one_start_stand_side_by_side() {
        let pairs = differing_lines("1-2 a\n3-4  b\n7-8 c\n", "1-2 a\n3-4 x\n5-6 y\n7-8 c\n");
        let pair = |kernel: Option<&str>, model: Option<&str>| LinePair {
            kernel: kernel.map(str::to_owned),
            model: model.map(str::to_owned),
        };
        assert_eq!(
            pairs,
            [
                pair(Some("3-4 b"), Some("3-4 x")),
                pair(None, Some("5-6 y"))
            ]
        );
        assert_eq!(differing_lines("a\n", "a\n"), []);
    }

    #[test]
    fn a_line_of_any_length_is_shown() {
        let lines = differing_lines(&"a".repeat(1 << 20), "b");
        let divergence = Divergence {
            process: 0,
            comparison: 1,
            call: String::new(),
            predicted: String::new(),
            actual: String::new(),
            lines,
        };
        assert!(divergence.to_string().len() > 1 << 20);
    }

    #[test]
    fn nothing_compared_is_not_a_pass() {
        let mut verdict = Verdict::default();
        assert_eq!(verdict.status(), Status::CouldNotRun);
        verdict.comparisons = 1;
        assert_eq!(verdict.status(), Status::Identical);
        verdict.count_not_modelled("shmat");
        assert!(verdict.to_string().contains("not modelled   shmat 1"));
        assert!(verdict.to_string().contains("but calls not modelled: 1"));
        let lines = differing_lines("a\n", "b\n");
        let texts = || "0".to_owned();
        verdict.diverged(Divergence {
            process: 1,
            comparison: 1,
            call: "brk(0x0)".to_owned(),
            predicted: texts(),
            actual: texts(),
            lines,
        });
        assert_eq!(verdict.status(), Status::Diverged);
        assert!(verdict.to_string().contains("brk(0x0)"));
    }
}
