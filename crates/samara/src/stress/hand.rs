//! [`Hand`]: a thread that acts, whichever address space it acts on.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use maple_mm::Errno;
use maple_mm::abi::PAGE_SIZE;

use super::conditions::Short;
use super::kinds::Kind;
use super::machine::Machine;
use super::tag;
use super::violation::{Held, broken};
use super::watch::Seat;
use crate::torture::Rng;

/// What threads did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) operations: BTreeMap<Kind, u64>,
    /// Calls and accesses for which there was no memory.
    pub(super) refused: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        for (kind, count) in &other.operations {
            *self.operations.entry(*kind).or_default() += count;
        }
        self.refused += other.refused;
    }

    pub(super) fn of(&self, kind: Kind) -> u64 {
        self.operations.get(&kind).copied().unwrap_or_default()
    }

    pub(super) fn total(&self) -> u64 {
        self.operations.values().sum()
    }
}

/// Who acts.
pub(super) struct Hand {
    pub(super) machine: Arc<Machine>,
    pub(super) thread: u8,
    pub(super) rng: Rng,
    pub(super) tally: Tally,
    /// What all draws of this thread follow from.
    seed: u64,
    step: u32,
    /// Words written in this step.
    words: u16,
}

impl Hand {
    pub(super) fn new(machine: Arc<Machine>, thread: u8) -> Self {
        let of_round = Rng::of_life(machine.seed, machine.round).next_u64();
        let mut rng = Rng::of_life(of_round, thread.into());
        Self {
            seed: rng.next_u64(),
            machine,
            thread,
            rng,
            tally: Tally::default(),
            step: 0,
            words: 0,
        }
    }

    /// Begins a step. What it draws follows from the seed and its number, whatever became of the
    /// steps before.
    pub(super) fn begin(&mut self, step: u32) -> Kind {
        self.step = step;
        self.words = 0;
        self.rng = Rng::of_life(self.seed, step.into());
        let weights = Kind::ALL.iter().map(|kind| kind.weight());
        Kind::ALL[self.rng.weighted(weights)]
    }

    /// Says what the step is about.
    pub(super) fn is_about(&mut self, kind: Kind) {
        *self.tally.operations.entry(kind).or_default() += 1;
        self.seat().begin(self.step, kind);
    }

    /// Says where it goes on.
    pub(super) fn at(&self, addr: u64) {
        self.seat().at(addr);
    }

    pub(super) fn seat(&self) -> &Seat {
        self.machine.watch.seat(self.thread.into())
    }

    /// Another word to write.
    pub(super) fn tag(&mut self) -> u64 {
        self.words += 1;
        tag::owners(self.thread, self.step, self.words)
    }

    /// A word to write into somebody else's page.
    pub(super) const fn guests_tag(&self) -> u64 {
        tag::guests(self.thread, self.step)
    }

    /// Lets others know where mappings are about to change.
    pub(super) fn aim(&self, range: &Range<u64>) {
        self.at(range.start);
        let pages = ((range.end - range.start) / PAGE_SIZE).min(PAGE_SIZE - 1);
        self.machine.hot[usize::from(self.thread)].store(range.start | pages, Ordering::Relaxed);
    }

    /// A random part of `range`, of whole pages.
    pub(super) fn part(&mut self, range: &Range<u64>, most: u64) -> Range<u64> {
        let pages = (range.end - range.start) / PAGE_SIZE;
        let first = self.rng.below(pages);
        let len = 1 + self.rng.below(most.min(pages - first));
        let start = range.start + first * PAGE_SIZE;
        start..start + len * PAGE_SIZE
    }

    /// A call that ends with `error` may only do so for want of memory.
    pub(super) fn refused(&mut self, addr: u64, error: Errno) -> Held {
        if !matches!(error, Errno::ENOMEM | Errno::EAGAIN) {
            return broken(addr, format!("the call is refused with {error:?}"));
        }
        self.lacks_memory();
        Ok(())
    }

    /// Whether memory ran out where there is enough of everything: then something does not come
    /// back.
    pub(super) fn is_wrongly_refused(&self) -> bool {
        self.machine.conditions.short == Short::Nothing && self.tally.refused > 0
    }

    /// There was no memory.
    pub(super) fn lacks_memory(&mut self) {
        self.tally.refused += 1;
    }
}
