//! Words that each thread raises in order: whoever looks finds an earlier one no lower than a
//! later one, and one apart at most. So does a child, which shows one moment.

use std::sync::atomic::Ordering;

use super::hand::Hand;
use super::life::word;
use super::machine::{Machine, Space};
use super::places::{RUNGS, rung};
use super::violation::{Held, broken};
use maple_mm::abi::PAGE_SIZE;
use maple_mm::{Fault, Unfinished};

/// How often a thread goes up in a step.
const CLIMBS: u64 = 4;

/// How far a thread is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Climb {
    /// All its words are at least so high.
    reached: u64,
    /// So many of them are one higher.
    raised: u64,
}

impl Climb {
    /// What the word of a rung is.
    const fn word(self, number: u64) -> u64 {
        self.reached + (number < self.raised) as u64
    }

    /// Raises words, as far as there is memory.
    pub(super) fn go_up(&mut self, hand: &mut Hand) -> Held {
        for _ in 0..CLIMBS * RUNGS {
            if !self.raise_one(hand)? {
                break;
            }
        }
        Ok(())
    }

    fn raise_one(&mut self, hand: &mut Hand) -> Held<bool> {
        let addr = place(self.raised, hand.thread);
        hand.at(addr);
        let space = &hand.machine.space;
        let mut bytes = [0; 8];
        let done = space.read(addr, &mut bytes).and_then(|()| {
            let word = self.reached + 1;
            space.write(addr, &word.to_ne_bytes())
        });
        if !is_done(addr, done, hand)? {
            return Ok(false);
        }
        let before = u64::from_ne_bytes(bytes);
        if before != self.reached {
            let expected = self.reached;
            return broken(
                addr,
                format!("{expected} was written, and is {before:#x} now"),
            );
        }
        self.raised += 1;
        if self.raised == RUNGS {
            self.raised = 0;
            self.reached += 1;
            // ORDERING: `Release` pairs with the `Acquire` of who looks: the words are as high.
            hand.machine.raised[usize::from(hand.thread)].store(self.reached, Ordering::Release);
        }
        Ok(true)
    }
}

const fn place(number: u64, thread: u8) -> u64 {
    rung(number) + 8 * thread as u64
}

/// Whether an access that is allowed was made; only memory may be missing.
fn is_done(addr: u64, done: Result<(), Unfinished>, hand: &mut Hand) -> Held<bool> {
    match done {
        Ok(()) => Ok(true),
        Err(end) if end.fault == Fault::OutOfMemory => {
            hand.lacks_memory();
            Ok(false)
        }
        Err(end) => broken(
            addr,
            format!("what may be used is refused ({:?})", end.fault),
        ),
    }
}

/// How far all threads are, or were a while ago.
fn raised(machine: &Machine) -> Vec<u64> {
    // ORDERING: `Acquire`, see `raise_one`.
    let raised = machine.raised.iter();
    raised
        .map(|raised| raised.load(Ordering::Acquire))
        .collect()
}

/// Looks at the words of one thread, the last one first.
pub(super) fn look(hand: &mut Hand) -> Held {
    let thread = hand.rng.below(hand.machine.threads.into()) as u8;
    let least = raised(&hand.machine)[usize::from(thread)];
    let mut below = least;
    for number in (0..RUNGS).rev() {
        let addr = place(number, thread);
        hand.at(addr);
        let mut bytes = [0; 8];
        let read = hand.machine.space.read(addr, &mut bytes);
        if !is_done(addr, read, hand)? {
            return Ok(());
        }
        let found = u64::from_ne_bytes(bytes);
        if found < below {
            return broken(
                addr,
                format!("{found} is there, where {below} was seen before"),
            );
        }
        below = found;
    }
    let most = raised(&hand.machine)[usize::from(thread)] + 1;
    if below > most {
        let addr = place(0, thread);
        return broken(
            addr,
            format!("{below:#x} is there, and nobody wrote more than {most}"),
        );
    }
    Ok(())
}

/// All words as a child shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Picture(Vec<Vec<u64>>);

/// What is known of the moment of a fork: how far everybody was before.
pub(super) struct Before(Vec<u64>);

impl Before {
    pub(super) fn fork(hand: &Hand) -> Self {
        Self(raised(&hand.machine))
    }
}

impl Picture {
    /// What a child shows; `None` without memory.
    pub(super) fn of(child: &Space, hand: &mut Hand) -> Held<Option<Self>> {
        let mut rungs = Vec::new();
        for number in 0..RUNGS {
            let mut bytes = vec![0; 8 * usize::from(hand.machine.threads)];
            hand.at(rung(number));
            let read = child.read(rung(number), &mut bytes);
            if !is_done(rung(number), read, hand)? {
                return Ok(None);
            }
            let places = (0..bytes.len() as u64).step_by(8);
            rungs.push(places.map(|place| word(&bytes, place)).collect());
        }
        Ok(Some(Self(rungs)))
    }

    /// Whether it is one moment of the time from `before` until now. The thread that forked knows
    /// its own words.
    pub(super) fn check(&self, before: &Before, own: Climb, hand: &Hand) -> Held {
        let after = raised(&hand.machine);
        for thread in 0..hand.machine.threads {
            let at = usize::from(thread);
            let is_own = thread == hand.thread;
            let mut above = if is_own { after[at] } else { after[at] + 1 };
            let first = self.0[0][at];
            for number in 0..RUNGS {
                let found = self.0[number as usize][at];
                let addr = place(number, thread);
                if is_own {
                    above = own.word(number);
                }
                let least = before.0[at].max(first.saturating_sub(1));
                let is_exact = !is_own || found == above;
                if found < least || found > above || !is_exact {
                    return broken(
                        addr,
                        format!(
                            "the child of a fork has {found:#x}, and from {least} to {above} is one moment"
                        ),
                    );
                }
                above = found;
            }
        }
        Ok(())
    }

    /// Whether the child shows the same still.
    pub(super) fn check_again(&self, child: &Space, hand: &mut Hand) -> Held {
        let Some(now) = Self::of(child, hand)? else {
            return Ok(());
        };
        for number in 0..RUNGS {
            for thread in 0..hand.machine.threads {
                let of = |picture: &Self| picture.0[number as usize][usize::from(thread)];
                if of(self) != of(&now) {
                    let what = format!(
                        "a child has {} now, and had {} after the fork",
                        of(&now),
                        of(self)
                    );
                    return broken(place(number, thread), what);
                }
            }
        }
        Ok(())
    }
}

/// When nobody raises anything any more: what is there is what was written last.
pub(super) fn check_last(machine: &Machine) -> Held {
    for number in 0..RUNGS {
        let mut bytes = [0; PAGE_SIZE as usize];
        if let Err(end) = machine.space.read(rung(number), &mut bytes) {
            if end.fault == Fault::OutOfMemory {
                continue;
            }
            return broken(rung(number), format!("it is refused ({:?})", end.fault));
        }
        for thread in 0..machine.threads {
            let raised = machine.raised[usize::from(thread)].load(Ordering::Acquire);
            let found = word(&bytes, 8 * u64::from(thread));
            let addr = place(number, thread);
            // A thread may have found no memory on its way up.
            if found != raised && found != raised + 1 {
                return broken(
                    addr,
                    format!("{found:#x} is there, and {raised} was written"),
                );
            }
        }
    }
    Ok(())
}
