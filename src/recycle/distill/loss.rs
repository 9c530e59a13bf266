//! The distillation loss on the outputs of student and teacher.

use anyhow::Result;
use tch::{Kind, Reduction, Tensor};

use super::config::{DistillConfig, KlReduction};
use crate::recycle::teacher::Outputs;

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

/// The same; without labels L_task is left out, with `weights` (b, 1, tokens, 1) tokens count by them.
pub(super) fn mixed_loss(
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
    use anyhow::ensure;
    use tch::Device;

    use super::*;
    use crate::recycle::teacher::token_weights;
    use crate::recycle::{HiddenTokens, LayerSet};
    use crate::text::{TaskBatch, TokenBatch};

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
                token_types: None,
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
