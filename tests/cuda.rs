//! What a CUDA device computes against what the CPU computes. Where there is no such device the tests say so: `make gpu-pack` takes
//! them, built, to a machine that has one.

mod small;

use anyhow::Result;
use recyclable::analysis::{Tuned, linear_path};
use recyclable::device::{Precision, count_cpu_memory, cuda_available, take_peak_memory};
use recyclable::display::Progress;
use recyclable::model::{Adapted, AdapterConfig, LoraConfig, Method, Model, Version};
use recyclable::recycle::{Combined, Distill, Init, Recycle, Upgrade};
use recyclable::text::{TaskData, TokenBatch};
use recyclable::train::{LossPoint, PretrainConfig, Start, TuneConfig, evaluate, held_out_loss, pretrain, tune};
use small::{LENGTH, corpus, pretraining, task, tuning, version};
use tch::{Device, Kind, Tensor};

const CPU: Device = Device::Cpu;
const LABELS: [&str; 2] = ["high", "low"];

/// The first CUDA device, or a word on why the test is skipped.
fn gpu() -> Option<Device> {
    if cuda_available() {
        return Some(Device::Cuda(0));
    }
    println!("skipped: there is no CUDA device");
    None
}

fn methods() -> [Method; 3] {
    [Method::Full, Method::Adapter(AdapterConfig::default()), Method::Lora(LoraConfig::default())]
}

/// Dropout masks are drawn in other ways on other devices: what is compared update by update goes without.
fn without_dropout(seed: u64) -> Result<Version> {
    let mut version = version(seed)?;
    (version.config.hidden_dropout_prob, version.config.attention_probs_dropout_prob) = (0.0, 0.0);
    Ok(version)
}

/// The largest difference over the largest number.
fn relative(ours: &Tensor, theirs: &Tensor) -> Result<f64> {
    let (ours, theirs) = (ours.f_to_device(CPU)?, theirs.f_to_device(CPU)?);
    Ok(f64::try_from((ours - &theirs).abs().max())? / f64::try_from(theirs.abs().max())?)
}

#[track_caller]
fn same_losses(what: &str, gpu: &[LossPoint], cpu: &[LossPoint]) {
    assert!(gpu.len() == cpu.len() && gpu.len() > 2, "{what}: {} and {} points", gpu.len(), cpu.len());
    let apart = gpu.iter().zip(cpu).map(|(one, other)| (one.loss - other.loss).abs()).fold(0.0, f64::max);
    println!("{what}: losses differ by {apart:.1e} at most");
    assert!(apart < 1e-3, "{what}: {gpu:?} and {cpu:?}");
    assert!(cpu[cpu.len() - 1].loss < cpu[0].loss, "{what}: nothing was learned");
}

#[test]
fn scores_and_gradients_are_those_of_the_cpu_with_and_without_padding() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let base = version(1)?;
    let ragged = [vec![0, 5, 6, 7, 8, 2], vec![0, 9, 2], vec![0, 10, 11, 2]];
    let full = [vec![0, 5, 6, 2], vec![0, 9, 7, 2], vec![0, 10, 11, 2]];
    for (rows, padded) in [(ragged, true), (full, false)] {
        let tokens = TokenBatch::new(&rows, base.tokenizer.pad_id())?;
        assert_eq!(tokens.attention_mask.is_some(), padded);
        for method in methods() {
            let on = |device| -> Result<(Tensor, Tensor)> {
                let model = Model::classifier(&base, &LABELS.map(String::from), &method, 1, device)?;
                let logits = model.logits(&tokens.to_device(device)?)?;
                let loss = logits.log_softmax(-1, Kind::Float).select(1, 1).sum(Kind::Float);
                let gradients: Vec<Tensor> = model.gradients(&loss)?.iter().map(|(_, g)| g.flatten(0, -1)).collect();
                Ok((logits, Tensor::cat(&gradients, 0)))
            };
            let ((theirs, slopes), (ours, gradients)) = (on(CPU)?, on(gpu)?);
            assert_eq!(ours.device(), gpu);
            let off = (relative(&ours, &theirs)?, relative(&gradients, &slopes)?);
            println!("{}, padding {padded}: scores off by {:.1e}, gradients by {:.1e}", method.name(), off.0, off.1);
            assert!(off.0 < 1e-4 && off.1 < 1e-4, "{}: off by {off:?}", method.name());
        }
    }
    Ok(())
}

#[test]
fn training_without_dropout_loses_what_it_loses_on_the_cpu() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let (old, new) = (without_dropout(1)?, without_dropout(2)?);
    let silent = Progress::silent();
    let pretrained = |device| pretrain(&old, &corpus()?, &pretraining(60), device, None, &silent);
    let (ours, theirs) = (pretrained(gpu)?, pretrained(CPU)?);
    same_losses("pre-training", &ours.losses, &theirs.losses);
    let held_out = |device| held_out_loss(&theirs.version, &corpus()?, &pretraining(60), device);
    assert!((held_out(gpu)? - held_out(CPU)?).abs() < 1e-4);
    let task = task(&LABELS);
    for method in methods() {
        let config = tuning(method, 40);
        let tuned = |device| tune(&old, &task, Start::Fresh, &config, device, &silent);
        let (ours, theirs) = (tuned(gpu)?, tuned(CPU)?);
        same_losses(config.method.name(), &ours.losses, &theirs.losses);
        // The outdated weights are those of one device; what becomes of them is asked of both.
        let upgrade = Upgrade { old: &old, outdated: &theirs.last, new: &new };
        let ways: [(&str, Box<dyn Recycle>); 3] = [
            ("initialization", Box::new(Init)),
            ("distillation", Box::new(Distill::default())),
            ("combined", Box::new(Combined::default())),
        ];
        for (name, way) in ways {
            let recycled = |device| way.recycle(upgrade, &task, &config, device, &silent);
            same_losses(&format!("{}, {name}", config.method.name()), &recycled(gpu)?.losses, &recycled(CPU)?.losses);
        }
    }
    Ok(())
}

#[test]
fn what_is_tuned_on_the_gpu_is_stored_and_applied_on_the_cpu() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let (base, task, folder) = (version(1)?, task(&LABELS), tempfile::tempdir()?);
    let test = TaskData::new(&task.test, &base.tokenizer, LENGTH)?;
    for method in methods() {
        let file = folder.path().join(format!("{}.safetensors", method.name()));
        let run = tune(&base, &task, Start::Fresh, &tuning(method, 20), gpu, &Progress::silent())?;
        run.last.save(&file)?;
        let there = evaluate(&run.last.apply(&base, gpu)?, &test)?.scores;
        let here = evaluate(&Adapted::load(&file, &base)?.apply(&base, CPU)?, &test)?.scores;
        assert!(there.accuracy == here.accuracy && (there.loss - here.loss).abs() < 1e-4, "{there:?} {here:?}");
    }
    Ok(())
}

#[test]
fn a_path_has_the_losses_that_it_has_on_the_cpu() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let (old, new, task) = (version(1)?, version(2)?, task(&LABELS));
    let test = TaskData::new(&task.test, &old.tokenizer, LENGTH)?;
    let tuned = |version: &Version| {
        tune(version, &task, Start::Fresh, &tuning(Method::Full, 20), CPU, &Progress::silent()).map(|run| run.last)
    };
    let (first, second) = (tuned(&old)?, tuned(&new)?);
    let (a, b) = (Tuned::new(&old, &first), Tuned::new(&new, &second));
    let losses = |device| -> Result<Vec<f64>> {
        let path = linear_path(a, b, 5, &[("test", &test)], device)?;
        Ok(path.scores("test")?.into_iter().filter_map(|(_, scores)| Some(scores?.loss)).collect())
    };
    let (ours, theirs) = (losses(gpu)?, losses(CPU)?);
    assert_eq!((ours.len(), theirs.len()), (5, 5));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert!((ours - theirs).abs() < 1e-4, "{ours} {theirs}");
    }
    Ok(())
}

#[test]
fn bf16_learns_what_fp32_learns() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let base = version(1)?;
    let loss = |precision| -> Result<f64> {
        let config = PretrainConfig { precision, ..pretraining(200) };
        let run = pretrain(&base, &corpus()?, &config, gpu, None, &Progress::silent())?;
        held_out_loss(&run.version, &corpus()?, &pretraining(1), CPU)
    };
    let before = held_out_loss(&base, &corpus()?, &pretraining(1), CPU)?;
    let (exact, rounded) = (loss(Precision::Fp32)?, loss(Precision::Bf16)?);
    println!("held-out loss {before:.4} before; {exact:.4} in fp32, {rounded:.4} in bf16");
    assert!(exact < before - 0.1 && (exact - rounded).abs() < 0.1 * (before - exact), "{before} {exact} {rounded}");
    let (task, test) = (task(&LABELS), TaskData::new(&task(&LABELS).test, &base.tokenizer, LENGTH)?);
    let config = TuneConfig { precision: Precision::Bf16, ..tuning(Method::Full, 60) };
    let run = tune(&base, &task, Start::Fresh, &config, gpu, &Progress::silent())?;
    let accuracy = evaluate(&run.best.apply(&base, gpu)?, &test)?.scores.accuracy;
    assert!(accuracy >= 0.9, "{accuracy}");
    Ok(())
}

#[test]
fn a_batch_that_the_host_did_not_wait_for_arrives_whole() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let large = Tensor::randn([4096, 4096], (Kind::Float, gpu));
    let mut uploads = Vec::new();
    for round in 0..50 {
        let _busy = large.f_matmul(&large)?; // the copy below queues behind it
        let rows: Vec<Vec<i64>> =
            (0..64).map(|row| (0..128).map(|at| round * 10_000 + row * 128 + at).collect()).collect();
        let batch = TokenBatch::new(&rows, 1)?;
        // Its pinned memory may be taken by the next one, but not before it was read.
        uploads.push((batch.to_device(gpu)?.input_ids, batch.input_ids));
    }
    for (round, (there, expected)) in uploads.into_iter().enumerate() {
        assert_eq!(there.to_device(CPU), expected, "round {round}");
    }
    Ok(())
}

#[test]
fn the_memory_that_tensors_took_is_known_on_both_devices() -> Result<()> {
    let megabyte = 1_000_000;
    let hundred = |device| drop(Tensor::zeros([25 * megabyte], (Kind::Float, device)));
    let took = |device, bytes: u64| -> Result<()> {
        let peak = take_peak_memory(device)?;
        println!("{device:?}: {peak} bytes");
        assert!((bytes..bytes + megabyte as u64).contains(&peak), "{device:?}: {peak} bytes, not {bytes}");
        Ok(())
    };
    count_cpu_memory()?;
    hundred(CPU);
    took(CPU, 100_000_000)?;
    let kept = Tensor::zeros([megabyte], (Kind::Float, CPU));
    took(CPU, 4_000_000)?;
    hundred(CPU);
    took(CPU, 104_000_000)?;
    drop(kept);
    let Some(gpu) = gpu() else { return Ok(()) };
    hundred(gpu);
    // Other tests may share the device.
    assert!(take_peak_memory(gpu)? >= 100_000_000);
    Ok(())
}
