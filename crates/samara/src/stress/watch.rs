//! What each thread is about, and whether any stands still.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::kinds::Kind;

/// Threads say here what they are about. All numbers are their own: `Relaxed`.
#[derive(Debug)]
pub(super) struct Watch {
    seats: Vec<Seat>,
    stop: AtomicBool,
    /// The first: whose, and what it said.
    panic: Mutex<Option<(usize, String)>>,
}

/// One thread's.
#[derive(Debug)]
pub(super) struct Seat {
    name: String,
    /// How often it said something.
    beats: AtomicU64,
    step: AtomicU32,
    kind: AtomicUsize,
    addr: AtomicU64,
    is_gone: AtomicBool,
}

impl Watch {
    pub(super) fn new(names: impl Iterator<Item = String>) -> Self {
        let seat = |name| Seat {
            name,
            beats: AtomicU64::new(0),
            step: AtomicU32::new(0),
            kind: AtomicUsize::new(0),
            addr: AtomicU64::new(0),
            is_gone: AtomicBool::new(true),
        };
        Self {
            seats: names.map(seat).collect(),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        }
    }

    pub(super) fn seat(&self, number: usize) -> &Seat {
        &self.seats[number]
    }

    /// Asks all threads to end.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Notes a panic.
    pub(super) fn keep_panic(&self, seat: usize, text: String) {
        self.panic.lock().get_or_insert((seat, text));
    }

    /// The first panic, if there was one.
    pub(super) fn panic(&self) -> Option<(usize, String)> {
        self.panic.lock().clone()
    }

    /// What everybody is about.
    pub(super) fn all(&self) -> Vec<String> {
        let here = |seat: &&Seat| !seat.is_gone.load(Ordering::Relaxed);
        let all = self.seats.iter().filter(here);
        all.map(|seat| format!("{}: {}", seat.name, seat.doing()))
            .collect()
    }
}

impl Seat {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Notes a step, which also says that the thread is alive.
    pub(super) fn begin(&self, step: u32, kind: Kind) {
        self.step.store(step, Ordering::Relaxed);
        self.kind.store(kind as usize, Ordering::Relaxed);
        self.at(0);
    }

    /// Notes where the step goes on.
    pub(super) fn at(&self, addr: u64) {
        self.addr.store(addr, Ordering::Relaxed);
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// From now on somebody is here, and is to be heard.
    pub(super) fn enter(&self) {
        self.is_gone.store(false, Ordering::Relaxed);
    }

    pub(super) fn leave(&self) {
        self.is_gone.store(true, Ordering::Relaxed);
    }

    pub(super) fn step(&self) -> u32 {
        self.step.load(Ordering::Relaxed)
    }

    /// In words.
    pub(super) fn doing(&self) -> String {
        let kind = Kind::ALL[self.kind.load(Ordering::Relaxed)].name();
        match self.addr.load(Ordering::Relaxed) {
            0 => format!("{kind}, step {}", self.step()),
            addr => format!("{kind} at {addr:#x}, step {}", self.step()),
        }
    }
}

/// Tells threads that stand still from those that go on.
pub(super) struct Watchdog<'w> {
    watch: &'w Watch,
    patience: Duration,
    /// Of each seat how often it was heard, and when it was something new.
    heard: Vec<(u64, Instant)>,
}

impl<'w> Watchdog<'w> {
    pub(super) fn new(watch: &'w Watch, patience: Duration, now: Instant) -> Self {
        Self {
            watch,
            patience,
            heard: vec![(0, now); watch.seats.len()],
        }
    }

    /// The names of those that said nothing for too long.
    pub(super) fn stuck(&mut self, now: Instant) -> Vec<&'w str> {
        let mut stuck = Vec::new();
        for (seat, heard) in self.watch.seats.iter().zip(&mut self.heard) {
            let beats = seat.beats.load(Ordering::Relaxed);
            if beats != heard.0 {
                *heard = (beats, now);
            }
            let is_here = !seat.is_gone.load(Ordering::Relaxed);
            if is_here && now.duration_since(heard.1) >= self.patience {
                stuck.push(seat.name());
            }
        }
        stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_nothing_is_stuck_and_who_left_is_not() {
        let watch = Watch::new(["one", "two", "three"].map(str::to_owned).into_iter());
        let start = Instant::now();
        let patience = Duration::from_secs(10);
        let mut dog = Watchdog::new(&watch, patience, start);
        watch.seats.iter().for_each(Seat::enter);
        watch.seat(0).begin(7, Kind::Fork);
        watch.seat(2).leave();
        assert_eq!(dog.stuck(start + patience / 2), [""; 0]);
        watch.seat(1).begin(1, Kind::Maps);
        watch.seat(1).at(0x1000);
        assert_eq!(dog.stuck(start + patience), [""; 0]);
        assert_eq!(dog.stuck(start + patience * 3 / 2), ["one"]);
        assert_eq!(
            watch.all(),
            ["one: fork, step 7", "two: maps at 0x1000, step 1"]
        );
    }
}
