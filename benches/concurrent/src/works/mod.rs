//! How each piece of work is timed.

mod cycles;
mod faults;
mod looks;
mod mapper;
mod texts;

use crate::args::Effort;
use crate::space::{Locked, Shared, Space};
use crate::work::{Figure, Version, Work};
use cycles::Cycles;
use faults::{Faults, Pattern};
use looks::{Look, Looks};
use maple_mm::abi::{MAP_FIXED, PROT_READ, PROT_WRITE};
use maple_mm::{Access, MmapRequest};
use texts::Texts;

/// Where the mappings begin that are not the mapper's.
const BASE: u64 = 0x10_0000_0000;

/// What a lowest table maps.
const BLOCK: u64 = 2 << 20;

const WRITABLE: u64 = PROT_READ | PROT_WRITE;

/// One version at one piece of work.
pub(crate) trait Subject {
    /// What `threads` threads do when its turn comes; an error if that is not what they should.
    fn turn(&mut self, threads: usize) -> Result<Vec<(Figure, f64)>, String>;
}

/// A version at a piece of work, for up to `most` threads.
pub(crate) fn subject(
    (work, version): (Work, Version),
    most: usize,
    effort: &Effort,
) -> anyhow::Result<Box<dyn Subject>> {
    match version {
        Version::Shared => of::<Shared>(work, (1, most), effort),
        Version::Locked => of::<Locked>(work, (1, most), effort),
        // The mapper has one, too.
        Version::Own => of::<Shared>(work, (most + 1, most), effort),
    }
}

/// `spaces` address spaces that threads share, up to `most`: by turns where they are fewer.
fn of<S: Space>(
    work: Work,
    (spaces, most): (usize, usize),
    effort: &Effort,
) -> anyhow::Result<Box<dyn Subject>> {
    let faults = |pattern, access| Faults::<S>::new((spaces, most), (pattern, access), effort);
    let looks = |look| Looks::<S>::new(spaces, look, effort);
    Ok(match work {
        Work::FaultsApart => Box::new(faults(Pattern::Apart, Access::Write)?),
        Work::ReadsApart => Box::new(faults(Pattern::Apart, Access::Read)?),
        Work::FaultsTogether => Box::new(faults(Pattern::Together, Access::Write)?),
        Work::ReadsTogether => Box::new(faults(Pattern::Together, Access::Read)?),
        Work::Lookups => Box::new(looks(Look::Find)?),
        Work::Checks => Box::new(looks(Look::Check)?),
        Work::Texts => Box::new(Texts::<S>::new(spaces, effort)?),
        Work::Cycles => Box::new(Cycles::<S>::new(spaces, effort)?),
    })
}

/// Anonymous memory at `addr`.
fn fixed(addr: u64, len: u64, prot: u64) -> MmapRequest {
    let request = MmapRequest::anonymous(len, prot);
    MmapRequest {
        addr,
        flags: request.flags | MAP_FIXED,
        ..request
    }
}

/// Maps `count` mappings of `len` bytes that touch each other and differ from their neighbours.
fn map_all<S: Space>(space: &S, count: u64, len: u64) -> anyhow::Result<()> {
    for number in 0..count {
        let prot = [PROT_READ, WRITABLE][(number % 2) as usize];
        let request = fixed(BASE + number * len, len, prot);
        space.change(|space| space.mmap(request)).0?;
    }
    Ok(())
}
