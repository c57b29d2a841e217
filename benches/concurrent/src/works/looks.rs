//! Look-ups and access checks, while somebody maps and unmaps.

use super::{BASE, Subject, map_all, mapper};
use crate::args::Effort;
use crate::crew;
use crate::space::{self, Space};
use crate::work::Figure;
use maple_mm::abi::PAGE_SIZE;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use testkit::SplitMix;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Which mapping is there.
    Find,
    /// Whether a buffer may be read: up to 32 pages, so up to three mappings.
    Check,
}

/// Of a mapping.
const LEN: u64 = 16 * PAGE_SIZE;

const BUFFER_PAGES_MOST: u64 = 32;

/// How much is asked between looks at the clock.
const PORTION: usize = 64;

pub(crate) struct Looks<S> {
    spaces: Vec<S>,
    look: Look,
    turn: Duration,
    buffers: Vec<Range<u64>>,
}

impl<S: Space> Looks<S> {
    pub(crate) fn new(spaces: usize, look: Look, effort: &Effort) -> anyhow::Result<Self> {
        let make = |_| {
            let space = S::new(space::memory(64)?)?;
            map_all(&space, effort.mappings, LEN)?;
            Ok(space)
        };
        let end = BASE + effort.mappings * LEN;
        let mut rng = SplitMix::new(1);
        let mut buffer = || {
            let start = BASE + rng.below(effort.mappings * LEN);
            let len = rng.below(BUFFER_PAGES_MOST * PAGE_SIZE) + 1;
            start..end.min(start + len)
        };
        Ok(Self {
            buffers: (0..PORTION * 64).map(|_| buffer()).collect(),
            spaces: (0..spaces).map(make).collect::<anyhow::Result<_>>()?,
            look,
            turn: effort.turn,
        })
    }

    fn space(&self, thread: usize) -> &S {
        &self.spaces[thread % self.spaces.len()]
    }

    /// Asks until it is over: how often.
    fn read(&self, thread: usize, is_over: &AtomicBool) -> Result<u64, String> {
        let space = self.space(thread);
        let mut asked = 0;
        let portions = self.buffers.chunks(PORTION).cycle().skip(thread);
        for buffers in portions {
            // Relaxed: it only says when to stop.
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            let is_right = |buffer: &Range<u64>| match self.look {
                Look::Find => space.find(buffer.start) == Some(buffer.start & !(LEN - 1)),
                Look::Check => space.may_read(buffer.clone()),
            };
            if !buffers.iter().all(is_right) {
                return Err("what is mapped was not found".to_owned());
            }
            asked += buffers.len() as u64;
        }
        Ok(asked)
    }
}

impl<S: Space> Subject for Looks<S> {
    fn turn(&mut self, threads: usize) -> Result<Vec<(Figure, f64)>, String> {
        let shares = crew::for_a_while((threads + 1, self.turn), |thread, is_over| {
            if thread == threads {
                return mapper::count(self.space(thread), is_over);
            }
            self.read(thread, is_over)
        });
        let mut rates = Vec::new();
        for share in &shares {
            rates.push(share.done.clone()? as f64 / share.seconds() / 1e3);
        }
        let mapper = rates.pop().unwrap_or_default();
        Ok(vec![
            (Figure::Rate, rates.iter().sum()),
            (Figure::MapperCalls, mapper),
        ])
    }
}
