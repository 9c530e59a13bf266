//! A path of 26 points against 26 plain evaluations of the same models: `cargo bench --profile dev --bench path`
//! (the one profile of this crate, so that libtorch's bindings are not built a second time).
//!
//! Medians of alternating rounds on one thread. The path writes every point into one spare set of parameters; a plain evaluation
//! takes a model that is there.

use std::time::Instant;

use anyhow::Result;
use recyclable::analysis::{DEFAULT_POINTS, Tuned, linear_path};
use recyclable::experiment::report::peak_rss_mb;
use recyclable::prelude::*;

const ROUNDS: usize = 7;

fn main() -> Result<()> {
    tch::set_num_threads(1);
    let (cpu, quiet) = (Device::Cpu, Progress::silent());
    let world = World::new(WorldConfig::default())?;
    let tokenizer = world.tokenizer()?;
    let config = RobertaConfig::tiny(tokenizer.vocab_size() as i64, 128, 32);
    let task = world.task("bio_topic")?.limit(800, 200, 400, 0);
    let mut tuning = TuneConfig { max_length: 32, ..Default::default() };
    tuning.optimisation.steps = 5;
    let versions = [Version::new(&config, &tokenizer, 0)?, Version::new(&config, &tokenizer, 1)?];
    let tuned = |version| Ok::<_, anyhow::Error>(tune(version, &task, Start::Fresh, &tuning, cpu, &quiet)?.last);
    let weights = [tuned(&versions[0])?, tuned(&versions[1])?];
    let ends = [Tuned::new(&versions[0], &weights[0]), Tuned::new(&versions[1], &weights[1])];
    let model = ends[0].model(cpu)?;
    let test = TaskData::new(&task.test, &tokenizer, 32)?;
    let (mut paths, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let clock = Instant::now();
        linear_path(ends[0], ends[1], DEFAULT_POINTS, &[("test", &test)], cpu)?;
        paths.push(clock.elapsed().as_secs_f64());
        let clock = Instant::now();
        for _ in 0..DEFAULT_POINTS {
            evaluate(&model, &test)?;
        }
        plain.push(clock.elapsed().as_secs_f64());
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (path, evaluations) = (median(&mut paths), median(&mut plain));
    println!(
        "path of {DEFAULT_POINTS} points {path:.3} s, {DEFAULT_POINTS} evaluations {evaluations:.3} s: ratio {:.3} (median of {ROUNDS} \
         rounds; one model has {} parameters; peak memory {:.0} MB)",
        path / evaluations,
        model.backbone().num_parameters() + model.head().num_parameters(),
        peak_rss_mb().unwrap_or(f64::NAN)
    );
    Ok(())
}
