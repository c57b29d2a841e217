//! Where things lie in the address space that all threads use.
//!
//! ```text
//!  COMMONS   pages that all threads write, a word each, on both sides of a table's border
//!  RUNGS     words that each thread raises in order, each rung below another table
//!  near      a window for each thread, side by side: tables are used by several
//!  far       another, on both sides of a border of the upper tables: they come and go with it
//!            (what is mapped without an address lies above all of these)
//! ```

use std::ops::Range;

use maple_mm::abi::{HUGE_PAGE_SIZE, PAGE_SIZE};

/// Pages of a near window.
const NEAR_PAGES: u64 = 160;
/// Pages of a far one.
const FAR_PAGES: u64 = 48;
/// Pages that one thread has elsewhere, at most.
pub(super) const FLOATING_PAGES: u64 = 48;
/// All that a thread can own in one address space.
pub(super) const PAGES_EACH: u64 = NEAR_PAGES + FAR_PAGES + FLOATING_PAGES;

const GIB: u64 = 1 << 30;
const NEAR: u64 = 64 * GIB;
const FAR: u64 = 1024 * GIB;
const LADDER: u64 = 32 * GIB;

/// Pages that all threads write.
pub(super) const COMMON_PAGES: u64 = 8;
const COMMONS: u64 = 16 * GIB + HUGE_PAGE_SIZE - COMMON_PAGES / 2 * PAGE_SIZE;

/// How many words a thread raises one after the other.
pub(super) const RUNGS: u64 = 4;

/// The pages that all threads write.
pub(super) const fn commons() -> Range<u64> {
    COMMONS..COMMONS + COMMON_PAGES * PAGE_SIZE
}

/// The page in which each thread has its word of a rung.
pub(super) const fn rung(number: u64) -> u64 {
    // Two below one table of the second level, two below another.
    LADDER + number % 2 * (4 * HUGE_PAGE_SIZE) + number / 2 * GIB
}

/// A thread's windows.
pub(super) const fn windows(thread: u8) -> [Range<u64>; 2] {
    let thread = thread as u64;
    let near = NEAR + thread * NEAR_PAGES * PAGE_SIZE;
    let far = FAR + (2 * thread + 1) * GIB - FAR_PAGES / 2 * PAGE_SIZE;
    [
        near..near + NEAR_PAGES * PAGE_SIZE,
        far..far + FAR_PAGES * PAGE_SIZE,
    ]
}

/// The thread whose window `addr` lies in.
pub(super) fn owner(addr: u64, threads: u8) -> Option<u8> {
    let has = |thread: &u8| windows(*thread).iter().any(|window| window.contains(&addr));
    (0..threads).find(has)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stress::tag::THREADS_MOST;

    #[test]
    fn nothing_overlaps() {
        let all = (0..THREADS_MOST as u8).flat_map(windows);
        let rungs = (0..RUNGS).map(|number| rung(number)..rung(number) + PAGE_SIZE);
        let mut ranges: Vec<_> = all.chain(rungs).chain([commons()]).collect();
        ranges.sort_by_key(|range| range.start);
        assert!(ranges.windows(2).all(|two| two[0].end <= two[1].start));
        assert_eq!(owner(windows(3)[1].start, 4), Some(3));
        assert_eq!(owner(windows(3)[1].start, 3), None);
    }
}
