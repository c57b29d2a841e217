//! A run as text for people.

use std::fmt::Write as _;

use super::report::{Kind, Line, Point, Report};
use super::resident::columns;

/// As many columns fit beside the names on a line of a hundred characters.
const COLUMNS: usize = 11;
const NAME_WIDTH: usize = 23;

/// The tables, what the lines mean, and how the checks went.
pub(crate) fn text(report: &Report) -> String {
    let mut out = String::new();
    let touched = report.touched_percent;
    let rounds = report.rounds;
    for sizes in report.sizes.chunks(COLUMNS) {
        let title = format!(
            "Forks in 10 s of processor time, each child dropped at once ({touched} % touched)"
        );
        block(
            &mut out,
            report,
            &Block {
                title,
                sizes,
                value: |point| Some(short(point.forks_in_ten_seconds)),
            },
        );
        let title = "Nanoseconds per mapping".to_owned();
        block(
            &mut out,
            report,
            &Block {
                title,
                sizes,
                value: |point| Some(short(point.nanoseconds_per_vma)),
            },
        );
        let title = format!("From the slowest to the fastest of {rounds} rounds, % of the median");
        block(
            &mut out,
            report,
            &Block {
                title,
                sizes,
                value: |point| point.spread_percent.map(short),
            },
        );
    }
    resident(&mut out, report);
    meanings(&mut out, report);
    checks(&mut out, report);
    out
}

/// One table: a value of each point.
struct Block<'a> {
    title: String,
    sizes: &'a [u32],
    value: fn(&Point) -> Option<String>,
}

fn block(out: &mut String, report: &Report, block: &Block<'_>) {
    let sizes: Vec<String> = block.sizes.iter().map(|&size| grouped(size)).collect();
    let width = 1 + sizes.iter().map(String::len).max().unwrap_or(0).max(5);
    let _ = write!(out, "{}\n\n{:NAME_WIDTH$}", block.title, "VMAs");
    for size in &sizes {
        let _ = write!(out, "{size:>width$}");
    }
    out.push('\n');
    let mut was_published = false;
    for line in &report.lines {
        let cells = cells(line, block);
        if cells.iter().all(String::is_empty) {
            continue;
        }
        if line.kind == Kind::Published && !was_published {
            was_published = true;
            out.push_str("published with the original patches, other hardware:\n");
        }
        let _ = write!(out, "{:NAME_WIDTH$}", line.name);
        for cell in cells {
            let _ = write!(out, "{cell:>width$}");
        }
        out.push('\n');
    }
    out.push('\n');
}

fn cells(line: &Line, block: &Block<'_>) -> Vec<String> {
    let cell = |&size: &u32| line.at(size).and_then(block.value).unwrap_or_default();
    block.sizes.iter().map(cell).collect()
}

/// Parents with much memory, if there were any.
fn resident(out: &mut String, report: &Report) {
    if report.resident.is_empty() {
        return;
    }
    out.push_str("Microseconds for fork, writes of the child, and exit; the child writes\n\n");
    let _ = write!(out, "{:NAME_WIDTH$}{:>5}", "resident", "MiB");
    for column in columns() {
        let _ = write!(out, "{column:>18}");
    }
    out.push('\n');
    for line in &report.resident {
        let _ = write!(
            out,
            "{:NAME_WIDTH$}{:>5}",
            line.name,
            grouped(line.mebibytes)
        );
        for point in &line.points {
            let cell = short(point.microseconds);
            let spread = point.spread_percent;
            let _ = write!(out, "{:>18}", format!("{cell} (±{:.0} %)", spread / 2.0));
        }
        out.push('\n');
    }
    out.push('\n');
}

fn meanings(out: &mut String, report: &Report) {
    let machine = &report.machine;
    let _ = write!(out, "{}, Linux {}", machine.processor, machine.kernel);
    let _ = match machine.pinned_to {
        Some(processor) => writeln!(out, ", on processor {processor}"),
        None => writeln!(out, ", not bound to a processor"),
    };
    let has = |kind| report.lines.iter().any(|line| line.kind == kind);
    if has(Kind::Floor) {
        out.push_str(
            "floor: copying as many tree nodes and making as many mappings, nothing else\n",
        );
    }
    if has(Kind::Kernel) {
        out.push_str(
            "this kernel: fork, _exit and waitpid of a process with the same mappings; does \
             more: a task,\n  page tables, descriptors and scheduling\n",
        );
    }
    if has(Kind::Published) {
        out.push_str(
            "published: fork, exit and wait of whole processes, October 2023; compare the \
             slopes, not the\n  figures\n",
        );
    }
    for note in &report.notes {
        let _ = writeln!(out, "{note}");
    }
}

fn checks(out: &mut String, report: &Report) {
    for failure in &report.failures {
        let _ = writeln!(out, "CHECK FAILED: {failure}");
    }
    let passed = report.checks_passed;
    let all = passed + report.failures.len();
    let _ = writeln!(
        out,
        "checks: {passed} of {all} passed (parent and child: maps text, invariants, counters, \
         contents; nothing left over)"
    );
}

/// Three significant digits.
fn short(value: f64) -> String {
    let (value, unit) = match value {
        value if value >= 999_500.0 => (value / 1e6, "M"),
        value if value >= 999.5 => (value / 1e3, "k"),
        value => (value, ""),
    };
    let digits = match value {
        value if value >= 99.95 => 0,
        value if value >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$}{unit}")
}

/// With a comma between thousands.
pub(crate) fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0.00"),
            (1.234, "1.23"),
            (9.999, "10.0"),
            (56.78, "56.8"),
            (99.97, "100"),
            (393.0, "393"),
            (999.7, "1.00k"),
            (112_100.0, "112k"),
            (999_700.0, "1.00M"),
            (12_345_678.0, "12.3M"),
        ] {
            assert_eq!(short(value), text);
        }
        assert_eq!(grouped(21), "21");
        assert_eq!(grouped(821), "821");
        assert_eq!(grouped(1_000_000), "1,000,000");
    }
}
