//! The figures that were published with the original patches, for comparison.

use crate::cli::SPAWN_SIZES;

/// One line of the table of version 4 of the series (October 2023, on next-20231006): forks in ten
/// seconds, for each of [`SPAWN_SIZES`].
pub(crate) struct Published {
    /// In the table.
    pub(crate) name: &'static str,
    pub(crate) forks: [u32; SPAWN_SIZES.len()],
}

/// The published lines: fork, exit and wait of a whole process, on hardware that was not named.
pub(crate) const PUBLISHED: [Published; 3] = [
    Published {
        name: "v4 base: bulk",
        forks: [
            112_100, 76_261, 54_227, 34_035, 20_195, 11_112, 6_017, 3_161, 1_606, 802, 393,
        ],
    },
    Published {
        name: "v4: duplicate+store",
        forks: [
            114_558, 83_067, 65_008, 45_824, 28_751, 16_072, 8_922, 4_747, 2_436, 1_233, 599,
        ],
    },
    Published {
        name: "v4: duplicate+replace",
        forks: [
            112_517, 86_919, 67_019, 46_338, 30_194, 17_554, 9_788, 5_250, 2_729, 1_393, 680,
        ],
    },
];

impl Published {
    /// Forks in ten seconds at one of the sizes.
    pub(crate) fn at(&self, vmas: u32) -> Option<u32> {
        let place = SPAWN_SIZES.iter().position(|&size| size == vmas)?;
        Some(self.forks[place])
    }
}
