//! From the results of all runs to the claims.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};

use super::claims::{self, Claim, CompatibilitySeed, InitializationRun};
use super::jobs::{Job, Ledger};
use super::materials::Materials;
use super::pilots::{Pilot, PilotOutcome, pilots};
use super::profile::Profile;
use super::resample::{RESAMPLES, bootstrap_shares, by_text};
use super::runs::{INDEPENDENT, Outcome, Run, Source, UNTRAINED, Way, What, version_name};
use super::stages;
use crate::lineage::{Lineage, VersionRecord};
use crate::stats::{self, Interval};
use crate::text::Task;

/// Judges a claim for the method of this index and name.
type Judge<'a> = fn(&Summary<'a>, usize, &str) -> Result<Claim>;

/// All results of a run.
pub(crate) struct Summary<'a> {
    pub profile: &'a Profile,
    pub materials: &'a Materials,
    outcomes: HashMap<String, Outcome>,
    comparisons: HashMap<String, PilotOutcome>,
    /// Of the first lineage, ancestors first.
    pub records: Vec<VersionRecord>,
    /// The majority class's share of a task's test texts.
    chance: BTreeMap<String, f64>,
}

impl<'a> Summary<'a> {
    pub fn gather(
        profile: &'a Profile,
        materials: &'a Materials,
        lineages: &[Lineage],
        ledger: &Ledger,
    ) -> Result<Summary<'a>> {
        let mut outcomes = HashMap::new();
        for run in stages(profile).into_iter().flat_map(|(_, runs)| runs) {
            outcomes.insert(run.id(), ledger.get(&run)?);
        }
        let comparisons = pilots(profile).into_iter().map(|pilot| Ok((pilot.id(), ledger.get(&pilot)?)));
        let comparisons = comparisons.collect::<Result<_>>()?;
        let versions = (0..=materials.upgrades.len()).map(version_name).chain([INDEPENDENT.to_string()]);
        let first = lineages.first().context("there is no lineage")?;
        let records = versions.map(|name| first.record(&name)).collect::<Result<_>>()?;
        let chance = materials.tasks.iter().map(|task| (task.name.clone(), Task::majority_share(&task.test))).collect();
        Ok(Summary { profile, materials, outcomes, comparisons, records, chance })
    }

    /// Names of the tasks that claims are averaged over.
    pub fn tasks(&self) -> Vec<&'a str> {
        self.profile.tasks.iter().map(|task| task.name.as_str()).collect()
    }

    /// `M0` … `ML`.
    pub fn versions(&self) -> Vec<String> {
        (0..=self.materials.upgrades.len()).map(version_name).collect()
    }

    pub fn chance(&self, task: &str) -> f64 {
        self.chance.get(task).copied().unwrap_or(f64::NAN)
    }

    pub fn outcome(&self, lineage: usize, seed: usize, method: usize, task: &str, what: &What) -> Result<&Outcome> {
        let method_name = self.profile.method_names()[method];
        let run = Run { lineage, seed, method, method_name, task: task.to_string(), what: what.clone() };
        self.outcomes.get(&run.id()).with_context(|| format!("there is no result of {}", run.id()))
    }

    /// Every lineage with every seed.
    pub fn repeats(&self) -> impl Iterator<Item = (usize, usize)> {
        let seeds = self.profile.seeds;
        (0..self.profile.lineages).flat_map(move |lineage| (0..seeds).map(move |seed| (lineage, seed)))
    }

    pub fn comparisons(&self, lineage: usize, seed: usize, method: usize, task: &str) -> Result<&PilotOutcome> {
        let method_name = self.profile.method_names()[method];
        let pilot = Pilot { lineage, seed, method, method_name, task: task.to_string() };
        self.comparisons.get(&pilot.id()).with_context(|| format!("there is no result of {}", pilot.id()))
    }

    /// A number for every seed: the mean over lineages and tasks of what `value` reads.
    pub fn per_seed(&self, tasks: &[&str], value: impl Fn(usize, usize, &str) -> Result<f64>) -> Result<Vec<f64>> {
        let of_seed = |seed: usize| -> Result<f64> {
            let pairs = (0..self.profile.lineages).flat_map(|lineage| tasks.iter().map(move |task| (lineage, *task)));
            stats::mean(&pairs.map(|(lineage, task)| value(lineage, seed, task)).collect::<Result<Vec<_>>>()?)
        };
        (0..self.profile.seeds).map(of_seed).collect()
    }

    /// Test accuracy of a run's model, or of Δ_0 on the version `name`: a value a seed.
    pub fn accuracy(&self, method: usize, tasks: &[&str], what: &What, name: &str) -> Result<Vec<f64>> {
        self.per_seed(tasks, |lineage, seed, task| {
            let outcome = self.outcome(lineage, seed, method, task, what)?;
            outcome.accuracy.get(name).copied().with_context(|| format!("a run on {task} has no score named {name}"))
        })
    }

    /// The claims, each for every tuning method, and beside them why any could not be measured.
    pub fn claims(&self) -> (Vec<Claim>, Vec<String>) {
        let judges: [(&str, Judge<'a>); 6] = [
            ("C1", Self::compatibility),
            ("C2", Self::connectivity),
            ("C3", Self::similarity),
            ("C4", Self::initialization),
            ("C5", Self::distillation),
            ("C6", Self::combined),
        ];
        let (mut claims, mut failures) = (Vec::new(), Vec::new());
        for (id, judge) in judges {
            for (method, name) in self.profile.method_names().into_iter().enumerate() {
                match judge(self, method, name) {
                    Ok(claim) => claims.push(claim),
                    Err(error) => failures.push(format!("{id}.{name} was not measured: {error:#}")),
                }
            }
        }
        (claims, failures)
    }

    /// r from accuracies averaged over tasks: a task that M_0 hardly learns would otherwise rule by its tiny denominator.
    fn compatibility(&self, method: usize, name: &str) -> Result<Claim> {
        let tasks = self.tasks();
        let chance = stats::mean(&tasks.iter().map(|task| self.chance(task)).collect::<Vec<_>>())?;
        let on = |version: &str| self.accuracy(method, &tasks, &What::Outdated, version);
        let (original, independent) = (on("M0")?, on(INDEPENDENT)?);
        let moved = self.versions()[1..].iter().map(|version| on(version)).collect::<Result<Vec<_>>>()?;
        let seeds = (0..self.profile.seeds).map(|seed| {
            let share = |accuracy: &[f64]| claims::retained_share(accuracy[seed], original[seed], chance);
            let versions = moved.iter().map(|accuracy| share(accuracy)).collect::<Result<Vec<_>>>()?;
            Ok(CompatibilitySeed { versions, independent: share(&independent)? })
        });
        let claim = claims::compatibility(name, &seeds.collect::<Result<Vec<_>>>()?)?;
        if !self.profile.is_real_text() {
            return Ok(claim);
        }
        let right = |version: &str| self.weighted_right(method, |_| What::Outdated, version);
        let versions = self.versions()[1..].iter().map(|version| right(version)).collect::<Result<Vec<_>>>()?;
        let (original, independent) = (right("M0")?, right(INDEPENDENT)?);
        let sizes = self.test_sizes()?;
        let [share, margin] = bootstrap_shares(&sizes, &original, &versions, &independent, chance, self.profile.seed)?;
        Ok(claim.with_bootstrap("test", &share).with_bootstrap_of("margin", "test", &margin))
    }

    fn initialization(&self, method: usize, name: &str) -> Result<Claim> {
        let of_seed = |seed: usize| -> Result<Vec<InitializationRun>> {
            let pairs = (0..self.profile.lineages)
                .flat_map(|lineage| self.tasks().into_iter().map(move |task| (lineage, task)));
            pairs
                .map(|(lineage, task)| {
                    let from = Source::Outdated { task: task.to_string() };
                    self.initialization_run(lineage, seed, method, task, 1, from)
                })
                .collect()
        };
        let claim = claims::initialization(name, &(0..self.profile.seeds).map(of_seed).collect::<Result<Vec<_>>>()?)?;
        if !self.profile.is_real_text() {
            return Ok(claim);
        }
        let init = |task: &str| What::Init { target: 1, from: Source::Outdated { task: task.to_string() } };
        let interval = self.bootstrap_difference(method, init, |_| What::Conventional { target: 1 })?;
        Ok(claim.with_bootstrap_of("best-score difference", "test", &interval))
    }

    /// Steps by dev; best scores on test, of the models that dev chose.
    pub fn initialization_run(
        &self,
        lineage: usize,
        seed: usize,
        method: usize,
        task: &str,
        target: usize,
        from: Source,
    ) -> Result<InitializationRun> {
        let init = self.outcome(lineage, seed, method, task, &What::Init { target, from })?;
        let conventional = self.outcome(lineage, seed, method, task, &What::Conventional { target })?;
        let budget = self.profile.methods[method].full_data.optimisation.steps;
        let run = InitializationRun::from_curves(&init.curve, &conventional.curve, budget)?;
        let test = |outcome: &Outcome| outcome.accuracy.get("test").copied().context("a run has no test score");
        Ok(InitializationRun { best_init: test(init)?, best_conventional: test(conventional)?, ..run })
    }

    pub fn few_shot(&self, method: usize, tasks: &[&str], way: Way) -> Result<Vec<f64>> {
        self.accuracy(method, tasks, &What::FewShot { target: 1, way }, "test")
    }

    fn distillation(&self, method: usize, name: &str) -> Result<Claim> {
        let of = |way| self.few_shot(method, &self.tasks(), way);
        let claim = claims::distillation(name, &of(Way::Distilled)?, &of(Way::LabelsOnly)?)?;
        self.bootstrapped(claim, method, Way::Distilled, Way::LabelsOnly)
    }

    fn combined(&self, method: usize, name: &str) -> Result<Claim> {
        let of = |way| self.few_shot(method, &self.tasks(), way);
        let (init, distilled) = (of(Way::Init)?, of(Way::Distilled)?);
        let claim = claims::combined(name, &of(Way::Combined)?, &init, &distilled)?;
        let better = if stats::mean(&distilled)? > stats::mean(&init)? { Way::Distilled } else { Way::Init };
        self.bootstrapped(claim, method, Way::Combined, better)
    }

    /// On real text, the interval of the difference of two ways when test texts are drawn anew.
    fn bootstrapped(&self, claim: Claim, method: usize, one: Way, other: Way) -> Result<Claim> {
        if !self.profile.is_real_text() {
            return Ok(claim);
        }
        let student = |way| move |_: &str| What::FewShot { target: 1, way };
        Ok(claim.with_bootstrap("test", &self.bootstrap_difference(method, student(one), student(other))?))
    }

    /// The difference of two runs' test accuracy when each task's texts are drawn anew, tasks counting alike.
    fn bootstrap_difference(
        &self,
        method: usize,
        one: impl Fn(&str) -> What,
        other: impl Fn(&str) -> What,
    ) -> Result<Interval> {
        let (one, other) = (self.weighted_right(method, one, "test")?, self.weighted_right(method, other, "test")?);
        let differences = stats::differences(&one, &other)?;
        stats::bootstrap_mean(&differences, &self.test_sizes()?, RESAMPLES, self.profile.seed)
    }

    /// How many test texts each task has.
    fn test_sizes(&self) -> Result<Vec<usize>> {
        self.tasks().iter().map(|task| Ok(self.materials.task(task)?.test.len())).collect()
    }

    /// For every test text of all tasks, how often a task's run was right over seeds and lineages, weighted so that tasks count
    /// alike.
    fn weighted_right(&self, method: usize, what: impl Fn(&str) -> What, name: &str) -> Result<Vec<f64>> {
        let of_task = |task: &str| -> Result<Vec<Vec<f64>>> {
            let of_repeat = |(lineage, seed)| {
                let outcome = self.outcome(lineage, seed, method, task, &what(task))?;
                let right =
                    outcome.right.get(name).with_context(|| format!("a run on {task} keeps no answers for {name}"))?;
                Ok(right.iter().map(|&right| f64::from(right)).collect())
            };
            self.repeats().map(of_repeat).collect()
        };
        by_text(&self.tasks().into_iter().map(of_task).collect::<Result<Vec<_>>>()?)
    }

    /// What a reader should know beside the numbers.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.materials.notes.clone();
        notes.push(
            "Retained shares are formed from accuracies averaged over tasks; step ratios per task, then averaged. \
             Best models are chosen on dev and scored on test."
                .to_string(),
        );
        notes.push(format!(
            "{UNTRAINED} is the network with its initial weights; M_IND has M_0's data and budget, but another initialisation and order."
        ));
        notes
    }
}
