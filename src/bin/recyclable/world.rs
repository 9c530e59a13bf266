//! `recyclable world`: look at the built-in world, write it to files, check that it is no toy.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Subcommand;
use recyclable::display::Progress;
use recyclable::experiment::world_check::{WorldCheck, WorldCheckConfig};
use recyclable::files::read_json;
use recyclable::text::{World, WorldConfig};

/// Look at the built-in world, write it to files, or check that it is no toy
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: WorldCommand,
}

#[derive(Subcommand)]
enum WorldCommand {
    Show(Show),
    Write(WriteOut),
    Check(Check),
}

/// Which world.
#[derive(clap::Args)]
struct Dials {
    /// Draw everything random from this number (it overrides the file's)
    #[arg(long)]
    seed: Option<u64>,
    /// Take the dials from this file; those it leaves out keep their defaults (`world show --json` prints them all)
    #[arg(long, value_name = "FILE.json")]
    config: Option<PathBuf>,
}

impl Dials {
    fn read(&self) -> Result<WorldConfig> {
        let mut dials: WorldConfig = self.config.as_ref().map(read_json).transpose()?.unwrap_or_default();
        dials.seed = self.seed.unwrap_or(dials.seed);
        dials.validate().with_context(|| match &self.config {
            Some(path) => path.display().to_string(),
            None => "the default dials".to_string(),
        })?;
        Ok(dials)
    }
}

/// Print the dials, the domains, and every task with two texts
#[derive(clap::Args)]
struct Show {
    #[command(flatten)]
    dials: Dials,
    /// Print the dials as JSON, to be changed and given to --config
    #[arg(long)]
    json: bool,
}

/// Write DIR/corpora/*.txt and DIR/tasks/*/ for use as data by anything, this program included
#[derive(clap::Args)]
struct WriteOut {
    #[command(flatten)]
    dials: Dials,
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Train on the world and show that it is no toy; exits 1 when it is one
#[derive(clap::Args)]
struct Check {
    #[command(flatten)]
    dials: Dials,
    /// Train as this file says; what it leaves out keeps its default
    #[arg(long, value_name = "FILE.json")]
    recipe: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.command {
        WorldCommand::Show(show) => self::show(show),
        WorldCommand::Write(write) => self::write(write),
        WorldCommand::Check(check) => self::check(check),
    }
}

fn show(arguments: &Show) -> Result<ExitCode> {
    let dials = arguments.dials.read()?;
    let json = serde_json::to_string_pretty(&dials)? + "\n";
    if arguments.json {
        crate::print(&json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let world = World::new(dials)?;
    let mut out = format!("Dials\n{json}\nDomains ({} words in all)\n", world.words().len());
    for (index, name) in world.domains().iter().enumerate() {
        let corpus = world.corpus(name)?;
        let role = match index {
            0 => format!("M_0, with {} documents of each other domain", world.config().initial_documents),
            _ => format!("M_{index}, {:.0} % of its topic words general ones", 100.0 * world.shared_words(name)?),
        };
        writeln!(out, "  {name}: {} documents; {role}", corpus.len())?;
        for text in corpus.iter().take(2) {
            writeln!(out, "    {text}")?;
        }
    }
    out += "\nTasks\n";
    for (card, task) in world.cards().iter().zip(world.tasks()) {
        let kind = format!("{:?}", card.kind).to_lowercase();
        let similar = card.similar_to.map_or(String::new(), |name| format!("; similar to {name}"));
        let (train, dev, test) = (task.train.len(), task.dev.len(), task.test.len());
        writeln!(
            out,
            "  {} ({}, {kind}): {train} + {dev} + {test} texts; {}",
            task.name,
            card.domain,
            task.labels.join(", ")
        )?;
        writeln!(out, "    different from {}{similar}", card.different_from)?;
        for example in task.train.iter().take(2) {
            writeln!(out, "    [{}] {}", task.labels[example.label], example.text)?;
        }
    }
    crate::print(&out)?;
    Ok(ExitCode::SUCCESS)
}

fn write(arguments: &WriteOut) -> Result<ExitCode> {
    let folder = &arguments.out;
    for part in ["corpora", "tasks"] {
        let part = folder.join(part);
        ensure!(!part.exists(), "{} exists: give another --out, or remove it first", part.display());
    }
    let dials = arguments.dials.read()?;
    let world = World::new(dials)?;
    let initial = world.initial_corpus()?;
    initial.save(folder.join("corpora").join("initial.txt"))?;
    let mut out = format!("{}: {} documents\n", initial.name, initial.len());
    for name in world.upgrades() {
        let corpus = world.corpus(name)?;
        corpus.save(folder.join("corpora").join(format!("{name}.txt")))?;
        writeln!(out, "{name}: {} documents", corpus.len())?;
    }
    for task in world.tasks() {
        task.save(folder.join("tasks").join(&task.name))?;
        writeln!(out, "{}: {} + {} + {} texts", task.name, task.train.len(), task.dev.len(), task.test.len())?;
    }
    recyclable::files::write_json(folder.join("world.json"), world.config())?;
    writeln!(out, "written to {}; its dials are in world.json", folder.display())?;
    crate::print(&out)?;
    Ok(ExitCode::SUCCESS)
}

fn check(arguments: &Check) -> Result<ExitCode> {
    let dials = arguments.dials.read()?;
    let recipe: WorldCheckConfig = arguments.recipe.as_ref().map(read_json).transpose()?.unwrap_or_default();
    let progress = Progress::jobs("world check", WorldCheck::jobs(&dials, &recipe)?, "jobs");
    let seed = dials.seed;
    let check = WorldCheck::run(dials, &recipe, seed, &progress)?;
    progress.finish(format!("{:.0} s", check.seconds));
    crate::print(&match arguments.json {
        true => serde_json::to_string_pretty(&check)? + "\n",
        false => check.to_string(),
    })?;
    Ok(if check.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
