//! Faults, reads and writes of what a thread owns, and of the holes between.

use std::ops::Range;

use maple_mm::abi::PAGE_SIZE;
use maple_mm::{Access, Fault, Refused};

use super::hand::Hand;
use super::life::{Life, allows, compare, page_of};
use super::tag::SLOTS;
use super::violation::{Held, broken};

const ACCESSES: [Access; 3] = [Access::Read, Access::Write, Access::Execute];

/// An address that the thread knows about: in a page of its own, or in a window.
fn known(life: &Life, hand: &mut Hand) -> u64 {
    let window = life.window(hand);
    let own = if hand.rng.one_in(4) {
        None
    } else {
        life.some_page(hand)
    };
    let page = own.unwrap_or_else(|| hand.part(&window, 1).start);
    page + hand.rng.below(PAGE_SIZE)
}

pub(super) fn fault(life: &Life, hand: &mut Hand) -> Held {
    let addr = known(life, hand);
    let access = hand.rng.pick(&ACCESSES);
    life.fault(addr, access, hand).map(drop)
}

pub(super) fn read(life: &mut Life, hand: &mut Hand) -> Held {
    let addr = known(life, hand);
    life.read(page_of(addr), hand).map(drop)
}

/// Writes a word, or two side by side in neighbouring pages.
pub(super) fn write(life: &mut Life, hand: &mut Hand) -> Held {
    let page = page_of(known(life, hand));
    let last = SLOTS.len() - 1;
    let is_pair = hand.rng.one_in(4) && life.pages.contains_key(&(page + PAGE_SIZE));
    let places = if is_pair {
        [Some((page, last)), Some((page + PAGE_SIZE, 0))]
    } else {
        [
            Some((page, hand.rng.below(SLOTS.len() as u64) as usize)),
            None,
        ]
    };
    write_words(life, hand, places)
}

fn write_words(life: &mut Life, hand: &mut Hand, places: [Option<(u64, usize)>; 2]) -> Held {
    let places: Vec<_> = places.into_iter().flatten().collect();
    for (page, _) in &places {
        // What may be there or not is found out before it is changed.
        let is_doubtful = life.pages.get(page).is_some_and(|page| page.may_be_empty);
        if is_doubtful && !life.read(*page, hand)? {
            return Ok(());
        }
    }
    let tags: Vec<u64> = places.iter().map(|_| hand.tag()).collect();
    let bytes: Vec<u8> = tags.iter().flat_map(|tag| tag.to_ne_bytes()).collect();
    let start = places[0].0 + SLOTS[places[0].1];
    hand.at(start);
    let written = life.space.write(start, &bytes);
    let (done, met) = match written {
        Ok(()) => (bytes.len(), Ok(())),
        Err(end) => (end.done, Err(end.fault)),
    };
    let whole = done / 8;
    for (&(page, slot), tag) in places.iter().zip(&tags).take(whole) {
        if let Err(fault) = life.expected(page, Access::Write) {
            return broken(
                page,
                format!("written, where it has to be refused ({fault:?})"),
            );
        }
        if let Some(page) = life.pages.get_mut(&page) {
            page.set(slot, *tag);
        }
    }
    if done % 8 != 0 {
        return broken(
            start,
            format!("of {} bytes {done} were written", bytes.len()),
        );
    }
    match places.get(whole) {
        Some(&(page, _)) => {
            let expected = life.expected(page, Access::Write);
            compare(page, Access::Write, (expected, met), hand).map(drop)
        }
        None => Ok(()),
    }
}

/// Copies a word of one page into another.
pub(super) fn copy(life: &mut Life, hand: &mut Hand) -> Held {
    let (Some(from), Some(to)) = (life.some_page(hand), life.some_page(hand)) else {
        return Ok(());
    };
    for page in [from, to] {
        let is_doubtful = life.pages[&page].may_be_empty;
        if is_doubtful && !life.read(page, hand)? {
            return Ok(());
        }
    }
    let slots = SLOTS.len() as u64;
    let (source, target) = (
        hand.rng.below(slots) as usize,
        hand.rng.below(slots) as usize,
    );
    hand.at(from);
    let copied = life
        .space
        .copy_within(from + SLOTS[source], to + SLOTS[target], 8);
    let met = copied.map_err(|end| end.fault);
    let reads = life.expected(from, Access::Read);
    if reads.is_ok() && met == Err(Fault::OutOfMemory) {
        hand.lacks_memory();
        return Ok(());
    }
    let expected = reads.and_then(|()| life.expected(to, Access::Write));
    if compare(to, Access::Write, (expected, met), hand)? {
        let word = life.pages[&from].words()[source];
        if let Some(page) = life.pages.get_mut(&to) {
            page.set(target, word);
        }
    }
    Ok(())
}

/// Asks whether a buffer in a window may be used.
pub(super) fn check(life: &Life, hand: &mut Hand) -> Held {
    let window = life.window(hand);
    let pages = hand.part(&window, 12);
    let start = pages.start + hand.rng.below(PAGE_SIZE);
    let range = start..pages.end - hand.rng.below(pages.end - start);
    let access = hand.rng.pick(&ACCESSES);
    hand.at(start);
    let expected = expected_of_range(life, &range, access);
    let met = life.space.check_range(range.clone(), access);
    if met == expected {
        return Ok(());
    }
    broken(
        start,
        format!("{access:?} of {range:x?} is {met:x?}, and has to be {expected:x?}"),
    )
}

/// The mappings alone: a guard is no mapping.
fn expected_of_range(life: &Life, range: &Range<u64>, access: Access) -> Result<(), Refused> {
    for page in (page_of(range.start)..range.end).step_by(PAGE_SIZE as usize) {
        let addr = page.max(range.start);
        let fault = match life.pages.get(&page) {
            None => Fault::NotMapped,
            Some(page) if !allows(page.prot, access) => Fault::NotAllowed,
            Some(_) => continue,
        };
        return Err(Refused { addr, fault });
    }
    Ok(())
}
