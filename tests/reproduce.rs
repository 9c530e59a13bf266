//! The main job at toy size: a whole run, an interrupted one, and a folder that is not to be touched.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use recyclable::analysis::{CurveConfig, PlaneConfig};
use recyclable::display::Progress;
use recyclable::experiment::profile::{
    Beginning, EncoderSource, FolderSource, FurtherWorlds, Limits, ModelSize, Source,
};
use recyclable::experiment::results::{Lesson, Results, Start};
use recyclable::experiment::studies::{Chosen, Studies};
use recyclable::experiment::sweep::{SweepConfig, sweep};
use recyclable::experiment::{Compute, Inputs, Profile, Unit};
use recyclable::files::{read_json, write_json};
use recyclable::lineage::Lineage;
use recyclable::model::{EncoderConfig, Family, Version};
use recyclable::params::write_safetensors;
use recyclable::report::{Report, rejudge, report_sweep, reproduce};
use recyclable::text::{Corpus, Tokenizer, World, WorldConfig};
use recyclable::train::{HeadWarmup, Optimisation};
use serde_json::Value;
use tch::Device;

/// One at a time: the number of threads that products are split over is the process's, and so, by rounding, are the numbers compared here.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Two tasks of an easy world, two seeds, a network small enough for a test.
fn toy() -> Profile {
    let mut profile = Profile { lineages: 1, further_worlds: Default::default(), ..Profile::world() };
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
    profile.model = Beginning::Untrained(ModelSize { hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2 });
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
    profile.pilot.points = 5;
    (profile.rates, profile.further_updates) = (vec![1.0, 0.5], 1.5);
    profile.seeds = 2;
    profile
}

fn place() -> Compute {
    Compute { device: Device::Cpu, threads: 2 }
}

fn report(out: &Path) -> Result<Value> {
    Ok(serde_json::from_slice(&std::fs::read(out.join("report.json"))?)?)
}

/// Rows without what differs from run to run: time.
fn timeless(out: &Path) -> Result<Results> {
    let mut results = Results::load(out)?;
    results.runs.iter_mut().for_each(|row| row.seconds = 0.0);
    results.pairs.iter_mut().for_each(|row| row.seconds = 0.0);
    results.versions.iter_mut().for_each(|row| (row.seconds, row.tokens_per_second) = (0.0, 0.0));
    Ok(results)
}

#[test]
fn a_run_judges_every_claim_it_can_and_a_resumed_run_finds_the_same() -> Result<()> {
    let _turn = turn();
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
    let names = ["C1", "C2", "C3", "C4a", "C4b", "C5", "C6"];
    for id in names.iter().flat_map(|claim| ["full", "adapter"].map(|method| format!("{claim}.{method}"))) {
        let id = id.as_str();
        // The toy's frozen backbone may be too poor for adapters: then nothing is retained of nothing, and the report says so.
        let excused = id == "C1.adapter" && whole["notes"].to_string().contains("C1.adapter was not measured");
        assert!(ids.contains(&id) || excused, "{id} is neither measured nor explained: {ids:?}");
    }
    for claim in claims {
        for key in ["statement", "rule", "measured", "ci95", "per_unit", "unit", "n", "verdict", "holm"] {
            assert!(claim.get(key).is_some(), "claim {} lacks {key}", claim["id"]);
        }
        assert_eq!((&claim["n"], &claim["unit"]), (&2.into(), &"seed".into()));
    }
    let tables = whole["tables"].as_array().context("tables")?;
    let tables: Vec<&str> = tables.iter().filter_map(|table| table["id"].as_str()).collect();
    for id in
        ["compatibility", "controls", "flips", "paths", "heads", "initialization", "rates", "few-shot", "baselines"]
    {
        assert!(tables.contains(&id), "there is no table {id}: {tables:?}, {}", whole["notes"]);
    }
    let figures = ["C1-compatibility.svg", "C1-compatibility.png", "C2-paths-full.svg", "C3-heads-adapter.svg"];
    for file in
        ["report.md", "report.html"].map(String::from).into_iter().chain(figures.map(|f| format!("figures/{f}")))
    {
        assert!(out.join(&file).metadata()?.len() > 500, "{file}");
    }
    every_row_says_what_it_is_of(&out)?;
    data_frames_read_the_rows(&out)?;

    study(&out)?;
    study_on_the_command_line(&out)?;

    // As if the run had been cut off: an upgrade, a few rows, half a line and the report are gone.
    let before = timeless(&out)?;
    std::fs::remove_dir_all(out.join("lineage-0/versions/M2"))?;
    std::fs::remove_file(out.join("report.json"))?;
    let inputs: Inputs = read_json(out.join("inputs.json"))?;
    std::fs::remove_file(out.join("inputs.json"))?;
    let rows = out.join("results/runs.jsonl");
    let text = std::fs::read_to_string(&rows)?;
    let kept: Vec<&str> = text.lines().enumerate().filter(|(at, _)| at % 3 > 0).map(|(_, line)| line).collect();
    let (cut, whole_ones) = kept.split_last().context("rows")?;
    std::fs::write(&rows, format!("{}\n{}", whole_ones.join("\n"), &cut[..cut.len() / 2]))?;
    reproduce(&toy(), Compute { threads: 1, ..place() }, &out)?;
    assert_eq!(
        report(&out)?["claims"],
        whole["claims"],
        "one worker or two, at once or resumed: the numbers are the same"
    );
    assert_eq!(timeless(&out)?, before, "and so is every row");
    // Judged again from the rows alone, without any model.
    let elsewhere = folder.path().join("rows");
    std::fs::create_dir_all(elsewhere.join("results"))?;
    for file in ["profile.json", "inputs.json", "report.json", "results/runs.jsonl", "results/pairs.jsonl"] {
        std::fs::copy(out.join(file), elsewhere.join(file))?;
    }
    let error = rejudge(&elsewhere.join("results")).unwrap_err().to_string();
    assert!(error.contains("profile.json"), "{error}");
    let error = rejudge(&elsewhere).unwrap_err().to_string();
    assert!(
        error.contains("no result") && error.contains(" on "),
        "versions and what they know are part of a run: {error}"
    );
    std::fs::copy(out.join("results/versions.jsonl"), elsewhere.join("results/versions.jsonl"))?;
    let before = Report::load(&elsewhere)?;
    let again = rejudge(&elsewhere)?;
    assert_eq!(serde_json::to_value(&again.claims)?, whole["claims"]);
    assert_eq!((again.seconds, again.date), (before.seconds, before.date));
    // Rows of more seeds than were asked for are left out.
    write_json(elsewhere.join("profile.json"), &Profile { seeds: 1, ..toy() })?;
    assert!(rejudge(&elsewhere)?.claims.iter().all(|claim| claim.n == 1));
    assert_eq!(read_json::<Inputs>(out.join("inputs.json"))?, inputs);

    // More seeds add to what is there; other settings, other texts and older programs' folders are refused.
    let other = Profile { seed: 1, ..toy() };
    let error = format!("{:#}", reproduce(&other, place(), &out).err().context("must be refused")?);
    assert!(error.contains("other settings"), "{error}");
    let other =
        Inputs::from_iter(inputs.into_iter().map(|(name, print)| (name.replace("corpus bio", "corpus law"), print)));
    write_json(out.join("inputs.json"), &other)?;
    let error = format!("{:#}", reproduce(&toy(), place(), &out).err().context("must be refused")?);
    assert!(error.contains("not those that the run") && error.contains("corpus law"), "{error}");
    std::fs::create_dir(out.join("jobs"))?;
    let error = format!("{:#}", reproduce(&toy(), place(), &out).err().context("must be refused")?);
    assert!(error.contains("older version of this program"), "{error}");
    Ok(())
}

/// The table of results, as a reader of rows finds it.
fn every_row_says_what_it_is_of(out: &Path) -> Result<()> {
    let Results { runs, pairs, versions } = Results::load(out)?;
    assert!(runs.iter().all(|row| row.key.data == "world-0" && row.split == "test" && row.n == 60));
    assert!(runs.iter().all(|row| {
        row.right().is_ok_and(|right| (right.iter().sum::<f64>() / right.len() as f64 - row.accuracy).abs() < 1e-12)
    }));
    let applied = runs.iter().filter(|row| row.key.recipe.lesson == Lesson::Nothing);
    assert!(applied.clone().count() > 0 && applied.clone().all(|row| row.updates == 0 && row.curve.is_empty()));
    // At the further rate there are half as many updates more, and full tuning has the half of the rate.
    let at_rates =
        runs.iter().filter(|row| row.updates > 0 && row.key.recipe.shots.is_none() && row.key.method == "full");
    let budgets: BTreeSet<_> = at_rates.map(|row| (row.key.recipe.rate, row.updates)).collect();
    assert_eq!(budgets, BTreeSet::from([(0, 60), (1, 90)]));
    // M_PERM in all coordinates computes what M_0 does, so weights tuned on it are as good as M_0's; Δ_0 is not.
    let control = runs.iter().find(|row| row.key.recipe.version == "PERM" && row.key.recipe.start == Start::Delta);
    assert!(control.is_some() && pairs.iter().all(|pair| pair.path.len() == 5) && versions.len() >= 3 * 3);
    // Adapters live in the hidden dimensions: where those stay, they work on as if nothing had happened.
    let adapters = |version: &str| -> Vec<&str> {
        let of_version = runs.iter().filter(|row| row.key.method == "adapter" && row.key.recipe.version == version);
        let scored = of_version.filter(|row| match version {
            "M0" => row.key.task != "bio_field",
            _ => row.key.recipe.start == Start::Delta && row.key.recipe.lesson == Lesson::Nothing,
        });
        scored.map(|row| row.answers.as_str()).collect()
    };
    assert_eq!(adapters("M0"), adapters("PERM-inner"));
    Ok(())
}

/// The same rows, read by polars, pandas and DuckDB.
fn data_frames_read_the_rows(out: &Path) -> Result<()> {
    let Some(python) = support::python_with("import duckdb, pandas, polars")? else { return Ok(()) };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/results.py");
    let mut command = Command::new(python);
    let output = command.arg(script).arg(out.join("results")).env_remove("LD_LIBRARY_PATH").output()?;
    let problem = String::from_utf8_lossy(&output.stderr).into_owned();
    let found: Value = serde_json::from_slice(&output.stdout).with_context(|| problem)?;
    let Results { runs, versions, .. } = Results::load(out)?;
    let applied = runs.iter().filter(|row| {
        let recipe = &row.key.recipe;
        (recipe.start, recipe.lesson, recipe.version.as_str()) == (Start::Delta, Lesson::Nothing, "M1")
    });
    let scores: Vec<f64> = applied.map(|row| row.accuracy).collect();
    let mean = scores.iter().sum::<f64>() / scores.len() as f64;
    for reader in 0..3 {
        assert_eq!(found["runs"][reader], runs.len());
        assert!((found["accuracy"][reader].as_f64().context("a number")? - mean).abs() < 1e-12, "{found}");
    }
    assert_eq!(found["answers"], serde_json::json!([60, 60]));
    assert_eq!(found["curve"], runs.iter().map(|row| row.curve.len()).max().unwrap_or(0));
    assert_eq!(found["first mu"], 0.0);
    let names: BTreeSet<&str> = versions.iter().map(|row| row.key.version.as_str()).collect();
    assert_eq!(found["versions"], names.len());
    Ok(())
}

/// The further studies, on the versions of that run.
fn study(out: &Path) -> Result<()> {
    let open = |chosen: Chosen| Studies::open(out, &chosen, Device::Cpu);
    let studies = open(Chosen::default())?;
    let triangle = studies.triangle()?;
    assert_eq!(triangle.scores.iter().map(Vec::len).collect::<Vec<_>>(), [3, 2, 1]);
    // The inside of an upgrade begins at the old version and ends at the new one: the triangle's first two numbers.
    let inside = studies.inside(1, 2, &Progress::silent())?;
    assert_eq!(inside.points.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [0, 5, 10]);
    assert!(inside.is_stored_version, "the way is the same to the bit");
    assert_eq!(inside.points[0].1, triangle.scores[0][0]);
    assert_eq!(inside.points[2].1, triangle.scores[0][1]);
    let scale = studies.scale("M1", &[0.0, 1.0])?;
    assert_eq!(scale.test_at_one, triangle.scores[0][1]);
    let path = studies.path("M0", "M1", 3)?;
    assert_eq!(path.points[0].scores["test"], Some(triangle.scores[0][0]));
    assert_eq!(path.points[2].scores["test"], Some(triangle.scores[1][0]));
    assert_ne!(studies.path("M0", "M1+uncoupled", 2)?.points[1].scores, path.points[2].scores);
    let optimisation = Optimisation { steps: 10, ..Optimisation::default() };
    let config = CurveConfig { optimisation, ..CurveConfig::default() };
    let (_, curve) = studies.curve("M0", "IND", &config, 3, &Progress::silent())?;
    assert_eq!(curve.points[0].scores["test"], path.points[0].scores["test"]);
    let plane = studies.plane(["M0", "M1", "IND"], &PlaneConfig { resolution: 3, margin: 0.1 }, 20)?;
    assert_eq!((plane.scores.len(), plane.scores[0].len(), plane.scores[0][0].map(|s| s.n)), (3, 3, Some(20)));
    let (heads, layers) = studies.heads("M1", "M1", 10)?;
    assert!((heads.js.corresponding().context("heads")? - 1.0).abs() < 1e-6 && (layers.cka[0] - 1.0).abs() < 1e-6);
    let (recycled, _) = studies.heads("M1", "M1+recycled", 10)?;
    assert!(recycled.js.corresponding().context("heads")? < 1.0 - 1e-6, "other weights look elsewhere");
    let found = studies.distances("M0", "M1")?;
    assert!(found.versions.whole.l2 > 0.0 && found.deltas.is_some());
    assert!(found.delta_and_upgrade.context("full fine-tuning has a Δ")?.whole.cosine.is_some());
    assert!(!studies.attention("M0", &studies.task()?.dev[0].text)?.tokens.is_empty());

    let refused = |chosen: Chosen| open(chosen).err().map_or(String::new(), |error| format!("{error:#}"));
    assert!(
        refused(Chosen { task: Some("chess".into()), ..Chosen::default() }).contains("no task chess: it has bio_topic")
    );
    assert!(refused(Chosen { method: Some("lora".into()), ..Chosen::default() }).contains("full, adapter"));
    assert!(refused(Chosen { seed: 2, ..Chosen::default() }).contains("2 seeds"));
    assert!(format!("{:#}", studies.inside(9, 2, &Progress::silent()).unwrap_err()).contains("no upgrade to M9"));
    let adapters = open(Chosen { method: Some("adapter".into()), seed: 1, ..Chosen::default() })?;
    let found = adapters.distances("M0", "M1")?;
    assert!(found.delta_and_upgrade.is_none() && found.deltas.is_some(), "adapters do not move the backbone");
    adapters.path("M1", "M1+seed0", 2)?;
    Ok(())
}

/// The same as commands: tables on stdout, figures and numbers in the run's folder; and a run beside itself.
fn study_on_the_command_line(out: &Path) -> Result<()> {
    let run = |line: &str| -> Result<(bool, String)> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_recyclable"));
        let output =
            command.args(line.split(' ').map(|word| word.replace("RUN", &out.display().to_string()))).output()?;
        Ok((output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()))
    };
    let studies = [
        ("study triangle --run RUN", "on M_2", "triangle"),
        ("study inside --run RUN --points 2", "updates", "inside-M1"),
        ("study scale --run RUN --alphas 0.5,1", "best α", "scale-M1"),
        ("study path --run RUN --to M2 --points 3", "From M_0 to M_2", "path-M0-M2"),
        ("study curve --run RUN --to IND --points 3 --steps 10 --route chain", "M_IND", "curve-chain-M0-IND"),
        ("study plane --run RUN --resolution 3 --texts 10", "Numbers and figures", "plane-M0-M1-PERM"),
        ("study heads --run RUN --to M1+recycled --texts 10", "CKA", "heads-M0-M1+recycled"),
        ("study attention --run RUN --version M1 --head 1", "Attention of layer 0, head 1", "attention-M1-0-1"),
        ("study distance --run RUN --method adapter", "embeddings", "distance-M0-M1"),
    ];
    for (line, says, name) in studies {
        let (success, text) = run(line)?;
        assert!(success && text.contains(says), "{line}: {text}");
        let method = if line.contains("adapter") { "adapter" } else { "full" };
        let file = |ending: &str| out.join(format!("studies/bio_topic.{method}.s0.l0/{name}.{ending}"));
        let numbers: Value = read_json(file("json"))?;
        assert!(numbers["basis"].as_str().is_some_and(|basis| basis.contains(method)), "{line}: {}", numbers["basis"]);
        if name != "distance-M0-M1" {
            assert!(file("png").metadata()?.len() > 500, "{line} draws nothing");
        }
        if ["inside-M1", "scale-M1"].contains(&name) {
            assert!(std::fs::read_to_string(file("svg"))?.contains("chance"), "{line} does not mark chance");
        }
    }
    let (success, text) = run("compare RUN RUN --out RUN/compared.md")?;
    assert!(success && text.contains("C6.adapter") && text.contains("do not differ"), "{text}");
    assert!(std::fs::read_to_string(out.join("compared.md"))?.contains("C1.full"));
    std::fs::remove_file(out.join("compared.md"))?;
    for (line, says) in [
        ("study plane --run RUN --through M0,M1", "a plane goes through three"),
        ("study path --run RUN --to M7", "M7 cannot be studied"),
        ("study path --run RUN --points 1", "1 point"),
        ("study triangle --run RUN/jobs", "not the folder of a run"),
        ("study curve --run RUN --route line", "Bezier or Chain"),
        ("study sweep --out RUN/sweep --device abacus", "no device is named \"abacus\""),
        ("study sweep --out RUN/sweep --new-words 2", "new_words must lie in [0, 1]"),
        ("study path --run RUN --to M1+sideways", "recycled, uncoupled or seedN"),
        ("compare RUN RUN/jobs", "report.json"),
    ] {
        let (success, text) = run(line)?;
        assert!(!success && text.contains(says), "{line}: {text}");
    }
    Ok(())
}

#[test]
fn two_dials_of_the_world_are_swept_and_the_sweep_is_resumed() -> Result<()> {
    let _turn = turn();
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("sweep");
    let config = SweepConfig {
        distances: vec![0.25, 1.0],
        new_words: vec![0.0, 0.9],
        tasks: vec!["bio_topic".into()],
        lineages: 1,
        seeds: 2,
    };
    let found = sweep(&toy(), &config, place(), &out)?;
    let dials: Vec<(f64, f64)> = found.settings.iter().map(|setting| (setting.new_words, setting.distance)).collect();
    assert_eq!(dials, [(0.0, 0.25), (0.0, 1.0), (0.9, 0.25), (0.9, 1.0)]);
    // 4 settings × 3 methods × 2 seeds × (M_0, M_1, applied, from Δ_0, from α·Δ_0).
    assert_eq!(found.experiment.results.runs.len(), 4 * 3 * 2 * 5);
    // What is pre-trained on does not depend on the new words of tasks: pre-trained once, and taken over.
    let version = |setting: &str| {
        let lineage = Lineage::existing(out.join(setting).join("lineage-0"))?;
        lineage.record("M1").map(|record| (record.fingerprint, record.seconds))
    };
    assert_eq!(version("new-words-0-distance-1")?, version("new-words-0.9-distance-1")?);
    assert_ne!(version("new-words-0-distance-1")?.0, version("new-words-0-distance-0.25")?.0);
    let report = report_sweep(&found, &out)?;
    let text = report.table.to_text();
    assert!(text.contains("full, embeddings frozen") && text.contains("domain distance"), "{text}");
    assert!(out.join("figures/sweep-retained-full.svg").is_file() && out.join("sweep.md").is_file());
    // What is there is read, not measured again: a score made up in between comes back.
    let rows = out.join("results/runs.jsonl");
    let text = std::fs::read_to_string(&rows)?;
    let first = text.lines().next().context("a row")?;
    let mut made_up: Value = serde_json::from_str(first)?;
    made_up["accuracy"] = 0.125.into();
    std::fs::write(&rows, text.replacen(first, &made_up.to_string(), 1))?;
    assert_eq!(sweep(&toy(), &config, place(), &out)?.experiment.results.runs[0].accuracy, 0.125);
    let refused = |profile: Profile, config: &SweepConfig, out: &Path| {
        format!("{:#}", sweep(&profile, config, place(), out).map(drop).unwrap_err())
    };
    assert!(refused(Profile { seed: 5, ..toy() }, &config, &out).contains("other settings"));
    let other = SweepConfig { tasks: vec!["review_sentiment".into()], ..config };
    let error = refused(toy(), &other, &folder.path().join("other"));
    assert!(error.contains("is from reviews, the first upgrade is to bio"), "{error}");
    Ok(())
}

/// The toy's texts as files, and a profile that reads them as real text: one task, one method, one seed.
fn toy_on_files(data: &Path) -> Result<Profile> {
    let mut profile = toy();
    let Source::World(config) = profile.source else { anyhow::bail!("the toy is of the built-in world") };
    let world = World::new(config)?;
    let save = |corpus: Corpus, name: &str| corpus.save(data.join("corpora").join(format!("{name}.txt")));
    save(world.initial_corpus()?, "first")?;
    let upgrades = world.upgrades().to_vec();
    upgrades.iter().try_for_each(|name| save(world.corpus(name)?, name))?;
    profile.tasks.truncate(1);
    profile.methods.truncate(1);
    (profile.sources, profile.seeds, profile.rates) = (Vec::new(), 1, vec![1.0]);
    profile.methods[0].full_data.optimisation.steps = 300; // enough to learn something of texts that are cut off
    world.task(&profile.tasks[0].name)?.save(data.join("tasks").join(&profile.tasks[0].name))?;
    let folder = data.to_path_buf();
    profile.source = Source::Folder(FolderSource {
        folder,
        initial: "first".into(),
        initial_share: 0.3,
        upgrades,
        vocab_size: Some(400),
    });
    Ok(profile)
}

#[test]
fn on_real_text_a_bootstrap_over_test_texts_stands_beside_what_it_is_of() -> Result<()> {
    let _turn = turn();
    let folder = tempfile::tempdir()?;
    let profile = toy_on_files(&folder.path().join("data"))?;
    let report = reproduce(&profile, place(), &folder.path().join("run"))?;
    let claim = |id: &str| {
        let found = report.claims.iter().find(|claim| claim.id == id);
        found.with_context(|| format!("there is no {id}: {:?}", report.notes))
    };
    for id in ["C1.full", "C2.full", "C3.full", "C4b.full", "C5.full", "C6.full"] {
        let claim = claim(id)?;
        if claim.note.contains("no interval over texts") {
            assert_eq!(id, "C1.full", "only a share can have nothing below the line");
            continue;
        }
        let drawn = claim.texts.first().with_context(|| format!("{id} has no bootstrap"))?;
        let [lo, hi] = drawn.ci95.context("bounds")?;
        assert_eq!(drawn.name, claim.quantity);
        assert!((drawn.mean - claim.measured).abs() < 1e-6, "{id}: {} {}", drawn.mean, claim.measured);
        // A barrier is a maximum: texts drawn anew rather raise it.
        assert!(
            lo <= hi && drawn.mean <= hi && (lo <= drawn.mean || id == "C2.full"),
            "{id}: {lo} {} {hi}",
            drawn.mean
        );
        for part in &claim.texts[1..] {
            let observed = claim.find(&part.name).context("a part is missing")?;
            assert!((part.mean - observed.mean).abs() < 1e-6, "{id}, {}: {} {}", part.name, part.mean, observed.mean);
        }
    }
    // The ratio of updates rests on dev curves: no test text can be drawn anew for it.
    assert!(claim("C4a.full")?.texts.is_empty());
    // The same folder with another text in it is not the same run.
    let path = folder.path().join("data/corpora/bio.txt");
    std::fs::write(&path, std::fs::read_to_string(&path)? + "one more document\n")?;
    let error =
        format!("{:#}", reproduce(&profile, place(), &folder.path().join("run")).err().context("must be refused")?);
    assert!(error.contains("not those that the run"), "{error}");
    Ok(())
}

/// A bare BERT of one layer in a folder, as a package would hold it: no masked-LM head.
fn bare_encoder(folder: &Path, data: &Path) -> Result<()> {
    let corpus = Corpus::load(data.join("corpora/first.txt"))?;
    let tokenizer = Tokenizer::train_bpe(corpus.iter(), 400)?;
    let tiny = EncoderConfig::tiny(tokenizer.vocab_size() as i64, 32, 64);
    let config = EncoderConfig { model_type: Family::Bert, type_vocab_size: 2, num_hidden_layers: 1, ..tiny };
    let version = Version::new(&config, &tokenizer, 7)?;
    version.save(folder)?;
    write_safetensors(folder.join("model.safetensors"), &[("", &version.backbone)], "format", "pt")
}

#[test]
fn a_pre_trained_encoder_is_continued_upgraded_once_and_judged_beside_a_placebo() -> Result<()> {
    let _turn = turn();
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let mut profile = toy_on_files(&at("data"))?;
    bare_encoder(&at("encoder"), &at("data"))?;
    let source = EncoderSource { encoder: at("encoder"), other: None };
    (profile.model, profile.placebo, profile.independent) = (Beginning::Encoder(source), true, false);
    (profile.twice, profile.variants) = (false, false);
    // Whole texts, so that there is something to learn.
    (profile.initial.max_length, profile.upgrade.max_length) = (64, 64);
    (profile.methods[0].full_data.max_length, profile.methods[0].few_shot.max_length) = (64, 64);
    profile.initial.head_warmup = Some(HeadWarmup { steps: 20, learning_rate: 5e-3 });
    let Source::Folder(texts) = &mut profile.source else { anyhow::bail!("real texts") };
    texts.vocab_size = None;
    texts.upgrades.truncate(1);
    profile.tasks[0].targets = vec![1];
    let report = reproduce(&profile, place(), &at("run"))?;
    assert!(report.is_complete(&profile), "{:?}", report.notes);
    assert!(report.basis().contains("conditional on one lineage on one set of texts"), "{}", report.basis());
    let table = report.tables.iter().find(|table| table.id == "compatibility").context("compatibility")?.to_text();
    assert!(table.contains("M_PLACEBO") && table.contains("M_PERM") && !table.contains("M_2"), "{table}");
    let c1 = report.claims.iter().find(|claim| claim.id == "C1.full").context("C1")?;
    assert!(c1.find("r(M_PLACEBO), an upgrade to nothing new").is_some() && c1.rule.contains("averaged over M_1,"));

    // Every version is the encoder, moved: the placebo and the first upgrade from M_0 by other texts.
    let lineage = Lineage::existing(at("run/lineage-0"))?;
    let versions = ["M0", "M1", "PLACEBO"].map(|name| lineage.version(name));
    let [m0, m1, placebo] = versions;
    let (m0, m1, placebo) = (m0?, m1?, placebo?);
    assert_eq!((m0.config.model_type, lineage.record("PLACEBO")?.parent), (Family::Bert, Some("M0".to_string())));
    assert!((&m1.backbone - &m0.backbone)?.norm()? > 0.0 && (&m1.backbone - &placebo.backbone)?.norm()? > 0.0);

    // An independent model has the encoder's shape and tokenizer.
    let refused = |profile: &Profile, out: &str| -> Result<String> {
        Ok(format!("{:#}", reproduce(profile, place(), &at(out)).err().context("must be refused")?))
    };
    let wider = EncoderConfig { hidden_size: 36, ..m0.config.clone() };
    Version::new(&wider, &m0.tokenizer, 8)?.save(at("wider"))?;
    let mut independent = Profile { independent: true, ..profile.clone() };
    independent.model = Beginning::Encoder(EncoderSource { encoder: at("encoder"), other: Some(at("wider")) });
    let error = refused(&independent, "independent")?;
    assert!(error.contains("wider differ in shape, vocabulary or tokenizer") && !at("independent").exists(), "{error}");

    // Another encoder in the same place is another run, and so is another tokenizer.
    let kept = std::fs::read(at("encoder/tokenizer.json"))?;
    let cut = String::from_utf8(kept.clone())?.replace("\"add_prefix_space\": false", "\"add_prefix_space\": true");
    std::fs::write(at("encoder/tokenizer.json"), cut)?;
    let error = refused(&profile, "run")?;
    assert!(error.contains("not those that the run") && error.contains("encoder: tokenizer"), "{error}");
    std::fs::write(at("encoder/tokenizer.json"), kept)?;
    let other = Version::new(&m0.config, &m0.tokenizer, 8)?;
    write_safetensors(at("encoder/model.safetensors"), &[("", &other.backbone)], "format", "pt")?;
    let error = refused(&profile, "run")?;
    assert!(error.contains("not those that the run") && error.contains("encoder: model.safetensors"), "{error}");
    Ok(())
}

#[test]
fn seeds_and_lineages_are_added_to_a_run_and_three_lineages_make_them_the_unit() -> Result<()> {
    let _turn = turn();
    let folder = tempfile::tempdir()?;
    let mut profile = Profile { variants: false, twice: false, rates: vec![1.0], ..toy() };
    profile.tasks.truncate(1);
    profile.methods.truncate(1);
    profile.sources.clear();
    let out = folder.path().join("run");
    let one = reproduce(&Profile { seeds: 1, ..profile.clone() }, place(), &out)?;
    assert!(one.claims.iter().all(|claim| claim.n == 1 && claim.ci95.is_none() && claim.holm.is_none()));
    let two = reproduce(&profile, place(), &out)?;
    assert!(two.is_complete(&profile), "{:?}", two.notes);
    assert!(two.claims.iter().all(|claim| (claim.n, claim.unit) == (2, Unit::Seed)));
    let first = |report: &Report, id: &str| report.claims.iter().find(|claim| claim.id == id).map(|c| c.per_unit[0]);
    assert_eq!(first(&one, "C2.full"), first(&two, "C2.full"), "the first seed's value stays");
    assert!(two.basis().contains("conditional on one lineage of one world"));
    let paths = two.tables.iter().find(|table| table.id == "paths").context("no table of paths")?;
    assert!(paths.to_text().contains("two seeds") && paths.to_text().contains("uncoupled"));

    // A task is added beside those that are there; a run of more is not taken for one of fewer.
    let more_tasks = Profile { tasks: toy().tasks, ..profile.clone() };
    let added = folder.path().join("added");
    reproduce(&profile, place(), &added)?;
    let wider = reproduce(&more_tasks, place(), &added)?;
    assert!(wider.is_complete(&more_tasks), "{:?}", wider.notes);
    assert_eq!(first(&two, "C2.full"), first(&wider, "C2.full"), "paths are those of the first task");
    assert_ne!(first(&two, "C4b.full"), first(&wider, "C4b.full"), "the mean is over both");
    let error = format!("{:#}", reproduce(&profile, place(), &added).err().context("must be refused")?);
    assert!(error.contains("other settings"), "{error}");

    let further_worlds = FurtherWorlds { worlds: 1, lineages: 1, seeds: 1 };
    let three = Profile { lineages: 3, further_worlds, ..profile };
    let report = reproduce(&three, place(), &out)?;
    assert!(report.claims.iter().all(|claim| (claim.n, claim.unit) == (3, Unit::Lineage)), "{:?}", report.notes);
    assert!(report.basis().contains("3 independently pre-trained lineages of 2 seeds each"), "{}", report.basis());
    // A lineage's value is the mean over its seeds.
    let claim = |report: &Report| report.claims.iter().find(|claim| claim.id == "C2.full").cloned().context("C2");
    let (before, after) = (claim(&two)?, claim(&report)?);
    assert!((after.per_unit[0] - (before.per_unit[0] + before.per_unit[1]) / 2.0).abs() < 1e-12);
    assert!(after.variance.is_some_and(|shares| shares.groups == 3 && shares.observations == 6));
    // Lineages really differ, and so does the other world.
    let fingerprint = |lineage: &str| -> Result<Value> {
        Ok(read_json::<Value>(out.join(lineage).join("versions/M0/version.json"))?["fingerprint"].clone())
    };
    let prints = ["lineage-0", "lineage-1", "lineage-2", "world-1/lineage-0"].map(fingerprint);
    let prints = prints.into_iter().map(|print| Ok(print?.to_string())).collect::<Result<BTreeSet<_>>>()?;
    assert_eq!(prints.len(), 4);
    let worlds = report.tables.iter().find(|table| table.id == "worlds").context("no table of worlds")?;
    assert!(worlds.to_text().contains("world-1") && worlds.rows.len() == 7, "{}", worlds.to_text());
    Ok(())
}

#[test]
fn a_folder_with_something_else_in_it_is_left_alone() -> Result<()> {
    let _turn = turn();
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("thesis.tex"), "precious")?;
    let error = format!("{:#}", reproduce(&toy(), place(), folder.path()).err().context("must be refused")?);
    assert!(error.contains("not a run"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 1);
    Ok(())
}
