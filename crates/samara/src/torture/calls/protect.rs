//! Protection changed over any range.

use super::{Kind, ranged_with};
use crate::torture::target::Raw;

pub(super) const KINDS: &[Kind] = &[
    Kind {
        weight: 15,
        make: |chooser| {
            let protection = chooser.protection();
            ranged_with(chooser, libc::SYS_mprotect, protection)
        },
    },
    Kind {
        weight: 1,
        make: |chooser| {
            // No key, which is what `mprotect` has.
            let protection = chooser.protection();
            let (addr, len) = chooser.range();
            let arguments = [addr, len, protection, u64::MAX];
            Raw::new(libc::SYS_pkey_mprotect, arguments)
        },
    },
];
