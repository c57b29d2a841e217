//! What is made of the numbers: tables to read, JSON, and the targets.

mod json;
mod table;
mod targets;

use crate::kinds::is_ours;
use crate::runner::Cell;
use crate::work::Work;

pub(crate) use json::document;
pub(crate) use table::table;
pub(crate) use targets::{targets, wanted, works};

/// Whether a column is Linux's own tree.
fn is_linux(name: &str) -> bool {
    name == "C" || name.starts_with("C ")
}

/// The median of `structure` at `work`, of cells of one table.
fn median(cells: &[&Cell], work: Work, structure: &str) -> Option<f64> {
    let mut of = cells.iter().filter(|cell| cell.work == work);
    let cell = of.find(|cell| cell.structure == structure)?;
    cell.spread.map(|spread| spread.median)
}

/// As [`median`], to be held against Linux's tree: there memory is that of the nodes, without what the
/// slab around them adds, so of ours it is what the tree accounts for itself.
fn median_as_linux(cells: &[&Cell], work: Work, structure: &str) -> Option<f64> {
    let mut of = cells.iter().filter(|cell| cell.work == work);
    let cell = of.find(|cell| cell.structure == structure)?;
    cell.own_account.or(cell.spread.map(|spread| spread.median))
}

/// The structure in Rust that does `work` best and is not ours, and its median.
fn best_peer(cells: &[&Cell], work: Work) -> Option<(&'static str, f64)> {
    cells
        .iter()
        .filter(|cell| cell.work == work)
        .filter(|cell| !is_ours(cell.structure) && !is_linux(cell.structure))
        .filter_map(|cell| Some((cell.structure, cell.spread?.median)))
        .max_by(|a, b| work.ratio(a.1, b.1).total_cmp(&1.0))
}
