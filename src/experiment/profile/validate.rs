//! What a profile must not contradict itself in.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};

use super::{Beginning, Limits, OtherSource, Profile, Source};

/// How another task may be related to the first.
const RELATIONS: [&str; 2] = ["similar", "different"];

impl Profile {
    /// Says what contradicts itself.
    pub fn validate(&self) -> Result<()> {
        ensure!(self.seeds > 0, "seeds is 0: every number rests on at least one");
        ensure!(self.lineages > 0, "lineages is 0: at least one is pre-trained");
        ensure!(!self.tasks.is_empty(), "there are no tasks");
        ensure!(!self.methods.is_empty(), "there is no tuning method");
        self.initial.validate().context("initial")?;
        self.upgrade.validate().context("upgrade")?;
        match &self.source {
            Source::World(world) => world.validate()?,
            Source::Folder(source) => {
                let share = source.initial_share;
                ensure!((0.0..1.0).contains(&share), "initial_share {share} is not in [0, 1)");
            }
        }
        let upgrades = self.num_upgrades();
        ensure!(upgrades >= 1, "there is no upgrade, so that no weights are outdated");
        ensure!(!self.twice || upgrades >= 2, "recycling twice needs two upgrades, there is {upgrades}");
        for task in &self.tasks {
            ensure!(task.targets.first() == Some(&1), "the first target of task {} must be version 1", task.name);
            if let Some(target) = task.targets.iter().find(|&&target| target > upgrades) {
                bail!("task {} names version {target} as a target, but the last one is {upgrades}", task.name);
            }
        }
        let tasks = self.tasks.iter().map(|task| task.name.as_str());
        if let Some(name) = first_repeated(tasks) {
            bail!("the task {name} stands in tasks twice: claims are averaged over different ones");
        }
        if let Some(name) = first_repeated(self.method_names()) {
            bail!("two methods are {name}: results are kept by the method's name, so each can stand there once");
        }
        for OtherSource { task, relation } in &self.sources {
            ensure!(
                Some(task) != self.tasks.first().map(|first| &first.name),
                "the source {task} is the first task itself: sources are other tasks"
            );
            ensure!(
                RELATIONS.contains(&relation.as_str()),
                "the source {task} has the relation {relation:?}: it is {}",
                RELATIONS.join(" or ")
            );
        }
        for plan in &self.methods {
            plan.full_data.validate().context("full_data")?;
            plan.few_shot.validate().context("few_shot")?;
            ensure!(plan.full_data.method == plan.few_shot.method, "full_data and few_shot must name the same method");
        }
        for config in [&self.few_shot.published, &self.few_shot.logits, &self.few_shot.all_tokens] {
            config.validate().context("few_shot")?;
        }
        ensure!(self.few_shot.shots > 0, "shots is 0");
        ensure!(self.pilot.points >= 2, "a path of {} point shows nothing: 26 is usual", self.pilot.points);
        ensure!(self.pilot.tasks != Some(0), "pilot.tasks is 0: versions are compared on at least one task");
        match &self.model {
            Beginning::Untrained(size) => {
                let heads = size.num_hidden_layers as i64 * size.num_attention_heads;
                ensure!(
                    heads > 1,
                    "a model with {heads} attention head has no other one to compare it with: C3 needs at least two"
                );
                let vocabulary = !matches!(&self.source, Source::Folder(source) if source.vocab_size.is_none());
                ensure!(vocabulary, "vocab_size is missing: a model from nothing needs a vocabulary");
            }
            Beginning::Encoder(source) => {
                ensure!(
                    self.is_real_text(),
                    "a pre-trained encoder cannot read the built-in world's language: give it real texts"
                );
                ensure!(
                    self.independent == source.other.is_some(),
                    "an independent model starts from another encoder of the same shape: give \"other\" and \"independent\" together"
                );
            }
        }
        ensure!(self.pilot.texts > 0, "pilot.texts is 0: attention is compared on at least one text");
        ensure!(
            self.rates.first() == Some(&1.0) && self.rates.iter().all(|rate| *rate > 0.0 && rate.is_finite()),
            "rates is {:?}: it holds what each method's learning rate is multiplied with, 1 (the usual rate) first",
            self.rates
        );
        ensure!(
            self.further_updates >= 1.0 && self.further_updates.is_finite(),
            "further_updates is {}: it multiplies the updates at further rates, so it is at least 1",
            self.further_updates
        );
        ensure!((0.0..=1.0).contains(&self.shrink), "shrink {} is not in [0, 1]", self.shrink);
        let more = &self.further_worlds;
        ensure!(
            more.worlds == 0 || (more.lineages > 0 && more.seeds > 0),
            "further_worlds asks for {} worlds of {} lineages and {} seeds: each needs at least one",
            more.worlds,
            more.lineages,
            more.seeds
        );
        ensure!(
            more.worlds == 0 || !self.is_real_text(),
            "further_worlds asks for {} more worlds, but the texts are a folder's: there is only one of it",
            more.worlds
        );
        let Limits { train, dev, test } = self.limits;
        ensure!(
            train > 0 && dev > 0 && test > 0,
            "a limit of 0 leaves a split empty: train {train}, dev {dev}, test {test}"
        );
        let longest = self.initial.max_length;
        let tuned = self.methods.iter().flat_map(|plan| [plan.full_data.max_length, plan.few_shot.max_length]);
        if let Some(length) = tuned.chain([self.upgrade.max_length]).find(|&length| length > longest) {
            bail!(
                "a max_length of {length} exceeds that of initial ({longest}), which gives the models their positions"
            );
        }
        Ok(())
    }
}

/// The first name that stood there before.
fn first_repeated<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = BTreeSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_or_method_named_twice_and_an_unknown_relation_are_refused() {
        let refusal = |change: fn(&mut Profile)| {
            let mut profile = Profile::world();
            change(&mut profile);
            profile.validate().err().map_or("it was not refused".to_string(), |error| error.to_string())
        };
        let error = refusal(|profile| profile.tasks.push(profile.tasks[1].clone()));
        assert!(error.contains("the task bio_relation stands in tasks twice"), "{error}");
        let error = refusal(|profile| profile.methods.push(profile.methods[0].clone()));
        assert!(error.contains("two methods are full"), "{error}");
        let error = refusal(|profile| profile.sources[0].relation = "akin".into());
        assert!(error.contains("bio_field has the relation \"akin\": it is similar or different"), "{error}");
    }

    #[test]
    fn a_profile_that_contradicts_itself_is_refused() {
        let mut profile = Profile::world();
        profile.tasks[0].targets = vec![1, 9];
        assert!(profile.validate().unwrap_err().to_string().contains("version 9"));
    }
}
