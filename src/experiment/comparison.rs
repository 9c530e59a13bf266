//! Two tuned models compared: the straight path between them, their attention heads, hidden states and distance.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::{Context, Result};

use super::bench::{Bench, answers, tuning_seed};
use super::results::{End, Pair, PairKey, PathStep, Recipe, RunKey, Start, commit};
use crate::analysis::{AttentionRows, Route, distance, hidden_state_similarity, walk};
use crate::model::{Method, Model, fresh_modules};
use crate::params::Delta;
use crate::text::TaskData;
use crate::train::Scores;

/// What a worker keeps between its comparisons: the models of the repetition it is at.
pub(crate) struct Comparer<'a> {
    bench: Bench<'a>,
    /// The comparison that they were loaded for; those of the same repetition share them.
    at: Option<PairKey>,
    candidates: HashMap<String, Candidate>,
}

/// A tuned model ready to be compared.
struct Candidate {
    /// What tuning changed.
    moved: Option<Delta>,
    model: Model,
    attention: AttentionRows,
}

impl<'a> Comparer<'a> {
    pub fn new(bench: Bench<'a>) -> Comparer<'a> {
        Comparer { bench, at: None, candidates: HashMap::new() }
    }

    /// Does one comparison.
    pub fn compare(&mut self, key: &PairKey) -> Result<Pair> {
        let clock = Instant::now();
        let site = self.bench.site(&key.data)?;
        let (profile, task) = (&site.plan.profile, site.materials.task(&key.task)?);
        let length = site.method(&key.method)?.full_data.max_length;
        let encode = |examples| TaskData::new(examples, &site.materials.tokenizer, length);
        let test = encode(&task.test)?;
        let looked_at = encode(&task.test[..profile.pilot.texts.min(task.test.len())])?;
        self.have(key, &looked_at)?;
        let untuned = self.untuned(key, &looked_at)?;
        let [a, b] = [&key.from, &key.to].map(|end| self.candidates.get(&end.to_string()));
        let (a, b) = a.zip(b).context("a model was not loaded")?;
        let real = profile.is_real_text();
        let mut said = Vec::new();
        let through = [&a.model, &a.model, &b.model];
        let path = walk(Route::Line, through, profile.pilot.points, &[("test", &test)], |(_, data), evaluation| {
            said.push(if real { answers(evaluation.right(data)) } else { String::new() });
        })?;
        let step = |((mu, scores), answers): ((f64, Option<Scores>), String)| PathStep {
            mu,
            accuracy: scores.map(|scores| scores.accuracy),
            loss: scores.map(|scores| scores.loss),
            answers,
        };
        let attention = a.attention.similarity(&b.attention)?;
        let heads = attention.js;
        // Too few tokens, or states that do not vary, leave the similarity of heads and the paths untouched.
        let hidden = hidden_state_similarity(&a.model, &b.model, &looked_at).ok();
        Ok(Pair {
            key: key.clone(),
            split: "test".to_string(),
            n: test.len(),
            path: path.scores("test")?.into_iter().zip(said).map(step).collect(),
            corresponding: several(heads.corresponding())?,
            mismatched: several(heads.mismatched())?,
            mismatched_in_layer: heads.mismatched_in_layer(),
            matched_share: heads.matched_share(),
            gaps: if real { attention.gaps } else { Vec::new() },
            untuned,
            cka: hidden.and_then(|layers| layers.cka.last().copied()),
            distance: distance_of(&a.model, &b.model)?,
            cosine: cosine(&a.moved, &b.moved)?,
            seconds: clock.elapsed().as_secs_f64(),
            commit: commit(),
        })
    }

    /// Loads the models of both ends, and drops those of another repetition.
    fn have(&mut self, key: &PairKey, looked_at: &TaskData) -> Result<()> {
        if !self.at.as_ref().is_some_and(|at| share_models(at, key)) {
            self.candidates.clear();
        }
        self.at = Some(key.clone());
        for end in [&key.from, &key.to] {
            if !self.candidates.contains_key(&end.to_string()) {
                self.bench.have(&key.data, key.lineage, &end.version)?;
                let candidate = self.candidate(key, end, looked_at)?;
                self.candidates.insert(end.to_string(), candidate);
            }
        }
        Ok(())
    }

    fn candidate(&self, key: &PairKey, end: &End, looked_at: &TaskData) -> Result<Candidate> {
        let site = self.bench.site(&key.data)?;
        let run = RunKey {
            data: key.data.clone(),
            lineage: key.lineage,
            seed: end.seed,
            task: key.task.clone(),
            method: key.method.clone(),
            recipe: Recipe::conventional(&end.version).from(end.start),
        };
        let adapted = site.lineage(key.lineage)?.adapted(&end.version, &run.weights())?;
        let base = self.bench.version(&key.data, key.lineage, &end.version)?;
        let model = adapted.apply(base, self.bench.device)?.with_precision(site.plan.profile.precision);
        let attention = AttentionRows::of(&model, looked_at)?;
        let moved = match (&adapted.backbone, &adapted.modules) {
            (Some(delta), _) => Some(delta.try_clone()?),
            // Coupled modules start alike: what they have in common from the start says nothing about tuning.
            (None, Some(modules)) => {
                // Recycled ones go back to those of M_0's run.
                let origin = if end.start == Start::Delta { Start::Coupled } else { end.start };
                let origin = RunKey { recipe: run.recipe.clone().from(origin), ..run };
                let seed = tuning_seed(&site.plan.profile, &origin);
                let start = fresh_modules(model.config(), model.method(), seed)?.context("a method without modules")?;
                Some((modules - &start)?)
            }
            (None, None) => None,
        };
        Ok(Candidate { moved, model, attention })
    }

    /// Similarities of the two versions before any tuning, once a lineage; the head that a classifier needs plays no role in it.
    fn untuned(&mut self, key: &PairKey, looked_at: &TaskData) -> Result<Option<[f64; 2]>> {
        let site = self.bench.site(&key.data)?;
        let first = site.plan.profile.method_names()[0] == key.method && key.seed == 0;
        if !first || key.from.version == key.to.version {
            return Ok(None);
        }
        for end in [&key.from, &key.to] {
            self.bench.have(&key.data, key.lineage, &end.version)?;
        }
        let labels = &site.materials.task(&key.task)?.labels;
        let rows = |end: &End| -> Result<AttentionRows> {
            let version = self.bench.version(&key.data, key.lineage, &end.version)?;
            let model = Model::classifier(version, labels, &Method::Full, 0, self.bench.device)?;
            AttentionRows::of(&model.with_precision(site.plan.profile.precision), looked_at)
        };
        let heads = rows(&key.from)?.similarity(&rows(&key.to)?)?.js;
        Ok(Some([several(heads.corresponding())?, several(heads.mismatched())?]))
    }
}

/// Whether two comparisons are of one repetition, task and method, and so of the same few models.
pub(super) fn share_models(a: &PairKey, b: &PairKey) -> bool {
    let group = |key: &PairKey| (key.data.clone(), key.lineage, key.seed, key.task.clone(), key.method.clone());
    group(a) == group(b)
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
