//! `recyclable lineage`: what a lineage holds, and whether it is sound.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use recyclable::interchange::{Format, ImportOptions, export, import_into};
use recyclable::lineage::{Lineage as Store, VersionRecord};
use recyclable::model::Version;
use serde_json::json;

/// Look into a lineage: its versions and the weights tuned on them
#[derive(clap::Args)]
pub struct Lineage {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List versions, and how well each still reads the corpora of all
    List(At),
    /// Show one version: where it comes from, and the weights tuned on it
    Show {
        /// The version
        name: String,
        #[command(flatten)]
        at: At,
    },
    /// Compute every fingerprint again and look for what is missing; exits 1 when something is wrong
    Verify(At),
    /// Take a Hugging Face folder in as a version: a masked language model or bare encoder of the BERT or RoBERTa families
    Import {
        /// What the version is called
        name: String,
        /// config.json, model.safetensors or its shards, tokenizer.json or vocab.txt
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        #[command(flatten)]
        at: At,
    },
    /// Take in weights that another tool tuned on a version: a …ForSequenceClassification folder of transformers, a LoRA of PEFT, bottleneck
    /// adapters of AdapterHub or OpenDelta
    ImportTuned {
        /// The folder
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// The version they were tuned on
        #[arg(long)]
        version: String,
        /// What their task is called
        #[arg(long)]
        task: String,
        /// What they are called here; TASK.METHOD.FORMAT by default
        #[arg(long)]
        id: Option<String>,
        /// The classes in the order of the head's scores, where the folder does not say: a,b,c
        #[arg(long, value_delimiter = ',')]
        labels: Option<Vec<String>>,
        /// Which adapter, where the folder holds several
        #[arg(long, value_name = "NAME")]
        adapter: Option<String>,
        /// Take a version that does not look like the one they were tuned on; their card will say so
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        at: At,
    },
    /// Write a version, or weights tuned on it, as other tools read them
    Export {
        /// The version
        version: String,
        /// Where to
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// These weights instead of the version itself
        #[arg(long, value_name = "ID")]
        weights: Option<String>,
        /// transformers (a whole model), peft (LoRA) or adapterhub (adapters)
        #[arg(long, requires = "weights")]
        format: Option<Format>,
        /// The version that the weights are to stand on, if another than they were tuned on
        #[arg(long, value_name = "VERSION", requires = "weights")]
        onto: Option<String>,
        /// What the other tool is to call that version: a folder, or a name on the hub
        #[arg(long, value_name = "NAME", requires = "weights")]
        base_name: Option<String>,
        #[command(flatten)]
        at: At,
    },
    /// Remove a version that nothing builds on
    Remove {
        /// The version
        name: String,
        #[command(flatten)]
        at: At,
    },
}

#[derive(clap::Args)]
struct At {
    /// The folder that keeps versions and adapted weights
    #[arg(long, value_name = "DIR")]
    lineage: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl At {
    fn print(&self, value: serde_json::Value, text: String) -> Result<()> {
        crate::print(&if self.json { serde_json::to_string_pretty(&value)? + "\n" } else { text })
    }
}

pub fn run(arguments: &Lineage) -> Result<ExitCode> {
    match &arguments.command {
        Command::List(at) => {
            let lineage = Store::existing(&at.lineage)?;
            let (versions, forgetting, weights) = (lineage.table()?, lineage.forgetting()?, lineage.weights_table()?);
            let text = format!("{versions}\n{forgetting}\n{weights}");
            at.print(json!({"versions": versions, "forgetting": forgetting, "weights": weights}), text)?;
        }
        Command::Show { name, at } => {
            let lineage = Store::existing(&at.lineage)?;
            let (record, adapted) = (lineage.record(name)?, lineage.adapted_table(name)?);
            let text = format!("{}\n\n{adapted}", serde_json::to_string_pretty(&record)?);
            at.print(json!({"version": record, "adapted": adapted}), text)?;
        }
        Command::Verify(at) => {
            let findings = Store::existing(&at.lineage)?.verify()?;
            let text = match findings.is_empty() {
                true => "All well: every fingerprint is as recorded.\n".to_string(),
                false => findings.iter().map(|finding| format!("{finding}\n")).collect(),
            };
            at.print(json!(findings), text)?;
            return Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Import { name, folder, at } => {
            let lineage = Store::open(&at.lineage)?;
            ensure!(
                !lineage.has_version(name),
                "{} holds a version {name} already: choose another name, or remove it first",
                at.lineage.display()
            );
            let version = Version::load(folder)?;
            let record = VersionRecord {
                corpus: "imported".to_string(),
                recipe: json!({"imported": folder}),
                ..VersionRecord::default()
            };
            lineage.save_version(name, &version, record)?;
            let fingerprint = version.fingerprint()?;
            at.print(
                json!({"version": name, "fingerprint": fingerprint}),
                format!("{name} has fingerprint {fingerprint}\n"),
            )?;
        }
        Command::ImportTuned { folder, version, task, id, labels, adapter, force, at } => {
            let lineage = Store::existing(&at.lineage)?;
            let options =
                ImportOptions { task: task.clone(), labels: labels.clone(), adapter: adapter.clone(), force: *force };
            let (id, imported) = import_into(&lineage, version, id.as_deref(), folder, &options)?;
            let notes = imported.notes.iter().map(|note| format!("note: {note}\n")).collect::<String>();
            let (card, text) = (&imported.adapted.card, format!("{notes}{version} has weights {id}\n"));
            at.print(json!({"version": version, "id": id, "labels": card.labels, "notes": imported.notes}), text)?;
        }
        Command::Export { version, folder, weights, format, onto, base_name, at } => {
            let lineage = Store::existing(&at.lineage)?;
            ensure!(!folder.exists(), "{} exists already: choose another folder", folder.display());
            let written = match weights {
                None => {
                    lineage.version(version)?.save(folder)?;
                    version.clone()
                }
                Some(id) => {
                    let (adapted, base) = (lineage.adapted(version, id)?, onto.as_ref().unwrap_or(version));
                    let format = format.context("--format is missing: transformers, peft or adapterhub")?;
                    export(&adapted, &lineage.version(base)?, format, folder, base_name.as_deref())?;
                    format!("{id} on {base} ({format})")
                }
            };
            let text = format!("{written} is written to {}\n", folder.display());
            at.print(json!({"written": written, "folder": folder}), text)?;
        }
        Command::Remove { name, at } => {
            let lineage = Store::existing(&at.lineage)?;
            ensure!(lineage.folder(name).is_dir(), "there is no version {name} in {}", at.lineage.display());
            lineage.remove_version(name)?;
            at.print(json!({"removed": name}), format!("{name} is removed\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
