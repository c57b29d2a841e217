//! The data sets: which ranges a structure holds, and the keys it is asked for.

use testkit::SplitMix;

/// Bytes of a page.
pub(crate) const PAGE: u64 = 4096;
/// The first address in use.
pub(crate) const FIRST: u64 = 0x1_0000;
/// Every hole between areas is shorter than this many bytes, and the one below the first area is
/// exactly as long: so a search for this many has one answer, at the far end.
pub(crate) const GAP: u64 = FIRST;

/// How many keys are drawn; look-ups go through them in a circle.
const KEYS: usize = 1 << 17;

/// An area `first..=last` and its value, which is odd: Linux's tree takes odd words for numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Area {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) value: u64,
}

/// The inclusive range of an area, of a search or of an overwrite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Area {
    pub(crate) const fn span(self) -> Span {
        Span {
            first: self.first,
            last: self.last,
        }
    }
}

/// Which ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Data {
    /// Clusters of 5 to 12 touching areas of 1 to 64 pages, then a hole of 1 to 15 pages.
    Real,
    /// 4 pages, then a hole of one page.
    Alternating,
    /// Single indices, 2 to 65,536 apart.
    Points,
}

impl Data {
    pub(crate) const ALL: [Self; 3] = [Self::Real, Self::Alternating, Self::Points];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Real => "real",
            Self::Alternating => "alternating",
            Self::Points => "points",
        }
    }

    /// The first `n` areas of this data set, ascending. The same on every machine.
    pub(crate) fn areas(self, n: usize) -> Vec<Area> {
        let mut rng = SplitMix::new(0x5a3a_7a00 + self as u64);
        let mut next = FIRST;
        let mut left_in_cluster = 0;
        let mut areas = Vec::with_capacity(n);
        for ordinal in 0..n as u64 {
            let (length, hole) = match self {
                Self::Real => {
                    if left_in_cluster == 0 {
                        left_in_cluster = 5 + rng.below(8);
                    }
                    left_in_cluster -= 1;
                    let hole = if left_in_cluster == 0 {
                        1 + rng.below(15)
                    } else {
                        0
                    };
                    ((1 + rng.below(64)) * PAGE, hole * PAGE)
                }
                Self::Alternating => (4 * PAGE, PAGE),
                Self::Points => (1, 1 + rng.below(GAP - 1)),
            };
            areas.push(Area {
                first: next,
                last: next + length - 1,
                value: 2 * ordinal + 1,
            });
            next += length + hole;
        }
        areas
    }
}

/// Random keys: four of five within an area, the fifth in what follows it, be that a hole or the
/// next area.
pub(crate) fn keys(areas: &[Area]) -> Vec<u64> {
    let mut rng = SplitMix::new(0x6b65_7973);
    let mut key = || {
        let at = rng.index(areas.len());
        let area = areas[at];
        let next = areas
            .get(at + 1)
            .map_or(area.last + PAGE + 1, |next| next.first);
        if rng.below(5) < 4 {
            area.first + rng.below(area.last - area.first + 1)
        } else {
            (area.last + 1 + rng.below((next - area.last).max(2) - 1)).min(next)
        }
    };
    (0..KEYS).map(|_| key()).collect()
}

/// The areas in random order.
pub(crate) fn shuffled(areas: &[Area]) -> Vec<Area> {
    let mut rng = SplitMix::new(0x7368_7566);
    let mut areas = areas.to_vec();
    for at in (1..areas.len()).rev() {
        areas.swap(at, rng.index(at + 1));
    }
    areas
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_ascend_and_every_hole_is_shorter_than_the_one_below_the_first() {
        for data in Data::ALL {
            let areas = data.areas(5_000);
            assert_eq!(areas[0].first, FIRST);
            for pair in areas.windows(2) {
                assert!(pair[0].first <= pair[0].last && pair[0].last < pair[1].first);
                assert!(pair[1].first - pair[0].last - 1 < GAP, "{data:?}");
            }
        }
    }

    #[test]
    fn clusters_of_real_data_are_5_to_12_areas() {
        let areas = Data::Real.areas(5_000);
        let clusters = areas.chunk_by(|a, b| a.last + 1 == b.first);
        let sizes: Vec<usize> = clusters.map(<[_]>::len).collect();
        let whole = &sizes[..sizes.len() - 1];
        assert_eq!(whole.iter().min(), Some(&5));
        assert_eq!(whole.iter().max(), Some(&12));
    }

    #[test]
    fn about_four_of_five_keys_hit_alternating_data() {
        let areas = Data::Alternating.areas(1_000);
        let keys = keys(&areas);
        let hits = keys.iter().filter(|&&key| {
            let at = areas.partition_point(|area| area.last < key);
            areas.get(at).is_some_and(|area| area.first <= key)
        });
        let share = hits.count() as f64 / keys.len() as f64;
        assert!((0.79..0.81).contains(&share), "{share}");
    }
}
