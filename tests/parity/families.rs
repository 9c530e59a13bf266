//! Every family computes what transformers computes, whatever kind of file its weights lie in; and its tokenizers give Python's ids.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use recyclable::files::read_json;
use recyclable::model::{Model, Version};
use recyclable::text::{TokenBatch, Tokenizer};
use serde_json::Value;
use tch::{Device, Kind};

use super::support::{Golden, compare_gradients, python, run_python};

const FAMILIES: [&str; 5] = ["roberta", "xlm-roberta", "camembert", "bert", "distilbert"];

/// What families.py makes in a folder; `None` without Python.
fn made(what: &str) -> Result<Option<tempfile::TempDir>> {
    let Some(python) = python()? else { return Ok(None) };
    let folder = tempfile::tempdir()?;
    run_python(&python, "families.py", &[OsStr::new(what), folder.path().as_os_str()])?;
    Ok(Some(folder))
}

/// What families.py says of what was saved here.
fn python_reads(what: &str, folder: &Path) -> Result<()> {
    let python = python()?.context("families.py has made what it is to read")?;
    run_python(&python, "families.py", &[OsStr::new(what), folder.as_os_str()]).map(drop)
}

fn tokens(golden: &Golden) -> Result<TokenBatch> {
    let attention_mask = Some(golden.get("attention_mask")?.to_kind(Kind::Bool));
    Ok(TokenBatch { input_ids: golden.get("input_ids")?, attention_mask, token_types: golden.find("token_type_ids") })
}

/// Hidden states, attention, scores, loss and every gradient of the masked language model in a folder.
fn compare_masked_lm(folder: &Path) -> Result<Version> {
    let (version, golden) = (Version::load(folder)?, Golden::load(folder.join("expected.safetensors"))?);
    let (model, tokens) = (Model::masked_lm(&version, Device::Cpu)?, tokens(&golden)?);
    let mask = tokens.attention_mask.as_ref();
    for (layer, state) in model.hidden_states(&tokens)?.iter().enumerate() {
        golden.compare(&format!("hidden.{layer}"), state, mask, 0.0)?;
    }
    for (layer, weights) in model.attentions(&tokens)?.1.iter().enumerate() {
        golden.compare(&format!("attention.{layer}"), weights, None, 0.0)?;
    }
    golden.compare("logits", &model.mlm_logits(&tokens, None)?, mask, 0.0)?;
    let labels = golden.get("labels")?.reshape([-1]);
    let positions = labels.ne(-100).nonzero().reshape([-1]);
    let logits = model.mlm_logits(&tokens, Some(&positions))?; // (m, vocabulary)
    let loss = logits.cross_entropy_for_logits(&labels.index_select(0, &positions));
    golden.compare("loss", &loss, None, 0.0)?;
    compare_gradients(&golden, "grad", model.gradients(&loss)?)?;
    println!("{}: {}", folder.display(), golden.worst());
    Ok(version)
}

fn compare_classifier(folder: &Path) -> Result<()> {
    let (model, golden) =
        (Model::load_classifier(folder, Device::Cpu)?.0, Golden::load(folder.join("expected.safetensors"))?);
    let logits = model.logits(&tokens(&golden)?)?;
    golden.compare("logits", &logits, None, 0.0)?;
    let loss = logits.cross_entropy_for_logits(&golden.get("labels")?);
    golden.compare("loss", &loss, None, 0.0)?;
    compare_gradients(&golden, "grad", model.gradients(&loss)?)?;
    println!("{}: {}", folder.display(), golden.worst());
    Ok(())
}

#[test]
fn every_family_computes_what_transformers_computes_and_is_read_from_every_kind_of_file() -> Result<()> {
    let Some(folder) = made("make")? else { return Ok(()) };
    for family in FAMILIES {
        let at = folder.path().join(family);
        let version = compare_masked_lm(&at.join("masked-lm")).with_context(|| family.to_string())?;
        compare_classifier(&at.join("classifier")).with_context(|| family.to_string())?;
        assert_eq!(version.config.model_type.to_string(), family);

        let load =
            |kind: &str| Version::load(at.join("stored").join(kind)).with_context(|| format!("{family}, {kind}"));
        let print =
            |version: &Version| Ok::<_, anyhow::Error>((version.fingerprint()?, version.lm_head.fingerprint()?));
        let exact = print(&version)?;
        for kind in [
            "shards",
            "compiled",
            "parallel",
            "bare-names",
            "old-names",
            "other-heads",
            "strange-head",
            "tied",
            "decoder-alone",
        ] {
            assert_eq!(print(&load(kind)?)?, exact, "{family}, {kind}");
        }
        let pooled = load("other-heads")?;
        assert_eq!(pooled.pooler.is_some(), family == "bert", "only BERT's classifier reads a pooler");
        if pooled.pooler.is_some() {
            let back = at.join("pooled");
            pooled.save(&back)?;
            python_reads("pooler", &back)?;
        }
        for (kind, within) in [("half", 1e-3), ("bfloat16", 1e-2)] {
            let (rounded, off) = (load(kind)?, |a: &Version| (&a.backbone - &version.backbone)?.norm());
            let off = off(&rounded)? / version.backbone.norm()?;
            ensure!(off > 0.0 && off < within, "{family}, {kind}: off by {off:.1e}");
        }
        let bare = load("bare-encoder")?;
        assert_eq!(bare.fingerprint()?, exact.0, "{family}");
        assert_ne!(bare.lm_head.fingerprint()?, exact.1, "{family}: the head is fresh");

        let refused =
            |kind: &str| load(kind).err().map_or("it was not refused".to_string(), |error| format!("{error:#}"));
        let lost = refused("lost-bias");
        ensure!(lost.contains("1 missing") && lost.contains("the encoder of this"), "{family}: {lost}");
        let lost = refused("half-a-head");
        ensure!(lost.contains("the masked-LM head of this") && lost.contains("1 missing"), "{family}: {lost}");
        ensure!(refused("untied").contains("differ"), "{family}: {}", refused("untied"));
        ensure!(refused("classifier-alone").contains("no masked-LM head"), "{family}: {}", refused("classifier-alone"));
        let strange = refused("strange-head-alone");
        ensure!(strange.contains("the head of a task (span_head.weight)"), "{family}: {strange}");
        let strange = refused("strange-encoder");
        ensure!(strange.contains("of no use here") && strange.contains("gate.weight"), "{family}: {strange}");
        let ruined = refused("not-a-number");
        ensure!(ruined.contains("NaN") && ruined.contains("word_embeddings.weight"), "{family}: {ruined}");
    }
    Ok(())
}

#[test]
fn tokenizers_of_every_kind_give_pythons_ids_and_types() -> Result<()> {
    let Some(folder) = made("tokenizers")? else { return Ok(()) };
    let mut kinds: Vec<_> = std::fs::read_dir(folder.path())?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    kinds.sort();
    ensure!(kinds.len() >= 9);
    for at in kinds {
        let (tokenizer, expected) = (Tokenizer::load_folder(&at)?, read_json::<Value>(at.join("expected.json"))?);
        let back = at.join("back");
        std::fs::create_dir_all(&back)?;
        std::fs::copy(at.join("config.json"), back.join("config.json"))?;
        tokenizer.save(back.join("tokenizer.json"))?;
        recyclable::files::write_json(back.join("tokenizer_config.json"), &tokenizer.config_json(32, true))?;
        for tokenizer in [&tokenizer, &Tokenizer::load_folder(&back)?] {
            let specials = tokenizer.specials();
            for (key, id) in [
                ("cls", specials.bos),
                ("sep", specials.eos),
                ("pad", specials.pad),
                ("mask", specials.mask),
                ("unk", specials.unk),
            ] {
                assert_eq!(expected["special"][key], id, "{}: {key}", at.display());
            }
            assert_eq!(expected["size"], tokenizer.vocab_size(), "{}", at.display());
            for row in expected["rows"].as_array().context("rows")? {
                let (text, pair) = (row["text"].as_str().context("text")?, row["pair"].as_str());
                let whole = tokenizer.encode(text, pair, 1_000)?;
                assert_eq!(row["ids"], serde_json::json!(whole.ids), "{}: {text:?} with {pair:?}", at.display());
                let types: Vec<usize> =
                    (0..whole.ids.len()).map(|place| usize::from(whole.second.is_some_and(|at| place >= at))).collect();
                assert_eq!(row["types"], serde_json::json!(types), "{}: {text:?} with {pair:?}", at.display());
                let cut = tokenizer.encode(text, pair, 8)?.ids;
                assert_eq!(row["cut"], serde_json::json!(cut), "{}: {text:?} with {pair:?}, cut", at.display());
            }
        }
    }
    python_reads("read", folder.path())
}
