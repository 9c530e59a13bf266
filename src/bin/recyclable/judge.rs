//! `recyclable judge`: the verdicts of a finished run, formed anew from its rows.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use recyclable::report::rejudge;

/// Judge a finished run of `reproduce` again, from its rows alone, and write its report anew
///
/// The models need not be there any more: profile.json, inputs.json, report.json and results/*.jsonl are enough.
#[derive(clap::Args)]
pub struct Judge {
    /// The folder of the run
    run: PathBuf,
}

pub fn run(arguments: &Judge) -> Result<ExitCode> {
    let report = rejudge(&arguments.run)?;
    let place = arguments.run.join("report.html");
    crate::print(&format!("{}\nThe whole report: {}\n", report.to_text(), place.display()))?;
    Ok(ExitCode::SUCCESS)
}
