//! Interval estimates: Student-t over seeds, percentile bootstrap over test examples.

use std::fmt;
use std::ops::Range;

use anyhow::{Context, Result, ensure};
use rand::RngExt;
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
/// The values are taken to be independent draws (one a seed). Equal values give an interval of width zero. Errors as [`mean`].
pub fn t_interval(values: &[f64]) -> Result<Interval> {
    let (n, centre, spread) = (values.len(), mean(values)?, sd(values)?);
    let Some(s) = spread else {
        return Ok(Interval { n, mean: centre, sd: None, lo: None, hi: None });
    };
    let t = StudentsT::new(0.0, 1.0, (n - 1) as f64).context("Student's t needs a degree of freedom")?;
    let half = t.inverse_cdf(0.975) * s / (n as f64).sqrt();
    Ok(Interval { n, mean: centre, sd: spread, lo: Some(centre - half), hi: Some(centre + half) })
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

/// The `q`-quantile (0 ≤ q ≤ 1) of values in ascending order, linear between neighbours (NumPy's default).
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (below, above) = (at.floor() as usize, at.ceil() as usize);
    sorted[below] + (at - below as f64) * (sorted[above] - sorted[below])
}

/// Percentile bootstrap (Efron): the 2.5 % and 97.5 % quantiles of `statistic` over `resamples` draws of rows with replacement.
///
/// `strata` are the sizes of the groups that the rows form, one after the other, say the test texts of each task. Rows are drawn
/// within their group, so that every draw holds as many of each group as there are; one group of all is the plain bootstrap.
/// `statistic` receives row numbers in 0..n, those of a group together, some of them repeated. `mean` of the result is the
/// statistic on the rows as they are. The draws depend on `seed` alone. Errors: an empty group or none, no resamples, a statistic
/// that is not finite.
pub fn bootstrap(
    strata: &[usize],
    resamples: usize,
    seed: u64,
    statistic: impl Fn(&[usize]) -> f64,
) -> Result<Interval> {
    ensure!(!strata.is_empty() && !strata.contains(&0), "there are no test examples to resample");
    ensure!(resamples > 0, "a bootstrap needs at least one resample (1,000 is usual)");
    let n = strata.iter().sum();
    let groups: Vec<Range<usize>> = strata
        .iter()
        .scan(0, |end, &size| {
            *end += size;
            Some(*end - size..*end)
        })
        .collect();
    let mut rows: Vec<usize> = (0..n).collect();
    let observed = statistic(&rows);
    let mut rng = crate::seed::rng(seed, "bootstrap", n as u64);
    let mut draws = Vec::with_capacity(resamples);
    for _ in 0..resamples {
        for group in &groups {
            rows[group.clone()].iter_mut().for_each(|row| *row = rng.random_range(group.clone()));
        }
        draws.push(statistic(&rows));
    }
    ensure!(
        observed.is_finite() && draws.iter().all(|draw| draw.is_finite()),
        "the statistic is not finite on some resamples of the {n} test examples"
    );
    draws.sort_by(f64::total_cmp);
    let (lo, hi) = (quantile(&draws, 0.025), quantile(&draws, 0.975));
    Ok(Interval { n, mean: observed, sd: None, lo: Some(lo), hi: Some(hi) })
}

/// [`bootstrap`] of a mean over examples: accuracy from 0/1 outcomes, or a paired accuracy difference from −1/0/1.
pub fn bootstrap_mean(values: &[f64], strata: &[usize], resamples: usize, seed: u64) -> Result<Interval> {
    let (spread, rows) = (sd(values)?, strata.iter().sum::<usize>());
    ensure!(rows == values.len(), "the groups hold {rows} examples, but there are {} values", values.len());
    let average = |rows: &[usize]| rows.iter().map(|&row| values[row]).sum::<f64>() / rows.len() as f64;
    Ok(Interval { sd: spread, ..bootstrap(strata, resamples, seed, average)? })
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
        assert!(bootstrap_mean(&[0.0, f64::INFINITY], &[2], 10, 0).is_err());
    }

    /// `numpy.percentile([1, 2, 3, 4, 10], [2.5, 50, 97.5])` gives 1.1, 3, 9.4.
    #[test]
    fn quantiles_are_linear_between_neighbours() {
        let values = [1.0, 2.0, 3.0, 4.0, 10.0];
        for (q, wanted) in [(0.025, 1.1), (0.5, 3.0), (0.975, 9.4), (0.0, 1.0), (1.0, 10.0)] {
            assert!((quantile(&values, q) - wanted).abs() < 1e-12);
        }
    }

    /// `scipy.stats.bootstrap` (percentile, 100,000 resamples) gives [0.61, 0.79] for 70 of 100 correct.
    #[test]
    fn the_bootstrap_of_an_accuracy_equals_that_of_scipy_within_a_test_example() -> Result<()> {
        let outcomes: Vec<f64> = (0..100).map(|row| if row < 70 { 1.0 } else { 0.0 }).collect();
        let interval = bootstrap_mean(&outcomes, &[100], 10_000, 7)?;
        assert!((interval.mean - 0.7).abs() < 1e-12);
        let [lo, hi] = interval.bounds().context("bounds")?;
        assert!((lo - 0.61).abs() <= 0.0101 && (hi - 0.79).abs() <= 0.0101, "{interval}");
        assert_eq!(interval, bootstrap_mean(&outcomes, &[100], 10_000, 7)?);
        assert_ne!(interval.bounds(), bootstrap_mean(&outcomes, &[100], 100, 8)?.bounds());
        Ok(())
    }

    #[test]
    fn rows_are_drawn_within_their_group_so_that_groups_always_count_alike() -> Result<()> {
        // All of one group are right, all of the other wrong: drawn together the mean would vary, drawn apart it cannot.
        let outcomes = [vec![1.0; 30], vec![0.0; 10]].concat();
        assert_eq!(bootstrap_mean(&outcomes, &[30, 10], 500, 1)?.bounds(), Some([0.75, 0.75]));
        let [lo, hi] = bootstrap_mean(&outcomes, &[40], 500, 1)?.bounds().context("bounds")?;
        assert!(lo < 0.7 && hi > 0.8);
        let seen = std::cell::RefCell::new(std::collections::BTreeSet::new());
        bootstrap(&[2, 3], 200, 0, |rows| {
            assert!(
                rows[..2].iter().all(|row| (0..2).contains(row)) && rows[2..].iter().all(|row| (2..5).contains(row))
            );
            seen.borrow_mut().extend(rows.iter().copied());
            0.0
        })?;
        assert_eq!(seen.into_inner().len(), 5, "every row is drawn at some time");
        assert!(bootstrap(&[3, 0], 10, 0, |_| 0.0).is_err() && bootstrap(&[], 10, 0, |_| 0.0).is_err());
        assert!(bootstrap_mean(&outcomes, &[30, 11], 10, 0).unwrap_err().to_string().contains("41 examples"));
        Ok(())
    }
}
