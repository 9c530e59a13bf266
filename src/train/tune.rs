//! Tuning a version on a task: from scratch, or from weights recycled from an older version.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Device, Reduction, Tensor};

use super::metrics::{Metric, Scores, evaluate};
use super::optim::{AdamW, Optimisation};
use super::trainer::{LossPoint, Objective, fit};
use crate::device::Precision;
use crate::display::Progress;
use crate::model::{Adapted, Method, Model, Pass, Rows, Version, fresh_head};
use crate::params::Theta;
use crate::text::{Task, TaskBatch, TaskData};

/// How a version is tuned on a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TuneConfig {
    /// What is trained: the backbone, or modules in it.
    pub method: Method,
    /// How parameters are moved.
    pub optimisation: Optimisation,
    /// Examples a micro-batch.
    pub batch_size: usize,
    /// Tokens a text is cut off at.
    pub max_length: usize,
    /// Updates between evaluations on dev.
    pub eval_every: usize,
    /// Further updates after which dev is evaluated: early learning is fast and wants a finer grid.
    pub eval_at: Vec<usize>,
    /// Chooses the best model on dev.
    pub select: Metric,
    /// What is computed in.
    pub precision: Precision,
    /// Everything random: head, modules, order, dropout.
    pub seed: u64,
}

impl Default for TuneConfig {
    fn default() -> TuneConfig {
        TuneConfig {
            method: Method::Full,
            optimisation: Optimisation { steps: 200, ..Optimisation::default() },
            batch_size: 32,
            max_length: 128,
            eval_every: 50,
            eval_at: Vec::new(),
            select: Metric::Accuracy,
            precision: Precision::Fp32,
            seed: 0,
        }
    }
}

impl TuneConfig {
    /// Says which value cannot be.
    pub fn validate(&self) -> Result<()> {
        self.optimisation.validate()?;
        self.method.validate()?;
        ensure!(self.batch_size > 0, "batch_size is 0");
        ensure!(self.eval_every > 0, "eval_every is 0: dev must be evaluated now and then to choose the best model");
        ensure!(self.max_length > 2, "max_length {} leaves no room for text", self.max_length);
        Ok(())
    }

    fn evaluates_after(&self, step: usize) -> bool {
        step.is_multiple_of(self.eval_every) || step == self.optimisation.steps || self.eval_at.contains(&step)
    }
}

/// Where tuning starts.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// A fresh head and, where the method has them, fresh modules.
    Fresh,
    /// From weights tuned on an older version, for this task or another: M_{i+1} ⊕ Δ_i. The head comes along when the labels
    /// are the same; another label set gets a fresh head.
    Recycled(&'a Adapted),
}

/// One evaluation on dev.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Updates done.
    pub step: usize,
    /// Scores on the development split.
    pub dev: Scores,
}

/// What a tuning run leaves.
#[derive(Debug)]
pub struct TuneRun {
    /// The weights with the best dev score (the earliest of equals), and how many updates they took.
    pub best: Adapted,
    /// Updates that the best weights took.
    pub best_step: usize,
    /// The weights after the last update.
    pub last: Adapted,
    /// Dev scores over steps.
    pub curve: Vec<CurvePoint>,
    /// Training loss over steps.
    pub losses: Vec<LossPoint>,
    /// Wall time.
    pub seconds: f64,
    /// Texts cut off at `max_length`, in train and dev.
    pub truncated: usize,
}

impl TuneRun {
    /// The curve as (step, score).
    pub fn scores(&self, metric: Metric) -> Vec<(usize, f64)> {
        self.curve.iter().map(|point| (point.step, metric.of(&point.dev))).collect()
    }
}

/// A tuning run that broke off, say with [`LossNotFinite`](super::LossNotFinite), which is then its cause. It stands in the
/// error's chain (`error.downcast_ref::<TuningStopped>()`) and carries the best weights, so that they are not lost.
#[derive(Debug)]
pub struct TuningStopped {
    /// What was tuned on.
    pub task: String,
    /// Updates that the best weights took; `None` where there are none, because dev had no finite loss yet.
    pub best_step: Option<usize>,
    best: Mutex<Option<Adapted>>,
}

impl TuningStopped {
    /// The weights with the best dev score until then; they can be taken once.
    pub fn take_best(&self) -> Option<Adapted> {
        self.best.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Display for TuningStopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tuning on {} stopped", self.task)?;
        self.best_step.map_or(Ok(()), |step| write!(f, " (best on dev were the weights after {step} updates)"))
    }
}

impl std::error::Error for TuningStopped {}

/// A task's train and dev texts as token ids.
#[derive(Debug)]
pub struct EncodedTask {
    /// The training split.
    pub train: TaskData,
    /// The development split.
    pub dev: TaskData,
}

impl EncodedTask {
    /// Encodes both splits, each text cut off at `max_length` tokens.
    ///
    /// Errors when the model has fewer positions, or a split is empty.
    pub fn new(task: &Task, version: &Version, max_length: usize) -> Result<EncodedTask> {
        let positions = version.config.max_length();
        ensure!(
            max_length as i64 <= positions,
            "max_length {max_length} exceeds the model's {positions} positions: lower it to {positions}"
        );
        let encode = |examples, split: &str| {
            TaskData::new(examples, &version.tokenizer, max_length)
                .with_context(|| format!("{split} split of {}", task.name))
        };
        Ok(EncodedTask { train: encode(&task.train, "train")?, dev: encode(&task.dev, "dev")? })
    }
}

/// Tunes `base` on `task` by the labels.
///
/// Errors when configuration, labels and base do not fit together, and with [`TuningStopped`] when the training loss is not
/// finite; that error carries the best weights until then.
pub fn tune(
    base: &Version,
    task: &Task,
    start: Start,
    config: &TuneConfig,
    device: Device,
    progress: &Progress,
) -> Result<TuneRun> {
    config.validate()?;
    let data = EncodedTask::new(task, base, config.max_length)?;
    let objective = Supervised { data: &data.train, batch_size: config.batch_size, seed: config.seed, device };
    tune_with(base, task, start, config, device, &data, &objective, json!({"tune": config}), progress)
}

/// Tunes `base` on `task` by any objective; `recipe` says how in the card of the result.
#[allow(clippy::too_many_arguments, reason = "the one place where base, task, start, data and objective meet")]
pub(crate) fn tune_with<O: Objective>(
    base: &Version,
    task: &Task,
    start: Start,
    config: &TuneConfig,
    device: Device,
    data: &EncodedTask,
    objective: &O,
    recipe: Value,
    progress: &Progress,
) -> Result<TuneRun> {
    let model = starting_model(base, task, start, config, device)?.with_precision(config.precision);
    let mut optimizer = AdamW::new(&model, &config.optimisation)?;
    let mut curve: Vec<CurvePoint> = Vec::new();
    let mut best: Option<(f64, usize, Vec<Theta>)> = None; // dev score, step, what was trained
    let clock = Instant::now();
    let losses = fit(&model, objective, &config.optimisation, config.seed, &mut optimizer, Vec::new(), |now| {
        if !config.evaluates_after(now.step) {
            return Ok(());
        }
        let dev = evaluate(now.model, &data.dev)?.scores;
        curve.push(CurvePoint { step: now.step, dev });
        let score = config.select.of(&dev);
        // Weights that are no numbers guess as well as chance: a score alone would let them win.
        if dev.loss.is_finite() && best.as_ref().is_none_or(|(highest, ..)| score > *highest) {
            best = Some((score, now.step, copies(now.model)?));
        }
        // Losses are read now and then: early evaluations come before the first.
        let loss = now.losses.last().map_or(String::new(), |last| format!("loss {:.3} · ", last.loss));
        let message = format!("{loss}dev {score:.3} · {:.0} tokens/s", now.tokens_per_second);
        progress.update(now.step, message);
        Ok(())
    });
    let finish = |step: usize| -> Result<Adapted> {
        let mut adapted = Adapted::of(&model, base, &task.name, recipe.clone())?;
        if let Start::Recycled(source) = start {
            adapted.card.ancestry = source.card.ancestry.iter().chain([&source.card.base]).cloned().collect();
        }
        if let Some(point) = curve.iter().find(|point| point.step == step) {
            let dev = &point.dev;
            let scores = [("dev_accuracy", dev.accuracy), ("dev_macro_f1", dev.macro_f1), ("dev_loss", dev.loss)];
            adapted.card.scores.extend(scores.map(|(name, score)| (name.to_string(), score)));
        }
        Ok(adapted)
    };
    let losses = match losses {
        Ok(losses) => losses,
        Err(error) => {
            let best_step = best.as_ref().map(|(_, step, _)| *step);
            // Where they cannot be kept, the reason why the run stopped is what counts.
            let best = best.and_then(|(_, step, best)| restore(&model, &best).and_then(|()| finish(step)).ok());
            return Err(error.context(TuningStopped { task: task.name.clone(), best_step, best: Mutex::new(best) }));
        }
    };
    let (_, best_step, best) = best.context("the loss on dev was never finite")?;
    let last = finish(config.optimisation.steps)?;
    restore(&model, &best)?;
    let truncated = data.train.truncated() + data.dev.truncated();
    let seconds = clock.elapsed().as_secs_f64();
    Ok(TuneRun { best: finish(best_step)?, best_step, last, curve, losses, seconds, truncated })
}

/// The classifier that tuning starts from.
fn starting_model(base: &Version, task: &Task, start: Start, config: &TuneConfig, device: Device) -> Result<Model> {
    let Start::Recycled(source) = start else {
        return Model::classifier(base, &task.labels, &config.method, config.seed, device);
    };
    ensure!(
        source.card.method == config.method,
        "the weights to recycle were tuned by method {:?}, this run asks for {:?}: they must agree",
        source.card.method,
        config.method
    );
    let mut source = source.try_clone()?;
    if source.card.labels != task.labels {
        ensure!(
            task.in_order_of(&source.card.labels).is_err(),
            "the weights to recycle know the labels of task {} in another order, {:?}: number it by them (`Task::in_order_of`), or their head would \
             be lost",
            task.name,
            source.card.labels
        );
        (source.card.labels, source.card.head) = (task.labels.clone(), None);
        source.head = fresh_head(base, &task.labels, config.seed)?;
    }
    source.apply(base, device)
}

/// The parts of a model that training moves, copied; in the order of its parts.
fn copies(model: &Model) -> Result<Vec<Theta>> {
    trained_parts(model).map(Theta::try_clone).collect()
}

fn restore(model: &Model, copies: &[Theta]) -> Result<()> {
    for (theta, copy) in trained_parts(model).zip(copies) {
        let mut flat = theta.flat().shallow_clone();
        tch::no_grad(|| flat.f_copy_(copy.flat()))?;
    }
    Ok(())
}

fn trained_parts(model: &Model) -> impl Iterator<Item = &Theta> {
    model.parts().filter(|part| !part.leaves.trainable().is_empty()).map(|part| &part.theta)
}

/// Cross-entropy with the labels.
pub(crate) struct Supervised<'a> {
    pub data: &'a TaskData,
    pub batch_size: usize,
    pub seed: u64,
    pub device: Device,
}

impl Objective for Supervised<'_> {
    type Batch = TaskBatch;

    fn batch(&self, index: usize) -> Result<TaskBatch> {
        self.data.batch(index, self.batch_size, self.seed)?.to_device(self.device)
    }

    fn targets(&self, batch: &TaskBatch) -> usize {
        batch.labels.numel()
    }

    fn tokens(&self, batch: &TaskBatch) -> usize {
        batch.tokens.input_ids.numel()
    }

    fn loss(&self, model: &Model, batch: &TaskBatch, pass: Pass) -> Result<Tensor> {
        let (logits, _) = model.classify(&batch.tokens, Pass { rows: Rows::First, ..pass })?; // (b, classes)
        Ok(logits.f_cross_entropy_loss(&batch.labels, None::<Tensor>, Reduction::Sum, -100, 0.0)?)
    }
}
