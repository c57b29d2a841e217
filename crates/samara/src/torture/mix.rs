//! Mixes: how often calls of each group are made, and what else happens.

use clap::ValueEnum;
use serde::Serialize;

use super::calls::Group;

/// What a life is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mix {
    /// Each of the others by turns, a life each
    Each,
    /// Everything
    All,
    /// Mapping and unmapping anonymous memory
    Maps,
    /// Protection
    Protect,
    /// mremap
    Remap,
    /// madvise
    Advise,
    /// Locking
    Lock,
    /// Forks, and both sides going on
    Fork,
    /// Files
    Files,
    /// Small resource limits that change on the way
    Limits,
    /// Explicitly huge memory
    Huge,
    /// Segments, shared files in another order, watched ranges, memory policies
    Kinds,
    /// About as many mappings as vm.max_map_count allows; slow, and no part of `each`
    Count,
    /// What concerns the address space as a whole
    Process,
}

/// How often something is done, relative to the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weights {
    /// By [`Group::ALL`].
    pub(crate) groups: [u32; Group::ALL.len()],
    pub(crate) fork: u32,
    pub(crate) exit: u32,
    pub(crate) limit: u32,
    /// Mappings are made up to about as many as may be.
    pub(crate) fill: u32,
}

impl Mix {
    /// Those that lives go through.
    const OF_LIVES: [Self; 12] = [
        Self::All,
        Self::Maps,
        Self::Protect,
        Self::Remap,
        Self::Advise,
        Self::Lock,
        Self::Fork,
        Self::Files,
        Self::Limits,
        Self::Huge,
        Self::Process,
        Self::Kinds,
    ];

    /// The mix of the `number`th life of a run.
    pub(crate) const fn of_life(self, number: u64) -> Self {
        match self {
            Self::Each => Self::OF_LIVES[(number % Self::OF_LIVES.len() as u64) as usize],
            other => other,
        }
    }

    /// Its weights. A call of each group is made now and then in every mix that `each` has.
    pub(crate) fn weights(self) -> Weights {
        //            map file huge prot remap advise lock heap seal touch process kinds
        let groups = match self {
            Self::Each | Self::All => [240, 50, 20, 160, 80, 120, 70, 50, 2, 180, 20, 60],
            Self::Maps => [600, 20, 5, 80, 20, 20, 10, 100, 1, 180, 5, 15],
            Self::Protect => [200, 20, 5, 500, 20, 40, 20, 10, 2, 180, 5, 30],
            Self::Remap => [260, 50, 10, 60, 400, 40, 20, 10, 1, 180, 5, 60],
            Self::Advise => [200, 50, 10, 60, 40, 500, 20, 10, 1, 120, 5, 40],
            Self::Lock => [220, 20, 5, 60, 60, 40, 400, 40, 1, 150, 5, 30],
            Self::Fork => [240, 30, 10, 120, 100, 140, 30, 20, 1, 300, 20, 40],
            Self::Files => [100, 500, 5, 120, 80, 60, 20, 5, 1, 160, 5, 80],
            Self::Count => [300, 20, 0, 300, 120, 120, 0, 10, 0, 60, 0, 0],
            Self::Limits => [360, 40, 10, 120, 120, 40, 120, 120, 1, 180, 20, 30],
            Self::Process => [260, 40, 5, 120, 60, 60, 40, 120, 1, 160, 200, 20],
            Self::Huge => [80, 10, 400, 80, 160, 120, 40, 5, 1, 120, 5, 20],
            Self::Kinds => [160, 120, 10, 120, 120, 40, 40, 5, 2, 120, 5, 500],
        };
        let fill = if self == Self::Count { 100 } else { 0 };
        let (fork, exit, limit) = match self {
            Self::Fork => (30, 28, 2),
            Self::Limits => (3, 2, 30),
            Self::Count => (0, 0, 0),
            _ => (3, 2, 2),
        };
        Weights {
            groups,
            fork,
            exit,
            limit,
            fill,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_is_part_of_every_mix() {
        for mix in Mix::OF_LIVES {
            assert!(mix.weights().groups.iter().all(|&weight| weight > 0));
        }
    }

    #[test]
    fn lives_go_through_all_mixes_by_turns() {
        let turns: Vec<Mix> = (0..12).map(|life| Mix::Each.of_life(life)).collect();
        assert_eq!(turns, Mix::OF_LIVES);
        assert_eq!(Mix::Lock.of_life(3), Mix::Lock);
    }
}
