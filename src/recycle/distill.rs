//! Distillation-based recycling: the outdated model teaches the new one.

mod config;
mod loss;

use anyhow::{Result, ensure};
use serde_json::json;
use tch::{Device, Tensor};

pub use config::{DistillConfig, HiddenTokens, KlReduction, LayerSet};
pub use loss::distillation_loss;
use loss::mixed_loss;

use super::interpolation::FixedEnd;
use super::teacher::{Teacher, outputs, token_weights};
use super::{Recycle, Upgrade, same_labels};
use crate::display::Progress;
use crate::model::{Model, Network, Pass};
use crate::text::{Example, Task, TaskBatch, TaskData, Text};
use crate::train::{EncodedTask, Objective, Start, TuneConfig, TuneRun, tune_with};

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
    ensure!(
        upgrade.old.tokenizer.fingerprint()? == upgrade.new.tokenizer.fingerprint()?,
        "teacher and student have different tokenizers: the ids that the student reads mean other words to the teacher. Distil between \
         versions whose tokenizer is the same"
    );
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Adapted, EncoderConfig, Version};
    use crate::recycle::Interpolation;
    use crate::text::Tokenizer;

    #[test]
    fn an_inner_point_adds_the_teacher_terms_of_the_model_that_stands_there() -> Result<()> {
        let words: Vec<String> = (0..12).map(|word| format!("w{word}")).collect();
        let tokenizer = Tokenizer::word_level(&words)?;
        let shape = EncoderConfig { initializer_range: 0.5, ..EncoderConfig::tiny(17, 16, 12) };
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
}
