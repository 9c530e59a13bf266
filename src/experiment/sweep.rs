//! Two dials of the built-in world turned together: how far the new domain is, and how many of the test texts' words no training text has.
//! Where do outdated weights keep working (C1), and where are they overtaken (C4)?

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::compute::Compute;
use super::lineages::Site;
use super::materials::Materials;
use super::perform::{Clock, Experiment, PRECISION, measure, pretrain_sites, settled};
use super::plan::{DataPlan, Scope};
use super::profile::{MethodPlan, Profile, Source};
use super::run_folder::Inputs;
use crate::files::{read_json, write_json};
use crate::model::Method;
use crate::train::TuneConfig;

/// The file that marks a folder as that of a sweep, and says of which.
const MARKER: &str = "sweep.json";
/// The parameters of the encoder's layers: what is tuned where embeddings are frozen.
const LAYERS_ALONE: &str = r"\.layer\.";

/// What is swept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SweepConfig {
    /// Shares of the new domain's concepts that the general domain does not have.
    pub distances: Vec<f64>,
    /// Shares of the content words of dev and test texts that no training text has.
    pub new_words: Vec<f64>,
    /// Tasks of the new domain.
    pub tasks: Vec<String>,
    /// Lineages of each setting.
    pub lineages: usize,
    /// Seeds of each lineage.
    pub seeds: usize,
}

impl Default for SweepConfig {
    fn default() -> SweepConfig {
        SweepConfig {
            distances: vec![0.25, 0.5, 0.75, 1.0],
            new_words: vec![0.0, 0.3, 0.9],
            tasks: vec!["bio_topic".to_string(), "bio_relation".to_string()],
            lineages: 3,
            seeds: 1,
        }
    }
}

impl SweepConfig {
    /// Says which value cannot be.
    pub fn validate(&self) -> Result<()> {
        ensure!(!self.distances.is_empty(), "distances is empty: there is no distance to try");
        ensure!(!self.new_words.is_empty(), "new_words is empty: there is no share to try");
        ensure!(!self.tasks.is_empty(), "tasks is empty: name a task of the new domain");
        let repeats = |values: &[f64]| values.iter().enumerate().any(|(at, value)| values[..at].contains(value));
        ensure!(!repeats(&self.distances), "distances name one twice: {:?}", self.distances);
        ensure!(!repeats(&self.new_words), "new_words name one twice: {:?}", self.new_words);
        ensure!(self.lineages > 0 && self.seeds > 0, "lineages and seeds must be at least 1");
        Ok(())
    }
}

/// One setting of both dials.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The share of the new domain's concepts that the general domain does not have.
    pub distance: f64,
    /// The share of the content words of dev and test texts that no training text has.
    pub new_words: f64,
    pub(crate) plan: DataPlan,
}

/// A finished sweep.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// What was swept.
    pub config: SweepConfig,
    /// What was measured; its rows name the setting as their data.
    pub experiment: Experiment,
    /// The settings, row by row of the picture: by new words, then by distance.
    pub settings: Vec<Setting>,
}

/// For every setting of the dials makes a world, pre-trains lineages M_0 → M_1 in it by the profile's settings, and tunes: M_0; M_1 from
/// nothing, from Δ_0 and from α·Δ_0; fully, with frozen embeddings, and by adapters. Results are kept in `out`, so that an interrupted sweep
/// goes on.
///
/// Errors: a profile of real text, which has no dials; a task that is not the new domain's; a value out of range; a folder of something
/// else, or of a sweep of other settings.
pub fn sweep(profile: &Profile, config: &SweepConfig, place: Compute, out: &Path) -> Result<Sweep> {
    profile.validate()?;
    config.validate()?;
    let profile = swept(profile, config)?;
    profile.validate()?;
    check_folder(&profile, config, out)?;
    let settled = settled(&profile, place, out)?;
    let settings = settings(&settled, config)?;
    let sites = settings.iter().map(|setting| {
        let materials = Materials::of(&setting.plan.profile)?;
        let first = materials.upgrades.first().context("the world has no upgrade")?;
        for task in &materials.tasks {
            ensure!(
                task.domain.as_ref() == Some(&first.name),
                "task {} is from {}, the first upgrade is to {}: choose tasks of that domain",
                task.name,
                task.domain.as_deref().unwrap_or("no domain"),
                first.name
            );
        }
        Ok((setting.plan.clone(), materials))
    });
    let sites = sites.collect::<Result<Vec<_>>>()?;
    write_json(out.join(MARKER), &(config, &profile))?;
    write_json(out.join(PRECISION), &settled.precision)?;
    let sites =
        sites.into_iter().map(|(plan, materials)| Site::open(plan, materials, out)).collect::<Result<Vec<_>>>()?;
    let clock = Clock::start(out)?;
    share_versions(&sites, place)?;
    let experiment = measure(&settled, &sites, place, out, &clock)?;
    Ok(Sweep { config: config.clone(), experiment, settings })
}

/// What a model is pre-trained on does not depend on the share of new words in tasks: where settings have the same corpora, the first one's
/// versions are pre-trained and the others take them over.
fn share_versions(sites: &[Site], place: Compute) -> Result<()> {
    let mut first: Vec<(Inputs, &Site)> = Vec::new();
    let mut others = Vec::new();
    for site in sites {
        let corpora = site.materials.corpora()?;
        match first.iter().find(|(same, _)| *same == corpora) {
            Some((_, owner)) => others.push((site, *owner)),
            None => first.push((corpora, site)),
        }
    }
    pretrain_sites(first.into_iter().map(|(_, site)| site), place)?;
    for (site, owner) in others {
        for index in site.plan.lineages() {
            let (from, to) = (owner.lineage(index)?, site.lineage(index)?);
            for (name, record) in from.versions()? {
                if !to.has_version(&name) {
                    to.save_version(&name, &from.version(&name)?, record)?;
                }
            }
        }
    }
    Ok(())
}

/// The profile of every setting: three ways to tune, one learning rate, nothing beside.
fn swept(profile: &Profile, config: &SweepConfig) -> Result<Profile> {
    let full = profile.methods.iter().find(|plan| plan.full_data.method == Method::Full);
    let full = full.context("the profile has no full fine-tuning to freeze embeddings in")?;
    let frozen = |config: &TuneConfig| TuneConfig { method: Method::Matching(LAYERS_ALONE.into()), ..config.clone() };
    let frozen = MethodPlan { full_data: frozen(&full.full_data), few_shot: frozen(&full.few_shot) };
    let mut methods = profile.methods.clone();
    methods.insert(1, frozen);
    let first = profile.tasks.first().context("the profile has no task")?;
    let task = |name: &String| super::profile::TaskPlan { name: name.clone(), ..first.clone() };
    Ok(Profile {
        name: "sweep".to_string(),
        tasks: config.tasks.iter().map(task).collect(),
        sources: Vec::new(),
        methods,
        rates: vec![1.0],
        independent: false,
        lineages: config.lineages,
        seeds: config.seeds,
        further_worlds: Default::default(),
        ..profile.clone()
    })
}

fn settings(profile: &Profile, config: &SweepConfig) -> Result<Vec<Setting>> {
    let Source::World(world) = &profile.source else {
        anyhow::bail!("only the built-in world has dials for the domain distance and new words")
    };
    let dials =
        config.new_words.iter().flat_map(|words| config.distances.iter().map(move |distance| (*words, *distance)));
    dials
        .map(|(new_words, distance)| {
            let mut world = world.clone();
            (world.new_words, world.domain_distance) = (new_words, distance);
            world.validate()?;
            let profile = Profile { source: Source::World(world), ..profile.clone() };
            let name = format!("new-words-{new_words}-distance-{distance}");
            Ok(Setting { distance, new_words, plan: DataPlan { name, profile, last: 1, scope: Scope::Setting } })
        })
        .collect()
}

/// More lineages or seeds add to what is there; anything else would mix two sweeps.
fn check_folder(profile: &Profile, config: &SweepConfig, out: &Path) -> Result<()> {
    let path = out.join(MARKER);
    if path.exists() {
        let (there, of): (SweepConfig, Profile) = read_json(&path)?;
        let same = SweepConfig { lineages: config.lineages, seeds: config.seeds, ..there } == *config
            && Profile { lineages: profile.lineages, seeds: profile.seeds, ..of } == *profile;
        ensure!(
            same,
            "{} holds a sweep with other settings: choose another --out, or delete that folder",
            out.display()
        );
    } else if out.exists() {
        let empty = std::fs::read_dir(out).with_context(|| format!("cannot read {}", out.display()))?.next().is_none();
        ensure!(empty, "{} exists and is not a sweep of this program: choose another --out", out.display());
    }
    Ok(())
}
