//! What a run measured, as lines of points; also as JSON.

use serde::Serialize;

use super::parent::Way;

/// A whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// Each way, at each size.
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    pub(crate) touched_percent: u8,
    pub(crate) sizes: Vec<u32>,
    /// The nodes of a copy of the parent's tree, at each of them.
    pub(crate) nodes: Vec<usize>,
    pub(crate) lines: Vec<Line>,
    /// Forks of parents with much memory, where asked for.
    pub(crate) resident: Vec<ResidentLine>,
    /// Checks of a parent and its child that passed.
    pub(crate) checks_passed: usize,
    /// What was wrong in the others.
    pub(crate) failures: Vec<String>,
    /// What the reader has to know.
    pub(crate) notes: Vec<String>,
}

/// Where it ran.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) kernel: String,
    /// The processor that everything ran on; `None` if it could not be fixed to one.
    pub(crate) pinned_to: Option<usize>,
}

/// One way to fork, at all sizes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) points: Vec<Point>,
}

/// Where the figures of a line come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Measured in the model.
    Strategy,
    /// Measured: the least that any eager fork has to do.
    Floor,
    /// Measured: whole processes of this kernel.
    Kernel,
    /// Published with the original patches: whole processes on other hardware.
    Published,
}

/// One way to fork, at one size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Point {
    /// The size asked for.
    pub(crate) size: u32,
    /// The mappings there were: more than `size` where a process has more to begin with.
    pub(crate) vmas: u32,
    pub(crate) forks_in_ten_seconds: f64,
    pub(crate) nanoseconds_per_vma: f64,
    /// Between the slowest and the fastest round, in percent of the median.
    pub(crate) spread_percent: Option<f64>,
}

impl Point {
    /// The median of `rounds`, each forks in ten seconds, of which there is at least one.
    pub(crate) fn of_rounds(size: u32, vmas: u32, rounds: Vec<f64>) -> Self {
        let (median, spread) = median_and_spread(rounds);
        Self {
            spread_percent: Some(spread),
            ..Self::new(size, vmas, median)
        }
    }

    /// A figure without rounds.
    pub(crate) fn new(size: u32, vmas: u32, forks_in_ten_seconds: f64) -> Self {
        Self {
            size,
            vmas,
            forks_in_ten_seconds,
            nanoseconds_per_vma: 10e9 / forks_in_ten_seconds / f64::from(vmas),
            spread_percent: None,
        }
    }
}

/// The median of `rounds`, of which there is at least one, and how far the slowest is from the
/// fastest in percent of it.
pub(crate) fn median_and_spread(mut rounds: Vec<f64>) -> (f64, f64) {
    rounds.sort_by(f64::total_cmp);
    let median = rounds[rounds.len() / 2];
    let range = rounds[rounds.len() - 1] - rounds[0];
    (median, 100.0 * range / median)
}

/// One way to fork a parent with much memory.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ResidentLine {
    pub(crate) name: String,
    /// What is resident in the parent.
    pub(crate) mebibytes: u32,
    pub(crate) points: Vec<ResidentPoint>,
}

/// Fork, writes of the child, exit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct ResidentPoint {
    pub(crate) child_writes: &'static str,
    pub(crate) microseconds: f64,
    pub(crate) spread_percent: f64,
}

impl Line {
    /// A line without points yet.
    pub(crate) const fn new(name: String, kind: Kind) -> Self {
        Self {
            name,
            kind,
            points: Vec::new(),
        }
    }

    /// The point of a size.
    pub(crate) fn at(&self, size: u32) -> Option<&Point> {
        self.points.iter().find(|point| point.size == size)
    }
}

/// Who takes part in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contestant {
    Way(Way),
    Floor,
    Kernel,
}

impl Contestant {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Way(way) => way.name(),
            Self::Floor => "floor".to_owned(),
            Self::Kernel => "this kernel".to_owned(),
        }
    }

    /// The way, if it is one.
    pub(crate) const fn way(self) -> Option<Way> {
        match self {
            Self::Way(way) => Some(way),
            Self::Floor | Self::Kernel => None,
        }
    }

    pub(crate) const fn kind(self) -> Kind {
        match self {
            Self::Way(_) => Kind::Strategy,
            Self::Floor => Kind::Floor,
            Self::Kernel => Kind::Kernel,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_the_median_and_spreads_from_slowest_to_fastest() {
        let point = Point::of_rounds(100, 100, vec![1000.0, 800.0, 1200.0]);
        assert_eq!(point.forks_in_ten_seconds, 1000.0);
        assert_eq!(point.spread_percent, Some(40.0));
        // 10 ms a fork, 100 mappings.
        assert_eq!(point.nanoseconds_per_vma, 100_000.0);
    }
}
