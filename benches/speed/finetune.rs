//! Full fine-tuning on a task's folder, without evaluation.

use anyhow::Result;
use recyclable::model::Method;
use recyclable::prelude::*;
use serde_json::{Value, json};

use super::Repeat;
use super::job::{CHECK_STEPS, Job, Repetition, losses, mean, numbers, tokens};

pub fn prepare(job: &Job) -> Result<()> {
    // Dev and test play no role: one example each, so that looking at dev takes no time.
    let task = Task::load(&job.spec.task)?.limit(job.spec.examples, 1, 1, 0);
    let tokenizer = Tokenizer::train_bpe(task.train.iter().map(|one| one.text.as_str()), job.spec.vocabulary as usize)?;
    let version = Version::new(&job.model_config(), &tokenizer, 0)?;
    version.save(job.at("model"))?;
    task.save(job.at("task"))?;
    // The classifier that `tune` starts from, with its fresh head.
    let seed = TuneConfig::default().seed;
    Model::classifier(&version, &task.labels, &Method::Full, seed, Device::Cpu)?.save(job.at("classifier"), &tokenizer)
}

pub fn check(job: &Job, device: Device) -> Result<Value> {
    let (version, task) = (job.version_without_dropout("model")?, Task::load(job.at("task"))?);
    leave_batches(job, &version, &task)?;
    let run = |steps| {
        let config = job.tuning(job.plain_adamw(steps), Precision::Fp32);
        Ok::<_, anyhow::Error>(tune(&version, &task, Start::Fresh, &config, device, &Progress::silent())?.losses)
    };
    losses(&run(1)?, &run(CHECK_STEPS)?)
}

/// Leaves what `tune` reads: a batch is a function of step, size and seed.
pub fn leave_batches(job: &Job, version: &Version, task: &Task) -> Result<()> {
    let data = TaskData::new(&task.train, &version.tokenizer, job.spec.tokens)?;
    let batch = |step| {
        let batch = data.batch(step, job.spec.batch, TuneConfig::default().seed)?;
        Ok(json!({"tokens": tokens(&batch.tokens)?, "labels": numbers(&batch.labels)?}))
    };
    job.leave_batches(&(0..CHECK_STEPS).map(batch).collect::<Result<Vec<_>>>()?)
}

pub fn repeat(job: &Job, precision: Precision, device: Device) -> Result<Repeat<'_>> {
    let (version, task) = (job.version("model")?, Task::load(job.at("task"))?);
    Ok(Box::new(move |steps| {
        // As transformers' Trainer moves by default: no decay, a linear schedule, clipping at 1.
        let optimisation = Optimisation { steps, learning_rate: job.spec.learning_rate, ..Default::default() };
        let config = job.tuning(optimisation, precision);
        let run = tune(&version, &task, Start::Fresh, &config, device, &Progress::silent())?;
        Ok(Repetition { seconds: run.seconds, units: (steps * job.spec.batch) as f64, loss: mean(&run.losses) })
    }))
}
