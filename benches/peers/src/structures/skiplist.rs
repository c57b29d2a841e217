//! `crossbeam_skiplist::SkipMap` from first index to last index and value. It knows points only, and
//! an overwrite is several calls, between which a reader may look.

use crate::data::Span;
use crate::structure::{RangeMap, Scan, Structure, Value, walk_down, walk_up};
use crate::work::Work;
use std::ops::Bound;

/// The kind.
pub(crate) struct Skip;

/// The map.
pub(crate) struct SkipMap<V: Value> {
    by_first: crossbeam_skiplist::SkipMap<u64, (u64, V)>,
}

impl Structure for Skip {
    const NAME: &'static str = "skiplist";

    type Map<V: Value> = SkipMap<V>;

    fn why_not(work: Work) -> Option<&'static str> {
        match work {
            Work::Bulk => Some("it has no way to fill a map that knows the input to be sorted"),
            Work::Duplicate | Work::DuplicateArc | Work::Snapshot | Work::FirstWrite => {
                Some("it has no clone")
            }
            _ => None,
        }
    }
}

impl<V: Value> SkipMap<V> {
    /// As [`RangeMap::store`], by a shared reference; one writer at a time.
    pub(crate) fn store_shared(&self, span: Span, value: V) {
        self.cut_below(span);
        if let Some(same) = self.by_first.get(&span.first) {
            self.keep_above(span, same.value());
        }
        if span.first < span.last {
            self.clear_from(span.first + 1, span);
        }
        self.by_first.insert(span.first, (span.last, value));
    }

    /// As [`RangeMap::remove`], by a shared reference; one writer at a time.
    pub(crate) fn remove_shared(&self, span: Span) {
        self.cut_below(span);
        self.clear_from(span.first, span);
    }

    /// Shortens the entry that begins below `span` and reaches into it.
    fn cut_below(&self, span: Span) {
        if let Some(below) = self.by_first.upper_bound(Bound::Excluded(&span.first))
            && below.value().0 >= span.first
        {
            self.keep_above(span, below.value());
            let value = below.value().1.clone();
            self.by_first.insert(*below.key(), (span.first - 1, value));
        }
    }

    /// Takes every entry that begins at or above `from` and within `span`.
    fn clear_from(&self, from: u64, span: Span) {
        for within in self.by_first.range(from..=span.last) {
            self.keep_above(span, within.value());
            within.remove();
        }
    }

    /// Makes what an entry has above `span`, if anything, an entry of its own.
    fn keep_above(&self, span: Span, (last, value): &(u64, V)) {
        if *last > span.last {
            self.by_first.insert(span.last + 1, (*last, value.clone()));
        }
    }

    /// As [`RangeMap::erase`], by a shared reference; one writer at a time.
    pub(crate) fn erase_shared(&self, index: u64) {
        if let Some(entry) = self.by_first.upper_bound(Bound::Included(&index))
            && index <= entry.value().0
        {
            entry.remove();
        }
    }
}

impl<V: Value> RangeMap<V> for SkipMap<V> {
    fn new() -> Self {
        Self {
            by_first: crossbeam_skiplist::SkipMap::new(),
        }
    }

    fn get(&self, index: u64) -> Option<V> {
        let entry = self.by_first.upper_bound(Bound::Included(&index))?;
        let (last, value) = entry.value();
        (index <= *last).then(|| value.clone())
    }

    fn scan<S: Scan<V>>(&self, scan: S) -> S::Output {
        scan.scan(self.by_first.iter().map(|entry| {
            let (first, (last, value)) = (*entry.key(), entry.value());
            let last = *last;
            (Span { first, last }, value.clone())
        }))
    }

    fn store(&mut self, span: Span, value: V) {
        self.store_shared(span, value);
    }

    fn remove(&mut self, span: Span) {
        self.remove_shared(span);
    }

    fn erase(&mut self, index: u64) {
        self.erase_shared(index);
    }

    fn settle(&self) {
        flush();
    }

    fn lowest_gap(&self, window: Span, length: u64) -> Option<u64> {
        let spans = self.by_first.iter().map(|entry| Span {
            first: *entry.key(),
            last: entry.value().0,
        });
        walk_up(spans, window, length)
    }

    fn highest_gap(&self, window: Span, length: u64) -> Option<u64> {
        let spans = self.by_first.iter().rev().map(|entry| Span {
            first: *entry.key(),
            last: entry.value().0,
        });
        walk_down(spans, window, length)
    }
}

/// Lets the collector that all skip lists use run until nothing waits that it may free.
fn flush() {
    /// Garbage is freed two epochs after its own, some bags of it at a time.
    const ENOUGH: usize = 1 << 16;
    for _ in 0..ENOUGH {
        crossbeam_epoch::pin().flush();
    }
}
