//! What a profile asks for: every run and every comparison, by key, in the order in which they build on each other.

use serde::{Deserialize, Serialize};

use super::profile::{Profile, TaskPlan};
use super::results::{End, Lesson, PairKey, Recipe, Relation, RunKey, Start};

/// The name of M_i in a lineage.
pub(crate) fn version_name(index: usize) -> String {
    format!("M{index}")
}

/// The independently pre-trained model.
pub(crate) const INDEPENDENT: &str = "IND";
/// M_0 in other coordinates: heads, neurons and hidden dimensions permuted.
pub(crate) const PERMUTED: &str = "PERM";
/// M_0 with heads and neurons permuted alone.
pub(crate) const PERMUTED_INNER: &str = "PERM-inner";
/// M_0 pre-trained on with the general corpus once more: an upgrade to nothing new.
pub(crate) const PLACEBO: &str = "PLACEBO";
/// The network before any pre-training.
pub(crate) const UNTRAINED: &str = "untrained";

/// The "method" of a classifier that counts words.
pub(crate) const BAG_OF_WORDS: &str = "bag_of_words";
/// The "method" that always answers the most frequent class.
pub(crate) const MAJORITY: &str = "majority";

/// `M_0` for M0, `M_IND` for the independent model.
pub(crate) fn shown(version: &str) -> String {
    match version.strip_prefix('M') {
        Some(number) => format!("M_{number}"),
        None => format!("M_{version}"),
    }
}

/// One repetition: all that is random differs from those of every other one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Which world, or which data.
    pub data: String,
    pub lineage: usize,
    pub seed: usize,
}

impl Place {
    pub fn run(&self, task: &str, method: &str, recipe: Recipe) -> RunKey {
        let Place { data, lineage, seed } = self.clone();
        RunKey { data, lineage, seed, task: task.to_string(), method: method.to_string(), recipe }
    }
}

/// One set of texts that a profile's lineages are pre-trained on, and how often.
#[derive(Clone, Debug)]
pub(crate) struct DataPlan {
    pub name: String,
    /// The profile with this world.
    pub profile: Profile,
    /// How often M_0 is upgraded.
    pub last: usize,
    pub scope: Scope,
}

/// What a set of texts is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The claims are judged on it.
    Judged,
    /// Another world, in a table of its own.
    Further,
    /// One setting of a sweep: what C1 and C4 need.
    Setting,
}

impl DataPlan {
    pub fn lineages(&self) -> impl Iterator<Item = usize> + use<> {
        0..self.profile.lineages
    }

    pub fn places(&self) -> Vec<Place> {
        let seeds = self.profile.seeds;
        let place = |lineage, seed| Place { data: self.name.clone(), lineage, seed };
        self.lineages().flat_map(|lineage| (0..seeds).map(move |seed| place(lineage, seed))).collect()
    }

    /// The folder of a lineage within that of the run.
    pub fn lineage_folder(&self, lineage: usize) -> String {
        match self.scope {
            Scope::Judged => format!("lineage-{lineage}"),
            Scope::Further | Scope::Setting => format!("{}/lineage-{lineage}", self.name),
        }
    }

    /// Every version of a lineage that was pre-trained, the independent one last.
    pub fn pretrained(&self) -> Vec<String> {
        let independent = self.profile.independent.then(|| INDEPENDENT.to_string());
        (0..=self.last).map(version_name).chain(self.placebo().map(String::from)).chain(independent).collect()
    }

    /// The upgrade to nothing new, where there is one.
    pub fn placebo(&self) -> Option<&'static str> {
        self.profile.placebo.then_some(PLACEBO)
    }

    /// The versions of a lineage besides M_0 … M_L.
    pub fn controls(&self) -> Vec<&'static str> {
        let independent = self.profile.independent.then_some(INDEPENDENT);
        [PERMUTED, PERMUTED_INNER].into_iter().chain(independent).collect()
    }

    /// Every run, in groups that only need weights of the groups before.
    pub fn runs(&self) -> [(&'static str, Vec<RunKey>); 3] {
        let mut keys: Vec<RunKey> = self.places().iter().flat_map(|place| self.runs_at(place)).collect();
        keys.sort_by_key(depth);
        let [second, third] = [1, 2].map(|wanted| keys.partition_point(|key| depth(key) < wanted));
        let third = keys.split_off(third);
        let second = keys.split_off(second);
        [("tune from nothing", keys), ("recycle", second), ("recycle a second time", third)]
    }

    fn runs_at(&self, place: &Place) -> Vec<RunKey> {
        let profile = &self.profile;
        if self.scope == Scope::Setting {
            return self.runs_of_setting(place);
        }
        // What decides no claim is run with the first seed of each lineage alone, where lineages are the unit.
        let beside = place.seed == 0 || profile.unit() == Unit::Seed;
        let mut keys = Vec::new();
        for method in profile.method_names() {
            for task in &profile.tasks {
                let more = if beside { self.recipes_beside(task) } else { Vec::new() };
                let recipes = self.recipes(task).into_iter().chain(more);
                keys.extend(recipes.map(|recipe| place.run(&task.name, method, recipe)));
            }
            let first = &profile.tasks[0].name;
            for source in profile.sources.iter().filter(|_| beside) {
                keys.push(place.run(&source.task, method, Recipe::conventional("M0")));
                keys.push(place.run(first, method, Recipe::initialized("M1", &source.task)));
            }
            if profile.twice && beside {
                let init = Recipe::initialized("M2", first);
                let starts =
                    [init.clone(), init.clone().tuned_on("M1"), init.tuned_on("M1").from(Start::RecycledDelta)];
                let recipes = [Recipe::conventional("M2")].into_iter().chain(starts);
                keys.extend(recipes.map(|recipe| place.run(first, method, recipe)));
            }
        }
        for TaskPlan { name, .. } in &profile.tasks {
            if beside && place.lineage == 0 {
                keys.push(place.run(name, profile.method_names()[0], Recipe::conventional(UNTRAINED)));
            }
            let words = Recipe { shots: Some(profile.few_shot.shots), ..Recipe::conventional(BAG_OF_WORDS) };
            keys.push(place.run(name, BAG_OF_WORDS, words));
            // Nothing in these is random: once is enough.
            if (place.lineage, place.seed) == (0, 0) {
                keys.push(place.run(name, BAG_OF_WORDS, Recipe::conventional(BAG_OF_WORDS)));
                keys.push(place.run(name, MAJORITY, Recipe::conventional(MAJORITY)));
            }
        }
        keys.sort();
        keys.dedup();
        keys
    }

    /// What a setting of a sweep is asked: does Δ_0 keep working, and does it pay to start from it, as it is or shrunk?
    fn runs_of_setting(&self, place: &Place) -> Vec<RunKey> {
        let recipes = |task: &str| {
            let init = Recipe::initialized("M1", task);
            let shrunk = init.clone().from(Start::ShrunkDelta);
            let conventional = ["M0", "M1"].map(Recipe::conventional);
            conventional.into_iter().chain([Recipe::applied("M1", task), init, shrunk])
        };
        let methods = self.profile.method_names().into_iter();
        let tasks = methods.flat_map(|method| self.profile.tasks.iter().map(move |task| (method, task.name.as_str())));
        tasks.flat_map(|(method, task)| recipes(task).map(move |recipe| place.run(task, method, recipe))).collect()
    }

    /// What is done with one task by one method.
    fn recipes(&self, task: &TaskPlan) -> Vec<Recipe> {
        let (profile, name) = (&self.profile, task.name.as_str());
        let shots = profile.few_shot.shots;
        let upgraded: Vec<String> = (1..=self.last).map(version_name).collect();
        let mut recipes = vec![Recipe::conventional("M0")];
        recipes.extend(upgraded.iter().map(|version| Recipe::applied(version, name)));
        let besides = self.controls().into_iter().chain(self.placebo());
        recipes.extend(besides.map(|version| Recipe::applied(version, name)));
        recipes.extend(upgraded.iter().map(|version| Recipe::applied(version, name).from(Start::HeadOnly)));
        recipes.push(Recipe::applied("M1", name).from(Start::RandomDelta));
        if profile.pilot_tasks().contains(&name) {
            recipes.extend(upgraded.iter().map(|version| Recipe::coupled(version)));
            recipes.extend(self.path_controls().map(Recipe::coupled));
        }
        for version in task.targets.iter().map(|target| version_name(*target)) {
            recipes.push(Recipe::conventional(&version));
            recipes.push(Recipe::initialized(&version, name));
            let students = [
                (Start::Fresh, Lesson::Labels),
                (Start::Fresh, Lesson::Published),
                (Start::Delta, Lesson::Labels),
                (Start::Delta, Lesson::Published),
            ];
            recipes.extend(students.map(|(start, lesson)| Recipe::few_shot(&version, name, start, lesson, shots)));
        }
        for rate in 1..profile.rates.len() {
            recipes.push(Recipe::conventional("M1").at_rate(rate));
            recipes.push(Recipe::initialized("M1", name).at_rate(rate));
        }
        recipes
    }

    /// What stands beside it: a shrunk start, and other losses of distillation.
    fn recipes_beside(&self, task: &TaskPlan) -> Vec<Recipe> {
        if !self.profile.variants {
            return Vec::new();
        }
        let (name, shots) = (task.name.as_str(), self.profile.few_shot.shots);
        let lessons = [Lesson::Logits, Lesson::AllTokens, Lesson::Unlabelled];
        let students = lessons.map(|lesson| Recipe::few_shot("M1", name, Start::Fresh, lesson, shots));
        [Recipe::initialized("M1", name).from(Start::ShrunkDelta)].into_iter().chain(students).collect()
    }

    /// The controls that a path leads to: heads and neurons alone permuted differ in half of the coordinates.
    fn path_controls(&self) -> impl Iterator<Item = &'static str> {
        self.controls().into_iter().filter(|control| *control != PERMUTED_INNER)
    }

    /// Every comparison of two tuned models.
    pub fn pairs(&self) -> Vec<PairKey> {
        let mut keys = Vec::new();
        if self.scope == Scope::Setting {
            return keys;
        }
        for place in self.places() {
            for method in self.profile.method_names() {
                for task in self.profile.pilot_tasks() {
                    let key = |(relation, from, to)| PairKey {
                        data: place.data.clone(),
                        lineage: place.lineage,
                        seed: place.seed,
                        task: task.to_string(),
                        method: method.to_string(),
                        relation,
                        from,
                        to,
                    };
                    keys.extend(self.pairs_at(&place).into_iter().map(key));
                }
            }
        }
        keys.sort();
        keys
    }

    fn pairs_at(&self, place: &Place) -> Vec<(Relation, End, End)> {
        let seed = place.seed;
        let end = |version: &str, start| End { version: version.to_string(), start, seed };
        // M_0's own run is what the others are coupled to.
        let coupled = |version: &str| end(version, if version == "M0" { Start::Fresh } else { Start::Coupled });
        let last = self.last;
        let mut pairs: Vec<(Relation, End, End)> = (0..last)
            .map(|at| (Relation::Adjacent, coupled(&version_name(at)), coupled(&version_name(at + 1))))
            .collect();
        if last > 1 {
            pairs.push((Relation::Distant, coupled("M0"), coupled(&version_name(last))));
        }
        for control in self.path_controls() {
            let relation = if control == INDEPENDENT { Relation::Independent } else { Relation::Permuted };
            pairs.push((relation, coupled("M0"), coupled(control)));
        }
        pairs.push((Relation::Uncoupled, end("M0", Start::Fresh), end("M1", Start::Fresh)));
        pairs.push((Relation::Recycled, end("M1", Start::Fresh), end("M1", Start::Delta)));
        // Each seed with the next; the last one has none, so that no pair stands there twice.
        if seed + 1 < self.profile.seeds {
            let other = End { seed: seed + 1, ..end("M1", Start::Fresh) };
            pairs.push((Relation::TwoSeeds, end("M1", Start::Fresh), other));
        }
        pairs
    }
}

/// How many runs one after the other a run's weights go back to.
fn depth(key: &RunKey) -> usize {
    match (&key.recipe.start, &key.recipe.source) {
        (Start::RecycledDelta, _) => 2,
        (_, Some(_)) => 1,
        (_, None) => 0,
    }
}

/// What counts as an independent repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// The mean over a lineage's seeds: something can be said beyond the lineages at hand.
    Lineage,
    /// One seed on one lineage, where there are fewer than three lineages: everything is conditional on them.
    Seed,
}

impl Unit {
    /// Its name, of one or of several.
    pub fn counted(self, count: usize) -> &'static str {
        match (self, count) {
            (Unit::Lineage, 1) => "lineage",
            (Unit::Lineage, _) => "lineages",
            (Unit::Seed, 1) => "seed",
            (Unit::Seed, _) => "seeds",
        }
    }
}

/// Fewer lineages than this say nothing of other ones.
const LINEAGES_AT_LEAST: usize = 3;

impl Profile {
    /// What the numbers of this profile rest on.
    pub fn unit(&self) -> Unit {
        if self.lineages >= LINEAGES_AT_LEAST { Unit::Lineage } else { Unit::Seed }
    }

    /// The texts that lineages are pre-trained on: those that the claims are judged on, and further worlds.
    pub(crate) fn data(&self) -> Vec<DataPlan> {
        let last = self.num_upgrades();
        let mut data = vec![DataPlan { name: self.source.name(), profile: self.clone(), last, scope: Scope::Judged }];
        for number in 1..=self.further_worlds.worlds {
            let source = self.source.other(number as u64);
            let (lineages, seeds) = (self.further_worlds.lineages, self.further_worlds.seeds);
            // What the claims need, and no more.
            let sparse =
                Profile { sources: Vec::new(), variants: false, twice: false, rates: vec![1.0], ..self.clone() };
            let profile = Profile { source, lineages, seeds, independent: false, ..sparse };
            data.push(DataPlan { name: profile.source.name(), profile, last, scope: Scope::Further });
        }
        data
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn plan(change: impl FnOnce(&mut Profile)) -> DataPlan {
        let mut profile = Profile::world();
        change(&mut profile);
        profile.data().remove(0)
    }

    #[test]
    fn only_tasks_that_versions_are_compared_on_are_tuned_on_every_version() {
        let tuned_on = |plan: &DataPlan, task: &str| -> BTreeSet<String> {
            let keys = plan.runs_at(&plan.places()[0]).into_iter();
            let coupled = keys.filter(|key| key.task == task && key.recipe.start == Start::Coupled);
            coupled.map(|key| key.recipe.version).collect()
        };
        let one = plan(|profile| profile.pilot.tasks = Some(1));
        let every = ["IND", "M1", "M2", "M3", "M4", "PERM"].map(String::from);
        assert_eq!(tuned_on(&one, "bio_topic"), BTreeSet::from(every.clone()));
        assert!(tuned_on(&one, "bio_relation").is_empty());
        assert!(one.pairs().iter().all(|pair| pair.task == "bio_topic"));
        let all = plan(|profile| profile.pilot.tasks = None);
        assert_eq!(tuned_on(&all, "bio_relation"), BTreeSet::from(every));
    }

    #[test]
    fn every_weights_that_a_run_or_pair_needs_are_tuned_before() {
        let plan = plan(|_| ());
        let groups = plan.runs();
        let mut made: BTreeSet<(usize, String, String)> = BTreeSet::new();
        for (label, keys) in &groups {
            for key in keys {
                if let Some(source) = &key.recipe.source {
                    let start = if key.recipe.start == Start::RecycledDelta { Start::Delta } else { Start::Fresh };
                    let recipe = Recipe { version: source.version.clone(), ..Recipe::conventional("").from(start) };
                    let needed = RunKey { task: source.task.clone(), recipe, ..key.clone() };
                    let needed = (key.lineage, source.version.clone(), needed.weights());
                    assert!(made.contains(&needed), "{label}: {key} needs {needed:?}");
                }
            }
            made.extend(keys.iter().map(|key| (key.lineage, key.recipe.version.clone(), key.weights())));
        }
        for pair in plan.pairs() {
            for end in [&pair.from, &pair.to] {
                let weights = format!("{}.{}.s{}.{}", pair.task, pair.method, end.seed, end.start.name());
                assert!(made.contains(&(pair.lineage, end.version.clone(), weights)), "{pair}");
            }
        }
    }

    #[test]
    fn nothing_is_planned_twice() {
        let plan = plan(|_| ());
        let keys: Vec<RunKey> = plan.runs().into_iter().flat_map(|(_, keys)| keys).collect();
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
        let pairs = plan.pairs();
        assert_eq!(pairs.iter().collect::<BTreeSet<_>>().len(), pairs.len());
    }
}
