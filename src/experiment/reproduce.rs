//! The main job: pre-train, tune, upgrade, recycle, and judge the claims.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::Device;

use super::Inputs;
use super::bench::Bench;
use super::jobs::ledger;
use super::materials::Materials;
use super::pilots::{pairs, pilots};
use super::pretraining::pretrain_lineage;
use super::profile::Profile;
use super::report::{Report, peak_rss_mb};
use super::runs::{Run, Source, Way, What};
use super::summary::Summary;
use crate::device::device_name;
use crate::display::progress::{LINES_A_RUN, say};
use crate::files::{read_json, write_json};
use crate::lineage::Lineage;

/// The file that marks a folder as that of a run, and says of which profile.
const PROFILE: &str = "profile.json";
/// Where a run keeps the fingerprints of its texts.
const INPUTS: &str = "inputs.json";

/// Where a run computes.
#[derive(Clone, Copy, Debug)]
pub struct Compute {
    /// The CPU or a GPU.
    pub device: Device,
    /// Threads in all. Small models fill one core each, so on the CPU runs stand side by side on a thread each.
    pub threads: usize,
}

/// What is kept of earlier, interrupted calls.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Clock {
    seconds: f64,
    peak_rss_mb: Option<f64>,
}

/// Runs `profile` in the folder `out`: lineages, jobs, and the report with its claims. A run that was interrupted goes on; a folder
/// of another profile, or of a run on other texts, is refused. Everything is kept: `lineage-0/`,
/// `jobs/*.json`, `profile.json`, `inputs.json`, `report.{json,md,html}`. A claim that cannot be measured is missing from the report's claims, and its notes
/// say why ([`Report::is_complete`]).
pub fn reproduce(profile: &Profile, place: Compute, out: &Path) -> Result<Report> {
    profile.validate()?;
    check_folder(profile, out, PROFILE)?;
    let materials = Materials::of(profile)?;
    let inputs = checked_inputs(&materials, out)?;
    // Only now: a mistyped data folder must not mark the output folder as its own.
    write_json(out.join(PROFILE), profile)?;
    write_json(out.join(INPUTS), &inputs)?;
    let clock_path = out.join("clock.json");
    let before: Clock = if clock_path.exists() { read_json(&clock_path)? } else { Clock::default() };
    let clock = Instant::now();
    let elapsed = || Clock {
        seconds: before.seconds + clock.elapsed().as_secs_f64(),
        peak_rss_mb: before.peak_rss_mb.into_iter().chain(peak_rss_mb()).reduce(f64::max),
    };
    materials.notes.iter().for_each(|note| say(note));
    let lineages =
        || (0..profile.lineages).map(|l| Lineage::open(out.join(format!("lineage-{l}")))).collect::<Result<Vec<_>>>();
    let ledger = ledger(out);
    let prepare = || Ok(Bench::new(profile, &materials, lineages()?, place.device));
    // The clock is written after every job, so that a run that is cut off does not forget how long it took.
    let perform = |bench: &mut Bench, run: &Run| {
        let outcome = bench.perform(run)?;
        write_json(&clock_path, &elapsed()).map(|()| outcome)
    };
    let stages = stages(profile);
    for (index, lineage) in lineages()?.iter().enumerate() {
        // A result whose weights are gone is of no use to the runs that build on them.
        for run in stages.iter().flat_map(|(_, runs)| runs).filter(|run| run.lineage == index) {
            let kept = run.keeps().map(|(version, id)| lineage.adapted_path(&version, &id));
            if kept.is_some_and(|path| !path.is_file()) {
                ledger.forget(run)?;
            }
        }
        let controls = stages.iter().flat_map(|(_, runs)| runs);
        let controls = controls.filter(|run| run.lineage == index && run.what == What::Control);
        let meanwhile = |upgraded: &AtomicBool| {
            // As in the stages below: results must not depend on how many of these runs there is time for here.
            tch::set_num_threads(1);
            let mut bench = prepare()?;
            let mut waiting = controls.take_while(|_| !upgraded.load(Ordering::Relaxed));
            waiting.try_for_each(|run| ledger.once(run, |run| perform(&mut bench, run)).map(drop))
        };
        pretrain_lineage(profile, &materials, lineage, index, place, LINES_A_RUN, meanwhile)?;
        write_json(&clock_path, &elapsed())?;
    }
    // Small models fill one core each: as many runs side by side as there are threads. A GPU is one worker's.
    let workers = if place.device.is_cuda() { 1 } else { place.threads };
    let threads = place.threads.div_ceil(workers);
    for (label, runs) in &stages {
        ledger.run(label, runs, workers, threads, prepare, |bench, run| perform(bench, run))?;
    }
    let comparisons = pilots(profile);
    for pilot in &comparisons {
        let wanted = pairs(profile, pilot.seed, profile.num_upgrades());
        if !ledger.get(pilot).is_ok_and(|found| found.covers(&wanted, profile.is_real_text())) {
            ledger.forget(pilot)?;
        }
    }
    ledger.run("compare versions", &comparisons, workers, threads, prepare, |bench, pilot| {
        let outcome = bench.compare(pilot)?;
        write_json(&clock_path, &elapsed()).map(|()| outcome)
    })?;
    let summary = Summary::gather(profile, &materials, &lineages()?, &ledger)?;
    let (claims, mut unmeasured) = summary.claims();
    let (tables, figures) = (summary.tables(&mut unmeasured), summary.figures(&mut unmeasured));
    let spent = elapsed();
    let report = Report {
        commit: env!("RECYCLABLE_COMMIT").to_string(),
        profile: profile.name.clone(),
        device: device_name(place.device),
        precision: profile.precision.resolve(place.device).to_string(),
        threads: place.threads,
        seconds: spent.seconds,
        peak_rss_mb: spent.peak_rss_mb,
        seeds: profile.seeds,
        lineages: profile.lineages,
        claims,
        tables,
        figures,
        notes: unmeasured.into_iter().chain(summary.notes()).collect(),
        settings: json!(profile),
        ..Report::default()
    };
    report.write(out)?;
    Ok(report)
}

impl Report {
    /// Whether all six claims were measured for every tuning method, whether they hold or not.
    pub fn is_complete(&self, profile: &Profile) -> bool {
        self.claims.len() == 6 * profile.methods.len()
    }
}

/// The texts' fingerprints. Refuses those that have changed since the run in `out` began: it would be of two kinds of texts. A
/// run that has not written its own down, because an older program made it, is taken to have read these.
pub(super) fn checked_inputs(materials: &Materials, out: &Path) -> Result<Inputs> {
    let (path, inputs) = (out.join(INPUTS), materials.fingerprints()?);
    let before: Inputs = if path.exists() { read_json(&path)? } else { inputs.clone() };
    let names: BTreeSet<&String> = before.keys().chain(inputs.keys()).collect();
    let changed: Vec<&str> =
        names.into_iter().filter(|name| before.get(*name) != inputs.get(*name)).map(String::as_str).collect();
    ensure!(
        changed.is_empty(),
        "these texts are not those that the run in {} began with: {}; restore them, or choose another --out",
        out.display(),
        changed.join(", ")
    );
    Ok(inputs)
}

/// Refuses a folder that holds something else than work on this profile, which the file `marker` in it names.
pub(super) fn check_folder(profile: &Profile, out: &Path, marker: &str) -> Result<()> {
    let path = out.join(marker);
    if path.exists() {
        let there: Profile = read_json(&path)?;
        // More seeds or lineages add runs to those that are there; anything else would mix two experiments.
        let same = Profile { seeds: profile.seeds, lineages: profile.lineages, ..there } == *profile;
        ensure!(same, "{} holds a run with other settings: choose another --out, or delete that folder", out.display());
    } else if out.exists() {
        let empty = std::fs::read_dir(out).with_context(|| format!("cannot read {}", out.display()))?.next().is_none();
        ensure!(empty, "{} exists and is not a run of this program: choose another --out", out.display());
    }
    Ok(())
}

/// The runs in the order in which they build on each other.
pub(crate) fn stages(profile: &Profile) -> Vec<(&'static str, Vec<Run>)> {
    let first = &profile.tasks[0].name;
    let (mut outdated, mut students, mut second) = (Vec::new(), Vec::new(), Vec::new());
    let names = profile.method_names();
    for (lineage, seed) in (0..profile.lineages).flat_map(|l| (0..profile.seeds).map(move |s| (l, s))) {
        for (method, &method_name) in names.iter().enumerate() {
            let run = |task: &str, what| Run { lineage, seed, method, method_name, task: task.to_string(), what };
            let mut sources: Vec<&String> = profile.tasks.iter().map(|task| &task.name).collect();
            sources.extend(
                profile
                    .sources
                    .iter()
                    .map(|source| &source.task)
                    .filter(|name| !sources.contains(name))
                    .collect::<Vec<_>>(),
            );
            outdated.extend(sources.into_iter().map(|task| run(task, What::Outdated)));
            for task in &profile.tasks {
                let own = Source::Outdated { task: task.name.clone() };
                // The pilot studies compare every version, tuned conventionally; recycling has to beat it on its targets.
                let compared = profile.pilot_tasks().contains(&task.name.as_str());
                let versions = (1..=profile.num_upgrades()).filter(|target| compared || task.targets.contains(target));
                let conventional = versions.map(|target| What::Conventional { target });
                let control = compared.then_some(What::Control);
                students.extend(conventional.chain(control).map(|what| run(&task.name, what)));
                for &target in &task.targets {
                    students.push(run(&task.name, What::Init { target, from: own.clone() }));
                    students.extend(Way::CLAIMED.map(|way| run(&task.name, What::FewShot { target, way })));
                }
                students.extend(Way::VARIANTS.map(|way| run(&task.name, What::FewShot { target: 1, way })));
                if method == 0 {
                    students.push(run(&task.name, What::Untrained));
                    students.push(run(&task.name, What::BagOfWords));
                }
            }
            for source in &profile.sources {
                let from = Source::Outdated { task: source.task.clone() };
                students.push(run(first, What::Init { target: 1, from }));
            }
            let own = Source::Outdated { task: first.clone() };
            for what in [
                What::Conventional { target: 2 },
                What::Init { target: 2, from: own },
                What::Init { target: 2, from: Source::ConventionalOnFirst },
                What::Init { target: 2, from: Source::RecycledOnFirst },
            ] {
                // The first task's own version may be M_2, whose runs are on the list already.
                let run = run(first, what);
                if !students.contains(&run) {
                    second.push(run);
                }
            }
        }
    }
    vec![("tune M_0", outdated), ("recycle on upgraded versions", students), ("recycle over two upgrades", second)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The versions that a task is tuned on from scratch, M_IND among them, with the first seed by the first method.
    fn tuned_on(profile: &Profile, task: &str) -> Vec<String> {
        let runs = stages(profile).into_iter().flat_map(|(_, runs)| runs);
        let first = runs.filter(|run| (run.seed, run.method, run.task.as_str()) == (0, 0, task));
        let versions = first.filter(|run| matches!(run.what, What::Conventional { .. } | What::Control));
        versions.filter_map(|run| Some(run.keeps()?.0)).collect()
    }

    #[test]
    fn only_tasks_that_versions_are_compared_on_are_tuned_on_every_version() {
        let profile = Profile::tiny();
        assert_eq!(tuned_on(&profile, "bio_topic"), ["M1", "M2", "M3", "M4", "IND"]);
        assert_eq!(tuned_on(&profile, "bio_relation"), ["M1"]);
        assert!(pilots(&profile).iter().all(|pilot| pilot.task == "bio_topic"));
        let mut all = profile;
        all.pilot.tasks = None;
        assert_eq!(tuned_on(&all, "bio_relation"), ["M1", "M2", "M3", "M4", "IND"]);
        assert_eq!(pilots(&all).len(), 3 * all.methods.len() * all.seeds);
    }
}
