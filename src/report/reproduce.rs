//! The main job: pre-train, tune, upgrade, recycle, and judge the claims.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::document::Report;
use super::figures::figures;
use super::tables::tables;
use crate::claims::{CLAIMS, Evidence, Verdicts, judge};
use crate::device::device_name;
use crate::experiment::results::commit;
use crate::experiment::{Compute, Experiment, Profile, perform};

/// Runs `profile` in the folder `out`, and writes the report with its claims there. A run that was interrupted goes on; a folder of
/// another profile, of a run on other texts, or of an older program is refused.
///
/// Everything is kept: `lineage-0/` …, `results/*.jsonl`, `profile.json`, `inputs.json`, `report.{json,md,html}`. A claim that cannot be
/// measured is missing from the report's claims, and its notes say why ([`Report::is_complete`]).
pub fn reproduce(profile: &Profile, place: Compute, out: &Path) -> Result<Report> {
    let experiment = perform(profile, place, out)?;
    let run = Report {
        device: device_name(place.device),
        precision: experiment.profile.precision.resolve(place.device).to_string(),
        threads: place.threads,
        ..Report::default()
    };
    let report = report(&experiment, run);
    report.write(out)?;
    Ok(report)
}

/// Judges the finished run in `out` again, from its rows alone, and writes its report anew: with the rules, tables and figures of this
/// program. Where, when and how fast it was run stays as it was.
///
/// Errors: a folder without a finished run, changed texts, missing rows.
pub fn rejudge(out: &Path) -> Result<Report> {
    let (mut experiment, run) = (Experiment::load(out)?, Report::load(out)?);
    if experiment.seconds == 0.0 {
        // A copy of rows and report alone, without the clock.
        (experiment.seconds, experiment.peak_rss_mb) = (run.seconds, run.peak_rss_mb);
    }
    let report = report(&experiment, run);
    report.write(out)?;
    Ok(report)
}

/// What an experiment says of the claims; `run` says where and when it was run.
fn report(experiment: &Experiment, run: Report) -> Report {
    let (evidence, profile) = (Evidence::of(experiment), &experiment.profile);
    let Verdicts { claims, mut unmeasured } = judge(experiment);
    let tables = tables(&evidence, &claims, &mut unmeasured);
    let figures = figures(&evidence, &mut unmeasured);
    Report {
        commit: commit(),
        profile: profile.name.clone(),
        seconds: experiment.seconds,
        peak_rss_mb: experiment.peak_rss_mb,
        seeds: profile.seeds,
        lineages: profile.lineages,
        unit: profile.unit(),
        claims,
        tables,
        figures,
        notes: unmeasured.into_iter().chain(notes(experiment)).collect(),
        settings: json!(profile),
        ..run
    }
}

/// What a reader should know beside the numbers.
fn notes(experiment: &Experiment) -> Vec<String> {
    let mut notes = experiment.notes.clone();
    notes.push(
        "The thresholds are this project's own, fixed before the run; the paper's body was not at hand, and no number of it stands here. \
         Retained shares are formed from accuracies averaged over tasks; ratios of updates per task, then averaged on the logarithm. Weights are \
         chosen on dev, and C4a counts updates by the dev score; every other judgement is made on test."
            .to_string(),
    );
    let independent = match (experiment.profile.independent, experiment.profile.starts_from()) {
        (false, _) => "",
        (true, None) => " M_IND has M_0's data and budget, but another initialisation and order.",
        (true, Some(_)) => " M_IND has M_0's data and budget, but another encoder as its start.",
    };
    let untrained = match experiment.profile.starts_from() {
        None => "The untrained network has M_0's initial weights.",
        Some(_) => {
            "M_0 starts from a pre-trained encoder, the same for every lineage; what that has read before is unknown, and may have been \
             among these texts. The untrained network has its shape, and weights drawn anew."
        }
    };
    notes.push(format!(
        "M_PERM is M_0 in other coordinates: it computes the same function and shares none of them. {untrained}{independent}"
    ));
    let commits = experiment.results.commits();
    if commits.iter().any(|(of, _)| *of != commit()) {
        let rows = commits.iter().map(|(commit, rows)| format!("{rows} of {commit}")).collect::<Vec<_>>().join(", ");
        notes.push(format!(
            "What was measured and what judged it are not one program. Rows: {rows}; judged by {}.",
            commit()
        ));
    }
    notes
}

impl Report {
    /// Whether all claims were measured for every tuning method, whether they hold or not.
    pub fn is_complete(&self, profile: &Profile) -> bool {
        self.claims.len() == CLAIMS * profile.methods.len()
    }
}
