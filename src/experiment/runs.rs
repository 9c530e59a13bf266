//! The runs that a reproduction is made of, each a job with a typed result; [`super::bench`] does them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::jobs::Job;
use super::profile::Profile;
use crate::seed;

/// The name of M_i in a lineage.
pub(crate) fn version_name(index: usize) -> String {
    format!("M{index}")
}

/// The independently pre-trained model.
pub(crate) const INDEPENDENT: &str = "IND";
/// The network before any pre-training.
pub(crate) const UNTRAINED: &str = "untrained";

/// One run: on which lineage, with which random numbers, by which method, of which task, and what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Run {
    pub lineage: usize,
    pub seed: usize,
    /// Index into the profile's methods.
    pub method: usize,
    pub method_name: &'static str,
    pub task: String,
    pub what: What,
}

/// What is done in a run. Versions are numbered; `target` is the version moved to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// Tunes M_0: the Δ_0 that everything recycles; then applies it, untouched, to every other version.
    Outdated,
    /// Tunes the target by all labels, from scratch.
    Conventional { target: usize },
    /// Tunes the independently pre-trained model by all labels, from scratch.
    Control,
    /// Tunes the untrained network by all labels.
    Untrained,
    /// Tunes the target by all labels, starting from weights tuned on another version or for another task.
    Init { target: usize, from: Source },
    /// A few-shot student on M_target.
    FewShot { target: usize, way: Way },
    /// A bag-of-words classifier on the same few examples, and on all.
    BagOfWords,
}

/// Where recycled weights come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// Δ_0 of this task or another.
    Outdated { task: String },
    /// Δ_1, tuned conventionally on M_1.
    ConventionalOnFirst,
    /// Δ_1, itself tuned from Δ_0: recycled a second time.
    RecycledOnFirst,
}

/// How a few-shot student learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    LabelsOnly,
    Distilled,
    Init,
    Combined,
    Logits,
    AllTokens,
    Unlabelled,
}

impl Way {
    pub const CLAIMED: [Way; 4] = [Way::LabelsOnly, Way::Distilled, Way::Init, Way::Combined];
    pub const VARIANTS: [Way; 3] = [Way::Logits, Way::AllTokens, Way::Unlabelled];

    pub fn name(self) -> &'static str {
        match self {
            Way::LabelsOnly => "labels only",
            Way::Distilled => "distilled (published loss)",
            Way::Init => "init",
            Way::Combined => "combined",
            Way::Logits => "distilled: scores alone",
            Way::AllTokens => "distilled: hidden states of all tokens",
            Way::Unlabelled => "distilled: scores, on unlabelled texts too",
        }
    }
}

/// What a run leaves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Dev score over steps.
    pub curve: Vec<(usize, f64)>,
    /// Test accuracy and macro-F1 by name: `test` of the run's own model; for Δ_0 applied, the version's name.
    pub accuracy: BTreeMap<String, f64>,
    pub macro_f1: BTreeMap<String, f64>,
    /// Which test texts were right, by the same names, for the bootstrap.
    pub right: BTreeMap<String, Vec<bool>>,
    pub seconds: f64,
}

impl Run {
    /// The weights that this run leaves for others: the version they are tuned on, and their name there.
    pub fn keeps(&self) -> Option<(String, String)> {
        let id = |kind| adapted_id(self.seed, self.method_name, &self.task, kind);
        match &self.what {
            What::Outdated => Some((version_name(0), id("conventional"))),
            What::Conventional { target } => Some((version_name(*target), id("conventional"))),
            What::Control => Some((INDEPENDENT.to_string(), id("conventional"))),
            What::Init { target, from: Source::Outdated { task } } if *task == self.task => {
                Some((version_name(*target), id("recycled")))
            }
            What::Init { .. } | What::Untrained | What::FewShot { .. } | What::BagOfWords => None,
        }
    }
}

impl Job for Run {
    type Output = Outcome;

    fn id(&self) -> String {
        let what = match &self.what {
            What::Outdated => "M0".to_string(),
            What::Conventional { target } => format!("M{target}-conventional"),
            What::Control => format!("{INDEPENDENT}-conventional"),
            What::Untrained => "untrained".to_string(),
            What::BagOfWords => "bag-of-words".to_string(),
            What::Init { target, from } => match from {
                Source::Outdated { task } if *task == self.task => format!("M{target}-init"),
                Source::Outdated { task } => format!("M{target}-init-from-{task}"),
                Source::ConventionalOnFirst => format!("M{target}-init-from-M1"),
                Source::RecycledOnFirst => format!("M{target}-init-twice"),
            },
            What::FewShot { target, way } => format!("M{target}-few-{way:?}").to_lowercase(),
        };
        format!("l{}-s{}-{}-{}-{what}", self.lineage, self.seed, self.method_name, self.task)
    }

    fn headline(outcome: &Outcome) -> String {
        match outcome.accuracy.get("test") {
            Some(accuracy) => format!("test {accuracy:.3} in {:.1} s", outcome.seconds),
            None => format!("{:.1} s", outcome.seconds),
        }
    }
}

/// The name under which a lineage keeps tuned weights.
pub(super) fn adapted_id(seed: usize, method_name: &str, task: &str, kind: &str) -> String {
    format!("s{seed}-{method_name}-{task}-{kind}")
}

/// The random numbers of a repetition: equal for equal seeds, whatever the version, task or way.
pub(super) fn tuning_seed(profile: &Profile, seed: usize) -> u64 {
    seed::derive(profile.seed, &format!("tuning {seed}"))
}
