//! Masked-LM pre-training: M_i → M_{i+1}, with the optimizer reset for every domain.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Reduction, Tensor};

use super::checkpoint;
use super::optim::{AdamW, Optimisation};
use super::trainer::{LossPoint, Objective, READ_EVERY, fit};
use crate::device::Precision;
use crate::display::Progress;
use crate::model::{Model, Pass, Version};
use crate::params::Theta;
use crate::text::{Corpus, MaskingConfig, MlmBatch, MlmData, Sequences};

/// How a version is pre-trained on a corpus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PretrainConfig {
    /// How parameters are moved.
    pub optimisation: Optimisation,
    /// A phase before, in which the masked-LM head alone is trained; `None` where it needs none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_warmup: Option<HeadWarmup>,
    /// Sequences a micro-batch.
    pub batch_size: usize,
    /// Tokens a sequence has at most, `<s>` and `</s>` included.
    pub max_length: usize,
    /// How tokens are hidden.
    pub masking: MaskingConfig,
    /// Join documents by `</s>` into sequences of exactly `max_length` tokens; otherwise one document is one sequence.
    pub packing: bool,
    /// What is computed in.
    pub precision: Precision,
    /// Everything random: order, masks, dropout.
    pub seed: u64,
    /// Updates between checkpoints, a multiple of 10 (the training loss is read so often); 0 writes none. A checkpoint
    /// counts once a later loss was finite.
    pub checkpoint_every: usize,
}

/// How a fresh masked-LM head is trained alone, so that it does not pull at the encoder while it knows nothing. Whatever is not said
/// here is as in the pre-training that follows, but that its learning rate rises over a tenth of these updates at most.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeadWarmup {
    /// Updates.
    pub steps: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
}

impl Default for HeadWarmup {
    fn default() -> HeadWarmup {
        HeadWarmup { steps: 100, learning_rate: 1e-3 }
    }
}

impl HeadWarmup {
    /// How the head is moved, where the whole is then moved by `plan`.
    fn optimisation(&self, plan: &Optimisation) -> Optimisation {
        let (steps, learning_rate) = (self.steps, self.learning_rate);
        Optimisation { steps, learning_rate, warmup_steps: plan.warmup_steps.min(steps / 10), ..plan.clone() }
    }
}

impl Default for PretrainConfig {
    fn default() -> PretrainConfig {
        PretrainConfig {
            optimisation: Optimisation {
                weight_decay: 0.01,
                beta2: 0.98,
                epsilon: 1e-6,
                warmup_steps: 100,
                ..Optimisation::default()
            },
            head_warmup: None,
            batch_size: 64,
            max_length: 64,
            masking: MaskingConfig::default(),
            packing: false,
            precision: Precision::Fp32,
            seed: 0,
            checkpoint_every: 500,
        }
    }
}

impl PretrainConfig {
    /// Says which value cannot be.
    pub fn validate(&self) -> Result<()> {
        self.optimisation.validate()?;
        self.masking.validate()?;
        if let Some(warmup) = &self.head_warmup {
            warmup.optimisation(&self.optimisation).validate().context("head_warmup")?;
        }
        ensure!(self.batch_size > 0, "batch_size is 0");
        ensure!(self.max_length > 2, "max_length {} leaves no room between <s> and </s>", self.max_length);
        ensure!(
            self.checkpoint_every.is_multiple_of(READ_EVERY),
            "checkpoint_every {} is not a multiple of {READ_EVERY}: the loss is read, and known to be finite, only there",
            self.checkpoint_every
        );
        Ok(())
    }
}

/// A pre-trained version and how it came about.
#[derive(Debug)]
pub struct PretrainRun {
    /// The result, on the CPU.
    pub version: Version,
    /// Training loss over steps.
    pub losses: Vec<LossPoint>,
    /// That of the head's phase before; empty where there was none, or where the run was resumed after it.
    pub head_losses: Vec<LossPoint>,
    /// Wall time, from the checkpoint on where the run was resumed.
    pub seconds: f64,
    /// Tokens read a second.
    pub tokens_per_second: f64,
    /// Documents cut off at `max_length`.
    pub truncated: usize,
}

/// Continues the masked-LM pre-training of `base` on `corpus`, with a fresh optimizer.
///
/// With a `checkpoint` path the run writes its state there now and then, and takes it up again after an interruption. The last
/// one stays when the run is done, because what it returns can still be lost: remove it with [`remove_checkpoint`] once the
/// version is stored ([`Lineage::save_version`](crate::lineage::Lineage::save_version) does). A loss that is not finite stops the
/// run, names the step and leaves the last good checkpoint.
///
/// [`remove_checkpoint`]: super::remove_checkpoint
pub fn pretrain(
    base: &Version,
    corpus: &Corpus,
    config: &PretrainConfig,
    device: Device,
    checkpoint: Option<&Path>,
    progress: &Progress,
) -> Result<PretrainRun> {
    pretrain_observed(base, corpus, config, device, checkpoint, progress, &[], |_, _| Ok(()))
}

/// As [`pretrain`], and shows `observe` the version that has been reached after each of these numbers of updates: the inside of
/// an upgrade. 0 is the base itself, its head warmed up where that was asked for. The training is the same to the bit.
#[allow(clippy::too_many_arguments, reason = "pretrain and what it is watched by")]
pub fn pretrain_observed(
    base: &Version,
    corpus: &Corpus,
    config: &PretrainConfig,
    device: Device,
    checkpoint: Option<&Path>,
    progress: &Progress,
    at: &[usize],
    mut observe: impl FnMut(usize, &Version) -> Result<()>,
) -> Result<PretrainRun> {
    config.validate()?;
    check_length(base, config.max_length)?;
    let sequences = sequences(base, corpus, config)?;
    let truncated = sequences.truncated;
    let data = MlmData::new(sequences.ids, &base.tokenizer, config.batch_size, config.masking.clone(), config.seed)?;
    let mut model = Model::masked_lm(base, device)?.with_precision(config.precision);
    let mut objective = MaskedLm { data, device, first: 0 };
    let (clock, mut speed) = (Instant::now(), 0.0);
    // A checkpoint comes from after this phase.
    let head_losses = match &config.head_warmup {
        Some(warmup) if !checkpoint.is_some_and(Path::exists) => {
            let plan = warmup.optimisation(&config.optimisation);
            let losses = warm_up_head(&model, &objective, &plan, config.seed, progress);
            losses.with_context(|| format!("the head's warm-up on {} stopped", corpus.name))?
        }
        _ => Vec::new(),
    };
    objective.first = config.head_warmup.map_or(0, |warmup| warmup.steps * config.optimisation.accumulation);
    let mut optimizer = AdamW::new(&model, &config.optimisation)?;
    let spec = serde_json::to_string(&(config, base.fingerprint()?, corpus_fingerprint(corpus)))?;
    let losses = match checkpoint {
        Some(path) => checkpoint::resume(path, &spec, &mut model, &mut optimizer)?,
        None => Vec::new(),
    };
    let total = config.optimisation.steps;
    let (resumed, mut unproven) = (optimizer.step_count(), None);
    let fitted = fit(&model, &objective, &config.optimisation, config.seed, &mut optimizer, losses, |now| {
        speed = now.tokens_per_second;
        if let Some(last) = now.losses.last() {
            progress.update(now.step, format!("loss {:.3} · {:.0} tokens/s", last.loss, speed));
        }
        if at.contains(&now.step) {
            observe(now.step, &reached(base, now.model)?)?;
        }
        let Some(path) = checkpoint else { return Ok(()) };
        if unproven.is_some_and(|step| now.losses.last().is_some_and(|loss| loss.step > step)) {
            checkpoint::prove(path)?;
            unproven = None;
        }
        let every = config.checkpoint_every;
        if every > 0 && now.step.is_multiple_of(every) && (resumed + 1..total).contains(&now.step) {
            checkpoint::write(path, &spec, now.model, now.optimizer, now.losses)?;
            unproven = Some(now.step);
        }
        Ok(())
    });
    let losses = fitted.with_context(|| match checkpoint.filter(|path| path.exists()) {
        Some(path) => {
            format!("pre-training on {} stopped; the last good checkpoint is {}", corpus.name, path.display())
        }
        None => format!("pre-training on {} stopped", corpus.name),
    })?;
    let version = reached(base, &model)?;
    let seconds = clock.elapsed().as_secs_f64();
    Ok(PretrainRun { version, losses, head_losses, seconds, tokens_per_second: speed, truncated })
}

/// Trains the head of a masked language model, and nothing else.
fn warm_up_head(
    model: &Model,
    objective: &MaskedLm,
    plan: &Optimisation,
    seed: u64,
    progress: &Progress,
) -> Result<Vec<LossPoint>> {
    let of_head: BTreeSet<&str> = model.head().layout().entries().iter().map(|entry| entry.name.as_str()).collect();
    model.set_trainable(|name| of_head.contains(name))?;
    let mut optimizer = AdamW::new(model, plan)?;
    let losses = fit(model, objective, plan, seed, &mut optimizer, Vec::new(), |now| {
        if let Some(last) = now.losses.last() {
            progress.update(0, format!("head alone, {}/{}: loss {:.3}", now.step, plan.steps, last.loss));
        }
        Ok(())
    });
    model.set_trainable(|_| true)?;
    losses
}

/// The version that a model in training has become, copied.
fn reached(base: &Version, model: &Model) -> Result<Version> {
    Ok(Version {
        config: base.config.clone(),
        tokenizer: base.tokenizer.clone(),
        backbone: model.backbone().to_device(Device::Cpu)?,
        lm_head: model.head().to_device(Device::Cpu)?,
        pooler: base.pooler.as_ref().map(Theta::try_clone).transpose()?,
    })
}

/// Mean masked-LM loss of a version over a corpus, in nats a masked token; masks depend on the texts and `config.seed` alone, so
/// versions are asked the same questions, whatever the batch size.
pub fn held_out_loss(version: &Version, corpus: &Corpus, config: &PretrainConfig, device: Device) -> Result<f64> {
    check_length(version, config.max_length)?;
    let sequences = sequences(version, corpus, config)?;
    let data = MlmData::new(sequences.ids, &version.tokenizer, config.batch_size, config.masking.clone(), config.seed)?;
    let model = Model::masked_lm(version, device)?.with_precision(config.precision);
    let objective = MaskedLm { data, device, first: 0 };
    let (mut sum, mut targets) = (0.0, 0);
    for batch in objective.data.evaluation_batches()? {
        let batch = batch.to_device(device)?;
        let loss = tch::no_grad(|| objective.loss(&model, &batch, Pass::evaluation()))?;
        sum += f64::try_from(loss.f_to_kind(Kind::Double)?)?;
        targets += objective.targets(&batch);
    }
    Ok(sum / targets.max(1) as f64)
}

fn check_length(version: &Version, max_length: usize) -> Result<()> {
    let positions = version.config.max_length();
    ensure!(
        max_length as i64 <= positions,
        "max_length {max_length} exceeds the model's {positions} positions: lower it to {positions}"
    );
    Ok(())
}

fn sequences(version: &Version, corpus: &Corpus, config: &PretrainConfig) -> Result<Sequences> {
    match config.packing {
        true => Sequences::packed(corpus, &version.tokenizer, config.max_length),
        false => Sequences::one_a_document(corpus, &version.tokenizer, config.max_length),
    }
}

fn corpus_fingerprint(corpus: &Corpus) -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for document in &corpus.documents {
        hash.update(document.as_bytes());
        hash.update(b"\n");
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Masked positions are filled up to a multiple of this: oneDNN compiles and keeps a program for every shape of a product, and
/// their number differs from batch to batch.
const POSITIONS_MULTIPLE: i64 = 32;
/// The label of a position that counts for nothing.
const IGNORED: i64 = -100;

/// Cross-entropy at the masked positions; the last layer and the vocabulary scores are computed for those alone.
struct MaskedLm {
    data: MlmData,
    device: Device,
    /// The batch that it begins with: those before were the head's.
    first: usize,
}

impl Objective for MaskedLm {
    type Batch = MlmBatch;

    fn batch(&self, index: usize) -> Result<MlmBatch> {
        self.data.batch(self.first + index)?.to_device(self.device)
    }

    fn targets(&self, batch: &MlmBatch) -> usize {
        batch.labels.numel()
    }

    fn tokens(&self, batch: &MlmBatch) -> usize {
        batch.tokens.input_ids.numel()
    }

    fn loss(&self, model: &Model, batch: &MlmBatch, pass: Pass) -> Result<Tensor> {
        let missing = (-batch.labels.size1()?).rem_euclid(POSITIONS_MULTIPLE);
        let positions = batch.positions.f_pad([0, missing], "constant", 0.0)?; // (m'), the first token again and again
        let labels = batch.labels.f_pad([0, missing], "constant", IGNORED as f64)?; // (m')
        let logits = model.network().predict(&batch.tokens, Some(&positions), pass)?; // (m', vocabulary)
        Ok(logits.f_cross_entropy_loss(&labels, None::<Tensor>, Reduction::Sum, IGNORED, 0.0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EncoderConfig;
    use crate::text::Tokenizer;

    #[test]
    fn a_head_warmed_up_alone_leaves_the_encoder_as_it_is_and_learns() -> Result<()> {
        let tokenizer = Tokenizer::word_level(&["a", "b", "c", "d"])?;
        let version = Version::new(&EncoderConfig::tiny(tokenizer.vocab_size() as i64, 16, 12), &tokenizer, 1)?;
        let corpus = Corpus::new("c", ["a a a b", "a b a a", "a a b a"].map(String::from).to_vec())?;
        let run = |head_steps: usize, steps: usize, checkpoint: Option<&Path>| {
            let config = PretrainConfig {
                optimisation: Optimisation { steps, warmup_steps: 0, ..PretrainConfig::default().optimisation },
                head_warmup: (head_steps > 0).then_some(HeadWarmup { steps: head_steps, learning_rate: 1e-2 }),
                batch_size: 4,
                checkpoint_every: 10,
                max_length: 12,
                ..PretrainConfig::default()
            };
            pretrain(&version, &corpus, &config, Device::Cpu, checkpoint, &Progress::silent())
        };
        let mut optimizer_is_fresh = run(40, 1, None)?;
        let losses: Vec<f64> = optimizer_is_fresh.head_losses.iter().map(|point| point.loss).collect();
        assert!(losses.len() == 4 && losses.is_sorted_by(|a, b| a > b) && losses[3] < 0.9 * losses[0], "{losses:?}");
        assert!(run(0, 1, None)?.head_losses.is_empty());
        // One update later the encoder has moved by no more than one update moves it.
        let moved = (&optimizer_is_fresh.version.backbone - &version.backbone)?.norm()?;
        let once = (&run(0, 1, None)?.version.backbone - &version.backbone)?.norm()?;
        assert!(moved < 1.5 * once, "{moved}, by one update {once}");
        optimizer_is_fresh = run(40, 30, None)?;

        // Interrupted after the head's phase, it ends with the same bytes.
        let folder = tempfile::tempdir()?;
        let checkpoint = folder.path().join("checkpoint.safetensors");
        run(40, 30, Some(&checkpoint))?;
        assert!(checkpoint.exists());
        let resumed = run(40, 30, Some(&checkpoint))?;
        assert!(resumed.head_losses.is_empty());
        assert_eq!(resumed.version.fingerprint()?, optimizer_is_fresh.version.fingerprint()?);
        Ok(())
    }

    #[test]
    fn the_loss_counts_masked_tokens_and_not_what_fills_their_number_up() -> Result<()> {
        let tokenizer = Tokenizer::word_level(&["a", "b", "c", "d"])?;
        let version = Version::new(&EncoderConfig::tiny(tokenizer.vocab_size() as i64, 16, 12), &tokenizer, 1)?;
        let model = Model::masked_lm(&version, Device::Cpu)?;
        let texts = ["a b c", "d c b a b", "b a"];
        let sequences =
            (0..50).map(|row| Ok(tokenizer.encode(texts[row % 3], None, 10)?.ids)).collect::<Result<_>>()?;
        let data = MlmData::new(sequences, &tokenizer, 50, MaskingConfig::default(), 3)?;
        let objective = MaskedLm { data, device: Device::Cpu, first: 0 };
        let batch = objective.batch(0)?;
        assert!(objective.targets(&batch) % POSITIONS_MULTIPLE as usize != 0, "nothing would be filled up");
        let filled = f64::try_from(objective.loss(&model, &batch, Pass::evaluation())?)?;
        let scores = model.mlm_logits(&batch.tokens, Some(&batch.positions))?.log_softmax(-1, Kind::Float); // (m, vocabulary)
        let plain = f64::try_from(-scores.gather(1, &batch.labels.unsqueeze(1), false).sum(Kind::Double))?;
        assert!((filled - plain).abs() < 1e-5 * plain, "{filled}, by hand {plain}");
        Ok(())
    }
}
