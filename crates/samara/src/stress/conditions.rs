//! What a round is short of. It follows from the seed and the round's number alone.

use serde::Serialize;

use super::places::PAGES_EACH;
use crate::torture::Rng;

/// What there is too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Short {
    Nothing,
    Frames,
    Nodes,
    Mappings,
}

/// How much there is in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Conditions {
    pub(super) short: Short,
    pub(super) frames: u32,
    /// How many of them are taken before anything begins: an arena of few frames has no magazines,
    /// and what lies in those is to be had, too.
    pub(super) taken: u32,
    /// Of tree nodes, once everything is set up.
    pub(super) nodes: usize,
    /// `vm.max_map_count`
    pub(super) mappings: usize,
}

impl Conditions {
    /// Every second round is short of something, by turns.
    pub(super) fn of_round(seed: u64, round: u64, threads: u8) -> Self {
        let short = match round % 6 {
            1 => Short::Frames,
            3 => Short::Nodes,
            5 => Short::Mappings,
            _ => Short::Nothing,
        };
        let mut rng = Rng::of_life(!seed, round);
        let threads = u64::from(threads);
        let plenty = Self {
            short,
            frames: Self::plenty_of_frames(threads),
            taken: 0,
            nodes: usize::MAX,
            mappings: 65_530,
        };
        match short {
            Short::Nothing => plenty,
            Short::Frames => {
                let frames = 24 + threads * (4 + rng.below(60));
                let frames = frames as u32;
                if round % 12 < 6 {
                    let taken = plenty.frames - frames;
                    Self { taken, ..plenty }
                } else {
                    Self { frames, ..plenty }
                }
            }
            Short::Nodes => {
                let nodes = (12 + threads * (2 + rng.below(20))) as usize;
                Self { nodes, ..plenty }
            }
            Short::Mappings => {
                let mappings = (12 + threads * (2 + rng.below(24))) as usize;
                Self { mappings, ..plenty }
            }
        }
    }

    /// More than all threads and their children can use at once, with what waits to be freed.
    pub(super) const fn plenty_of_frames(threads: u64) -> u32 {
        (1024 + threads * PAGES_EACH * 8) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_round_is_short_of_something_and_each_kind_comes() {
        let shorts: Vec<_> = (0..6)
            .map(|round| Conditions::of_round(1, round, 4).short)
            .collect();
        let nothing = shorts.iter().filter(|short| **short == Short::Nothing);
        assert_eq!(nothing.count(), 3);
        for short in [Short::Frames, Short::Nodes, Short::Mappings] {
            assert!(shorts.contains(&short));
        }
        assert_eq!(Conditions::of_round(7, 3, 2), Conditions::of_round(7, 3, 2));
    }

    #[test]
    fn few_frames_are_those_of_a_small_arena_and_what_others_leave_of_a_large_one_by_turns() {
        let left = |threads, round| {
            let Conditions { frames, taken, .. } = Conditions::of_round(1, round, threads);
            (frames - taken, taken > 0)
        };
        for threads in [1, 4, 254] {
            let most = 24 + u32::from(threads) * 64;
            assert!(matches!(left(threads, 1), (free, true) if free < most));
            assert!(matches!(left(threads, 7), (free, false) if free < most));
            assert_eq!(
                left(threads, 2).0,
                Conditions::plenty_of_frames(threads.into())
            );
        }
    }
}
