//! Test texts drawn anew: bootstraps whose rows are the test texts of all tasks, tasks counting alike. They stand beside the intervals
//! over units, on real text, and decide nothing.

use anyhow::{Context, Result, ensure};

use super::evidence::Evidence;
use crate::analysis::rise;
use crate::experiment::PERMUTED;
use crate::experiment::results::{Pair, Recipe, Relation};
use crate::stats::{self, Interval};

/// Resamples of a bootstrap over test texts.
const RESAMPLES: usize = 2_000;

/// For every test text of all tasks, how often a task's run was right over repetitions, weighted so that tasks count alike.
pub(super) fn weighted_right(evidence: &Evidence, method: &str, recipe: impl Fn(&str) -> Recipe) -> Result<Vec<f64>> {
    let of_task = |task: &&str| -> Result<Vec<Vec<f64>>> {
        evidence.places().map(|place| evidence.run(place, method, task, &recipe(task))?.right()).collect()
    };
    by_text(&evidence.tasks().iter().map(of_task).collect::<Result<Vec<_>>>()?)
}

/// How many test texts each task has.
fn sizes(evidence: &Evidence, method: &str) -> Result<Vec<usize>> {
    let first = evidence.places().next().context("nothing was run")?;
    let size = |task: &&str| Ok(evidence.run(first, method, task, &Recipe::conventional("M0"))?.n);
    evidence.tasks().iter().map(size).collect()
}

/// The interval of the mean of one − other, text by text.
pub(super) fn of_differences(evidence: &Evidence, one: &[f64], other: &[f64]) -> Result<Interval> {
    let sizes = sizes(evidence, evidence.methods()[0])?;
    stats::bootstrap_mean(&stats::differences(one, other)?, &sizes, RESAMPLES, evidence.plan.profile.seed)
}

/// The mean retained share over versions, and its margin over that on M_PERM.
pub(super) fn shares(evidence: &Evidence, method: &str, versions: &[String], chance: f64) -> Result<[Interval; 2]> {
    let right = |version: &str| weighted_right(evidence, method, |task| Recipe::applied(version, task));
    let moved = versions.iter().map(|version| right(version)).collect::<Result<Vec<_>>>()?;
    let original = weighted_right(evidence, method, |_| Recipe::conventional("M0"))?;
    let control = right(PERMUTED)?;
    bootstrap_shares(&sizes(evidence, method)?, &original, &moved, &control, chance, evidence.plan.profile.seed)
}

/// From how often every text is answered rightly on M_0, on each later version, and on the control.
fn bootstrap_shares(
    sizes: &[usize],
    original: &[f64],
    versions: &[Vec<f64>],
    control: &[f64],
    chance: f64,
    seed: u64,
) -> Result<[Interval; 2]> {
    let resampled = |from: &dyn Fn(&[usize]) -> f64| {
        stats::bootstrap(sizes, RESAMPLES, seed, |rows| {
            let moved = versions.iter().map(|right| mean_of(right, rows)).sum::<f64>() / versions.len() as f64;
            (moved - from(rows)) / (mean_of(original, rows) - chance)
        })
    };
    Ok([resampled(&|_| chance)?, resampled(&|rows| mean_of(control, rows))?])
}

fn mean_of(values: &[f64], rows: &[usize]) -> f64 {
    rows.iter().map(|&row| values[row]).sum::<f64>() / rows.len() as f64
}

/// For every task that versions are compared on, what `read` finds in each comparison of this relation, over repetitions and pairs.
fn by_task<'b, T>(
    evidence: &'b Evidence,
    method: &str,
    relation: Relation,
    read: impl Fn(&'b Pair) -> T,
) -> Vec<Vec<T>> {
    let pairs: Vec<&Pair> = evidence.places().flat_map(|place| evidence.pairs(place, method, relation)).collect();
    let of_task = |task: &str| pairs.iter().filter(|pair| pair.key.task == task).map(|pair| read(pair)).collect();
    evidence.plan.profile.pilot_tasks().into_iter().map(of_task).collect()
}

/// The accuracy barrier of a relation, averaged over pairs, tasks and repetitions.
pub(super) fn barrier(evidence: &Evidence, method: &str, relation: Relation) -> Result<Interval> {
    // For every task its paths, each a list of points, each a 0 or 1 for every text.
    let paths: Vec<Vec<Vec<&[u8]>>> =
        by_task(evidence, method, relation, |pair| pair.path.iter().map(|step| step.answers.as_bytes()).collect());
    let size = |of_task: &Vec<Vec<&[u8]>>| of_task.first().and_then(|path| path.first()).map_or(0, |texts| texts.len());
    let sizes: Vec<usize> = paths.iter().map(size).collect();
    stats::bootstrap(&sizes, RESAMPLES, evidence.plan.profile.seed, |rows| {
        let (mut start, mut sum, mut count) = (0, 0.0, 0);
        for (of_task, &size) in paths.iter().zip(&sizes) {
            let mut times = vec![0.0; size];
            rows[start..start + size].iter().for_each(|row| times[row - start] += 1.0);
            start += size;
            for path in of_task {
                sum += accuracy_barrier(path, &times);
                count += 1;
            }
        }
        sum / f64::from(count)
    })
}

/// The accuracy barrier of a path when each text counts so many times; `path` has 0 or 1 for every point and text, as characters.
fn accuracy_barrier(path: &[&[u8]], times: &[f64]) -> f64 {
    let total: f64 = times.iter().sum();
    let accuracy = |texts: &&[u8]| {
        texts.iter().zip(times).map(|(&right, times)| if right == b'1' { *times } else { 0.0 }).sum::<f64>() / total
    };
    let steps = path.len().saturating_sub(1).max(1) as f64;
    let below = path.iter().enumerate().map(|(at, texts)| (at as f64 / steps, -accuracy(texts)));
    rise(&below.collect::<Vec<_>>()).map_or(f64::NAN, |(height, _)| height)
}

/// The gap of adjacent versions, and its margin over that to M_PERM; what is drawn anew are the texts that attention was compared on.
pub(super) fn gaps(evidence: &Evidence, method: &str) -> Result<[Interval; 2]> {
    let gaps = |relation| by_task(evidence, method, relation, |pair| pair.gaps.clone());
    bootstrap_gaps(&gaps(Relation::Adjacent), &gaps(Relation::Permuted), evidence.plan.profile.seed)
}

/// For every task a list of comparisons, each with a gap for every text.
fn bootstrap_gaps(adjacent: &[Vec<Vec<f64>>], control: &[Vec<Vec<f64>>], seed: u64) -> Result<[Interval; 2]> {
    let sizes: Vec<usize> = adjacent.iter().map(|rows| rows.first().map_or(0, Vec::len)).collect();
    let (gaps, control) = (by_text(adjacent)?, by_text(control)?);
    let margins = stats::differences(&gaps, &control)?;
    let interval = |values: &[f64]| stats::bootstrap_mean(values, &sizes, RESAMPLES, seed);
    Ok([interval(&gaps)?, interval(&margins)?])
}

/// A number for every text of all tasks, one task after the other: the mean over the rows of its task, each of which has a number for
/// every text, weighted so that the mean over all texts counts tasks alike. Errors: a task without rows or texts, rows of
/// different texts.
fn by_text(tasks: &[Vec<Vec<f64>>]) -> Result<Vec<f64>> {
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

    #[test]
    fn a_barrier_counts_each_text_as_often_as_it_was_drawn() {
        // Three points, four texts. Accuracies 1, 1/2, 1/2 as they are: the chord at one half is 3/4, the barrier 1/4.
        let path: [&[u8]; 3] = [b"1111", b"1100", b"1010"];
        assert!((accuracy_barrier(&path, &[1.0; 4]) - 0.25).abs() < 1e-12);
        // The first text alone: right everywhere, no barrier. The last two texts: 1, 0, 1/2, chord 3/4.
        assert_eq!(accuracy_barrier(&path, &[4.0, 0.0, 0.0, 0.0]), 0.0);
        assert!((accuracy_barrier(&path, &[0.0, 0.0, 1.0, 1.0]) - 0.75).abs() < 1e-12);
    }

    #[test]
    fn gaps_drawn_anew_vary_with_the_texts_and_a_margin_only_with_what_differs_from_the_control() -> Result<()> {
        // One task, one comparison, half of its 100 texts at 0.1 and half at 0.3: a mean of 0.2, and 1.96 · 0.1 / √100 = 0.0196
        // on either side. The control is 0.15 lower on every text: the margin cannot vary.
        let gaps: Vec<f64> = (0..100).map(|text| if text % 2 == 0 { 0.1 } else { 0.3 }).collect();
        let control: Vec<f64> = gaps.iter().map(|gap| gap - 0.15).collect();
        let [gap, margin] = bootstrap_gaps(&[vec![gaps.clone()]], &[vec![control.clone()]], 0)?;
        let [lo, hi] = gap.bounds().context("bounds")?;
        assert!((gap.mean - 0.2).abs() < 1e-12 && (lo - 0.1804).abs() < 2e-3 && (hi - 0.2196).abs() < 2e-3, "{gap}");
        let [lo, hi] = margin.bounds().context("bounds")?;
        assert!((margin.mean - 0.15).abs() < 1e-12 && (lo - 0.15).abs() < 1e-12 && (hi - 0.15).abs() < 1e-12);
        // A second, smaller task counts as much as the first: (0.2 + 0.6) / 2.
        let two = [vec![gaps.clone()], vec![vec![0.6; 4]]];
        let [gap, _] = bootstrap_gaps(&two, &two, 0)?;
        assert!((gap.mean - 0.4).abs() < 1e-12, "{gap}");
        assert!(bootstrap_gaps(&[vec![gaps]], &[vec![control[..9].to_vec()]], 0).is_err());
        Ok(())
    }
}
