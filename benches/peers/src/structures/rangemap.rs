//! The crate `rangemap`.

use crate::data::Span;
use crate::structure::{RangeMap, Scan, Structure, Value, walk_down, walk_up};
use crate::work::Work;

/// The kind.
pub(crate) struct RangeMapCrate;

impl Structure for RangeMapCrate {
    const NAME: &'static str = "rangemap";

    type Map<V: Value> = rangemap::RangeMap<u64, V>;

    fn why_not(work: Work) -> Option<&'static str> {
        match work {
            Work::Bulk => Some("it has no way to fill a map that knows the input to be sorted"),
            Work::Snapshot | Work::FirstWrite => Some("its clone copies every entry"),
            _ => None,
        }
    }
}

const fn span(range: &std::ops::Range<u64>) -> Span {
    Span {
        first: range.start,
        last: range.end - 1,
    }
}

impl<V: Value> RangeMap<V> for rangemap::RangeMap<u64, V> {
    fn new() -> Self {
        Self::new()
    }

    fn get(&self, index: u64) -> Option<V> {
        rangemap::RangeMap::get(self, &index).cloned()
    }

    fn scan<S: Scan<V>>(&self, scan: S) -> S::Output {
        scan.scan(rangemap::RangeMap::iter(self).map(|(range, value)| (span(range), value.clone())))
    }

    fn store(&mut self, span: Span, value: V) {
        self.insert(span.first..span.last + 1, value);
    }

    fn remove(&mut self, span: Span) {
        rangemap::RangeMap::remove(self, span.first..span.last + 1);
    }

    fn erase(&mut self, index: u64) {
        let found = self.get_key_value(&index);
        if let Some(range) = found.map(|(range, _)| range.clone()) {
            rangemap::RangeMap::remove(self, range);
        }
    }

    fn lowest_gap(&self, window: Span, length: u64) -> Option<u64> {
        let spans = rangemap::RangeMap::iter(self).map(|(range, _)| span(range));
        walk_up(spans, window, length)
    }

    fn highest_gap(&self, window: Span, length: u64) -> Option<u64> {
        let spans = rangemap::RangeMap::iter(self).rev();
        walk_down(spans.map(|(range, _)| span(range)), window, length)
    }

    fn duplicate(&self) -> Option<Self> {
        Some(self.clone())
    }
}
