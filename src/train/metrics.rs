//! How well a classifier does.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor};

use crate::model::Model;
use crate::text::TaskData;

/// Tokens an evaluation batch holds at most. On a CPU what a layer makes of them should stay in a core's cache: 300 updates with 61
/// evaluations took 4.3 s with 2,048, 4.6 s with 8,192 and 5.0 s with 512.
const EVALUATION_TOKENS: usize = 2_048;
/// On a GPU a batch has to fill it.
const EVALUATION_TOKENS_GPU: usize = 8_192;

/// Scores over one split.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Share of examples that are right.
    pub accuracy: f64,
    /// Unweighted mean of the classes' F1, over the classes that occur among labels or predictions, as in scikit-learn.
    pub macro_f1: f64,
    /// Mean cross-entropy in nats.
    pub loss: f64,
    /// Examples scored.
    pub n: usize,
}

/// Which score chooses the best model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of examples that are right.
    #[default]
    Accuracy,
    /// Unweighted mean of the classes' F1.
    MacroF1,
}

impl Metric {
    /// The chosen score.
    pub fn of(self, scores: &Scores) -> f64 {
        match self {
            Metric::Accuracy => scores.accuracy,
            Metric::MacroF1 => scores.macro_f1,
        }
    }
}

/// Scores with the prediction for every example, in the order of the split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Over the whole split.
    pub scores: Scores,
    /// The class predicted for each example.
    pub predictions: Vec<usize>,
}

impl Evaluation {
    /// Which examples of `data`, the split it was made on, were answered rightly.
    pub fn right(&self, data: &TaskData) -> Vec<bool> {
        self.predictions.iter().zip(data.labels()).map(|(&said, &label)| said as i64 == label).collect()
    }
}

/// Evaluates a classifier on encoded examples, without dropout.
pub fn evaluate(model: &Model, data: &TaskData) -> Result<Evaluation> {
    ensure!(!data.is_empty(), "there is nothing to evaluate on: the split is empty");
    let classes = model.labels().len();
    let truth: Vec<usize> = data.labels().iter().map(|&label| label as usize).collect();
    if let Some(label) = truth.iter().find(|&&label| label >= classes) {
        anyhow::bail!("an example is labelled {label}, but the model knows the {classes} classes {:?}", model.labels());
    }
    let tokens = if model.device().is_cuda() { EVALUATION_TOKENS_GPU } else { EVALUATION_TOKENS };
    let (mut predictions, mut loss) = (vec![0; truth.len()], 0.0);
    for batch in data.evaluation_batches(tokens)? {
        let batch = batch.to_device(model.device())?;
        let (best, sum) = tch::no_grad(|| -> Result<(Vec<i64>, f64)> {
            let logits = model.logits(&batch.tokens)?; // (b, classes)
            let sum = logits.f_cross_entropy_loss(&batch.labels, None::<Tensor>, Reduction::Sum, -100, 0.0)?;
            Ok((Vec::try_from(logits.f_argmax(-1, false)?)?, f64::try_from(sum.f_to_kind(Kind::Double)?)?))
        })?;
        loss += sum;
        for (&row, best) in batch.rows.iter().zip(best) {
            predictions[row as usize] = best as usize;
        }
    }
    let scores = Scores {
        accuracy: accuracy(&truth, &predictions),
        macro_f1: macro_f1(&truth, &predictions),
        loss: loss / truth.len() as f64,
        n: truth.len(),
    };
    Ok(Evaluation { scores, predictions })
}

/// Share of predictions that are right; 0 for none.
pub fn accuracy(truth: &[usize], predictions: &[usize]) -> f64 {
    let right = truth.iter().zip(predictions).filter(|(t, p)| t == p).count();
    right as f64 / truth.len().max(1) as f64
}

/// Mean over classes of 2·tp / (2·tp + fp + fn), over the classes that occur in `truth` or `predictions`
/// (`sklearn.metrics.f1_score(average="macro")`).
pub fn macro_f1(truth: &[usize], predictions: &[usize]) -> f64 {
    let classes = truth.iter().chain(predictions).max().map_or(0, |&largest| largest + 1);
    let f1 = |class: usize| {
        let pairs = || truth.iter().zip(predictions).map(|(&t, &p)| (t == class, p == class));
        let (hits, seen) =
            (pairs().filter(|&(t, p)| t && p).count(), pairs().map(|(t, p)| t as usize + p as usize).sum::<usize>());
        (seen > 0).then(|| 2.0 * hits as f64 / seen as f64)
    };
    let scores: Vec<f64> = (0..classes).filter_map(f1).collect();
    scores.iter().sum::<f64>() / scores.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::model::{Adapted, EncoderConfig, Method, Version};
    use crate::params::Theta;
    use crate::text::{Example, Tokenizer};

    #[test]
    fn macro_f1_counts_only_the_classes_that_occur() {
        // Class 0: 2·1/(2+2) = 0.5; class 2: 2·1/(1+2) = 2/3; class 3 is predicted once and never right: 0; class 1 never occurs.
        let (truth, predictions) = ([0, 0, 2], [0, 3, 2]);
        assert!((macro_f1(&truth, &predictions) - (2.0 / 3.0 + 1.0 + 0.0) / 3.0).abs() < 1e-12);
        assert!((accuracy(&truth, &predictions) - 2.0 / 3.0).abs() < 1e-12);
    }

    /// Scores that are all equal say class 0, as NumPy's `argmax` does: right for a quarter, F1 of 2·2/(8 + 2) for that class and 0 for
    /// the others, and a loss of ln 4.
    #[test]
    fn of_tied_scores_the_first_class_wins() -> Result<()> {
        let tokenizer = Tokenizer::word_level(&["a", "b"])?;
        let version = Version::new(&EncoderConfig::tiny(tokenizer.vocab_size() as i64, 8, 6), &tokenizer, 0)?;
        let labels = ["p", "q", "r", "s"].map(String::from);
        let fresh = Model::classifier(&version, &labels, &Method::Full, 0, Device::Cpu)?;
        let mut adapted = Adapted::of(&fresh, &version, "ties", serde_json::Value::Null)?;
        adapted.head = Theta::zeros(adapted.head.layout().clone(), Device::Cpu)?;
        let example = |row: usize| Example { text: "a b".to_string(), text_pair: None, label: row % 4 };
        let data = TaskData::new(&(0..8).map(example).collect::<Vec<_>>(), &tokenizer, 6)?;
        let evaluation = evaluate(&adapted.apply(&version, Device::Cpu)?, &data)?;
        assert_eq!(evaluation.predictions, [0; 8]);
        let scores = evaluation.scores;
        assert!((scores.accuracy - 0.25).abs() < 1e-12 && (scores.macro_f1 - 0.1).abs() < 1e-12, "{scores:?}");
        assert!((scores.loss - 4_f64.ln()).abs() < 1e-6, "{scores:?}");
        Ok(())
    }
}
