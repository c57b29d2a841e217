//! Holds a structure against the plain sorted vector, before anything it does is timed.

use crate::data::{Area, Data, GAP, PAGE, Span};
use crate::fixture::{Age, Fixture, apply_one, build};
use crate::model::Model;
use crate::structure::{Held, RangeMap, Scan, Structure, Value};
use std::sync::Arc;
use testkit::SplitMix;

/// Up to this many entries a structure is followed step by step; above, that would take minutes.
const SMALL: usize = 1_000;

/// Compares `map` with `areas`, entry by entry.
pub(crate) fn content<V, M>(map: &M, areas: &[Area]) -> Result<(), String>
where
    V: Value,
    M: RangeMap<V>,
{
    map.scan(Compare(areas))
}

/// Compares the entries with these.
struct Compare<'a>(&'a [Area]);

impl<V: Value> Scan<V> for Compare<'_> {
    type Output = Result<(), String>;

    fn scan(self, entries: impl Iterator<Item = Held<V>>) -> Self::Output {
        let mut held = entries.map(|(Span { first, last }, value)| Area {
            first,
            last,
            value: value.word(),
        });
        for (at, area) in self.0.iter().enumerate() {
            let found = held.next();
            if found != Some(*area) {
                return Err(format!("entry {at} is {found:x?} and should be {area:x?}"));
            }
        }
        match held.next() {
            None => Ok(()),
            Some(more) => Err(format!("{more:x?} is one entry too many")),
        }
    }
}

/// Checks everything that structure `S` is going to be timed at, on `map`, which is one of `fixture`.
pub(crate) fn structure<S: Structure>(map: &S::Map<u64>, fixture: &Fixture) -> Result<(), String> {
    let named = |wrong: String| format!("{}, {} data: {wrong}", S::NAME, fixture.data.name());
    steps::<S>(fixture.data).map_err(named)?;
    content(map, &fixture.areas).map_err(named)?;
    searches(map, fixture).map_err(named)?;
    copies::<S>(map, fixture).map_err(named)
}

/// Every step of the churn on a small set, the content compared after each.
fn steps<S: Structure>(data: Data) -> Result<(), String> {
    let fixture = Fixture::new(data, 200);
    let mut map: S::Map<u64> = build(&fixture.shuffled);
    let mut model = Model::new(&fixture.areas);
    content(&map, model.areas())?;
    for (number, &step) in fixture.churn.steps().iter().enumerate() {
        apply_one(&mut map, step);
        model.apply(step);
        content(&map, model.areas()).map_err(|wrong| format!("after step {number}: {wrong}"))?;
    }
    Ok(())
}

/// Look-ups and gap searches, against the model.
fn searches<M: RangeMap<u64>>(map: &M, fixture: &Fixture) -> Result<(), String> {
    let model = Model::new(&fixture.areas);
    for &key in &fixture.keys[..4_096] {
        let (found, right) = (map.get(key), model.get(key));
        if found != right {
            return Err(format!(
                "{key:#x} holds {found:?} and should hold {right:?}"
            ));
        }
    }
    let mut rng = SplitMix::new(0x6761_7073);
    let random = (0..if fixture.n() <= SMALL { 64 } else { 4 }).map(|_| {
        let window = |at: usize| fixture.areas[at].first;
        let (a, b) = (rng.index(fixture.n()), rng.index(fixture.n()));
        let (first, last) = (window(a.min(b)), window(a.max(b)));
        (Span { first, last }, 1 + rng.below(15 * PAGE))
    });
    let worst = [fixture.lowest_window(), fixture.highest_window()];
    for (window, length) in random.chain(worst.map(|window| (window, GAP))) {
        let found = (
            map.lowest_gap(window, length),
            map.highest_gap(window, length),
        );
        let right = (
            model.lowest_gap(window, length),
            model.highest_gap(window, length),
        );
        if found != right {
            return Err(format!(
                "gaps of {length:#x} within {window:x?}: {found:x?}, should be {right:x?}"
            ));
        }
    }
    Ok(())
}

/// Copies of every kind: equal at first, and no write to one is seen in another.
fn copies<S: Structure>(map: &S::Map<u64>, fixture: &Fixture) -> Result<(), String> {
    let areas = &fixture.areas;
    if let Some(bulk) = crate::subject::bulk::<u64, S::Map<u64>>(areas) {
        content(&bulk, areas).map_err(|wrong| format!("bulk build: {wrong}"))?;
    }
    for copy in [map.duplicate(), map.duplicate_each(), map.snapshot()] {
        let Some(mut copy) = copy else { continue };
        content(&copy, areas).map_err(|wrong| format!("a copy: {wrong}"))?;
        copy.remove(fixture.highest_window());
        content(&copy, &[]).map_err(|wrong| format!("an emptied copy: {wrong}"))?;
        content(map, areas).map_err(|wrong| format!("beside an emptied copy: {wrong}"))?;
    }
    if fixture.n() <= SMALL {
        let arcs: S::Map<Arc<u64>> = fixture.map(Age::Aged);
        if let Some(copy) = arcs.duplicate_each() {
            content(&copy, areas).map_err(|wrong| format!("a copy of pointers: {wrong}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::data::Data;
    use crate::fixture::{Age, Fixture};
    use crate::kinds::KINDS;
    use std::rc::Rc;

    #[test]
    fn every_structure_holds_what_the_sorted_vector_holds() {
        for data in Data::ALL {
            for n in [1, 21, 300] {
                let fixture = Rc::new(Fixture::new(data, n));
                for (kind, age) in KINDS
                    .iter()
                    .flat_map(|kind| Age::ALL.map(|age| (kind, age)))
                {
                    let result = (kind.subject)(&fixture, age).check();
                    assert_eq!(result, Ok(()), "{n} entries, {age:?}");
                }
            }
        }
    }
}
