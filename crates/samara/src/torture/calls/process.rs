//! What concerns an address space as a whole: `personality`, switches of `prctl`, where the
//! program says that its parts lie; and advice about several ranges.

use maple_mm::abi::*;

use super::Kind;
use crate::process_call::{ADDRESSES, RANGES};
use crate::torture::chooser::{ARENA, Chooser, PAGE};
use crate::torture::executor::PAYLOAD;
use crate::torture::target::Raw;

/// The descriptor that stands for the caller, as `process_madvise` takes it since Linux 6.14.
const SELF: u64 = (-10_000_i64).cast_unsigned();

pub(super) const KINDS: &[Kind] = &[
    Kind {
        weight: 20,
        make: persona,
    },
    Kind {
        weight: 1,
        make: |chooser| switch(chooser, PR_SET_MDWE, &[0, 1, 1, 1, 2, 3, 4]),
    },
    Kind {
        weight: 20,
        make: |chooser| switch(chooser, PR_SET_MEMORY_MERGE, &[0, 0, 1, 1, 2]),
    },
    Kind {
        weight: 10,
        make: huge_pages,
    },
    Kind {
        weight: 2,
        make: one_address,
    },
    Kind {
        weight: 20,
        make: all_addresses,
    },
    Kind {
        weight: 1,
        make: |chooser| {
            let (addr, len) = chooser.range();
            let (set, named) = (PR_SET_VMA.into(), PR_SET_VMA_ANON_NAME);
            Raw::new(libc::SYS_prctl, [set, named, addr, len, 0])
        },
    },
    Kind {
        weight: 60,
        make: lists_of_advice,
    },
];

fn persona(chooser: &mut Chooser<'_>) -> Raw {
    let implied = u64::from(READ_IMPLIES_EXEC);
    let personas = [0, 0, 0, implied, implied, 0xffff_ffff, u64::MAX];
    Raw::new(libc::SYS_personality, [chooser.rng.pick(&personas)])
}

/// An option with one argument, seldom with more.
fn switch(chooser: &mut Chooser<'_>, option: u32, arguments: &[u64]) -> Raw {
    let more = u64::from(chooser.rng.one_in(20));
    let argument = chooser.rng.pick(arguments);
    Raw::new(libc::SYS_prctl, [option.into(), argument, 0, 0, more])
}

fn huge_pages(chooser: &mut Chooser<'_>) -> Raw {
    let off = chooser.rng.pick(&[0, 0, 1, 1, 7]);
    let exception = chooser.rng.pick(&[0, 0, 0, 2, 1]);
    let option = PR_SET_THP_DISABLE.into();
    Raw::new(libc::SYS_prctl, [option, off, exception])
}

/// One address of the program. It needs a privilege that few have.
fn one_address(chooser: &mut Chooser<'_>) -> Raw {
    let option = chooser.rng.below(14);
    // Those that a file or an array is needed for are not mappings' matter.
    let option = if option < PR_SET_MM_AUXV { option } else { 99 };
    let addr = chooser.wild();
    let more = u64::from(chooser.rng.one_in(8));
    let set = PR_SET_MM.into();
    Raw::new(libc::SYS_prctl, [set, option, addr, more])
}

/// Moves the heap into the arena, or back, and the stack's name anywhere.
fn all_addresses(chooser: &mut Chooser<'_>) -> Raw {
    let start_brk = ARENA.start + chooser.rng.below(40) * PAGE;
    let brk = start_brk + chooser.rng.below(4 * PAGE);
    let start_stack = chooser.addr().clamp(1 << 16, 1 << 46);
    let low = 1 << 20;
    let code = chooser.rng.below(3 * PAGE);
    let mut words = [low; ADDRESSES + 2];
    words[1] = low + code;
    (words[4], words[5], words[6]) = (start_brk, brk, start_stack);
    if chooser.rng.one_in(8) {
        let place = chooser.rng.below(ADDRESSES as u64);
        words[place as usize] = if matches!(place, 4 | 5) {
            // Neither end may leave the arena: the heap unmaps what lies between.
            start_brk
        } else {
            chooser.wild()
        };
    }
    // No auxiliary vector, and no file.
    (words[ADDRESSES], words[ADDRESSES + 1]) = (0, u64::from(u32::MAX) << 32);
    let size = size_of_val(&words) as u64;
    let arguments = [PR_SET_MM.into(), PR_SET_MM_MAP, PAYLOAD, size];
    Raw::new(libc::SYS_prctl, arguments).with(words)
}

fn lists_of_advice(chooser: &mut Chooser<'_>) -> Raw {
    let advice = chooser.rng.pick(&[
        MADV_NORMAL,
        MADV_SEQUENTIAL,
        MADV_DONTNEED,
        MADV_DONTFORK,
        MADV_DOFORK,
        MADV_DONTDUMP,
        MADV_HUGEPAGE,
        MADV_WIPEONFORK,
        MADV_FREE,
        MADV_GUARD_INSTALL,
        MADV_POPULATE_WRITE,
        MADV_COLD,
        99,
    ]);
    let count = chooser.rng.below(RANGES as u64 + 1);
    let mut words = [0; 2 * RANGES];
    for place in 0..count as usize {
        let (addr, len) = chooser.range();
        (words[2 * place], words[2 * place + 1]) = (addr, len);
    }
    let advice = u64::from(advice.cast_unsigned());
    let arguments = [SELF, PAYLOAD, count, advice];
    Raw::new(libc::SYS_process_madvise, arguments).with(words)
}
