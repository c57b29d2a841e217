//! A plain sorted vector of areas: slow, and obviously right. Every structure is held against it.

use crate::data::{Area, Span};
use crate::script::{Act, Step};

/// The areas, ascending and disjoint.
#[derive(Debug)]
pub(crate) struct Model {
    areas: Vec<Area>,
}

impl Model {
    pub(crate) fn new(areas: &[Area]) -> Self {
        Self {
            areas: areas.to_vec(),
        }
    }

    pub(crate) fn areas(&self) -> &[Area] {
        &self.areas
    }

    pub(crate) fn apply(&mut self, step: Step) {
        match step.act {
            Act::Store => {
                let at = self.remove(step.span());
                let (Span { first, last }, value) = (step.span(), step.value);
                self.areas.insert(at, Area { first, last, value });
            }
            Act::Remove => {
                self.remove(step.span());
            }
            Act::Erase => {
                if let Some(at) = self.position(step.first) {
                    self.areas.remove(at);
                }
            }
        }
    }

    /// The value at `index`.
    pub(crate) fn get(&self, index: u64) -> Option<u64> {
        self.position(index).map(|at| self.areas[at].value)
    }

    /// Where the lowest hole within `window` begins that is `length` long or longer.
    pub(crate) fn lowest_gap(&self, window: Span, length: u64) -> Option<u64> {
        let mut holes = self.holes(window);
        let hole = holes.find(|hole| hole.last - hole.first >= length - 1)?;
        Some(hole.first)
    }

    /// Where the highest range of `length` begins that is empty and within `window`.
    pub(crate) fn highest_gap(&self, window: Span, length: u64) -> Option<u64> {
        let fits = |hole: &Span| hole.last - hole.first >= length - 1;
        let hole = self.holes(window).filter(fits).last()?;
        Some(hole.last - (length - 1))
    }

    fn holes(&self, window: Span) -> impl Iterator<Item = Span> {
        let firsts = std::iter::once(0).chain(self.areas.iter().map(|area| area.last + 1));
        let ends = self.areas.iter().map(|area| area.first);
        let ends = ends.chain(std::iter::once(u64::MAX));
        firsts.zip(ends).filter_map(move |(first, end)| {
            let first = first.max(window.first);
            let last = end.checked_sub(1)?.min(window.last);
            (first <= last).then_some(Span { first, last })
        })
    }

    fn position(&self, index: u64) -> Option<usize> {
        let at = self.areas.partition_point(|area| area.last < index);
        let area = self.areas.get(at)?;
        (area.first <= index).then_some(at)
    }

    /// Empties `span`; returns where an area there would stand.
    fn remove(&mut self, span: Span) -> usize {
        let from = self.areas.partition_point(|area| area.last < span.first);
        let to = self.areas.partition_point(|area| area.first <= span.last);
        let cut = &self.areas[from..to];
        let left = cut.first().filter(|area| area.first < span.first);
        let left = left.map(|area| Area {
            last: span.first - 1,
            ..*area
        });
        let right = cut.last().filter(|area| area.last > span.last);
        let right = right.map(|area| Area {
            first: span.last + 1,
            ..*area
        });
        self.areas.splice(from..to, left.into_iter().chain(right));
        from + usize::from(left.is_some())
    }
}
