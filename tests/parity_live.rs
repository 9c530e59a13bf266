//! Folders saved here load in Python with equal scores and token ids, and the other way round. Needs the test environment
//! (`make test` makes it); where there is none these tests say so, and with `CI=true` they fail.

#[path = "parity/families.rs"]
mod families;
mod support;

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use recyclable::files::{read_json, write_json};
use recyclable::model::{Adapted, EncoderConfig, Family, Method, Model, Version};
use recyclable::params::{Delta, Theta};
use recyclable::seed;
use recyclable::text::{TokenBatch, Tokenizer};
use serde_json::{Value, json};
use support::{Golden, golden, python, run_python};
use tch::{Device, Kind, Tensor};

const TEXTS: [&str; 7] =
    ["the cat sat", "a b, c!", "naïve Straße — 東京", "   spaces   and\ttabs ", "x1 <mask> y", "ends with <mask>", ""];

/// Parameters like `theta`, every number drawn anew: N-like noise wide enough that a lost tensor shows.
fn random_like(theta: &Theta, seed: u64, width: f32, around_one: bool) -> Result<Theta> {
    let mut rng = seed::rng(seed, "parity-live", 0);
    let mut random = theta.try_clone()?;
    for entry in theta.layout().entries() {
        let centre = if around_one && !entry.decay && entry.name.ends_with("weight") { 1.0 } else { 0.0 };
        let numbers: Vec<f32> = (0..entry.len).map(|_| centre + (rng.random::<f32>() - 0.5) * width).collect();
        random.set(&entry.name, &Tensor::from_slice(&numbers).view(entry.shape.as_slice()))?;
    }
    Ok(random)
}

/// A version with random weights, and the texts that its tokenizer is tried on.
fn random_version(family: Family, tokenizer: Tokenizer, seed: u64) -> Result<Version> {
    let config = EncoderConfig {
        model_type: family,
        pad_token_id: tokenizer.pad_id(),
        num_hidden_layers: 3,
        num_attention_heads: 3,
        intermediate_size: 17,
        type_vocab_size: if family == Family::Bert { 2 } else { 1 + (seed % 2) as i64 },
        // DistilBERT has no other.
        layer_norm_eps: if family == Family::Distilbert { 1e-12 } else { 1e-5 },
        hidden_dropout_prob: 0.1,
        ..EncoderConfig::tiny(tokenizer.vocab_size() as i64, 15, 24)
    };
    let mut version = Version::new(&config, &tokenizer, seed)?;
    version.backbone = random_like(&version.backbone, seed, 1.0, true)?;
    version.lm_head = random_like(&version.lm_head, seed + 1, 1.0, true)?;
    Ok(version)
}

/// BERT's tokenizer, over words that are all in `TEXTS`.
fn word_piece() -> Result<Tokenizer> {
    let words = "[PAD] [UNK] [CLS] [SEP] [MASK] the cat sat a b c , ! na ##ive straße 東 京 spaces and tabs x ##1 y ends with < > mask";
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("vocab.txt"), words.replace(' ', "\n"))?;
    Tokenizer::load_folder(folder.path())
}

/// A family with its class in transformers, and a tokenizer that it could have.
fn tokenizers() -> Result<[(Family, &'static str, Tokenizer); 6]> {
    let words = ["the", "cat", "sat", "a", "b,", "spaces", "and", "x1", "y", "ends", "with", "東京"];
    let documents = TEXTS.into_iter().chain(std::iter::repeat_n("the cat and the other cat sat there", 5));
    let bytes = Tokenizer::train_bpe(documents, 280)?;
    Ok([
        (Family::Roberta, "Roberta", bytes.clone()),
        (Family::Roberta, "Roberta", Tokenizer::word_level(&words)?),
        (Family::XlmRoberta, "XLMRoberta", bytes.clone()),
        (Family::Camembert, "Camembert", bytes),
        (Family::Bert, "Bert", word_piece()?),
        (Family::Distilbert, "DistilBert", word_piece()?),
    ])
}

/// A batch of texts and pairs with padding inside.
fn batch(tokenizer: &Tokenizer) -> Result<TokenBatch> {
    let rows = [("the cat sat and sat", None), ("a b, c!", Some("x1 <mask> y")), ("y", None)];
    let rows = rows.iter().map(|(text, pair)| tokenizer.encode(text, *pair, 24)).collect::<Result<Vec<_>>>()?;
    let ids: Vec<&[i64]> = rows.iter().map(|row| row.ids.as_slice()).collect();
    let seconds: Vec<Option<usize>> = rows.iter().map(|row| row.second).collect();
    let batch = TokenBatch::new(&ids, tokenizer.pad_id())?.with_seconds(&seconds)?;
    ensure!(batch.attention_mask.is_some(), "the batch must hold padding");
    Ok(batch)
}

/// Writes beside a saved folder what we compute with it.
fn write_expected(
    folder: &Path,
    architecture: &str,
    labels: &[String],
    version: &Version,
    logits: Tensor,
) -> Result<()> {
    let batch = batch(&version.tokenizer)?;
    let mask = batch.attention_mask.context("padding")?.to_kind(Kind::Int64);
    let mut tensors = vec![("input_ids", batch.input_ids), ("attention_mask", mask), ("logits", logits)];
    // DistilBERT's class does not take them.
    if !architecture.starts_with("DistilBert") {
        tensors.extend(batch.token_types.map(|types| ("token_type_ids", types)));
    }
    Tensor::write_safetensors(&tensors, folder.join("expected.safetensors"))?;
    let tokenizer = &version.tokenizer;
    let encode = |text: &str, pair: Option<&str>| tokenizer.encode(text, pair, 1_000).map(|encoding| encoding.ids);
    let mut tokens = Vec::new();
    for (text, pair) in TEXTS.iter().zip(TEXTS.iter().cycle().skip(1)) {
        tokens.push(json!({"text": text, "ids": encode(text, None)?}));
        // An empty second text is a pair here and none in Python.
        if !pair.is_empty() {
            tokens.push(json!({"text": text, "pair": pair, "ids": encode(text, Some(pair))?}));
        }
    }
    let special = json!({
        "bos": tokenizer.bos_id(), "eos": tokenizer.eos_id(), "pad": tokenizer.pad_id(), "mask": tokenizer.mask_id(),
        "unk": tokenizer.unk_id(), "cls": tokenizer.bos_id(), "sep": tokenizer.eos_id(),
    });
    let facts = json!({"architecture": architecture, "labels": labels, "tokens": tokens, "special": special});
    write_json(folder.join("expected.json"), &facts)
}

#[test]
fn python_loads_the_versions_and_classifiers_that_are_saved_here_with_equal_scores() -> Result<()> {
    let Some(python) = python()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let mut saved = Vec::new();
    for (seed, (family, class, tokenizer)) in tokenizers()?.into_iter().enumerate() {
        let (name, version) = (format!("{family}-{seed}"), random_version(family, tokenizer, seed as u64)?);
        let tokens = batch(&version.tokenizer)?;

        let at = folder.path().join(format!("masked-lm-{name}"));
        version.save(&at)?;
        let logits = tch::no_grad(|| Model::masked_lm(&version, Device::Cpu)?.mlm_logits(&tokens, None))?;
        write_expected(&at, &format!("{class}ForMaskedLM"), &[], &version, logits)?;
        saved.push(at);

        // What recycling gives: another version's difference on this backbone, with its head.
        let at = folder.path().join(format!("classifier-{name}"));
        let labels: Vec<String> = ["background", "naïve \"quoted\"", "result"].map(String::from).to_vec();
        let fresh = Model::classifier(&version, &labels, &Method::Full, 3, Device::Cpu)?;
        let mut adapted = Adapted::of(&fresh, &version, "live", Value::Null)?;
        adapted.backbone = Some(Delta::new(random_like(&version.backbone, 9, 0.2, false)?));
        adapted.head = random_like(&adapted.head, 10, 1.0, false)?;
        let model = adapted.apply(&version, Device::Cpu)?;
        model.save(&at, &version.tokenizer)?;
        let logits = tch::no_grad(|| model.logits(&tokens))?;
        write_expected(&at, &format!("{class}ForSequenceClassification"), &labels, &version, logits)?;
        saved.push(at);
    }
    let arguments = std::iter::once(OsStr::new("check")).chain(saved.iter().map(|at| at.as_os_str()));
    println!("{}", run_python(&python, "live.py", &arguments.collect::<Vec<_>>())?);
    Ok(())
}

#[test]
fn folders_that_transformers_saves_load_here_with_equal_scores_and_token_ids() -> Result<()> {
    let Some(python) = python()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let made: Vec<_> = ["1", "2", "3"].map(|seed| folder.path().join(seed)).to_vec();
    let arguments = std::iter::once(OsStr::new("make")).chain(made.iter().map(|at| at.as_os_str()));
    run_python(&python, "live.py", &arguments.collect::<Vec<_>>())?;
    for at in made {
        for kind in ["masked-lm", "classifier"] {
            let at = at.join(kind);
            let expected = Golden::load(at.join("expected.safetensors"))?;
            let facts: Value = read_json(at.join("expected.json"))?;
            let mask = expected.get("attention_mask")?.to_kind(Kind::Bool);
            let tokens = TokenBatch {
                input_ids: expected.get("input_ids")?,
                attention_mask: Some(mask.shallow_clone()),
                token_types: None,
            };
            let tokenizer = if kind == "masked-lm" {
                let version = Version::load(&at)?;
                let model = Model::masked_lm(&version, Device::Cpu)?;
                expected.compare("logits", &model.mlm_logits(&tokens, None)?, Some(&mask), 0.0)?;
                version.tokenizer
            } else {
                let (model, tokenizer) = Model::load_classifier(&at, Device::Cpu)?;
                assert_eq!(json!(model.labels()), facts["labels"]);
                expected.compare("logits", &model.logits(&tokens)?, None, 0.0)?;
                tokenizer
            };
            println!("{}: {}", at.display(), expected.worst());
            for row in facts["tokens"].as_array().context("tokens")? {
                let text = row["text"].as_str().context("text")?;
                let ids = tokenizer.encode(text, row["pair"].as_str(), 1_000)?.ids;
                assert_eq!(json!(ids), row["ids"], "{text:?} with {:?}", row["pair"]);
            }
        }
    }
    Ok(())
}

#[test]
fn the_committed_golden_files_are_what_the_committed_script_computes() -> Result<()> {
    let Some(python) = python()? else { return Ok(()) };
    println!(
        "{}",
        run_python(&python, "make_golden.py", &[OsStr::new("--check"), OsStr::new("--out"), golden("").as_os_str()])?
    );
    Ok(())
}
