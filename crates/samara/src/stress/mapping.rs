//! Calls that change what a thread has mapped, and what is left where one is refused.

use std::ops::Range;

use maple_mm::abi::{
    MADV_DONTNEED, MADV_GUARD_INSTALL, MADV_GUARD_REMOVE, MAP_ANONYMOUS, MAP_FIXED, MAP_POPULATE,
    MAP_PRIVATE, MAP_SHARED, MREMAP_FIXED, MREMAP_MAYMOVE, PAGE_SIZE, PROT_EXEC, PROT_NONE,
    PROT_READ, PROT_WRITE,
};
use maple_mm::{MmapRequest, MremapRequest};

use super::hand::Hand;
use super::life::{Life, Page};
use super::maps::rights;
use super::places::FLOATING_PAGES;
use super::violation::{Held, broken};

const WRITABLE: u64 = PROT_READ | PROT_WRITE;

fn some_rights(hand: &mut Hand) -> u64 {
    hand.rng.pick(&[
        WRITABLE,
        WRITABLE,
        WRITABLE,
        WRITABLE,
        PROT_READ,
        PROT_READ,
        PROT_NONE,
        PROT_READ | PROT_EXEC,
        WRITABLE | PROT_EXEC,
        PROT_WRITE,
        PROT_EXEC,
    ])
}

fn pages(range: &Range<u64>) -> impl Iterator<Item = u64> + use<> {
    (range.start..range.end).step_by(PAGE_SIZE as usize)
}

const fn len(range: &Range<u64>) -> u64 {
    range.end - range.start
}

/// A part of a window; of the far one often all of it, so that its tables go, too.
fn place(life: &Life, hand: &mut Hand) -> Range<u64> {
    let window = life.window(hand);
    if window == life.windows()[1] && hand.rng.one_in(2) {
        return window;
    }
    hand.part(&window, 40)
}

/// Maps over a part of a window, or where the address space has room.
pub(super) fn map(life: &mut Life, hand: &mut Hand) -> Held {
    let is_fixed = !hand.rng.one_in(5);
    let range = if is_fixed {
        place(life, hand)
    } else {
        0..(1 + hand.rng.below(12)) * PAGE_SIZE
    };
    if !is_fixed && life.floating() + len(&range) / PAGE_SIZE > FLOATING_PAGES {
        return unmap_floating(life, hand);
    }
    let prot = some_rights(hand);
    let is_shared = hand.rng.one_in(5);
    let mut flags = MAP_ANONYMOUS | if is_shared { MAP_SHARED } else { MAP_PRIVATE };
    flags |= if is_fixed { MAP_FIXED } else { 0 };
    flags |= if hand.rng.one_in(6) { MAP_POPULATE } else { 0 };
    if is_fixed {
        hand.aim(&range);
    }
    let mapped = life.space.lock().mmap(MmapRequest {
        addr: range.start,
        flags,
        ..MmapRequest::anonymous(len(&range), prot)
    });
    match mapped {
        Ok(addr) if is_fixed && addr != range.start => {
            broken(addr, format!("mmap was asked for {:#x}", range.start))
        }
        Ok(addr) => {
            let range = addr..addr + len(&range);
            if !is_fixed && let Some(met) = pages(&range).find(|at| life.pages.contains_key(at)) {
                return broken(met, "mmap maps over what is mapped");
            }
            let count = (len(&range) / PAGE_SIZE) as usize;
            if is_shared {
                life.pages
                    .extend(pages(&range).zip(Page::shared(prot, count)));
            } else {
                let zero = Page::zero(prot);
                life.pages
                    .extend(pages(&range).map(|at| (at, zero.clone())));
            }
            Ok(())
        }
        Err(error) => {
            hand.refused(range.start, error)?;
            if is_fixed {
                adopt_holes(life, &range)?;
            }
            Ok(())
        }
    }
}

/// After a call that was refused: what is mapped still. LINUX: there may be a hole then.
fn adopt_holes(life: &mut Life, range: &Range<u64>) -> Held {
    let reader = life.space.mappings();
    for at in pages(range) {
        match (reader.vma_at(at), life.pages.get(&at)) {
            (None, None) => {}
            (None, Some(_)) => drop(life.pages.remove(&at)),
            (Some(_), None) => return broken(at, "a call that was refused has mapped something"),
            (Some(vma), Some(page)) => {
                if rights(vma.flags()) != page.prot {
                    return broken(at, "a call that was refused has changed rights");
                }
            }
        }
    }
    Ok(())
}

pub(super) fn unmap(life: &mut Life, hand: &mut Hand) -> Held {
    if hand.rng.one_in(4) {
        return unmap_floating(life, hand);
    }
    let range = place(life, hand);
    unmap_range(life, hand, &range)
}

/// Unmaps something that lies outside the windows.
fn unmap_floating(life: &mut Life, hand: &mut Hand) -> Held {
    match life.pages.last_key_value() {
        // The windows lie below.
        Some((&first, _)) if !life.windows().iter().any(|window| window.contains(&first)) => {
            let range = first..first + PAGE_SIZE;
            unmap_range(life, hand, &range)
        }
        _ => Ok(()),
    }
}

fn unmap_range(life: &mut Life, hand: &mut Hand, range: &Range<u64>) -> Held {
    hand.aim(range);
    let unmapped = life.space.lock().munmap(range.start, len(range));
    match unmapped {
        Ok(()) => {
            pages(range).for_each(|at| drop(life.pages.remove(&at)));
            Ok(())
        }
        // Nothing is unmapped then, as further steps find.
        Err(error) => hand.refused(range.start, error),
    }
}

pub(super) fn protect(life: &mut Life, hand: &mut Hand) -> Held {
    let Some(range) = life.some_row(hand, 24) else {
        return Ok(());
    };
    let prot = some_rights(hand);
    hand.aim(&range);
    let protected = life.space.lock().mprotect(range.start, len(&range), prot);
    if let Err(error) = protected {
        hand.refused(range.start, error)?;
        return adopt_rights(life, &range, prot);
    }
    for (_, page) in life.pages.range_mut(range) {
        page.prot = prot;
    }
    Ok(())
}

/// After an `mprotect` that was refused: each page has the old rights or the new ones.
fn adopt_rights(life: &mut Life, range: &Range<u64>, new: u64) -> Held {
    let reader = life.space.mappings();
    for (&at, page) in life.pages.range_mut(range.clone()) {
        let Some(vma) = reader.vma_at(at) else {
            return broken(at, "mprotect has unmapped something");
        };
        let found = rights(vma.flags());
        if found != page.prot && found != new {
            return broken(at, format!("mprotect has made rights {found}"));
        }
        page.prot = found;
    }
    Ok(())
}

/// Moves pages in a row to a place in a window.
pub(super) fn relocate(life: &mut Life, hand: &mut Hand) -> Held {
    let Some(from) = life.some_row(hand, 24) else {
        return Ok(());
    };
    let window = life.window(hand);
    let room = (len(&window) - len(&from)) / PAGE_SIZE;
    let start = window.start + hand.rng.below(room + 1) * PAGE_SIZE;
    let to = start..start + len(&from);
    if from.start < to.end && to.start < from.end {
        return Ok(());
    }
    let aim = if hand.rng.one_in(2) { &from } else { &to };
    hand.aim(aim);
    let moved = life.space.lock().mremap(MremapRequest {
        addr: from.start,
        old_len: len(&from),
        new_len: len(&from),
        flags: MREMAP_MAYMOVE | MREMAP_FIXED,
        new_addr: to.start,
    });
    match moved {
        Ok(addr) if addr != to.start => broken(addr, format!("mremap was asked for {to:x?}")),
        Ok(_) => {
            for (old, new) in pages(&from).zip(pages(&to)) {
                if let Some(page) = life.pages.remove(&old) {
                    life.pages.insert(new, page);
                }
            }
            Ok(())
        }
        Err(error) => {
            hand.refused(from.start, error)?;
            adopt_move(life, &from, &to)
        }
    }
}

/// After a move that was refused. LINUX: the target may be empty, and some mappings moved.
fn adopt_move(life: &mut Life, from: &Range<u64>, to: &Range<u64>) -> Held {
    let reader = life.space.mappings();
    for (old, new) in pages(from).zip(pages(to)) {
        let is_at = |addr| reader.vma_at(addr).is_some();
        match (is_at(old), is_at(new)) {
            (true, true) if !life.pages.contains_key(&new) => {
                return broken(new, "mremap was refused, and has mapped something");
            }
            (true, true) => {}
            (true, false) => drop(life.pages.remove(&new)),
            (false, true) => {
                if let Some(page) = life.pages.remove(&old) {
                    life.pages.insert(new, page);
                }
            }
            (false, false) => return broken(old, "mremap was refused, and has lost a page"),
        }
    }
    Ok(())
}

/// Makes something outside the windows longer or shorter, where it may move.
pub(super) fn resize(life: &mut Life, hand: &mut Hand) -> Held {
    let above = life.windows()[1].end;
    let Some((&first, page)) = life.pages.range(above..).next() else {
        return map(life, hand);
    };
    let (prot, is_shared) = (page.prot, page.is_shared());
    // All of it in one mapping, or it may not grow.
    let end = life.space.find_vma(first).map_or(first, |vma| vma.end());
    let row = life.row(first, FLOATING_PAGES);
    let old = first..row.end.min(end);
    let most = FLOATING_PAGES - life.floating() + len(&old) / PAGE_SIZE;
    let limit = if is_shared {
        len(&old) / PAGE_SIZE
    } else {
        most
    };
    let new_len = (1 + hand.rng.below(limit)) * PAGE_SIZE;
    hand.aim(&old);
    let resized = life.space.lock().mremap(MremapRequest {
        addr: old.start,
        old_len: len(&old),
        new_len,
        flags: MREMAP_MAYMOVE,
        new_addr: 0,
    });
    let addr = match resized {
        Ok(addr) => addr,
        Err(error) => return hand.refused(first, error),
    };
    let kept: Vec<_> = pages(&old).map(|at| life.pages.remove(&at)).collect();
    let mut kept = kept.into_iter().flatten();
    for at in pages(&(addr..addr + new_len)) {
        let page = kept.next().unwrap_or_else(|| Page::zero(prot));
        if life.pages.insert(at, page).is_some() {
            return broken(at, "mremap maps over what is mapped");
        }
    }
    Ok(())
}

/// Gives private pages up: they are zero then.
pub(super) fn discard(life: &mut Life, hand: &mut Hand) -> Held {
    let Some(range) = life.some_row(hand, 24) else {
        return Ok(());
    };
    hand.aim(&range);
    let advised = life
        .space
        .lock()
        .madvise(range.start, len(&range), MADV_DONTNEED);
    for (_, page) in life.pages.range_mut(range.clone()) {
        match advised {
            Ok(()) => {
                page.empty();
                page.may_be_empty = page.may_be_empty && page.is_shared();
            }
            Err(_) => page.may_be_empty |= !page.is_shared(),
        }
    }
    match advised {
        Ok(()) => Ok(()),
        Err(error) => hand.refused(range.start, error),
    }
}

/// Lays a guard, or takes one away.
pub(super) fn guard(life: &mut Life, hand: &mut Hand) -> Held {
    let Some(at) = life.some_page(hand) else {
        return Ok(());
    };
    hand.aim(&(at..at + PAGE_SIZE));
    let Some(page) = life.pages.get_mut(&at) else {
        return Ok(());
    };
    let advice = if page.is_guard {
        MADV_GUARD_REMOVE
    } else {
        MADV_GUARD_INSTALL
    };
    let advised = life.space.lock().madvise(at, PAGE_SIZE, advice);
    match advised {
        Ok(()) => {
            page.is_guard = !page.is_guard;
            page.empty();
            page.may_be_empty = false;
            Ok(())
        }
        Err(error) => {
            page.may_be_empty |= !page.is_shared();
            hand.refused(at, error)
        }
    }
}
