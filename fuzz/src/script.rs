//! Reads bytes as choices: indices, ranges and requests near what a model holds.
//!
//! One byte decides as much as it can, so that a changed byte changes one thing. Where the bytes
//! end, every choice is the first one.

use arbitrary::Unstructured;
use maple_tree::IndexRange;
use std::num::NonZeroU64;
use testkit::{FitRequest, Model, Write};

/// The bytes of a script that are still to be read.
pub(crate) struct Script<'a> {
    bytes: Unstructured<'a>,
    next_value: u32,
}

impl<'a> Script<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes: Unstructured::new(bytes),
            next_value: 0,
        }
    }

    /// Whether every byte has been read.
    pub(crate) fn is_over(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next byte, zero behind the end.
    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes.arbitrary().unwrap_or_default()
    }

    /// The next eight bytes as a number, with zeros behind the end.
    pub(crate) fn word(&mut self) -> u64 {
        self.bytes.arbitrary().unwrap_or_default()
    }

    /// A number below `bound`, which is at most 256: one byte.
    pub(crate) fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound
    }

    /// A place in a list of `len` elements, 0 if it is empty: two bytes.
    pub(crate) fn place(&mut self, len: usize) -> usize {
        let draw = usize::from(self.bytes.arbitrary::<u16>().unwrap_or_default());
        draw.checked_rem(len).unwrap_or(0)
    }

    /// A value that no other write of this script stores.
    pub(crate) fn value(&mut self) -> u32 {
        self.next_value += 1;
        self.next_value
    }

    /// An index: low ones, those around the bounds of entries, high ones, powers of two, any.
    pub(crate) fn index(&mut self, model: &Model<u32>) -> u64 {
        let choice = self.byte();
        match choice {
            0..96 => u64::from(choice),
            96..216 => self.near_bound(model, choice - 96),
            216..232 => u64::MAX - u64::from(choice - 216),
            232..240 => u64::from(self.byte()) << (choice - 232),
            240..250 => 1_u64 << (self.byte() % 64),
            250..=255 => self.word(),
        }
    }

    /// Up to two indices beside the first or last index of an entry.
    fn near_bound(&mut self, model: &Model<u32>, choice: u8) -> u64 {
        let place = self.place(model.len());
        let Some(&(entry, _)) = model.entries().get(place) else {
            return u64::from(choice);
        };
        let bound = match choice % 2 {
            0 => entry.first(),
            _ => entry.last(),
        };
        match choice / 2 % 5 {
            0 => bound,
            1 => bound.saturating_sub(1),
            2 => bound.saturating_add(1),
            3 => bound.saturating_sub(2),
            _ => bound.saturating_add(2),
        }
    }

    /// A range: short ones, whole entries and gaps, parts of them, what reaches across several.
    pub(crate) fn range(&mut self, model: &Model<u32>) -> IndexRange {
        match self.below(16) {
            0..5 => self.short(model),
            5 => IndexRange::single(self.index(model)),
            6 => model.find(self.index(model)).range(),
            7..10 => self.part(model),
            10..12 => self.across(model),
            12 => self.behind(model),
            13 => self.before(model),
            14 => self.between(model),
            _ => IndexRange::FULL,
        }
    }

    fn short(&mut self, model: &Model<u32>) -> IndexRange {
        let first = self.index(model);
        in_order(first, first.saturating_add(u64::from(self.below(32))))
    }

    fn between(&mut self, model: &Model<u32>) -> IndexRange {
        in_order(self.index(model), self.index(model))
    }

    /// The head, the tail or the inside of an entry or gap.
    fn part(&mut self, model: &Model<u32>) -> IndexRange {
        let whole = model.find(self.index(model)).range();
        let cut = |amount: u8| u64::from(amount).min((whole.last() - whole.first()) / 2);
        let (low, high) = (cut(self.below(16)), cut(self.below(16)));
        in_order(whole.first() + low, whole.last() - high)
    }

    /// From a bound of one entry to a bound of one a few places on.
    fn across(&mut self, model: &Model<u32>) -> IndexRange {
        let from = self.place(model.len());
        let reach = usize::from(self.below(24));
        let to = (from + reach).min(model.len().saturating_sub(1));
        let (Some((low, _)), Some((high, _))) =
            (model.entries().get(from), model.entries().get(to))
        else {
            return IndexRange::FULL;
        };
        match self.below(4) {
            0 => in_order(low.first(), high.last()),
            1 => in_order(low.last(), high.first()),
            2 => in_order(low.first(), high.first()),
            _ => in_order(low.last(), high.last()),
        }
    }

    /// Right behind an entry.
    fn behind(&mut self, model: &Model<u32>) -> IndexRange {
        let place = self.place(model.len());
        let length = u64::from(self.below(16));
        let last = model
            .entries()
            .get(place)
            .map_or(0, |(entry, _)| entry.last());
        let first = last.saturating_add(1);
        in_order(first, first.saturating_add(length))
    }

    /// Right before an entry.
    fn before(&mut self, model: &Model<u32>) -> IndexRange {
        let place = self.place(model.len());
        let length = u64::from(self.below(16));
        let first = model
            .entries()
            .get(place)
            .map_or(u64::MAX, |(entry, _)| entry.first());
        let last = first.saturating_sub(1);
        in_order(last.saturating_sub(length), last)
    }

    /// A write of any kind, more of those that add than of those that take away.
    pub(crate) fn write(&mut self, model: &Model<u32>) -> Write {
        match self.below(10) {
            0..3 => Write::Insert(self.range(model), self.value()),
            3..5 => Write::Store(self.range(model), self.value()),
            5 => Write::StoreWith(self.range(model), self.value()),
            6..8 => Write::Erase(self.index(model)),
            8 => Write::Remove(self.range(model)),
            _ => Write::RemoveWith(self.range(model)),
        }
    }

    /// A search for a gap, often just short enough or just too long for one that is there.
    pub(crate) fn request(&mut self, model: &Model<u32>) -> FitRequest {
        let choice = self.byte();
        let length = match choice % 4 {
            0 => 1 + u64::from(self.below(40)),
            1 | 2 => self.length_near_gap(model),
            _ => self.word() >> self.below(64),
        };
        let alignment = match choice / 4 % 4 {
            0 | 1 => 1,
            2 => 1 << self.below(8),
            _ => 1 << self.below(64),
        };
        let within = match choice / 16 % 4 {
            0 => IndexRange::FULL,
            1 => self.between(model),
            _ => self.range(model),
        };
        FitRequest {
            length: NonZeroU64::new(length).unwrap_or(NonZeroU64::MIN),
            within,
            alignment,
            offset: self.offset(alignment),
        }
    }

    /// One less, as much or one more than a gap has.
    fn length_near_gap(&mut self, model: &Model<u32>) -> u64 {
        let around = model.find(self.index(model)).range();
        let width = around.last() - around.first();
        width.saturating_add(u64::from(self.below(3)))
    }

    /// Nothing is read where no offset but zero is possible.
    fn offset(&mut self, alignment: u64) -> u64 {
        match alignment {
            1 => 0,
            _ => self.word() % alignment,
        }
    }
}

fn in_order(one: u64, other: u64) -> IndexRange {
    IndexRange::new(one.min(other), one.max(other)).expect("the bounds were put in order")
}
