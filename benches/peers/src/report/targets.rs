//! The targets, and whether the numbers reach them, as Markdown.

use super::table::counterpart;
use super::{best_peer, is_linux, median, median_as_linux};
use crate::args::Args;
use crate::data::Data;
use crate::fixture::Age;
use crate::runner::Cell;
use crate::work::Work;
use benchkit::digits;
use std::fmt::Write;

/// The size that the targets are stated for.
const SIZE: usize = 51_221;
/// Where the same ratios have to hold within a third.
const LARGE: usize = 1_000_000;
/// Where nothing may be slower than the better of Linux's tree and `BTreeMap` by more than a fifth.
const SMALL: [usize; 2] = [21, 1_000];

/// What ours is held against.
#[derive(Clone, Copy)]
enum Theirs {
    /// This column at this work.
    Column(&'static str, Work),
    /// The best structure in Rust at the same work.
    BestPeer,
    /// So many nanoseconds.
    Nanos(f64),
}

/// One promise: at `work`, `face` is at least `least` times as good as `theirs`.
#[derive(Clone, Copy)]
struct Target {
    face: &'static str,
    work: Work,
    age: Age,
    theirs: Theirs,
    least: f64,
}

/// Against a column of Linux's tree, and against the best peer, at the same work.
fn pair(face: &'static str, work: Work, linux: f64, peer: f64) -> [Target; 2] {
    let column = Theirs::Column(counterpart(face), work);
    [
        aged(face, work, column, linux),
        aged(face, work, Theirs::BestPeer, peer),
    ]
}

const fn aged(face: &'static str, work: Work, theirs: Theirs, least: f64) -> Target {
    Target {
        face,
        work,
        age: Age::Aged,
        theirs,
        least,
    }
}

const fn fresh(target: Target) -> Target {
    Target {
        age: Age::Ascending,
        ..target
    }
}

/// All of them, in the order of the table that states them.
fn all() -> Vec<Target> {
    let [plain, gaps, rcu] = ["maple", "maple gaps", "maple rcu"];
    let pairs = [
        pair(plain, Work::Lookup, 3.0, 3.0),
        pair(plain, Work::LookupDependent, 1.2, 1.2),
        pair(plain, Work::Next, 4.0, 1.0),
        pair(plain, Work::ForEach, 8.0, 2.0),
        pair(plain, Work::Build, 1.5, 1.0),
        pair(plain, Work::Bulk, 4.0, 3.0),
        pair(plain, Work::EraseRestore, 1.3, 1.0),
        pair(plain, Work::Overwrite, 1.3, 1.0),
        pair(gaps, Work::LowestGap, 1.0, 300.0),
        pair(gaps, Work::HighestGap, 1.0, 300.0),
        pair(plain, Work::Duplicate, 1.5, 3.0).map(fresh),
        pair(plain, Work::Duplicate, 2.0, 3.0),
        pair(plain, Work::DuplicateArc, 0.5, 1.5),
        pair(plain, Work::Bytes, 1.0, 1.0).map(fresh),
        pair(plain, Work::Bytes, 1.0, 1.0),
    ];
    let mut targets: Vec<Target> = pairs.into_iter().flatten().collect();
    let beside = |work| Theirs::Column("BTreeMap", work);
    let linux = |work| Theirs::Column("C rcu", work);
    targets.extend([
        aged(rcu, Work::EraseRestore, linux(Work::EraseRestore), 1.0),
        aged(rcu, Work::Overwrite, linux(Work::Overwrite), 1.0),
        aged(rcu, Work::BesideWrites, beside(Work::BesideWrites), 2.0),
        aged(rcu, Work::BesideReads, beside(Work::BesideReads), 2.0),
        aged(plain, Work::Snapshot, Theirs::Nanos(50.0), 1.0),
        aged(plain, Work::Snapshot, Theirs::BestPeer, 1.0),
        aged(
            plain,
            Work::FirstWrite,
            Theirs::Column("C", Work::Overwrite),
            1.0 / 1.3,
        ),
        aged(plain, Work::FirstWrite, Theirs::BestPeer, 1.0),
    ]);
    targets
}

/// The options with what the targets need filled in where the user left it open.
pub(crate) fn wanted(mut args: Args) -> Args {
    if args.n.is_empty() {
        args.n = vec![SIZE, SMALL[0], SMALL[1], LARGE];
    }
    if args.data.is_empty() {
        args.data = vec![Data::Real, Data::Alternating];
    }
    args
}

/// Which pieces of work are done on a table of this size and age: what was chosen, and of that for
/// the targets only what one of them speaks of.
pub(crate) fn works(args: &Args, n: usize, age: Age) -> Vec<Work> {
    let small = SMALL.contains(&n);
    let needed = |work: &&Work| {
        !args.targets
            || (small && age == Age::Aged)
            || (!small && all().iter().any(|one| needs(one, **work) && one.age == age))
    };
    args.work.iter().filter(needed).copied().collect()
}

fn needs(target: &Target, work: Work) -> bool {
    let other = match target.theirs {
        Theirs::Column(_, work) => Some(work),
        Theirs::BestPeer | Theirs::Nanos(_) => None,
    };
    target.work == work || other == Some(work)
}

/// Every table of targets that the numbers allow.
pub(crate) fn targets(cells: &[Cell]) -> String {
    let mut text = String::new();
    let mut sizes: Vec<usize> = cells.iter().map(|cell| cell.n).collect();
    sizes.dedup();
    for n in sizes {
        for data in Data::ALL {
            let of = |cell: &&Cell| cell.n == n && cell.data == data;
            let cells: Vec<&Cell> = cells.iter().filter(of).collect();
            if cells.is_empty() {
                continue;
            }
            let _ = writeln!(text, "\n### N = {n}, {} data\n", data.name());
            if SMALL.contains(&n) {
                text += &small(&cells);
            } else {
                text += &large(&cells, if n == LARGE { 2.0 / 3.0 } else { 1.0 });
            }
        }
    }
    text
}

/// The targets, each ratio times `ease`.
fn large(cells: &[&Cell], ease: f64) -> String {
    let mut text = String::from(
        "| work | age | ours | against | theirs | times as good | target | |\n\
         |---|---|--:|---|--:|--:|--:|---|\n",
    );
    for target in all() {
        let of_age = |cell: &&&Cell| cell.age == target.age;
        let cells: Vec<&Cell> = cells.iter().filter(of_age).copied().collect();
        // A number of nanoseconds is the same for every size.
        let ease = if matches!(target.theirs, Theirs::Nanos(_)) {
            1.0
        } else {
            ease
        };
        text += &line(
            &cells,
            Target {
                least: target.least * ease,
                ..target
            },
        );
    }
    text
}

fn line(cells: &[&Cell], target: Target) -> String {
    let is_beside_linux = matches!(target.theirs, Theirs::Column(name, _) if is_linux(name));
    let median_of_ours = if is_beside_linux {
        median_as_linux
    } else {
        median
    };
    let ours = median_of_ours(cells, target.work, target.face);
    let (name, theirs) = match target.theirs {
        Theirs::Column(name, work) => {
            let other = if work == target.work {
                String::new()
            } else {
                format!(", {}", work.title())
            };
            (format!("{name}{other}"), median(cells, work, name))
        }
        Theirs::BestPeer => match best_peer(cells, target.work) {
            Some((name, median)) => (name.to_owned(), Some(median)),
            None => ("best peer".to_owned(), None),
        },
        Theirs::Nanos(nanos) => ("a limit".to_owned(), Some(nanos)),
    };
    let compared = Compared {
        title: format!("{}, {}", target.work.title(), target.face),
        age: target.age,
        work: target.work,
        ours,
        theirs,
        name,
        least: target.least,
    };
    compared.line()
}

/// One line of a table of targets.
struct Compared {
    title: String,
    age: Age,
    work: Work,
    ours: Option<f64>,
    name: String,
    theirs: Option<f64>,
    least: f64,
}

impl Compared {
    fn line(&self) -> String {
        let ratio = match (self.ours, self.theirs) {
            (Some(ours), Some(theirs)) => Some(self.work.ratio(ours, theirs)),
            _ => None,
        };
        let verdict = match ratio {
            Some(ratio) if ratio >= self.least => "reached",
            Some(_) => "**missed**",
            None => "not measured",
        };
        let shown = |number: Option<f64>| number.map_or_else(|| "-".to_owned(), digits);
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {verdict} |\n",
            self.title,
            self.age.name(),
            shown(self.ours),
            self.name,
            shown(self.theirs),
            shown(ratio),
            digits(self.least),
        )
    }
}

/// Every work at which ours has a counterpart, against the better of Linux's tree and `BTreeMap`.
fn small(cells: &[&Cell]) -> String {
    let mut text = String::from(
        "| work | age | ours | against | theirs | times as good | at least | |\n\
         |---|---|--:|---|--:|--:|--:|---|\n",
    );
    let times = Work::ALL
        .into_iter()
        .filter(|work| !work.is_rate() && *work != Work::Bytes);
    for work in times {
        let face = match work {
            Work::LowestGap | Work::HighestGap => "maple gaps",
            _ => "maple",
        };
        let rivals = ["BTreeMap", counterpart(face)];
        let rivals = rivals.map(|name| Some((name, median(cells, work, name)?)));
        let best = rivals
            .into_iter()
            .flatten()
            .min_by(|a, b| a.1.total_cmp(&b.1));
        let Some((name, theirs)) = best else { continue };
        let compared = Compared {
            title: format!("{}, {face}", work.title()),
            age: Age::Aged,
            work,
            ours: median(cells, work, face),
            name: name.to_owned(),
            theirs: Some(theirs),
            least: 1.0 / 1.2,
        };
        text += &compared.line();
    }
    text
}
