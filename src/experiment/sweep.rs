//! How does compatibility fall with the distance of the new domain? A question to the built-in world's dial.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::claims::retained_share;
use super::jobs::{Job, Ledger};
use super::materials::Materials;
use super::pretraining::{architecture, lineage_seed, upgrade_config};
use super::profile::{Profile, Source};
use super::reproduce::{Compute, check_folder};
use super::runs::tuning_seed;
use crate::display::{Axis, Cell, Column, Figure, Point, Progress, Table};
use crate::files::write_json;
use crate::model::Version;
use crate::stats::{self, Interval};
use crate::text::{Task, TaskData};
use crate::train::{PretrainConfig, Start, TuneConfig, evaluate, pretrain, tune};

/// What one setting of the dial gave, a value for every seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepPoint {
    /// The share of the new domain's concepts that the general domain does not have.
    pub domain_distance: f64,
    /// Test accuracy of Δ_0 on M_0, where it was tuned.
    pub original: Vec<f64>,
    /// Test accuracy of Δ_0 on M_1, untouched.
    pub moved: Vec<f64>,
    /// The majority class's share.
    pub chance: f64,
    /// How far the upgrade moved the backbone: ‖M_1 − M_0‖ / ‖M_0‖.
    pub relative_move: f64,
}

/// Compatibility by domain distance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// The task.
    pub task: String,
    /// The tuning method.
    pub method: String,
    /// In ascending order of distance.
    pub points: Vec<SweepPoint>,
}

/// The file that marks a folder as that of a sweep, and says of which profile.
const MARKER: &str = "sweep-profile.json";

struct Setting<'a> {
    profile: &'a Profile,
    domain_distance: f64,
    task: &'a str,
    method: usize,
}

impl Job for Setting<'_> {
    type Output = SweepPoint;

    fn id(&self) -> String {
        let method = self.profile.method_names()[self.method];
        format!("distance-{}-{}-{method}-{}-seeds", self.domain_distance, self.task, self.profile.seeds)
    }

    fn headline(point: &SweepPoint) -> String {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        format!("{:.3} on M_0, {:.3} on M_1", mean(&point.original), mean(&point.moved))
    }
}

/// For every distance makes a world, pre-trains M_0 and M_1 in it by the profile's settings, tunes M_0 on `task` with every seed, and
/// applies Δ_0 to M_1. Results are kept in `out`, so that an interrupted sweep goes on.
///
/// Errors: a profile of real text, which has no dial; a task that is not the new domain's; a distance outside [0, 1]; a folder of
/// something else, or of a sweep with other settings.
pub fn sweep(
    profile: &Profile,
    distances: &[f64],
    task: &str,
    method: usize,
    place: Compute,
    out: &Path,
) -> Result<Sweep> {
    profile.validate()?;
    ensure!(!distances.is_empty(), "there is no distance to try");
    ensure!(matches!(profile.source, Source::World(_)), "only the built-in world has a dial for the domain distance");
    ensure!(method < profile.methods.len(), "the profile has {} tuning methods", profile.methods.len());
    let mut distances = distances.to_vec();
    distances.sort_by(f64::total_cmp);
    distances.dedup();
    check_folder(profile, out, MARKER)?;
    write_json(out.join(MARKER), profile)?;
    let settings: Vec<Setting> =
        distances.iter().map(|&domain_distance| Setting { profile, domain_distance, task, method }).collect();
    let ledger = Ledger::new(out.join("settings"));
    let workers = if place.device.is_cuda() { 1 } else { place.threads };
    let threads = place.threads.div_ceil(workers);
    ledger.run("sweep", &settings, workers, threads, || Ok(()), |(), setting| setting.measure(place))?;
    let points = settings.iter().map(|setting| ledger.get(setting)).collect::<Result<_>>()?;
    Ok(Sweep { task: task.to_string(), method: profile.method_names()[method].to_string(), points })
}

impl Setting<'_> {
    fn measure(&self, place: Compute) -> Result<SweepPoint> {
        let mut profile = self.profile.clone();
        let Source::World(world) = &mut profile.source else { bail!("the profile has no world") };
        world.domain_distance = self.domain_distance;
        let materials = Materials::of(&profile)?;
        let first = materials.upgrades.first().context("the world has no upgrade")?;
        let task = materials.task(self.task)?;
        ensure!(
            task.domain.as_ref() == Some(&first.name),
            "task {} is from {}, the first upgrade is to {}: choose a task of that domain",
            task.name,
            task.domain.as_deref().unwrap_or("no domain"),
            first.name
        );
        let quiet = Progress::silent();
        let fresh_seed = lineage_seed(&profile, 0, "first");
        let fresh = Version::new(&architecture(&profile, &materials), &materials.tokenizer, fresh_seed)?;
        let initial = PretrainConfig { seed: fresh_seed, precision: profile.precision, ..profile.initial.clone() };
        let m0 = pretrain(&fresh, &materials.initial, &initial, place.device, None, &quiet)?.version;
        let m1 = pretrain(&m0, first, &upgrade_config(&profile, 0, "M1"), place.device, None, &quiet)?.version;
        let plan = &profile.methods[self.method].full_data;
        let test = TaskData::new(&task.test, &materials.tokenizer, plan.max_length)?;
        let (mut original, mut moved) = (Vec::new(), Vec::new());
        for seed in 0..profile.seeds {
            let seed = tuning_seed(&profile, seed);
            let config = TuneConfig { seed, precision: profile.precision, ..plan.clone() };
            let delta = tune(&m0, task, Start::Fresh, &config, place.device, &quiet)?.best;
            for (version, scores) in [(&m0, &mut original), (&m1, &mut moved)] {
                let model = delta.apply(version, place.device)?.with_precision(profile.precision);
                scores.push(evaluate(&model, &test)?.scores.accuracy);
            }
        }
        Ok(SweepPoint {
            domain_distance: self.domain_distance,
            original,
            moved,
            chance: Task::majority_share(&task.test),
            relative_move: (&m1.backbone - &m0.backbone)?.norm()? / m0.backbone.norm()?,
        })
    }
}

impl SweepPoint {
    /// The retained share r over seeds. Errors where tuning M_0 did not beat the majority class.
    pub fn retained(&self) -> Result<Interval> {
        let pairs = self.moved.iter().zip(&self.original);
        let shares = pairs.map(|(&moved, &original)| retained_share(moved, original, self.chance));
        stats::t_interval(&shares.collect::<Result<Vec<_>>>()?)
    }
}

impl Sweep {
    fn caption(&self) -> String {
        let seeds = self.points.first().map_or(0, |point| point.original.len());
        format!(
            "Task {}, {}, {seeds} seeds with 95 % Student-t intervals, one lineage a distance. r is the retained share of Δ_0 on M_1.",
            self.task, self.method
        )
    }

    /// One row a distance.
    pub fn table(&self) -> Result<Table> {
        let columns = vec![
            Column::number("domain distance", 2),
            Column::number("Δ_0 on M_0", 3),
            Column::number("Δ_0 on M_1", 3),
            Column::number("chance", 3),
            Column::number("retained share r", 3),
            Column::number("‖M_1 − M_0‖ / ‖M_0‖", 3),
        ];
        let mut table = Table::new("sweep", "Compatibility by domain distance", columns).caption(self.caption());
        for point in &self.points {
            let retained = point.retained().map_or(Cell::Empty(()), |interval| Cell::from(&interval));
            table.push([
                Cell::from(point.domain_distance),
                Cell::from(&stats::t_interval(&point.original)?),
                Cell::from(&stats::t_interval(&point.moved)?),
                point.chance.into(),
                retained,
                point.relative_move.into(),
            ]);
        }
        Ok(table)
    }

    /// Accuracy of Δ_0 on M_0 and on M_1 over the distance.
    pub fn figure(&self) -> Result<Figure> {
        let line = |of: &dyn Fn(&SweepPoint) -> &Vec<f64>| {
            let point = |p: &SweepPoint| Ok(Point::interval(p.domain_distance, &stats::t_interval(of(p))?));
            self.points.iter().map(point).collect::<Result<Vec<_>>>()
        };
        let chance = stats::mean(&self.points.iter().map(|point| point.chance).collect::<Vec<_>>())?;
        let x = Axis::new("domain distance: share of the new domain's concepts that M_0's does not have");
        Ok(Figure::lines("sweep", "Compatibility by domain distance", x, Axis::new("test accuracy").range(0.0, 1.0))
            .line("Δ_0 on M_0, where it was tuned", line(&|point| &point.original)?)
            .line("Δ_0 on M_1, untouched", line(&|point| &point.moved)?)
            .reference("chance", chance)
            .caption(self.caption()))
    }
}
