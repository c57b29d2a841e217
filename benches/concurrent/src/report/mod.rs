//! What is made of the numbers: tables, what was claimed, JSON.

mod claims;
mod json;
mod table;

use crate::measure::Spread;
use crate::runner::Cell;
use crate::work::{Better, Figure, Version, Work};
use benchkit::digits;

pub(crate) use claims::claims;
pub(crate) use json::document;
pub(crate) use table::table;

/// The cells of a run.
#[derive(Clone, Copy)]
struct Cells<'c>(&'c [Cell]);

impl<'c> Cells<'c> {
    fn rounds(self, (work, figure): (Work, Figure), at: (u16, Version)) -> Option<&'c [f64]> {
        let is_it = |cell: &&Cell| {
            (cell.work, cell.figure) == (work, figure) && (cell.threads, cell.version) == at
        };
        Some(&self.0.iter().find(is_it)?.rounds)
    }

    fn spread(self, what: (Work, Figure), at: (u16, Version)) -> Option<Spread> {
        Spread::of(self.rounds(what, at)?)
    }

    /// How many times as good the first is as the second, round by round; rounds in which one of
    /// them is nothing aside.
    fn ratio(self, what: (Work, Figure), [a, b]: [(u16, Version); 2]) -> Option<Spread> {
        let (a, b) = (self.rounds(what, a)?, self.rounds(what, b)?);
        let each = a.iter().zip(b).map(|(a, b)| match what.1.better() {
            Better::More => a / b,
            Better::Less => b / a,
        });
        let each: Vec<f64> = each.filter(|ratio| ratio.is_normal()).collect();
        Spread::of(&each)
    }

    fn threads(self) -> Vec<u16> {
        let mut threads: Vec<u16> = self.0.iter().map(|cell| cell.threads).collect();
        threads.sort_unstable();
        threads.dedup();
        threads
    }
}

/// A median, and between what half of the rounds lie.
fn shown(spread: Option<Spread>) -> String {
    let Some(spread) = spread else {
        return "-".to_owned();
    };
    let [median, low, high] = [spread.median, spread.low, spread.high].map(digits);
    format!("{median} ({low}..{high})")
}
