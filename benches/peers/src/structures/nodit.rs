//! The crate `nodit`.

use crate::data::Span;
use crate::structure::{RangeMap, Scan, Structure, Value, walk_down, walk_up};
use crate::work::Work;
use nodit::interval::ii;
use nodit::{Interval, NoditMap};

/// The kind.
pub(crate) struct Nodit;

impl Structure for Nodit {
    const NAME: &'static str = "nodit";

    type Map<V: Value> = NoditMap<u64, Interval<u64>, V>;

    fn why_not(work: Work) -> Option<&'static str> {
        match work {
            Work::Bulk => Some("it has no way to fill a map that knows the input to be sorted"),
            Work::Snapshot | Work::FirstWrite => Some("its clone copies every entry"),
            Work::BesideReads | Work::BesideWrites => Some("left out: as `rangemap` behind a lock"),
            _ => None,
        }
    }
}

fn span(interval: &Interval<u64>) -> Span {
    Span {
        first: *interval.start(),
        last: *interval.end(),
    }
}

impl<V: Value> RangeMap<V> for NoditMap<u64, Interval<u64>, V> {
    fn new() -> Self {
        Self::new()
    }

    fn get(&self, index: u64) -> Option<V> {
        self.get_at_point(&index).cloned()
    }

    fn scan<S: Scan<V>>(&self, scan: S) -> S::Output {
        scan.scan(NoditMap::iter(self).map(|(interval, value)| (span(interval), value.clone())))
    }

    fn store(&mut self, span: Span, value: V) {
        // It hands out what it cut in an iterator, lazily: to be dropped, not to be walked.
        drop(self.insert_overwrite(ii(span.first, span.last), value));
    }

    fn remove(&mut self, span: Span) {
        drop(self.cut(&ii(span.first, span.last)));
    }

    fn erase(&mut self, index: u64) {
        let found = self.get_key_value_at_point(&index);
        if let Ok(interval) = found.map(|(interval, _)| *interval) {
            drop(self.cut(&interval));
        }
    }

    fn lowest_gap(&self, window: Span, length: u64) -> Option<u64> {
        let spans = NoditMap::iter(self).map(|(interval, _)| span(interval));
        walk_up(spans, window, length)
    }

    fn highest_gap(&self, window: Span, length: u64) -> Option<u64> {
        let spans = NoditMap::iter(self).rev();
        walk_down(spans.map(|(interval, _)| span(interval)), window, length)
    }

    fn duplicate(&self) -> Option<Self> {
        Some(self.clone())
    }
}
