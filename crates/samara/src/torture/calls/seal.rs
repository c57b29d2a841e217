//! Mappings sealed: seldom and few pages, as nothing takes a seal away.

use super::Kind;
use crate::torture::chooser::{Chooser, PAGE};
use crate::torture::target::Raw;

pub(super) const KINDS: &[Kind] = &[Kind {
    weight: 1,
    make: sealed,
}];

fn sealed(chooser: &mut Chooser<'_>) -> Raw {
    let (addr, len) = chooser.range();
    let flags = u64::from(chooser.rng.one_in(8));
    Raw::new(libc::SYS_mseal, [addr, len.min(2 * PAGE), flags])
}
