//! One writer beside one reader: two threads on two CPUs, neither of which pauses.

use crate::data::{Area, Span};
use crate::fixture::{Fixture, apply_one};
use crate::script::{Act, Step};
use crate::structure::{Held, RangeMap, Scan};
use crate::structures::{RcuTree, SkipMap};
use crate::work::Work;
use benchkit::{cpus, pin};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

/// A structure that two threads may use at once.
pub(crate) trait Shared: Sync {
    fn get(&self, index: u64) -> Option<u64>;

    /// By one thread only.
    fn apply(&self, step: Step);

    /// All entries, when no one writes.
    fn areas(&self) -> Vec<Area>;
}

/// How long, and on which two CPUs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    duration: Duration,
    reader: usize,
    writer: usize,
}

impl Pair {
    /// `None` on a machine with one CPU: there is nothing to see there.
    pub(crate) fn new(duration: Duration) -> Option<Self> {
        let &[reader, .., writer] = cpus() else {
            return None;
        };
        Some(Self {
            duration,
            reader,
            writer,
        })
    }
}

/// What both did, in thousands each second of wall time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    reads: f64,
    writes: f64,
}

impl Rates {
    /// The one that `work` names.
    pub(crate) const fn of(self, work: Work) -> f64 {
        match work {
            Work::BesideReads => self.reads,
            _ => self.writes,
        }
    }
}

/// Any map behind a lock that lets several readers in.
#[derive(Debug)]
pub(crate) struct Locked<M>(RwLock<M>);

impl<M> Locked<M> {
    pub(crate) const fn new(map: M) -> Self {
        Self(RwLock::new(map))
    }
}

impl<M: RangeMap<u64> + Send + Sync> Shared for Locked<M> {
    fn get(&self, index: u64) -> Option<u64> {
        let map = self.0.read().unwrap_or_else(PoisonError::into_inner);
        map.get(index)
    }

    fn apply(&self, step: Step) {
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        apply_one(&mut *map, step);
    }

    fn areas(&self) -> Vec<Area> {
        areas_of(&*self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shared for RcuTree<u64> {
    fn get(&self, index: u64) -> Option<u64> {
        RangeMap::get(self, index)
    }

    fn apply(&self, step: Step) {
        match step.act {
            Act::Store => self.store_shared(step.span(), step.value),
            Act::Remove => self.remove_shared(step.span()),
            Act::Erase => self.erase_shared(step.first),
        }
    }

    fn areas(&self) -> Vec<Area> {
        areas_of(self)
    }
}

/// No lock: a reader may see the middle of an overwrite.
impl Shared for SkipMap<u64> {
    fn get(&self, index: u64) -> Option<u64> {
        RangeMap::get(self, index)
    }

    fn apply(&self, step: Step) {
        match step.act {
            Act::Store => self.store_shared(step.span(), step.value),
            Act::Remove => self.remove_shared(step.span()),
            Act::Erase => self.erase_shared(step.first),
        }
    }

    fn areas(&self) -> Vec<Area> {
        areas_of(self)
    }
}

/// The entries as they are.
struct Collect;

impl Scan<u64> for Collect {
    type Output = Vec<Area>;

    fn scan(self, entries: impl Iterator<Item = Held<u64>>) -> Vec<Area> {
        let area = |(Span { first, last }, value)| Area { first, last, value };
        entries.map(area).collect()
    }
}

/// The entries of `map`.
pub(crate) fn areas_of<M: RangeMap<u64>>(map: &M) -> Vec<Area> {
    map.scan(Collect)
}

/// Every shared structure, whatever it is made of.
pub(crate) trait Beside {
    /// Lets one thread look random keys up, and another carry the steps of `overwrite` out, for as
    /// long as `pair` says; then checks the content.
    fn run(&self, fixture: &Fixture, pair: Pair) -> Result<Rates, String>;
}

impl<S: Shared> Beside for S {
    fn run(&self, fixture: &Fixture, pair: Pair) -> Result<Rates, String> {
        let rates = both(self, fixture, pair)?;
        if self.areas() == fixture.areas {
            return Ok(rates);
        }
        Err("the content after a reader beside a writer is wrong".to_owned())
    }
}

fn both<S: Shared>(shared: &S, fixture: &Fixture, pair: Pair) -> Result<Rates, String> {
    let stop = AtomicBool::new(false);
    let start = Barrier::new(3);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            pin(&[pair.reader]);
            start.wait();
            rate(|| read(shared, fixture, &stop))
        });
        let writer = scope.spawn(|| {
            pin(&[pair.writer]);
            start.wait();
            rate(|| write(shared, fixture, &stop))
        });
        start.wait();
        thread::sleep(pair.duration);
        stop.store(true, Ordering::Relaxed);
        let reads = reader.join().map_err(|_| "the reader panicked")?;
        let writes = writer.join().map_err(|_| "the writer panicked")?;
        Ok(Rates { reads, writes })
    })
}

/// Thousands a second.
fn rate(work: impl FnOnce() -> u64) -> f64 {
    let begin = Instant::now();
    let done = work();
    done as f64 / begin.elapsed().as_secs_f64() / 1_000.0
}

fn read<S: Shared>(shared: &S, fixture: &Fixture, stop: &AtomicBool) -> u64 {
    let mut done = 0;
    let mut sum = 0_u64;
    for keys in fixture.keys.chunks(64).cycle() {
        // Relaxed: it only says when to stop.
        if stop.load(Ordering::Relaxed) {
            break;
        }
        for &key in keys {
            sum = sum.wrapping_add(shared.get(key).unwrap_or(0));
        }
        done += keys.len() as u64;
    }
    black_box(sum);
    done
}

fn write<S: Shared>(shared: &S, fixture: &Fixture, stop: &AtomicBool) -> u64 {
    let mut done = 0;
    let mut at = 0;
    while !stop.load(Ordering::Relaxed) {
        // Whole groups, so that the content at the end is what it was.
        let (steps, next) = fixture.overwrite.groups(at, 8);
        steps.iter().for_each(|&step| shared.apply(step));
        done += steps.len() as u64;
        at = next;
    }
    done
}
