//! The rows that claims rest on, unit by unit.

use anyhow::{Context, Result, ensure};

use crate::experiment::results::{PairKey, Recipe, Relation, Results, Run};
use crate::experiment::{DataPlan, Experiment, Place, Unit};
use crate::stats::{self, Interval, VarianceShares, variance_shares};

/// What one set of texts gave: all lineages and seeds of the world that the claims are judged on, or of a further one.
pub(crate) struct Evidence<'a> {
    pub experiment: &'a Experiment,
    pub plan: DataPlan,
    /// What counts as an independent repetition.
    pub unit: Unit,
    units: Vec<Vec<Place>>,
}

/// A number for every unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// A value for every unit: a lineage's mean over its seeds, or a seed's.
    pub values: Vec<f64>,
    /// The values of single seeds, lineage by lineage.
    pub by_lineage: Vec<Vec<f64>>,
}

impl Sample {
    /// Mean and 95 % Student-t interval over units.
    pub fn interval(&self) -> Result<Interval> {
        stats::t_interval(&self.values)
    }

    /// How much of the variance lies between lineages, and how much between the seeds of one. `None` where one of them is not
    /// repeated.
    pub fn variance(&self) -> Result<Option<VarianceShares>> {
        variance_shares(&self.by_lineage)
    }

    /// This number − another one, unit by unit.
    pub fn minus(&self, other: &Sample) -> Result<Sample> {
        ensure!(
            self.by_lineage.len() == other.by_lineage.len(),
            "numbers of {} lineages cannot be paired with those of {}",
            self.by_lineage.len(),
            other.by_lineage.len()
        );
        let lineages = self.by_lineage.iter().zip(&other.by_lineage);
        Ok(Sample {
            values: stats::differences(&self.values, &other.values)?,
            by_lineage: lineages.map(|(a, b)| stats::differences(a, b)).collect::<Result<_>>()?,
        })
    }
}

impl<'a> Evidence<'a> {
    /// What the claims are judged on.
    pub fn of(experiment: &'a Experiment) -> Evidence<'a> {
        Evidence::on(experiment, experiment.profile.data().remove(0))
    }

    /// What another set of texts gave.
    pub fn on(experiment: &'a Experiment, plan: DataPlan) -> Evidence<'a> {
        let (unit, places) = (plan.profile.unit(), plan.places());
        let units = match unit {
            Unit::Seed => places.into_iter().map(|place| vec![place]).collect(),
            Unit::Lineage => places.chunk_by(|a, b| a.lineage == b.lineage).map(<[Place]>::to_vec).collect(),
        };
        Evidence { experiment, plan, unit, units }
    }

    pub fn results(&self) -> &'a Results {
        &self.experiment.results
    }

    /// Names of the tasks that claims are averaged over.
    pub fn tasks(&self) -> Vec<&str> {
        self.plan.profile.tasks.iter().map(|task| task.name.as_str()).collect()
    }

    pub fn methods(&self) -> Vec<&'static str> {
        self.plan.profile.method_names()
    }

    /// `M1` … `ML`.
    pub fn upgraded(&self) -> Vec<String> {
        (1..=self.plan.last).map(|number| format!("M{number}")).collect()
    }

    /// What guessing earns on a task: the majority class's share.
    pub fn chance(&self, task: &str) -> Result<f64> {
        let known = self.experiment.chance.iter().find(|(data, name, _)| *data == self.plan.name && name == task);
        known.map(|(_, _, share)| *share).with_context(|| format!("the majority class of {task} is not known"))
    }

    pub fn mean_chance(&self, tasks: &[&str]) -> Result<f64> {
        stats::mean(&tasks.iter().map(|task| self.chance(task)).collect::<Result<Vec<_>>>()?)
    }

    /// Whether what decides no claim was run with the first seed of each lineage alone: where the unit is the lineage and there are more.
    pub fn runs_first_seeds_alone(&self) -> bool {
        self.unit == Unit::Lineage && self.plan.profile.seeds > 1
    }

    /// Every repetition, lineage by lineage.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.units.iter().flatten()
    }

    pub fn run(&self, place: &Place, method: &str, task: &str, recipe: &Recipe) -> Result<&'a Run> {
        self.results().run(&place.run(task, method, recipe.clone()))
    }

    /// A number for every unit: the mean over its repetitions of what `value` reads.
    pub fn sample(&self, value: impl Fn(&Place) -> Result<f64>) -> Result<Sample> {
        self.sample_where(|_| true, value)
    }

    /// The same over those repetitions alone that `has` accepts: what is run with the first seed of each lineage, or pairs two of
    /// them. Units without any are left out.
    pub fn sample_where(&self, has: impl Fn(&Place) -> bool, value: impl Fn(&Place) -> Result<f64>) -> Result<Sample> {
        let (mut sample, mut lineage) = (Sample::default(), None);
        for unit in &self.units {
            let places: Vec<&Place> = unit.iter().filter(|place| has(place)).collect();
            let values = places.iter().map(|place| value(place)).collect::<Result<Vec<_>>>()?;
            let Some(first) = places.first() else { continue };
            sample.values.push(stats::mean(&values)?);
            if lineage != Some(first.lineage) {
                sample.by_lineage.push(Vec::new());
                lineage = Some(first.lineage);
            }
            if let Some(seeds) = sample.by_lineage.last_mut() {
                seeds.extend(values);
            }
        }
        Ok(sample)
    }

    /// Test accuracy averaged over tasks; `recipe` says what was done with each.
    pub fn accuracy(&self, method: &str, tasks: &[&str], recipe: impl Fn(&str) -> Recipe) -> Result<Sample> {
        self.sample(|place| self.accuracy_at(place, method, tasks, &recipe))
    }

    /// The same of what decides no claim and is run with the first seed of each lineage.
    pub fn accuracy_beside(&self, method: &str, tasks: &[&str], recipe: impl Fn(&str) -> Recipe) -> Result<Sample> {
        let has = |place: &Place| tasks.iter().all(|task| self.run(place, method, task, &recipe(task)).is_ok());
        let sample = self.sample_where(has, |place| self.accuracy_at(place, method, tasks, &recipe))?;
        ensure!(!sample.values.is_empty(), "nothing of the kind was run: {}", recipe(tasks[0]));
        Ok(sample)
    }

    pub fn accuracy_at(
        &self,
        place: &Place,
        method: &str,
        tasks: &[&str],
        recipe: impl Fn(&str) -> Recipe,
    ) -> Result<f64> {
        let scores = tasks.iter().map(|task| Ok(self.run(place, method, task, &recipe(task))?.accuracy));
        stats::mean(&scores.collect::<Result<Vec<_>>>()?)
    }

    /// The comparisons of one relation at a repetition: of every task that versions are compared on.
    pub fn pairs(&self, place: &Place, method: &str, relation: Relation) -> Vec<&'a crate::experiment::results::Pair> {
        let of_place = |key: &PairKey| {
            (key.data.as_str(), key.lineage, key.seed) == (place.data.as_str(), place.lineage, place.seed)
                && key.method == method
                && key.relation == relation
        };
        self.results().pairs.iter().filter(|pair| of_place(&pair.key)).collect()
    }

    /// What everything rests on, for captions: `Means over 10 lineages of 2 seeds each.`
    pub fn basis(&self) -> String {
        basis(self.unit, self.plan.profile.lineages, self.plan.profile.seeds, self.plan.profile.is_real_text())
    }
}

/// What numbers rest on, in words; real texts are no world.
pub fn basis(unit: Unit, lineages: usize, seeds: usize, real_text: bool) -> String {
    let count = |n: usize, what: &str| if n == 1 { format!("one {what}") } else { format!("{n} {what}s") };
    match unit {
        Unit::Lineage => {
            format!("Means over {lineages} independently pre-trained lineages of {} each.", count(seeds, "seed"))
        }
        Unit::Seed => {
            let each = if lineages == 1 { "" } else { " on each" };
            format!(
                "Means over {}{each}, conditional on {} {}.",
                count(seeds, "seed"),
                count(lineages, "lineage"),
                if real_text { "on one set of texts" } else { "of one world" }
            )
        }
    }
}
