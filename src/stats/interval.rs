//! Means and their 95 % Student-t intervals.

use std::fmt;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// A mean with its 95 % interval.
///
/// One observation has a mean and nothing else: `sd`, `lo` and `hi` are then `None` (`null` in JSON), because no finite
/// interval follows from a single value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Observations.
    pub n: usize,
    /// Their mean, or the statistic on them.
    pub mean: f64,
    /// Sample standard deviation (divisor n − 1); of a bootstrap, that of the observations.
    pub sd: Option<f64>,
    /// Lower bound.
    pub lo: Option<f64>,
    /// Upper bound.
    pub hi: Option<f64>,
}

impl Interval {
    /// `[lo, hi]`, or `None` where one observation decides nothing.
    pub fn bounds(&self) -> Option<[f64; 2]> {
        Some([self.lo?, self.hi?])
    }
}

impl fmt::Display for Interval {
    /// `0.812 [0.788, 0.836]`; without bounds only the mean.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = f.precision().unwrap_or(3);
        let text = match self.bounds() {
            Some([lo, hi]) => format!("{:.decimals$} [{lo:.decimals$}, {hi:.decimals$}]", self.mean),
            None => format!("{:.decimals$}", self.mean),
        };
        f.write_str(&text.replace('-', "−"))
    }
}

/// Arithmetic mean. Errors: no values, or one that is not finite (its position is named).
pub fn mean(values: &[f64]) -> Result<f64> {
    ensure!(!values.is_empty(), "the mean of no values was asked for: at least one seed must have been measured");
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        anyhow::bail!("value {} of {} is {}: only finite numbers can be averaged", at + 1, values.len(), values[at]);
    }
    Ok(values.iter().sum::<f64>() / values.len() as f64)
}

/// Sample standard deviation, √(Σ(x − x̄)² / (n − 1)); `None` for a single value. Errors as [`mean`].
pub fn sd(values: &[f64]) -> Result<Option<f64>> {
    let centre = mean(values)?;
    if values.len() < 2 {
        return Ok(None);
    }
    let squares: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    Ok(Some((squares / (values.len() - 1) as f64).sqrt()))
}

/// The two-sided 95 % interval of the mean, x̄ ± t₀.₉₇₅(n − 1) · s / √n.
///
/// The values are taken to be independent draws (one a lineage; one a seed where the lineage is given). Equal values give an
/// interval of width zero. Errors as [`mean`].
pub fn t_interval(values: &[f64]) -> Result<Interval> {
    let (n, centre, spread) = (values.len(), mean(values)?, sd(values)?);
    let Some(s) = spread else {
        return Ok(Interval { n, mean: centre, sd: None, lo: None, hi: None });
    };
    let half = half_width(n, s)?;
    Ok(Interval { n, mean: centre, sd: spread, lo: Some(centre - half), hi: Some(centre + half) })
}

/// Student's t with n − 1 degrees of freedom. Errors: fewer than two values.
pub(super) fn student(n: usize) -> Result<StudentsT> {
    ensure!(n >= 2, "Student's t needs two values or more, not {n}");
    StudentsT::new(0.0, 1.0, (n - 1) as f64).context("Student's t needs a degree of freedom")
}

/// Half the width of the 95 % interval of a mean of `n` values with sample standard deviation `s`.
pub(super) fn half_width(n: usize, s: f64) -> Result<f64> {
    Ok(student(n)?.inverse_cdf(0.975) * s / (n as f64).sqrt())
}

/// a − b, element by element: the paired differences that [`t_interval`] is then taken of.
pub fn differences(a: &[f64], b: &[f64]) -> Result<Vec<f64>> {
    ensure!(
        a.len() == b.len(),
        "{} values cannot be paired with {}: both methods need the same seeds",
        a.len(),
        b.len()
    );
    Ok(a.iter().zip(b).map(|(x, y)| x - y).collect())
}

/// The interval of the mean of a − b, paired by seed.
pub fn paired_difference(a: &[f64], b: &[f64]) -> Result<Interval> {
    t_interval(&differences(a, b)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(interval: Interval, mean: f64, sd: f64, lo: f64, hi: f64) {
        let got = [interval.mean, interval.sd.unwrap(), interval.lo.unwrap(), interval.hi.unwrap()];
        for (got, wanted) in got.into_iter().zip([mean, sd, lo, hi]) {
            assert!((got - wanted).abs() < 1e-9, "{got} should be {wanted} in {interval:?}");
        }
    }

    /// SciPy 1.17.1: `stats.t.interval(0.95, n - 1, loc=x.mean(), scale=x.std(ddof=1) / sqrt(n))`.
    #[test]
    fn t_intervals_equal_those_of_scipy() -> Result<()> {
        let five = t_interval(&[0.81, 0.79, 0.84, 0.80, 0.82])?;
        close(five, 0.812, 0.019235384061671308, 0.7881161161190003, 0.8358838838809998);
        close(t_interval(&[1.0, 4.0])?, 2.5, 2.1213203435596424, -16.559307104262043, 21.559307104262043);
        let ten: Vec<f64> = (1..=10).map(f64::from).collect();
        close(t_interval(&ten)?, 5.5, 3.0276503540974917, 3.334149410331831, 7.665850589668169);
        let barriers = t_interval(&[0.004, 0.013, 0.007, 0.021, 0.010])?;
        close(barriers, 0.011, 0.006519202405202649, 0.0029053410764564823, 0.019094658923543516);
        Ok(())
    }

    /// The same SciPy call on the differences 0.06, 0.02, 0.09, 0.02, 0.06.
    #[test]
    fn a_paired_difference_is_the_interval_of_the_differences() -> Result<()> {
        let difference = paired_difference(&[0.91, 0.88, 0.93, 0.90, 0.89], &[0.85, 0.86, 0.84, 0.88, 0.83])?;
        close(difference, 0.05, 0.03, 0.012750080053887086, 0.087249919946113);
        assert!(paired_difference(&[1.0], &[1.0, 2.0]).unwrap_err().to_string().contains("same seeds"));
        Ok(())
    }

    #[test]
    fn one_seed_has_a_mean_and_no_interval() -> Result<()> {
        let one = t_interval(&[0.5])?;
        assert_eq!((one.mean, one.bounds(), one.sd), (0.5, None, None));
        assert_eq!(serde_json::to_value(one)?["lo"], serde_json::Value::Null);
        assert_eq!(one.to_string(), "0.500");
        Ok(())
    }

    #[test]
    fn equal_values_have_an_interval_of_width_zero() -> Result<()> {
        assert_eq!(t_interval(&[0.25, 0.25, 0.25])?.bounds(), Some([0.25, 0.25]));
        Ok(())
    }

    #[test]
    fn what_cannot_be_averaged_is_refused_by_position() {
        assert!(mean(&[]).is_err());
        assert!(t_interval(&[1.0, f64::NAN]).unwrap_err().to_string().contains("value 2 of 2"));
    }
}
