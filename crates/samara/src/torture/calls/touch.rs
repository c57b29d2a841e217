//! First reads and writes: the kernel touches the memory for a call that reads or writes a byte.

use super::Kind;
use crate::torture::chooser::{Chooser, PAGE};
use crate::torture::target::{Purpose, Raw};

pub(super) const KINDS: &[Kind] = &[
    Kind {
        weight: 3,
        make: |chooser| {
            let zero = chooser.descriptor(Purpose::Zero);
            Raw::new(libc::SYS_read, [zero, addr(chooser), 1])
        },
    },
    Kind {
        weight: 1,
        make: |chooser| {
            let memory = chooser.descriptor(Purpose::Memory);
            Raw::new(libc::SYS_pwrite64, [memory, addr(chooser), 1, 0])
        },
    },
];

/// Mapped, or a little below: where a stack may grow to.
fn addr(chooser: &mut Chooser<'_>) -> u64 {
    let addr = chooser.addr();
    if chooser.rng.one_in(5) {
        let below = chooser.rng.pick(&[1, 2, 3, 255, 256, 257, 300]);
        addr.wrapping_sub(below * PAGE)
    } else {
        addr
    }
}
