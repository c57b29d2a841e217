//! The command line.

use crate::work::{Version, Work};
use clap::Parser;
use std::path::PathBuf;
use std::time::Duration;

/// One address space used by many threads, beside the same behind one lock, in one run.
///
/// Three versions take turns, round after round: `shared` is a `SharedAddressSpace`; `RwLock` is the
/// same `AddressSpace` behind one `parking_lot::RwLock`; `own each` is a `SharedAddressSpace` with
/// memory of its own for each thread, which is what the hardware gives. A figure is the median of
/// the rounds; a ratio is that of two turns of one round, the median of those, and between which
/// numbers half of them lie. Times are wall time.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Args {
    /// How many threads
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8", value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) threads: Vec<u16>,

    /// Which pieces of work [default: all]
    #[arg(long, value_delimiter = ',', value_enum)]
    work: Vec<Work>,

    /// Which versions [default: all]
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Version>,

    /// A few seconds in all, to see that everything works; the numbers are coarse
    #[arg(long)]
    quick: bool,

    /// How often the versions take turns, with faults, whose turns are short, eight times as often
    /// [default: 21; with --quick 2]
    #[arg(long)]
    rounds: Option<usize>,

    /// How long a turn takes, in milliseconds; those of texts ten times as long, those of faults as
    /// long as --pages take [default: 20; with --quick 2]
    #[arg(long, value_name = "MILLISECONDS")]
    turn: Option<u64>,

    /// How many pages each thread faults in a turn [default: 2048; with --quick 64]
    #[arg(long)]
    pages: Option<u64>,

    /// How many mappings there are where threads look [default: 1000; with --quick 100]
    #[arg(long)]
    mappings: Option<u64>,

    /// How many mappings a maps text has [default: 51221; with --quick 500]
    #[arg(long)]
    lines: Option<u64>,

    /// Writes every number, round by round, to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    rounds: usize,
    pub(crate) turn: Duration,
    /// What each thread faults in a turn.
    pub(crate) pages: u64,
    /// Where threads look.
    pub(crate) mappings: u64,
    /// Of a maps text.
    pub(crate) lines: u64,
}

impl Effort {
    pub(crate) const fn rounds(&self, work: Work) -> usize {
        match work.is_faults() {
            true => self.rounds * 8,
            false => self.rounds,
        }
    }
}

impl Args {
    pub(crate) fn works(&self) -> Vec<Work> {
        match self.work.is_empty() {
            true => Work::ALL.to_vec(),
            false => self.work.clone(),
        }
    }

    pub(crate) fn versions(&self) -> Vec<Version> {
        match self.only.is_empty() {
            true => Version::ALL.to_vec(),
            false => self.only.clone(),
        }
    }

    pub(crate) fn effort(&self) -> Effort {
        let (rounds, turn, pages, mappings, lines) = match self.quick {
            true => (2, 2, 64, 100, 500),
            false => (21, 20, 2048, 1000, 51_221),
        };
        Effort {
            rounds: self.rounds.unwrap_or(rounds).max(1),
            turn: Duration::from_millis(self.turn.unwrap_or(turn)),
            pages: self.pages.unwrap_or(pages).max(1),
            mappings: self.mappings.unwrap_or(mappings).max(1),
            lines: self.lines.unwrap_or(lines).max(1),
        }
    }
}
