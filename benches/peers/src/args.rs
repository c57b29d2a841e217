//! The command line.

use crate::data::Data;
use crate::fixture::Age;
use crate::runner::Effort;
use crate::work::Work;
use clap::Parser;
use std::path::PathBuf;
use std::time::Duration;

/// The same work on maple-tree and on every structure one would pick instead, in one run.
///
/// Every structure's content is compared with a sorted vector before it is timed. Structures take
/// turns, round after round; a cell is the median of the rounds with the least and the most below
/// it. Times are CPU time of the thread, of rates beside another thread wall time.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Args {
    /// How many entries [default: 51221; with --quick 1000]
    #[arg(long, value_delimiter = ',', value_name = "N")]
    pub(crate) n: Vec<usize>,

    /// Which data sets [default: all]
    #[arg(long, value_delimiter = ',', value_enum)]
    pub(crate) data: Vec<Data>,

    /// What the structures have been through [default: all]
    #[arg(long, value_delimiter = ',', value_enum)]
    pub(crate) age: Vec<Age>,

    /// Which pieces of work [default: all]
    #[arg(long, value_delimiter = ',', value_enum)]
    pub(crate) work: Vec<Work>,

    /// Which structures, by the names that the table has [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub(crate) only: Vec<String>,

    /// A few seconds in all, to see that everything works; the numbers are coarse
    #[arg(long)]
    pub(crate) quick: bool,

    /// How often the structures take turns [default: 7; of 500000 entries or more 3; with --quick 2]
    #[arg(long)]
    rounds: Option<usize>,

    /// About how long one structure's turn takes, in microseconds [default: 8000; with --quick 200]
    #[arg(long, value_name = "MICROSECONDS")]
    turn: Option<u64>,

    /// Writes every number, round by round, to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Linux's own tree as further columns: the library that `cargo xtask linux-peer` builds
    #[arg(long, value_name = "PATH")]
    pub(crate) c_lib: Option<PathBuf>,

    /// Measures what the targets speak of, and prints them as Markdown, reached or missed
    #[arg(long)]
    pub(crate) targets: bool,

    /// Builds this structure, prints its bytes an entry as JSON, and ends
    #[arg(long, hide = true, value_name = "NAME")]
    pub(crate) bytes_of: Option<String>,
}

impl Args {
    /// What the options ask for; what they leave open is everything.
    pub(crate) fn filled(mut self) -> Self {
        if self.n.is_empty() {
            self.n = if self.quick {
                vec![1_000]
            } else {
                vec![51_221]
            };
        }
        or_all(&mut self.data, &Data::ALL);
        or_all(&mut self.age, &Age::ALL);
        or_all(&mut self.work, &Work::ALL);
        self
    }

    /// How much is measured of `n` entries.
    pub(crate) fn effort(&self, n: usize) -> Effort {
        let (rounds, micros, beside) = match n {
            _ if self.quick => (2, 200, 10),
            500_000.. => (3, 8_000, 200),
            _ => (7, 8_000, 200),
        };
        Effort {
            rounds: self.rounds.unwrap_or(rounds).max(1),
            chunk_nanos: self.turn.unwrap_or(micros).max(1) * 1_000,
            beside: Duration::from_millis(beside),
        }
    }

    /// Whether the structure `name` takes part.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| name == only)
    }
}

fn or_all<T: Clone>(chosen: &mut Vec<T>, all: &[T]) {
    if chosen.is_empty() {
        *chosen = all.to_vec();
    }
}
