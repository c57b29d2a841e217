//! Mistakes planted on purpose, for the test that shows that a divergence is found.
//!
//! Exists only in builds with `--cfg planted_mistakes`.

use core::sync::atomic::{AtomicU8, Ordering};

use crate::flags::VmFlags;

/// A rule turned wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// Nothing merges any more.
    MergeRule,
    /// Searches leave one page free above what they find.
    GapRule,
    /// `EINVAL` of `munmap` becomes `EFAULT`.
    Errno,
}

static PLANTED: AtomicU8 = AtomicU8::new(0);

/// Turns one rule wrong, for the whole program, until another is chosen.
pub fn set(mistake: Mistake) {
    // Relaxed: set once before the calls it spoils.
    PLANTED.store(mistake as u8 + 1, Ordering::Relaxed);
}

fn is_planted(mistake: Mistake) -> bool {
    PLANTED.load(Ordering::Relaxed) == mistake as u8 + 1
}

pub(crate) fn merge_difference(differing: VmFlags) -> VmFlags {
    if is_planted(Mistake::MergeRule) {
        differing | VmFlags::WRITE
    } else {
        differing
    }
}

pub(crate) fn gap_start(start: u64) -> u64 {
    if is_planted(Mistake::GapRule) {
        start.saturating_sub(crate::abi::PAGE_SIZE)
    } else {
        start
    }
}

pub(crate) fn errno(errno: crate::Errno) -> crate::Errno {
    if is_planted(Mistake::Errno) {
        crate::Errno::EFAULT
    } else {
        errno
    }
}
