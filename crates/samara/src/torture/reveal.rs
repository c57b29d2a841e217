//! Calls that bring to light what no file of `/proc` shows: whether a mapping was prepared for
//! written pages before. Two parts that differ in a flag are written apart. Then they are alike
//! again, and join only if they have what prepared them in common: from before they were apart.
//!
//! Sometimes that is asked of what begins with a guard when all of it is brought in: nothing is
//! prepared then, whether or not the call says that there is a guard.

use maple_mm::{
    VmFlags, VmaRef,
    abi::{
        MADV_DODUMP, MADV_DONTDUMP, MADV_GUARD_INSTALL, MADV_POPULATE_WRITE, MCL_CURRENT,
        PROT_READ, PROT_WRITE,
    },
};

use super::chooser::{Chooser, PAGE};
use super::target::{Purpose, Raw};

/// The calls for some private mapping, one after another.
pub(crate) fn preparation(chooser: &mut Chooser<'_>) -> Option<Vec<Raw>> {
    let count = chooser.all_owned().filter(is_suited).count();
    let place = chooser.rng.below(count as u64);
    let vma = chooser
        .all_owned()
        .filter(is_suited)
        .nth(place as usize)?
        .clone();
    let (start, len, flags) = (vma.start(), vma.end() - vma.start(), vma.flags());
    let pages = len / PAGE;
    let lower = 1 + chooser.rng.below(pages - 1);
    let advise = |advice| Raw::advise(start, lower * PAGE, advice);
    let (apart, alike) = if flags.contains(VmFlags::DONTDUMP) {
        (MADV_DODUMP, MADV_DONTDUMP)
    } else {
        (MADV_DONTDUMP, MADV_DODUMP)
    };
    let zero = chooser.descriptor(Purpose::Zero);
    let mut write = |from: u64, to: u64| {
        let page = from + chooser.rng.below(to - from);
        Raw::new(libc::SYS_read, [zero, start + page * PAGE, 1])
    };
    let writes = [write(0, lower), write(lower, pages)];
    let mut calls = Vec::new();
    if !vma.is_anonymous() && chooser.rng.one_in(2) {
        calls.extend(guarded(chooser, (start, len)));
    }
    if !flags.contains(VmFlags::WRITE) {
        let writable = PROT_READ | PROT_WRITE;
        calls.push(Raw::new(libc::SYS_mprotect, [start, len, writable]));
    }
    calls.extend([advise(apart), writes[0], writes[1], advise(alike)]);
    Some(calls)
}

/// A guard at the beginning of a mapping, and a call that brings all of it in, or has that done as
/// soon as it may be written.
fn guarded(chooser: &mut Chooser<'_>, (start, len): (u64, u64)) -> [Raw; 2] {
    let bringing_in = [
        Raw::new(libc::SYS_mlockall, [MCL_CURRENT]),
        Raw::new(libc::SYS_mlock, [start, len]),
        Raw::advise(start, len, MADV_POPULATE_WRITE),
    ];
    let bringing_in = chooser.rng.pick(&bringing_in);
    let guard = Raw::advise(start, PAGE, MADV_GUARD_INSTALL);
    [guard, bringing_in]
}

fn is_suited(vma: &&VmaRef) -> bool {
    let kind = VmFlags::MAYWRITE | VmFlags::SHARED;
    let is_private = vma.flags() & kind == VmFlags::MAYWRITE;
    is_private && vma.end() - vma.start() >= 2 * PAGE
}
