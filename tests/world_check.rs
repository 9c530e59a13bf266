//! The built-in world from the command line, and the proof that it is no toy.
#![cfg(feature = "cli")]

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result};
use recyclable::display::Progress;
use recyclable::experiment::world_check::{WorldCheck, WorldCheckConfig};
use recyclable::text::{Corpus, Task, World, WorldConfig};
use serde_json::{Value, json};

fn world(arguments: &[&str]) -> Result<Output> {
    let program = env!("CARGO_BIN_EXE_recyclable");
    Command::new(program).arg("world").args(arguments).output().context("the program does not start")
}

/// A file of dials for a world that is made in no time.
fn dials(folder: &Path) -> Result<String> {
    let path = folder.join("dials.json");
    let small = json!({"general_documents": 30, "initial_documents": 5, "domain_documents": 20, "train": 24, "dev": 12, "test": 12});
    std::fs::write(&path, small.to_string())?;
    Ok(path.display().to_string())
}

#[test]
fn show_prints_dials_domains_and_two_texts_a_task() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let output = world(&["show", "--config", &dials(folder.path())?])?;
    let text = String::from_utf8(output.stdout)?;
    assert!(output.status.success());
    for part in ["\"domain_distance\"", "  bio: 20 documents; M_1", "bio_relation (bio, relation): 24 + 12 + 12 texts"]
    {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert_eq!(text.matches("    [").count(), 2 * 6);
    // What --json prints is what --config takes.
    let json = world(&["show", "--json", "--seed", "3"])?.stdout;
    assert_eq!(serde_json::from_slice::<WorldConfig>(&json)?, WorldConfig { seed: 3, ..Default::default() });
    Ok(())
}

#[test]
fn what_is_written_loads_as_the_world_it_was() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("world");
    let place = out.display().to_string();
    let dials = dials(folder.path())?;
    let write = || world(&["write", "--config", &dials, "--seed", "4", "--out", &place]);
    assert!(write()?.status.success());
    let config: WorldConfig = serde_json::from_slice(&std::fs::read(out.join("world.json"))?)?;
    let world = World::new(config)?;
    assert_eq!(world.config().seed, 4);
    for task in world.tasks() {
        assert_eq!(&Task::load(out.join("tasks").join(&task.name))?, task);
    }
    for name in world.upgrades() {
        assert_eq!(Corpus::load(out.join(format!("corpora/{name}.txt")))?, world.corpus(name)?);
    }
    assert_eq!(Corpus::load(out.join("corpora/initial.txt"))?, world.initial_corpus()?);

    // Nothing is written over.
    let again = write()?;
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("corpora exists: give another --out"));
    Ok(())
}

#[test]
fn dials_that_cannot_be_are_refused_with_their_file() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("dials.json");
    for (dials, said) in
        [(json!({"new_words": 2}), "new_words must lie in [0, 1]"), (json!({"distance": 1}), "distance")]
    {
        std::fs::write(&path, dials.to_string())?;
        for command in ["show", "check"] {
            let output = world(&[command, "--config", &path.display().to_string()])?;
            let error = String::from_utf8_lossy(&output.stderr).to_string();
            assert_eq!(output.status.code(), Some(1));
            assert!(error.contains("dials.json") && error.contains(said), "{error}");
        }
    }
    Ok(())
}

#[test]
fn a_check_prints_every_finding_and_exits_with_1_where_one_fails() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let recipe = folder.path().join("recipe.json");
    // Two steps teach nothing, so this world must be taken for a toy.
    let brief = json!({"steps": 2});
    let tuning = json!({"optimisation": brief, "max_length": 32});
    let hasty = json!({
        "tasks": ["bio_topic", "cs_intent"], "hidden_size": 16, "initial_steps": 2, "upgrade_steps": 2, "samples": 1,
        "pretraining": {"batch_size": 8, "max_length": 32}, "tuning": tuning, "few_shot": tuning
    });
    std::fs::write(&recipe, hasty.to_string())?;
    let dials = dials(folder.path())?;
    let check = |dials: &str, more: &[&str]| {
        world(&[&["check", "--config", dials, "--recipe", &recipe.display().to_string()], more].concat())
    };
    let refused = check(&dials, &[])?;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("raise general_documents"), "35 documents are too few");

    let wide = std::fs::read_to_string(&dials)?.replace("\"general_documents\":30", "\"general_documents\":1000");
    std::fs::write(&dials, wide)?;
    let output = check(&dials, &[])?;
    let text = String::from_utf8(output.stdout)?;
    assert_eq!(output.status.code(), Some(1), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("✗ bio_topic: with 8 examples a class") && text.contains("of 8 fail"), "{text}");

    let json: Value = serde_json::from_slice(&check(&dials, &["--json"])?.stdout)?;
    let findings = json["findings"].as_array().context("no findings")?;
    let ids: Vec<&str> = findings.iter().filter_map(|finding| finding["id"].as_str()).collect();
    assert_eq!(ids[..3], ["masked_lm.m_0", "masked_lm.m_ind", "few_shot.bio_topic"]);
    Ok(())
}

#[test]
#[ignore = "trains for three minutes; `make test` runs it"]
fn the_built_in_world_is_no_toy() -> Result<()> {
    let check = WorldCheck::run(WorldConfig::default(), &WorldCheckConfig::default(), 0, &Progress::silent())?;
    println!("{check}{:.0} s", check.seconds);
    assert!(check.holds(), "\n{check}");
    Ok(())
}
