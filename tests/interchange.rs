//! Weights of PEFT, AdapterHub, OpenDelta and transformers come in and go back, with those packages as judges. Needs the test
//! environments (`make test` makes them); where there are none these tests say so, and with `CI=true` they fail.

mod support;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use recyclable::analysis::{Tuned, linear_path};
use recyclable::device::Precision;
use recyclable::display::Progress;
use recyclable::interchange::{Format, ImportOptions, Imported, export, format_of, import};
use recyclable::model::{Adapted, Card, Model, Version};
use recyclable::recycle::{Combined, Distill, DistillConfig, Init, Recycle, Upgrade};
use recyclable::text::{Example, Task, TaskData, TokenBatch};
use recyclable::train::{Optimisation, TuneConfig};
use support::{Golden, python_with, run_python};
use tch::{Device, Kind};

const LABELS: [&str; 3] = ["background", "uses", "naïve"];

fn options() -> ImportOptions {
    let labels = Some(LABELS.map(String::from).to_vec());
    ImportOptions { task: "topic".to_string(), labels, ..ImportOptions::default() }
}

/// The folders in a folder, by name.
fn folders(at: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(at).with_context(|| at.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        found.push((name, path));
    }
    found.sort();
    Ok(found)
}

/// Whether a model scores what Python's did.
fn compare(model: &Model, at: &Path) -> Result<()> {
    let golden = Golden::load(at.join("expected.safetensors"))?;
    let tokens = TokenBatch {
        input_ids: golden.get("input_ids")?,
        attention_mask: Some(golden.get("attention_mask")?.to_kind(Kind::Bool)),
        token_types: golden.find("token_type_ids"),
    };
    golden.compare("logits", &model.logits(&tokens)?, None, 0.0)
}

/// Takes every case in, compares its scores, and writes it back beside it in the same format.
fn there_and_back(family: &Path, format: Format) -> Result<Version> {
    let base = Version::load(family.join("base"))?;
    for (name, at) in folders(&family.join("cases"))? {
        let case = || format!("{}, {name}", family.display());
        let adapter = (name == "two adapters").then(|| "second".to_string());
        let options = ImportOptions { adapter, ..options() };
        assert_eq!(format_of(&at)?, format);
        let Imported { adapted, .. } = import(&at, &base, &options).with_context(case)?;
        compare(&adapted.apply(&base, Device::Cpu)?, &at).with_context(case)?;
        let back = family.join("back").join(&name);
        export(&adapted, &base, format, &back, None).with_context(case)?;
        // What was exported says everything: it comes back without being told the labels.
        let silent = ImportOptions { task: "topic".to_string(), ..ImportOptions::default() };
        let again = import(&back, &base, &silent).with_context(case)?;
        assert_eq!(again.adapted.card.labels, LABELS, "{name}");
        compare(&again.adapted.apply(&base, Device::Cpu)?, &at).with_context(case)?;
        // Nothing about the way they were tuned stops them from being recycled.
        if family.ends_with("bert") {
            is_recycled_in_every_way(&adapted, &base).with_context(case)?;
        }
        // Through our own file, too.
        let file = family.join("ours").join(&name);
        adapted.save(&file)?;
        let ours = Adapted::load(&file, &base)?;
        compare(&ours.apply(&base, Device::Cpu)?, &at).with_context(case)?;
    }
    Ok(base)
}

/// A task of three classes, in words that the tokenizers of every family have.
fn task() -> Task {
    let texts = [("the cat sat", 0), ("on the mat", 1), ("the mat sat on the cat", 2)];
    let example = |(text, label): &(&str, usize)| Example { text: text.to_string(), text_pair: None, label: *label };
    let split = || texts.iter().cycle().take(6).map(example).collect::<Vec<_>>();
    let labels = LABELS.map(String::from).to_vec();
    Task { name: "topic".into(), domain: None, labels, train: split(), dev: split(), test: split() }
}

/// Weights of another tool are worth what those tuned here are: applied to an upgrade, compared along a path, distilled from, recycled.
fn is_recycled_in_every_way(adapted: &Adapted, base: &Version) -> Result<()> {
    let mut new = base.try_clone()?;
    new.backbone = base.backbone.lerp(&base.backbone.scale(1.1)?, 0.5)?;
    let config = TuneConfig {
        method: adapted.card.method.clone(),
        optimisation: Optimisation { steps: 3, ..Optimisation::default() },
        batch_size: 3,
        max_length: 12,
        eval_every: 3,
        ..TuneConfig::default()
    };
    let (task, quiet) = (task(), Progress::silent());
    let test = TaskData::new(&task.test, &base.tokenizer, 12)?;
    adapted.apply(&new, Device::Cpu)?;
    let ends = [base, &new].map(|base| Tuned { version: base, adapted, precision: Precision::Fp32 });
    let [a, b] = ends;
    assert_eq!(linear_path(a, b, 3, &[("test", &test)], Device::Cpu)?.scores("test")?.len(), 3);
    let upgrade = || Upgrade { old: base, outdated: adapted, new: &new };
    let distill = DistillConfig::default();
    let ways: [Box<dyn Recycle>; 3] = [
        Box::new(Init),
        Box::new(Distill { distill: distill.clone(), unlabelled: Vec::new() }),
        Box::new(Combined { distill, unlabelled: Vec::new() }),
    ];
    let mut turned = LABELS.map(String::from);
    turned.reverse();
    let error = Init.recycle(upgrade(), &task.in_order_of(&turned)?, &config, Device::Cpu, &quiet);
    let error = error.err().context("another order must be refused")?.to_string();
    ensure!(error.contains("in another order"), "{error}");
    for way in ways {
        let run = way.recycle(upgrade(), &task, &config, Device::Cpu, &quiet)?;
        ensure!(run.last.card.base == new.fingerprint()? && run.last.card.labels == LABELS);
        run.last.apply(&new, Device::Cpu)?;
    }
    Ok(())
}

/// What refused folders are refused with.
fn refusals(family: &Path, base: &Version, expected: &[(&str, &str)]) -> Result<()> {
    let made: Vec<String> = folders(&family.join("refused"))?.into_iter().map(|(name, _)| name).collect();
    let mut named: Vec<&str> = expected.iter().map(|(name, _)| *name).chain(["plain"]).collect();
    named.sort_unstable();
    ensure!(made == named, "made are {made:?}, expected {named:?}");
    for (name, words) in expected {
        let at = family.join("refused").join(name);
        let error = import(&at, base, &options()).err();
        let error = error.map_or("it was not refused".to_string(), |error| format!("{error:#}"));
        ensure!(error.contains(words), "{}, {name}: {error}", family.display());
    }
    Ok(())
}

#[test]
fn lora_of_peft_scores_here_what_it_scores_there_and_goes_back() -> Result<()> {
    let Some(python) = python_with("import torch, transformers, peft")? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let run =
        |what: &str| run_python(&python, "../interchange/peft_side.py", &[OsStr::new(what), folder.path().as_os_str()]);
    run("make")?;
    let mut bases = Vec::new();
    for (family, at) in folders(folder.path())? {
        let base = there_and_back(&at, Format::Peft)?;
        let expected = [
            ("dora", "use_dora"),
            ("embeddings", "lora_embedding"),
            ("bias of updates", "lora_bias"),
            ("ia3", "type IA3"),
            ("adalora", "type ADALORA"),
            ("token classifier", "TOKEN_CLS"),
            ("another tokenizer", "the tokenizer beside it"),
            ("lost update", "lacks the update of"),
            ("half an update", "lacks"),
            ("unknown tensor", "gate.weight"),
            ("no head", "modules_to_save"),
            ("other rank", "adapter_config.json says 5"),
            ("pissa", "changes the base"),
            ("unknown setting", "use_hyperlora"),
            ("not a number", "NaN"),
            ("pickled", "never opens"),
        ];
        refusals(&at, &base, &expected)?;
        let plain = at.join("cases/plain");
        // What is exported onto another version says which one it stands on, and what it was tuned on before.
        let Imported { adapted, .. } = import(&at.join("cases/bias of all"), &base, &options())?;
        let mut upgraded = base.try_clone()?;
        upgraded.backbone = base.backbone.scale(1.05)?;
        let moved = at.join("moved");
        export(&adapted, &upgraded, Format::Peft, &moved, None)?;
        let again = import(&moved, &upgraded, &options())?.adapted;
        assert_eq!(again.card.ancestry, [base.fingerprint()?]);
        assert_eq!(again.card.base, upgraded.fingerprint()?);
        let error = format!("{:#}", import(&moved, &base, &options()).unwrap_err());
        ensure!(error.contains("it was tuned on the base"), "{error}");
        let error = format!("{:#}", export(&adapted, &base, Format::Peft, &moved, None).unwrap_err());
        ensure!(error.contains("not empty"), "{error}");
        let few = ImportOptions { labels: Some(vec!["a".into(), "b".into()]), ..options() };
        let error = format!("{:#}", import(&plain, &base, &few).unwrap_err());
        ensure!(error.contains("scores 3 classes") && error.contains("2 labels"), "{error}");
        let error = format!("{:#}", import(&at.join("cases/two adapters"), &base, &options()).unwrap_err());
        ensure!(error.contains("several adapters") && error.contains("second"), "{error}");
        bases.push((family, plain, base));
    }
    // Another family has no such maps.
    for ((_, plain, _), (other, _, base)) in bases.iter().zip(bases.iter().cycle().skip(1)) {
        ensure!(
            import(plain, base, &options()).is_err() || other.contains("roberta") || other == "camembert",
            "{other}"
        );
    }
    println!("PEFT scores what was exported; the largest difference is {}", run("check")?);
    Ok(())
}

/// The Python of the environment that the package `adapters` has.
fn adapters_python() -> Result<Option<PathBuf>> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv-adapters/bin/python");
    support::python_at("RECYCLABLE_TEST_ADAPTERS_PYTHON", own, "import torch, transformers, adapters")
}

#[test]
fn adapters_of_adapterhub_score_here_what_they_score_there_and_go_back() -> Result<()> {
    let Some(python) = adapters_python()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let run =
        |what: &str| run_python(&python, "../interchange/hub_side.py", &[OsStr::new(what), folder.path().as_os_str()]);
    run("make")?;
    for (family, at) in folders(folder.path())? {
        let base = there_and_back(&at, Format::AdapterHub)?;
        let expected = [
            ("lora", "it is a lora"),
            ("invertible", "inv_adapter"),
            ("gated", "use_gating"),
            ("three layers", "3 layers"),
            ("no head", "with_head=True"),
            ("tagging", "type tagging"),
            ("unknown setting of the head", "temperature"),
            ("lost tensor", "lacks"),
            ("unknown tensor", "gate"),
            ("other width", "has the shape"),
            ("unknown activation", "softplus"),
            ("labels with a gap", "does not number the classes"),
            ("pickled", "never opens"),
        ];
        let tokens = [("token classifier", "ForTokenClassification")];
        let expected = if family == "distilbert" { expected.to_vec() } else { [&expected[..], &tokens].concat() };
        refusals(&at, &base, &expected)?;
    }
    println!("AdapterHub scores what was exported; the largest difference is {}", run("check")?);
    Ok(())
}

#[test]
fn adapters_of_both_layouts_of_opendelta_score_here_what_they_score_there() -> Result<()> {
    let Some(python) = adapters_python()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let releases = ["opendelta-0.2.4", "opendelta-0.3.2"];
    for release in releases {
        let arguments = [OsStr::new(release), folder.path().as_os_str()];
        run_python(&python, "../interchange/delta_side.py", &arguments)?;
    }
    for (family, at) in folders(folder.path())? {
        let base = Version::load(at.join("base"))?;
        for release in releases {
            let case = || format!("{family}, {release}");
            assert_eq!(format_of(&at.join(release))?, Format::OpenDelta);
            let Imported { adapted, .. } = import(&at.join(release), &base, &options()).with_context(case)?;
            compare(&adapted.apply(&base, Device::Cpu)?, &at.join(release)).with_context(case)?;
            // What OpenDelta left can go to AdapterHub: another format has a place for both positions.
            let hub = at.join(format!("hub-{release}"));
            export(&adapted, &base, Format::AdapterHub, &hub, None).with_context(case)?;
            let again = import(&hub, &base, &options()).with_context(case)?.adapted;
            compare(&again.apply(&base, Device::Cpu)?, &at.join(release)).with_context(case)?;
            let error = format!("{:#}", export(&adapted, &base, Format::OpenDelta, &at.join("no"), None).unwrap_err());
            ensure!(error.contains("only read"), "{error}");
        }
        for (name, words) in [("pickled", "never opens"), ("soft prompt", "it is a soft_prompt")] {
            let error = format!("{:#}", import(&at.join(name), &base, &options()).unwrap_err());
            ensure!(error.contains(words), "{name}: {error}");
        }
    }
    Ok(())
}

/// A lineage that holds weights of two tools: what it lists, which version it refuses, and what it gives back.
#[cfg(feature = "cli")]
fn on_the_command_line(at: &Path) -> Result<()> {
    let run = |line: &str| -> Result<(bool, String)> {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_recyclable"));
        let output = command.args(line.split_whitespace()).current_dir(at).output()?;
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        Ok((output.status.success(), text))
    };
    let ok = |line: &str| -> Result<String> {
        let (success, text) = run(line)?;
        ensure!(success, "{line}: {text}");
        Ok(text)
    };
    let refused = |line: &str| -> Result<String> {
        let (success, text) = run(line)?;
        ensure!(!success, "{line} was not refused: {text}");
        Ok(text)
    };
    for (name, folder) in [("M_0", "base"), ("M_1", "other")] {
        ok(&format!("lineage import {name} {folder} --lineage L"))?;
    }
    let forced = ok("lineage import-tuned tuned --version M_1 --task topic --force --id wrong --lineage L")?;
    ensure!(forced.contains("it lies") && forced.contains("from M_0"), "{forced}");
    let shown = ok("lineage show M_1 --lineage L")?;
    ensure!(shown.contains("wrong"), "{shown}");
    let card = Card::read(at.join("L/versions/M_1/adapted/wrong.safetensors"))?.recipe["imported"].clone();
    ensure!(card["nearer"].is_string() && card["forced"].is_array(), "{card}");
    ok("lineage import-tuned tuned --version M_0 --task topic --lineage L")?;
    ensure!(refused("lineage import-tuned tuned --version M_0 --task topic --lineage L")?.contains("already"));
    let list = ok("lineage list --lineage L")?;
    ensure!(list.contains("topic.full.transformers") && list.contains("from"), "{list}");
    ensure!(ok("lineage show M_0 --lineage L")?.contains("transformers"));
    ok("lineage export M_0 given --weights topic.full.transformers --format transformers --onto M_1 --lineage L")?;
    ok("lineage export M_0 plain --lineage L")?;
    ensure!(at.join("given/model.safetensors").is_file() && at.join("plain/config.json").is_file());
    let wrong = refused("lineage export M_0 lora --weights topic.full.transformers --format peft --lineage L")?;
    ensure!(wrong.contains("full weights") && !at.join("lora").exists(), "{wrong}");
    let exists =
        refused("lineage export M_0 given --weights topic.full.transformers --format transformers --lineage L")?;
    ensure!(exists.contains("exists already"), "{exists}");
    Ok(())
}

/// A model of transformers that was tuned whole; the folder of `families.py` has a base and a classifier of other weights.
#[test]
fn a_model_that_transformers_tuned_becomes_a_difference_to_its_base_and_goes_back() -> Result<()> {
    let Some(python) = support::python()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    run_python(&python, "../interchange/tuned_side.py", &[OsStr::new("make"), folder.path().as_os_str()])?;
    for (family, at) in folders(folder.path())? {
        let case = || family.clone();
        let base = Version::load(at.join("base"))?;
        let unnamed = ImportOptions { task: "topic".to_string(), ..ImportOptions::default() };
        let Imported { adapted, notes } = import(&at.join("tuned"), &base, &unnamed).with_context(case)?;
        ensure!(notes.is_empty(), "{family}: {notes:?}");
        assert_eq!(adapted.card.labels, LABELS);
        ensure!(adapted.card.recipe["imported"]["format"] == "transformers", "{}", adapted.card.recipe);
        compare(&adapted.apply(&base, Device::Cpu)?, &at.join("tuned")).with_context(case)?;
        export(&adapted, &base, Format::Transformers, &at.join("back"), None).with_context(case)?;

        // A base that has nothing to do with it is refused with the numbers, and taken where that is forced.
        let other = Version::load(at.join("other"))?;
        let error = format!("{:#}", import(&at.join("tuned"), &other, &unnamed).unwrap_err());
        ensure!(error.contains("‖Δ‖ =") && error.contains("not the base"), "{family}: {error}");
        let forced = import(&at.join("tuned"), &other, &ImportOptions { force: true, ..unnamed.clone() })?;
        ensure!(forced.notes.iter().any(|note| note.contains("forced")), "{:?}", forced.notes);
        ensure!(forced.adapted.card.recipe["imported"]["forced"].is_array(), "{}", forced.adapted.card.recipe);
        compare(&forced.adapted.apply(&other, Device::Cpu)?, &at.join("tuned")).with_context(case)?;
        #[cfg(feature = "cli")]
        if family == "bert" {
            on_the_command_line(&at)?;
        }
        let turned = ImportOptions {
            labels: Some(["uses", "background", "naïve"].map(String::from).to_vec()),
            ..unnamed.clone()
        };
        let error = format!("{:#}", import(&at.join("tuned"), &base, &turned).unwrap_err());
        ensure!(error.contains("in this order"), "{family}: {error}");
        let smaller = Version::load(at.join("smaller"))?;
        let error = format!("{:#}", import(&at.join("tuned"), &smaller, &unnamed).unwrap_err());
        ensure!(
            error.contains("num_hidden_layers is 3 there and 2") && error.contains("not tuned"),
            "{family}: {error}"
        );
    }
    run_python(&python, "../interchange/tuned_side.py", &[OsStr::new("check"), folder.path().as_os_str()])?;
    Ok(())
}
