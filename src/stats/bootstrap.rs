//! The percentile bootstrap over test examples.

use std::ops::Range;

use anyhow::{Result, ensure};
use rand::RngExt;

use super::{Interval, sd};

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
    use anyhow::Context;

    use super::*;

    /// `numpy.percentile([1, 2, 3, 4, 10], [2.5, 50, 97.5])` gives 1.1, 3, 9.4.
    #[test]
    fn quantiles_are_linear_between_neighbours() {
        let values = [1.0, 2.0, 3.0, 4.0, 10.0];
        for (q, wanted) in [(0.025, 1.1), (0.5, 3.0), (0.975, 9.4), (0.0, 1.0), (1.0, 10.0)] {
            assert!((quantile(&values, q) - wanted).abs() < 1e-12);
        }
    }

    #[test]
    fn outcomes_that_are_not_finite_are_refused() {
        assert!(bootstrap_mean(&[0.0, f64::INFINITY], &[2], 10, 0).is_err());
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
