//! `recyclable pretrain`: a new version, from nothing or from an older one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use recyclable::display::{Cell, Column, Progress, Table, progress::say};
use recyclable::experiment::{Inputs, RunState};
use recyclable::lineage::{Lineage, VersionRecord};
use recyclable::model::{EncoderConfig, Version};
use recyclable::text::{Corpus, MaskingConfig, Task, Tokenizer};
use recyclable::train::{HeadWarmup, PretrainConfig, held_out_loss, pretrain};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::settings::{Training, check_length};
use crate::spec::{Machine, RunArgs, fill, fingerprints, required};

/// Pre-train a version as a masked language model: from nothing, or continuing another one
#[derive(clap::Args)]
pub struct Pretrain {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    spec: Spec,
}

#[derive(clap::Args, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Spec {
    /// The folder that keeps versions and adapted weights
    #[arg(long, value_name = "DIR")]
    lineage: Option<PathBuf>,
    /// The version to continue, or none
    #[arg(long, value_name = "NAME|none")]
    from: Option<String>,
    /// What the new version is called
    #[arg(long)]
    name: Option<String>,
    /// Corpora to train on: .txt with one document a line, or .jsonl with "text"
    #[arg(long, value_name = "FILE", num_args = 1..)]
    corpus: Option<Vec<PathBuf>>,
    /// Further corpora whose held-out loss is measured (those of the ancestors are anyway, where they still lie)
    #[arg(long, value_name = "FILE", num_args = 1..)]
    evaluate: Option<Vec<PathBuf>>,
    /// The share of documents, chosen by hash, that is kept out of training [default: 0.02]
    #[arg(long, value_name = "SHARE")]
    held_out: Option<f64>,
    /// Count the dev and test texts of these tasks in the corpora
    #[arg(long, value_name = "DIR", num_args = 1..)]
    leaks: Option<Vec<PathBuf>>,
    /// tokenizer.json for --from none [default: byte-level BPE trained on the corpora]
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Tokens of the vocabulary that is trained with --from none [default: 4096]
    #[arg(long)]
    vocab_size: Option<usize>,
    /// config.json for --from none, instead of the sizes below
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// [default: 128]
    #[arg(long)]
    hidden_size: Option<i64>,
    /// [default: 2]
    #[arg(long)]
    num_hidden_layers: Option<usize>,
    /// [default: 4]
    #[arg(long)]
    num_attention_heads: Option<i64>,
    /// [default: 4 × hidden size]
    #[arg(long)]
    intermediate_size: Option<i64>,
    /// [default: room for 128 tokens, or for --max-length]
    #[arg(long)]
    max_position_embeddings: Option<i64>,
    /// Dropout of hidden states and attention [default: 0]
    #[arg(long)]
    dropout: Option<f64>,
    /// Join documents into sequences of full length
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    packing: Option<bool>,
    /// Share of tokens to predict
    #[arg(long)]
    mask_probability: Option<f64>,
    /// Updates in which the masked-LM head alone is trained, before the others; for encoders that came without one
    #[arg(long)]
    head_steps: Option<usize>,
    /// Their learning rate [default: 0.001]
    #[arg(long, requires = "head_steps")]
    head_learning_rate: Option<f64>,
    /// Updates between checkpoints; 0 writes none [default: 500]
    #[arg(long)]
    checkpoint_every: Option<usize>,
    #[command(flatten)]
    #[serde(flatten)]
    training: Training,
    #[command(flatten)]
    #[serde(flatten)]
    machine: Machine,
}

pub fn run(arguments: &Pretrain) -> Result<ExitCode> {
    let mut spec = arguments.run.merged(&arguments.spec)?;
    let device = spec.machine.prepare()?;
    let root = required(&spec.lineage, "lineage")?;
    let name = required(&spec.name, "name")?;
    let from = required(&spec.from, "from")?;
    let parent = (from != "none").then_some(from.as_str());
    ensure!(
        parent != Some(name.as_str()),
        "--name {name} is the version it would continue: give the new one a name of its own"
    );
    let paths = required(&spec.corpus, "corpus")?;
    let held_out = fill(&mut spec.held_out, 0.02);
    ensure!((0.0..0.9).contains(&held_out), "--held-out {held_out} must be a share from 0 to below 0.9");
    let corpora = paths.iter().map(Corpus::load).collect::<Result<Vec<_>>>()?;
    let lineage = Lineage::open(&root)?;
    let training = training_corpus(&corpora, held_out)?;
    let base = match parent {
        Some(parent) => {
            spec.refuse_sizes(parent)?;
            lineage.version(parent)?
        }
        None => spec.fresh_version(&training)?,
    };
    let config = spec.config(&base);
    config.validate()?;
    check_length(config.max_length, &base)?;
    spec.evaluate = Some(spec.evaluated(&paths, &lineage, parent)?);

    let mut inputs = fingerprints(paths.iter().chain(&spec.tokenizer).chain(&spec.config))?;
    if let Some(parent) = parent {
        inputs.insert(parent.to_string(), base.fingerprint()?);
    }
    let (folder, state) = arguments.run.open(&root, &format!("pretrain.{name}"), &spec, &inputs)?;
    let recipe = json!({"pretrain": spec, "inputs": inputs});
    let there = lineage.has_version(&name);
    if let Some(result) = arguments.run.complete(&state)
        && there
    {
        ensure!(
            result["fingerprint"] == lineage.record(&name)?.fingerprint.as_str(),
            "{} made another {name} than the one in the lineage: --again makes it anew",
            folder.path().display()
        );
        return arguments.run.recall(&folder, result, table);
    }
    if there && arguments.run.again {
        lineage.nothing_hangs_off(&name)?;
    } else if there && lineage.record(&name)?.recipe == recipe {
        // Interrupted between the version and the result, or the same run in another folder.
        let record = lineage.record(&name)?;
        if state == RunState::New {
            folder.begin(&spec, &inputs)?;
        }
        say(&format!(
            "{name} is in the lineage already, made with the same settings; nothing was run (--again repeats it)"
        ));
        return finish(arguments, &folder, &record, json!({}));
    } else if there {
        bail!("{} holds a version {name} already: choose another --name, or --again to replace it", root.display());
    }
    folder.begin(&spec, &inputs)?;
    let leaks = spec.count_leaks(&training)?;
    let progress = Progress::new(format!("pretrain {name}"), config.optimisation.steps);
    let run = pretrain(&base, &training, &config, device, Some(&lineage.checkpoint_path(&name)), &progress)?;
    progress.finish(format!("{:.0} tokens/s", run.tokens_per_second));
    let mut metrics: Vec<Value> = run.losses.iter().map(|p| json!({"step": p.step, "loss": p.loss})).collect();

    let mut losses = BTreeMap::new();
    for path in spec.evaluate.iter().flatten() {
        let corpus = Corpus::load(path)?;
        let share = corpus.by_hash(0.0, held_out);
        if share.is_empty() {
            say(&format!(
                "note: none of the {} documents of {} is held out, so no loss is measured",
                corpus.len(),
                corpus.name
            ));
            continue;
        }
        // The same masks for every version, whatever its seed.
        let asked = PretrainConfig { seed: 0, ..config.clone() };
        let loss = held_out_loss(&run.version, &share, &asked, device)?;
        metrics.push(json!({"step": config.optimisation.steps, "corpus": corpus.name, "held_out_loss": loss}));
        losses.insert(corpus.name, loss);
    }
    folder.write_metrics(&metrics)?;
    if there && lineage.record(&name)?.fingerprint != run.version.fingerprint()? {
        lineage.remove_version(&name)?;
    }
    let record = VersionRecord {
        parent: parent.map(str::to_string),
        corpus: training.name.clone(),
        recipe,
        seed: config.seed,
        held_out: losses,
        seconds: run.seconds,
        tokens_per_second: run.tokens_per_second,
        ..VersionRecord::default()
    };
    lineage.save_version(&name, &run.version, record)?;
    let more = json!({"truncated": run.truncated, "documents": training.len(), "leaks": leaks});
    finish(arguments, &folder, &lineage.record(&name)?, more)
}

/// Writes the result and shows it.
fn finish(
    arguments: &Pretrain,
    folder: &recyclable::experiment::RunFolder,
    record: &VersionRecord,
    more: Value,
) -> Result<ExitCode> {
    let mut result = json!({
        "version": record.name,
        "parent": record.parent,
        "fingerprint": record.fingerprint,
        "corpus": record.corpus,
        "held_out": record.held_out,
        "seconds": record.seconds,
        "tokens_per_second": record.tokens_per_second,
    });
    if let (Some(result), Some(more)) = (result.as_object_mut(), more.as_object()) {
        result.extend(more.clone());
    }
    arguments.run.finish(folder, &result, table)
}

fn table(result: &Value) -> String {
    let text = |name: &str| result[name].as_str().unwrap_or("?");
    let columns = vec![Column::text("corpus"), Column::number("held-out loss", 3)];
    let title = format!("{}, pre-trained on {}", text("version"), text("corpus"));
    let seconds = result["seconds"].as_f64().unwrap_or_default();
    let caption = format!("Nats a masked token. {seconds:.1} s, fingerprint {}.", text("fingerprint"));
    let mut table = Table::new("held_out", title, columns).caption(caption);
    for (corpus, loss) in result["held_out"].as_object().into_iter().flatten() {
        table.push([Cell::from(corpus.as_str()), Cell::from(loss.as_f64())]);
    }
    table.to_text()
}

/// All corpora in one, without the documents held out.
fn training_corpus(corpora: &[Corpus], held_out: f64) -> Result<Corpus> {
    let name = corpora.iter().map(|corpus| corpus.name.as_str()).collect::<Vec<_>>().join("+");
    let documents = corpora.iter().flat_map(|corpus| corpus.by_hash(held_out, 1.0).documents).collect();
    Corpus::new(name, documents).context("nothing is left to train on once the held-out documents are taken away")
}

impl Spec {
    /// The configuration of the run.
    fn config(&mut self, base: &Version) -> PretrainConfig {
        let default = PretrainConfig::default();
        PretrainConfig {
            optimisation: self.training.optimisation(&default.optimisation),
            head_warmup: self.head_warmup(),
            batch_size: self.training.batch_size(default.batch_size),
            max_length: self.training.max_length(default.max_length, Some(base)),
            masking: MaskingConfig {
                probability: fill(&mut self.mask_probability, default.masking.probability),
                ..default.masking
            },
            packing: fill(&mut self.packing, default.packing),
            precision: self.training.precision(),
            seed: self.training.seed(),
            checkpoint_every: fill(&mut self.checkpoint_every, default.checkpoint_every),
        }
    }

    /// The head's own phase, where one is asked for.
    fn head_warmup(&mut self) -> Option<HeadWarmup> {
        let steps = self.head_steps.filter(|&steps| steps > 0)?;
        Some(HeadWarmup {
            steps,
            learning_rate: fill(&mut self.head_learning_rate, HeadWarmup::default().learning_rate),
        })
    }

    /// A version of the sizes asked for, untrained.
    fn fresh_version(&mut self, training: &Corpus) -> Result<Version> {
        let seed = self.training.seed();
        let tokenizer = match &self.tokenizer {
            Some(path) => {
                ensure!(
                    self.vocab_size.is_none(),
                    "--vocab-size is for training a tokenizer: leave it out with --tokenizer"
                );
                Tokenizer::load(path)?
            }
            None => Tokenizer::train_bpe(training.iter(), fill(&mut self.vocab_size, 4_096))?,
        };
        if let Some(path) = &self.config {
            ensure!(
                self.sizes().is_none(),
                "--config names all sizes: leave --{} out",
                self.sizes().unwrap_or_default()
            );
            return Version::new(&EncoderConfig::load(path)?, &tokenizer, seed)
                .with_context(|| format!("{} does not fit the tokenizer", path.display()));
        }
        let length = self.training.max_length(PretrainConfig::default().max_length, None).max(128) as i64;
        let hidden = fill(&mut self.hidden_size, 128);
        let default = EncoderConfig::tiny(tokenizer.vocab_size() as i64, hidden, length);
        let dropout = fill(&mut self.dropout, 0.0);
        let config = EncoderConfig {
            num_hidden_layers: fill(&mut self.num_hidden_layers, default.num_hidden_layers),
            num_attention_heads: fill(&mut self.num_attention_heads, default.num_attention_heads),
            intermediate_size: fill(&mut self.intermediate_size, default.intermediate_size),
            max_position_embeddings: fill(&mut self.max_position_embeddings, default.max_position_embeddings),
            hidden_dropout_prob: dropout,
            attention_probs_dropout_prob: dropout,
            ..default
        };
        Version::new(&config, &tokenizer, seed)
    }

    /// The first flag given that describes a new model.
    fn sizes(&self) -> Option<&'static str> {
        let given = [
            ("hidden-size", self.hidden_size.is_some()),
            ("num-hidden-layers", self.num_hidden_layers.is_some()),
            ("num-attention-heads", self.num_attention_heads.is_some()),
            ("intermediate-size", self.intermediate_size.is_some()),
            ("max-position-embeddings", self.max_position_embeddings.is_some()),
            ("dropout", self.dropout.is_some()),
        ];
        given.iter().find(|(_, given)| *given).map(|(name, _)| *name)
    }

    fn refuse_sizes(&self, parent: &str) -> Result<()> {
        let given = [
            ("tokenizer", self.tokenizer.is_some()),
            ("vocab-size", self.vocab_size.is_some()),
            ("config", self.config.is_some()),
        ];
        let given = given.iter().find(|(_, given)| *given).map(|(name, _)| *name).or(self.sizes());
        ensure!(given.is_none(), "--{} is for --from none: {parent} says it already", given.unwrap_or_default());
        Ok(())
    }

    /// The corpora whose held-out loss is measured: the parent's, those asked for, and the run's own.
    fn evaluated(&self, own: &[PathBuf], lineage: &Lineage, parent: Option<&str>) -> Result<Vec<PathBuf>> {
        let recipe = parent.map(|parent| lineage.record(parent)).transpose()?.map(|record| record.recipe);
        let before = recipe.and_then(|recipe| serde_json::from_value(recipe["pretrain"]["evaluate"].clone()).ok());
        let before: Vec<PathBuf> = before.unwrap_or_default();
        let mut paths: Vec<PathBuf> = Vec::new();
        let before = before.into_iter().filter(|path| path.is_file());
        for path in before.chain(self.evaluate.iter().flatten().cloned()).chain(own.iter().cloned()) {
            ensure!(path.is_file(), "{} is not a file: --evaluate takes corpora", path.display());
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        Ok(paths)
    }

    /// Dev and test texts of tasks that stand in what is trained on.
    fn count_leaks(&self, training: &Corpus) -> Result<Inputs> {
        let mut counts = Inputs::new();
        for folder in self.leaks.iter().flatten() {
            let report = training.leaks(&Task::load(folder)?)?;
            say(&format!("{}{report}", if report.total() > 0 { "note: " } else { "" }));
            counts.insert(report.task.clone(), format!("{} dev, {} test", report.dev, report.test));
        }
        Ok(counts)
    }
}
