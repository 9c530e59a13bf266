//! Distillation-based recycling: the outdated model teaches the new one.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::{Device, Kind, Reduction, Tensor};

use super::interpolation::{FixedEnd, Interpolation};
use super::teacher::{Outputs, Teacher, outputs, token_weights};
use super::{Recycle, Upgrade, same_labels};
use crate::display::Progress;
use crate::model::{Model, Network, Pass};
use crate::text::{Example, Task, TaskBatch, TaskData, Text};
use crate::train::{EncodedTask, Objective, Start, TuneConfig, TuneRun, tune_with};

/// What the distillation loss is made of:
///
/// L = (1 − α)·L_task + α·L_kd + β·L_hidden
///
/// with L_task the cross-entropy with the labels, L_kd = T²·KL(softmax(t/T) ‖ softmax(s/T)) of teacher and student scores t, s,
/// and L_hidden = ½·mean (H_t − H_s)² over chosen hidden states (paper.md 9.2; `trainer_kd.py` of the authors). With
/// `interpolation`, α·L_kd + β·L_hidden are taken at points between student and teacher as well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DistillConfig {
    /// α, between the labels (0) and the teacher's scores (1).
    pub alpha: f64,
    /// β, the weight of the hidden states; 0 leaves them out.
    pub beta: f64,
    /// T, which softens both distributions.
    pub temperature: f64,
    /// How the divergence is averaged.
    pub reduction: KlReduction,
    /// Which hidden states are compared.
    pub layers: LayerSet,
    /// At which tokens they are compared.
    pub tokens: HiddenTokens,
    /// Compare hidden states scaled to unit length, as in Patient Knowledge Distillation.
    pub normalise: bool,
    /// Points between student and teacher that have to agree with the teacher too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpolation: Option<Interpolation>,
}

impl Default for DistillConfig {
    fn default() -> DistillConfig {
        DistillConfig {
            alpha: 0.9,
            beta: 10.0,
            temperature: 10.0,
            reduction: KlReduction::BatchMean,
            layers: LayerSet::AllButLast,
            tokens: HiddenTokens::First,
            normalise: false,
            interpolation: None,
        }
    }
}

/// How the Kullback–Leibler divergence is averaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlReduction {
    /// Summed over classes, averaged over the batch: the divergence itself.
    #[default]
    BatchMean,
    /// Averaged over classes as well, 1/(B·C), as in the authors' code: smaller by the number of classes.
    PerElement,
}

/// Which hidden states are compared: 0 is the embeddings' output, l the output of layer l.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerSet {
    /// 0 to L − 1, as in the authors' code.
    #[default]
    AllButLast,
    /// L alone.
    Last,
    /// 0 to L.
    All,
    /// These.
    These(Vec<usize>),
}

/// At which tokens hidden states are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HiddenTokens {
    /// `<s>` alone, as in the authors' code.
    #[default]
    First,
    /// Every token that is not padding.
    All,
}

impl DistillConfig {
    /// Says which value cannot be.
    pub fn validate(&self) -> Result<()> {
        ensure!((0.0..=1.0).contains(&self.alpha), "alpha {} is not in [0, 1]", self.alpha);
        ensure!(self.beta.is_finite() && self.beta >= 0.0, "beta {} must not be negative", self.beta);
        ensure!(
            self.temperature.is_finite() && self.temperature > 0.0,
            "temperature {} must be positive",
            self.temperature
        );
        self.interpolation.as_ref().map_or(Ok(()), Interpolation::validate)
    }

    /// The hidden states compared in a model of this many layers.
    pub(super) fn layer_indices(&self, layers: usize) -> Result<Vec<usize>> {
        let chosen = match &self.layers {
            LayerSet::AllButLast => (0..layers).collect(),
            LayerSet::Last => vec![layers],
            LayerSet::All => (0..=layers).collect(),
            LayerSet::These(chosen) => chosen.clone(),
        };
        ensure!(!chosen.is_empty(), "the set of layers to compare is empty: set beta to 0 to leave hidden states out");
        if let Some(layer) = chosen.iter().find(|&&layer| layer > layers) {
            anyhow::bail!("hidden state {layer} does not exist: the model has {layers} layers, so 0 to {layers} do");
        }
        Ok(chosen)
    }
}

/// Distils from M_i ⊕ Δ_i into a fresh head (and modules) on M_{i+1}.
#[derive(Clone, Debug, Default)]
pub struct Distill {
    /// The distillation loss.
    pub distill: DistillConfig,
    /// Texts without labels, or pairs, on which the teacher is asked as well.
    pub unlabelled: Vec<Text>,
}

impl Recycle for Distill {
    fn name(&self) -> &'static str {
        "distilled"
    }

    fn recycle(
        &self,
        upgrade: Upgrade,
        task: &Task,
        config: &TuneConfig,
        device: Device,
        progress: &Progress,
    ) -> Result<TuneRun> {
        distill_from(upgrade, task, Start::Fresh, &self.distill, &self.unlabelled, config, device, progress)
    }
}

#[allow(clippy::too_many_arguments, reason = "the one piece that distillation and its combination with init share")]
pub(super) fn distill_from(
    upgrade: Upgrade,
    task: &Task,
    start: Start,
    distill: &DistillConfig,
    unlabelled: &[Text],
    config: &TuneConfig,
    device: Device,
    progress: &Progress,
) -> Result<TuneRun> {
    config.validate()?;
    distill.validate()?;
    same_labels(upgrade.outdated, task)?;
    let (old, new) = (upgrade.old.config.num_hidden_layers, upgrade.new.config.num_hidden_layers);
    ensure!(
        distill.beta == 0.0 || old == new,
        "the teacher has {old} layers, the student {new}: hidden states are compared layer by layer, so set beta to 0"
    );
    let data = EncodedTask::new(task, upgrade.new, config.max_length)?;
    let teacher =
        || Ok::<_, anyhow::Error>(upgrade.outdated.apply(upgrade.old, device)?.with_precision(config.precision));
    let labelled = Taught { teacher: Teacher::new(teacher()?, &data.train, distill)?, data: &data.train };
    let extra: Vec<Example> = unlabelled.iter().map(Text::unlabelled).collect();
    let extra = match extra.is_empty() {
        true => None,
        false => Some(TaskData::new(&extra, &upgrade.new.tokenizer, config.max_length)?),
    };
    let unlabelled = extra
        .as_ref()
        .map(|data| Ok::<_, anyhow::Error>(Taught { teacher: Teacher::new(teacher()?, data, distill)?, data }));
    let fixed = distill.interpolation.as_ref().map(|_| {
        ensure!(
            upgrade.outdated.card.method == config.method,
            "interpolation needs a teacher tuned by the student's method: it was tuned by {:?}, the student is by {:?}",
            upgrade.outdated.card.method,
            config.method
        );
        FixedEnd::new(upgrade, device)
    });
    let (unlabelled, fixed) = (unlabelled.transpose()?, fixed.transpose()?);
    let objective = Distillation { labelled, unlabelled, fixed, distill, config, device };
    let recipe = json!({"tune": config, "distill": distill, "unlabelled": extra.as_ref().map_or(0, TaskData::len)});
    tune_with(upgrade.new, task, start, config, device, &data, &objective, recipe, progress)
}

/// A split and the teacher's answers on it.
struct Taught<'a> {
    teacher: Teacher,
    data: &'a TaskData,
}

/// The distillation loss on labelled texts, plus the same without L_task on unlabelled ones.
struct Distillation<'a> {
    labelled: Taught<'a>,
    unlabelled: Option<Taught<'a>>,
    /// The teacher as one end of the line whose inner points are distilled into as well.
    fixed: Option<FixedEnd>,
    distill: &'a DistillConfig,
    config: &'a TuneConfig,
    device: Device,
}

/// What one update learns from.
struct Lesson {
    labelled: TaskBatch,
    unlabelled: Option<TaskBatch>,
    /// Inner points x of the line from teacher (0) to student (1).
    points: Vec<f64>,
}

impl Distillation<'_> {
    /// The loss of one network on a batch; the labels count only where they are given.
    fn term(
        &self,
        taught: &Taught,
        network: &Network,
        batch: &TaskBatch,
        pass: Pass,
        labels: Option<&Tensor>,
    ) -> Result<Tensor> {
        let said = taught.teacher.outputs(batch, self.distill)?;
        let student = outputs(network, taught.teacher.layers(), batch, pass, self.distill)?;
        let weights = student.hidden.as_ref().map(|hidden| token_weights(batch, hidden, self.device)).transpose()?;
        mixed_loss(&student, &said, labels, weights.as_ref(), self.distill)
    }
}

impl Objective for Distillation<'_> {
    type Batch = Lesson;

    fn batch(&self, index: usize) -> Result<Lesson> {
        let (size, seed) = (self.config.batch_size, self.config.seed);
        let take = |data: &TaskData| data.batch(index, size, seed)?.to_device(self.device);
        Ok(Lesson {
            labelled: take(self.labelled.data)?,
            unlabelled: self.unlabelled.as_ref().map(|taught| take(taught.data)).transpose()?,
            points: self.distill.interpolation.as_ref().map_or(Vec::new(), |inner| inner.at(seed, index)),
        })
    }

    fn targets(&self, lesson: &Lesson) -> usize {
        lesson.labelled.labels.numel()
    }

    fn tokens(&self, lesson: &Lesson) -> usize {
        let count = |batch: &TaskBatch| batch.tokens.input_ids.numel();
        count(&lesson.labelled) + lesson.unlabelled.as_ref().map_or(0, count)
    }

    fn loss(&self, student: &Model, lesson: &Lesson, pass: Pass) -> Result<Tensor> {
        let (own, labelled) = (student.network(), &lesson.labelled);
        let mut next = pass.again();
        let mut loss = self.term(&self.labelled, own, labelled, pass, Some(&labelled.labels))?;
        if let (Some(taught), Some(batch)) = (&self.unlabelled, &lesson.unlabelled) {
            let after = next.again();
            let pass = std::mem::replace(&mut next, after);
            loss = loss.f_add(&self.term(taught, own, batch, pass, None)?)?;
        }
        if let (Some(fixed), Some(inner)) = (&self.fixed, &self.distill.interpolation) {
            for &x in &lesson.points {
                let after = next.again();
                let pass = std::mem::replace(&mut next, after);
                let network = fixed.network(student, x)?;
                let between = self.term(&self.labelled, &network, labelled, pass, None)?;
                loss = loss.f_add(&between.f_mul_scalar(inner.weight)?)?;
            }
        }
        Ok(loss.f_mul_scalar(labelled.labels.numel() as f64)?)
    }
}

/// (1 − α)·L_task + α·L_kd + β·L_hidden for scores (b, classes) and, where β > 0, hidden states (b, layers, tokens, h) of student
/// and teacher. Tokens weigh the same.
pub fn distillation_loss(
    student: (&Tensor, Option<&Tensor>),
    teacher: (&Tensor, Option<&Tensor>),
    labels: &Tensor,
    config: &DistillConfig,
) -> Result<Tensor> {
    let outputs = |(logits, hidden): (&Tensor, Option<&Tensor>)| Outputs {
        logits: logits.shallow_clone(),
        hidden: hidden.map(Tensor::shallow_clone),
    };
    mixed_loss(&outputs(student), &outputs(teacher), Some(labels), None, config)
}

fn mixed_loss(
    student: &Outputs,
    teacher: &Outputs,
    labels: Option<&Tensor>,
    weights: Option<&Tensor>,
    config: &DistillConfig,
) -> Result<Tensor> {
    let t = config.temperature;
    let soft = |logits: &Tensor| logits.f_div_scalar(t)?.f_log_softmax(-1, Kind::Float);
    let (q, p) = (soft(&student.logits)?, soft(&teacher.logits)?.f_detach()?); // (b, classes), logarithms
    let divergence = q.f_kl_div(&p, Reduction::Sum, true)?;
    let (b, classes) = student.logits.size2()?;
    let share = match config.reduction {
        KlReduction::BatchMean => b,
        KlReduction::PerElement => b * classes,
    };
    let mut loss = divergence.f_mul_scalar(config.alpha * t * t / share as f64)?;
    if let Some(labels) = labels {
        let task = student.logits.f_cross_entropy_loss(labels, None::<Tensor>, Reduction::Mean, -100, 0.0)?;
        loss = loss.f_add(&task.f_mul_scalar(1.0 - config.alpha)?)?;
    }
    if let (Some(s), Some(t)) = (&student.hidden, &teacher.hidden)
        && config.beta > 0.0
    {
        loss = loss.f_add(&hidden_loss(s, &t.f_detach()?, weights, config.normalise)?.f_mul_scalar(config.beta)?)?;
    }
    Ok(loss)
}

/// ½·mean (H_t − H_s)² over (b, layers, tokens, h), tokens weighted by (b, 1, tokens, 1).
fn hidden_loss(student: &Tensor, teacher: &Tensor, weights: Option<&Tensor>, normalise: bool) -> Result<Tensor> {
    let unit = |x: &Tensor| -> Result<Tensor> {
        if !normalise {
            return Ok(x.shallow_clone());
        }
        let norm = x.f_square()?.f_sum_dim_intlist(-1, true, Kind::Float)?.f_sqrt()?.f_clamp_min(1e-12)?;
        Ok(x.f_div(&norm)?)
    };
    let squares = unit(student)?.f_sub(&unit(teacher)?)?.f_square()?; // (b, layers, tokens, h)
    let mean = match weights {
        None => squares.f_mean(Kind::Float)?,
        Some(weights) => {
            let (_, layers, _, h) = squares.size4()?;
            let sum = squares.f_mul(weights)?.f_sum(Kind::Float)?;
            sum.f_div(&weights.f_sum(Kind::Float)?.f_mul_scalar((layers * h) as f64)?)?
        }
    };
    Ok(mean.f_mul_scalar(0.5)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::TokenBatch;

    fn config() -> DistillConfig {
        DistillConfig { alpha: 0.75, beta: 0.0, temperature: 2.0, ..DistillConfig::default() }
    }

    #[test]
    fn each_term_equals_a_case_worked_by_hand() -> Result<()> {
        // Student softmax(s/2) = (1/2, 1/2); teacher scores 2·ln 3 apart, so softmax(t/2) = (3/4, 1/4).
        let s = Tensor::from_slice(&[0f32, 0.]).view([1, 2]);
        let t = Tensor::from_slice(&[2.0 * 3f32.ln(), 0.]).view([1, 2]);
        let labels = Tensor::from_slice(&[0_i64]);
        let kl = 0.75 * (1.5_f64).ln() + 0.25 * (0.5_f64).ln();
        let expected = 0.25 * 2_f64.ln() + 0.75 * 4.0 * kl;
        let loss =
            |config: &DistillConfig| f64::try_from(distillation_loss((&s, None), (&t, None), &labels, config).unwrap());
        assert!((loss(&config())? - expected).abs() < 1e-6);
        let authors = DistillConfig { reduction: KlReduction::PerElement, ..config() };
        assert!((loss(&authors)? - (0.25 * 2_f64.ln() + 0.75 * 4.0 * kl / 2.0)).abs() < 1e-6);
        // Hidden states differ by 1 and 3: ½·(1 + 9)/2 = 2.5, times β = 2.
        let (hs, ht) =
            (Tensor::from_slice(&[0f32, 0.]).view([1, 1, 1, 2]), Tensor::from_slice(&[1f32, 3.]).view([1, 1, 1, 2]));
        let with_hidden = DistillConfig { beta: 2.0, ..config() };
        let both = f64::try_from(distillation_loss((&s, Some(&hs)), (&t, Some(&ht)), &labels, &with_hidden)?)?;
        assert!((both - expected - 5.0).abs() < 1e-6);
        Ok(())
    }

    #[test]
    fn an_inner_point_adds_the_teacher_terms_of_the_model_that_stands_there() -> Result<()> {
        use crate::model::{Adapted, RobertaConfig, Version};
        use crate::text::Tokenizer;

        let words: Vec<String> = (0..12).map(|word| format!("w{word}")).collect();
        let tokenizer = Tokenizer::word_level(&words)?;
        let shape = RobertaConfig { initializer_range: 0.5, ..RobertaConfig::tiny(17, 16, 12) };
        let labels = ["a".to_string(), "b".to_string()];
        let (old, new) = (Version::new(&shape, &tokenizer, 1)?, Version::new(&shape, &tokenizer, 2)?);
        let config = TuneConfig { batch_size: 5, max_length: 12, ..TuneConfig::default() };
        let classifier = |version, seed| Model::classifier(version, &labels, &config.method, seed, Device::Cpu);
        let (outdated, student) = (Adapted::of(&classifier(&old, 3)?, &old, "t", json!({}))?, classifier(&new, 4)?);
        let upgrade = Upgrade { old: &old, outdated: &outdated, new: &new };
        let example = |row: usize| Example { text: format!("w{row} w{}", row + 3), text_pair: None, label: row % 2 };
        let data = TaskData::new(&(0..8).map(example).collect::<Vec<_>>(), &tokenizer, 12)?;
        let loss = |points: Vec<f64>, weight: f64| -> Result<Tensor> {
            let inner = Interpolation { points, draws: 0, weight, ..Interpolation::default() };
            let interpolation = (!inner.points.is_empty()).then_some(inner);
            let distill = DistillConfig { temperature: 2.0, interpolation, ..DistillConfig::default() };
            let teacher = Teacher::new(outdated.apply(&old, Device::Cpu)?, &data, &distill)?;
            let labelled = Taught { teacher, data: &data };
            let fixed = Some(FixedEnd::new(upgrade, Device::Cpu)?);
            let (distill, config) = (&distill, &config);
            let task = Distillation { labelled, unlabelled: None, fixed, distill, config, device: Device::Cpu };
            let lesson = task.batch(0)?;
            Ok(task.loss(&student, &lesson, Pass::evaluation())?.f_div_scalar(lesson.labelled.labels.numel() as f64)?)
        };
        // By hand: a model at x·θ + (1 − x)·θ_teacher, its outputs, and the loss without labels.
        let (x, weight) = (0.3, 0.5);
        let mut between = student.try_clone()?;
        let teacher = outdated.apply(&old, Device::Cpu)?;
        between.write_sum(&[(x, &student), (1.0 - x, &teacher)])?;
        let (distill, batch) = (DistillConfig { temperature: 2.0, ..DistillConfig::default() }, data.batch(0, 5, 0)?);
        let said = |model: &Model| outputs(model.network(), 2, &batch, Pass::evaluation(), &distill);
        let expected = mixed_loss(&said(&between)?, &said(&teacher)?, None, None, &distill)?;
        let (with, without) = (loss(vec![x], weight)?, loss(Vec::new(), weight)?);
        let (with_value, without_value) = (f64::try_from(&with)?, f64::try_from(&without)?);
        let added = with_value - without_value;
        assert!((added - weight * f64::try_from(&expected)?).abs() < 1e-5, "{added} {expected:?}");
        // The gradient reaches the student as x times that at the point between.
        let (all, own, there) =
            (student.gradients(&with)?, student.gradients(&without)?, between.gradients(&expected)?);
        for (((name, all), (_, own)), (_, there)) in all.iter().zip(&own).zip(&there) {
            let error = f64::try_from((all - own - there * (weight * x)).abs().max())?;
            let size = f64::try_from(all.abs().max())?.max(1e-3);
            assert!(error < 1e-4 * size.max(1.0), "{name} is off by {error}");
        }
        Ok(())
    }

    #[test]
    fn padding_does_not_count_for_hidden_states_and_normalising_removes_length() -> Result<()> {
        let (s, t) = (
            Tensor::from_slice(&[0f32, 0., 0., 0.]).view([1, 1, 2, 2]),
            Tensor::from_slice(&[1f32, 1., 9., 9.]).view([1, 1, 2, 2]),
        );
        let first_only = Tensor::from_slice(&[1f32, 0.]).view([1, 1, 2, 1]);
        assert_eq!(f64::try_from(hidden_loss(&s, &t, Some(&first_only), false)?)?, 0.5);
        let (a, b) =
            (Tensor::from_slice(&[3f32, 4.]).view([1, 1, 1, 2]), Tensor::from_slice(&[6f32, 8.]).view([1, 1, 1, 2]));
        assert!(f64::try_from(hidden_loss(&a, &b, None, true)?)? < 1e-12);
        Ok(())
    }

    #[test]
    fn layers_that_do_not_exist_are_refused() {
        let config = DistillConfig { layers: LayerSet::These(vec![0, 7]), ..config() };
        assert!(config.layer_indices(2).unwrap_err().to_string().contains("0 to 2"));
        assert_eq!(DistillConfig::default().layer_indices(2).unwrap(), [0, 1]);
    }

    /// On random tensors, against PyTorch code that knows nothing of this (tests/parity/make_golden.py).
    #[test]
    fn the_loss_and_its_gradients_equal_the_formula_in_torch_for_every_setting() -> Result<()> {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parity/golden/distill.safetensors");
        let file = crate::params::read_safetensors(golden)?;
        let settings: std::collections::BTreeMap<String, serde_json::Value> =
            serde_json::from_str(&file.metadata["settings"])?;
        assert_eq!(settings.len(), 24);
        let mut largest = 0_f64;
        for (name, setting) in settings {
            let number = |key: &str| setting[key].as_f64().unwrap();
            let config = DistillConfig {
                alpha: number("alpha"),
                beta: number("beta"),
                temperature: number("temperature"),
                reduction: if setting["reduction"] == "mean" {
                    KlReduction::PerElement
                } else {
                    KlReduction::BatchMean
                },
                layers: LayerSet::AllButLast,
                tokens: if setting["tokens"] == "all" { HiddenTokens::All } else { HiddenTokens::First },
                normalise: setting["normalise"] == true,
                interpolation: None,
            };
            let leaf = |key: &str| file.tensors[key].copy().set_requires_grad(true);
            let (logits, states) = (leaf("student_logits"), leaf("student_hidden"));
            let all = config.tokens == HiddenTokens::All;
            let chosen = |states: &Tensor| {
                let last = states.size()[0] - 1; // (layers + 1, b, t, h): as many layers as `layer_indices` chooses from
                let layers = config.layer_indices(last as usize).unwrap();
                let layers: Vec<i64> = layers.into_iter().map(|layer| layer as i64).collect();
                let states = states.index_select(0, &Tensor::from_slice(&layers)).transpose(0, 1); // (b, layers, t, h)
                if all { states } else { states.narrow(2, 0, 1) }
            };
            let outputs = |logits: &Tensor, states: &Tensor| Outputs {
                logits: logits.shallow_clone(),
                hidden: Some(chosen(states)),
            };
            let tokens = TokenBatch {
                input_ids: file.tensors["attention_mask"].shallow_clone(),
                attention_mask: Some(file.tensors["attention_mask"].to_kind(Kind::Bool)),
            };
            let labels = file.tensors["labels"].shallow_clone();
            let batch = TaskBatch { tokens, labels: labels.shallow_clone(), rows: Vec::new() };
            let student = outputs(&logits, &states);
            let teacher = outputs(&file.tensors["teacher_logits"], &file.tensors["teacher_hidden"]);
            let weights = token_weights(&batch, student.hidden.as_ref().unwrap(), Device::Cpu)?;
            let loss = mixed_loss(&student, &teacher, Some(&labels), Some(&weights), &config)?;
            let mut compare = |ours: &Tensor, theirs: &Tensor, what: &str| -> Result<()> {
                let error = f64::try_from((ours - theirs).abs().max() / theirs.abs().max())?;
                largest = largest.max(error);
                ensure!(error < 1e-5, "{name}: {what} is off by {error:.1e}");
                Ok(())
            };
            compare(&loss, &file.tensors[&format!("{name}/terms")].get(3), "the loss")?;
            if let Some(theirs) = file.tensors.get(&format!("{name}/grad_logits")) {
                loss.backward();
                compare(&logits.grad(), theirs, "the gradient of the scores")?;
                compare(&states.grad(), &file.tensors[&format!("{name}/grad_hidden")], "that of the hidden states")?;
            }
        }
        println!("largest error {largest:.1e}");
        Ok(())
    }
}
