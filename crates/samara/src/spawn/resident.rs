//! Forks of a parent with much memory, and what the child's first writes cost.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use maple_mm::abi::{MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, MAP_PRIVATE, PROT_READ, PROT_WRITE};
use maple_mm::{
    AddressSpace, ForkStrategy, MmapRequest, PageStrategy, Setup, System, SystemSettings,
};

use super::clock::forks_within;
use super::contest::ROUNDS;
use super::parent::Way;
use super::report::{ResidentLine, ResidentPoint, median_and_spread};
use super::space::{Paged, Side};
use crate::cli::SpawnArgs;

const START: u64 = 0x1000_0000_0000;
const PAGE: u64 = 4096;
/// What one table of entries covers, and the share of these that a few writes fall into.
const REGION_PAGES: u64 = 512;
const ONE_IN: u64 = 20;

/// The eager way that makes most forks, and the one that shares everything.
const WAYS: [Way; 2] = [
    Way {
        mappings: ForkStrategy::DuplicateWith,
        pages: Some(PageStrategy::Copy),
    },
    Way {
        mappings: ForkStrategy::Snapshot,
        pages: Some(PageStrategy::Share),
    },
];

/// What the child writes before it exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writes {
    None,
    /// A page of one region in twenty.
    PageInTwentyRegions,
    /// All of one region in twenty.
    OneRegionInTwenty,
    EveryPage,
}

impl Writes {
    const ALL: [Self; 4] = [
        Self::None,
        Self::PageInTwentyRegions,
        Self::OneRegionInTwenty,
        Self::EveryPage,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::PageInTwentyRegions => "4 KiB per 40 MiB",
            Self::OneRegionInTwenty => "2 MiB per 40 MiB",
            Self::EveryPage => "everything",
        }
    }

    /// Whether the page with this number is written.
    const fn contains(self, page: u64) -> bool {
        match self {
            Self::None => false,
            Self::PageInTwentyRegions => page.is_multiple_of(REGION_PAGES * ONE_IN),
            Self::OneRegionInTwenty => (page / REGION_PAGES).is_multiple_of(ONE_IN),
            Self::EveryPage => true,
        }
    }
}

/// The columns.
pub(crate) fn columns() -> impl Iterator<Item = &'static str> {
    Writes::ALL.iter().map(|writes| writes.name())
}

/// A parent with one mapping, all of which is resident.
struct Resident {
    space: AddressSpace<Paged>,
    pages: u64,
}

impl Resident {
    fn make(mebibytes: u32) -> Result<Self> {
        let pages = u64::from(mebibytes) << 20 >> 12;
        let settings = SystemSettings {
            ram_pages: 4 * pages + 1024,
            ..SystemSettings::default()
        };
        let setup = Setup {
            system: Arc::new(System::new(settings)),
            ..Setup::default()
        };
        // The child may write as many as the parent has.
        let side = Paged::make(pages as u32, 2 * pages as u32)?;
        let mut space = AddressSpace::with_pages(setup, side);
        space.mmap(MmapRequest {
            addr: START,
            flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
            ..MmapRequest::anonymous(pages.max(1) * PAGE, PROT_READ | PROT_WRITE)
        })?;
        for page in 0..pages {
            Paged::write(&mut space, START + page * PAGE, page)?;
        }
        Ok(Self { space, pages })
    }

    /// A child that writes and is dropped.
    fn fork_and_write(&mut self, way: Way, writes: Writes) -> Result<()> {
        let mut child = self.space.fork_with(way.plan(), || false)?;
        if writes == Writes::None {
            return Ok(());
        }
        for page in (0..self.pages).filter(|&page| writes.contains(page)) {
            Paged::write(&mut child, START + page * PAGE, !page)?;
        }
        Ok(())
    }

    /// That no child left anything, and that the parent has what it wrote.
    fn check(&mut self, frames: usize) -> Result<()> {
        let in_use = self.space.page_side().frames_in_use();
        ensure!(
            in_use == frames,
            "{in_use} frames are in use after the children, {frames} before"
        );
        for page in 0..self.pages {
            let seen = Paged::read(&mut self.space, START + page * PAGE)?;
            ensure!(seen == Some(page), "page {page} of the parent changed");
        }
        if let Err(violation) = self.space.validate() {
            return Err(anyhow!("invariant {violation}"));
        }
        Ok(())
    }
}

/// Measures a parent with `mebibytes` resident: all ways and writes take turns. The outcome of
/// the check comes second. Calls `tick` after each turn.
///
/// # Errors
///
/// If the parent can't be made, or not forked.
pub(crate) fn measure(
    args: &SpawnArgs,
    mebibytes: u32,
    tick: impl Fn(),
) -> Result<(Vec<ResidentLine>, Result<()>)> {
    let mut parent = Resident::make(mebibytes).context("cannot make the parent")?;
    let frames = parent.space.page_side().frames_in_use();
    // The first child finds memory that was never used.
    parent.fork_and_write(WAYS[0], Writes::EveryPage)?;
    let mut rates = [[(); Writes::ALL.len()]; WAYS.len()].map(|row| row.map(|()| Vec::new()));
    for _ in 0..ROUNDS {
        for (way, row) in WAYS.into_iter().zip(&mut rates) {
            for (writes, rates) in Writes::ALL.into_iter().zip(row) {
                let fork = || parent.fork_and_write(way, writes);
                let burst = forks_within(args.seconds / ROUNDS as u32, fork)?;
                rates.push(burst.in_ten_seconds());
                tick();
            }
        }
    }
    let lines = WAYS.into_iter().zip(rates).map(|(way, row)| ResidentLine {
        name: way.name(),
        mebibytes,
        points: Writes::ALL.into_iter().zip(row).map(point).collect(),
    });
    Ok((lines.collect(), parent.check(frames)))
}

/// Whether there is memory for a parent with `mebibytes` and its child: otherwise the machine's
/// would run out, and somebody be killed.
///
/// # Errors
///
/// If there is not.
pub(crate) fn check_memory(mebibytes: u32) -> Result<()> {
    let (needed, available) = (2 * mebibytes + mebibytes / 64, available_mebibytes());
    ensure!(
        available.is_none_or(|available| needed < available),
        "--resident {mebibytes}: parent and child need {needed} MiB, {} are available",
        available.unwrap_or(0)
    );
    Ok(())
}

/// What this machine can still give, if it tells.
fn available_mebibytes() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find(|line| line.starts_with("MemAvailable:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    u32::try_from(kibibytes / 1024).ok()
}

/// The turns of one size.
pub(crate) const TURNS: usize = ROUNDS * WAYS.len() * Writes::ALL.len();

fn point((writes, rates): (Writes, Vec<f64>)) -> ResidentPoint {
    let (forks, spread_percent) = median_and_spread(rates);
    ResidentPoint {
        child_writes: writes.name(),
        microseconds: 10e6 / forks,
        spread_percent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_write_what_they_should_and_parents_keep_theirs() {
        let mut parent = Resident::make(44).unwrap();
        let frames = parent.space.page_side().frames_in_use();
        for way in WAYS {
            for writes in Writes::ALL {
                parent.fork_and_write(way, writes).unwrap();
                parent.check(frames).unwrap();
            }
        }
        let written = (0..parent.pages).filter(|&page| Writes::OneRegionInTwenty.contains(page));
        assert_eq!(written.count() as u64, 2 * REGION_PAGES);
    }

    #[test]
    fn a_changed_parent_is_noticed() {
        let mut parent = Resident::make(1).unwrap();
        let frames = parent.space.page_side().frames_in_use();
        assert!(parent.check(frames + 1).is_err());
        Paged::write(&mut parent.space, START, 7).unwrap();
        assert!(parent.check(frames).is_err());
    }
}
