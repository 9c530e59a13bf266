//! The tables and figures of the pilot studies.

use anyhow::{Context, Result};

use super::pilots::{Comparison, Pair, Relation};
use super::summary::Summary;
use crate::display::{Axis, Bar, Cell, Column, Figure, Point, Table};
use crate::stats;
use crate::train::Scores;

impl Summary<'_> {
    /// Barriers of every pair.
    pub fn path_table(&self) -> Result<Table> {
        let split = self.path_split();
        let columns = vec![
            Column::text("method"),
            Column::text("pair"),
            Column::text("relation"),
            Column::number("accuracy barrier", 3),
            Column::number("loss barrier", 3),
            Column::number("accuracy at the ends", 3),
            Column::number("lowest on the way", 3),
            Column::number("distance", 1),
            Column::number("cosine of what tuning changed", 2),
        ];
        let caption = format!(
            "{} Straight paths of {} points between tuned models, on {split}, {}; {}. Distance: L2 over backbone and modules. \
             Pairs of two seeds stand in a ring, so they have no interval. A dash: not measurable, as where a loss is not finite on the way.",
            self.basis(),
            self.profile.pilot.points,
            self.compared_on(),
            if self.profile.pilot.coupled {
                "both ends tuned with the same seed"
            } else {
                "the ends tuned with different seeds"
            }
        );
        let mut table = Table::new("paths", "Straight paths between tuned versions", columns).caption(caption);
        for (method, name) in self.profile.method_names().into_iter().enumerate() {
            for pair in self.pairs() {
                let read = |value: &dyn Fn(&Comparison) -> Result<f64>| self.pair_cell(method, &pair, value);
                let accuracies = |comparison: &Comparison| -> Result<Vec<f64>> {
                    let scores = comparison.path.scores(split)?;
                    scores.iter().map(|(_, s)| Ok(s.as_ref().context("a loss is not finite")?.accuracy)).collect()
                };
                let mut row = vec![Cell::from(name), pair.name.as_str().into(), pair.relation.name().into()];
                row.push(read(&|c| Ok(c.path.barrier(split)?.accuracy)));
                row.push(read(&|c| Ok(c.path.barrier(split)?.loss)));
                row.push(read(&|c| {
                    let all = accuracies(c)?;
                    Ok((all.first().context("no points")? + all.last().context("no points")?) / 2.0)
                }));
                row.push(read(&|c| Ok(accuracies(c)?.into_iter().fold(f64::INFINITY, f64::min))));
                row.push(read(&|c| Ok(c.distance)));
                row.push(read(&|c| c.cosine.context("nothing was tuned at one end")));
                table.push(row);
            }
        }
        Ok(table)
    }

    /// Similarities of attention heads and hidden states of every pair.
    pub fn heads_table(&self) -> Result<Table> {
        let columns = vec![
            Column::text("method"),
            Column::text("pair"),
            Column::number("corresponding", 3),
            Column::number("mismatched", 3),
            Column::number("mismatched in its layer", 3),
            Column::number("gap", 3),
            Column::number("found by matching", 2),
            Column::number("CKA, last layer", 3),
            Column::number("untuned: corresponding", 3),
            Column::number("untuned: mismatched", 3),
        ];
        let caption = format!(
            "{} 1 − Jensen–Shannon divergence (base 2) of attention on up to {} dev texts a task, {}. Found by matching: share of \
             heads whose partner in the best one-to-one matching is the corresponding head. CKA: debiased, linear, over tokens. Untuned: the \
             versions of the first lineage themselves, on the same texts.",
            self.basis(),
            self.profile.pilot.texts,
            self.compared_on()
        );
        let mut table = Table::new("heads", "Do tuned versions look at the same words?", columns).caption(caption);
        for (method, name) in self.profile.method_names().into_iter().enumerate() {
            for pair in self.pairs() {
                let read = |value: &dyn Fn(&Comparison) -> Option<f64>| {
                    self.pair_cell(method, &pair, &|comparison| value(comparison).context("not measurable"))
                };
                let mut row = vec![Cell::from(name), pair.name.as_str().into()];
                row.push(read(&|c| Some(c.corresponding)));
                row.push(read(&|c| Some(c.mismatched)));
                row.push(read(&|c| c.mismatched_in_layer));
                row.push(read(&|c| Some(c.corresponding - c.mismatched)));
                row.push(read(&|c| Some(c.matched_share)));
                row.push(read(&|c| c.cka));
                row.extend(
                    self.untuned(&pair)?.map_or([Cell::Empty(()), Cell::Empty(())], |both| both.map(Cell::from)),
                );
                table.push(row);
            }
        }
        Ok(table)
    }

    /// Similarities of a pair before tuning: corresponding and mismatched heads, averaged over tasks, of the first lineage.
    fn untuned(&self, pair: &Pair) -> Result<Option<[f64; 2]>> {
        let tasks = self.profile.pilot_tasks();
        let of_task = |task: &&str| Ok(self.comparisons(0, 0, 0, task)?.pairs.get(&pair.name).and_then(|c| c.untuned));
        let values = tasks.iter().map(of_task).collect::<Result<Option<Vec<[f64; 2]>>>>()?;
        let mean =
            |at: usize, values: &[[f64; 2]]| stats::mean(&values.iter().map(|both| both[at]).collect::<Vec<_>>());
        values.map(|values| Ok([mean(0, &values)?, mean(1, &values)?])).transpose()
    }

    /// Accuracy along the paths of adjacent versions, of the whole lineage, and to the independent model.
    pub fn path_figure(&self, method: usize, name: &str) -> Result<Figure> {
        let split = self.path_split();
        let mut groups: Vec<(String, Vec<Pair>)> = Vec::new();
        for pair in self.pairs() {
            let label = match pair.relation {
                Relation::Adjacent => "adjacent versions".to_string(),
                Relation::Distant | Relation::Independent => pair.name.clone(),
                Relation::Recycled | Relation::OtherSeed => continue,
            };
            match groups.iter_mut().find(|(known, _)| *known == label) {
                Some((_, pairs)) => pairs.push(pair),
                None => groups.push((label, vec![pair])),
            }
        }
        let mut figure = Figure::lines(
            format!("C2-paths-{name}"),
            format!("Accuracy on the straight way between tuned versions ({name})"),
            Axis::new("μ, from the older (0) to the newer model (1)").range(0.0, 1.0),
            Axis::new(format!("{split} accuracy")).range(0.0, 1.0),
        );
        for (label, pairs) in groups {
            let point = |at: usize| -> Result<Option<Point>> {
                let accuracy = |scores: &Option<Scores>| scores.as_ref().map(|scores| scores.accuracy);
                let mut mu = 0.0;
                let mut of_pairs = Vec::new();
                for pair in pairs.iter() {
                    // Not a number where the loss is not finite: such a point is left out.
                    of_pairs.push(self.seeds_of(method, &pair.name, |comparison| {
                        let scores = comparison.path.scores(split)?;
                        let at = scores.get(at).context("the path has fewer points than the profile asks for")?;
                        Ok(accuracy(&at.1).unwrap_or(f64::NAN))
                    })?);
                }
                if of_pairs.iter().flatten().any(|value| value.is_nan()) {
                    return Ok(None);
                }
                let seeds: Vec<f64> = (0..self.profile.seeds)
                    .map(|seed| stats::mean(&of_pairs.iter().map(|values| values[seed]).collect::<Vec<_>>()))
                    .collect::<Result<_>>()?;
                if self.profile.pilot.points > 1 {
                    mu = at as f64 / (self.profile.pilot.points - 1) as f64;
                }
                Ok(Some(Point::interval(mu, &stats::t_interval(&seeds)?)))
            };
            let points = (0..self.profile.pilot.points).map(point).collect::<Result<Vec<_>>>()?;
            // Where a model on the way has no finite loss the line has a gap.
            for piece in points.split(Option::is_none).filter(|piece| !piece.is_empty()) {
                figure = figure.band(label.clone(), piece.iter().flatten().copied().collect());
            }
        }
        let caption = format!(
            "No dip between tuned versions of one lineage means that they lie in one basin; M_IND shares no ancestry. Accuracy {}. \
             The bands are 95 % intervals.",
            self.compared_on()
        );
        let chance = self.mean_chance(&self.profile.pilot_tasks())?;
        Ok(figure.reference("chance", chance).caption(self.caption(&caption)))
    }

    /// Corresponding against mismatched heads, pair by pair.
    pub fn heads_figure(&self, method: usize, name: &str) -> Result<Figure> {
        let pairs: Vec<Pair> = self
            .pairs()
            .into_iter()
            .filter(|pair| matches!(pair.relation, Relation::Adjacent | Relation::Distant | Relation::Independent))
            .collect();
        let bars = |value: &dyn Fn(&Comparison) -> f64| -> Result<Vec<Option<Bar>>> {
            let of_pair = |pair: &Pair| Ok(Some(Bar::of(&self.compared(method, &pair.name, |c| Ok(value(c)))?)?));
            pairs.iter().map(of_pair).collect()
        };
        let figure = Figure::grouped(
            format!("C3-heads-{name}"),
            format!("Attention heads of tuned versions ({name})"),
            pairs.iter().map(|pair| pair.name.as_str()),
            Axis::new("similarity of attention, 1 − JS").range(0.0, 1.0),
        );
        Ok(figure
            .bars("corresponding heads", bars(&|c| c.corresponding)?)
            .bars("mismatched heads", bars(&|c| c.mismatched)?)
            .caption(self.caption(&format!(
                "The lead of corresponding over mismatched heads says how much two models share their heads' roles. Similarity {}.",
                self.compared_on()
            ))))
    }
}
