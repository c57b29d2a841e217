//! Faults, reads and writes where another thread maps and unmaps: any of them may be refused, and
//! whatever is found was written there.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use maple_mm::abi::PAGE_SIZE;
use maple_mm::{Access, Fault, Unfinished};

use super::hand::Hand;
use super::life::word;
use super::machine::Space;
use super::places::{owner, windows};
use super::tag;
use super::violation::{Held, broken};

/// How often in a step.
const TIMES: u32 = 4;

pub(super) fn meddle(hand: &mut Hand) -> Held {
    let victim = hand.rng.below(hand.machine.threads.into()) as u8;
    let space = some_space(victim, hand);
    for _ in 0..TIMES {
        let page = target(victim, hand);
        hand.at(page);
        match hand.rng.below(8) {
            0 => tolerate(page, space.fault(page, Access::Read), hand)?,
            1 | 2 => tolerate(page, space.fault(page, Access::Write), hand)?,
            3 => tolerate(page, space.fault(page, Access::Execute), hand)?,
            4 | 5 => leave_a_mark(&space, page, hand)?,
            _ => look(&space, page, hand)?,
        }
    }
    Ok(())
}

/// The address space of all, or a child that the victim has.
fn some_space(victim: u8, hand: &mut Hand) -> Arc<Space> {
    let child = hand.rng.one_in(4);
    let children = hand.machine.children[usize::from(victim)].lock();
    match children.as_ref().filter(|_| child) {
        Some(child) => Arc::clone(child),
        None => Arc::clone(&hand.machine.space),
    }
}

/// A page of the victim's: mostly where it changes mappings now.
fn target(victim: u8, hand: &mut Hand) -> u64 {
    let hot = hand.machine.hot[usize::from(victim)].load(Ordering::Relaxed);
    let (start, pages) = (hot & !(PAGE_SIZE - 1), hot % PAGE_SIZE);
    let window = hand.rng.below(2) as usize;
    if hot == 0 || hand.rng.one_in(4) {
        let window = &windows(victim)[window];
        return hand.part(window, 1).start;
    }
    start + hand.rng.below(pages) * PAGE_SIZE
}

/// Nothing is promised where somebody else maps and unmaps, but that what stands behind memory
/// does not go away.
fn tolerate(addr: u64, met: Result<(), Fault>, hand: &mut Hand) -> Held {
    match met {
        Ok(()) | Err(Fault::NotMapped | Fault::NotAllowed) => Ok(()),
        Err(Fault::OutOfMemory) => {
            hand.lacks_memory();
            Ok(())
        }
        Err(Fault::Bus) => broken(addr, "nothing stands behind a mapping"),
    }
}

fn done(result: Result<(), Unfinished>) -> Result<(), Fault> {
    result.map_err(|end| end.fault)
}

/// Writes the word that is the thread's as a guest. Pages outside the windows may be anybody's.
fn leave_a_mark(space: &Space, page: u64, hand: &mut Hand) -> Held {
    if owner(page, hand.machine.threads).is_none() {
        return Ok(());
    }
    let addr = page + tag::guests_place(hand.thread);
    let written = space.write(addr, &hand.guests_tag().to_ne_bytes());
    tolerate(addr, done(written), hand)
}

/// Reads a page: each word is zero, or its owner's, or a guest's.
fn look(space: &Space, page: u64, hand: &mut Hand) -> Held {
    let Some(owner) = owner(page, hand.machine.threads) else {
        return Ok(());
    };
    let mut bytes = [0; PAGE_SIZE as usize];
    let read = done(space.read(page, &mut bytes));
    if read.is_err() {
        return tolerate(page, read, hand);
    }
    for place in (0..PAGE_SIZE).step_by(8) {
        let found = word(&bytes, place);
        if let Some(wrong) = tag::wrong(found, place, owner) {
            let what = format!("the word {found:#x} in a page of thread {owner} {wrong}");
            return broken(page + place, what);
        }
    }
    Ok(())
}
