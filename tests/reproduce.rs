//! The main job at toy size: a whole run, an interrupted one, and a folder that is not to be touched.

use std::path::Path;

use anyhow::{Context, Result};
use recyclable::experiment::profile::{Limits, ModelSize, Source};
use recyclable::experiment::{Compute, Inputs, Profile, reproduce};
use recyclable::files::{read_json, write_json};
use recyclable::text::WorldConfig;
use serde_json::Value;
use tch::Device;

/// Two tasks of an easy world, two seeds, a network small enough for a test.
fn toy() -> Profile {
    let mut profile = Profile::tiny();
    let easy = WorldConfig {
        concepts: 8,
        words_per_concept: 4,
        noise: [0.0, 0.2],
        task_noise: [0.0, 0.1],
        general_documents: 600,
        initial_documents: 300,
        domain_documents: 400,
        train: 160,
        dev: 40,
        test: 60,
        upgrades: vec!["bio".into(), "reviews".into()],
        ..WorldConfig::default()
    };
    profile.source = Source::World(easy);
    profile.model = ModelSize { hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2 };
    for (config, steps) in [(&mut profile.initial, 30), (&mut profile.upgrade, 10)] {
        config.batch_size = 16;
        config.optimisation.steps = steps;
        config.optimisation.warmup_steps = 2;
        config.checkpoint_every = 10;
    }
    profile.tasks.retain(|task| task.name != "bio_relation");
    for plan in &mut profile.methods {
        for config in [&mut plan.full_data, &mut plan.few_shot] {
            config.optimisation.steps = 60;
            config.optimisation.warmup_steps = 3;
            config.optimisation.learning_rate = 5e-3;
            config.batch_size = 16;
        }
        plan.few_shot.optimisation.steps = 10;
        plan.few_shot.optimisation.warmup_steps = 0;
    }
    profile.limits = Limits { train: 160, dev: 40, test: 60 };
    profile.seeds = 2;
    profile
}

fn place() -> Compute {
    Compute { device: Device::Cpu, threads: 2 }
}

fn report(out: &Path) -> Result<Value> {
    Ok(serde_json::from_slice(&std::fs::read(out.join("report.json"))?)?)
}

#[test]
fn a_run_judges_every_claim_it_can_and_a_resumed_run_finds_the_same() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("run");
    reproduce(&toy(), place(), &out)?;
    let whole = report(&out)?;
    for key in
        ["schema", "commit", "profile", "device", "precision", "threads", "seconds", "peak_rss_mb", "claims", "tables"]
    {
        assert!(whole.get(key).is_some(), "report.json lacks {key}");
    }
    let claims = whole["claims"].as_array().context("claims")?;
    let ids: Vec<&str> = claims.iter().filter_map(|claim| claim["id"].as_str()).collect();
    for id in ["C1.full", "C1.adapter", "C4.full", "C4.adapter", "C5.full", "C5.adapter", "C6.full", "C6.adapter"] {
        // The toy's frozen backbone may be too poor for adapters: then nothing is retained of nothing, and the report says so.
        let excused = id == "C1.adapter" && whole["notes"].to_string().contains("C1.adapter was not measured");
        assert!(ids.contains(&id) || excused, "{id} is neither measured nor explained: {ids:?}");
    }
    for claim in claims {
        for key in ["statement", "rule", "measured", "ci95", "per_seed", "n", "holds"] {
            assert!(claim.get(key).is_some(), "claim {} lacks {key}", claim["id"]);
        }
        assert_eq!(claim["n"], 2);
    }
    for file in ["report.md", "report.html", "figures/C1-compatibility.svg", "figures/C1-compatibility.png"] {
        assert!(out.join(file).metadata()?.len() > 500, "{file}");
    }

    // As if the run had been cut off: an upgrade, a few jobs and the report are gone.
    std::fs::remove_dir_all(out.join("lineage-0/versions/M2"))?;
    std::fs::remove_file(out.join("report.json"))?;
    // As if an older program had made it, too.
    let inputs: Inputs = read_json(out.join("inputs.json"))?;
    std::fs::remove_file(out.join("inputs.json"))?;
    let mut jobs: Vec<_> = std::fs::read_dir(out.join("jobs"))?.collect::<std::io::Result<_>>()?;
    jobs.sort_by_key(|job| job.file_name());
    for job in jobs.iter().step_by(3) {
        std::fs::remove_file(job.path())?;
    }
    reproduce(&toy(), Compute { threads: 1, ..place() }, &out)?;
    assert_eq!(
        report(&out)?["claims"],
        whole["claims"],
        "one worker or two, at once or resumed: the numbers are the same"
    );

    assert_eq!(read_json::<Inputs>(out.join("inputs.json"))?, inputs);

    // More seeds add to what is there; other settings and other texts are refused.
    let other = Profile { seed: 1, ..toy() };
    let error = format!("{:#}", reproduce(&other, place(), &out).err().context("must be refused")?);
    assert!(error.contains("other settings"), "{error}");
    let other =
        Inputs::from_iter(inputs.into_iter().map(|(name, print)| (name.replace("corpus bio", "corpus law"), print)));
    write_json(out.join("inputs.json"), &other)?;
    let error = format!("{:#}", reproduce(&toy(), place(), &out).err().context("must be refused")?);
    assert!(error.contains("not those that the run") && error.contains("corpus bio, corpus law"), "{error}");
    Ok(())
}

#[test]
fn a_folder_with_something_else_in_it_is_left_alone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("thesis.tex"), "precious")?;
    let error = format!("{:#}", reproduce(&toy(), place(), folder.path()).err().context("must be refused")?);
    assert!(error.contains("not a run"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 1);
    Ok(())
}
