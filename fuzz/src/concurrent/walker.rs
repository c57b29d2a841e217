//! An iterator that goes on while the tree below it is written to, and what it may meet.

use super::stage::Stage;
use crate::script::Script;
use maple_tree::{Cursor, Gaps, IndexRange, Iter, Rcu, Reader, Segment, Segments};
use testkit::Token;

/// An iterator or cursor of a reader.
pub(super) struct Walker<'r> {
    stage: &'r Stage,
    /// The state of the tree in which it was made; it may meet this and later ones.
    since: usize,
    walk: Walk<'r>,
    /// What is still to be met, `None` once the two ends have met.
    left: Option<IndexRange>,
    /// The values that were met.
    found: Vec<(&'r Token, u32)>,
}

enum Walk<'r> {
    Entries(Iter<'r, Token>),
    Segments(Segments<'r, Token>),
    Gaps(Gaps<'r, Token>),
    Cursor(Cursor<'r, Token>),
}

/// The end of an iterator that goes one step on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Front,
    Back,
}

impl<'r> Walker<'r> {
    pub(super) fn new<R: Rcu>(
        stage: &'r Stage,
        reader: &'r Reader<'_, Token, R>,
        script: &mut Script<'_>,
    ) -> Self {
        let model = stage.model();
        let kind = script.below(8);
        let bounds = match script.below(2) {
            0 => IndexRange::FULL,
            _ => script.range(&model),
        };
        let span = bounds.first()..=bounds.last();
        let walk = match kind {
            0..3 => Walk::Entries(reader.range(span)),
            3 | 4 => Walk::Segments(reader.segments(span)),
            5 => Walk::Gaps(reader.gaps(span)),
            _ => Walk::Cursor(reader.cursor(bounds.first())),
        };
        stage.say(&format!("an iterator of kind {kind} over {bounds}"));
        Self {
            stage,
            since: stage.moments() - 1,
            walk,
            left: Some(bounds),
            found: Vec::new(),
        }
    }

    /// The values that were met.
    pub(super) fn into_found(self) -> Vec<(&'r Token, u32)> {
        self.found
    }

    /// One step, from either end.
    pub(super) fn step(&mut self, script: &mut Script<'_>) {
        let end = match script.below(3) {
            0 | 1 => End::Front,
            _ => End::Back,
        };
        self.stage.say(&format!(
            "a step at the {end:?} of one made in {}",
            self.since
        ));
        let next = match (&mut self.walk, end) {
            (Walk::Entries(iter), End::Front) => iter.next().map(entry),
            (Walk::Entries(iter), End::Back) => iter.next_back().map(entry),
            (Walk::Segments(iter), End::Front) => iter.next(),
            (Walk::Segments(iter), End::Back) => iter.next_back(),
            (Walk::Gaps(iter), End::Front) => iter.next().map(Segment::Gap),
            (Walk::Gaps(iter), End::Back) => iter.next_back().map(Segment::Gap),
            // A cursor goes both ways and has no end to keep; what it shows is checked all the same.
            (Walk::Cursor(cursor), End::Front) => cursor.next(),
            (Walk::Cursor(cursor), End::Back) => cursor.previous(),
        };
        if let Some(segment) = &next {
            self.check(segment);
        }
        if !matches!(self.walk, Walk::Cursor(_)) {
            self.advance(next.map(Segment::range), end);
        }
    }

    /// The segment was there, whole, at some moment.
    fn check(&mut self, segment: &Segment<'r, Token>) {
        let was_there = match *segment {
            Segment::Entry(range, value) => {
                self.found.push((value, value.id()));
                let entry = Some((range, value.id()));
                self.stage
                    .sometime(self.since, |model| model.entry(range.first()) == entry)
            }
            Segment::Gap(range) => self
                .stage
                .sometime(self.since, |model| model.is_vacant(range)),
        };
        assert!(
            was_there,
            "{segment:?} never was there since {}",
            self.since
        );
    }

    /// Nothing is met twice, and nothing that never changed is left out.
    fn advance(&mut self, met: Option<IndexRange>, end: End) {
        let Some(left) = self.left else {
            assert_eq!(met, None, "met after the end");
            return;
        };
        let passed = match (met, end) {
            (None, _) => Some(left),
            (Some(range), End::Front) => {
                assert!(
                    range.last() >= left.first(),
                    "{range} was met, {left} is left"
                );
                range
                    .first()
                    .checked_sub(1)
                    .and_then(|last| IndexRange::new(left.first(), last))
            }
            (Some(range), End::Back) => {
                assert!(
                    range.first() <= left.last(),
                    "{range} was met, {left} is left"
                );
                range
                    .last()
                    .checked_add(1)
                    .and_then(|first| IndexRange::new(first, left.last()))
            }
        };
        if let (Walk::Entries(_) | Walk::Segments(_), Some(passed)) = (&self.walk, passed) {
            let missed = self.stage.unchanged(self.since, passed);
            assert!(missed.is_empty(), "{missed:?} were left out");
        }
        self.left = met.and_then(|range| match end {
            End::Front => IndexRange::new(range.last().checked_add(1)?, left.last()),
            End::Back => IndexRange::new(left.first(), range.first().checked_sub(1)?),
        });
    }
}

fn entry<'r>((range, value): (IndexRange, &'r Token)) -> Segment<'r, Token> {
    Segment::Entry(range, value)
}
