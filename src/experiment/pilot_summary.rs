//! From the comparisons of tuned versions to C2 and C3.

use anyhow::{Context, Result};

use super::claims::{self, ByPair, Claim};
use super::pilots::{Comparison, Pair, Relation, pairs};
use super::resample::{RESAMPLES, by_text};
use super::summary::Summary;
use crate::analysis::rise;
use crate::display::Cell;
use crate::stats::{self, Interval};

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

impl Summary<'_> {
    /// The pairs of versions that were compared.
    pub fn pairs(&self) -> Vec<Pair> {
        pairs(self.profile, 0, self.materials.upgrades.len())
    }

    /// The tasks that versions were compared on, in words.
    pub(super) fn compared_on(&self) -> String {
        match self.profile.pilot_tasks().as_slice() {
            [task] => format!("on the task {task}"),
            tasks => format!("averaged over {}", tasks.join(", ")),
        }
    }

    /// The split that C2 is judged on.
    pub(super) fn path_split(&self) -> &'static str {
        self.profile.pilot.splits.last().map_or("dev", |split| split.name())
    }

    /// A number for every seed: the mean over lineages and tasks of what `value` reads from the comparison of a pair.
    pub fn compared(&self, method: usize, pair: &str, value: impl Fn(&Comparison) -> Result<f64>) -> Result<Vec<f64>> {
        self.per_seed(&self.profile.pilot_tasks(), |lineage, seed, task| {
            let outcome = self.comparisons(lineage, seed, method, task)?;
            value(outcome.pairs.get(pair).with_context(|| format!("{pair} was not compared on {task}"))?)
        })
    }

    /// The same, plain means that may hold what is not a number.
    pub(super) fn seeds_of(
        &self,
        method: usize,
        pair: &str,
        value: impl Fn(&Comparison) -> Result<f64>,
    ) -> Result<Vec<f64>> {
        let of_seed = |seed: usize| -> Result<f64> {
            let mut values = Vec::new();
            for (lineage, task) in
                (0..self.profile.lineages).flat_map(|l| self.profile.pilot_tasks().into_iter().map(move |t| (l, t)))
            {
                let outcome = self.comparisons(lineage, seed, method, task)?;
                values.push(value(
                    outcome.pairs.get(pair).with_context(|| format!("{pair} was not compared on {task}"))?,
                )?);
            }
            Ok(values.iter().sum::<f64>() / values.len() as f64)
        };
        (0..self.profile.seeds).map(of_seed).collect()
    }

    /// The pairs of these relations with what `value` reads, a number for every seed.
    fn by_pair(
        &self,
        method: usize,
        chosen: impl Fn(Relation) -> bool,
        value: impl Fn(&Comparison) -> Result<f64>,
    ) -> Result<ByPair> {
        let pairs = self.pairs().into_iter().filter(|pair| chosen(pair.relation));
        pairs.map(|pair| Ok((pair.name.clone(), self.compared(method, &pair.name, &value)?))).collect()
    }

    /// The same of pairs that decide nothing: what cannot be measured is left out (the tables show a dash for it), and so are pairs
    /// of seeds, which stand in a ring and are not independent of each other.
    fn reported(
        &self,
        method: usize,
        chosen: impl Fn(Relation) -> bool,
        value: impl Fn(&Comparison) -> Result<f64>,
    ) -> ByPair {
        let chosen = |relation| chosen(relation) && !matches!(relation, Relation::Independent | Relation::OtherSeed);
        let pairs = self.pairs().into_iter().filter(|pair| chosen(pair.relation));
        pairs.filter_map(|pair| Some((pair.name.clone(), self.compared(method, &pair.name, &value).ok()?))).collect()
    }

    /// A cell for what `value` reads: a dash where it cannot be measured, and no interval for pairs of seeds.
    pub(super) fn pair_cell(&self, method: usize, pair: &Pair, value: &dyn Fn(&Comparison) -> Result<f64>) -> Cell {
        let Ok(values) = self.compared(method, &pair.name, value) else { return Cell::Empty(()) };
        match pair.relation {
            Relation::OtherSeed => stats::mean(&values).map_or(Cell::Empty(()), Cell::from),
            _ => Self::cell(&values).unwrap_or(Cell::Empty(())),
        }
    }

    fn independent(&self, method: usize, value: impl Fn(&Comparison) -> Result<f64>) -> Result<Vec<f64>> {
        let of_control = self.by_pair(method, |relation| relation == Relation::Independent, value)?;
        of_control.into_values().next().context("the independent model was not compared")
    }

    pub fn connectivity(&self, method: usize, name: &str) -> Result<Claim> {
        let split = self.path_split();
        let accuracy = |comparison: &Comparison| Ok(comparison.path.barrier(split)?.accuracy);
        let loss = |comparison: &Comparison| Ok(comparison.path.barrier(split)?.loss);
        let adjacent = self.by_pair(method, |relation| relation == Relation::Adjacent, accuracy)?;
        let others = self.reported(method, |relation| relation != Relation::Adjacent, accuracy);
        let loss = self.reported(method, |_| true, loss);
        let mut claim = claims::connectivity(name, &adjacent, &self.independent(method, accuracy)?, &others, &loss)?;
        claim.remark(&format!("{} points a path, on {split}, {}", self.profile.pilot.points, self.compared_on()));
        if !self.profile.is_real_text() {
            return Ok(claim);
        }
        // The barrier is a maximum, so that texts drawn anew rather raise it.
        let claim = claim.with_bootstrap(split, &self.bootstrap_barrier(method, Relation::Adjacent)?);
        let control = self.bootstrap_barrier(method, Relation::Independent)?;
        Ok(claim.with_bootstrap_of("barrier to M_IND", split, &control))
    }

    /// For every task what `read` finds in each of its comparisons of this relation, over lineages, seeds and pairs.
    fn by_task<'b, T>(
        &'b self,
        method: usize,
        relation: Relation,
        read: impl Fn(&'b Comparison) -> T,
    ) -> Result<Vec<Vec<T>>> {
        let pairs: Vec<Pair> = self.pairs().into_iter().filter(|pair| pair.relation == relation).collect();
        let of_task = |task: &str| {
            let mut found = Vec::new();
            for (lineage, seed) in self.repeats() {
                let comparisons = &self.comparisons(lineage, seed, method, task)?.pairs;
                for pair in &pairs {
                    found.push(read(comparisons.get(&pair.name).with_context(|| format!("{} is missing", pair.name))?));
                }
            }
            Ok(found)
        };
        self.profile.pilot_tasks().into_iter().map(of_task).collect()
    }

    /// The accuracy barrier of a relation, averaged over pairs, tasks and seeds, when each task's texts are drawn anew.
    fn bootstrap_barrier(&self, method: usize, relation: Relation) -> Result<Interval> {
        // For every task its paths, each a list of points, each a 0 or 1 for every text.
        let paths: Vec<Vec<Vec<&[u8]>>> =
            self.by_task(method, relation, |comparison| comparison.answers.iter().map(String::as_bytes).collect())?;
        let size =
            |of_task: &Vec<Vec<&[u8]>>| of_task.first().and_then(|path| path.first()).map_or(0, |texts| texts.len());
        let sizes: Vec<usize> = paths.iter().map(size).collect();
        stats::bootstrap(&sizes, RESAMPLES, self.profile.seed, |rows| {
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

    pub fn similarity(&self, method: usize, name: &str) -> Result<Claim> {
        let gap = |comparison: &Comparison| Ok(comparison.corresponding - comparison.mismatched);
        let adjacent = self.by_pair(method, |relation| relation == Relation::Adjacent, gap)?;
        let others = self.reported(method, |relation| relation != Relation::Adjacent, gap);
        let mut claim = claims::similarity(name, &adjacent, &self.independent(method, gap)?, &others)?;
        claim.remark(&self.compared_on());
        if !self.profile.is_real_text() {
            return Ok(claim);
        }
        // What is drawn anew are the dev texts that attention was compared on.
        let gaps = |relation| self.by_task(method, relation, |comparison| comparison.gaps.clone());
        let [gap, margin] =
            bootstrap_gaps(&gaps(Relation::Adjacent)?, &gaps(Relation::Independent)?, self.profile.seed)?;
        Ok(claim.with_bootstrap("dev", &gap).with_bootstrap_of("margin", "dev", &margin))
    }
}

/// The gap of adjacent versions, and its margin over that to M_IND, when each task's texts are drawn anew; for every task a list of
/// comparisons, each with a gap for every text.
fn bootstrap_gaps(adjacent: &[Vec<Vec<f64>>], independent: &[Vec<Vec<f64>>], seed: u64) -> Result<[Interval; 2]> {
    let sizes: Vec<usize> = adjacent.iter().map(|rows| rows.first().map_or(0, Vec::len)).collect();
    let (gaps, control) = (by_text(adjacent)?, by_text(independent)?);
    let margins = stats::differences(&gaps, &control)?;
    let interval = |values: &[f64]| stats::bootstrap_mean(values, &sizes, RESAMPLES, seed);
    Ok([interval(&gaps)?, interval(&margins)?])
}

#[cfg(test)]
mod tests {
    use super::*;

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
