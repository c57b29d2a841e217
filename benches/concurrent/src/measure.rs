//! What is made of several rounds of a measurement.

/// The median of several rounds, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    /// A quarter lies below.
    pub(crate) low: f64,
    pub(crate) median: f64,
    /// A quarter lies above.
    pub(crate) high: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// Of at least one round.
    pub(crate) fn of(rounds: &[f64]) -> Option<Self> {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let at = |quarters: usize| {
            let (whole, rest) = (last * quarters / 4, last * quarters % 4);
            let next = sorted[(whole + 1).min(last)];
            sorted[whole] + (next - sorted[whole]) * rest as f64 / 4.0
        };
        Some(Self {
            least: at(0),
            low: at(1),
            median: at(2),
            high: at(3),
            most: at(4),
        })
    }
}

/// The middle one; zero of none.
pub(crate) fn median(mut of: Vec<f64>) -> f64 {
    let half = of.len() / 2;
    if of.is_empty() {
        return 0.0;
    }
    *of.select_nth_unstable_by(half, f64::total_cmp).1
}

/// The largest; zero of none.
pub(crate) fn longest(of: &[f64]) -> f64 {
    of.iter().copied().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_rounds_lie_between_the_quarters() {
        let spread = Spread::of(&[5.0, 1.0, 2.0, 4.0, 3.0]).expect("there are rounds");
        let Spread {
            least,
            low,
            median,
            high,
            most,
        } = spread;
        assert_eq!([least, low, median, high, most], [1.0, 2.0, 3.0, 4.0, 5.0]);
        let spread = Spread::of(&[1.0, 2.0]).expect("there are rounds");
        assert_eq!([spread.low, spread.median, spread.high], [1.25, 1.5, 1.75]);
        assert!(Spread::of(&[]).is_none());
    }
}
