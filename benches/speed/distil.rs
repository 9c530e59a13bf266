//! Few-shot distillation: the published loss, from a tuned model of the old version into a fresh head on the new one.

use std::time::Instant;

use anyhow::Result;
use recyclable::model::Method;
use recyclable::prelude::*;
use serde_json::Value;

use super::Repeat;
use super::finetune::leave_batches;
use super::job::{CHECK_STEPS, Job, Repetition, losses, mean};

/// Updates that the teacher is tuned for: enough for its answers to say something.
const TEACHER_STEPS: usize = 50;

pub fn prepare(job: &Job) -> Result<()> {
    let world = World::new(WorldConfig::default())?;
    let (task, tokenizer) = (world.task(&job.spec.task)?, world.tokenizer()?);
    let config = job.model_config();
    let (old, new) = (Version::new(&config, &tokenizer, 0)?, Version::new(&config, &tokenizer, 1)?);
    let tuning = job.tuning(Optimisation { steps: TEACHER_STEPS, ..Default::default() }, Precision::Fp32);
    let data = task.limit(job.spec.examples, 1, 1, 0);
    let outdated = tune(&old, &data, Start::Fresh, &tuning, Device::Cpu, &Progress::silent())?.last;
    old.save(job.at("old"))?;
    new.save(job.at("model"))?;
    outdated.save(job.at("outdated.safetensors"))?;
    outdated.apply(&old, Device::Cpu)?.save(job.at("teacher"), &tokenizer)?;
    let few = task.few_shot(job.spec.shots, 0)?.limit(usize::MAX, 1, 1, 0);
    few.save(job.at("task"))?;
    let seed = TuneConfig::default().seed;
    Model::classifier(&new, &few.labels, &Method::Full, seed, Device::Cpu)?.save(job.at("classifier"), &tokenizer)
}

pub fn check(job: &Job, device: Device) -> Result<Value> {
    let (old, new) = (job.version_without_dropout("old")?, job.version_without_dropout("model")?);
    let (outdated, task) = (Adapted::load(job.at("outdated.safetensors"), &old)?, Task::load(job.at("task"))?);
    leave_batches(job, &new, &task)?;
    let upgrade = Upgrade { old: &old, outdated: &outdated, new: &new };
    let run = |steps| {
        let config = job.tuning(job.plain_adamw(steps), Precision::Fp32);
        let run = Distill::default().recycle(upgrade, &task, &config, device, &Progress::silent())?;
        Ok::<_, anyhow::Error>(run.losses)
    };
    losses(&run(1)?, &run(CHECK_STEPS)?)
}

pub fn repeat(job: &Job, precision: Precision, device: Device) -> Result<Repeat<'_>> {
    let (old, new) = (job.version("old")?, job.version("model")?);
    let (outdated, task) = (Adapted::load(job.at("outdated.safetensors"), &old)?, Task::load(job.at("task"))?);
    Ok(Box::new(move |steps| {
        let upgrade = Upgrade { old: &old, outdated: &outdated, new: &new };
        let optimisation = Optimisation { steps, learning_rate: job.spec.learning_rate, ..Default::default() };
        let config = job.tuning(optimisation, precision);
        // The whole call: reading the texts and asking the teacher are part of the work.
        let clock = Instant::now();
        let run = Distill::default().recycle(upgrade, &task, &config, device, &Progress::silent())?;
        Ok(Repetition { seconds: clock.elapsed().as_secs_f64(), units: steps as f64, loss: mean(&run.losses) })
    }))
}
