//! Calls that bring to light what no file of `/proc` shows: whether a mapping was prepared for
//! written pages before. Two parts that differ in a flag are written apart. Then they are alike
//! again, and join only if they have what prepared them in common: from before they were apart.

use maple_mm::{
    VmFlags, Vma,
    abi::{MADV_DODUMP, MADV_DONTDUMP, PROT_READ, PROT_WRITE},
};

use super::chooser::{Chooser, PAGE};
use super::target::{PROTECTED, Purpose, Raw};

/// The calls for some private mapping, one after another.
pub(crate) fn preparation(chooser: &mut Chooser<'_>) -> Option<Vec<Raw>> {
    let suited = || chooser.space.vmas().filter(|vma| is_suited(vma));
    let place = chooser.rng.below(suited().count() as u64);
    let vma = suited().nth(place as usize)?;
    let (start, len, flags) = (vma.start(), vma.end() - vma.start(), vma.flags());
    let pages = len / PAGE;
    let lower = 1 + chooser.rng.below(pages - 1);
    let advise = |advice: i32| {
        let advice = u64::from(advice.cast_unsigned());
        Raw::new(libc::SYS_madvise, [start, lower * PAGE, advice])
    };
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
    if !flags.contains(VmFlags::WRITE) {
        let writable = PROT_READ | PROT_WRITE;
        calls.push(Raw::new(libc::SYS_mprotect, [start, len, writable]));
    }
    calls.extend([advise(apart), writes[0], writes[1], advise(alike)]);
    Some(calls)
}

fn is_suited(vma: &Vma) -> bool {
    let kind = VmFlags::MAYWRITE | VmFlags::SHARED;
    let is_private = vma.flags() & kind == VmFlags::MAYWRITE;
    let is_ours = vma.end() <= PROTECTED.start || PROTECTED.end <= vma.start();
    is_private && is_ours && vma.end() - vma.start() >= 2 * PAGE
}
