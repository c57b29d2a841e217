//! Anonymous memory: mapped at addresses and where there is room, unmapped.

use maple_mm::abi::*;

use super::{Kind, ranged, rarely};
use crate::torture::chooser::{ARENA, Chooser, HUGE_ARENA, PAGE, STACKS};
use crate::torture::target::Raw;

pub(super) const KINDS: &[Kind] = &[
    Kind {
        weight: 20,
        make: |chooser| anonymous(chooser),
    },
    Kind {
        weight: 4,
        make: filling,
    },
    Kind {
        weight: 12,
        make: |chooser| ranged(chooser, libc::SYS_munmap),
    },
    Kind {
        weight: 2,
        make: sweep,
    },
];

/// The address, the length and the flags that say where to, of any mapping.
pub(super) fn place(chooser: &mut Chooser<'_>) -> (u64, u64, u64) {
    let is_fixed = chooser.rng.below(10) < 7;
    let addr = if is_fixed || chooser.rng.one_in(6) {
        chooser.addr()
    } else {
        0
    };
    if is_fixed {
        let fixed = [MAP_FIXED, MAP_FIXED, MAP_FIXED, MAP_FIXED_NOREPLACE];
        return (addr, chooser.len(), chooser.rng.pick(&fixed));
    }
    let len = if chooser.rng.one_in(3) {
        let lens = [2 << 20, 4 << 20, (2 << 20) + PAGE, 3 << 20];
        chooser.rng.pick(&lens)
    } else {
        chooser.len()
    };
    (addr, len, 0)
}

/// The flags that any mapping may have.
pub(super) fn more_flags(chooser: &mut Chooser<'_>, len: u64) -> u64 {
    let mut flags = rarely(
        chooser,
        &[
            (MAP_GROWSDOWN, 20),
            (MAP_STACK, 20),
            (MAP_NONBLOCK, 30),
            (MAP_32BIT, 40),
            (MAP_ABOVE4G, 40),
            (MAP_SYNC, 60),
            (1 << 22, 60),
        ],
    );
    // What is large is neither brought in nor kept from being counted.
    if len <= 1 << 20 {
        flags |= rarely(
            chooser,
            &[(MAP_NORESERVE, 12), (MAP_POPULATE, 12), (MAP_LOCKED, 25)],
        );
    }
    flags
}

fn anonymous(chooser: &mut Chooser<'_>) -> Raw {
    let (addr, mut len, place) = place(chooser);
    let mut protection = chooser.protection();
    let mut flags = chooser.rng.pick(&[2, 2, 2, 2, 2, 2, 1, 1, 3, 8, 0]);
    if place == 0 && chooser.rng.one_in(40) {
        // More than the machine has.
        (len, protection, flags) = (1 << 40, 3, MAP_PRIVATE);
    }
    flags |= place | MAP_ANONYMOUS | more_flags(chooser, len);
    let offset = chooser
        .rng
        .pick(&[0, 0, 0, 0, 0, 0, 0, PAGE, 1, u64::MAX - 4095]);
    let arguments = [addr, len, protection, flags, u64::MAX, offset];
    Raw::new(libc::SYS_mmap, arguments)
}

/// Fills a hole with more of what lies below it.
fn filling(chooser: &mut Chooser<'_>) -> Raw {
    let more = chooser.hole().map(|(hole, below)| {
        let protection = below.flags().access().bits();
        [hole.start, hole.end - hole.start, protection]
    });
    let Some([addr, len, protection]) = more else {
        return anonymous(chooser);
    };
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    Raw::new(libc::SYS_mmap, [addr, len, protection, flags, u64::MAX, 0])
}

/// Empties an arena, so that there is room again.
fn sweep(chooser: &mut Chooser<'_>) -> Raw {
    let area = chooser.rng.pick(&[&ARENA, &STACKS, &HUGE_ARENA]);
    Raw::new(libc::SYS_munmap, [area.start, area.end - area.start])
}
