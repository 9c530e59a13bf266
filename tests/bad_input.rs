//! Bad input gets an error that names the place and the remedy, and nothing is lost.

mod small;

use std::path::Path;

use anyhow::{Context, Result};
use recyclable::analysis::{CurveConfig, PlaneConfig, Route, Tuned, plane, train_curve};
use recyclable::display::Progress;
use recyclable::lineage::{Lineage, VersionRecord};
use recyclable::model::{Adapted, AdapterConfig, EncoderConfig, Method, Version};
use recyclable::params::Theta;
use recyclable::recycle::{Combined, Distill, Init, Recycle, Upgrade};
use recyclable::text::{Corpus, TaskData, Tokenizer};
use recyclable::train::{
    LossNotFinite, PretrainConfig, Start, TuneConfig, TuningStopped, evaluate, held_out_loss, pretrain, tune,
};
use serde_json::{Value, json};
use small::{LENGTH, corpus, pretraining, refused, says, task, tokenizer, tuning, version};
use tch::{Device, Kind, Tensor};

const CPU: Device = Device::Cpu;

fn saved(folder: &Path) -> Result<Version> {
    let version = version(1)?;
    version.save(folder)?;
    Ok(version)
}

fn truncate(path: &Path, share: f64) -> Result<()> {
    let bytes = std::fs::read(path)?;
    Ok(std::fs::write(path, &bytes[..(bytes.len() as f64 * share) as usize])?)
}

fn edit_config(folder: &Path, field: &str, value: Value) -> Result<()> {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    config[field] = value;
    Ok(std::fs::write(path, config.to_string())?)
}

fn tuned(base: &Version, method: Method) -> Result<Adapted> {
    Ok(tune(base, &task(&["high", "low"]), Start::Fresh, &tuning(method, 4), CPU, &Progress::silent())?.last)
}

fn pretrained(base: &Version, config: &PretrainConfig, checkpoint: Option<&Path>) -> Result<Version> {
    Ok(pretrain(base, &corpus()?, config, CPU, checkpoint, &Progress::silent())?.version)
}

#[test]
fn a_version_with_a_missing_file_is_refused_by_that_files_name() -> Result<()> {
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        let folder = tempfile::tempdir()?;
        saved(folder.path())?;
        std::fs::remove_file(folder.path().join(file))?;
        says(&refused(Version::load(folder.path())), &[file]);
    }
    says(&refused(Version::load("/no/such/model")), &["/no/such/model"]);
    Ok(())
}

#[test]
fn a_version_with_a_truncated_file_is_refused_by_that_files_name() -> Result<()> {
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        for share in [0.0, 0.01, 0.7] {
            let folder = tempfile::tempdir()?;
            saved(folder.path())?;
            truncate(&folder.path().join(file), share)?;
            says(&refused(Version::load(folder.path())), &[file]);
        }
    }
    Ok(())
}

#[test]
fn truncated_adapted_weights_are_refused_and_another_tensor_file_is_not_taken_for_them() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let base = saved(folder.path())?;
    let path = folder.path().join("weights.safetensors");
    tuned(&base, Method::Full)?.save(&path)?;
    truncate(&path, 0.9)?;
    says(&refused(Adapted::load(&path, &base)), &["weights.safetensors", "truncated"]);
    says(&refused(Adapted::load(folder.path().join("model.safetensors"), &base)), &["model.safetensors", "no card"]);
    says(&refused(Adapted::load(folder.path().join("nothing"), &base)), &["nothing"]);
    Ok(())
}

#[test]
fn a_tensor_of_another_shape_or_dtype_is_named_with_both() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let version = saved(folder.path())?;
    edit_config(folder.path(), "intermediate_size", json!(20))?;
    let error = refused(Version::load(folder.path()));
    says(&error, &["model.safetensors", "layer.0.intermediate.dense.weight", "[64, 16]", "[20, 16]"]);

    version.save(folder.path())?;
    let path = folder.path().join("model.safetensors");
    let mut tensors: Vec<(String, Tensor)> = recyclable::params::read_safetensors(&path)?.tensors.into_iter().collect();
    for (name, tensor) in &mut tensors {
        if name == "lm_head.dense.bias" {
            *tensor = tensor.to_kind(Kind::Int64);
        }
    }
    Tensor::write_safetensors(&tensors, &path)?;
    says(&refused(Version::load(folder.path())), &["masked-LM head", "lm_head.dense.bias", "I64", "float32"]);
    Ok(())
}

#[test]
fn a_label_the_model_does_not_know_is_refused_when_evaluating() -> Result<()> {
    let base = version(1)?;
    let model = tuned(&base, Method::Full)?.apply(&base, CPU)?;
    let three = task(&["a", "b", "c"]);
    let data = TaskData::new(&three.test, &base.tokenizer, LENGTH)?;
    says(&refused(evaluate(&model, &data)), &["labelled 2", "2 classes", "high", "low"]);
    Ok(())
}

#[test]
fn a_task_of_one_class_or_without_examples_is_refused() -> Result<()> {
    let base = version(1)?;
    let start = |task| refused(tune(&base, &task, Start::Fresh, &tuning(Method::Full, 2), CPU, &Progress::silent()));
    says(&start(task(&["only"])), &["two labels", "only"]);
    let mut empty = task(&["a", "b"]);
    empty.dev.clear();
    says(&start(empty), &["no examples", "dev split of halves"]);
    Ok(())
}

#[test]
fn an_empty_corpus_is_refused() -> Result<()> {
    let base = version(1)?;
    let empty = Corpus { name: "hollow".to_string(), documents: Vec::new() };
    let run = pretrain(&base, &empty, &pretraining(2), CPU, None, &Progress::silent());
    says(&refused(run), &["no text"]);
    says(&refused(held_out_loss(&base, &empty, &pretraining(2), CPU)), &["no text"]);
    Ok(())
}

#[test]
fn distilling_into_another_label_set_is_refused_and_initialization_offered() -> Result<()> {
    let (old, new) = (version(1)?, version(2)?);
    let outdated = tuned(&old, Method::Full)?;
    let (upgrade, other) = (Upgrade { old: &old, outdated: &outdated, new: &new }, task(&["a", "b", "c"]));
    let recycle = |by: &dyn Recycle| by.recycle(upgrade, &other, &tuning(Method::Full, 2), CPU, &Progress::silent());
    for by in [&Distill::default() as &dyn Recycle, &Combined::default()] {
        says(&refused(recycle(by)), &["high", "\"c\"", "same label set", "initialization does not"]);
    }
    assert_eq!(recycle(&Init)?.last.card.labels, ["a", "b", "c"]);
    Ok(())
}

#[test]
fn weights_of_another_layout_or_method_are_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (base, path) = (version(1)?, folder.path().join("weights.safetensors"));
    let wide = EncoderConfig::tiny(base.config.vocab_size, 24, LENGTH as i64);
    let stranger = Version::new(&wide, &tokenizer()?, 1)?;
    for method in [Method::Full, Method::Adapter(AdapterConfig::default())] {
        let adapted = tuned(&base, method)?;
        says(&refused(adapted.apply(&stranger, CPU)), &["another architecture or vocabulary", "same family"]);
        adapted.save(&path)?;
        says(&refused(Adapted::load(&path, &stranger)), &["weights.safetensors"]);
    }
    let mut words = small::words();
    words.reverse();
    let renamed = Version { tokenizer: Tokenizer::word_level(&words)?, ..base.try_clone()? };
    let adapted = tuned(&base, Method::Full)?;
    says(&refused(adapted.apply(&renamed, CPU)), &["another tokenizer", "mean other words"]);
    let upgrade = Upgrade { old: &base, outdated: &adapted, new: &renamed };
    let distilled = Distill::default().recycle(
        upgrade,
        &task(&["high", "low"]),
        &tuning(Method::Full, 2),
        CPU,
        &Progress::silent(),
    );
    says(&refused(distilled), &["different tokenizers"]);
    let start = |adapted: &Adapted, config: &TuneConfig| {
        refused(tune(&base, &task(&["high", "low"]), Start::Recycled(adapted), config, CPU, &Progress::silent()))
    };
    let full = tuned(&base, Method::Full)?;
    says(&start(&full, &tuning(Method::Adapter(AdapterConfig::default()), 2)), &["Full", "must agree"]);
    Ok(())
}

#[test]
fn a_tokenizer_larger_than_the_vocabulary_or_with_another_padding_is_refused() -> Result<()> {
    let small = EncoderConfig { vocab_size: 24, ..small::config()? };
    says(&refused(Version::new(&small, &tokenizer()?, 1)), &["25 tokens", "vocabulary of 24"]);
    let folder = tempfile::tempdir()?;
    saved(folder.path())?;
    edit_config(folder.path(), "pad_token_id", json!(2))?;
    says(&refused(Version::load(folder.path())), &["token 1", "pad_token_id 2"]);
    Ok(())
}

#[test]
fn a_length_beyond_the_positions_is_refused_before_any_work() -> Result<()> {
    let base = version(1)?;
    let long = PretrainConfig { max_length: LENGTH + 1, ..pretraining(2) };
    says(&refused(pretrained(&base, &long, None)), &["13 exceeds the model's 12 positions", "lower it to 12"]);
    says(&refused(held_out_loss(&base, &corpus()?, &long, CPU)), &["12 positions"]);
    let long = TuneConfig { max_length: LENGTH + 1, ..tuning(Method::Full, 2) };
    let run = tune(&base, &task(&["a", "b"]), Start::Fresh, &long, CPU, &Progress::silent());
    says(&refused(run), &["12 positions", "lower it to 12"]);
    let model = tuned(&base, Method::Full)?.apply(&base, CPU)?;
    let batch = recyclable::text::TokenBatch::new(&[vec![5_i64; LENGTH + 1]], 1)?;
    says(&refused(model.logits(&batch)), &["13 tokens", "12 positions", "truncate"]);
    Ok(())
}

/// The version with one number that is none.
fn poisoned(version: &Version) -> Result<Version> {
    let mut poisoned = version.try_clone()?;
    let name = "roberta.embeddings.LayerNorm.weight";
    let weight = poisoned.backbone.get(name)?;
    let _ = weight.f_select(0, 3)?.f_fill_(f64::NAN)?;
    poisoned.backbone.set(name, &weight)?;
    Ok(poisoned)
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_names_the_step() -> Result<()> {
    let bad = poisoned(&version(1)?)?;
    let error = pretrained(&bad, &pretraining(30), None).err().context("it was not refused")?;
    assert_eq!(error.downcast_ref::<LossNotFinite>().context("another error")?.step, 1);
    says(&format!("{error:#}"), &["step 1", "lower learning rate"]);
    let run = tune(&bad, &task(&["a", "b"]), Start::Fresh, &tuning(Method::Full, 30), CPU, &Progress::silent());
    says(&refused(run), &["tuning on halves", "step 1"]);
    Ok(())
}

#[test]
fn tuning_that_diverges_hands_over_its_best_weights_and_names_the_step() -> Result<()> {
    let (base, task) = (version(1)?, task(&["high", "low"]));
    let mut wild = tuning(Method::Full, 60);
    (wild.optimisation.learning_rate, wild.optimisation.clip_norm, wild.eval_every) = (1e30, 0.0, 1);
    let error =
        tune(&base, &task, Start::Fresh, &wild, CPU, &Progress::silent()).err().context("it was not refused")?;
    assert!(error.downcast_ref::<LossNotFinite>().context("another cause")?.step > 1);
    let stopped = error.downcast_ref::<TuningStopped>().context("no weights come along")?;
    let (best, step) = (stopped.take_best().context("no weights")?, stopped.best_step.context("no step")?);
    says(&format!("{error:#}"), &["tuning on halves stopped", &format!("after {step} updates"), "finite at step"]);
    let dev = evaluate(&best.apply(&base, CPU)?, &TaskData::new(&task.dev, &base.tokenizer, LENGTH)?)?.scores;
    assert!(dev.loss.is_finite() && best.head.is_finite()?);
    assert_eq!(best.card.scores["dev_accuracy"], dev.accuracy);
    assert!(stopped.take_best().is_none());
    Ok(())
}

#[test]
fn divergence_in_mid_run_keeps_the_last_good_checkpoint_and_its_error_says_where() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let checkpoint = folder.path().join("checkpoint");
    let (wild, mut errors) = (wild(), Vec::new());
    // The second attempt takes the good checkpoint up, and stops where the first one did.
    for attempt in 0..2 {
        let error = refused(pretrained(&version(1)?, &wild, Some(&checkpoint)));
        says(&error, &["last good checkpoint is", "checkpoint", "lower learning rate", "up to step"]);
        let file = recyclable::params::read_safetensors(&checkpoint)?;
        let cursor: Value = serde_json::from_str(&file.metadata["recyclable-checkpoint"])?;
        let kept = Theta::from_named(file.tensors.into_iter().collect::<Vec<_>>())?;
        assert!(kept.is_finite()?, "attempt {attempt}: the checkpoint kept is not good");
        let good = cursor["step"].as_u64().context("no step")?;
        assert!(good > 0 && !error.contains(&format!("up to step {good}:")), "{good}: {error}");
        errors.push(error);
    }
    assert_eq!(errors[0], errors[1]);
    Ok(())
}

#[test]
fn a_crash_before_the_version_is_stored_loses_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let lineage = Lineage::open(folder.path())?;
    let (base, checkpoint) = (version(1)?, lineage.checkpoint_path("M_0"));
    let first = pretrained(&base, &pretraining(25), Some(&checkpoint))?;
    let cursor = recyclable::params::read_safetensors(&checkpoint)?.metadata["recyclable-checkpoint"].clone();
    assert_eq!(serde_json::from_str::<Value>(&cursor)?["step"], 20, "the last checkpoint is still there");
    // The version is gone with the process that held it; the same command goes on from the checkpoint.
    let again = pretrained(&base, &pretraining(25), Some(&checkpoint))?;
    assert_eq!(again.fingerprint()?, first.fingerprint()?);
    // What an interruption has left half proven goes as well.
    std::fs::write(checkpoint.with_file_name("checkpoint.safetensors.unproven"), "half")?;
    lineage.save_version("M_0", &again, VersionRecord::default())?;
    let left: Vec<_> = std::fs::read_dir(lineage.folder("M_0"))?.collect::<std::io::Result<_>>()?;
    assert!(left.iter().all(|entry| !entry.file_name().to_string_lossy().contains("checkpoint")), "{left:?}");
    Ok(())
}

/// The learning rate rises with every step until it is absurd: some time after the first checkpoints.
fn wild() -> PretrainConfig {
    let mut wild = pretraining(200);
    (wild.optimisation.learning_rate, wild.optimisation.warmup_steps) = (1e4, 200);
    wild
}

#[test]
fn a_checkpoint_that_is_broken_or_of_another_run_is_refused_and_left_alone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let checkpoint = folder.path().join("checkpoint");
    let wild = wild();
    refused(pretrained(&version(1)?, &wild, Some(&checkpoint)));
    let before = std::fs::read(&checkpoint)?;

    let other = PretrainConfig { seed: 9, ..wild.clone() };
    says(&refused(pretrained(&version(1)?, &other, Some(&checkpoint))), &["checkpoint", "other settings", "delete it"]);
    says(&refused(pretrained(&version(2)?, &wild, Some(&checkpoint))), &["other settings"]);
    assert!(std::fs::read(&checkpoint)? == before, "a refused checkpoint was touched");
    truncate(&checkpoint, 0.5)?;
    says(&refused(pretrained(&version(1)?, &wild, Some(&checkpoint))), &["checkpoint", "truncated"]);
    assert_eq!(std::fs::metadata(&checkpoint)?.len() as usize, before.len() / 2);
    Ok(())
}

#[test]
fn a_place_that_cannot_be_written_to_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("file");
    std::fs::write(&file, "not a folder")?;
    let base = version(1)?;
    let inside = file.join("model");
    says(&refused(base.save(&inside)), &["cannot write", &inside.display().to_string(), "writable"]);
    let adapted = tuned(&base, Method::Full)?;
    says(&refused(adapted.save(inside.join("weights"))), &["cannot write", "weights"]);
    says(&refused(pretrained(&base, &pretraining(25), Some(&inside))), &["model.unproven", "writable"]);
    says(&refused(corpus()?.save(inside.join("corpus.txt"))), &["corpus.txt"]);
    says(&refused(task(&["a", "b"]).save(&inside)), &["train.jsonl"]);
    assert_eq!(std::fs::read_to_string(&file)?, "not a folder");
    Ok(())
}

#[test]
fn configurations_that_contradict_themselves_are_refused_by_field() -> Result<()> {
    let base = version(1)?;
    let tune = |change: fn(&mut TuneConfig)| {
        let mut config = tuning(Method::Full, 2);
        change(&mut config);
        refused(tune(&base, &task(&["a", "b"]), Start::Fresh, &config, CPU, &Progress::silent()))
    };
    says(&tune(|c| c.optimisation.steps = 0), &["steps is 0"]);
    says(&tune(|c| c.optimisation.learning_rate = f64::NAN), &["learning_rate"]);
    says(&tune(|c| c.optimisation.warmup_steps = 3), &["warmup_steps 3"]);
    says(&tune(|c| c.batch_size = 0), &["batch_size"]);
    says(&tune(|c| c.eval_every = 0), &["eval_every"]);
    says(&tune(|c| c.max_length = 2), &["max_length 2"]);
    says(&tune(|c| c.method = Method::Matching("(".into())), &["regular expression"]);
    says(&tune(|c| c.method = Method::Matching("nothing_like_it".into())), &["nothing_like_it"]);
    let unknown = serde_json::from_value::<TuneConfig>(json!({"learning_rate": 1e-3}));
    says(&refused(unknown.map_err(Into::into)), &["unknown field", "learning_rate"]);
    Ok(())
}

#[test]
fn curves_and_planes_that_cannot_be_are_refused_by_field() -> Result<()> {
    let base = version(1)?;
    let adapted = tuned(&base, Method::Full)?;
    let end = Tuned::new(&base, &adapted);
    let texts = TaskData::new(&task(&["a", "b"]).train, &tokenizer()?, LENGTH)?;
    let curve = |change: fn(&mut CurveConfig)| {
        let mut config = CurveConfig::default();
        change(&mut config);
        refused(train_curve(end, end, &texts, &config, CPU, &Progress::silent()))
    };
    says(&curve(|c| c.route = Route::Line), &["straight line", "Bezier or Chain"]);
    says(&curve(|c| c.batch_size = 0), &["batch_size is 0"]);
    says(&curve(|c| c.optimisation.learning_rate = -1.0), &["learning_rate -1"]);
    let sampled = |config: PlaneConfig| refused(plane([end, end, end], &config, ("train", &texts), CPU));
    says(&sampled(PlaneConfig { resolution: 1, ..Default::default() }), &["resolution 1", "21 is usual"]);
    says(&sampled(PlaneConfig { margin: -0.1, ..Default::default() }), &["margin -0.1"]);
    says(&sampled(PlaneConfig { margin: f64::NAN, ..Default::default() }), &["margin NaN"]);
    let part: CurveConfig = serde_json::from_value(json!({"route": "chain"}))?;
    assert_eq!(part, CurveConfig { route: Route::Chain, ..Default::default() });
    let unknown = serde_json::from_value::<CurveConfig>(json!({"steps": 10}));
    says(&refused(unknown.map_err(Into::into)), &["unknown field", "steps"]);
    let unknown = serde_json::from_value::<PlaneConfig>(json!({"points": 10}));
    says(&refused(unknown.map_err(Into::into)), &["unknown field", "points"]);
    Ok(())
}
