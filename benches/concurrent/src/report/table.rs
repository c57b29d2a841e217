//! Tables in Markdown.

use super::{Cells, shown};
use crate::runner::Cell;
use crate::work::{Figure, Version, Work};
use benchkit::digits;
use std::fmt::Write;

const FIGURES: [Figure; 9] = [
    Figure::Rate,
    Figure::TextTime,
    Figure::MomentTime,
    Figure::LongestMoment,
    Figure::MapperCalls,
    Figure::CallTime,
    Figure::Wait,
    Figure::LongestWait,
    Figure::CallsThatWaited,
];

/// The figures of one piece of work.
pub(crate) fn table(work: Work, cells: &[Cell]) -> String {
    let cells = Cells(cells);
    let mut text = format!(
        "### {}\n\n\
         | | threads | shared | RwLock | own each | shared : RwLock | shared : own each |\n\
         |---|--:|--:|--:|--:|--:|--:|\n",
        capital(work.title()),
    );
    for figure in FIGURES {
        for threads in cells.threads() {
            row(&mut text, cells, (work, figure), threads);
        }
    }
    if has_scaling(work) {
        scaling(&mut text, cells, work);
    }
    text
}

fn row(text: &mut String, cells: Cells<'_>, what: (Work, Figure), threads: u16) {
    let medians = [Version::Shared, Version::Locked, Version::Own]
        .map(|version| cells.spread(what, (threads, version)));
    if medians.iter().all(Option::is_none) {
        return;
    }
    let [shared, locked, own] =
        medians.map(|found| found.map_or_else(|| "-".to_owned(), |found| digits(found.median)));
    let against = |other| cells.ratio(what, [(threads, Version::Shared), (threads, other)]);
    let ratios = [Version::Locked, Version::Own].map(|other| shown(against(other)));
    let [to_locked, to_own] = ratios;
    let title = what.1.title();
    let _ = writeln!(
        text,
        "| {title} | {threads} | {shared} | {locked} | {own} | {to_locked} | {to_own} |"
    );
}

/// Whether more threads do more of it; beside a mapper that says nothing.
const fn has_scaling(work: Work) -> bool {
    !matches!(work, Work::Lookups | Work::Checks | Work::Texts)
}

fn scaling(text: &mut String, cells: Cells<'_>, work: Work) {
    let threads = cells.threads();
    let more = threads.iter().filter(|&&threads| threads > 1);
    if !threads.contains(&1) {
        return;
    }
    for &threads in more {
        let of = |version| {
            let what = (work, Figure::Rate);
            shown(cells.ratio(what, [(threads, version), (1, version)]))
        };
        let [shared, locked, own] = [Version::Shared, Version::Locked, Version::Own].map(of);
        let _ = writeln!(
            text,
            "| times one thread | {threads} | {shared} | {locked} | {own} | | |"
        );
    }
}

fn capital(title: &str) -> String {
    let mut letters = title.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}
