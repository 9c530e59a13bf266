//! bfloat16 matrix products against `f32` ones: the same scores, gradients and outcome, within what eight bits can hold.

mod small;

use anyhow::Result;
use recyclable::device::Precision;
use recyclable::display::Progress;
use recyclable::model::{AdapterConfig, LoraConfig, Method, Model};
use recyclable::text::TaskData;
use recyclable::train::{Start, TuneConfig, evaluate, tune};
use small::{LENGTH, task, tuning, version};
use tch::{Device, Kind, Tensor};

const LABELS: [&str; 2] = ["high", "low"];

fn methods() -> [Method; 3] {
    [Method::Full, Method::Adapter(AdapterConfig::default()), Method::Lora(LoraConfig::default())]
}

/// The largest difference over the largest number.
fn relative(ours: &Tensor, theirs: &Tensor) -> Result<f64> {
    let difference = f64::try_from((ours - theirs).abs().max())?;
    Ok(difference / f64::try_from(theirs.abs().max())?)
}

#[test]
fn scores_and_gradients_of_bf16_are_those_of_fp32_within_its_rounding() -> Result<()> {
    let base = version(1)?;
    let data = TaskData::new(&task(&LABELS).train, &base.tokenizer, LENGTH)?;
    let batch = data.batch(0, 8, 0)?;
    for method in methods() {
        let at = |precision| -> Result<(Tensor, Vec<(String, Tensor)>)> {
            let model = Model::classifier(&base, &LABELS.map(String::from), &method, 1, Device::Cpu)?;
            let model = model.with_precision(precision);
            assert_eq!(model.precision(), precision);
            let logits = model.logits(&batch.tokens)?;
            let loss = logits.log_softmax(-1, Kind::Float).select(1, 1).sum(Kind::Float);
            Ok((logits, model.gradients(&loss)?))
        };
        let ((exact, gradients), (scores, rounded)) = (at(Precision::Fp32)?, at(Precision::Bf16)?);
        let off = relative(&scores, &exact)?;
        assert!(off > 0.0, "{}: bf16 was not used", method.name());
        assert!(off < 0.02, "{}: scores are off by {off:.1e}", method.name());
        let flat = |named: &[(String, Tensor)]| {
            Tensor::cat(&named.iter().map(|(_, g)| g.flatten(0, -1)).collect::<Vec<_>>(), 0)
        };
        let (exact, rounded) = (flat(&gradients), flat(&rounded));
        let cosine = f64::try_from(exact.dot(&rounded) / (exact.norm() * rounded.norm()))?;
        assert!(cosine > 0.999, "{}: the gradients' cosine is {cosine}", method.name());
    }
    Ok(())
}

#[test]
fn a_task_that_is_learnt_in_fp32_is_learnt_in_bf16_and_weights_stay_fp32() -> Result<()> {
    let (base, task) = (version(1)?, task(&LABELS));
    let test = TaskData::new(&task.test, &base.tokenizer, LENGTH)?;
    for precision in [Precision::Fp32, Precision::Bf16] {
        let config = TuneConfig { precision, ..tuning(Method::Full, 60) };
        let run = tune(&base, &task, Start::Fresh, &config, Device::Cpu, &Progress::silent())?;
        assert_eq!(run.last.head.get("classifier.dense.weight")?.kind(), Kind::Float);
        let accuracy = evaluate(&run.best.apply(&base, Device::Cpu)?, &test)?.scores.accuracy;
        assert!(accuracy >= 0.9, "{precision}: {accuracy}");
    }
    Ok(())
}
