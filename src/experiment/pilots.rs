//! The pilot studies of a reproduction: tuned versions compared with each other, a job for each task and seed.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::bench::Bench;
use super::jobs::Job;
use super::profile::{PathSplit, Profile};
use super::runs::{INDEPENDENT, adapted_id, version_name};
use crate::analysis::{AttentionRows, ModePath, Route, distance, hidden_state_similarity, walk};
use crate::model::{Method, Model, fresh_modules};
use crate::params::Delta;
use crate::text::Task;
use crate::text::TaskData;

/// Compares the tuned versions of one lineage, on one task, with one seed, by one method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pilot {
    pub lineage: usize,
    pub seed: usize,
    /// Index into the profile's methods.
    pub method: usize,
    pub method_name: &'static str,
    pub task: String,
}

/// A tuned model that pairs are made of: its version, how it was tuned, and with which seed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct End {
    version: String,
    kind: &'static str,
    seed: usize,
}

/// Why two tuned models are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    /// M_i and M_{i+1}: the claims rest on these.
    Adjacent,
    /// M_0 and the last version.
    Distant,
    /// M_0 and the independently pre-trained model: the control.
    Independent,
    /// M_1 tuned conventionally, and from recycled weights.
    Recycled,
    /// M_1 tuned with two seeds.
    OtherSeed,
}

impl Pair {
    /// The seeds of both ends.
    pub fn seeds(&self) -> [usize; 2] {
        self.ends.each_ref().map(|end| end.seed)
    }
}

impl PilotOutcome {
    /// Whether it holds these pairs: with more seeds than before, there may be others. `texts`: with what a bootstrap over texts
    /// takes.
    pub fn covers(&self, pairs: &[Pair], texts: bool) -> bool {
        let whole = |found: &Comparison| !texts || !(found.answers.is_empty() || found.gaps.is_empty());
        pairs
            .iter()
            .all(|pair| self.pairs.get(&pair.name).is_some_and(|found| found.seeds == pair.seeds() && whole(found)))
    }
}

impl Relation {
    pub fn name(self) -> &'static str {
        match self {
            Relation::Adjacent => "adjacent",
            Relation::Distant => "distant",
            Relation::Independent => "independent",
            Relation::Recycled => "conventional, recycled",
            Relation::OtherSeed => "two seeds",
        }
    }
}

/// Two tuned models, by the name that they are reported under.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub name: String,
    pub relation: Relation,
    ends: [End; 2],
}

/// What the comparison of a pair gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Comparison {
    /// The seeds of both ends.
    pub seeds: [usize; 2],
    pub path: ModePath,
    /// On real text, which texts of the split that C2 is judged on are answered rightly (1) at each point, for the bootstrap.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
    /// On real text, g (1 − JS of corresponding heads less that of mismatched ones) on each text, for the bootstrap.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<f64>,
    /// Similarity (1 − JS) of corresponding heads, of all mismatched ones, and of those within a layer.
    pub corresponding: f64,
    pub mismatched: f64,
    pub mismatched_in_layer: Option<f64>,
    /// The share of heads whose best partner in an optimal matching is the corresponding head.
    pub matched_share: f64,
    /// Debiased linear CKA of the last layer's hidden states; `None` where they do not vary.
    pub cka: Option<f64>,
    /// ‖θ_a − θ_b‖ over backbone and modules.
    pub distance: f64,
    /// Cosine between what tuning changed: the two Δ, or what was added to fresh modules; `None` where one end has changed nothing.
    pub cosine: Option<f64>,
    /// The same similarities of the two versions before any tuning; in the first seed's first method only.
    pub untuned: Option<[f64; 2]>,
}

/// The comparisons by pair.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PilotOutcome {
    pub pairs: BTreeMap<String, Comparison>,
    pub seconds: f64,
}

impl Job for Pilot {
    type Output = PilotOutcome;

    fn id(&self) -> String {
        format!("l{}-s{}-{}-{}-compare", self.lineage, self.seed, self.method_name, self.task)
    }

    fn headline(outcome: &PilotOutcome) -> String {
        format!("{} pairs in {:.1} s", outcome.pairs.len(), outcome.seconds)
    }
}

/// All comparisons of a profile.
pub(crate) fn pilots(profile: &Profile) -> Vec<Pilot> {
    let repeats = (0..profile.lineages).flat_map(|l| (0..profile.seeds).map(move |s| (l, s)));
    let names = profile.method_names();
    let mut pilots = Vec::new();
    for (lineage, seed) in repeats {
        for (method, &method_name) in names.iter().enumerate() {
            let of = |task: &str| Pilot { lineage, seed, method, method_name, task: task.to_string() };
            pilots.extend(profile.pilot_tasks().into_iter().map(of));
        }
    }
    pilots
}

/// The pairs that are compared with this seed, along a lineage up to version `last`.
pub(crate) fn pairs(profile: &Profile, seed: usize, last: usize) -> Vec<Pair> {
    // The paper's scripts pair runs of equal seeds, so that heads and modules start alike; uncoupled, the other end has the next seed.
    let next = (seed + 1) % profile.seeds;
    let far_seed = if profile.pilot.coupled { seed } else { next };
    let end = |version: &str, kind, seed| End { version: version.to_string(), kind, seed };
    let between = |a: &str, b: &str, relation| Pair {
        name: format!("{}–{}", shown(a), shown(b)),
        relation,
        ends: [end(a, "conventional", seed), end(b, "conventional", far_seed)],
    };
    let mut pairs: Vec<Pair> =
        (0..last).map(|at| between(&version_name(at), &version_name(at + 1), Relation::Adjacent)).collect();
    if last > 1 {
        pairs.push(between("M0", &version_name(last), Relation::Distant));
    }
    pairs.push(between("M0", INDEPENDENT, Relation::Independent));
    pairs.push(Pair {
        name: "M_1, recycled".to_string(),
        relation: Relation::Recycled,
        ends: [end("M1", "conventional", seed), end("M1", "recycled", seed)],
    });
    if profile.seeds > 1 {
        pairs.push(Pair {
            name: "M_1, two seeds".to_string(),
            relation: Relation::OtherSeed,
            ends: [end("M1", "conventional", seed), end("M1", "conventional", next)],
        });
    }
    pairs
}

/// `M_0` for M0, `M_IND` for the independent model.
pub(crate) fn shown(version: &str) -> String {
    match version.strip_prefix('M') {
        Some(number) => format!("M_{number}"),
        None => format!("M_{version}"),
    }
}

/// A tuned model ready to be compared.
struct Candidate {
    /// What tuning changed.
    moved: Option<Delta>,
    model: Model,
    attention: AttentionRows,
}

impl Bench<'_> {
    /// Does one comparison job.
    pub fn compare(&mut self, pilot: &Pilot) -> Result<PilotOutcome> {
        let clock = std::time::Instant::now();
        let last = self.materials.upgrades.len();
        let versions: Vec<String> = (0..=last).map(version_name).chain([INDEPENDENT.to_string()]).collect();
        self.have(pilot.lineage, &versions)?;
        let plan = &self.profile.pilot;
        let task = self.materials.task(&pilot.task)?;
        let length = self.profile.methods[pilot.method].full_data.max_length;
        let encode = |examples| TaskData::new(examples, &self.materials.tokenizer, length);
        let looked_at = encode(&task.dev[..plan.texts.min(task.dev.len())])?;
        let splits = plan.splits.iter().map(|split| {
            let examples = if *split == PathSplit::Dev { &task.dev } else { &task.test };
            Ok((split.name(), encode(examples)?))
        });
        let splits = splits.collect::<Result<Vec<_>>>()?;
        let splits: Vec<(&str, &TaskData)> = splits.iter().map(|(name, data)| (*name, data)).collect();
        let pairs = pairs(self.profile, pilot.seed, last);
        let mut candidates: BTreeMap<&End, Candidate> = BTreeMap::new();
        for end in pairs.iter().flat_map(|pair| &pair.ends) {
            if !candidates.contains_key(end) {
                candidates.insert(end, self.candidate(pilot, end, &looked_at)?);
            }
        }
        let untuned = if (pilot.lineage, pilot.seed, pilot.method) == (0, 0, 0) {
            let rows = versions.iter().map(|name| Ok((name.clone(), self.untuned(pilot, name, task, &looked_at)?)));
            rows.collect::<Result<BTreeMap<_, _>>>()?
        } else {
            BTreeMap::new()
        };
        let mut outcome = PilotOutcome::default();
        for pair in &pairs {
            let [a, b] = [&candidates[&pair.ends[0]], &candidates[&pair.ends[1]]];
            let [from, to] = pair.ends.each_ref().map(|end| &end.version);
            let mut answers = Vec::new();
            let judged = splits.last().map(|(name, _)| *name).filter(|_| self.profile.is_real_text());
            let path = walk(Route::Line, [&a.model, &a.model, &b.model], plan.points, &splits, |(name, data), said| {
                if Some(*name) == judged {
                    answers.push(said.right(data).into_iter().map(|right| if right { '1' } else { '0' }).collect());
                }
            });
            let path = path.with_context(|| format!("on the way of {}", pair.name))?;
            let untuned = match (untuned.get(from), untuned.get(to)) {
                (Some(one), Some(other)) if from != to => {
                    let heads = one.similarity(other)?.js;
                    Some([several(heads.corresponding())?, several(heads.mismatched())?])
                }
                _ => None,
            };
            let attention = a.attention.similarity(&b.attention)?;
            let heads = attention.js;
            // Too few tokens, or states that do not vary, leave the similarity of heads and the paths untouched.
            let hidden = hidden_state_similarity(&a.model, &b.model, &looked_at).ok();
            let comparison = Comparison {
                seeds: pair.seeds(),
                path: path.named(shown(from), shown(to)),
                answers,
                gaps: if self.profile.is_real_text() { attention.gaps } else { Vec::new() },
                corresponding: several(heads.corresponding())?,
                mismatched: several(heads.mismatched())?,
                mismatched_in_layer: heads.mismatched_in_layer(),
                matched_share: heads.matched_share(),
                cka: hidden.and_then(|layers| layers.cka.last().copied()),
                distance: distance_of(&a.model, &b.model)?,
                cosine: cosine(&a.moved, &b.moved)?,
                untuned,
            };
            outcome.pairs.insert(pair.name.clone(), comparison);
        }
        outcome.seconds = clock.elapsed().as_secs_f64();
        Ok(outcome)
    }

    fn candidate(&self, pilot: &Pilot, end: &End, looked_at: &TaskData) -> Result<Candidate> {
        let id = adapted_id(end.seed, pilot.method_name, &pilot.task, end.kind);
        let adapted = self.lineages[pilot.lineage].adapted(&end.version, &id)?;
        let precision = self.profile.precision;
        let model = adapted.apply(self.version(pilot.lineage, &end.version)?, self.device)?.with_precision(precision);
        let attention = AttentionRows::of(&model, looked_at)?;
        let moved = match (&adapted.backbone, &adapted.modules) {
            (Some(delta), _) => Some(delta.try_clone()?),
            // Modules of equal seeds start alike: what they have in common from the start says nothing about tuning.
            (None, Some(modules)) => {
                let seed = self.seed_of(end.seed);
                let start = fresh_modules(model.config(), model.method(), seed)?.context("a method without modules")?;
                Some((modules - &start)?)
            }
            (None, None) => None,
        };
        Ok(Candidate { moved, model, attention })
    }

    /// The attention of a version before tuning; the head that a classifier needs plays no role in it.
    fn untuned(&self, pilot: &Pilot, name: &str, task: &Task, looked_at: &TaskData) -> Result<AttentionRows> {
        let version = self.version(pilot.lineage, name)?;
        let model = Model::classifier(version, &task.labels, &Method::Full, 0, self.device)?;
        AttentionRows::of(&model.with_precision(self.profile.precision), looked_at)
    }
}

fn several(mean: Option<f64>) -> Result<f64> {
    mean.context("a model with a single attention head has no other head to compare it with")
}

/// ‖θ_a − θ_b‖ over backbone and modules; heads belong to the task.
fn distance_of(a: &Model, b: &Model) -> Result<f64> {
    let backbone = distance(a.backbone(), b.backbone())?.whole.l2;
    let modules = match (a.modules(), b.modules()) {
        (Some(a), Some(b)) => distance(a, b)?.whole.l2,
        _ => 0.0,
    };
    Ok(backbone.hypot(modules))
}

/// `None` where one of the two does not exist or is zero.
fn cosine(a: &Option<Delta>, b: &Option<Delta>) -> Result<Option<f64>> {
    match (a, b) {
        (Some(a), Some(b)) => Ok(distance(a, b)?.whole.cosine),
        _ => Ok(None),
    }
}
