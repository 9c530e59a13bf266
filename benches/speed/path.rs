//! The points of a path against as many plain evaluations of a model that is there.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use recyclable::prelude::*;

use super::Repeat;
use super::job::{Job, Repetition};

pub fn prepare(job: &Job) -> Result<()> {
    let world = World::new(WorldConfig::default())?;
    let (task, tokenizer) = (world.task(&job.spec.task)?.limit(800, 1, job.spec.examples, 0), world.tokenizer()?);
    let tuning = job.tuning(Optimisation { steps: 5, ..Default::default() }, Precision::Fp32);
    for (seed, name) in ["a", "b"].into_iter().enumerate() {
        let version = Version::new(&job.model_config(), &tokenizer, seed as u64)?;
        let tuned = tune(&version, &task, Start::Fresh, &tuning, Device::Cpu, &Progress::silent())?;
        version.save(job.at(name))?;
        tuned.last.save(job.at(&format!("{name}.safetensors")))?;
    }
    task.save(job.at("task"))
}

/// `way` is `path` or `evaluations`. Both hold the checkpoints of the two ends; the evaluations are of one model, which is there
/// before the clock starts, while building the models of both ends is part of a path.
pub fn repeat<'a>(job: &'a Job, way: &str, device: Device) -> Result<Repeat<'a>> {
    let is_path = match way {
        "path" => true,
        "evaluations" => false,
        _ => bail!("{way:?} is neither path nor evaluations"),
    };
    let load = |name: &str| {
        let version = job.version(name)?;
        let adapted = Adapted::load(job.at(&format!("{name}.safetensors")), &version)?;
        Ok::<_, anyhow::Error>((version, adapted))
    };
    let (a, b) = (load("a")?, load("b")?);
    let test = TaskData::new(&Task::load(job.at("task"))?.test, &a.0.tokenizer, job.spec.tokens)?;
    let plain = if is_path { None } else { Some(Tuned::new(&a.0, &a.1).model(device)?) };
    Ok(Box::new(move |points| {
        let clock = Instant::now();
        let loss = match &plain {
            None => {
                let ends = [Tuned::new(&a.0, &a.1), Tuned::new(&b.0, &b.1)];
                let path = linear_path(ends[0], ends[1], points, &[("test", &test)], device)?;
                path.scores("test")?[0].1.context("the loss of the first end is not finite")?.loss
            }
            Some(model) => {
                let loss = evaluate(model, &test)?.scores.loss;
                for _ in 1..points {
                    let again = evaluate(model, &test)?.scores.loss;
                    ensure!(again == loss, "two evaluations of one model differ: {loss} and {again}");
                }
                loss
            }
        };
        Ok(Repetition { seconds: clock.elapsed().as_secs_f64(), units: points as f64, loss })
    }))
}
