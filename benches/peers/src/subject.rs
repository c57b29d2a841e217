//! One structure under measurement: does chunks of work and times them, whatever it is made of.

use crate::data::{Area, GAP, Span};
use crate::fixture::{Age, Fixture, apply, apply_one, build};
use crate::measure::Chunk;
use crate::script::Step;
use crate::structure::{Held, RangeMap, Scan, Structure, Value};
use crate::verify;
use crate::work::Work;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;

/// A structure whose type is not known to those who measure it.
pub(crate) trait Subject {
    /// The column's heading.
    fn name(&self) -> &'static str;

    /// Why it cannot do `work`, if it cannot.
    fn why_not(&self, work: Work) -> Option<&'static str>;

    /// Does `reps` portions of `work`; the content is the same afterwards. `None` if it cannot.
    fn chunk(&mut self, work: Work, reps: u64) -> Option<Chunk>;

    /// Checks everything that it is going to be timed at.
    fn check(&self) -> Result<(), String>;

    /// Compares its content with the data set, entry by entry.
    fn verify(&self) -> Result<(), String>;

    /// Bytes an entry, of a structure that the counting allocator cannot see.
    fn bytes(&self) -> Option<f64> {
        None
    }

    /// Frees what only the work before needed.
    fn tidy(&mut self) {}
}

/// How many structures are made before the first of them is dropped.
pub(crate) const fn batch_of(n: usize) -> usize {
    let many = 100_000 / n;
    if many < 1 {
        1
    } else if many > 256 {
        256
    } else {
        many
    }
}

/// Where each circle of keys or groups of steps goes on.
#[derive(Debug, Default)]
pub(crate) struct Places {
    key: usize,
    erase: usize,
    overwrite: usize,
}

impl Places {
    /// The next keys, at most `most` of them.
    pub(crate) fn keys<'f>(&mut self, fixture: &'f Fixture, most: usize) -> &'f [u64] {
        let end = (self.key + most).min(fixture.keys.len());
        let keys = &fixture.keys[self.key..end];
        self.key = if end == fixture.keys.len() { 0 } else { end };
        keys
    }

    /// The next steps of the script for `work`, whole groups, at most `most` groups.
    pub(crate) fn steps<'f>(
        &mut self,
        fixture: &'f Fixture,
        work: Work,
        most: usize,
    ) -> &'f [Step] {
        let (script, at) = match work {
            Work::EraseRestore => (&fixture.erase, &mut self.erase),
            _ => (&fixture.overwrite, &mut self.overwrite),
        };
        let (steps, next) = script.groups(*at, most);
        *at = next;
        steps
    }
}

/// A structure in Rust.
pub(crate) struct Bench<S: Structure> {
    fixture: Rc<Fixture>,
    age: Age,
    map: S::Map<u64>,
    /// The same with counted pointers, from when they are first needed.
    arcs: Option<S::Map<Arc<u64>>>,
    places: Places,
}

impl<S: Structure> Bench<S> {
    pub(crate) fn new(fixture: &Rc<Fixture>, age: Age) -> Self {
        Self {
            fixture: Rc::clone(fixture),
            age,
            map: fixture.map(age),
            arcs: None,
            places: Places::default(),
        }
    }

    fn lookups(&mut self, work: Work, reps: u64) -> Chunk {
        let mut chunk = Chunk::default();
        let mut left = reps * 64;
        while left > 0 {
            let keys = self.places.keys(&self.fixture, left as usize);
            let ops = keys.len() as u64;
            let sum = if work == Work::Lookup {
                chunk.time(ops, || look_up_independent(&self.map, keys))
            } else {
                chunk.time(ops, || look_up_dependent(&self.map, keys))
            };
            black_box(sum);
            left -= ops;
        }
        chunk
    }

    fn iterations(&self, work: Work, reps: u64) -> Chunk {
        let mut chunk = Chunk::default();
        let sum = chunk.time(reps * self.fixture.n() as u64, || {
            let mut all = 0_u64;
            for _ in 0..reps {
                all ^= match work {
                    Work::Next => sum(black_box(&self.map), SumByNext),
                    _ => sum(black_box(&self.map), SumByForEach),
                };
            }
            all
        });
        black_box(sum);
        chunk
    }

    fn steps(&mut self, work: Work, reps: u64) -> Chunk {
        let mut chunk = Chunk::default();
        for _ in 0..reps.div_ceil(64) {
            let steps = self
                .places
                .steps(&self.fixture, work, reps.min(64) as usize);
            chunk.time(steps.len() as u64, || apply(&mut self.map, steps));
        }
        chunk
    }

    fn gaps(&self, work: Work, reps: u64) -> Chunk {
        let lowest = self.fixture.lowest_window();
        let highest = self.fixture.highest_window();
        let mut chunk = Chunk::default();
        chunk.time(reps, || {
            for _ in 0..reps {
                black_box(match work {
                    Work::LowestGap => self.map.lowest_gap(black_box(lowest), GAP),
                    _ => self.map.highest_gap(black_box(highest), GAP),
                });
            }
        });
        chunk
    }

    /// Times `make`, and drops what it made where that is not timed.
    fn copies<T>(&self, reps: u64, mut make: impl FnMut(&Self) -> T) -> Chunk {
        let batch = batch_of(self.fixture.n());
        let ops = (batch * self.fixture.n()) as u64;
        let mut made = Vec::with_capacity(batch);
        let mut chunk = Chunk::default();
        for _ in 0..reps {
            chunk.time(ops, || made.extend((0..batch).map(|_| make(self))));
            made.clear();
        }
        chunk
    }

    fn drops(&self, reps: u64) -> Chunk {
        let batch = batch_of(self.fixture.n());
        let mut chunk = Chunk::default();
        for _ in 0..reps {
            let build = || build::<u64, S::Map<u64>>(self.fixture.order(self.age));
            let made: Vec<_> = (0..batch).map(|_| build()).collect();
            chunk.time((batch * self.fixture.n()) as u64, || drop(made));
        }
        chunk
    }

    fn duplicates_of_arcs(&mut self, reps: u64) -> Option<Chunk> {
        if self.arcs.is_none() {
            self.arcs = Some(self.fixture.map(self.age));
        }
        let arcs = self.arcs.as_ref()?;
        arcs.duplicate_each()?;
        Some(self.copies(reps, |_| arcs.duplicate_each()))
    }

    fn snapshots(&self, reps: u64) -> Option<Chunk> {
        const BATCH: usize = 256;
        self.map.snapshot()?;
        let mut chunk = Chunk::default();
        let mut made = Vec::with_capacity(BATCH);
        for _ in 0..reps {
            let map = black_box(&self.map);
            chunk.time(BATCH as u64, || {
                made.extend((0..BATCH).map(|_| map.snapshot()));
            });
            made.clear();
        }
        Some(chunk)
    }

    fn first_writes(&mut self, reps: u64) -> Option<Chunk> {
        self.map.snapshot()?;
        let mut chunk = Chunk::default();
        for _ in 0..reps {
            let steps = self.places.steps(&self.fixture, Work::FirstWrite, 16);
            let mut snapshots = Vec::with_capacity(steps.len());
            chunk.time(steps.len() as u64, || {
                for &step in steps {
                    snapshots.push(self.map.snapshot());
                    apply_one(&mut self.map, step);
                }
            });
        }
        Some(chunk)
    }

    fn bulk(&self) -> Option<S::Map<u64>> {
        bulk(&self.fixture.areas)
    }
}

impl<S: Structure> Subject for Bench<S> {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn why_not(&self, work: Work) -> Option<&'static str> {
        S::why_not(work)
    }

    fn chunk(&mut self, work: Work, reps: u64) -> Option<Chunk> {
        if S::why_not(work).is_some() {
            return None;
        }
        match work {
            Work::Lookup | Work::LookupDependent => Some(self.lookups(work, reps)),
            Work::Next | Work::ForEach => Some(self.iterations(work, reps)),
            Work::Build => {
                Some(self.copies(reps, |me| build::<u64, S::Map<u64>>(&me.fixture.areas)))
            }
            Work::BuildRandom => {
                Some(self.copies(reps, |me| build::<u64, S::Map<u64>>(&me.fixture.shuffled)))
            }
            Work::Bulk => self.bulk().map(|_| self.copies(reps, Self::bulk)),
            Work::EraseRestore | Work::Overwrite => Some(self.steps(work, reps)),
            Work::LowestGap | Work::HighestGap => Some(self.gaps(work, reps)),
            Work::Duplicate => {
                self.map.duplicate()?;
                Some(self.copies(reps, |me| me.map.duplicate()))
            }
            Work::DuplicateArc => self.duplicates_of_arcs(reps),
            Work::Snapshot => self.snapshots(reps),
            Work::FirstWrite => self.first_writes(reps),
            Work::Drop => Some(self.drops(reps)),
            Work::Bytes | Work::BesideReads | Work::BesideWrites => None,
        }
    }

    fn check(&self) -> Result<(), String> {
        verify::structure::<S>(&self.map, &self.fixture)
    }

    fn verify(&self) -> Result<(), String> {
        verify::content(&self.map, &self.fixture.areas)
            .map_err(|wrong| format!("{}: {wrong}", S::NAME))
    }

    fn tidy(&mut self) {
        self.arcs = None;
    }
}

/// Fills a map from ascending areas at once, where it can.
#[inline(never)]
pub(crate) fn bulk<V: Value, M: RangeMap<V>>(areas: &[Area]) -> Option<M> {
    M::bulk(areas.iter().map(|area| (area.span(), V::of(area.value))))
}

#[inline(never)]
fn look_up_independent<M: RangeMap<u64>>(map: &M, keys: &[u64]) -> u64 {
    keys.iter()
        .fold(0, |sum, &key| sum.wrapping_add(map.get(key).unwrap_or(0)))
}

/// `zero` is 0, which the compiler does not know: each key waits for the value before it.
#[inline(never)]
fn look_up_dependent<M: RangeMap<u64>>(map: &M, keys: &[u64]) -> u64 {
    let zero = black_box(0);
    let step = |found: u64, key: u64| map.get(key ^ (found & zero)).unwrap_or(0);
    keys.iter().fold(0, |found, &key| step(found, key))
}

const fn mix(span: Span, word: u64) -> u64 {
    span.first ^ span.last ^ word
}

/// Goes from entry to entry by `next`.
struct SumByNext;

/// Lets the iterator go through the entries.
struct SumByForEach;

impl Scan<u64> for SumByNext {
    type Output = u64;

    fn scan(self, entries: impl Iterator<Item = Held<u64>>) -> u64 {
        let mut sum = 0_u64;
        for (span, value) in entries {
            sum = sum.wrapping_add(mix(span, value));
        }
        sum
    }
}

impl Scan<u64> for SumByForEach {
    type Output = u64;

    fn scan(self, entries: impl Iterator<Item = Held<u64>>) -> u64 {
        let mut sum = 0_u64;
        entries.for_each(|(span, value)| sum = sum.wrapping_add(mix(span, value)));
        sum
    }
}

#[inline(never)]
fn sum<M: RangeMap<u64>>(map: &M, scan: impl Scan<u64, Output = u64>) -> u64 {
    map.scan(scan)
}
