//! The break.

use super::Kind;
use crate::torture::chooser::{Chooser, PAGE};
use crate::torture::target::Raw;

pub(super) const KINDS: &[Kind] = &[Kind {
    weight: 1,
    make: moved,
}];

fn moved(chooser: &mut Chooser<'_>) -> Raw {
    let layout = chooser.space.layout();
    let (base, end) = (layout.start_brk, layout.brk);
    let wanted = match chooser.rng.below(10) {
        0 => chooser.rng.below(base),
        1 => base + (1 << 45),
        2..5 => base + chooser.rng.below(8 * PAGE),
        _ => end + chooser.rng.below(5 * PAGE),
    };
    let is_much = wanted > base + 256 * PAGE && wanted < base + (1 << 44);
    Raw::new(libc::SYS_brk, [if is_much { base } else { wanted }])
}
