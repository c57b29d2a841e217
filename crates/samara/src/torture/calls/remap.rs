//! Mappings grown, shrunk, moved, copied, and moved without what they held.

use super::Kind;
use crate::torture::chooser::{Chooser, PAGE};
use crate::torture::target::Raw;

pub(super) const KINDS: &[Kind] = &[
    Kind {
        weight: 8,
        make: remapped,
    },
    Kind {
        weight: 1,
        make: returned,
    },
];

/// Moves a mapping to where its offset says that it was made: it may join what stayed there.
fn returned(chooser: &mut Chooser<'_>) -> Raw {
    let Some(range) = chooser.owned() else {
        return remapped(chooser);
    };
    let offset = chooser
        .space
        .vma_at(range.start)
        .map(|vma| vma.page_offset());
    let home = offset.unwrap_or(0).wrapping_mul(PAGE);
    let len = range.end - range.start;
    let flags = chooser.rng.pick(&[3, 3, 3, 7]);
    Raw::new(libc::SYS_mremap, [range.start, len, len, flags, home])
}

fn remapped(chooser: &mut Chooser<'_>) -> Raw {
    let (mut addr, mut old_len) = (chooser.addr(), chooser.len());
    if chooser.rng.one_in(2)
        && let Some(range) = chooser.owned()
    {
        (addr, old_len) = (range.start, range.end - range.start);
    }
    let mut new_len = if chooser.rng.one_in(3) {
        old_len
    } else {
        chooser.len()
    };
    let all = [0, 0, 1, 1, 1, 3, 3, 3, 5, 5, 7, 7, 2, 4, 8];
    let flags = chooser.rng.pick(&all);
    let new_addr = chooser.addr();
    if flags & 2 != 0 && chooser.rng.one_in(2) {
        new_len = old_len;
    }
    let arguments = [addr, old_len, new_len, flags, new_addr];
    Raw::new(libc::SYS_mremap, arguments)
}
