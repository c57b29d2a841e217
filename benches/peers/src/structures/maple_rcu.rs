//! `maple_tree::RcuMapleTree` with gap tracking, its readers under guards of `crossbeam-epoch`, its
//! writers under a lock of `parking_lot`.

use super::maple::{range, request, span};
use crate::data::Span;
use crate::structure::{Held, RangeMap, Scan, Structure, Value};
use crate::work::Work;
use maple_tree::{EpochRcu, MapleTree, SyncMapleTree};
use std::convert::Infallible;

/// The kind.
pub(crate) struct MapleRcu;

/// The map. Each look-up enters as a reader, each write takes the lock.
pub(crate) struct RcuTree<V: Value>(SyncMapleTree<V>);

impl Structure for MapleRcu {
    const NAME: &'static str = "maple rcu";

    type Map<V: Value> = RcuTree<V>;

    fn why_not(_: Work) -> Option<&'static str> {
        None
    }
}

impl<V: Value> RcuTree<V> {
    fn of(tree: MapleTree<V>) -> Self {
        Self(SyncMapleTree::from_tree(tree, EpochRcu))
    }

    /// As [`RangeMap::store`], by a shared reference.
    pub(crate) fn store_shared(&self, span: Span, value: V) {
        let stored = self.0.write().store(range(span), value);
        stored.expect("there is memory for nodes");
    }

    /// As [`RangeMap::remove`], by a shared reference.
    pub(crate) fn remove_shared(&self, span: Span) {
        let removed = self.0.write().remove(range(span));
        removed.expect("there is memory for nodes");
    }

    /// As [`RangeMap::erase`], by a shared reference.
    pub(crate) fn erase_shared(&self, index: u64) {
        let erased = self.0.write().erase(index);
        erased.expect("there is memory for nodes");
    }
}

impl<V: Value> RangeMap<V> for RcuTree<V> {
    fn new() -> Self {
        Self(SyncMapleTree::with_gaps(EpochRcu))
    }

    fn bulk(entries: impl Iterator<Item = Held<V>>) -> Option<Self> {
        let mut tree = MapleTree::with_gaps();
        let entries = entries.map(|(span, value)| (range(span), value));
        tree.bulk_load(entries).ok()?;
        Some(Self::of(tree))
    }

    fn get(&self, index: u64) -> Option<V> {
        self.0.read().get(index).cloned()
    }

    fn scan<S: Scan<V>>(&self, scan: S) -> S::Output {
        let reader = self.0.read();
        let entries = reader.iter();
        scan.scan(entries.map(|(range, value)| (span(range), value.clone())))
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

    fn lowest_gap(&self, window: Span, length: u64) -> Option<u64> {
        let found = self.0.write().lowest_gap(&request(window, length))?;
        Some(found.first())
    }

    fn highest_gap(&self, window: Span, length: u64) -> Option<u64> {
        let found = self.0.write().highest_gap(&request(window, length))?;
        Some(found.first())
    }

    fn duplicate(&self) -> Option<Self> {
        self.0.write().duplicate().ok().map(Self::of)
    }

    fn duplicate_each(&self) -> Option<Self> {
        let same = |_, value: &V| Ok::<_, Infallible>(Some(value.clone()));
        let copy = self.0.write().duplicate_with(same);
        copy.ok().map(Self::of)
    }

    fn memory_usage(&self) -> Option<usize> {
        Some(self.0.write().memory_usage())
    }

    fn settle(&self) {
        self.0.barrier();
    }

    fn snapshot(&self) -> Option<Self> {
        Some(Self::of(self.0.snapshot()))
    }
}
