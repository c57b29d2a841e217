//! Which mappings a parent has: the same in the model and in the kernel.

use crate::cli::Touched;

/// The first address: far from what a process has of its own, and aligned to 1 GiB.
const START: u64 = 0x1000_0000_0000;
/// The size of each mapping.
pub(crate) const LEN: u64 = 4096;

/// One mapping to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) addr: u64,
    pub(crate) rights: Rights,
    /// Whether it is written. What is read-only in the end is made writable for that first.
    pub(crate) is_touched: bool,
}

/// What the program may do with a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    Read,
    ReadWrite,
}

/// The steps to `count` private anonymous mappings of a page each, without holes.
///
/// Neighbours differ in their rights, so that they never merge. Of each pair the upper one is
/// made first: it is read-only in the end but has to be writable while it is touched, and would
/// merge with the lower one if that were there.
///
/// ```text
///  address   0    1    2    3    4    5        W = read and write, r = read only
///            W    r    W    r    W    r
///  made      2nd  1st  4th  3rd  6th  5th
/// ```
pub(crate) fn steps(count: u32, touched: Touched) -> impl Iterator<Item = Step> {
    (0..count).map(move |number| {
        let partner = number ^ 1;
        let place = if partner < count { partner } else { number };
        Step {
            addr: START + u64::from(place) * LEN,
            rights: if place % 2 == 0 {
                Rights::ReadWrite
            } else {
                Rights::Read
            },
            is_touched: touched.contains(place),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_made_once_and_neighbours_differ() {
        for count in [1, 2, 7, 8] {
            let mut made: Vec<Step> = steps(count, Touched::All).collect();
            made.sort_by_key(|step| step.addr);
            assert_eq!(made.len(), count as usize);
            for pair in made.windows(2) {
                assert_eq!(pair[1].addr, pair[0].addr + LEN);
                assert_ne!(pair[1].rights, pair[0].rights);
            }
        }
    }

    #[test]
    fn half_of_both_kinds_are_touched() {
        let touched = |rights| {
            steps(40, Touched::Half)
                .filter(|step| step.is_touched && step.rights == rights)
                .count()
        };
        assert_eq!(touched(Rights::Read), 10);
        assert_eq!(touched(Rights::ReadWrite), 10);
    }
}
