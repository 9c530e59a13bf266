//! The experiment itself: from a profile to its table of results.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::bench::{Bench, keeps};
use super::comparison::{Comparer, share_models};
use super::compute::Compute;
use super::lineages::Site;
use super::materials::Materials;
use super::plan::DataPlan;
use super::pretraining::{Chain, pretrain_chains};
use super::profile::Profile;
use super::results::{KnowledgeKey, Ledger, Pair, PairKey, Results, Run, RunKey, folder, write_knowledge};
use super::run_folder::Inputs;
use crate::device::{Precision, peak_rss_mb};
use crate::display::progress::{LINES_A_RUN, say};
use crate::files::{read_json, write_json};
use crate::text::{Corpus, Task};

/// The file that marks a folder as that of a run, and says of which profile.
const PROFILE: &str = "profile.json";
/// Where a run keeps the fingerprints of its texts.
const INPUTS: &str = "inputs.json";
/// What `auto` became when the run began.
pub(super) const PRECISION: &str = "precision.json";
/// Where a run counts its time over interruptions.
const CLOCK: &str = "clock.json";

/// What a run of an experiment leaves.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// What was asked for.
    pub profile: Profile,
    /// Everything measured.
    pub results: Results,
    /// The majority class's share of the test texts, by data and task: what guessing earns.
    pub chance: Vec<(String, String, f64)>,
    /// The domains of the versions' held-out texts, the first one that of M_0.
    pub domains: Vec<String>,
    /// What a reader should know of the texts: overlaps, leaks, texts that are cut off.
    pub notes: Vec<String>,
    /// Wall time, interrupted calls included.
    pub seconds: f64,
    /// The largest resident set in MB, where it is known.
    pub peak_rss_mb: Option<f64>,
}

/// What is kept of earlier, interrupted calls.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Spent {
    seconds: f64,
    peak_rss_mb: Option<f64>,
}

/// Counts a run's time on disk, so that a run that is cut off does not forget how long it took.
pub(super) struct Clock<'a> {
    out: &'a Path,
    before: Spent,
    began: Instant,
}

impl Clock<'_> {
    pub fn start(out: &Path) -> Result<Clock<'_>> {
        let path = out.join(CLOCK);
        let before = if path.exists() { read_json(&path)? } else { Spent::default() };
        Ok(Clock { out, before, began: Instant::now() })
    }

    fn spent(&self) -> Spent {
        Spent {
            seconds: self.before.seconds + self.began.elapsed().as_secs_f64(),
            peak_rss_mb: self.before.peak_rss_mb.into_iter().chain(peak_rss_mb()).reduce(f64::max),
        }
    }

    fn write(&self) -> Result<()> {
        write_json(self.out.join(CLOCK), &self.spent())
    }
}

/// Does what `profile` asks for in the folder `out`: pre-trains lineages, tunes, recycles, compares. A run that was interrupted goes
/// on; a folder of another profile, of a run on other texts, or of a program that kept its results in another way is refused.
///
/// Everything is kept: `lineage-0/` …, `results/*.jsonl`, `profile.json`, `inputs.json`.
pub fn perform(profile: &Profile, place: Compute, out: &Path) -> Result<Experiment> {
    profile.validate()?;
    check_folder(profile, out, PROFILE)?;
    let settled = settled(profile, place, out)?;
    let data = settled.data();
    let materials = data.iter().map(|plan| Materials::of(&plan.profile)).collect::<Result<Vec<_>>>()?;
    let inputs = checked_inputs(&data, &materials, out)?;
    // Only now: a mistyped data folder must not mark the output folder as its own.
    write_json(out.join(PROFILE), profile)?;
    write_json(out.join(INPUTS), &inputs)?;
    let clock = Clock::start(out)?;
    let sites = data.into_iter().zip(materials).map(|(plan, materials)| Site::open(plan, materials, out));
    write_json(out.join(PRECISION), &settled.precision)?;
    measure(&settled, &sites.collect::<Result<Vec<_>>>()?, place, out, &clock)
}

/// The profile with the precision that `auto` becomes here, or became when the run in `out` began: a run is of one kind.
pub(super) fn settled(profile: &Profile, place: Compute, out: &Path) -> Result<Profile> {
    let path = out.join(PRECISION);
    let precision = match profile.precision {
        Precision::Auto if path.is_file() => read_json(&path)?,
        chosen => chosen.resolve(place.device),
    };
    Ok(Profile { precision, ..profile.clone() })
}

/// Pre-trains the lineages of all sites, and does all runs and comparisons that their plans ask for.
pub(super) fn measure(
    profile: &Profile,
    sites: &[Site],
    place: Compute,
    out: &Path,
    clock: &Clock,
) -> Result<Experiment> {
    let first = sites.first().context("a profile without texts")?;
    first.materials.notes.iter().for_each(|note| say(note));
    pretrain_sites(sites, place)?;
    clock.write()?;
    let table = folder(out);
    let knowledge = sites.iter().map(Site::knowledge).collect::<Result<Vec<_>>>()?.concat();
    let versions = write_knowledge(&table, knowledge)?;

    // Small models fill one core each: as many runs side by side as there are threads. A GPU is one worker's.
    let workers = if place.device.is_cuda() { 1 } else { place.threads };
    let threads = place.threads.div_ceil(workers);
    let prepare = || Ok(Bench::new(sites, place.device));
    // A result whose weights are gone is of no use to the runs that build on them. What this call does not look at, it leaves alone.
    let has_weights = |run: &Run| !keeps(&run.key) || !sites.iter().any(|site| site.lacks_weights(&run.key));
    let ledger = Ledger::<Run>::open(&table, has_weights)?;
    let mut keys: Vec<RunKey> = Vec::new();
    let stages: Vec<_> = sites.iter().map(|site| site.plan.runs()).collect();
    for (stage, (label, _)) in stages[0].iter().enumerate() {
        let runs: Vec<RunKey> = stages.iter().flat_map(|of_site| of_site[stage].1.iter().cloned()).collect();
        ledger.run(
            label,
            &runs,
            |_, _| false,
            workers,
            threads,
            prepare,
            |bench, key| {
                let run = bench.perform(key)?;
                clock.write().map(|()| run)
            },
        )?;
        keys.extend(runs);
    }
    let runs = ledger.finish(&keys)?;
    let comparisons: Vec<PairKey> = sites.iter().flat_map(|site| site.plan.pairs()).collect();
    let ledger = Ledger::<Pair>::open(&table, |_| true)?;
    let prepare = || Ok(Comparer::new(Bench::new(sites, place.device)));
    ledger.run("compare versions", &comparisons, share_models, workers, threads, prepare, |comparer, key| {
        let pair = comparer.compare(key)?;
        clock.write().map(|()| pair)
    })?;
    let results = Results { runs, pairs: ledger.finish(&comparisons)?, versions };
    let spent = clock.spent();
    Ok(Experiment {
        profile: profile.clone(),
        results,
        chance: sites.iter().flat_map(|site| chance(&site.plan, &site.materials)).collect(),
        domains: first.materials.held_out.iter().map(|corpus| corpus.name.clone()).collect(),
        notes: first.materials.notes.clone(),
        seconds: spent.seconds,
        peak_rss_mb: spent.peak_rss_mb,
    })
}

/// Pre-trains whatever the lineages of these sites lack.
pub(super) fn pretrain_sites<'a>(sites: impl IntoIterator<Item = &'a Site>, place: Compute) -> Result<()> {
    let chains = sites.into_iter().map(Site::chains).collect::<Result<Vec<_>>>()?.concat();
    pretrain_chains(chains, place, LINES_A_RUN)
}

impl Experiment {
    /// What the folder of a finished run holds: rows and texts, not the models. So that it can be judged again where those are gone.
    ///
    /// Errors: another folder, changed texts, a run that lacks rows.
    pub fn load(out: &Path) -> Result<Experiment> {
        let profile = profile_of(out)?;
        let data = profile.data();
        let materials = data.iter().map(|plan| Materials::of(&plan.profile)).collect::<Result<Vec<_>>>()?;
        checked_inputs(&data, &materials, out)?;
        let results = planned(Results::load(out)?, &data, &materials)?;
        let spent = Clock::start(out)?.before;
        let first = materials.first().context("a profile without texts")?;
        Ok(Experiment {
            results,
            chance: data.iter().zip(&materials).flat_map(|(plan, materials)| chance(plan, materials)).collect(),
            domains: first.held_out.iter().map(|corpus| corpus.name.clone()).collect(),
            notes: first.notes.clone(),
            seconds: spent.seconds,
            peak_rss_mb: spent.peak_rss_mb,
            profile,
        })
    }
}

/// The rows that the plans ask for, and no others: a folder may hold those of more lineages or seeds. Errors where one is missing.
fn planned(results: Results, data: &[DataPlan], materials: &[Materials]) -> Result<Results> {
    let runs: BTreeSet<RunKey> = data.iter().flat_map(DataPlan::runs).flat_map(|(_, keys)| keys).collect();
    let pairs: BTreeSet<PairKey> = data.iter().flat_map(DataPlan::pairs).collect();
    let mut versions: BTreeSet<KnowledgeKey> = BTreeSet::new();
    for (plan, materials) in data.iter().zip(materials) {
        for (lineage, version) in
            plan.lineages().flat_map(|lineage| plan.pretrained().into_iter().map(move |name| (lineage, name)))
        {
            let key = |corpus: &Corpus| KnowledgeKey {
                data: plan.name.clone(),
                lineage,
                version: version.clone(),
                domain: corpus.name.clone(),
            };
            versions.extend(materials.held_out.iter().map(key));
        }
    }
    let kept = Results {
        runs: results.runs.into_iter().filter(|row| runs.contains(&row.key)).collect(),
        pairs: results.pairs.into_iter().filter(|row| pairs.contains(&row.key)).collect(),
        versions: results.versions.into_iter().filter(|row| versions.contains(&row.key)).collect(),
    };
    runs.iter().try_for_each(|key| kept.run(key).map(drop))?;
    pairs.iter().try_for_each(|key| kept.pair(key).map(drop))?;
    for row in &kept.versions {
        versions.remove(&row.key);
    }
    if let Some(key) = versions.first() {
        bail!("there is no result of {key}: `recyclable reproduce` finishes a run");
    }
    Ok(kept)
}

/// What guessing earns: the majority class's share of each task's test texts.
fn chance(plan: &DataPlan, materials: &Materials) -> Vec<(String, String, f64)> {
    let share = |task: &Task| (plan.name.clone(), task.name.clone(), Task::majority_share(&task.test));
    materials.tasks.iter().map(share).collect()
}

impl Site {
    fn chains(&self) -> Result<Vec<Chain<'_>>> {
        let (profile, last) = (&self.plan.profile, self.plan.last);
        let of = |index| Ok(Chain::of(profile, &self.materials, self.lineage(index)?, index, last));
        Ok(self.plan.lineages().map(of).collect::<Result<Vec<_>>>()?.concat())
    }

    /// Whether this is the run's site, and its weights are not there.
    fn lacks_weights(&self, key: &RunKey) -> bool {
        let lineage = self.lineage(key.lineage);
        self.plan.name == key.data
            && lineage.is_ok_and(|lineage| !lineage.adapted_path(&key.recipe.version, &key.weights()).is_file())
    }
}

/// The texts' fingerprints. Refuses those that have changed since the run in `out` began: it would be of two kinds of texts.
fn checked_inputs(data: &[DataPlan], materials: &[Materials], out: &Path) -> Result<Inputs> {
    let named = |(plan, materials): (&DataPlan, &Materials)| -> Result<Inputs> {
        let prints = materials.fingerprints()?.into_iter();
        Ok(prints.map(|(name, print)| (format!("{}: {name}", plan.name), print)).collect())
    };
    let inputs: Inputs =
        data.iter().zip(materials).map(named).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    let path = out.join(INPUTS);
    // A run that has not written its own down was stopped before it measured anything.
    let before: Inputs = if path.exists() { read_json(&path)? } else { inputs.clone() };
    // More worlds add texts; what was there must be the same.
    let is_known = |name: &&String| data.iter().any(|plan| name.starts_with(&format!("{}: ", plan.name)));
    let names: BTreeSet<&String> = before.keys().filter(is_known).collect();
    let changed: Vec<&str> =
        names.into_iter().filter(|name| before.get(*name) != inputs.get(*name)).map(String::as_str).collect();
    ensure!(
        changed.is_empty(),
        "these texts are not those that the run in {} began with: {}; restore them, or choose another --out",
        out.display(),
        changed.join(", ")
    );
    Ok(before.into_iter().chain(inputs).collect())
}

/// The profile of the run in a folder.
fn profile_of(out: &Path) -> Result<Profile> {
    let path = out.join(PROFILE);
    ensure!(
        path.is_file(),
        "{} is not the folder of a run (it has no {PROFILE}): `recyclable reproduce --out DIR` makes one",
        out.display()
    );
    refuse_older(out)?;
    let profile: Profile = read_json(&path)?;
    profile.validate().with_context(|| path.display().to_string())?;
    Ok(profile)
}

/// The profile, texts and plan of a finished or interrupted run in a folder.
pub(super) fn opened(out: &Path) -> Result<(Profile, Site)> {
    let profile = profile_of(out)?;
    let plan = profile.data().remove(0);
    let materials = Materials::of(&plan.profile)?;
    checked_inputs(std::slice::from_ref(&plan), std::slice::from_ref(&materials), out)?;
    Ok((profile, Site::open(plan, materials, out)?))
}

/// Programs up to November 2026 kept a file a job, under other random numbers and rules: nothing of them can be taken over.
fn refuse_older(out: &Path) -> Result<()> {
    ensure!(
        !out.join("jobs").is_dir(),
        "{} was made by an older version of this program, whose results are no table: keep it for what it says, and choose another --out",
        out.display()
    );
    Ok(())
}

/// Refuses a folder that holds something else than work on this profile, which the file `marker` in it names.
pub(super) fn check_folder(profile: &Profile, out: &Path, marker: &str) -> Result<()> {
    let path = out.join(marker);
    if path.exists() {
        refuse_older(out)?;
        let there: Profile = read_json(&path)?;
        // More seeds, lineages or tasks add runs to those that are there; anything else would mix two experiments.
        // Tasks are added behind the others: the first one is that of paths, heads and sources.
        let has_its_tasks = profile.tasks.starts_with(&there.tasks);
        let same = Profile {
            seeds: profile.seeds,
            lineages: profile.lineages,
            further_worlds: profile.further_worlds,
            tasks: profile.tasks.clone(),
            ..there
        };
        ensure!(
            has_its_tasks && same == *profile,
            "{} holds a run with other settings: choose another --out, or delete that folder",
            out.display()
        );
    } else if out.exists() {
        let empty = std::fs::read_dir(out).with_context(|| format!("cannot read {}", out.display()))?.next().is_none();
        ensure!(empty, "{} exists and is not a run of this program: choose another --out", out.display());
    }
    Ok(())
}
