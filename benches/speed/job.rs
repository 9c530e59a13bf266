//! What a job is: the specification that both sides read, and its folder.

use std::path::PathBuf;

use anyhow::{Context, Result};
use recyclable::files::{read_json, write_json};
use recyclable::prelude::*;
use recyclable::train::{LossPoint, Schedule};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::Kind as Dtype;

/// Updates of the comparison with the peer.
pub const CHECK_STEPS: usize = 20;

/// `spec.json`, written by `benches/bench.py`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub kind: Kind,
    pub hidden: i64,
    pub layers: usize,
    pub heads: i64,
    /// Rows of the token embeddings.
    pub vocabulary: i64,
    /// Tokens a sequence has at most.
    pub tokens: usize,
    pub batch: usize,
    /// Sequences or examples there are.
    pub examples: usize,
    pub dropout: f64,
    pub learning_rate: f64,
    /// Examples a class, where a job is few-shot.
    #[serde(default)]
    pub shots: usize,
    /// A task of the built-in world, or a task's folder.
    #[serde(default)]
    pub task: String,
    /// Whether what tensors take on the CPU is counted.
    #[serde(default)]
    pub counted: bool,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Mlm,
    Tune,
    Distil,
    Path,
}

pub struct Job {
    pub spec: Spec,
    folder: PathBuf,
}

/// What a repetition took and did.
pub struct Repetition {
    pub seconds: f64,
    pub units: f64,
    /// The mean training loss of all its steps.
    pub loss: f64,
}

impl Job {
    pub fn load(spec: &str) -> Result<Job> {
        let folder = PathBuf::from(spec).parent().context("the specification lies in no folder")?.to_path_buf();
        Ok(Job { spec: read_json(spec)?, folder })
    }

    /// A file or folder of this job.
    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn model_config(&self) -> EncoderConfig {
        let spec = &self.spec;
        EncoderConfig {
            num_hidden_layers: spec.layers,
            num_attention_heads: spec.heads,
            hidden_dropout_prob: spec.dropout,
            attention_probs_dropout_prob: spec.dropout,
            ..EncoderConfig::tiny(spec.vocabulary, spec.hidden, spec.tokens as i64)
        }
    }

    /// A prepared model.
    pub fn version(&self, name: &str) -> Result<Version> {
        Version::load(self.at(name))
    }

    /// The same without dropout, for comparisons.
    pub fn version_without_dropout(&self, name: &str) -> Result<Version> {
        let mut version = self.version(name)?;
        version.config.hidden_dropout_prob = 0.0;
        version.config.attention_probs_dropout_prob = 0.0;
        Ok(version)
    }

    /// What both sides of a comparison move their parameters by: `torch.optim.AdamW(lr, weight_decay=0)`.
    pub fn plain_adamw(&self, steps: usize) -> Optimisation {
        Optimisation {
            steps,
            learning_rate: self.spec.learning_rate,
            schedule: Schedule::Constant,
            clip_norm: 0.0,
            ..Default::default()
        }
    }

    /// How a classifier is tuned, dev being looked at once, at the end.
    pub fn tuning(&self, optimisation: Optimisation, precision: Precision) -> TuneConfig {
        let (batch_size, max_length, eval_every) = (self.spec.batch, self.spec.tokens, optimisation.steps);
        TuneConfig { optimisation, batch_size, max_length, eval_every, precision, ..Default::default() }
    }

    /// Leaves the batches of a comparison for the peer.
    pub fn leave_batches(&self, batches: &[Value]) -> Result<()> {
        write_json(self.at("check.json"), &batches)
    }
}

/// The losses of a comparison: of the first update, and the means of the first and the second half.
pub fn losses(first: &[LossPoint], all: &[LossPoint]) -> Result<Value> {
    let [first] = first else { anyhow::bail!("one update has one loss, here are {}", first.len()) };
    let [early, late] = all else { anyhow::bail!("{CHECK_STEPS} updates have two means, here are {}", all.len()) };
    Ok(json!({"first": first.loss, "early": early.loss, "late": late.loss}))
}

/// The mean loss of a run.
pub fn mean(losses: &[LossPoint]) -> f64 {
    let (mut sum, mut before) = (0.0, 0);
    for point in losses {
        sum += point.loss * (point.step - before) as f64;
        before = point.step;
    }
    sum / before.max(1) as f64
}

/// A tensor of whole numbers, flattened.
pub fn numbers(tensor: &Tensor) -> Result<Vec<i64>> {
    Ok(Vec::try_from(tensor.f_to_kind(Dtype::Int64)?.f_reshape([-1])?)?)
}

/// A batch's tokens for the peer: ids and mask, flat, and their shape.
pub fn tokens(batch: &recyclable::text::TokenBatch) -> Result<Value> {
    #[derive(Serialize)]
    struct Tokens {
        shape: (i64, i64),
        input_ids: Vec<i64>,
        attention_mask: Option<Vec<i64>>,
    }
    Ok(serde_json::to_value(Tokens {
        shape: batch.size(),
        input_ids: numbers(&batch.input_ids)?,
        attention_mask: batch.attention_mask.as_ref().map(numbers).transpose()?,
    })?)
}
