//! The gate that faults and accesses go through, and the counters they change: striped, so that
//! threads in different places do not meet.
//!
//! ```text
//!  a fault    enter: inside + 1, gate open?      leave: inside - 1
//!  a fork                                  close: gate shut, inside 0?   open
//! ```
//!
//! Faults and writers change one table at a time under its lock, and need the gate for nothing
//! else. But a right to write that is taken at the root, from all below at once, must wait for who
//! went by before, as hardware must be flushed; so must who moves pages, or lays guards, and
//! relies on tables that stay as they are. Faults do not wait for each other here: each counts
//! itself in and out of its stripe. Nothing inside allocates, flushes or asks a file, so who
//! closes waits for some hundred instructions of each thread inside.
//!
//! - **TL3** While the gate is closed nobody is inside.
//!
//! Rejected: waiting for readers of an `Rcu` in a fork, milliseconds in kernels; locking all
//! tables, which makes a fork O(tables); letting running faults finish after a fork, whose child
//! would never count what they map.

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use maple_tree::Rcu;

use super::arch::Arch;
use super::company::{Beside, State};
use super::limbo::{Retired, Waiting};
use super::memory::{OutOfFrames, PhysAddr, PhysMemory};
use super::near;
use super::sync::{self, broken};
use super::tally::{Class, Counters};
use crate::counted::Counted;
use crate::system::System;

/// How many stripes there are.
const STRIPES: usize = 8;

const OPEN: u32 = 0;
const CLOSED: u32 = 1;

/// A line of the processor's cache.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Stripe {
    /// Each wraps: a page may be counted in here and off elsewhere, by another thread or once it
    /// moved.
    counters: Counters,
    inside: AtomicU32,
}

/// What page tables keep for those who are [`Beside`] each other.
pub struct Crowd<R> {
    beside: Beside<R>,
    waiting: Counted<Waiting>,
    gate: AtomicU32,
    stripes: [Stripe; STRIPES],
}

impl<R> Crowd<R> {
    pub(super) fn new(beside: Beside<R>, waiting: Counted<Waiting>) -> Self {
        Self {
            beside,
            waiting,
            gate: AtomicU32::new(OPEN),
            stripes: Default::default(),
        }
    }

    fn stripe(&self, block: u64) -> &Stripe {
        // By thread as well as by block: two in one block seldom meet, and two that meet in one
        // seldom do so in the next.
        let place = near::spread(block).rotate_left(u64::BITS / 2) ^ near::stack();
        &self.stripes[near::one_of(STRIPES, place)]
    }
}

impl<M, R> State<M> for Crowd<R>
where
    M: PhysMemory + Clone + Send + 'static,
    R: Rcu + Clone + Send + Sync + 'static,
{
    type Guard<'a> = R::Guard<'a>;
    type Inside<'a> = Inside<'a, R>;
    type Closed<'a> = Closed<'a>;
    type Retired = Retired<M, R>;

    const NONE_RETIRED: Retired<M, R> = Retired::NONE;

    fn heir(&self) -> Result<Self, OutOfFrames> {
        let waiting = Counted::new(self.waiting.heir()).map_err(|_| OutOfFrames)?;
        Ok(Self::new(self.beside.clone(), waiting))
    }

    fn counters(&self, block: u64) -> &Counters {
        &self.stripe(block).counters
    }

    /// Exact while nobody changes anything. Else it may be wrong by as many pages as come and go
    /// meanwhile; a sum below zero is none.
    fn sum(&self, class: Class) -> u64 {
        let counted = self.stripes.iter().map(|stripe| stripe.counters.get(class));
        let sum = counted.fold(0, u64::wrapping_add);
        if sum > i64::MAX as u64 { 0 } else { sum }
    }

    fn copy_from(&self, other: &Self) {
        State::<M>::clear(self);
        for class in Class::ALL {
            self.stripes[0]
                .counters
                .set(class, State::<M>::sum(other, class));
        }
    }

    fn clear(&self) {
        for stripe in &self.stripes {
            State::<M>::clear(&stripe.counters);
        }
    }

    fn guard(&self) -> R::Guard<'_> {
        self.beside.rcu.read_lock()
    }

    fn enter<'a>(&'a self, memory: &M, block: u64) -> Inside<'a, R> {
        let inside = &self.stripe(block).inside;
        let guard = loop {
            // First: an `Rcu` may free here what waited, which takes as long as it takes.
            let guard = self.beside.rcu.read_lock();
            sync::add(inside, 1, Ordering::SeqCst);
            // ORDERING: `SeqCst` with the line above, as in `close`: of one who enters and one
            // who closes at least one sees the other. `Acquire`, which it has in it, pairs with
            // the `Release` that opens.
            if sync::look(&self.gate) == OPEN || broken!(Gate) {
                break guard;
            }
            // Nothing was done, so nothing is passed on.
            sync::subtract(inside, 1, Ordering::Relaxed);
            drop(guard);
            wait(memory, || sync::load(&self.gate, Ordering::Relaxed) == OPEN);
        };
        Inside {
            inside,
            _guard: guard,
        }
    }

    fn close<'a>(&'a self, memory: &M) -> Closed<'a> {
        if planted!(Gate) {
            return Closed { gate: &self.gate };
        }
        let before = sync::swap(&self.gate, CLOSED, Ordering::SeqCst);
        assert_eq!(before, OPEN, "one writer closes the gate, once");
        for stripe in &self.stripes {
            // ORDERING: `SeqCst`, see `enter`. `Acquire`, which it has in it, pairs with the
            // `Release` of who leaves: what was done inside is seen from here on.
            wait(memory, || {
                sync::look(&stripe.inside) == 0 || broken!(Inside)
            });
        }
        Closed { gate: &self.gate }
    }

    fn reserve(&self, memory: &M, retired: &mut Retired<M, R>) -> Result<(), OutOfFrames> {
        retired.reserve(memory, (&self.beside, &self.waiting))
    }

    fn has_room(retired: &Retired<M, R>) -> bool {
        retired.has_room()
    }

    fn retire(&self, retired: &mut Retired<M, R>, (table, level): (PhysAddr, usize)) -> bool {
        retired.push(table, level, &self.beside)
    }

    fn settle(retired: &mut Retired<M, R>) {
        retired.settle();
    }

    fn hand_over<A: Arch>(retired: &mut Retired<M, R>) {
        retired.hand_over::<A>();
    }

    fn pending(&self) -> usize {
        self.waiting.pending()
    }

    fn barrier(&self) {
        // What takes long waits several times.
        while self.waiting.pending() > 0 {
            self.beside.rcu.barrier();
        }
    }

    fn set_pool(&self, system: &Arc<System>) {
        self.waiting.set_pool(system);
    }
}

/// Asks until it is so.
fn wait<M: PhysMemory>(memory: &M, is_so: impl Fn() -> bool) {
    let mut spins = 0_u32;
    while !is_so() {
        memory.relax(spins);
        spins = spins.saturating_add(1);
    }
}

/// Somebody is inside, until this goes away; no table is freed that it came by.
pub struct Inside<'a, R: Rcu + 'static> {
    inside: &'a AtomicU32,
    _guard: R::Guard<'a>,
}

impl<R: Rcu> Drop for Inside<'_, R> {
    fn drop(&mut self) {
        // ORDERING: `Release` pairs with the `Acquire` in `close`.
        sync::subtract(self.inside, 1, Ordering::Release);
    }
}

impl<R: Rcu> fmt::Debug for Inside<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inside").finish_non_exhaustive()
    }
}

/// The gate is closed until this goes away.
#[derive(Debug)]
pub struct Closed<'a> {
    gate: &'a AtomicU32,
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        // ORDERING: `Release` pairs with the `Acquire` in `enter`: who comes in sees what was
        // done while it was closed.
        sync::store(self.gate, OPEN, Ordering::Release);
    }
}

impl<R> fmt::Debug for Crowd<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crowd")
            .field("gate", &self.gate)
            .field("stripes", &self.stripes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
