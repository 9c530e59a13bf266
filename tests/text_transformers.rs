//! What we save, `transformers` reads: the same ids from our tokenizers. Needs the test environment; skipped without it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use recyclable::text::{Tokenizer, World, WorldConfig};

/// Prints, for every folder, the ids of every text (or pair) as JSON.
const PROGRAM: &str = r#"
import json, sys
from transformers import AutoTokenizer, PreTrainedTokenizerFast
texts = json.load(open(sys.argv[1]))
result = []
for folder in sys.argv[2:]:
    auto = AutoTokenizer.from_pretrained(folder)
    fast = PreTrainedTokenizerFast(tokenizer_file=folder + "/tokenizer.json")
    assert auto.mask_token == "<mask>" and auto.pad_token_id == 1 and auto.cls_token == "<s>"
    ids = [auto(*text, truncation=True, max_length=24).input_ids for text in texts]
    assert [fast(*text).input_ids[:8] for text in texts] == [auto(*text).input_ids[:8] for text in texts]
    result.append({"ids": ids, "size": len(fast)})
print(json.dumps(result))
"#;

fn python() -> Option<PathBuf> {
    let named = std::env::var_os("RECYCLABLE_TEST_PYTHON").map(PathBuf::from);
    let python = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv-test/bin/python"));
    if !python.exists() {
        println!("skipped: there is no {}; `make test` makes it", python.display());
        return None;
    }
    Some(python)
}

#[test]
fn transformers_encodes_with_our_tokenizers_as_we_do() -> Result<()> {
    let Some(python) = python() else { return Ok(()) };
    let world = World::new(WorldConfig { seed: 3, ..Default::default() })?;
    let documents: Vec<String> = world.tasks().iter().flat_map(|task| &task.dev).map(|one| one.text.clone()).collect();
    let tokenizers =
        [world.tokenizer()?, Tokenizer::train_bpe(documents.iter().map(String::as_str).chain(["Ünïcödé 🧬"]), 400)?];
    let texts = serde_json::json!([
        [documents[0]],
        [documents[1], documents[2]],
        ["the naïve café — 細胞 🧬"],
        ["  blanks  "],
        ["a <mask> of the <unk>", "is it"],
        [""],
    ]);

    let work = tempfile::tempdir()?;
    let list = work.path().join("texts.json");
    std::fs::write(&list, texts.to_string())?;
    let mut command = Command::new(python);
    command.args(["-c", PROGRAM]).arg(&list);
    for (index, tokenizer) in tokenizers.iter().enumerate() {
        let folder = work.path().join(index.to_string());
        tokenizer.save(folder.join("tokenizer.json"))?;
        recyclable::files::write_json(folder.join("tokenizer_config.json"), &tokenizer.config_json(32, false))?;
        command.arg(folder);
    }
    let output = command.output()?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs: serde_json::Value = serde_json::from_slice(&output.stdout)?;

    for (index, tokenizer) in tokenizers.iter().enumerate() {
        assert_eq!(theirs[index]["size"], tokenizer.vocab_size());
        for (place, text) in texts.as_array().context("texts")?.iter().enumerate() {
            let part = |part: usize| text[part].as_str();
            let ours = tokenizer.encode(part(0).context("text")?, part(1), 24)?.ids;
            assert_eq!(theirs[index]["ids"][place], serde_json::json!(ours), "{text}");
        }
    }
    Ok(())
}
