//! Runs a piece of work in all versions, in turn, for several rounds.

use crate::args::Args;
use crate::work::{Figure, Version, Work};
use crate::works;

/// The rounds of one number of the table.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Cell {
    pub(crate) work: Work,
    pub(crate) figure: Figure,
    pub(crate) threads: u16,
    pub(crate) version: Version,
    pub(crate) rounds: Vec<f64>,
}

/// Measures `work`: versions and numbers of threads take turns, so that a noisy minute is shared
/// by all, and who begins changes from round to round.
pub(crate) fn run(work: Work, args: &Args) -> anyhow::Result<Vec<Cell>> {
    let effort = args.effort();
    let most = args.threads.iter().copied().max().unwrap_or(1);
    let make = |version| {
        let subject = works::subject((work, version), most.into(), &effort)?;
        Ok((version, subject))
    };
    let subjects = args.versions().into_iter().map(make);
    let mut subjects: Vec<_> = subjects.collect::<anyhow::Result<_>>()?;
    let mut cells = Vec::new();
    // The first round warms up.
    for round in 0..=effort.rounds(work) {
        for &threads in &args.threads {
            for (version, subject) in &mut subjects {
                let failed = |why| anyhow::anyhow!("{}, {version:?}: {why}", work.title());
                let figures = subject.turn(threads.into()).map_err(failed)?;
                for (figure, number) in figures.into_iter().filter(|_| round > 0) {
                    note(&mut cells, (work, figure, threads, *version), number);
                }
            }
        }
        subjects.rotate_left(1);
    }
    Ok(cells)
}

fn note(
    cells: &mut Vec<Cell>,
    (work, figure, threads, version): (Work, Figure, u16, Version),
    number: f64,
) {
    let is_it =
        |cell: &&mut Cell| (cell.figure, cell.threads, cell.version) == (figure, threads, version);
    if let Some(cell) = cells.iter_mut().find(is_it) {
        cell.rounds.push(number);
        return;
    }
    cells.push(Cell {
        work,
        figure,
        threads,
        version,
        rounds: vec![number],
    });
}
