//! Memory locked and unlocked, in ranges and all of it.

use maple_mm::abi::{MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT};

use super::{Kind, ranged, ranged_with};
use crate::torture::chooser::Chooser;
use crate::torture::target::Raw;

pub(super) const KINDS: &[Kind] = &[
    Kind {
        weight: 1,
        make: all,
    },
    Kind {
        weight: 2,
        make: |_| Raw::new(libc::SYS_munlockall, []),
    },
    Kind {
        weight: 6,
        make: |chooser| ranged(chooser, libc::SYS_munlock),
    },
    Kind {
        weight: 5,
        make: |chooser| {
            let flags = chooser.rng.pick(&[0, 1, 1, 1, 2]);
            ranged_with(chooser, libc::SYS_mlock2, flags)
        },
    },
    Kind {
        weight: 6,
        make: |chooser| ranged(chooser, libc::SYS_mlock),
    },
];

fn all(chooser: &mut Chooser<'_>) -> Raw {
    let all = [0, MCL_ONFAULT, 8, MCL_CURRENT, MCL_FUTURE, 3, 5, 7];
    Raw::new(libc::SYS_mlockall, [chooser.rng.pick(&all)])
}
