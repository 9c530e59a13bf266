//! The one training loop. Pre-training, tuning and distillation are a data source and a loss handed to it.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::optim::{AdamW, Optimisation};
use crate::model::{Model, Pass};
use crate::seed;

/// The training loss is read, and checked to be finite, after every update whose number is a multiple of this. Checkpoints are
/// written at such updates only, so that a resumed run reads the same means.
pub(crate) const READ_EVERY: usize = 10;

/// What is trained on, and how wrong the model is about it.
pub(crate) trait Objective {
    type Batch;

    /// Micro-batch number `index` of the run: a function of the index alone, so a run can be resumed anywhere.
    fn batch(&self, index: usize) -> Result<Self::Batch>;

    /// What the summed loss is divided by.
    fn targets(&self, batch: &Self::Batch) -> usize;

    /// Tokens in the batch, for the speed shown.
    fn tokens(&self, batch: &Self::Batch) -> usize;

    /// The loss summed over the targets.
    fn loss(&self, model: &Model, batch: &Self::Batch, pass: Pass) -> Result<Tensor>;
}

/// The mean training loss of the updates since the point before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossPoint {
    /// Updates done.
    pub step: usize,
    /// In nats a target.
    pub loss: f64,
}

/// Where a run stands; handed to whoever watches it.
pub(crate) struct Moment<'a> {
    /// Updates done.
    pub step: usize,
    pub model: &'a Model,
    pub optimizer: &'a AdamW,
    pub losses: &'a [LossPoint],
    pub tokens_per_second: f64,
}

/// A training loss became NaN or infinite.
#[derive(Debug)]
pub struct LossNotFinite {
    /// The update whose loss it was, counted from 1.
    pub step: usize,
}

impl std::fmt::Display for LossNotFinite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the training loss is not finite at step {}: try a lower learning rate or more warm-up steps",
            self.step
        )
    }
}

impl std::error::Error for LossNotFinite {}

/// Trains `model` until the plan is done, from where `optimizer` stands. `watch` is called before the first update and after
/// every one.
///
/// Errors with [`LossNotFinite`] naming the first step whose loss was not; updates from such gradients were not taken. Errors as
/// well when no update was possible for a while, because gradients are not finite although the loss is.
pub(crate) fn fit<O: Objective>(
    model: &Model,
    objective: &O,
    plan: &Optimisation,
    seed: u64,
    optimizer: &mut AdamW,
    mut losses: Vec<LossPoint>,
    mut watch: impl FnMut(Moment) -> Result<()>,
) -> Result<Vec<LossPoint>> {
    let device = model.device();
    let mut sum = Tensor::f_zeros([], (Kind::Double, device))?;
    let mut first_bad = Tensor::f_full([], -1.0, (Kind::Double, device))?;
    let (mut since, mut tokens, clock) = (0, 0, Instant::now());
    let (start, mut skipped, mut idle) = (optimizer.step_count(), optimizer.skipped()?, 0);
    watch(Moment { step: start, model, optimizer, losses: &losses, tokens_per_second: 0.0 })?;
    for step in start..plan.steps {
        let indices = step * plan.accumulation..(step + 1) * plan.accumulation;
        let batches = indices.clone().map(|index| objective.batch(index)).collect::<Result<Vec<_>>>()?;
        let targets = batches.iter().map(|batch| objective.targets(batch)).sum::<usize>().max(1);
        for (index, batch) in indices.zip(&batches) {
            let pass = Pass::training(seed::rng(seed, "dropout", index as u64), device);
            let loss = objective.loss(model, batch, pass)?.f_div_scalar(targets as f64)?;
            loss.f_backward().with_context(|| format!("the backward pass of step {} failed", step + 1))?;
            tokens += objective.tokens(batch);
            tch::no_grad(|| -> Result<()> {
                let loss = loss.f_to_kind(Kind::Double)?;
                let bad = loss.f_isfinite()?.f_logical_not()?.f_logical_and(&first_bad.f_lt(0.0)?)?;
                first_bad = first_bad.f_masked_fill(&bad, step as f64 + 1.0)?;
                sum = sum.f_add(&loss)?;
                Ok(())
            })?;
        }
        optimizer.step()?;
        since += 1;
        if (step + 1).is_multiple_of(READ_EVERY) || step + 1 == plan.steps {
            let bad = f64::try_from(&first_bad)?;
            if bad > 0.0 {
                bail!(LossNotFinite { step: bad as usize });
            }
            let skipped_before = std::mem::replace(&mut skipped, optimizer.skipped()?);
            idle = if skipped - skipped_before == since { idle + since } else { 0 };
            if idle >= READ_EVERY {
                bail!(
                    "no update was possible in the {idle} steps up to step {}: the gradient is not finite, although the \
                     loss is. Try a lower learning rate, or fp32",
                    step + 1
                );
            }
            losses.push(LossPoint { step: step + 1, loss: f64::try_from(&sum)? / since as f64 });
            (sum, since) = (sum.f_zeros_like()?, 0);
        }
        let tokens_per_second = tokens as f64 / clock.elapsed().as_secs_f64().max(1e-9);
        watch(Moment { step: step + 1, model, optimizer, losses: &losses, tokens_per_second })?;
    }
    Ok(losses)
}
