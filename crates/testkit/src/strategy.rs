//! Operations as `proptest` strategies: every value can come, and smaller ones are tried on failure.
//!
//! Unlike a [`Generator`](crate::Generator) a strategy knows nothing of the tree. It makes ranges
//! touch and overlap by drawing most indices from a small universe at either end of the space.

use crate::op::{FitRequest, Op, Part, Step, Write};
use maple_tree::IndexRange;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use std::num::NonZeroU64;

/// The number of indices at each end of the space that most draws come from.
const UNIVERSE: u64 = 96;

/// A trace of up to `most` operations.
pub fn trace(most: usize) -> impl Strategy<Value = Vec<Op>> {
    vec(op(), 1..=most)
}

/// One operation.
pub fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => write().prop_map(Op::Write),
        1 => vec(write(), 1..4).prop_map(Op::Preallocated),
        1 => Just(Op::Clear),
        1 => (index(), value()).prop_map(|(index, value)| Op::Set(index, value)),
        2 => index().prop_map(Op::Look),
        1 => range().prop_map(Op::Vacant),
        2 => (range(), any::<u64>()).prop_map(|(range, pattern)| Op::Walk(range, pattern)),
        2 => (index(), vec(step(), 1..8)).prop_map(|(index, steps)| Op::Cursor(index, steps)),
        1 => request().prop_map(Op::Lowest),
        1 => request().prop_map(Op::Highest),
        1 => vec((range(), value()), 1..6).prop_map(Op::Extend),
        1 => copies(),
        1 => any::<u8>().prop_map(Op::Focus),
        1 => any::<u8>().prop_map(Op::Drop),
        1 => (0..9_u32).prop_map(Op::Fail),
    ]
}

fn copies() -> impl Strategy<Value = Op> {
    let with =
        (0..4_u32, 0..40_u32).prop_map(|(dropped, refused)| Op::DuplicateWith(dropped, refused));
    prop_oneof![3 => Just(Op::Snapshot), 1 => Just(Op::Duplicate), 1 => with]
}

/// One write.
pub fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        4 => (range(), value()).prop_map(|(range, value)| Write::Insert(range, value)),
        2 => (range(), value()).prop_map(|(range, value)| Write::Store(range, value)),
        2 => (range(), value()).prop_map(|(range, value)| Write::StoreWith(range, value)),
        2 => index().prop_map(Write::Erase),
        1 => range().prop_map(Write::Remove),
        1 => range().prop_map(Write::RemoveWith),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let part = prop_oneof![Just(Part::Whole), Just(Part::Head), Just(Part::Tail)];
    prop_oneof![
        3 => Just(Step::Next),
        3 => Just(Step::Previous),
        1 => Just(Step::NextEntry),
        1 => Just(Step::PreviousEntry),
        1 => index().prop_map(Step::Seek),
        1 => (range(), value()).prop_map(|(range, value)| Step::Insert(range, value)),
        1 => (range(), value()).prop_map(|(range, value)| Step::Store(range, value)),
        1 => range().prop_map(Step::Remove),
        1 => (part, value()).prop_map(|(part, value)| Step::Overwrite(part, value)),
        1 => Just(Step::Erase),
        1 => value().prop_map(Step::Set),
    ]
}

fn value() -> impl Strategy<Value = u32> {
    0..1000_u32
}

/// An index, mostly near one end of the space.
pub fn index() -> impl Strategy<Value = u64> {
    prop_oneof![
        12 => 0..UNIVERSE,
        2 => (0..UNIVERSE).prop_map(|below| u64::MAX - below),
        1 => any::<u64>(),
    ]
}

/// A range, mostly of a few indices.
pub fn range() -> impl Strategy<Value = IndexRange> {
    let between = |one: u64, other: u64| {
        IndexRange::new(one.min(other), one.max(other)).expect("the bounds were put in order")
    };
    prop_oneof![
        4 => index().prop_map(IndexRange::single),
        8 => (index(), 0..8_u64).prop_map(move |(first, more)| between(first, first.saturating_add(more))),
        2 => (index(), index()).prop_map(move |(one, other)| between(one, other)),
        1 => Just(IndexRange::FULL),
    ]
}

fn request() -> impl Strategy<Value = FitRequest> {
    let length = prop_oneof![6 => 1..12_u64, 1 => 1..=u64::MAX];
    (length, range(), 0..64_u32, any::<u64>()).prop_map(|(length, within, shift, draw)| {
        // Half of the requests ask for no alignment.
        let alignment = if shift < 32 {
            1
        } else {
            1 << (2 * (shift - 32))
        };
        let length = NonZeroU64::new(length).expect("lengths are drawn from 1 on");
        FitRequest {
            length,
            within,
            alignment,
            offset: draw % alignment,
        }
    })
}
