//! `std::collections::BTreeMap` from first index to last index and value, with the split and trim
//! code that one writes by hand around it.

use crate::data::Span;
use crate::structure::{Held, RangeMap, Scan, Structure, Value, walk_down, walk_up};
use crate::work::Work;
use std::collections::BTreeMap;

/// The kind.
pub(crate) struct BTree;

/// The map.
#[derive(Clone)]
pub(crate) struct BTreeRanges<V> {
    by_first: BTreeMap<u64, (u64, V)>,
}

impl Structure for BTree {
    const NAME: &'static str = "BTreeMap";

    type Map<V: Value> = BTreeRanges<V>;

    fn why_not(work: Work) -> Option<&'static str> {
        match work {
            Work::Snapshot | Work::FirstWrite => Some("its clone copies every entry"),
            _ => None,
        }
    }
}

impl<V: Value> BTreeRanges<V> {
    /// Shortens the entry that begins below `span` and reaches into it; what it has above `span`
    /// becomes an entry of its own.
    fn cut_below(&mut self, span: Span) {
        let Some((_, (last, value))) = self.by_first.range_mut(..span.first).next_back() else {
            return;
        };
        if *last < span.first {
            return;
        }
        let above = (*last > span.last).then(|| (*last, value.clone()));
        *last = span.first - 1;
        if let Some(above) = above {
            self.by_first.insert(span.last + 1, above);
        }
    }

    /// Takes every entry that begins above `from` and within `span`; the part of the last one that
    /// is above `span` stays.
    fn clear_from(&mut self, from: u64, span: Span) {
        while let Some((&first, &(last, _))) = self.by_first.range(from..=span.last).next() {
            let Some((_, value)) = self.by_first.remove(&first) else {
                return;
            };
            if last > span.last {
                self.by_first.insert(span.last + 1, (last, value));
                return;
            }
        }
    }
}

impl<V: Value> RangeMap<V> for BTreeRanges<V> {
    fn new() -> Self {
        Self {
            by_first: BTreeMap::new(),
        }
    }

    /// Collecting sorts, which is quick for what is sorted, and then fills the nodes in order.
    fn bulk(entries: impl Iterator<Item = Held<V>>) -> Option<Self> {
        let entries = entries.map(|(span, value)| (span.first, (span.last, value)));
        Some(Self {
            by_first: entries.collect(),
        })
    }

    fn get(&self, index: u64) -> Option<V> {
        let (_, (last, value)) = self.by_first.range(..=index).next_back()?;
        (index <= *last).then(|| value.clone())
    }

    fn scan<S: Scan<V>>(&self, scan: S) -> S::Output {
        scan.scan(self.by_first.iter().map(|(&first, (last, value))| {
            let last = *last;
            (Span { first, last }, value.clone())
        }))
    }

    fn store(&mut self, span: Span, value: V) {
        self.cut_below(span);
        // Storing over the very same range is the most frequent case, and needs one search.
        match self.by_first.insert(span.first, (span.last, value)) {
            Some((last, above)) if last > span.last => {
                self.by_first.insert(span.last + 1, (last, above));
            }
            Some((last, _)) if last == span.last => {}
            _ if span.first < span.last => self.clear_from(span.first + 1, span),
            _ => {}
        }
    }

    fn remove(&mut self, span: Span) {
        self.cut_below(span);
        self.clear_from(span.first, span);
    }

    fn erase(&mut self, index: u64) {
        let Some((&first, &(last, _))) = self.by_first.range(..=index).next_back() else {
            return;
        };
        if index <= last {
            self.by_first.remove(&first);
        }
    }

    fn lowest_gap(&self, window: Span, length: u64) -> Option<u64> {
        let spans = self
            .by_first
            .iter()
            .map(|(&first, &(last, _))| Span { first, last });
        walk_up(spans, window, length)
    }

    fn highest_gap(&self, window: Span, length: u64) -> Option<u64> {
        let spans = self.by_first.iter().rev();
        let spans = spans.map(|(&first, &(last, _))| Span { first, last });
        walk_down(spans, window, length)
    }

    fn duplicate(&self) -> Option<Self> {
        Some(self.clone())
    }
}
