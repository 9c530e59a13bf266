//! `recyclable reproduce`: the main job, from pre-training to judged claims.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use recyclable::device::{Precision, device};
use recyclable::experiment::{Beginning, Compute, Profile};
use recyclable::files::read_json;
use recyclable::report::reproduce;

/// Pre-train, tune, upgrade and recycle, and judge the claims of recyclable tuning
///
/// Writes report.json, report.md and report.html with figures, the lineages, and every run as a row of results/*.jsonl. An interrupted call goes on where it stopped.
#[derive(Args)]
pub struct Reproduce {
    /// first-look: a first look at a pre-trained encoder (--model) on real text (--data); encoder: all claims on it; encoder-full: longer, and
    /// five lineages; tiny: a first look at the built-in world; world: the same in full; text: a small network from nothing on real text
    #[arg(long, default_value = "tiny")]
    profile: String,
    /// A pre-trained encoder of the BERT or RoBERTa families: a Hugging Face folder
    #[arg(long)]
    model: Option<PathBuf>,
    /// Another encoder of the same shape and tokenizer, for the independent model M_IND
    #[arg(long, requires = "model")]
    other: Option<PathBuf>,
    /// A folder with corpora/*.txt and tasks/*/{train,dev,test}.jsonl
    #[arg(long)]
    data: Option<PathBuf>,
    /// A whole profile as JSON instead (see --show)
    #[arg(long, conflicts_with_all = ["profile", "data", "model"])]
    spec: Option<PathBuf>,
    /// Print the profile as JSON, with the other options applied, and stop
    #[arg(long)]
    show: bool,
    /// Where everything goes
    #[arg(long, required_unless_present = "show")]
    out: Option<PathBuf>,
    /// How often tuning, sampling and order are repeated on each lineage
    #[arg(long)]
    seeds: Option<usize>,
    /// How often everything is pre-trained; with three or more the lineage is the unit of the statistics
    #[arg(long)]
    lineages: Option<usize>,
    /// Only these of the profile's tasks, separated by commas; a later call may add others to those that are done
    #[arg(long, value_delimiter = ',')]
    tasks: Vec<String>,
    /// Everything random is derived from it
    #[arg(long)]
    seed: Option<u64>,
    /// Training texts a task at most
    #[arg(long)]
    train_limit: Option<usize>,
    /// Dev texts a task at most
    #[arg(long)]
    dev_limit: Option<usize>,
    /// Test texts a task at most
    #[arg(long)]
    test_limit: Option<usize>,
    /// Labelled texts a class for few-shot students
    #[arg(long)]
    shots: Option<usize>,
    /// fp32, bf16 or auto
    #[arg(long)]
    precision: Option<Precision>,
    /// cpu, cuda, cuda:N or auto; RECYCLABLE_DEVICE by default, else cpu
    #[arg(long)]
    device: Option<String>,
    /// Threads in all; every core by default
    #[arg(long)]
    threads: Option<usize>,
}

pub fn run(arguments: &Reproduce) -> Result<ExitCode> {
    let mut profile = match &arguments.spec {
        Some(path) => read_json(path)?,
        None => Profile::named(&arguments.profile, arguments.model.as_deref(), arguments.data.as_deref())?,
    };
    if let (Beginning::Encoder(source), Some(other)) = (&mut profile.model, &arguments.other) {
        source.other = Some(other.clone());
        profile.independent = true;
    }
    let set = |value: Option<usize>, field: &mut usize| *field = value.unwrap_or(*field);
    set(arguments.seeds, &mut profile.seeds);
    set(arguments.lineages, &mut profile.lineages);
    set(arguments.train_limit, &mut profile.limits.train);
    set(arguments.dev_limit, &mut profile.limits.dev);
    set(arguments.test_limit, &mut profile.limits.test);
    set(arguments.shots, &mut profile.few_shot.shots);
    if !arguments.tasks.is_empty() {
        profile.keep_tasks(&arguments.tasks)?;
    }
    profile.seed = arguments.seed.unwrap_or(profile.seed);
    profile.precision = arguments.precision.unwrap_or(profile.precision);
    profile.validate()?;
    if arguments.show {
        crate::print(&format!("{}\n", serde_json::to_string_pretty(&profile)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(out) = &arguments.out else { return Ok(ExitCode::FAILURE) };
    let device = match &arguments.device {
        Some(name) => device(name)?,
        None => recyclable::device::default_device()?,
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.threads.unwrap_or(cores);
    ensure!(threads > 0, "--threads 0: at least one thread computes");
    let report = reproduce(&profile, Compute { device, threads }, out)?;
    crate::print(&format!("{}\nThe whole report: {}\n", report.to_text(), out.join("report.html").display()))?;
    if !report.is_complete(&profile) {
        eprintln!("error: not every claim could be measured: the report's notes say why");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
