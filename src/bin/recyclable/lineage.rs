//! `recyclable lineage`: what a lineage holds, and whether it is sound.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
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
            let (versions, forgetting) = (lineage.table()?, lineage.forgetting()?);
            let text = format!("{versions}\n{forgetting}");
            at.print(json!({"versions": versions, "forgetting": forgetting}), text)?;
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
        Command::Remove { name, at } => {
            let lineage = Store::existing(&at.lineage)?;
            ensure!(lineage.folder(name).is_dir(), "there is no version {name} in {}", at.lineage.display());
            lineage.remove_version(name)?;
            at.print(json!({"removed": name}), format!("{name} is removed\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
