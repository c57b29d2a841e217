//! Draws operations at random, near what the model already holds.
//!
//! Uniform numbers would almost never touch, cut or exactly cover an entry. So most indices are
//! drawn around existing bounds, and the writes come in phases (growing, shrinking, appending …)
//! that take the tree through every height and fill.

use crate::model::Model;
use crate::op::{FitRequest, Op, Part, Step, Write};
use crate::rng::SplitMix;
use maple_tree::IndexRange;
use std::num::NonZeroU64;

/// What a generator draws from.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// The number of entries around which the tree is held.
    pub entries: usize,
    /// The most trees alive at once; with 1, no snapshot or duplicate is taken.
    pub trees: usize,
    /// Whether allocations are made to fail.
    pub failures: Failures,
}

/// Whether a generator draws [`Op::Fail`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failures {
    /// Never.
    Never,
    /// Now and then.
    Sometimes,
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            entries: 60,
            trees: 4,
            failures: Failures::Sometimes,
        }
    }
}

/// The direction the writes take for a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Grow,
    Churn,
    Shrink,
    Append,
    Prepend,
}

/// A seeded source of operations.
#[derive(Clone, Debug)]
pub struct Generator {
    rng: SplitMix,
    mix: Mix,
    phase: Phase,
    left_in_phase: u64,
    next_value: u32,
}

impl Generator {
    /// The sequence of operations that belongs to `seed` and `mix`.
    #[must_use]
    pub fn new(seed: u64, mix: Mix) -> Self {
        let rng = SplitMix::new(seed);
        Self {
            rng,
            mix,
            phase: Phase::Grow,
            left_in_phase: 40,
            next_value: 0,
        }
    }

    /// Draws the next operation, given the model of the tree in focus and the number of live trees.
    pub fn draw(&mut self, model: &Model<u32>, live: usize) -> Op {
        self.turn(model);
        match self.rng.below(100) {
            0..52 => Op::Write(self.write(model)),
            52..56 => Op::Preallocated(self.writes(model)),
            56..59 => Op::Set(self.index(model), self.value()),
            59..70 => Op::Look(self.index(model)),
            70..72 => Op::Vacant(self.range(model)),
            72..78 => Op::Walk(self.any_span(model), self.rng.next_u64()),
            78..82 => Op::Lowest(self.request(model)),
            82..86 => Op::Highest(self.request(model)),
            86..91 => Op::Cursor(self.index(model), self.steps(model)),
            91..92 => self.rare(model),
            92..95 if self.mix.failures == Failures::Sometimes => {
                Op::Fail(self.rng.below(9) as u32)
            }
            92..95 => Op::Look(self.index(model)),
            _ => self.of_trees(live),
        }
    }

    /// Draws an index, mostly at or beside a bound of an entry.
    pub fn index(&mut self, model: &Model<u32>) -> u64 {
        match self.rng.below(16) {
            0 => 0,
            1 => u64::MAX - self.rng.below(3) * self.rng.below(8),
            2 => {
                let shift = self.rng.below(64);
                self.rng.next_u64() >> shift
            }
            3..7 => self.rng.below(4 * self.mix.entries as u64 + 64),
            _ => self.near_bound(model),
        }
    }

    fn near_bound(&mut self, model: &Model<u32>) -> u64 {
        if model.is_empty() {
            return self.rng.below(64);
        }
        let (entry, _) = model.entries()[self.rng.index(model.len())];
        let bound = if self.rng.one_in(2) {
            entry.first()
        } else {
            entry.last()
        };
        match self.rng.below(5) {
            0 => bound.saturating_sub(2),
            1 => bound.saturating_sub(1),
            2 => bound.saturating_add(1),
            3 => bound.saturating_add(2),
            _ => bound,
        }
    }

    /// Draws a range: mostly a few indices, or the very bounds of what is there.
    pub fn range(&mut self, model: &Model<u32>) -> IndexRange {
        let index = self.index(model);
        match self.rng.below(64) {
            0 => IndexRange::FULL,
            1..4 => self.any_span(model),
            4..16 => IndexRange::single(index),
            16..24 => model.find(index).range(),
            24..32 => self.within(model.find(index).range()),
            32..38 => self.across(model),
            38..44 => self.touching(model),
            _ => from_up_to(index, index.saturating_add(self.rng.below(24))),
        }
    }

    /// A range between any two indices: it often covers most of the tree.
    fn any_span(&mut self, model: &Model<u32>) -> IndexRange {
        let (one, other) = (self.index(model), self.index(model));
        from_up_to(one.min(other), one.max(other))
    }

    /// A part of `range`: its head, its tail or something inside.
    fn within(&mut self, range: IndexRange) -> IndexRange {
        let width = range.last() - range.first();
        let cut = |draw: u64| if width == 0 { 0 } else { draw % width };
        let (low, high) = (cut(self.rng.next_u64()), cut(self.rng.next_u64()));
        match self.rng.below(4) {
            0 => from_up_to(range.first(), range.first() + low),
            1 => from_up_to(range.last() - high, range.last()),
            _ => from_up_to(range.first() + low.min(high), range.first() + low.max(high)),
        }
    }

    /// From somewhere in one entry to somewhere in one a few places on.
    fn across(&mut self, model: &Model<u32>) -> IndexRange {
        if model.is_empty() {
            return IndexRange::FULL;
        }
        let from = self.rng.index(model.len());
        let reach = if self.rng.one_in(6) {
            model.len()
        } else {
            model.len().min(12)
        };
        let to = (from + self.rng.index(reach)).min(model.len() - 1);
        let (low, high) = (model.entries()[from].0, model.entries()[to].0);
        let first = if self.rng.one_in(2) {
            low.first()
        } else {
            low.last()
        };
        let last = if self.rng.one_in(2) {
            high.last()
        } else {
            high.first()
        };
        from_up_to(first.min(last), first.max(last))
    }

    /// Right behind or right before an entry.
    fn touching(&mut self, model: &Model<u32>) -> IndexRange {
        let index = self.index(model);
        let length = self.rng.below(12);
        let Some((entry, _)) = model.at_or_after(index) else {
            return from_up_to(index, index.saturating_add(length));
        };
        if self.rng.one_in(2) {
            let first = entry.last().saturating_add(1);
            return from_up_to(first, first.saturating_add(length));
        }
        let last = entry.first().saturating_sub(1);
        from_up_to(last.saturating_sub(length), last)
    }

    fn write(&mut self, model: &Model<u32>) -> Write {
        match self.phase {
            Phase::Append => return Write::Insert(self.appended(model), self.value()),
            Phase::Prepend => return Write::Insert(self.prepended(model), self.value()),
            Phase::Grow | Phase::Churn | Phase::Shrink => {}
        }
        let removals = match self.phase {
            Phase::Shrink => 11,
            Phase::Churn => 7,
            _ => 3,
        };
        if self.rng.below(16) < removals {
            return self.removal(model);
        }
        let range = if self.phase == Phase::Grow {
            self.small(model)
        } else {
            self.range(model)
        };
        match self.rng.below(8) {
            0..4 => Write::Insert(range, self.value()),
            4..6 => Write::Store(range, self.value()),
            _ => Write::StoreWith(range, self.value()),
        }
    }

    fn removal(&mut self, model: &Model<u32>) -> Write {
        let ranged = self.phase != Phase::Grow;
        match self.rng.below(8) {
            0..2 if ranged => Write::Remove(self.range(model)),
            2..4 if ranged => Write::RemoveWith(self.range(model)),
            _ => Write::Erase(self.index(model)),
        }
    }

    /// A range that leaves a growing tree most of what it has.
    fn small(&mut self, model: &Model<u32>) -> IndexRange {
        let index = self.index(model);
        match self.rng.below(8) {
            0..3 => IndexRange::single(index),
            3..5 => self.within(model.find(index).range()),
            5 => self.touching(model),
            _ => from_up_to(index, index.saturating_add(self.rng.below(4))),
        }
    }

    fn appended(&mut self, model: &Model<u32>) -> IndexRange {
        let hole = self.rng.below(3);
        let after = model
            .last()
            .map_or(0, |(entry, _)| entry.last().saturating_add(1 + hole));
        from_up_to(after, after.saturating_add(self.rng.below(5)))
    }

    fn prepended(&mut self, model: &Model<u32>) -> IndexRange {
        let hole = self.rng.below(3);
        let below = |(entry, _): (IndexRange, u32)| entry.first().saturating_sub(1 + hole);
        let last = model.first().map_or(1 << 40, below);
        from_up_to(last.saturating_sub(self.rng.below(5)), last)
    }

    fn writes(&mut self, model: &Model<u32>) -> Vec<Write> {
        let count = 1 + if self.rng.one_in(4) {
            self.rng.below(30)
        } else {
            self.rng.below(4)
        };
        (0..count).map(|_| self.write(model)).collect()
    }

    fn steps(&mut self, model: &Model<u32>) -> Vec<Step> {
        let count = 1 + self.rng.below(10);
        (0..count).map(|_| self.step(model)).collect()
    }

    fn step(&mut self, model: &Model<u32>) -> Step {
        match self.rng.below(20) {
            0..4 => Step::Next,
            4..7 => Step::Previous,
            7..9 => Step::NextEntry,
            9..11 => Step::PreviousEntry,
            11..13 => Step::Seek(self.index(model)),
            13 => Step::Insert(self.small(model), self.value()),
            14 => Step::Store(self.small(model), self.value()),
            15 => Step::Remove(self.small(model)),
            16..18 => Step::Overwrite(self.part(), self.value()),
            18 => Step::Erase,
            _ => Step::Set(self.value()),
        }
    }

    fn part(&mut self) -> Part {
        match self.rng.below(5) {
            0 => Part::Whole,
            1..3 => Part::Head,
            _ => Part::Tail,
        }
    }

    fn request(&mut self, model: &Model<u32>) -> FitRequest {
        let within = match self.rng.below(4) {
            0 => IndexRange::FULL,
            1 => self.range(model),
            _ => self.any_span(model),
        };
        let alignment = if self.rng.one_in(2) {
            1
        } else {
            1 << self.rng.below(20)
        };
        let offset = if self.rng.one_in(2) {
            0
        } else {
            self.rng.below(alignment)
        };
        let length = match self.rng.below(8) {
            0..4 => 1 + self.rng.below(12),
            4..7 => self.length_near_gap(model),
            _ => self.rng.next_u64() >> self.rng.below(64),
        };
        FitRequest {
            length: NonZeroU64::new(length).unwrap_or(NonZeroU64::MIN),
            within,
            alignment,
            offset,
        }
    }

    /// One less, as much or one more than a gap has.
    fn length_near_gap(&mut self, model: &Model<u32>) -> u64 {
        let around = model.find(self.index(model)).range();
        let width = around.last() - around.first();
        width.saturating_add(self.rng.below(3))
    }

    fn rare(&mut self, model: &Model<u32>) -> Op {
        if self.rng.one_in(8) {
            return Op::Clear;
        }
        let count = 1 + self.rng.below(6);
        Op::Extend(
            (0..count)
                .map(|_| (self.range(model), self.value()))
                .collect(),
        )
    }

    fn of_trees(&mut self, live: usize) -> Op {
        let place = self.rng.index(live.max(1)) as u8;
        let more = live < self.mix.trees;
        match self.rng.below(8) {
            0..3 if more => Op::Snapshot,
            3 if more => Op::Duplicate,
            4 if more => {
                let refused = if self.rng.one_in(3) {
                    self.rng.below(20) as u32
                } else {
                    u32::MAX
                };
                Op::DuplicateWith(self.rng.below(4) as u32, refused)
            }
            5 => Op::Drop(place),
            _ => Op::Focus(place),
        }
    }

    fn value(&mut self) -> u32 {
        self.next_value = (self.next_value + 1) % (1 << 24);
        self.next_value
    }

    /// Moves on to another phase when this one is over, or has overshot its aim.
    fn turn(&mut self, model: &Model<u32>) {
        let crowded = model.len() > 2 * self.mix.entries;
        if crowded && self.phase != Phase::Shrink {
            self.begin(Phase::Shrink);
        } else if self.left_in_phase == 0 {
            let phase = match self.rng.below(16) {
                0..6 => Phase::Grow,
                6..10 => Phase::Churn,
                10..12 => Phase::Shrink,
                12..14 => Phase::Append,
                _ => Phase::Prepend,
            };
            self.begin(phase);
        }
        self.left_in_phase -= 1;
    }

    fn begin(&mut self, phase: Phase) {
        self.phase = phase;
        self.left_in_phase = 8 + self.rng.below(3 * self.mix.entries as u64 + 1);
    }
}

/// The range of two indices in order.
#[track_caller]
fn from_up_to(first: u64, last: u64) -> IndexRange {
    IndexRange::new(first, last).expect("the generator orders its bounds")
}
