//! The operations that only look: lookups, iterators and gap searches.

use super::{Compared, Mismatch, Pair, same};
use crate::model::{ModelGapRequest, ModelSegment};
use crate::nodes::TestNodes;
use crate::op::FitRequest;
use crate::token::TestValue;
use maple_tree::{Alignment, GapRequest, IndexRange, Segment};
use std::fmt::Debug;

/// An entry of the tree by the name of its value.
pub(super) fn named<T: TestValue>(entry: Option<(IndexRange, &T)>) -> Option<(IndexRange, u32)> {
    entry.map(|(range, value)| (range, value.id()))
}

/// A segment of the tree as the model writes it.
pub(super) fn segment<T: TestValue>(segment: &Segment<'_, T>) -> ModelSegment<u32> {
    match segment {
        Segment::Entry(range, value) => ModelSegment::Entry(*range, value.id()),
        Segment::Gap(range) => ModelSegment::Gap(*range),
    }
}

impl<T: TestValue, S: TestNodes> Pair<T, S> {
    /// Every lookup there is, at `index`.
    pub(super) fn look(&self, index: u64) -> Compared {
        let (tree, model) = (&self.tree, &self.model);
        same("find", &segment(&tree.find(index)), &model.find(index))?;
        same("entry", &named(tree.entry(index)), &model.entry(index))?;
        let value = model.entry(index).map(|(_, value)| value);
        same("get", &tree.get(index).map(T::id), &value)?;
        same("first", &named(tree.first()), &model.first())?;
        same("last", &named(tree.last()), &model.last())?;
        same(
            "at_or_after",
            &named(tree.at_or_after(index)),
            &model.at_or_after(index),
        )?;
        same(
            "at_or_before",
            &named(tree.at_or_before(index)),
            &model.at_or_before(index),
        )?;
        same("after", &named(tree.after(index)), &model.after(index))?;
        same("before", &named(tree.before(index)), &model.before(index))
    }

    pub(super) fn vacant(&self, range: IndexRange) -> Compared {
        same(
            "is_vacant",
            &self.tree.is_vacant(range),
            &self.model.is_vacant(range),
        )
    }

    /// All iterators over `range`, taking from both ends as the bits of `pattern` say.
    pub(super) fn walk(&self, range: IndexRange, pattern: u64) -> Compared {
        let bounds = range.first()..=range.last();
        let entries = self
            .tree
            .range(bounds.clone())
            .map(|(range, value)| (range, value.id()));
        zip_ends("range", entries, self.model.overlapping(range), pattern)?;
        zip_ends(
            "gaps",
            self.tree.gaps(bounds.clone()),
            self.model.gaps(range),
            pattern,
        )?;
        let segments = self.tree.segments(bounds).map(|part| segment(&part));
        zip_ends("segments", segments, self.model.segments(range), pattern)
    }

    pub(super) fn lowest(&self, request: &FitRequest) -> Compared {
        let expected = self.model.lowest_gap(&of_model(request));
        self.fits(
            "lowest_gap",
            self.tree.lowest_gap(&of_tree(request)?),
            expected,
        )
    }

    pub(super) fn highest(&self, request: &FitRequest) -> Compared {
        let expected = self.model.highest_gap(&of_model(request));
        self.fits(
            "highest_gap",
            self.tree.highest_gap(&of_tree(request)?),
            expected,
        )
    }

    fn fits(
        &self,
        what: &str,
        found: Option<IndexRange>,
        expected: Option<IndexRange>,
    ) -> Compared {
        match same(what, &found, &expected) {
            Ok(()) => Ok(()),
            Err(Mismatch(text)) => Err(self.explain(&text)),
        }
    }
}

fn of_model(request: &FitRequest) -> ModelGapRequest {
    let &FitRequest {
        length,
        within,
        alignment,
        offset,
    } = request;
    ModelGapRequest {
        length,
        within,
        alignment,
        offset,
    }
}

fn of_tree(request: &FitRequest) -> Result<GapRequest, Mismatch> {
    let alignment = Alignment::new(request.alignment);
    let alignment = alignment.ok_or_else(|| Mismatch(format!("{request} was refused")))?;
    let alignment = alignment.with_offset(request.offset);
    Ok(GapRequest::new(request.length)
        .within(request.within)
        .aligned(alignment))
}

/// Takes `iter` apart from both ends and compares each element; an exhausted iterator stays so.
fn zip_ends<A, I>(what: &str, mut iter: I, expected: Vec<A>, pattern: u64) -> Compared
where
    A: PartialEq + Debug,
    I: DoubleEndedIterator<Item = A>,
{
    let mut expected = expected.into_iter();
    for step in 0.. {
        let from_back = pattern.rotate_right(step) & 1 == 1;
        let (found, wanted) = match from_back {
            true => (iter.next_back(), expected.next_back()),
            false => (iter.next(), expected.next()),
        };
        same(
            &format!("{what}, element {step} of the walk"),
            &found,
            &wanted,
        )?;
        if wanted.is_none() {
            break;
        }
    }
    same(&format!("{what}, next after the end"), &iter.next(), &None)?;
    same(
        &format!("{what}, next_back after the end"),
        &iter.next_back(),
        &None,
    )
}
