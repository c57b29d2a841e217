//! Memory that is mapped, written and unmapped.

use super::{BASE, BLOCK, Subject, WRITABLE, fixed};
use crate::args::Effort;
use crate::crew;
use crate::space::{self, Space};
use crate::work::Figure;
use maple_mm::Access;
use maple_mm::abi::PAGE_SIZE;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LEN: u64 = 16 * PAGE_SIZE;

/// Of each memory. Tables that were taken out wait until nobody looks any more, so it takes more
/// than what is mapped at once.
const FRAMES: u64 = 1 << 14;

pub(crate) struct Cycles<S> {
    spaces: Vec<S>,
    turn: Duration,
}

impl<S: Space> Cycles<S> {
    pub(crate) fn new(spaces: usize, effort: &Effort) -> anyhow::Result<Self> {
        let spaces = (0..spaces).map(|_| S::new(space::memory(FRAMES)?));
        Ok(Self {
            spaces: spaces.collect::<anyhow::Result<_>>()?,
            turn: effort.turn,
        })
    }
}

/// Maps, faults and unmaps until it is over: how often.
fn cycles<S: Space>(space: &S, addr: u64, is_over: &AtomicBool) -> Result<u64, String> {
    let mut done = 0;
    // Relaxed: it only says when to stop.
    while !is_over.load(Ordering::Relaxed) {
        let request = fixed(addr, LEN, WRITABLE);
        let (mapped, _) = space.change(|space| space.mmap(request));
        mapped.map_err(|error| format!("mmap: {error}"))?;
        for page in (addr..addr + LEN).step_by(PAGE_SIZE as usize) {
            let brought_in = space.fault(page, Access::Write);
            brought_in.map_err(|fault| format!("a fault: {fault:?}"))?;
        }
        let (unmapped, _) = space.change(|space| space.munmap(addr, LEN));
        unmapped.map_err(|error| format!("munmap: {error}"))?;
        done += 1;
    }
    Ok(done)
}

impl<S: Space> Subject for Cycles<S> {
    fn turn(&mut self, threads: usize) -> Result<Vec<(Figure, f64)>, String> {
        let shares = crew::for_a_while((threads, self.turn), |thread, is_over| {
            let space = &self.spaces[thread % self.spaces.len()];
            cycles(space, BASE + thread as u64 * BLOCK, is_over)
        });
        let mut rate = 0.0;
        for share in &shares {
            rate += share.done.clone()? as f64 / share.seconds() / 1e3;
        }
        Ok(vec![(Figure::Rate, rate)])
    }
}
