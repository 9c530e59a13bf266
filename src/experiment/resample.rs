//! Test texts drawn anew: bootstraps whose rows are the texts of all tasks, tasks counting alike.

use anyhow::{Result, ensure};

use crate::stats::{self, Interval};

/// Resamples of a bootstrap over test texts.
pub(super) const RESAMPLES: usize = 2_000;

/// The mean retained share over versions, and its margin over that of M_IND, when each task's texts are drawn anew; from how often
/// every text is answered rightly on M_0, on each later version, and on M_IND.
pub(super) fn bootstrap_shares(
    sizes: &[usize],
    original: &[f64],
    versions: &[Vec<f64>],
    independent: &[f64],
    chance: f64,
    seed: u64,
) -> Result<[Interval; 2]> {
    let resampled = |from: &dyn Fn(&[usize]) -> f64| {
        stats::bootstrap(sizes, RESAMPLES, seed, |rows| {
            let moved = versions.iter().map(|right| mean_of(right, rows)).sum::<f64>() / versions.len() as f64;
            (moved - from(rows)) / (mean_of(original, rows) - chance)
        })
    };
    Ok([resampled(&|_| chance)?, resampled(&|rows| mean_of(independent, rows))?])
}

fn mean_of(values: &[f64], rows: &[usize]) -> f64 {
    rows.iter().map(|&row| values[row]).sum::<f64>() / rows.len() as f64
}

/// A number for every text of all tasks, one task after the other: the mean over the rows of its task, each of which has a number for
/// every text, weighted so that the mean over all texts counts tasks alike. Errors: a task without rows or texts, rows of
/// different texts.
pub(super) fn by_text(tasks: &[Vec<Vec<f64>>]) -> Result<Vec<f64>> {
    let sizes = tasks.iter().map(|rows| rows.first().map_or(0, Vec::len));
    let all: usize = sizes.clone().sum();
    let mut values = Vec::with_capacity(all);
    for (rows, size) in tasks.iter().zip(sizes) {
        ensure!(size > 0, "a task has no numbers for single texts: there is nothing to resample");
        ensure!(rows.iter().all(|row| row.len() == size), "a task was scored on different texts in different runs");
        let weight = all as f64 / (tasks.len() * size * rows.len()) as f64;
        values.extend((0..size).map(|text| weight * rows.iter().map(|row| row[text]).sum::<f64>()));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_share_drawn_anew_varies_with_the_texts_and_a_margin_only_with_what_differs_from_the_control() -> Result<()> {
        // 100 texts, all right on M_0; 60 and 80 of them on two versions: r = (0.7 − 0.5) / (1 − 0.5) = 0.4. The mean of both has
        // a spread of √((60·0.3² + 20·0.2² + 20·0.7²)/100) = 0.4 a text, so r ± 1.96 · 0.4/√100 / 0.5 = 0.157.
        let right = |count: usize| (0..100).map(|text| f64::from(text < count)).collect::<Vec<_>>();
        let (original, versions) = (right(100), [right(60), right(80)]);
        let [share, margin] = bootstrap_shares(&[100], &original, &versions, &versions[0], 0.5, 0)?;
        let [lo, hi] = share.bounds().context("bounds")?;
        assert!((share.mean - 0.4).abs() < 1e-12, "{share}");
        assert!((lo - (0.4 - 0.157)).abs() < 0.02 && (hi - (0.4 + 0.157)).abs() < 0.02, "{share}");
        // The control is right on the same 60: what is left is half of the 20 texts between, 0.1 / 0.5.
        let [lo, hi] = margin.bounds().context("bounds")?;
        assert!((margin.mean - 0.2).abs() < 1e-12 && lo > 0.1 && hi < 0.3, "{margin}");
        let moved_alike = [versions[1].clone()];
        let [_, none] = bootstrap_shares(&[100], &original, &moved_alike, &versions[1], 0.5, 0)?;
        assert_eq!((none.mean, none.bounds()), (0.0, Some([0.0, 0.0])));
        Ok(())
    }

    #[test]
    fn a_task_of_many_texts_weighs_no_more_than_one_of_few() -> Result<()> {
        // Task means 0.5 (of two runs: 1, 0 and 0, 1) and 0.25: together 0.375, whatever the sizes.
        let tasks = [vec![vec![1.0, 0.0], vec![0.0, 1.0]], vec![vec![1.0, 0.0, 0.0, 0.0]]];
        let values = by_text(&tasks)?;
        assert_eq!(values, [0.75, 0.75, 0.75, 0.0, 0.0, 0.0]);
        assert_eq!(stats::mean(&values)?, 0.375);
        assert!(by_text(&[vec![vec![]]]).is_err() && by_text(&[vec![]]).is_err());
        assert!(by_text(&[vec![vec![1.0], vec![1.0, 0.0]]]).unwrap_err().to_string().contains("different texts"));
        Ok(())
    }
}
