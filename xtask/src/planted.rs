//! Plants one mistake after another in the model and expects `samara trace`, `samara torture` or
//! `samara stress` to find each.

use crate::cargo::with_cfgs;
use crate::ci::{Checked, Outcome};
use crate::programs::path_of;
use crate::run::{command, run, succeed, target};
use std::fmt::Write as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// A mistake by its name, a program that meets the rule, and the call that must be named.
struct Mistake {
    name: &'static str,
    program: &'static str,
    call: &'static str,
}

const MISTAKES: &[Mistake] = &[
    Mistake {
        name: "merge",
        program: "merges",
        call: "mmap(",
    },
    Mistake {
        name: "gap",
        program: "merges",
        call: "mmap(",
    },
    Mistake {
        name: "errno",
        program: "refusals",
        call: "munmap(",
    },
];

/// What compiles the mistakes in.
const CFGS: &[&str] = &["planted_mistakes"];

/// With the features that all tests are built with, so that dependencies are shared.
const TESTS: [&str; 3] = ["test", "--workspace", "--all-features"];

/// The tracer, and the test binary that holds the programs to trace.
struct Built {
    samara: String,
    programs: String,
}

/// Each mistake makes the trace diverge, and the verdict names the call; without a mistake the same
/// program is identical, so the mistake is what was found.
pub(crate) fn all() -> Checked {
    let built = build()?;
    for mistake in MISTAKES {
        traced(&built, mistake.program, &[], 0)?;
        let plant = ["--plant", mistake.name];
        let verdict = traced(&built, mistake.program, &plant, 1)?;
        if !divergence(&verdict).starts_with(mistake.call) {
            let name = mistake.name;
            return Err(format!(
                "{name}: the divergence does not name `{}…)`",
                mistake.call
            ));
        }
    }
    models_own_test()?;
    tortured(&built)?;
    stressed(&built)
}

/// Each mistake that only threads notice is found by them, and without one all holds.
fn stressed(built: &Built) -> Checked {
    let none = ["stress", "--seconds", "5"];
    succeed(&mut command(&built.samara, &none))?;
    let listed = run(&mut command(&built.samara, &["stress", "--plant", "list"]))?;
    let mut table = String::new();
    for line in listed.stdout.lines() {
        let (name, _) = line.split_once(' ').ok_or("a mistake without a rule")?;
        let arguments = ["stress", "--plant", name, "--seconds", PATIENCE];
        let ran = run(&mut command(&built.samara, &arguments))?;
        if ran.status.code() != Some(1) {
            return Err(format!("{name} is not found in {PATIENCE} seconds"));
        }
        let row = |title: &str| row_of(&ran.stderr, title).to_owned();
        let (found, time) = (row("verdict"), row("time"));
        let _ = writeln!(table, "{name:<18} {time:>7}  {found}");
    }
    print!("{table}");
    let found = table.lines().count();
    if found < 3 {
        return Err(format!(
            "there are only {found} mistakes to plant beside threads"
        ));
    }
    Ok(Outcome::Passed)
}

/// The longest that torture or stress may look for a mistake, in seconds.
const PATIENCE: &str = "60";

/// Each mistake is found by torture with one seed, and without a mistake the same is identical.
fn tortured(built: &Built) -> Checked {
    let listed = run(&mut command(&built.samara, &["torture", "--plant", "list"]))?;
    let none = ["torture", "--seed", "1", "--calls", "20000"];
    succeed(&mut command(&built.samara, &none))?;
    let mistakes: Vec<_> = listed.stdout.lines().collect();
    let rows = two_at_a_time(&mistakes, |line| {
        let (name, rule) = line.split_once(' ').ok_or("a mistake without a rule")?;
        found_by_torture(built, name, rule)
    })?;
    print!("{}", rows.concat());
    if rows.len() < 25 {
        let found = rows.len();
        return Err(format!("there are only {found} mistakes to plant"));
    }
    Ok(Outcome::Passed)
}

/// What `find` returns for each item, in their order, or the first error.
fn two_at_a_time<I: Sync, T: Send>(
    items: &[I],
    find: impl Fn(&I) -> Result<T, String> + Sync,
) -> Result<Vec<T>, String> {
    let next = AtomicUsize::new(0);
    let (next, find) = (&next, &find);
    let take = || {
        let at = || next.fetch_add(1, Ordering::Relaxed);
        let taken = std::iter::repeat_with(at).map_while(|at| Some((at, items.get(at)?)));
        taken
            .map(|(at, item)| Ok((at, find(item)?)))
            .collect::<Result<Vec<_>, String>>()
    };
    let both = thread::scope(|scope| {
        let other = scope.spawn(take);
        [take(), other.join().expect("no check panics")]
    });
    let [first, second] = both;
    let mut all = first?;
    all.extend(second?);
    all.sort_by_key(|(at, _)| *at);
    Ok(all.into_iter().map(|(_, found)| found).collect())
}

/// A line that says how long it took, and what was found.
fn found_by_torture(built: &Built, name: &str, rule: &str) -> Result<String, String> {
    let trace = path_of(&target().join(format!("planted-{name}.trace")));
    let arguments = [
        "torture",
        "--plant",
        name,
        "--seed",
        "1",
        "--seconds",
        PATIENCE,
        "--save",
        &trace,
    ];
    let ran = run(&mut command(&built.samara, &arguments))?;
    if ran.status.code() != Some(1) {
        return Err(format!(
            "{name} ({rule}) is not found in {PATIENCE} seconds"
        ));
    }
    // What was kept is what the kernel did: only the mistaken model says something else.
    let replays = [(&["--plant", name][..], 1), (&[], 0)];
    for (plant, expected) in replays {
        let arguments = [&["replay", &trace], plant].concat();
        let replayed = run(&mut command(&built.samara, &arguments))?;
        if replayed.status.code() != Some(expected) {
            return Err(format!("{name}: the trace kept does not show it"));
        }
    }
    let row = |title: &str| row_of(&ran.stderr, title).to_owned();
    let (found, time) = (row("verdict"), row("time"));
    Ok(format!("{name:<18} {rule:<10} {time:>7}  {found}\n"))
}

/// What a verdict says behind a title.
fn row_of<'a>(verdict: &'a str, title: &str) -> &'a str {
    let mut rows = verdict
        .lines()
        .filter_map(|line| line.trim().strip_prefix(title));
    rows.next().unwrap_or_default().trim()
}

/// The test that `maple-mm` has of its planted mistakes.
fn models_own_test() -> Checked {
    let arguments = [&TESTS[..], &["--test=planted"]].concat();
    succeed(&mut with_cfgs(CFGS, &arguments)?)?;
    Ok(Outcome::Passed)
}

/// Builds with the mistakes that can be planted, and asks cargo where the binaries are.
fn build() -> Result<Built, String> {
    let own = ["--test=own_programs", "--no-run", "--message-format=json"];
    let mut cargo = with_cfgs(CFGS, &[&TESTS[..], &own].concat())?;
    let built = cargo
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| error.to_string())?;
    let messages = String::from_utf8_lossy(&built.stdout);
    let named = |name: &str| {
        let mut found = messages.split("\"executable\":\"").skip(1);
        let path = found.find_map(|rest| rest.split('"').next().filter(|path| path.contains(name)));
        path.map(str::to_owned)
            .ok_or_else(|| format!("cargo built no `{name}`"))
    };
    Ok(Built {
        samara: named("/debug/samara")?,
        programs: named("/own_programs-")?,
    })
}

/// Traces a program, expects the exit status, and returns the verdict.
fn traced(built: &Built, program: &str, plant: &[&str], expected: i32) -> Result<String, String> {
    let arguments = [&["trace"], plant, &["--", &built.programs, program]].concat();
    let ran = run(&mut command(&built.samara, &arguments))?;
    match ran.status.code() {
        Some(code) if code == expected => Ok(ran.stderr),
        _ => Err(format!(
            "`samara {}`: expected exit status {expected}, got {}",
            arguments.join(" "),
            ran.status
        )),
    }
}

/// The call of the first divergence: the line behind the one that announces it.
fn divergence(verdict: &str) -> &str {
    let announced = verdict.split("first divergence").nth(1);
    announced
        .and_then(|rest| rest.lines().nth(1))
        .unwrap_or_default()
        .trim_start()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_is_on_the_line_behind_the_announcement() {
        let verdict =
            "first divergence, at comparison 7, process 1:\n  mmap(0x1000)\n    predicted";
        assert_eq!(divergence(verdict), "mmap(0x1000)");
        assert_eq!(divergence("identical at all 3 comparisons"), "");
    }

    #[test]
    fn a_row_is_found_by_its_title() {
        let verdict = "samara: torture\n  time           1.5 s\n  verdict        DIVERGED\n";
        assert_eq!(row_of(verdict, "time"), "1.5 s");
        assert_eq!(row_of(verdict, "verdict"), "DIVERGED");
        assert_eq!(row_of(verdict, "speed"), "");
    }
}
