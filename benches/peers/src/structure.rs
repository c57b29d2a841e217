//! What every structure is asked for, and which structures cannot do what.

use crate::data::Span;
use crate::work::Work;
use std::fmt::Debug;
use std::sync::Arc;

/// What a structure holds for each area: a number, or a counted pointer to one.
pub(crate) trait Value:
    Clone + Eq + Debug + Send + Sync + maple_tree::Entry + 'static
{
    /// The value that stands for `word`, newly made.
    fn of(word: u64) -> Self;

    /// The word it stands for.
    fn word(&self) -> u64;
}

impl Value for u64 {
    fn of(word: u64) -> Self {
        word
    }

    fn word(&self) -> u64 {
        *self
    }
}

impl Value for Arc<u64> {
    fn of(word: u64) -> Self {
        Self::new(word)
    }

    fn word(&self) -> u64 {
        **self
    }
}

/// An entry as iteration yields it.
pub(crate) type Held<V> = (Span, V);

/// What is done with all entries of a map. (Not an iterator that the map returns: an entry of a tree
/// that others write is there for as long as a guard is, which the map makes for the scan.)
pub(crate) trait Scan<V> {
    /// What comes of it.
    type Output;

    fn scan(self, entries: impl Iterator<Item = Held<V>>) -> Self::Output;
}

/// A map from disjoint inclusive ranges to values, each call as its users would write it.
pub(crate) trait RangeMap<V: Value>: Sized {
    /// An empty map.
    fn new() -> Self;

    /// A map of ascending, disjoint entries, where there is a way that knows they are.
    fn bulk(_entries: impl Iterator<Item = Held<V>>) -> Option<Self> {
        None
    }

    /// The value whose range holds `index`.
    fn get(&self, index: u64) -> Option<V>;

    /// Gives the entries, ascending, to `scan`.
    fn scan<S: Scan<V>>(&self, scan: S) -> S::Output;

    /// Stores `value` over the whole of `span`; entries that it cuts keep their outer parts.
    fn store(&mut self, span: Span, value: V);

    /// Empties the whole of `span`; entries that it cuts keep their outer parts.
    fn remove(&mut self, span: Span);

    /// Takes the entry that holds `index`, whole.
    fn erase(&mut self, index: u64);

    /// Where the lowest hole within `window` that has room for `length` indices begins.
    fn lowest_gap(&self, window: Span, length: u64) -> Option<u64>;

    /// Where the highest range of `length` indices begins that is empty and within `window`.
    fn highest_gap(&self, window: Span, length: u64) -> Option<u64>;

    /// A second map with the same entries that shares nothing with this one.
    fn duplicate(&self) -> Option<Self> {
        None
    }

    /// The same, where there is a way that calls back for each entry; else as [`Self::duplicate`].
    fn duplicate_each(&self) -> Option<Self> {
        self.duplicate()
    }

    /// Bytes that the structure itself accounts for.
    fn memory_usage(&self) -> Option<usize> {
        None
    }

    /// Frees now what was left for later, as far as that is known to be safe.
    fn settle(&self) {}

    /// A second map with the same entries, made in a time that does not depend on their number.
    fn snapshot(&self) -> Option<Self> {
        None
    }
}

/// A kind of map, for values of every type.
pub(crate) trait Structure: 'static {
    /// As the table's heading has it.
    const NAME: &'static str;

    type Map<V: Value>: RangeMap<V>;

    /// Why this structure cannot do `work`, if it cannot.
    fn why_not(work: Work) -> Option<&'static str>;
}

/// A gap search for structures that do not know their gaps: goes from entry to entry.
pub(crate) fn walk_up(
    mut entries: impl Iterator<Item = Span>,
    window: Span,
    length: u64,
) -> Option<u64> {
    let mut next = window.first;
    let found = entries
        .by_ref()
        .take_while(|entry| entry.first <= window.last)
        .find_map(|entry| {
            let fits = entry
                .first
                .checked_sub(next)
                .is_some_and(|hole| hole >= length);
            let begin = next;
            next = next.max(entry.last.saturating_add(1));
            fits.then_some(begin)
        });
    let at_end = || {
        window
            .last
            .checked_sub(next)
            .is_some_and(|room| room >= length - 1)
    };
    found.or_else(|| at_end().then_some(next))
}

/// The same from the top; `entries` descend.
pub(crate) fn walk_down(
    mut entries: impl Iterator<Item = Span>,
    window: Span,
    length: u64,
) -> Option<u64> {
    // Exclusive, as everything above it has been seen to be taken.
    let mut end = window.last.checked_add(1)?;
    let found = entries
        .by_ref()
        .take_while(|entry| entry.last >= window.first)
        .find_map(|entry| {
            let fits = end
                .checked_sub(entry.last + 1)
                .is_some_and(|hole| hole >= length);
            let top = end;
            end = end.min(entry.first);
            fits.then(|| top - length)
        });
    let at_start = || {
        end.checked_sub(window.first)
            .is_some_and(|room| room >= length)
    };
    found.or_else(|| at_start().then(|| end - length))
}
