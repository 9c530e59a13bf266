//! What loading and saving take: one copy of the weights at most, and nothing where a header or a card says enough.
#![cfg(target_os = "linux")]

use anyhow::{Context, Result, ensure};
use recyclable::model::{Adapted, Card, EncoderConfig, Family, Method, Model, Version};
use recyclable::params::Stored;
use recyclable::text::Tokenizer;
use serde_json::Value;
use tch::Device;

/// A line of /proc/self/status, in bytes.
fn status(field: &str) -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).context("no such line")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<f64>()? * 1024.0)
}

/// What `work` returns, and by how many bytes the resident set grew at its peak.
fn growth<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    // 5 makes the peak what is resident now.
    std::fs::write("/proc/self/clear_refs", "5").context("the peak cannot be reset")?;
    let before = status("VmRSS")?;
    let made = work()?;
    Ok((made, status("VmHWM")? - before))
}

#[test]
fn one_copy_of_the_weights_is_in_memory_at_most_and_headers_are_read_without_them() -> Result<()> {
    // Blocks of this size go back to the system when they are freed, so what is measured is not hidden in what was there.
    let folder = tempfile::tempdir()?;
    let (at, weights) = (folder.path().join("version"), folder.path().join("delta.safetensors"));
    let tokenizer = Tokenizer::word_level(&["a", "b", "c", "d"])?;
    let config = EncoderConfig {
        model_type: Family::Bert,
        vocab_size: 40_000,
        num_hidden_layers: 6,
        num_attention_heads: 8,
        intermediate_size: 2_048,
        layer_norm_eps: 1e-12,
        ..EncoderConfig::tiny(tokenizer.vocab_size() as i64, 512, 32)
    };
    let version = Version::new(&config, &tokenizer, 0)?;
    let size = 4.0 * (version.backbone.num_parameters() + version.lm_head.num_parameters()) as f64;
    ensure!(size > 150e6, "weights of {size} bytes would not show beside everything else");

    let share = |name: &str, grown: f64, limit: f64| {
        println!("{name}: {:.2} of the weights", grown / size);
        ensure!(grown < limit * size, "{name} takes {:.2} times the weights, more than {limit}", grown / size);
        Ok(())
    };
    let ((), grown) = growth(|| version.save(&at))?;
    share("saving", grown, 0.25)?;
    drop(version);
    let (version, grown) = growth(|| Version::load(&at))?;
    share("loading", grown, 1.25)?;
    let ((), grown) = growth(|| Stored::open_folder(&at).map(drop))?;
    share("reading a header", grown, 0.02)?;

    let labels = ["yes", "no"].map(String::from);
    let model = Model::classifier(&version, &labels, &Method::Full, 1, Device::Cpu)?;
    let adapted = Adapted::of(&model, &version, "topic", Value::Null)?;
    drop(model);
    let ((), grown) = growth(|| adapted.save(&weights))?;
    share("saving adapted weights", grown, 0.25)?;
    drop(adapted);
    let (card, grown) = growth(|| Card::read(&weights))?;
    share("reading a card", grown, 0.02)?;
    assert_eq!(card.labels, labels);
    let (_, grown) = growth(|| Adapted::load(&weights, &version))?;
    share("loading adapted weights", grown, 1.25)
}
