//! Masked-LM pre-training on made-up words, every sequence full.

use anyhow::{Context, Result};
use rand_distr::{Distribution, Zipf};
use recyclable::prelude::*;
use recyclable::seed;
use recyclable::text::{MlmData, Sequences};
use serde_json::{Value, json};

use super::Repeat;
use super::job::{CHECK_STEPS, Job, Repetition, losses, numbers, tokens};

const SPECIALS: i64 = 5;

pub fn prepare(job: &Job) -> Result<()> {
    let words: Vec<String> = (0..job.spec.vocabulary - SPECIALS).map(|word| format!("w{word}")).collect();
    let tokenizer = Tokenizer::word_level(&words)?;
    let mut rng = seed::rng(0, "bench-corpus", 0);
    let zipf = Zipf::new(words.len() as f64, 1.0).context("no distribution of words")?;
    // Packed, a document becomes one full sequence: <s>, its words, </s>.
    let document = |_| {
        let words = (2..job.spec.tokens).map(|_| words[zipf.sample(&mut rng) as usize - 1].as_str());
        words.collect::<Vec<_>>().join(" ")
    };
    let corpus = Corpus::new("corpus", (0..job.spec.examples).map(document).collect())?;
    corpus.save(job.at("corpus.txt"))?;
    Version::new(&job.model_config(), &tokenizer, 0)?.save(job.at("model"))
}

fn config(job: &Job, optimisation: Optimisation, precision: Precision) -> PretrainConfig {
    PretrainConfig {
        optimisation,
        batch_size: job.spec.batch,
        max_length: job.spec.tokens,
        packing: true,
        precision,
        ..Default::default()
    }
}

pub fn check(job: &Job, device: Device) -> Result<Value> {
    let version = job.version_without_dropout("model")?;
    let corpus = Corpus::load(job.at("corpus.txt"))?;
    let config = |steps| config(job, job.plain_adamw(steps), Precision::Fp32);
    let run =
        |steps| Ok::<_, anyhow::Error>(pretrain(&version, &corpus, &config(steps), device, None, &quiet())?.losses);
    // What `pretrain` reads: a batch is a function of seed and step.
    let (masking, seed) = (config(1).masking, config(1).seed);
    let sequences = Sequences::packed(&corpus, &version.tokenizer, job.spec.tokens)?;
    let data = MlmData::new(sequences.ids, &version.tokenizer, job.spec.batch, masking, seed)?;
    let batch = |step| {
        let batch = data.batch(step)?;
        Ok(json!({
            "tokens": tokens(&batch.tokens)?,
            "positions": numbers(&batch.positions)?,
            "labels": numbers(&batch.labels)?,
        }))
    };
    job.leave_batches(&(0..CHECK_STEPS).map(batch).collect::<Result<Vec<_>>>()?)?;
    losses(&run(1)?, &run(CHECK_STEPS)?)
}

pub fn repeat(job: &Job, precision: Precision, device: Device) -> Result<Repeat<'_>> {
    let (version, corpus) = (job.version("model")?, Corpus::load(job.at("corpus.txt"))?);
    Ok(Box::new(move |steps| {
        // As torch.optim.AdamW moves by default, without clipping.
        let optimisation = Optimisation { weight_decay: 0.01, ..job.plain_adamw(steps) };
        let run = pretrain(&version, &corpus, &config(job, optimisation, precision), device, None, &quiet())?;
        let units = (steps * job.spec.batch * job.spec.tokens) as f64;
        // The speed until the last update was read back: what comes then copies the version to the CPU.
        Ok(Repetition { seconds: units / run.tokens_per_second, units, loss: super::job::mean(&run.losses) })
    }))
}

fn quiet() -> Progress {
    Progress::silent()
}
