//! What all structures of one table share: the areas, the keys, the steps, and how one is aged.

use crate::data::{Area, Data, FIRST, GAP, Span, keys, shuffled};
use crate::script::{Act, Script, Step};
use crate::structure::{RangeMap, Value};

/// What a structure has been through before it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Age {
    /// Stored in ascending order, one by one.
    Ascending,
    /// Stored in random order, then 2 steps for each entry: random areas erased and restored, 1 to 8
    /// pages overwritten and restored. So is its allocator aged.
    Aged,
}

impl Age {
    pub(crate) const ALL: [Self; 2] = [Self::Ascending, Self::Aged];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ascending => "ascending",
            Self::Aged => "aged",
        }
    }
}

/// Everything that is drawn once for a data set of one size.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) data: Data,
    pub(crate) areas: Vec<Area>,
    pub(crate) shuffled: Vec<Area>,
    pub(crate) keys: Vec<u64>,
    pub(crate) erase: Script,
    pub(crate) overwrite: Script,
    pub(crate) churn: Script,
}

impl Fixture {
    /// Draws it; `n` is not zero.
    pub(crate) fn new(data: Data, n: usize) -> Self {
        let areas = data.areas(n);
        Self {
            data,
            shuffled: shuffled(&areas),
            keys: keys(&areas),
            erase: Script::erase_and_restore(&areas),
            overwrite: Script::overwrite(&areas),
            churn: Script::churn(&areas),
            areas,
        }
    }

    pub(crate) fn n(&self) -> usize {
        self.areas.len()
    }

    /// Where a search for [`GAP`] indices finds room above everything only.
    pub(crate) fn lowest_window(&self) -> Span {
        Span {
            first: FIRST,
            last: self.last() + GAP,
        }
    }

    /// Where a search for [`GAP`] indices finds room below everything only.
    pub(crate) fn highest_window(&self) -> Span {
        Span {
            first: 0,
            last: self.last(),
        }
    }

    fn last(&self) -> u64 {
        self.areas.last().map_or(FIRST, |area| area.last)
    }

    /// The areas in the order in which a structure of `age` is built.
    pub(crate) fn order(&self, age: Age) -> &[Area] {
        match age {
            Age::Ascending => &self.areas,
            Age::Aged => &self.shuffled,
        }
    }

    /// A map of this content and age.
    pub(crate) fn map<V: Value, M: RangeMap<V>>(&self, age: Age) -> M {
        let mut map = build(self.order(age));
        if age == Age::Aged {
            apply(&mut map, self.churn.steps());
        }
        map
    }
}

/// Stores `areas` one by one.
#[inline(never)]
pub(crate) fn build<V: Value, M: RangeMap<V>>(areas: &[Area]) -> M {
    let mut map = M::new();
    for area in areas {
        map.store(area.span(), V::of(area.value));
    }
    map
}

/// Carries `steps` out.
#[inline(never)]
pub(crate) fn apply<V: Value, M: RangeMap<V>>(map: &mut M, steps: &[Step]) {
    for &step in steps {
        apply_one(map, step);
    }
}

/// Carries one step out.
#[inline]
pub(crate) fn apply_one<V: Value, M: RangeMap<V>>(map: &mut M, step: Step) {
    match step.act {
        Act::Store => map.store(step.span(), V::of(step.value)),
        Act::Remove => map.remove(step.span()),
        Act::Erase => map.erase(step.first),
    }
}
