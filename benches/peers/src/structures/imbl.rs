//! `imbl::OrdMap` from first index to last index and value. It knows points only: an overwrite is a
//! search, trims and removals one after another.

use crate::data::Span;
use crate::structure::{RangeMap, Scan, Structure, Value, walk_down, walk_up};
use crate::work::Work;
use imbl::OrdMap;

/// The kind.
pub(crate) struct Imbl;

/// The map.
#[derive(Clone)]
pub(crate) struct ImblRanges<V: Value> {
    by_first: OrdMap<u64, (u64, V)>,
}

impl Structure for Imbl {
    const NAME: &'static str = "imbl";

    type Map<V: Value> = ImblRanges<V>;

    fn why_not(work: Work) -> Option<&'static str> {
        match work {
            Work::Bulk => Some("it has no way to fill a map that knows the input to be sorted"),
            Work::Duplicate | Work::DuplicateArc => Some("its clone is a snapshot"),
            Work::BesideReads | Work::BesideWrites => {
                Some("left out: to share it, snapshots have to be handed from thread to thread")
            }
            _ => None,
        }
    }
}

impl<V: Value> ImblRanges<V> {
    fn cut_below(&mut self, span: Span) {
        // Looked at first: asking for a mutable reference already copies what is shared.
        let Some((&first, &(last, _))) = self.by_first.range(..span.first).next_back() else {
            return;
        };
        if last < span.first {
            return;
        }
        let Some((last, value)) = self.by_first.get_mut(&first) else {
            return;
        };
        let above = (*last > span.last).then(|| (*last, value.clone()));
        *last = span.first - 1;
        if let Some(above) = above {
            self.by_first.insert(span.last + 1, above);
        }
    }

    fn clear_from(&mut self, from: u64, span: Span) {
        loop {
            let Some((&first, &(last, _))) = self.by_first.range(from..=span.last).next() else {
                return;
            };
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

impl<V: Value> RangeMap<V> for ImblRanges<V> {
    fn new() -> Self {
        Self {
            by_first: OrdMap::new(),
        }
    }

    fn get(&self, index: u64) -> Option<V> {
        let (_, (last, value)) = self.by_first.get_prev(&index)?;
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
        let Some((&first, &(last, _))) = self.by_first.get_prev(&index) else {
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

    fn snapshot(&self) -> Option<Self> {
        Some(self.clone())
    }
}
