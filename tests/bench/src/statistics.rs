//! What is typical of some repeated figures, and how far do they lie apart?

/// Median and extremes of the same figure in several rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// How many figures there were.
    pub(crate) rounds: usize,
}

impl Spread {
    /// `None` where there is no figure, or one that is no number.
    pub(crate) fn of(figures: &[f64]) -> Option<Self> {
        if figures.iter().any(|figure| !figure.is_finite()) {
            return None;
        }
        let sorted = sorted(figures);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let upper = sorted[sorted.len() / 2];
        let lower = sorted[(sorted.len() - 1) / 2];
        Some(Self {
            median: f64::midpoint(lower, upper),
            min,
            max,
            rounds: sorted.len(),
        })
    }
}

/// Round trips of one series of pings, in the unit of the samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RoundTrips {
    pub(crate) min: f64,
    pub(crate) mean: f64,
    /// Standard deviation, `mdev` of ping.
    pub(crate) deviation: f64,
    pub p50: f64,
    pub p99: f64,
}

impl RoundTrips {
    /// `None` where no sample is.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        let sorted = sorted(samples);
        let count = sorted.len() as f64;
        let mean = sorted.iter().sum::<f64>() / count;
        let squares: f64 = sorted.iter().map(|sample| (sample - mean).powi(2)).sum();
        Some(Self {
            min: *sorted.first()?,
            mean,
            deviation: (squares / count).sqrt(),
            p50: percentile(&sorted, 50)?,
            p99: percentile(&sorted, 99)?,
        })
    }
}

/// Nearest-rank percentile of ascending samples.
fn percentile(ascending: &[f64], percent: usize) -> Option<f64> {
    let rank = (ascending.len() * percent).div_ceil(100).max(1);
    ascending.get(rank - 1).copied()
}

fn sorted(figures: &[f64]) -> Vec<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_odd_number_of_rounds_is_the_middle_one() {
        let spread = Spread::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!(
            (spread.min, spread.median, spread.max, spread.rounds),
            (1.0, 2.0, 3.0, 3)
        );
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 9.0]).unwrap().median, 3.0);
        assert_eq!(Spread::of(&[7.0]).unwrap().median, 7.0);
    }

    #[test]
    fn nothing_and_what_is_no_number_have_no_spread() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn percentiles_are_samples() {
        let samples: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let trips = RoundTrips::of(&samples).unwrap();
        assert_eq!((trips.min, trips.p50, trips.p99), (1.0, 100.0, 198.0));
        assert_eq!(trips.mean, 100.5);
        assert!((trips.deviation - 57.73).abs() < 0.01);
    }

    #[test]
    fn one_sample_is_all_of_its_percentiles() {
        let trips = RoundTrips::of(&[2.5]).unwrap();
        assert_eq!((trips.p50, trips.p99, trips.deviation), (2.5, 2.5, 0.0));
        assert_eq!(RoundTrips::of(&[]), None);
    }
}
