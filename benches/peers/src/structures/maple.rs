//! `maple_tree::MapleTree`: plain, and with gap tracking.

use crate::data::Span;
use crate::structure::{Held, RangeMap, Scan, Structure, Value};
use crate::work::Work;
use maple_tree::{GapRequest, IndexRange, MapleTree};
use std::convert::Infallible;
use std::num::NonZeroU64;

/// The kind without gap tracking.
pub(crate) struct Maple;

/// The kind with gap tracking.
pub(crate) struct MapleGaps;

/// The map; `GAPS` says whether it tracks gaps.
pub(crate) struct Tree<V: Value, const GAPS: bool>(MapleTree<V>);

impl Structure for Maple {
    const NAME: &'static str = "maple";

    type Map<V: Value> = Tree<V, false>;

    fn why_not(work: Work) -> Option<&'static str> {
        match work {
            Work::BesideReads | Work::BesideWrites => Some("it has one owner"),
            _ => None,
        }
    }
}

impl Structure for MapleGaps {
    const NAME: &'static str = "maple gaps";

    type Map<V: Value> = Tree<V, true>;

    fn why_not(work: Work) -> Option<&'static str> {
        Maple::why_not(work)
    }
}

/// The range of a span, which is never empty.
pub(crate) fn range(span: Span) -> IndexRange {
    IndexRange::new(span.first, span.last).expect("a span is not empty")
}

/// The span of a range.
pub(crate) const fn span(range: IndexRange) -> Span {
    Span {
        first: range.first(),
        last: range.last(),
    }
}

/// A search for `length` indices within `window`.
pub(crate) fn request(window: Span, length: u64) -> GapRequest {
    let length = NonZeroU64::new(length).expect("a gap has a length");
    GapRequest::new(length).within(range(window))
}

impl<V: Value, const GAPS: bool> RangeMap<V> for Tree<V, GAPS> {
    fn new() -> Self {
        Self(if GAPS {
            MapleTree::with_gaps()
        } else {
            MapleTree::new()
        })
    }

    fn bulk(entries: impl Iterator<Item = Held<V>>) -> Option<Self> {
        let mut map = Self::new();
        let entries = entries.map(|(span, value)| (range(span), value));
        map.0.bulk_load(entries).ok()?;
        Some(map)
    }

    fn get(&self, index: u64) -> Option<V> {
        self.0.get(index).cloned()
    }

    fn scan<S: Scan<V>>(&self, scan: S) -> S::Output {
        scan.scan(
            self.0
                .iter()
                .map(|(range, value)| (span(range), value.clone())),
        )
    }

    fn store(&mut self, span: Span, value: V) {
        let stored = self.0.store(range(span), value);
        stored.expect("there is memory for nodes");
    }

    fn remove(&mut self, span: Span) {
        let removed = self.0.remove(range(span));
        removed.expect("there is memory for nodes");
    }

    fn erase(&mut self, index: u64) {
        let erased = self.0.erase(index);
        erased.expect("there is memory for nodes");
    }

    fn lowest_gap(&self, window: Span, length: u64) -> Option<u64> {
        let found = self.0.lowest_gap(&request(window, length))?;
        Some(found.first())
    }

    fn highest_gap(&self, window: Span, length: u64) -> Option<u64> {
        let found = self.0.highest_gap(&request(window, length))?;
        Some(found.first())
    }

    /// Numbers are copied node by node; for counted pointers that clones each of them.
    fn duplicate(&self) -> Option<Self> {
        self.0.duplicate().ok().map(Self)
    }

    fn duplicate_each(&self) -> Option<Self> {
        let same = |_, value: &V| Ok::<_, Infallible>(Some(value.clone()));
        self.0.duplicate_with(same).ok().map(Self)
    }

    fn memory_usage(&self) -> Option<usize> {
        Some(self.0.memory_usage())
    }

    fn snapshot(&self) -> Option<Self> {
        Some(Self(self.0.snapshot()))
    }
}
