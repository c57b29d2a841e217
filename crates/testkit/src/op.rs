//! The one operation type that property tests, fuzzing, traces and bug reports share.
//!
//! An [`Op`] is one line of text, both ways (`Display` here, `FromStr` in `parse`):
//!
//! ```text
//! insert 0x10..=0x1f 7
//! preallocated store 0x0..=0xff 8; erase 0x40
//! snapshot
//! focus 1
//! lowest 0x10 within 0x0..=0xffff align 0x1000 offset 0x0
//! ```

use maple_tree::IndexRange;
use std::fmt;
use std::num::NonZeroU64;

/// One write; also the element of a preallocated series.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Write {
    /// `insert RANGE VALUE`
    Insert(IndexRange, u32),
    /// `store RANGE VALUE`
    Store(IndexRange, u32),
    /// `store-with RANGE VALUE`: a store that also compares the displaced parts.
    StoreWith(IndexRange, u32),
    /// `erase INDEX`
    Erase(u64),
    /// `remove RANGE`
    Remove(IndexRange),
    /// `remove-with RANGE`: a remove that also compares the displaced parts.
    RemoveWith(IndexRange),
}

/// A gap search.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FitRequest {
    /// The number of indices wanted.
    pub length: NonZeroU64,
    /// Where the answer must lie.
    pub within: IndexRange,
    /// A power of two.
    pub alignment: u64,
    /// Below `alignment`.
    pub offset: u64,
}

/// One step of a cursor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// `next`: to the next entry or gap.
    Next,
    /// `previous`: to the entry or gap before.
    Previous,
    /// `next-entry`
    NextEntry,
    /// `previous-entry`
    PreviousEntry,
    /// `seek INDEX`
    Seek(u64),
    /// `insert RANGE VALUE`, at any place.
    Insert(IndexRange, u32),
    /// `store RANGE VALUE`, at any place.
    Store(IndexRange, u32),
    /// `remove RANGE`, at any place.
    Remove(IndexRange),
    /// `overwrite PART VALUE`: a store over a part of what the cursor stands on.
    Overwrite(Part, u32),
    /// `erase`: the entry that the cursor stands on.
    Erase,
    /// `set VALUE`: replaces the value that the cursor stands on.
    Set(u32),
}

/// A part of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// `whole`
    Whole,
    /// `head`: the first index.
    Head,
    /// `tail`: the last index.
    Tail,
}

impl Part {
    /// The part of `range` that is meant.
    #[must_use]
    pub fn of(self, range: IndexRange) -> IndexRange {
        match self {
            Self::Whole => range,
            Self::Head => IndexRange::single(range.first()),
            Self::Tail => IndexRange::single(range.last()),
        }
    }
}

/// One operation on a set of live trees, of which one is in focus.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// A write to the tree in focus.
    Write(Write),
    /// `preallocated WRITE; WRITE; …`: all of them after one reservation.
    Preallocated(Vec<Write>),
    /// `clear`
    Clear,
    /// `set INDEX VALUE`: through `get_mut`.
    Set(u64, u32),
    /// `look INDEX`: every lookup there is, at this index.
    Look(u64),
    /// `vacant RANGE`
    Vacant(IndexRange),
    /// `walk RANGE PATTERN`: all iterators over the range; a set bit takes from the back.
    Walk(IndexRange, u64),
    /// `cursor INDEX: STEP; STEP; …`
    Cursor(u64, Vec<Step>),
    /// `lowest LENGTH within RANGE align POWER offset OFFSET`
    Lowest(FitRequest),
    /// `highest LENGTH within RANGE align POWER offset OFFSET`
    Highest(FitRequest),
    /// `extend RANGE VALUE; RANGE VALUE; …`
    Extend(Vec<(IndexRange, u32)>),
    /// `snapshot`: a new live tree, in the last place.
    Snapshot,
    /// `duplicate`: a new live tree, in the last place.
    Duplicate,
    /// `duplicate-with DROPPED REFUSED`: maps values, drops those divisible by `DROPPED` (unless it
    /// is zero) and refuses the entry of position `REFUSED`; a new live tree unless refused.
    DuplicateWith(u32, u32),
    /// `focus PLACE`: the live tree that the next operations act on (modulo their number).
    Focus(u8),
    /// `drop PLACE`: drops a live tree, unless it is the only one.
    Drop(u8),
    /// `fail AFTER`: the next operation's allocations fail after so many; what fails is repeated.
    Fail(u32),
}

impl Op {
    /// The operation with one element less, for each element of an operation that has a list.
    #[must_use]
    pub fn shorter(&self) -> Vec<Self> {
        match self {
            Self::Preallocated(writes) => one_less(writes).map(Self::Preallocated).collect(),
            Self::Extend(entries) => one_less(entries).map(Self::Extend).collect(),
            Self::Cursor(index, steps) => one_less(steps)
                .map(|steps| Self::Cursor(*index, steps))
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// `list` without its last element, without the one before, and so on; nothing empty.
fn one_less<T: Clone>(list: &[T]) -> impl Iterator<Item = Vec<T>> {
    let places = (0..list.len()).rev().filter(|_| list.len() > 1);
    places.map(|place| [&list[..place], &list[place + 1..]].concat())
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Insert(range, value) => write!(f, "insert {range} {value}"),
            Self::Store(range, value) => write!(f, "store {range} {value}"),
            Self::StoreWith(range, value) => write!(f, "store-with {range} {value}"),
            Self::Erase(index) => write!(f, "erase {index:#x}"),
            Self::Remove(range) => write!(f, "remove {range}"),
            Self::RemoveWith(range) => write!(f, "remove-with {range}"),
        }
    }
}

impl fmt::Display for FitRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            length,
            within,
            alignment,
            offset,
        } = self;
        write!(
            f,
            "{length:#x} within {within} align {alignment:#x} offset {offset:#x}"
        )
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Next => f.write_str("next"),
            Self::Previous => f.write_str("previous"),
            Self::NextEntry => f.write_str("next-entry"),
            Self::PreviousEntry => f.write_str("previous-entry"),
            Self::Seek(index) => write!(f, "seek {index:#x}"),
            Self::Insert(range, value) => write!(f, "insert {range} {value}"),
            Self::Store(range, value) => write!(f, "store {range} {value}"),
            Self::Remove(range) => write!(f, "remove {range}"),
            Self::Overwrite(Part::Whole, value) => write!(f, "overwrite whole {value}"),
            Self::Overwrite(Part::Head, value) => write!(f, "overwrite head {value}"),
            Self::Overwrite(Part::Tail, value) => write!(f, "overwrite tail {value}"),
            Self::Erase => f.write_str("erase"),
            Self::Set(value) => write!(f, "set {value}"),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(write) => write!(f, "{write}"),
            Self::Preallocated(writes) => write!(f, "preallocated {}", joined(writes)),
            Self::Clear => f.write_str("clear"),
            Self::Set(index, value) => write!(f, "set {index:#x} {value}"),
            Self::Look(index) => write!(f, "look {index:#x}"),
            Self::Vacant(range) => write!(f, "vacant {range}"),
            Self::Walk(range, pattern) => write!(f, "walk {range} {pattern:#x}"),
            Self::Cursor(index, steps) => write!(f, "cursor {index:#x}: {}", joined(steps)),
            Self::Lowest(request) => write!(f, "lowest {request}"),
            Self::Highest(request) => write!(f, "highest {request}"),
            Self::Extend(entries) => write!(f, "extend {}", pairs(entries)),
            Self::Snapshot => f.write_str("snapshot"),
            Self::Duplicate => f.write_str("duplicate"),
            Self::DuplicateWith(drop, refuse) => write!(f, "duplicate-with {drop} {refuse}"),
            Self::Focus(place) => write!(f, "focus {place}"),
            Self::Drop(place) => write!(f, "drop {place}"),
            Self::Fail(after) => write!(f, "fail {after}"),
        }
    }
}

fn joined(parts: &[impl fmt::Display]) -> String {
    parts
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

fn pairs(entries: &[(IndexRange, u32)]) -> String {
    let line = |(range, value): &(IndexRange, u32)| format!("{range} {value}");
    entries.iter().map(line).collect::<Vec<_>>().join("; ")
}
