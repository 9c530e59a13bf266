//! `recyclable compare`: two runs side by side.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use recyclable::files::write_atomic;
use recyclable::report::{Report, RunComparison};

/// Put two runs of `reproduce` side by side: what they differ in, and every claim
///
/// Both folders need a finished run's report.json. Differences are second − first; they are judged, paired by unit, where both runs
/// have as many lineages and seeds of the same base seed and texts, and are called a change only when their 95 % interval leaves zero
/// out.
#[derive(clap::Args)]
pub struct Compare {
    /// The folder of a run
    first: PathBuf,
    /// The folder of another
    second: PathBuf,
    /// Write the comparison as Markdown as well
    #[arg(long, value_name = "FILE.md")]
    out: Option<PathBuf>,
}

pub fn run(arguments: &Compare) -> Result<ExitCode> {
    let load = |path: &PathBuf| Ok::<_, anyhow::Error>((path.display().to_string(), Report::load(path)?));
    let comparison = RunComparison::new(load(&arguments.first)?, load(&arguments.second)?);
    let (settings, claims) = (comparison.settings_table(), comparison.claims_table()?);
    crate::print(&format!("{}\n{}", settings.to_text(), claims.to_text()))?;
    if let Some(path) = &arguments.out {
        let text = format!("# Two runs compared\n\n{}\n{}", claims.to_markdown(), settings.to_markdown());
        write_atomic(path, text.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}
