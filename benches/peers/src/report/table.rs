//! Tables for the eye: the numbers, and below them how often ours go into the others'.

use super::{best_peer, is_linux, median, median_as_linux};
use crate::kinds::is_ours;
use crate::runner::Cell;
use crate::work::Work;
use benchkit::digits;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use std::fmt::Write;

/// Both tables and their footnotes, of cells of one data set, size and age.
pub(crate) fn table(cells: &[Cell]) -> String {
    let Some(one) = cells.first() else {
        return "nothing was measured".to_owned();
    };
    let cells: Vec<&Cell> = cells.iter().collect();
    let mut text = format!(
        "\nN = {}, {} data, {}: median of the rounds, below it least..most\n",
        one.n,
        one.data.name(),
        one.age.name()
    );
    let mut notes = Vec::new();
    let _ = writeln!(text, "{}", numbers(&cells, &mut notes));
    for (number, note) in notes.iter().enumerate() {
        let _ = writeln!(text, "  [{}] {note}", number + 1);
    }
    let ratios = ratios(&cells);
    if ratios.row_count() > 0 {
        let _ = writeln!(
            text,
            "\nHow many times better (above 1 ours is better):\n{ratios}"
        );
    }
    text
}

fn empty(heading: Vec<String>) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::ASCII_BORDERS_ONLY_CONDENSED)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(heading);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The structures and the pieces of work, each once, in order of appearance.
fn axes(cells: &[&Cell]) -> (Vec<&'static str>, Vec<Work>) {
    let mut structures = Vec::new();
    let mut works = Vec::new();
    for cell in cells {
        if !structures.contains(&cell.structure) {
            structures.push(cell.structure);
        }
        if !works.contains(&cell.work) {
            works.push(cell.work);
        }
    }
    works.sort_by_key(|work| Work::ALL.iter().position(|other| other == work));
    (structures, works)
}

fn numbers(cells: &[&Cell], notes: &mut Vec<&'static str>) -> Table {
    let (structures, works) = axes(cells);
    let heading = ["work", "unit"].iter().chain(&structures);
    let mut table = empty(heading.map(|&name| name.to_owned()).collect());
    for work in works {
        let mut row = vec![work.title().to_owned(), work.unit().to_owned()];
        for &structure in &structures {
            let mut of = cells.iter().filter(|cell| cell.work == work);
            let cell = of.find(|cell| cell.structure == structure);
            row.push(cell.map_or_else(|| "-".to_owned(), |cell| shown(cell, notes)));
        }
        table.add_row(row);
    }
    table
}

fn shown(cell: &Cell, notes: &mut Vec<&'static str>) -> String {
    if let Some(spread) = cell.spread {
        if let Some(own) = cell.own_account {
            return format!("{}\nown: {}", digits(spread.median), digits(own));
        }
        if cell.rounds.len() < 2 {
            return digits(spread.median);
        }
        let [median, min, max] = [spread.median, spread.min, spread.max].map(digits);
        return format!("{median}\n{min}..{max}");
    }
    let Some(why_not) = cell.why_not else {
        return "-".to_owned();
    };
    let at = notes.iter().position(|&note| note == why_not);
    let at = at.unwrap_or_else(|| {
        notes.push(why_not);
        notes.len() - 1
    });
    format!("- [{}]", at + 1)
}

/// The column of Linux's tree that a face of ours is compared with.
pub(super) fn counterpart(ours: &str) -> &'static str {
    match ours {
        "maple gaps" => "C gaps",
        "maple rcu" => "C rcu",
        _ => "C",
    }
}

fn ratios(cells: &[&Cell]) -> Table {
    let (structures, works) = axes(cells);
    let ours: Vec<_> = structures.iter().filter(|name| is_ours(name)).collect();
    let with_linux = structures.iter().any(|name| is_linux(name));
    let mut heading = vec!["work".to_owned(), "best peer".to_owned()];
    for face in &ours {
        heading.push(face.to_string());
        if with_linux {
            heading.push(format!("{face} / {}", counterpart(face)));
        }
    }
    let mut table = empty(heading);
    for work in works {
        let peer = best_peer(cells, work);
        let mut row = vec![work.title().to_owned()];
        row.push(peer.map_or("-", |(name, _)| name).to_owned());
        for face in &ours {
            let own = median(cells, work, face);
            let against = |own, theirs| match (own, theirs) {
                (Some(own), Some(theirs)) => digits(work.ratio(own, theirs)),
                _ => "-".to_owned(),
            };
            row.push(against(own, peer.map(|(_, median)| median)));
            if with_linux {
                let theirs = median(cells, work, counterpart(face));
                row.push(against(median_as_linux(cells, work, face), theirs));
            }
        }
        table.add_row(row);
    }
    table
}
