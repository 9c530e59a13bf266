//! The store of versions and adapted weights, as those who write into it and read from it meet it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use recyclable::display::Cell;
use recyclable::lineage::{Lineage, VersionRecord};
use recyclable::model::{Adapted, EncoderConfig, Method, Model, Version};
use recyclable::text::Tokenizer;
use serde_json::json;
use tch::Device;

fn version(seed: u64) -> Result<Version> {
    let words: Vec<String> = (0..20).map(|word| format!("word{word}")).collect();
    let tokenizer = Tokenizer::word_level(&words)?;
    Version::new(&EncoderConfig::tiny(tokenizer.vocab_size() as i64, 8, 16), &tokenizer, seed)
}

fn record(parent: Option<&str>, corpus: &str, loss: f64) -> VersionRecord {
    VersionRecord {
        parent: parent.map(str::to_string),
        corpus: corpus.to_string(),
        recipe: json!({"steps": 3}),
        held_out: BTreeMap::from([(corpus.to_string(), loss)]),
        ..VersionRecord::default()
    }
}

/// Weights for a task of two classes, as fresh as their head.
fn adapted(base: &Version) -> Result<Adapted> {
    let model = Model::classifier(base, &["no".into(), "yes".into()], &Method::Full, 1, Device::Cpu)?;
    Adapted::of(&model, base, "answers", json!({}))
}

/// M_0 → M_1 → M_2 and an independent version, weights on M_0.
fn lineage(root: &Path) -> Result<Lineage> {
    let lineage = Lineage::open(root)?;
    lineage.save_version("M_0", &version(0)?, record(None, "news", 3.0))?;
    lineage.save_version("M_1", &version(1)?, record(Some("M_0"), "bio", 2.0))?;
    lineage.save_version("M_2", &version(2)?, record(Some("M_1"), "cs", 1.0))?;
    lineage.save_version("A_IND", &version(3)?, record(None, "news", 3.0))?;
    lineage.save_adapted("M_0", "answers.full", &adapted(&version(0)?)?)?;
    Ok(lineage)
}

fn names(lineage: &Lineage) -> Result<Vec<String>> {
    Ok(lineage.versions()?.into_iter().map(|(name, _)| name).collect())
}

fn error<T>(result: Result<T>) -> String {
    result.err().map_or_else(|| "no error".to_string(), |error| format!("{error:#}"))
}

#[test]
fn what_is_saved_comes_back_and_the_lineage_verifies() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let lineage = lineage(folder.path())?;
    assert_eq!(names(&lineage)?, ["A_IND", "M_0", "M_1", "M_2"]);
    assert_eq!(lineage.version("M_1")?.fingerprint()?, version(1)?.fingerprint()?);
    assert_eq!(lineage.record("M_1")?.parent_fingerprint, Some(version(0)?.fingerprint()?));
    assert_eq!(lineage.adapted_ids("M_0")?, ["answers.full"]);
    assert_eq!(lineage.adapted("M_0", "answers.full")?.card, lineage.card("M_0", "answers.full")?);
    assert_eq!(lineage.verify()?, []);
    Ok(())
}

#[test]
fn the_forgetting_matrix_has_a_row_a_version_and_a_column_a_corpus() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let lineage = lineage(folder.path())?;
    let table = lineage.forgetting()?;
    let heads: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(heads, ["version", "trained on", "news", "bio", "cs"]);
    assert_eq!(table.rows[2][3], Cell::Number(2.0), "M_1 on bio");
    assert_eq!(table.rows[2][2], Cell::Empty(()), "M_1 on news was not measured");
    assert_eq!(lineage.table()?.rows.len(), 4);
    assert_eq!(lineage.adapted_table("M_0")?.rows.len(), 1);
    lineage.save_version("never_asked", &version(4)?, VersionRecord::default())?;
    assert_eq!(lineage.forgetting()?, table, "a version without losses has no row");
    assert_eq!(lineage.table()?.rows.len(), 5);
    Ok(())
}

#[test]
fn a_version_without_its_record_counts_as_not_there() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let lineage = lineage(folder.path())?;
    std::fs::remove_file(lineage.folder("M_2").join("version.json"))?;
    std::fs::write(lineage.checkpoint_path("M_2"), "half")?;
    assert!(!lineage.has_version("M_2"));
    assert_eq!(names(&lineage)?, ["A_IND", "M_0", "M_1"]);
    assert!(error(lineage.version("M_2")).contains("not finished"), "{}", error(lineage.version("M_2")));
    let findings = lineage.verify()?;
    assert_eq!(findings.len(), 1);
    assert!(findings[0].what.contains("incomplete") && findings[0].remedy.contains("resumes"), "{}", findings[0]);
    // Made again, it is complete, and the checkpoint is gone.
    lineage.save_version("M_2", &version(2)?, record(Some("M_1"), "cs", 1.0))?;
    assert!(lineage.has_version("M_2") && !lineage.checkpoint_path("M_2").exists());
    Ok(())
}

#[test]
fn a_complete_version_is_only_replaced_after_it_was_removed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let lineage = lineage(folder.path())?;
    assert!(error(lineage.save_version("M_2", &version(9)?, record(None, "x", 1.0))).contains("remove it first"));
    lineage.save_version("M_2", &version(2)?, record(Some("M_1"), "cs", 1.0))?;
    lineage.remove_version("M_2")?;
    lineage.save_version("M_2", &version(9)?, record(None, "x", 1.0))?;
    let refused = error(lineage.remove_version("M_0"));
    assert!(refused.contains("answers.full, M_1 build on it"), "{refused}");
    assert!(lineage.has_version("M_0"));
    Ok(())
}

#[test]
fn another_recipe_is_never_taken_for_the_one_asked_for() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let lineage = lineage(folder.path())?;
    assert!(lineage.has_version_by("M_1", &json!({"steps": 3}))?);
    assert!(!lineage.has_version_by("M_7", &json!({"steps": 3}))?);
    assert!(error(lineage.has_version_by("M_1", &json!({"steps": 4}))).contains("other settings"));
    Ok(())
}

#[test]
fn unknown_names_are_answered_with_the_known_ones() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let lineage = lineage(folder.path())?;
    assert!(error(lineage.version("M_9")).contains("there are A_IND, M_0, M_1, M_2"));
    assert!(error(lineage.adapted("M_0", "x")).contains("no adapted weights x: there are answers.full"));
    assert!(error(lineage.adapted("M_1", "x")).contains("there are none"));
    assert!(error(lineage.version("../M_0")).contains("cannot name a version"));
    let orphan = record(Some("M_9"), "x", 1.0);
    assert!(error(lineage.save_version("M_5", &version(5)?, orphan)).contains("no version M_9"));
    assert!(error(Lineage::existing(folder.path().join("typo"))).contains("is not a lineage"));
    assert!(!folder.path().join("typo").exists());
    Ok(())
}

#[test]
fn weights_are_kept_under_the_version_they_were_tuned_on_only() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let lineage = lineage(folder.path())?;
    let refused = error(lineage.save_adapted("M_1", "answers.full", &adapted(&version(0)?)?));
    assert!(refused.contains("tuned on a base with fingerprint"), "{refused}");
    assert!(!lineage.has_adapted("M_1", "answers.full") && lineage.has_adapted("M_0", "answers.full"));
    Ok(())
}

#[test]
fn damage_is_found_and_named_with_a_remedy() -> Result<()> {
    let found = |damage: &dyn Fn(&Lineage) -> Result<()>| -> Result<String> {
        let folder = tempfile::tempdir()?;
        let lineage = lineage(folder.path())?;
        damage(&lineage)?;
        let findings = lineage.verify()?;
        assert!(findings.iter().all(|finding| !finding.remedy.is_empty()));
        Ok(findings.iter().map(ToString::to_string).collect())
    };
    let weights = |lineage: &Lineage, name: &str| lineage.folder(name).join("model.safetensors");
    let other_weights = found(&|lineage| {
        std::fs::copy(weights(lineage, "M_1"), weights(lineage, "M_2"))?;
        Ok(())
    })?;
    assert!(other_weights.contains("the weights of M_2 have fingerprint"), "{other_weights}");
    let truncated = found(&|lineage| {
        let path = lineage.adapted_path("M_0", "answers.full");
        let bytes = std::fs::read(&path)?;
        Ok(std::fs::write(&path, &bytes[..bytes.len() / 2])?)
    })?;
    assert!(truncated.contains("answers.full.safetensors is not a whole safetensors file"), "{truncated}");
    let orphan = found(&|lineage| Ok(std::fs::remove_dir_all(lineage.folder("M_1"))?))?;
    assert!(orphan.contains("the parent M_1 of M_2 is not there"), "{orphan}");
    let moved = found(&|lineage| {
        let to = lineage.adapted_path("M_1", "moved");
        std::fs::create_dir_all(to.parent().context("parent")?)?;
        Ok(std::fs::rename(lineage.adapted_path("M_0", "answers.full"), to)?)
    })?;
    assert!(moved.contains("lies under M_1, but was tuned on M_0"), "{moved}");
    let edited = found(&|lineage| Ok(std::fs::write(lineage.folder("M_0").join("tokenizer_config.json"), "{}")?))?;
    assert!(edited.contains("tokenizer_config.json has changed"), "{edited}");
    Ok(())
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    assert!(error(Lineage::open("/proc/nowhere")).contains("cannot keep a lineage in /proc/nowhere"));
}
