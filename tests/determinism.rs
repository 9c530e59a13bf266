//! The same seed and the same number of threads give the same bytes; another seed gives others.
//!
//! Every case runs in a process of its own (this test program, started again with the case in its environment), because
//! that is how a user repeats a run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use recyclable::display::Progress;
use recyclable::model::{AdapterConfig, EncoderConfig, LoraConfig, Method, Version};
use recyclable::recycle::{Combined, Distill, DistillConfig, HiddenTokens, Recycle, Upgrade};
use recyclable::text::{Text, World, WorldConfig};
use recyclable::train::{
    HeadWarmup, Optimisation, PretrainConfig, Start, TuneConfig, TuneRun, pretrain, remove_checkpoint, tune,
};
use tch::Device;

const CASE: &str = "RECYCLABLE_TEST_CASE";
const SEED: &str = "RECYCLABLE_TEST_SEED";
const OUT: &str = "RECYCLABLE_TEST_OUT";

/// Not a test of its own: what the processes do that the tests below start.
#[test]
fn a_case_in_a_process_of_its_own() -> Result<()> {
    let Ok(case) = std::env::var(CASE) else { return Ok(()) };
    let seed = std::env::var(SEED)?.parse()?;
    run_case(&case, seed, &PathBuf::from(std::env::var(OUT)?))
}

#[test]
fn pre_training_repeats_to_the_bit() -> Result<()> {
    the_seed_decides("pretrain")
}

#[test]
fn full_tuning_with_dropout_repeats_to_the_bit() -> Result<()> {
    the_seed_decides("full")
}

#[test]
fn adapter_tuning_with_dropout_repeats_to_the_bit() -> Result<()> {
    the_seed_decides("adapter")
}

#[test]
fn lora_tuning_with_dropout_repeats_to_the_bit() -> Result<()> {
    the_seed_decides("lora")
}

#[test]
fn distillation_repeats_to_the_bit() -> Result<()> {
    the_seed_decides("distill")
}

#[test]
fn combined_recycling_repeats_to_the_bit() -> Result<()> {
    the_seed_decides("combined")
}

#[test]
fn a_killed_pre_training_resumes_from_its_checkpoint_and_ends_in_the_same_bytes() -> Result<()> {
    resumes("long")
}

/// The checkpoint is of after the head's phase, whose batches, two an update, are not read again.
#[test]
fn a_killed_pre_training_with_a_warmed_up_head_resumes_behind_it_and_ends_in_the_same_bytes() -> Result<()> {
    resumes("warmed")
}

fn resumes(case: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (whole, killed, altered) = (folder.path().join("a"), folder.path().join("b"), folder.path().join("c"));
    finish(start(case, 0, &whole)?)?;
    let checkpoint = interrupt(case, &killed)?;
    std::fs::create_dir_all(&altered)?;
    alter(&checkpoint, &altered.join("checkpoint"))?;

    finish(start(case, 0, &killed)?)?;
    ensure!(!checkpoint.exists(), "once the version is stored, no checkpoint is left behind");
    assert!(contents(&whole)? == contents(&killed)?, "the resumed run differs from the uninterrupted one");

    // That the checkpoint was read at all shows when it says something else.
    finish(start(case, 0, &altered)?)?;
    assert!(contents(&whole)? != contents(&altered)?, "the checkpoint was not read");
    Ok(())
}

fn the_seed_decides(case: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let run = |name: &str, seed: u64| -> Result<Vec<(String, Vec<u8>)>> {
        let out = folder.path().join(name);
        finish(start(case, seed, &out)?)?;
        contents(&out)
    };
    let (one, same, other) = (run("one", 5)?, run("same", 5)?, run("other", 6)?);
    assert!(!one.is_empty());
    for ((file, bytes), (_, again)) in one.iter().zip(&same) {
        assert!(bytes == again, "{case}: {file} differs between two runs with one seed");
    }
    for ((file, bytes), (_, others)) in one.iter().zip(&other) {
        assert!(bytes != others, "{case}: {file} is the same under another seed");
    }
    Ok(())
}

fn start(case: &str, seed: u64, out: &Path) -> Result<Child> {
    std::fs::create_dir_all(out)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", "a_case_in_a_process_of_its_own", "--nocapture"]);
    command
        .env(CASE, case)
        .env(SEED, seed.to_string())
        .env(OUT, out)
        .env("OMP_NUM_THREADS", "2")
        .env("GOMP_SPINCOUNT", "0");
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("the test program does not start again")
}

fn finish(child: Child) -> Result<()> {
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "the run failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Kills a run as soon as it has written a checkpoint; returns its path.
fn interrupt(case: &str, out: &Path) -> Result<PathBuf> {
    let checkpoint = out.join("checkpoint");
    for _ in 0..5 {
        let mut child = start(case, 0, out)?;
        while !checkpoint.exists() && child.try_wait()?.is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill()?;
        child.wait()?;
        if checkpoint.exists() && !out.join("version").exists() {
            return Ok(checkpoint);
        }
        // It was faster than we were: once more.
        std::fs::remove_dir_all(out)?;
    }
    bail!("the run could not be interrupted between its first checkpoint and its end")
}

/// Copies a checkpoint with the exponent of one number in the middle changed.
fn alter(from: &Path, to: &Path) -> Result<()> {
    let mut bytes = std::fs::read(from)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    bytes[middle + 1] ^= 0x55;
    Ok(std::fs::write(to, bytes)?)
}

/// Every file below `folder`, by name.
fn contents(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "safetensors" || ending == "txt") {
                files.push((path.strip_prefix(folder)?.display().to_string(), std::fs::read(&path)?));
            }
        }
    }
    files.sort();
    Ok(files)
}

fn run_case(case: &str, seed: u64, out: &Path) -> Result<()> {
    let world = World::new(WorldConfig {
        general_documents: 300,
        initial_documents: 10,
        domain_documents: 100,
        train: 60,
        dev: 20,
        test: 20,
        ..Default::default()
    })?;
    let tokenizer = world.tokenizer()?;
    let config = EncoderConfig {
        hidden_dropout_prob: 0.1,
        attention_probs_dropout_prob: 0.1,
        ..EncoderConfig::tiny(tokenizer.vocab_size() as i64, 64, World::MAX_LEN as i64)
    };
    let old = Version::new(&config, &tokenizer, 1)?;
    let optimisation = |steps| Optimisation { steps, ..Default::default() };
    if ["pretrain", "long", "warmed"].contains(&case) {
        let (steps, checkpoint_every) = if case == "pretrain" { (12, 0) } else { (80, 10) };
        let warmed = case == "warmed";
        let config = PretrainConfig {
            optimisation: Optimisation {
                warmup_steps: 4,
                accumulation: 1 + usize::from(warmed),
                ..optimisation(steps)
            },
            head_warmup: warmed.then_some(HeadWarmup { steps: 7, learning_rate: 1e-3 }),
            batch_size: 32,
            max_length: World::MAX_LEN,
            checkpoint_every,
            seed,
            ..Default::default()
        };
        let checkpoint = out.join("checkpoint");
        let corpus = world.initial_corpus()?;
        let run = pretrain(&old, &corpus, &config, Device::Cpu, Some(&checkpoint), &Progress::silent())?;
        std::fs::write(out.join("losses.txt"), format!("{:?}", run.losses))?;
        run.version.save(out.join("version"))?;
        return remove_checkpoint(checkpoint);
    }
    let task = world.task("bio_topic")?;
    let config = |method: Method| TuneConfig {
        method,
        optimisation: optimisation(12),
        batch_size: 16,
        max_length: World::MAX_LEN,
        eval_every: 4,
        seed,
        ..Default::default()
    };
    let fresh = |method: Method| tune(&old, task, Start::Fresh, &config(method), Device::Cpu, &Progress::silent());
    let outdated = || Ok::<_, anyhow::Error>(fresh(Method::Full)?.last);
    let new = Version::new(&old.config, &tokenizer, 2)?;
    let recycle = |by: &dyn Recycle| -> Result<TuneRun> {
        let upgrade = Upgrade { old: &old, outdated: &outdated()?, new: &new };
        by.recycle(upgrade, task, &config(Method::Full), Device::Cpu, &Progress::silent())
    };
    let distill = DistillConfig { tokens: HiddenTokens::All, ..Default::default() };
    let unlabelled = task.test.iter().map(Text::from).collect();
    let run = match case {
        "full" => fresh(Method::Full)?,
        "adapter" => fresh(Method::Adapter(AdapterConfig::default()))?,
        "lora" => fresh(Method::Lora(LoraConfig::default()))?,
        "distill" => recycle(&Distill { distill, unlabelled })?,
        "combined" => recycle(&Combined { distill: DistillConfig::default(), unlabelled: Vec::new() })?,
        other => bail!("there is no case {other}"),
    };
    std::fs::write(out.join("curve.txt"), format!("{:?} {:?}", run.curve, run.losses))?;
    run.best.save(out.join("best.safetensors"))?;
    run.last.save(out.join("last.safetensors"))
}
