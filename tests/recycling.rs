//! What tuning and recycling leave behind, and what becomes of it at the next upgrade.

mod small;

use anyhow::{Context, Result};
use recyclable::display::Progress;
use recyclable::model::{Adapted, AdapterConfig, LoraConfig, Method, Model, Version};
use recyclable::params::Theta;
use recyclable::recycle::{Combined, Distill, DistillConfig, Init, Interpolation, Recycle, Upgrade};
use recyclable::text::{TaskData, Text};
use recyclable::train::{Start, TuneConfig, TuneRun, evaluate, tune};
use small::{LENGTH, task, tuning, version};
use tch::Device;

const CPU: Device = Device::Cpu;

fn methods() -> [Method; 3] {
    [Method::Full, Method::Adapter(AdapterConfig::default()), Method::Lora(LoraConfig::default())]
}

fn run(base: &Version, start: Start, config: &TuneConfig) -> Result<TuneRun> {
    tune(base, &task(&["high", "low"]), start, config, CPU, &Progress::silent())
}

/// The head and modules that a run with this configuration starts from.
fn fresh(base: &Version, config: &TuneConfig) -> Result<Model> {
    Model::classifier(base, &["high".into(), "low".into()], &config.method, config.seed, CPU)
}

fn differ(one: &Theta, other: &Theta) -> Result<bool> {
    Ok(one.fingerprint()? != other.fingerprint()?)
}

#[test]
fn the_best_weights_are_those_of_the_first_highest_dev_score_and_the_last_those_of_the_end() -> Result<()> {
    let base = version(1)?;
    for method in methods() {
        let mut config = tuning(method, 12);
        config.eval_at = vec![1, 2, 3];
        let run = run(&base, Start::Fresh, &config)?;
        assert_eq!(run.curve.iter().map(|point| point.step).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 8, 12]);
        let top = run.curve.iter().map(|point| point.dev.accuracy).fold(0.0, f64::max);
        let first = run.curve.iter().find(|point| point.dev.accuracy == top).context("no point")?;
        assert_eq!(run.best_step, first.step);
        // Applied again, each gives the scores that the curve has.
        let dev = TaskData::new(&task(&["high", "low"]).dev, &base.tokenizer, LENGTH)?;
        for (adapted, point) in [(&run.best, first), (&run.last, run.curve.last().context("no point")?)] {
            let scores = evaluate(&adapted.apply(&base, CPU)?, &dev)?.scores;
            assert_eq!(scores.accuracy, point.dev.accuracy);
            assert!((scores.loss - point.dev.loss).abs() < 1e-5, "{} {}", scores.loss, point.dev.loss);
            assert_eq!(adapted.card.scores["dev_accuracy"], scores.accuracy);
        }
    }
    Ok(())
}

#[test]
fn the_head_is_trained_whatever_the_method_and_the_frozen_backbone_is_not() -> Result<()> {
    let base = version(1)?;
    for method in methods() {
        let config = tuning(method, 6);
        let (start, last) = (fresh(&base, &config)?, run(&base, Start::Fresh, &config)?.last);
        for name in ["classifier.dense.weight", "classifier.out_proj.weight", "classifier.out_proj.bias"] {
            assert!(last.head.get(name)? != start.head().get(name)?, "{name} did not move");
        }
        assert_eq!(last.backbone.is_some(), config.method == Method::Full);
        assert_eq!(last.modules.is_some(), config.method != Method::Full);
        if let (Some(modules), Some(before)) = (&last.modules, start.modules()) {
            assert!(differ(modules, before)?);
            let applied = last.apply(&base, CPU)?;
            assert!(!differ(applied.backbone(), &base.backbone)?, "the backbone under modules is that of the base");
        }
    }
    Ok(())
}

#[test]
fn a_name_pattern_chooses_what_moves() -> Result<()> {
    let base = version(1)?;
    let mut config = tuning(Method::Matching(r"attention.*\.bias$".into()), 6);
    config.optimisation.weight_decay = 0.1;
    let delta = run(&base, Start::Fresh, &config)?.last.backbone.context("no delta")?;
    for entry in delta.layout().entries() {
        let moved = f64::try_from(delta.get(&entry.name)?.abs().max())? > 0.0;
        let chosen = entry.name.contains("attention") && entry.name.ends_with(".bias");
        // The key's bias shifts all scores of a query alike: its gradient is zero but for rounding.
        assert!(moved == chosen || entry.name.ends_with("key.bias"), "{} moved: {moved}", entry.name);
    }
    Ok(())
}

#[test]
fn recycled_weights_start_where_the_sum_is_and_their_head_comes_along() -> Result<()> {
    let (old, new) = (version(1)?, version(2)?);
    for method in methods() {
        let config = tuning(method, 8);
        let outdated = run(&old, Start::Fresh, &config)?.last;
        let upgrade = Upgrade { old: &old, outdated: &outdated, new: &new };
        let task = task(&["high", "low"]);
        let recycled = Init.recycle(upgrade, &task, &config, CPU, &Progress::silent())?;
        let dev = TaskData::new(&task.dev, &new.tokenizer, LENGTH)?;
        let untouched = evaluate(&outdated.apply(&new, CPU)?, &dev)?.scores;
        assert_eq!(recycled.curve[0].dev, untouched, "step 0 is M_1 ⊕ Δ_0, head included");
    }
    Ok(())
}

#[test]
fn another_label_set_gets_a_fresh_head_on_recycled_weights() -> Result<()> {
    let (old, new) = (version(1)?, version(2)?);
    for method in methods() {
        let config = tuning(method, 8);
        let outdated = run(&old, Start::Fresh, &config)?.last;
        let other = task(&["a", "b", "c"]);
        let mut still = config.clone();
        still.optimisation.learning_rate = 1e-30;
        let start = tune(&new, &other, Start::Recycled(&outdated), &still, CPU, &Progress::silent())?.last;
        let head = Model::classifier(&new, &other.labels, &config.method, config.seed, CPU)?;
        assert_eq!(start.card.labels, ["a", "b", "c"]);
        assert!((&start.head - head.head())?.norm()? < 1e-20, "the head is that of a fresh classifier");
        match (&start.modules, &outdated.modules) {
            (Some(modules), Some(before)) => assert!((modules - before)?.norm()? < 1e-20),
            _ => {
                let (kept, delta) = (start.backbone.context("no delta")?, outdated.backbone.context("no delta")?);
                assert!((&kept - &delta)?.norm()? < 1e-4 * delta.norm()?, "the backbone is M_1 ⊕ Δ_0");
            }
        }
    }
    Ok(())
}

#[test]
fn recycled_weights_can_be_saved_loaded_and_recycled_a_second_time() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (m0, m1, m2) = (version(1)?, version(2)?, version(3)?);
    let task = task(&["high", "low"]);
    for method in methods() {
        let config = tuning(method, 6);
        let first = run(&m0, Start::Fresh, &config)?.best;
        let ways: [&dyn Recycle; 3] = [&Init, &Distill::default(), &Combined::default()];
        for (at, way) in ways.iter().enumerate() {
            let path = folder.path().join(format!("{}-{at}.safetensors", config.method.name()));
            let upgrade = Upgrade { old: &m0, outdated: &first, new: &m1 };
            way.recycle(upgrade, &task, &config, CPU, &Progress::silent())?.last.save(&path)?;
            let second = Adapted::load(&path, &m1)?;
            assert_eq!(second.card.base, m1.fingerprint()?);
            let upgrade = Upgrade { old: &m1, outdated: &second, new: &m2 };
            let third = way.recycle(upgrade, &task, &config, CPU, &Progress::silent())?;
            assert_eq!(third.last.card.base, m2.fingerprint()?);
            assert!(third.losses.iter().all(|point| point.loss.is_finite()));
            // Distillation starts afresh, so its students descend from no older weights.
            let ancestry = if at == 1 { vec![] } else { vec![m0.fingerprint()?, m1.fingerprint()?] };
            assert_eq!(third.last.card.ancestry, ancestry, "{}", way.name());
        }
    }
    Ok(())
}

#[test]
fn both_halves_of_an_unlabelled_pair_are_asked_about() -> Result<()> {
    let (old, new, task) = (version(1)?, version(2)?, task(&["high", "low"]));
    let config = tuning(Method::Full, 4);
    let outdated = run(&old, Start::Fresh, &config)?.best;
    let upgrade = Upgrade { old: &old, outdated: &outdated, new: &new };
    let student = |unlabelled: Vec<Text>| -> Result<Theta> {
        let distill = Distill { unlabelled, ..Distill::default() };
        Ok(distill.recycle(upgrade, &task, &config, CPU, &Progress::silent())?.last.head)
    };
    let halves = |second: Option<&str>| -> Vec<Text> {
        (0..8).map(|row| Text { text_pair: second.map(str::to_string), ..Text::from(format!("w{row}")) }).collect()
    };
    assert!(!differ(&student(halves(Some("w3 w4")))?, &student(halves(Some("w3 w4")))?)?);
    assert!(differ(&student(halves(Some("w3 w4")))?, &student(halves(None))?)?);
    assert!(differ(&student(halves(Some("w3 w4")))?, &student(halves(Some("w13 w14")))?)?);
    Ok(())
}

#[test]
fn interpolation_distils_for_every_method_repeats_to_the_bit_and_needs_a_teacher_of_the_same_method() -> Result<()> {
    let (old, new) = (version(1)?, version(2)?);
    let task = task(&["high", "low"]);
    let inner = Interpolation { points: vec![0.5], draws: 2, ..Interpolation::default() };
    let distill = |interpolation| Distill {
        distill: DistillConfig { interpolation, ..DistillConfig::default() },
        unlabelled: Vec::new(),
    };
    for method in methods() {
        let config = tuning(method, 6);
        let outdated = run(&old, Start::Fresh, &config)?.best;
        let upgrade = Upgrade { old: &old, outdated: &outdated, new: &new };
        let student = |interpolation| -> Result<Adapted> {
            Ok(distill(interpolation).recycle(upgrade, &task, &config, CPU, &Progress::silent())?.last)
        };
        let (once, twice, without) = (student(Some(inner.clone()))?, student(Some(inner.clone()))?, student(None)?);
        let print = |adapted: &Adapted| adapted.head.fingerprint();
        assert_eq!(print(&once)?, print(&twice)?, "the same seed gives the same bytes");
        assert_ne!(print(&once)?, print(&without)?, "the points between are learnt from");
        assert!(once.card.recipe.to_string().contains("interpolation"), "the recipe says so");
    }
    let full = run(&old, Start::Fresh, &tuning(Method::Full, 2))?.best;
    let upgrade = Upgrade { old: &old, outdated: &full, new: &new };
    let adapters = tuning(Method::Adapter(AdapterConfig::default()), 2);
    let refused = distill(Some(inner)).recycle(upgrade, &task, &adapters, CPU, &Progress::silent());
    small::says(&small::refused(refused), &["interpolation needs a teacher tuned by the student's method"]);
    Ok(())
}
