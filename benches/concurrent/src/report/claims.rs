//! What was to be reached, on two processors.

use super::{Cells, shown};
use crate::measure::{Spread, longest};
use crate::runner::Cell;
use crate::work::{Figure, Version, Work};
use benchkit::digits;
use std::fmt::Write;

/// Two threads against one.
const SCALING: f64 = 1.8;

/// Of how many times as much two address spaces do with two threads, where that is less.
const OF_TWO_SPACES: f64 = 0.95;

/// Look-ups beside a mapper, against those with a lock.
const LOOKUPS: f64 = 3.0;

/// Each claim, and whether it was reached.
pub(crate) fn claims(cells: &[Cell]) -> String {
    let cells = Cells(cells);
    let mut text = String::new();
    let lines = [faults(cells), lookups(cells), texts(cells)];
    let lines: Vec<String> = lines.into_iter().flatten().collect();
    if lines.is_empty() {
        return text;
    }
    let _ = writeln!(text, "| claim | found | |\n|---|---|---|");
    for line in lines {
        let _ = writeln!(text, "{line}");
    }
    text
}

fn faults(cells: Cells<'_>) -> Option<String> {
    let what = (Work::FaultsApart, Figure::Rate);
    let (two, one) = ((2, Version::Shared), (1, Version::Shared));
    let scaling = cells.ratio(what, [two, one])?;
    let hardware = cells.ratio(what, [(2, Version::Own), (1, Version::Own)])?;
    let of_it = scaling.median / hardware.median;
    let is_reached = scaling.median >= SCALING || of_it >= OF_TWO_SPACES;
    Some(format!(
        "| two threads fault {SCALING} times what one does, or {OF_TWO_SPACES} of how many times as \
         much two address spaces do | {} times; two address spaces {} times; {} of that | {} |",
        shown(Some(scaling)),
        shown(Some(hardware)),
        digits(of_it),
        reached(is_reached)
    ))
}

fn lookups(cells: Cells<'_>) -> Option<String> {
    let what = (Work::Lookups, Figure::Rate);
    let ratio = |&threads: &u16| {
        cells.ratio(
            what,
            [(threads, Version::Shared), (threads, Version::Locked)],
        )
    };
    let threads = cells.threads();
    let found: Option<Vec<Spread>> = threads.iter().map(ratio).collect();
    let found = found?;
    let is_reached = found.iter().all(|ratio| ratio.median >= LOOKUPS);
    let each = threads.iter().zip(found);
    let each: Vec<String> = each
        .map(|(threads, ratio)| format!("{} ({threads})", digits(ratio.median)))
        .collect();
    Some(format!(
        "| look-ups beside a mapper {LOOKUPS} times those with a `RwLock` (threads) | {} | {} |",
        each.join(", "),
        reached(is_reached)
    ))
}

/// The longest of all times that the mapper waited counts, and of a snapshot the median: whoever
/// is taken off its processor takes as long as one likes.
fn texts(cells: Cells<'_>) -> Option<String> {
    let longest_wait = |threads: u16, version| {
        let what = (Work::Texts, Figure::LongestWait);
        cells.rounds(what, (threads, version)).map(longest)
    };
    let each = cells.threads().into_iter();
    let each = each.map(|threads| {
        let wait = longest_wait(threads, Version::Shared)?;
        let moment = (Work::Texts, Figure::MomentTime);
        let moment = cells.spread(moment, (threads, Version::Shared))?.median;
        let with_lock = longest_wait(threads, Version::Locked)?;
        let [shown, lock] = [wait, with_lock].map(digits);
        let text = format!("{shown} against {} ({threads}; {lock})", digits(moment));
        Some((wait <= moment, text))
    });
    let (are_reached, texts): (Vec<bool>, Vec<String>) =
        each.collect::<Option<Vec<_>>>()?.into_iter().unzip();
    Some(format!(
        "| a maps reader holds the mapper up no longer than a snapshot takes, µs (threads; with a \
         `RwLock`) | {} | {} |",
        texts.join(", "),
        reached(are_reached.into_iter().all(|is_reached| is_reached))
    ))
}

const fn reached(is_reached: bool) -> &'static str {
    if is_reached { "reached" } else { "**missed**" }
}
