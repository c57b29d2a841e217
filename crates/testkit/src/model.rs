//! The reference model: a range map as a sorted vector, with the tree's exact meaning.
//!
//! Every operation is a loop over all entries. It is the judge in every property test, so it gives
//! up speed wherever speed would need an argument.

use maple_tree::IndexRange;
use std::num::NonZeroU64;

/// An entry of the model: the range it covers and its value.
pub type ModelEntry<V> = (IndexRange, V);

/// The parts of entries that a write took away, lowest first, each clipped to the written range.
pub type Displaced<V> = Vec<(IndexRange, V)>;

/// An entry or a maximal run of indices without one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ModelSegment<V> {
    /// An entry and its range.
    Entry(IndexRange, V),
    /// A run of indices without an entry.
    Gap(IndexRange),
}

impl<V> ModelSegment<V> {
    /// The indices the segment covers.
    pub const fn range(&self) -> IndexRange {
        match self {
            Self::Entry(range, _) | Self::Gap(range) => *range,
        }
    }
}

/// What a gap search asks of the model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModelGapRequest {
    /// The number of indices wanted.
    pub length: NonZeroU64,
    /// Where the answer must lie, whole.
    pub within: IndexRange,
    /// The answer's first index is `offset` modulo this power of two.
    pub alignment: u64,
    /// See `alignment`; below it.
    pub offset: u64,
}

/// A map from disjoint, non-empty ranges of indices to values.
///
/// # Invariants
///
/// - Entries are sorted by range and no two ranges overlap; `check` says so after every write.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Model<V> {
    entries: Vec<ModelEntry<V>>,
}

impl<V: Copy> Model<V> {
    /// An empty map.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// The entries, lowest first.
    #[must_use]
    pub fn entries(&self) -> &[ModelEntry<V>] {
        &self.entries
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no index holds an entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry that covers `index`.
    #[must_use]
    pub fn entry(&self, index: u64) -> Option<ModelEntry<V>> {
        self.entries
            .iter()
            .copied()
            .find(|(range, _)| range.contains(index))
    }

    /// The lowest entry.
    #[must_use]
    pub fn first(&self) -> Option<ModelEntry<V>> {
        self.entries.first().copied()
    }

    /// The highest entry.
    #[must_use]
    pub fn last(&self) -> Option<ModelEntry<V>> {
        self.entries.last().copied()
    }

    /// The entry that covers `index`, else the lowest one above it.
    #[must_use]
    pub fn at_or_after(&self, index: u64) -> Option<ModelEntry<V>> {
        self.entries
            .iter()
            .copied()
            .find(|(range, _)| range.last() >= index)
    }

    /// The entry that covers `index`, else the highest one below it.
    #[must_use]
    pub fn at_or_before(&self, index: u64) -> Option<ModelEntry<V>> {
        self.entries
            .iter()
            .copied()
            .rfind(|(range, _)| range.first() <= index)
    }

    /// The lowest entry that begins above `index`.
    #[must_use]
    pub fn after(&self, index: u64) -> Option<ModelEntry<V>> {
        self.entries
            .iter()
            .copied()
            .find(|(range, _)| range.first() > index)
    }

    /// The highest entry that ends below `index`.
    #[must_use]
    pub fn before(&self, index: u64) -> Option<ModelEntry<V>> {
        self.entries
            .iter()
            .copied()
            .rfind(|(range, _)| range.last() < index)
    }

    /// The entry or the whole gap around `index`.
    #[must_use]
    pub fn find(&self, index: u64) -> ModelSegment<V> {
        if let Some((range, value)) = self.entry(index) {
            return ModelSegment::Entry(range, value);
        }
        let first = self.before(index).map_or(0, |(below, _)| below.last() + 1);
        let last = self
            .after(index)
            .map_or(u64::MAX, |(above, _)| above.first() - 1);
        ModelSegment::Gap(span(first, last))
    }

    /// Whether no index of `range` holds an entry.
    #[must_use]
    pub fn is_vacant(&self, range: IndexRange) -> bool {
        self.overlapping(range).is_empty()
    }

    /// The entries that share an index with `range`, whole.
    #[must_use]
    pub fn overlapping(&self, range: IndexRange) -> Vec<ModelEntry<V>> {
        self.entries
            .iter()
            .copied()
            .filter(|(entry, _)| entry.overlaps(range))
            .collect()
    }

    /// Entries (whole) and gaps (clipped to `range`) in order, covering `range` without a hole.
    #[must_use]
    pub fn segments(&self, range: IndexRange) -> Vec<ModelSegment<V>> {
        let mut segments = Vec::new();
        let mut next = Some(range.first());
        for (entry, value) in self.overlapping(range) {
            // An entry that reaches `u64::MAX` is the last one, so `next` is set here.
            let from = next.expect("no entry lies above u64::MAX");
            if from < entry.first() {
                segments.push(ModelSegment::Gap(span(from, entry.first() - 1)));
            }
            segments.push(ModelSegment::Entry(entry, value));
            next = entry.last().checked_add(1);
        }
        if let Some(from) = next.filter(|&from| from <= range.last()) {
            segments.push(ModelSegment::Gap(span(from, range.last())));
        }
        segments
    }

    /// The gaps inside `range`, clipped to it, lowest first.
    #[must_use]
    pub fn gaps(&self, range: IndexRange) -> Vec<IndexRange> {
        let only_gaps = |segment| match segment {
            ModelSegment::Gap(gap) => Some(gap),
            ModelSegment::Entry(..) => None,
        };
        self.segments(range)
            .into_iter()
            .filter_map(only_gaps)
            .collect()
    }

    /// The lowest place that meets `request`.
    #[must_use]
    pub fn lowest_gap(&self, request: &ModelGapRequest) -> Option<IndexRange> {
        self.gaps(request.within)
            .into_iter()
            .find_map(|gap| lowest_fit(gap, request))
    }

    /// The highest place that meets `request`.
    #[must_use]
    pub fn highest_gap(&self, request: &ModelGapRequest) -> Option<IndexRange> {
        self.gaps(request.within)
            .into_iter()
            .rev()
            .find_map(|gap| highest_fit(gap, request))
    }

    /// Puts `value` over `range` if no index of it holds an entry; says whether it did.
    #[must_use]
    pub fn insert(&mut self, range: IndexRange, value: V) -> bool {
        let vacant = self.is_vacant(range);
        if vacant {
            self.store(range, value);
        }
        vacant
    }

    /// Puts `value` over `range`, cutting what was there.
    pub fn store(&mut self, range: IndexRange, value: V) -> Displaced<V> {
        let displaced = self.remove(range);
        self.entries.push((range, value));
        self.check();
        displaced
    }

    /// Takes the whole entry that covers `index` away.
    pub fn erase(&mut self, index: u64) -> Option<ModelEntry<V>> {
        let position = self
            .entries
            .iter()
            .position(|(range, _)| range.contains(index))?;
        Some(self.entries.remove(position))
    }

    /// Vacates `range`: entries cut by it keep their outer parts.
    pub fn remove(&mut self, range: IndexRange) -> Displaced<V> {
        let mut displaced = Vec::new();
        for (entry, value) in std::mem::take(&mut self.entries) {
            if let Some(common) = entry.intersection(range) {
                displaced.push((common, value));
            }
            self.entries
                .extend(outside(entry, range).map(|part| (part, value)));
        }
        self.check();
        displaced
    }

    /// Replaces the value of the entry that covers `index`; gives the old one back.
    pub fn set_value(&mut self, index: u64, value: V) -> Option<V> {
        let entry = self
            .entries
            .iter_mut()
            .find(|(range, _)| range.contains(index))?;
        Some(std::mem::replace(&mut entry.1, value))
    }

    /// Takes every entry away.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// The entries that `keep` returns a value for, under that value.
    #[must_use]
    pub fn filter_map<U: Copy>(&self, keep: impl Fn(IndexRange, V) -> Option<U>) -> Model<U> {
        let mapped = |&(range, value): &ModelEntry<V>| keep(range, value).map(|new| (range, new));
        Model {
            entries: self.entries.iter().filter_map(mapped).collect(),
        }
    }

    fn check(&mut self) {
        self.entries.sort_by_key(|(range, _)| *range);
        let disjoint = self
            .entries
            .windows(2)
            .all(|pair| pair[0].0.last() < pair[1].0.first());
        assert!(disjoint, "the model itself is broken");
    }
}

/// The range `first..=last` of bounds that are known to be in order.
#[track_caller]
fn span(first: u64, last: u64) -> IndexRange {
    IndexRange::new(first, last).expect("the bounds are in order")
}

/// What is left of `entry` once `cut` is taken out: nothing, one part or two.
fn outside(entry: IndexRange, cut: IndexRange) -> impl Iterator<Item = IndexRange> {
    if !entry.overlaps(cut) {
        return [Some(entry), None].into_iter().flatten();
    }
    let below = (entry.first() < cut.first()).then(|| span(entry.first(), cut.first() - 1));
    let above = (entry.last() > cut.last()).then(|| span(cut.last() + 1, entry.last()));
    [below, above].into_iter().flatten()
}

/// The lowest start in `gap`: the next multiple at or above its first index.
fn lowest_fit(gap: IndexRange, request: &ModelGapRequest) -> Option<IndexRange> {
    let alignment = u128::from(request.alignment);
    let from = u128::from(gap.first());
    let phase = (alignment + u128::from(request.offset) - from % alignment) % alignment;
    place(gap, from + phase, request.length)
}

/// The highest start in `gap`: the next multiple at or below the last start that fits.
fn highest_fit(gap: IndexRange, request: &ModelGapRequest) -> Option<IndexRange> {
    let alignment = u128::from(request.alignment);
    let from = u128::from(gap.last().checked_sub(request.length.get() - 1)?);
    let phase = (alignment + from % alignment - u128::from(request.offset)) % alignment;
    place(gap, from.checked_sub(phase)?, request.length)
}

/// `length` indices from `first`, if they lie in `gap`.
fn place(gap: IndexRange, first: u128, length: NonZeroU64) -> Option<IndexRange> {
    let last = first + u128::from(length.get()) - 1;
    let range = IndexRange::new(u64::try_from(first).ok()?, u64::try_from(last).ok()?)?;
    gap.contains_range(range).then_some(range)
}

#[cfg(test)]
mod tests;
