//! What is done to a structure while it is churned or timed: steps whose every group leaves the
//! content as it was.

use crate::data::{Area, FIRST, PAGE, Span};
use testkit::SplitMix;

/// The most steps that a script for timing has, about.
const STEPS_MOST: usize = 1 << 16;

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Act {
    /// Stores the value over the whole span, whatever was there.
    Store = 0,
    /// Empties the whole span, and cuts what overlaps its ends.
    Remove = 1,
    /// Takes the area that holds the span's first index, whole.
    Erase = 2,
}

/// One step.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Step {
    pub(crate) act: Act,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) value: u64,
}

impl Step {
    const fn store(area: Area) -> Self {
        Self {
            act: Act::Store,
            first: area.first,
            last: area.last,
            value: area.value,
        }
    }

    const fn remove(first: u64, last: u64) -> Self {
        Self {
            act: Act::Remove,
            first,
            last,
            value: 0,
        }
    }

    const fn erase(index: u64) -> Self {
        Self {
            act: Act::Erase,
            first: index,
            last: index,
            value: 0,
        }
    }

    pub(crate) const fn span(self) -> Span {
        Span {
            first: self.first,
            last: self.last,
        }
    }
}

/// Steps in groups: after a whole group the content is what it was before it.
#[derive(Debug, Default)]
pub(crate) struct Script {
    steps: Vec<Step>,
    /// Where each group ends, as a number of steps.
    ends: Vec<usize>,
}

impl Script {
    /// Takes a random area away and puts it back, again and again.
    pub(crate) fn erase_and_restore(areas: &[Area]) -> Self {
        let mut script = Self::default();
        let mut rng = SplitMix::new(0x6572_6173);
        while script.steps.len() < STEPS_MOST {
            script.erase_one(areas, &mut rng);
        }
        script
    }

    /// Overwrites 1 to 8 pages at a random place and puts back what was there, again and again.
    pub(crate) fn overwrite(areas: &[Area]) -> Self {
        let mut script = Self::default();
        let mut rng = SplitMix::new(0x6f76_6572);
        while script.steps.len() < STEPS_MOST {
            script.overwrite_one(areas, &mut rng);
        }
        script
    }

    /// At least `2 * areas.len()` steps of both kinds, to age a structure and its allocator.
    pub(crate) fn churn(areas: &[Area]) -> Self {
        let mut script = Self::default();
        let mut rng = SplitMix::new(0x6368_7572);
        while script.steps.len() < 2 * areas.len() {
            if rng.one_in(2) {
                script.erase_one(areas, &mut rng);
            } else {
                script.overwrite_one(areas, &mut rng);
            }
        }
        script
    }

    /// Every step, in order.
    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The steps of the next `groups` groups from `at`, and where the ones after them begin; at
    /// the end fewer, and the beginning again.
    pub(crate) fn groups(&self, at: usize, groups: usize) -> (&[Step], usize) {
        let end = (at + groups).min(self.ends.len());
        let begin = if at == 0 { 0 } else { self.ends[at - 1] };
        let steps = &self.steps[begin..self.ends[end - 1]];
        (steps, if end == self.ends.len() { 0 } else { end })
    }

    fn erase_one(&mut self, areas: &[Area], rng: &mut SplitMix) {
        let area = areas[rng.index(areas.len())];
        let inside = area.first + rng.below(area.last - area.first + 1);
        self.steps.push(Step::erase(inside));
        self.steps.push(Step::store(area));
        self.ends.push(self.steps.len());
    }

    fn overwrite_one(&mut self, areas: &[Area], rng: &mut SplitMix) {
        let area = areas[rng.index(areas.len())];
        let pages = (area.last - area.first) / PAGE + 2;
        let first = (area.first / PAGE + rng.below(pages)).saturating_sub(1) * PAGE;
        let first = first.max(FIRST);
        let last = first + (1 + rng.below(8)) * PAGE - 1;
        // No other value of the data set or of this script is the same, so nothing can merge.
        let value = 2 * (areas.len() + self.ends.len()) as u64 + 1;
        self.steps.push(Step::store(Area { first, last, value }));
        self.put_back(areas, Span { first, last });
        self.ends.push(self.steps.len());
    }

    /// The steps that give `span` what the data set has there: areas whole, holes within it.
    fn put_back(&mut self, areas: &[Area], span: Span) {
        let mut next = span.first;
        let from = areas.partition_point(|area| area.last < span.first);
        for &area in areas[from..]
            .iter()
            .take_while(|area| area.first <= span.last)
        {
            if next < area.first {
                self.steps.push(Step::remove(next, area.first - 1));
            }
            self.steps.push(Step::store(area));
            next = area.last + 1;
        }
        if next <= span.last {
            self.steps.push(Step::remove(next, span.last));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Data;
    use crate::model::Model;

    #[test]
    fn every_group_leaves_the_content_as_it_was() {
        for data in Data::ALL {
            let areas = data.areas(60);
            for script in [
                Script::erase_and_restore(&areas),
                Script::overwrite(&areas),
                Script::churn(&areas),
            ] {
                let mut model = Model::new(&areas);
                let mut at = 0;
                for _ in 0..500 {
                    let (steps, next) = script.groups(at, 1);
                    steps.iter().for_each(|&step| model.apply(step));
                    assert_eq!(model.areas(), areas, "{data:?}: {steps:?}");
                    at = next;
                }
            }
        }
    }
}
