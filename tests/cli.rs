//! The steps of recyclable tuning as a user takes them: pretrain → pretrain → tune → apply → recycle → eval, one process each.
#![cfg(feature = "cli")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use recyclable::model::Card;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with two corpora, two tasks, and a lineage M_0 → M_1 with weights `topic.full.0` on M_0.
struct Desk {
    folder: PathBuf,
    /// Removes the folder in the end; a desk that tests share is a static, and statics are not dropped.
    _temporary: Option<TempDir>,
}

impl Desk {
    /// Corpora and tasks alone.
    fn bare() -> Result<Desk> {
        let temporary = tempfile::tempdir()?;
        Desk::furnish(Desk { folder: temporary.path().to_path_buf(), _temporary: Some(temporary) })
    }

    fn furnish(desk: Desk) -> Result<Desk> {
        let words = [
            "the mayor opened a new bridge over the river while many people watched",
            "the protein binds a small enzyme inside the cell while gene activity rises",
        ]
        .map(|text| text.split(' ').collect::<Vec<_>>());
        let sentence = |domain: usize, row: usize| -> String {
            (0..7)
                .map(|at| words[domain][(row * row + 5 * at + row * at) % words[domain].len()].to_string() + " ")
                .collect()
        };
        for (domain, name) in ["news.txt", "bio.txt"].into_iter().enumerate() {
            let lines: String = (0..150).map(|row| sentence(domain, row) + "\n").collect();
            std::fs::write(desk.path(name), lines)?;
        }
        for (task, labels) in [("topic", ["news", "bio"]), ("other", ["yes", "no"])] {
            std::fs::create_dir(desk.path(task))?;
            for (at, (split, rows)) in [("train", 16), ("dev", 8), ("test", 10)].into_iter().enumerate() {
                let line = |row: usize| json!({"text": sentence(row % 2, 1000 * at + row), "label": labels[row % 2]});
                let lines: String = (0..rows).map(|row| format!("{}\n", line(row))).collect();
                std::fs::write(desk.path(task).join(format!("{split}.jsonl")), lines)?;
            }
        }
        Ok(desk)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Starts the program in this folder, with one thread.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_recyclable"));
        command.args(line.split_whitespace()).current_dir(&self.folder);
        command.env("OMP_NUM_THREADS", "1").env("RAYON_NUM_THREADS", "1").env_remove("RECYCLABLE_DEVICE");
        command
    }

    fn output(&self, line: &str) -> Result<Output> {
        self.command(line).output().context("the program does not start")
    }

    /// What a successful command prints.
    fn run(&self, line: &str) -> Result<String> {
        let output = self.output(line)?;
        ensure!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    fn json(&self, line: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.run(&format!("{line} --json"))?)?)
    }

    /// What a refused command says.
    fn refused(&self, line: &str) -> Result<String> {
        let output = self.output(line)?;
        let text = String::from_utf8(output.stderr)?;
        ensure!(output.status.code() == Some(1), "{line} exits with {:?}: {text}", output.status.code());
        Ok(text)
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        std::fs::read(self.path(name)).with_context(|| name.to_string())
    }

    fn value(&self, name: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&self.bytes(name)?)?)
    }
}

const FIRST: &str = "pretrain --lineage L --from none --name M_0 --corpus news.txt --evaluate bio.txt --vocab-size 300 \
                     --hidden-size 16 --steps 3 --batch-size 8 --max-length 16 --held-out 0.2";
const UPGRADE: &str = "pretrain --lineage L --from M_0 --name M_1 --corpus bio.txt --steps 3 --batch-size 8 --max-length 16 --held-out 0.2";
const TUNE: &str =
    "tune --lineage L --version M_0 --task topic --steps 3 --batch-size 4 --learning-rate 0.01 --eval-every 1";

/// The desk that tests read and do not change; each writes under names of its own.
fn desk() -> &'static Desk {
    static DESK: OnceLock<Desk> = OnceLock::new();
    DESK.get_or_init(|| {
        let make = || -> Result<Desk> {
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli-desk");
            if folder.exists() {
                std::fs::remove_dir_all(&folder)?;
            }
            std::fs::create_dir_all(&folder)?;
            let desk = Desk::furnish(Desk { folder, _temporary: None })?;
            for line in [FIRST, UPGRADE, TUNE] {
                desk.run(line)?;
            }
            Ok(desk)
        };
        make().unwrap_or_else(|error| panic!("{error:#}"))
    })
}

#[test]
fn a_model_is_pretrained_tuned_upgraded_and_its_weights_recycled() -> Result<()> {
    let desk = Desk::bare()?;
    let first = desk.json(FIRST)?;
    assert!(first["held_out"]["news"].as_f64() > Some(0.0) && first["held_out"]["bio"].as_f64() > Some(0.0), "{first}");
    // The corpus the parent was measured on is measured again after the upgrade.
    let second = desk.json(UPGRADE)?;
    assert!(second["held_out"]["news"].is_f64() && second["parent"] == "M_0", "{second}");
    let full = desk.json(TUNE)?;
    assert_eq!((&full["id"], &full["test"]["n"]), (&json!("topic.full.0"), &json!(10)));
    desk.json(&format!("{TUNE} --method adapter --bottleneck 4"))?;
    desk.json(&format!("{TUNE} --method lora --rank 2 --id low-rank"))?;

    let applied =
        desk.json("apply --lineage L --version M_1 --adapted M_0/topic.full.0 --task topic --save classifier")?;
    assert_eq!(applied["own_base"], false);
    assert_eq!(applied["test"]["own_base"]["accuracy"], full["test"]["accuracy"]);
    assert_eq!(desk.value("classifier/config.json")?["id2label"], json!({"0": "bio", "1": "news"}));

    let recycle = "recycle --lineage L --version M_1 --task topic --steps 3 --batch-size 4 --shots 3";
    let init = desk.json(&format!("{recycle} --adapted M_0/topic.full.0 --method init"))?;
    assert_eq!((&init["recycled"], &init["examples"]["train"]), (&json!("init"), &json!(6)));
    desk.json(&format!("{recycle} --adapted M_0/topic.full.0 --method distill --layers 0,1 --unlabelled bio.txt"))?;
    std::fs::write(
        desk.path("pairs.jsonl"),
        "{\"sentence1\": \"the river\", \"sentence2\": \"the cell\"}\n".repeat(3),
    )?;
    desk.json(&format!(
        "{recycle} --adapted M_0/topic.adapter.0 --method combined --id both --unlabelled pairs.jsonl"
    ))?;
    let other = "recycle --lineage L --version M_1 --adapted M_0/topic.full.0 --task other --method init --steps 3";
    assert_eq!(desk.json(other)?["labels"], json!(["no", "yes"]));
    // Once more, into a third version: everything saved can be recycled a second time.
    desk.run(
        "pretrain --lineage L --from M_1 --name M_2 --corpus news.txt bio.txt --steps 3 --max-length 16 --packing",
    )?;
    desk.json(
        "recycle --lineage L --version M_2 --adapted M_1/topic.init.0 --task topic --method init --steps 3 --id twice",
    )?;
    let shown = desk.json("lineage show M_2 --lineage L")?;
    assert_eq!(shown["adapted"]["rows"][0][4], "2", "recycled twice: {shown}");

    let scores = desk.json("eval --lineage L --version M_0 --adapted topic.full.0 --task topic")?;
    assert_eq!(scores["test"]["accuracy"], full["test"]["accuracy"]);
    let losses = desk.json("eval --lineage L --version M_1 --corpus news.txt bio.txt")?;
    assert_eq!(losses["held_out"].as_object().context("losses")?.len(), 2);
    assert_eq!(desk.json("lineage verify --lineage L")?, json!([]));
    let listed = desk.run("lineage list --lineage L")?;
    assert!(listed.contains("Held-out masked-LM loss after every stage") && listed.contains("news+bio"), "{listed}");
    Ok(())
}

#[test]
fn a_run_folder_says_everything_and_is_enough_to_repeat_the_run() -> Result<()> {
    let desk = desk();
    let spec = desk.value("L/runs/tune.M_0.topic.full.0/spec.json")?;
    for (name, value) in [("steps", json!(3)), ("beta2", json!(0.999)), ("method", json!("full")), ("seed", json!(0))] {
        assert_eq!(spec[name], value, "{name}");
    }
    assert_eq!(desk.value("L/runs/tune.M_0.topic.full.0/inputs.json")?.as_object().map(|inputs| inputs.len()), Some(4));
    let metrics = String::from_utf8(desk.bytes("L/runs/tune.M_0.topic.full.0/metrics.jsonl")?)?;
    assert_eq!(metrics.lines().filter(|line| line.contains("\"dev\"")).count(), 4, "{metrics}");
    // The same settings under another name, one of them changed by a flag: the same weights again.
    desk.run("tune --spec L/runs/tune.M_0.topic.full.0/spec.json --id again --out repeated")?;
    assert_eq!(
        desk.bytes("L/versions/M_0/adapted/again.safetensors")?,
        desk.bytes("L/versions/M_0/adapted/topic.full.0.safetensors")?
    );
    assert_eq!(desk.value("repeated/spec.json")?["id"], "again");
    Ok(())
}

#[test]
fn a_complete_run_is_not_repeated_unless_asked_and_never_taken_for_another() -> Result<()> {
    let desk = Desk::bare()?;
    desk.run(FIRST)?;
    let line = format!("{TUNE} --out run");
    desk.run(&line)?;
    let written = std::fs::metadata(desk.path("run/result.json"))?.modified()?;
    for line in [FIRST, &line] {
        let output = desk.output(line)?;
        assert!(String::from_utf8_lossy(&output.stderr).contains("complete; nothing was run"), "{line}");
        assert!(output.status.success());
    }
    assert_eq!(std::fs::metadata(desk.path("run/result.json"))?.modified()?, written);
    let refused = desk.refused(&line.replace("--steps 3", "--steps 4"))?;
    assert!(refused.contains("steps (there 3, now 4); choose another --out"), "{refused}");
    std::fs::remove_file(desk.path("L/versions/M_0/adapted/topic.full.0.safetensors"))?;
    desk.run(&line)?;
    let refused = desk.refused(&TUNE.replace("--steps 3", "--steps 2 --out second"))?;
    assert!(refused.contains("M_0 has weights topic.full.0 already, from another run"), "{refused}");
    desk.run(&format!("{} --again", TUNE.replace("--steps 3", "--steps 2 --out second")))?;
    assert!(desk.refused(&line)?.contains("have been replaced since run made them"));
    assert!(desk.refused(&format!("{FIRST} --again"))?.contains("topic.full.0 build on it"));
    Ok(())
}

#[test]
fn an_interrupted_pretraining_goes_on_and_ends_with_the_same_bytes() -> Result<()> {
    let desk = Desk::bare()?;
    let line = |lineage: &str| {
        FIRST
            .replace("--lineage L", &format!("--lineage {lineage}"))
            .replace("--steps 3", "--steps 400 --checkpoint-every 10")
            + " --dropout 0.1"
    };
    desk.run(&line("whole"))?;
    let mut child = desk.command(&line("cut")).stderr(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let checkpoint = desk.path("cut/versions/M_0/checkpoint.safetensors");
    while !checkpoint.exists() && child.try_wait()?.is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill()?;
    child.wait()?;
    assert!(checkpoint.exists() && !desk.path("cut/versions/M_0/version.json").exists(), "the run was not cut off");
    assert!(
        desk.refused("tune --lineage cut --version M_0 --task topic")?.contains("its pre-training is not finished")
    );
    let other = line("cut").replace("--batch-size 8", "--batch-size 4");
    assert!(desk.refused(&other)?.contains("batch_size (there 8, now 4)"));
    desk.run(&line("cut"))?;
    assert_eq!(desk.bytes("cut/versions/M_0/model.safetensors")?, desk.bytes("whole/versions/M_0/model.safetensors")?);
    assert_eq!(
        desk.bytes("cut/runs/pretrain.M_0/metrics.jsonl")?,
        desk.bytes("whole/runs/pretrain.M_0/metrics.jsonl")?
    );
    assert!(!checkpoint.exists());
    Ok(())
}

#[test]
fn a_head_is_warmed_up_alone_and_a_run_cut_off_within_that_phase_begins_anew() -> Result<()> {
    let desk = Desk::bare()?;
    let line = |lineage: &str, steps: usize| {
        let line = FIRST.replace("--lineage L", &format!("--lineage {lineage}"));
        format!("{line} --head-steps {steps} --head-learning-rate 0.01")
    };
    desk.run(&line("whole", 300))?;
    let spec = desk.value("whole/runs/pretrain.M_0/spec.json")?;
    assert_eq!((&spec["head_steps"], &spec["head_learning_rate"]), (&json!(300), &json!(0.01)));
    desk.run(&line("short", 1))?;
    let bytes = |lineage: &str| desk.bytes(&format!("{lineage}/versions/M_0/model.safetensors"));
    assert_ne!(bytes("whole")?, bytes("short")?);

    let mut child = desk.command(&line("cut", 300)).stderr(Stdio::null()).stdout(Stdio::null()).spawn()?;
    while !desk.path("cut/runs/pretrain.M_0/spec.json").exists() && child.try_wait()?.is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill()?;
    child.wait()?;
    assert!(!desk.path("cut/versions/M_0/version.json").exists(), "the run was not cut off");
    desk.run(&line("cut", 300))?;
    assert_eq!(bytes("cut")?, bytes("whole")?);
    Ok(())
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_names_the_step() -> Result<()> {
    let desk = Desk::bare()?;
    let refused = desk.refused(&FIRST.replace("--steps 3", "--steps 30 --learning-rate 1e30 --clip-norm 0"))?;
    assert!(refused.contains("the training loss is not finite at step"), "{refused}");
    assert!(!desk.path("L/versions/M_0/version.json").exists());
    Ok(())
}

#[test]
fn tuning_that_diverges_fails_and_keeps_its_best_weights_in_the_runs_folder() -> Result<()> {
    let desk = desk();
    let wild = "--steps 30 --learning-rate 1e30 --clip-norm 0 --eval-every 1 --batch-size 4";
    for (line, folder) in [
        (format!("tune --lineage L --version M_0 --task topic --id wild {wild}"), "L/runs/tune.M_0.wild"),
        (
            format!(
                "recycle --lineage L --version M_1 --adapted M_0/topic.full.0 --task topic --method init --id wild {wild}"
            ),
            "L/runs/recycle.M_1.wild",
        ),
    ] {
        let refused = desk.refused(&line)?;
        let kept = format!("{folder}/best-before-stop.safetensors");
        assert!(
            refused.contains(&format!("are kept in {kept}")) && refused.contains("not finite at step"),
            "{refused}"
        );
        assert_eq!(Card::read(desk.path(&kept))?.task, "topic");
        assert!(!desk.path(folder).join("result.json").exists(), "the run has failed");
        assert!(desk.refused(&line)?.contains("not finite at step"), "and is not taken for a complete one");
    }
    assert!(!desk.path("L/versions/M_0/adapted/wild.safetensors").exists());
    Ok(())
}

#[test]
fn a_damaged_lineage_is_not_used_and_verify_names_the_remedy() -> Result<()> {
    let desk = Desk::bare()?;
    desk.run(FIRST)?;
    let weights = desk.path("L/versions/M_0/model.safetensors");
    let bytes = std::fs::read(&weights)?;
    std::fs::write(&weights, &bytes[..bytes.len() / 2])?;
    assert!(desk.refused(TUNE)?.contains("model.safetensors is not a whole safetensors file"));
    let output = desk.output("lineage verify --lineage L")?;
    let text = String::from_utf8(output.stdout)?;
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("model.safetensors has changed") && text.contains("remedy: "), "{text}");
    Ok(())
}

#[test]
fn what_is_missing_or_unknown_is_named_with_what_there_is() -> Result<()> {
    let desk = desk();
    let apply = "apply --lineage L --task topic --version";
    std::fs::write(desk.path("unknown.json"), r#"{"lineage": "L", "setps": 3}"#)?;
    std::fs::write(desk.path("wrong.json"), r#"{"lineage": "L", "steps": "many"}"#)?;
    for (line, expected) in [
        (format!("{apply} M_9 --adapted M_0/topic.full.0"), "there is no version M_9 in L: there are M_0, M_1"),
        (format!("{apply} M_1 --adapted M_0/nothing"), "has no adapted weights nothing: there are"),
        (format!("{apply} M_1"), "--adapted is missing"),
        (TUNE.replace("--task topic", "--task nowhere"), "nowhere is not a folder"),
        (TUNE.replace("--lineage L", "--lineage typo"), "typo is not a lineage"),
        (format!("{TUNE} --method prefix"), "no tuning method is named \"prefix\": use full, adapter, lora"),
        (format!("{TUNE} --rank 4"), "--rank belongs to --method lora"),
        (format!("{TUNE} --device cuda:77"), "was asked for"),
        ("tune --spec unknown.json".into(), "unknown.json: unknown field \"setps\"; there are"),
        ("tune --spec wrong.json".into(), "wrong.json: field \"steps\": invalid type"),
        ("tune --spec absent.json".into(), "cannot read absent.json"),
        (
            "recycle --lineage L --version M_1 --adapted M_0/topic.full.0 --task topic --method magic".into(),
            "no way to recycle is named \"magic\": use init, distill or combined",
        ),
        (
            "eval --lineage L --version M_1 --adapted M_0/topic.full.0 --task topic".into(),
            "`recyclable apply` scores it",
        ),
        ("eval --lineage L --version M_1".into(), "say what to evaluate on"),
        (UPGRADE.replace("bio.txt", "absent.txt"), "absent.txt"),
        (UPGRADE.replace("bio.txt", "wrong.json"), "a corpus ends in .txt or .jsonl"),
    ] {
        let refused = desk.refused(&line)?;
        assert!(refused.contains(expected), "{line}: {refused}");
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() -> Result<()> {
    let desk = desk();
    desk.run("lineage list --lineage L")?;
    let config = json!({"vocab_size": 200, "hidden_size": 16, "num_attention_heads": 4, "intermediate_size": 32});
    std::fs::write(desk.path("small.json"), config.to_string())?;
    std::fs::write(desk.path("empty.txt"), "\n")?;
    let with = |line: &str, from: &str, to: &str| line.replace(from, to);
    let fresh = with(FIRST, "M_0", "M_7").replace("--hidden-size 16", "");
    for (line, expected) in [
        (format!("{TUNE} --id long --max-length 500"), "--max-length 500 exceeds the model's 128 positions"),
        (with(UPGRADE, "--name M_1", "--name M_7").replace("16", "500"), "--max-length 500 exceeds"),
        (
            "apply --lineage L --version M_1 --adapted M_0/topic.full.0 --task other".into(),
            "the weights know the labels [\"bio\", \"news\"], task other has [\"no\", \"yes\"]",
        ),
        (
            "recycle --lineage L --version M_1 --adapted M_0/topic.full.0 --task other --method distill".into(),
            "the weights know the labels",
        ),
        (format!("{fresh} --config small.json"), "more than the model's vocabulary of 200"),
        (with(&fresh, "news.txt", "empty.txt"), "empty.txt holds no text"),
        (format!("{} --hidden-size 32", with(UPGRADE, "M_1", "M_7")), "--hidden-size is for --from none"),
        (with(UPGRADE, "--name M_1", "--name ../M_7"), "cannot name a version"),
        (with(UPGRADE, "--name M_1", "--name M_0"), "is the version it would continue"),
        (with(UPGRADE, "--steps 3", "--steps 0"), "steps is 0"),
        (with(UPGRADE, "--steps 3", "--steps 4"), "steps (there 3, now 4); choose another --out"),
        (with(UPGRADE, "--steps 3", "--steps 4 --out elsewhere"), "holds a version M_1 already"),
        (format!("{TUNE} --out topic"), "topic exists and is not the folder of a run"),
        (format!("{TUNE} --id new --out /proc/nowhere"), "cannot write /proc/nowhere"),
        (with(FIRST, "--lineage L", "--lineage /proc/nowhere"), "cannot keep a lineage in /proc/nowhere"),
        (
            "apply --lineage L --version M_1 --adapted M_0/topic.full.0 --task topic --save L/versions/M_1".into(),
            "is not the folder of a classifier",
        ),
    ] {
        let refused = desk.refused(&line)?;
        assert!(refused.contains(expected), "{line}: {refused}");
    }
    assert!(
        !desk.path("L/versions/M_7").exists()
            && !desk.path("elsewhere").exists()
            && !desk.path("L/runs/tune.M_0.long").exists()
    );
    Ok(())
}

#[test]
fn a_version_from_elsewhere_is_taken_in_and_removed() -> Result<()> {
    let desk = desk();
    let folder = Path::new("L/versions/M_0");
    desk.run(&format!("lineage import first {} --lineage imported", folder.display()))?;
    desk.run("tune --lineage imported --version first --task topic --steps 2")?;
    assert!(desk.refused("lineage remove first --lineage imported")?.contains("topic.full.0 build on it"));
    assert_eq!(desk.json("lineage verify --lineage imported")?, json!([]));
    desk.run(&format!("lineage import second {} --lineage imported", folder.display()))?;
    desk.run("lineage remove second --lineage imported")?;
    assert!(desk.refused("lineage show second --lineage imported")?.contains("there are first"));
    Ok(())
}
