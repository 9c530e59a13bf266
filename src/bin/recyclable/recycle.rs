//! `recyclable recycle`: weights tuned on an older version help to tune a newer one.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use recyclable::display::Progress;
use recyclable::files::fingerprint;
use recyclable::lineage::Lineage;
use recyclable::recycle::{
    Combined, Distill, DistillConfig, HiddenTokens, Init, Interpolation, KlReduction, LayerSet, Upgrade,
};
use recyclable::text::Text;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::settings::{Selection, TaskArgs, Training, tune_config};
use crate::spec::{Machine, RunArgs, adapted_name, fill, fingerprints, named, required};
use crate::tuned::{Tuned, is_due, keep_best};

/// Tune a newer version with the help of weights tuned on an older one
#[derive(clap::Args)]
pub struct Recycle {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    spec: Spec,
}

#[derive(clap::Args, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Spec {
    /// The folder that keeps versions and adapted weights
    #[arg(long, value_name = "DIR")]
    lineage: Option<PathBuf>,
    /// The version to move to
    #[arg(long, value_name = "NAME")]
    version: Option<String>,
    /// The weights to recycle, and the version they were tuned on
    #[arg(long, value_name = "VERSION/ID")]
    adapted: Option<String>,
    /// init (start from the outdated weights), distill (learn from the outdated model) or combined
    #[arg(long)]
    method: Option<String>,
    /// What the new weights are called [default: TASK.METHOD.SEED]
    #[arg(long)]
    id: Option<String>,
    /// Texts without labels on which the outdated model is asked as well: .txt, one a line, or .jsonl in a task's schema, pairs too
    #[arg(long, value_name = "FILE")]
    unlabelled: Option<PathBuf>,
    /// Between the labels (0) and the teacher's scores (1)
    #[arg(long)]
    alpha: Option<f64>,
    /// Weight of the hidden states; 0 leaves them out
    #[arg(long)]
    beta: Option<f64>,
    /// Softens both distributions
    #[arg(long)]
    temperature: Option<f64>,
    /// batch_mean, or per_element (the authors' 1/(B·C))
    #[arg(long, value_parser = named::<KlReduction>)]
    reduction: Option<KlReduction>,
    /// Hidden states compared: all_but_last, last, all, or numbers as 0,1,2
    #[arg(long, value_parser = layer_set)]
    layers: Option<LayerSet>,
    /// Tokens at which hidden states are compared: first or all
    #[arg(long, value_parser = named::<HiddenTokens>)]
    tokens: Option<HiddenTokens>,
    /// Compare hidden states scaled to unit length
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    normalise: Option<bool>,
    /// Distil into points x of the line from teacher (0) to student (1) as well: 0.25,0.5,0.75
    #[arg(long, value_delimiter = ',')]
    interpolate: Option<Vec<f64>>,
    /// Further such points, drawn anew for every update
    #[arg(long)]
    interpolation_draws: Option<usize>,
    /// What each of these points counts beside the student itself
    #[arg(long)]
    interpolation_weight: Option<f64>,
    #[command(flatten)]
    #[serde(flatten)]
    task: TaskArgs,
    #[command(flatten)]
    #[serde(flatten)]
    training: Training,
    #[command(flatten)]
    #[serde(flatten)]
    selection: Selection,
    #[command(flatten)]
    #[serde(flatten)]
    machine: Machine,
}

fn layer_set(text: &str) -> Result<LayerSet, String> {
    let numbers: Result<Vec<usize>, _> = text.split(',').map(str::parse).collect();
    numbers.map_or_else(|_| named(text), |numbers| Ok(LayerSet::These(numbers)))
}

impl Spec {
    fn distill(&mut self) -> Result<DistillConfig> {
        let default = DistillConfig::default();
        let config = DistillConfig {
            alpha: fill(&mut self.alpha, default.alpha),
            beta: fill(&mut self.beta, default.beta),
            temperature: fill(&mut self.temperature, default.temperature),
            reduction: fill(&mut self.reduction, default.reduction),
            layers: fill(&mut self.layers, default.layers),
            tokens: fill(&mut self.tokens, default.tokens),
            normalise: fill(&mut self.normalise, default.normalise),
            interpolation: self.interpolation()?,
        };
        config.validate()?;
        Ok(config)
    }

    /// Interpolation distillation, where it is asked for.
    fn interpolation(&mut self) -> Result<Option<Interpolation>> {
        if self.interpolate.is_none() && self.interpolation_draws.is_none() {
            ensure!(
                self.interpolation_weight.is_none(),
                "--interpolation-weight goes with --interpolate or --interpolation-draws"
            );
            return Ok(None);
        }
        let default = Interpolation::default();
        Ok(Some(Interpolation {
            points: fill(&mut self.interpolate, Vec::new()),
            draws: fill(&mut self.interpolation_draws, 0),
            weight: fill(&mut self.interpolation_weight, default.weight),
            ..default
        }))
    }

    /// `init` distils nothing.
    fn refuse_distillation(&self) -> Result<()> {
        let given = [
            ("alpha", self.alpha.is_some()),
            ("beta", self.beta.is_some()),
            ("temperature", self.temperature.is_some()),
            ("reduction", self.reduction.is_some()),
            ("layers", self.layers.is_some()),
            ("tokens", self.tokens.is_some()),
            ("normalise", self.normalise.is_some()),
            ("interpolate", self.interpolate.is_some()),
            ("interpolation-draws", self.interpolation_draws.is_some()),
            ("interpolation-weight", self.interpolation_weight.is_some()),
            ("unlabelled", self.unlabelled.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((name, _)) => bail!("--{name} belongs to --method distill and combined, but the method is init"),
            None => Ok(()),
        }
    }
}

pub fn run(arguments: &Recycle) -> Result<ExitCode> {
    let mut spec = arguments.run.merged(&arguments.spec)?;
    let device = spec.machine.prepare()?;
    let root = required(&spec.lineage, "lineage")?;
    let name = required(&spec.version, "version")?;
    let way = required(&spec.method, "method")?;
    let (old_name, old_id) = adapted_name(&required(&spec.adapted, "adapted")?, &name);
    let unlabelled = match &spec.unlabelled {
        Some(path) => Text::load(path)?,
        None => Vec::new(),
    };
    let method: Box<dyn recyclable::recycle::Recycle> = match way.as_str() {
        "init" => {
            spec.refuse_distillation()?;
            Box::new(Init)
        }
        "distill" => Box::new(Distill { distill: spec.distill()?, unlabelled }),
        "combined" => Box::new(Combined { distill: spec.distill()?, unlabelled }),
        _ => bail!("no way to recycle is named {way:?}: use init, distill or combined"),
    };
    let lineage = Lineage::existing(&root)?;
    let (base, old) = (lineage.version(&name)?, lineage.version(&old_name)?);
    let outdated = lineage.adapted(&old_name, &old_id)?;
    let config = tune_config(outdated.card.method.clone(), &mut spec.training, &mut spec.selection, &base)?;
    let task = spec.task.load(config.seed)?;
    let task = match task.in_order_of(&outdated.card.labels) {
        Ok(task) => task,
        // The head is made anew.
        Err(_) if way == "init" => task,
        Err(error) => return Err(error.context("`recycle --method init` alone takes another set of labels")),
    };
    let id = fill(&mut spec.id, format!("{}.{way}.{}", task.name, config.seed));
    let mut inputs = spec.task.inputs()?;
    inputs.extend(fingerprints(&spec.unlabelled)?);
    inputs.insert(name.clone(), base.fingerprint()?);
    inputs.insert(format!("{old_name}/{old_id}"), fingerprint(lineage.adapted_path(&old_name, &old_id))?);
    let (folder, state) = arguments.run.open(&root, &format!("recycle.{name}.{id}"), &spec, &inputs)?;
    let tuned = Tuned { run: &arguments.run, lineage: &lineage, version: &name, base: &base, id: &id, task: &task };
    if !is_due(&tuned, &folder, &state)? {
        return Ok(ExitCode::SUCCESS);
    }
    folder.begin(&spec, &inputs)?;
    let progress = Progress::new(format!("{way} {id} on {name}"), config.optimisation.steps);
    let upgrade = Upgrade { old: &old, outdated: &outdated, new: &base };
    let run = keep_best(method.recycle(upgrade, &task, &config, device, &progress), &folder)?;
    let more = json!({"recycled": method.name(), "outdated": format!("{old_name}/{old_id}")});
    tuned.finish(run, &config, device, &progress, &folder, more)
}
