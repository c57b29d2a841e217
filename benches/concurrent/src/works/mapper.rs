//! The thread that maps and unmaps without a pause.

use super::WRITABLE;
use crate::measure::{longest, median};
use crate::space::Space;
use crate::work::Figure;
use maple_mm::MmapRequest;
use maple_mm::abi::PAGE_SIZE;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const LEN: u64 = 4 * PAGE_SIZE;

/// Maps and unmaps until it is over: how many calls that were.
pub(crate) fn count<S: Space>(space: &S, is_over: &AtomicBool) -> Result<u64, String> {
    let mut calls = 0;
    // Relaxed: it only says when to stop.
    while !is_over.load(Ordering::Relaxed) {
        let addr = map(space).0?;
        unmap(space, addr).0?;
        calls += 2;
    }
    Ok(calls)
}

/// As [`count`]: how long each call took, and how long of that it waited for the lock.
pub(crate) fn time<S: Space>(space: &S, is_over: &AtomicBool) -> Result<Times, String> {
    let mut times = Times::default();
    while !is_over.load(Ordering::Relaxed) {
        let addr = times.note(|| map(space))?;
        times.note(|| unmap(space, addr))?;
    }
    Ok(times)
}

fn map<S: Space>(space: &S) -> (Result<u64, String>, Duration) {
    let request = MmapRequest::anonymous(LEN, WRITABLE);
    let (mapped, waited) = space.change(|space| space.mmap(request));
    (mapped.map_err(|error| format!("mmap: {error}")), waited)
}

fn unmap<S: Space>(space: &S, addr: u64) -> (Result<(), String>, Duration) {
    let (unmapped, waited) = space.change(|space| space.munmap(addr, LEN));
    (unmapped.map_err(|error| format!("munmap: {error}")), waited)
}

/// Microseconds, call by call.
#[derive(Debug)]
pub(crate) struct Times {
    calls: Vec<f64>,
    waits: Vec<f64>,
}

impl Default for Times {
    fn default() -> Self {
        // Room for what is likely: growing would be timed.
        Self {
            calls: Vec::with_capacity(1 << 20),
            waits: Vec::with_capacity(1 << 20),
        }
    }
}

impl Times {
    fn note<T>(
        &mut self,
        call: impl FnOnce() -> (Result<T, String>, Duration),
    ) -> Result<T, String> {
        let begin = Instant::now();
        let (done, waited) = call();
        self.calls.push(micros(begin.elapsed()));
        self.waits.push(micros(waited));
        done
    }

    pub(crate) fn figures(self, seconds: f64) -> Vec<(Figure, f64)> {
        let Self { calls, waits } = self;
        let waited = waits.iter().filter(|&&wait| wait > 0.0).count();
        let of_all = waited as f64 / waits.len().max(1) as f64;
        vec![
            (Figure::MapperCalls, calls.len() as f64 / seconds / 1e3),
            (Figure::CallTime, median(calls)),
            (Figure::LongestWait, longest(&waits)),
            (Figure::Wait, median(waits)),
            (Figure::CallsThatWaited, of_all * 100.0),
        ]
    }
}

pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
