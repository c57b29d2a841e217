//! The break, and what lies at its ends.

use maple_mm::abi::{MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE};

use super::Kind;
use crate::torture::chooser::{Chooser, PAGE};
use crate::torture::target::Raw;

pub(super) const KINDS: &[Kind] = &[
    Kind {
        weight: 6,
        make: moved,
    },
    Kind {
        weight: 1,
        make: beside,
    },
];

fn moved(chooser: &mut Chooser<'_>) -> Raw {
    let layout = chooser.space.layout();
    let (base, end) = (layout.start_brk, layout.brk);
    let wanted = match chooser.rng.below(10) {
        0 => chooser.rng.below(base),
        1 => base + (1 << 45),
        2 => base,
        3..5 => base + chooser.rng.below(8 * PAGE),
        _ => end + chooser.rng.below(5 * PAGE),
    };
    let is_much = wanted > base + 256 * PAGE && wanted < base + (1 << 44);
    Raw::new(libc::SYS_brk, [if is_much { base } else { wanted }])
}

/// Memory like the heap's, below its beginning or behind its end.
fn beside(chooser: &mut Chooser<'_>) -> Raw {
    let layout = chooser.space.layout();
    let (start, end) = (layout.start_brk, layout.brk.next_multiple_of(PAGE));
    let len = (1 + chooser.rng.below(3)) * PAGE;
    let room = chooser.rng.below(3) * PAGE;
    let addr = if chooser.rng.one_in(2) {
        start - len
    } else {
        end + room
    };
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    Raw::new(libc::SYS_mmap, [addr, len, 3, flags, u64::MAX, 0])
}
