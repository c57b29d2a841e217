//! What readers of mappings find: the text of `maps`, and single mappings, with what a thread
//! knows about its own.

use std::ops::Range;

use maple_mm::abi::{PAGE_SIZE, PROT_EXEC, PROT_READ, PROT_WRITE};
use maple_mm::{MapsLine, Moment, VmFlags};

use super::hand::Hand;
use super::life::Life;
use super::violation::{Held, broken, broken_anywhere};

/// The rights of a mapping, as they are asked for.
pub(super) fn rights(flags: VmFlags) -> u64 {
    let right = |flag, bit| if flags.contains(flag) { bit } else { 0 };
    right(VmFlags::READ, PROT_READ)
        | right(VmFlags::WRITE, PROT_WRITE)
        | right(VmFlags::EXEC, PROT_EXEC)
}

/// Looks some mappings up, without the lock.
pub(super) fn look(life: &Life, hand: &mut Hand) -> Held {
    let window = life.window(hand);
    let reader = life.space.mappings();
    for _ in 0..8 {
        let addr = hand.part(&window, 1).start + hand.rng.below(PAGE_SIZE);
        hand.at(addr);
        let page = life.pages.get(&(addr & !(PAGE_SIZE - 1)));
        let found = reader.vma_at(addr);
        match (page, found) {
            (None, None) => {}
            (Some(page), Some(vma)) => {
                let shared = vma.flags().contains(VmFlags::SHARED);
                if !vma.contains(addr)
                    || rights(vma.flags()) != page.prot
                    || shared != page.is_shared()
                {
                    return broken(addr, format!("a look-up finds {vma:?}, and not {page:?}"));
                }
            }
            (None, Some(_)) => return broken(addr, "a look-up finds what is not mapped"),
            (Some(_), None) => return broken(addr, "a look-up does not find what is mapped"),
        }
        let next = reader.find_vma(addr);
        let is_it = next.is_some_and(|vma| vma.end() > addr);
        if page.is_some() && !is_it {
            return broken(addr, "a search upwards does not find what is mapped");
        }
    }
    Ok(())
}

/// One line of the text.
struct Line {
    range: Range<u64>,
    prot: u64,
    is_shared: bool,
}

/// Writes the text of a moment, reads it back, and looks whether it is whole.
pub(super) fn read(life: &Life) -> Held {
    let moment = life.space.moment();
    let lines = parse(&moment)?;
    check_order(&lines)?;
    check_counts(&moment, &lines)?;
    check_own(life, &lines)
}

fn parse(moment: &Moment) -> Held<Vec<Line>> {
    let mut text = String::new();
    if moment.write_maps(&mut text).is_err() {
        return broken_anywhere("maps cannot be written");
    }
    let mut lines = Vec::new();
    for line in text.lines() {
        let line = match MapsLine::parse(line) {
            Ok(line) => line,
            Err(error) => return broken_anywhere(format!("maps: {error}: {line}")),
        };
        lines.push(Line {
            range: line.start..line.end,
            prot: rights(line.flags),
            is_shared: line.flags.contains(VmFlags::MAYSHARE),
        });
    }
    Ok(lines)
}

/// Lines ascend and do not overlap.
fn check_order(lines: &[Line]) -> Held {
    let mut end = 0;
    for Line { range, .. } in lines {
        if range.start < end || range.is_empty() {
            return broken(range.start, format!("maps: {range:x?} after {end:#x}"));
        }
        end = range.end;
    }
    Ok(())
}

/// The counters are those of the very mappings in the text.
fn check_counts(moment: &Moment, lines: &[Line]) -> Held {
    let statistics = moment.statistics();
    let bytes = lines.iter().map(|line| line.range.end - line.range.start);
    let pages = bytes.sum::<u64>() / PAGE_SIZE;
    if pages != statistics.total_vm || statistics.total_vm > statistics.peak_vm {
        return broken_anywhere(format!(
            "maps has {pages} pages, and there are {} counted, {} at most",
            statistics.total_vm, statistics.peak_vm
        ));
    }
    if moment.vmas().count() != lines.len() || moment.tree().len() != lines.len() {
        return broken_anywhere("maps has another number of lines than there are mappings");
    }
    let mut status = String::new();
    let is_written = moment.write_status(&mut status).is_ok();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let size = size.and_then(|size| size.trim().strip_suffix(" kB"));
    if !is_written || size.and_then(|size| size.parse().ok()) != Some(pages * 4) {
        return broken_anywhere(format!("maps has {pages} pages, and status {size:?} KiB"));
    }
    Ok(())
}

/// What the thread owns is there with its rights, and the holes in its windows are holes.
fn check_own(life: &Life, lines: &[Line]) -> Held {
    let at = |addr: u64| {
        let next = lines.partition_point(|line| line.range.end <= addr);
        lines.get(next).filter(|line| line.range.start <= addr)
    };
    for (&addr, page) in &life.pages {
        let is_there = at(addr)
            .is_some_and(|line| line.prot == page.prot && line.is_shared == page.is_shared());
        if !is_there {
            return broken(addr, format!("maps does not show {page:?}"));
        }
    }
    for window in life.windows() {
        let mut pages = window.step_by(PAGE_SIZE as usize);
        let extra = pages.find(|addr| at(*addr).is_some() && !life.pages.contains_key(addr));
        if let Some(addr) = extra {
            return broken(addr, "maps shows what is not mapped");
        }
    }
    Ok(())
}
