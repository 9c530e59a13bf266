//! AdamW over flat slices: a handful of large operations a step, whatever the number of tensors, and one pass for the update.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::schedule::Schedule;
use crate::model::Model;
use crate::native::{AdamWUpdate, Moved, fused_adamw};
use crate::params::Theta;

/// How parameters are moved: AdamW with decoupled weight decay, clipping and a learning-rate schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Optimisation {
    /// Updates in all.
    pub steps: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// How the learning rate goes on after the warm-up.
    pub schedule: Schedule,
    /// Updates over which the learning rate rises from 0.
    pub warmup_steps: usize,
    /// Decoupled; not applied to biases and LayerNorm weights.
    pub weight_decay: f64,
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub epsilon: f64,
    /// Gradients are scaled down to this norm; 0 leaves them as they are.
    pub clip_norm: f64,
    /// Micro-batches an update; the loss is divided by the targets of them all.
    pub accumulation: usize,
}

impl Default for Optimisation {
    fn default() -> Optimisation {
        Optimisation {
            steps: 1_000,
            learning_rate: 1e-3,
            schedule: Schedule::Linear,
            warmup_steps: 0,
            weight_decay: 0.0,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            clip_norm: 1.0,
            accumulation: 1,
        }
    }
}

impl Optimisation {
    /// Says which value cannot be.
    pub fn validate(&self) -> Result<()> {
        ensure!(self.steps > 0, "steps is 0: there is nothing to train");
        let rate = self.learning_rate;
        ensure!(rate.is_finite() && rate > 0.0, "learning_rate {rate} must be positive");
        ensure!(self.warmup_steps <= self.steps, "warmup_steps {} exceeds steps {}", self.warmup_steps, self.steps);
        for (name, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            ensure!((0.0..1.0).contains(&value), "{name} {value} is not in [0, 1)");
        }
        for (name, value) in [("weight_decay", self.weight_decay), ("clip_norm", self.clip_norm)] {
            ensure!(value.is_finite() && value >= 0.0, "{name} {value} must not be negative");
        }
        ensure!(self.epsilon > 0.0, "epsilon {} must be positive", self.epsilon);
        ensure!(self.accumulation > 0, "accumulation is 0: every update needs at least one batch");
        Ok(())
    }
}

/// A run of neighbouring trained tensors that share a decay setting, as slices of the flat buffers.
#[derive(Debug)]
struct Group {
    parameters: Tensor,
    gradients: Tensor,
    mean: Tensor,
    square: Tensor,
    decay: bool,
}

impl Group {
    fn moved(&self) -> Moved<'_> {
        Moved { parameters: &self.parameters, gradients: &self.gradients, mean: &self.mean, square: &self.square }
    }
}

/// Optimizer state beside a part of the model.
#[derive(Debug)]
struct State {
    gradients: Theta,
    mean: Theta,
    square: Theta,
}

/// AdamW as in `torch.optim.AdamW`, over the trained parameters of a model.
///
/// The gradient norm never leaves the device: where it is not finite the whole update is left out, and
/// [`AdamW::skipped`] says how often.
#[derive(Debug)]
pub struct AdamW {
    plan: Optimisation,
    states: Vec<Option<State>>,
    groups: Vec<Group>,
    step: usize,
    skipped: Tensor,
}

impl AdamW {
    /// An optimizer with zeroed state. From now on backward passes add to its gradient buffers.
    pub fn new(model: &Model, plan: &Optimisation) -> Result<AdamW> {
        plan.validate()?;
        let (mut states, mut groups) = (Vec::new(), Vec::new());
        for part in model.parts() {
            let Some(gradients) = part.leaves.alias_gradients()? else {
                states.push(None);
                continue;
            };
            let zeros = || Theta::zeros(part.theta.layout().clone(), part.theta.device());
            let state = State { gradients, mean: zeros()?, square: zeros()? };
            for (offset, len, decay) in segments(&part.theta, &part.leaves.trainable()) {
                let slice = |theta: &Theta| theta.flat().f_narrow(0, offset, len);
                groups.push(Group {
                    parameters: slice(&part.theta)?,
                    gradients: slice(&state.gradients)?,
                    mean: slice(&state.mean)?,
                    square: slice(&state.square)?,
                    decay,
                });
            }
            states.push(Some(state));
        }
        ensure!(!groups.is_empty(), "nothing in the model is marked trainable");
        let skipped = Tensor::f_zeros([], (Kind::Float, model.device()))?;
        Ok(AdamW { plan: plan.clone(), states, groups, step: 0, skipped })
    }

    /// Updates taken so far, skipped ones included.
    pub fn step_count(&self) -> usize {
        self.step
    }

    /// Updates skipped because the gradient norm was not finite. Waits for the device.
    pub fn skipped(&self) -> Result<usize> {
        Ok(f64::try_from(&self.skipped)? as usize)
    }

    /// Moves the parameters by one update and zeroes the gradients.
    pub fn step(&mut self) -> Result<()> {
        tch::no_grad(|| self.update())?;
        self.step += 1;
        Ok(())
    }

    fn update(&mut self) -> Result<()> {
        let plan = &self.plan;
        let norms = self.groups.iter().map(|group| group.gradients.f_norm()).collect::<Result<Vec<_>, _>>()?;
        let norm = Tensor::f_stack(&norms, 0)?.f_norm()?;
        let found_inf = norm.f_isfinite()?.f_logical_not()?.f_to_kind(Kind::Float)?; // 1 or 0, on the device
        let _ = self.skipped.f_add_(&found_inf)?;
        // Clipping as in torch.nn.utils.clip_grad_norm_, whose factor is min(1, clip / (norm + 1e-6)): divided by, not multiplied.
        let grad_scale = match plan.clip_norm {
            0.0 => None,
            clip => Some(norm.f_add_scalar(1e-6)?.f_div_scalar(clip)?.f_clamp_min(1.0)?),
        };
        let step = Tensor::f_full([], (self.step + 1) as i64, (Kind::Float, norm.device()))?;
        for decay in [true, false] {
            let moved = self.groups.iter().filter(|group| group.decay == decay);
            let moved: Vec<Moved> = moved.map(Group::moved).collect();
            let update = AdamWUpdate {
                step: &step,
                learning_rate: plan.learning_rate * plan.schedule.factor(self.step, plan.warmup_steps, plan.steps),
                beta1: plan.beta1,
                beta2: plan.beta2,
                weight_decay: if decay { plan.weight_decay } else { 0.0 },
                epsilon: plan.epsilon,
                grad_scale: grad_scale.as_ref(),
                found_inf: &found_inf,
            };
            fused_adamw(&moved, &update)?;
        }
        for group in &mut self.groups {
            let _ = group.gradients.f_zero_()?;
        }
        Ok(())
    }

    /// The state as named vectors, for a checkpoint: `mean0.…`, `square0.…` for the first part of the model, and so on.
    pub(crate) fn state(&self) -> Vec<(String, &Theta)> {
        let parts = self.states.iter().enumerate().filter_map(|(at, state)| Some((at, state.as_ref()?)));
        parts.flat_map(|(at, s)| [(format!("mean{at}."), &s.mean), (format!("square{at}."), &s.square)]).collect()
    }

    /// Takes up the state of a checkpoint written after `step` updates.
    pub(crate) fn restore(&mut self, step: usize, mut load: impl FnMut(&str, &Theta) -> Result<Theta>) -> Result<()> {
        for (at, state) in self.states.iter_mut().enumerate().filter_map(|(at, state)| Some((at, state.as_mut()?))) {
            let (mean, square) =
                (load(&format!("mean{at}."), &state.mean)?, load(&format!("square{at}."), &state.square)?);
            state.mean.copy_from(&mean)?;
            state.square.copy_from(&square)?;
        }
        self.step = step;
        Ok(())
    }
}

/// Runs of neighbouring trained tensors with one decay setting: (offset, length, decay), padding included.
fn segments(theta: &Theta, trainable: &[String]) -> Vec<(i64, i64, bool)> {
    let trained: HashMap<&str, ()> = trainable.iter().map(|name| (name.as_str(), ())).collect();
    let mut runs: Vec<(i64, i64, bool)> = Vec::new();
    for entry in theta.layout().entries().iter().filter(|entry| trained.contains_key(entry.name.as_str())) {
        match runs.last_mut() {
            Some((offset, len, decay)) if *offset + *len == entry.offset && *decay == entry.decay => {
                *len += entry.padded_len()
            }
            _ => runs.push((entry.offset, entry.padded_len(), entry.decay)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::devices_here;
    use crate::model::{EncoderConfig, Method, Version};
    use crate::params::read_safetensors;
    use crate::text::Tokenizer;
    use anyhow::Context;
    use tch::Device;

    /// A decayed tensor of 35 numbers and one of 11 without decay, in different parts of the model.
    const DECAYED: &str = "classifier.out_proj.weight";
    const PLAIN: &str = "roberta.encoder.layer.0.intermediate.dense.bias";

    fn model(device: Device) -> Result<Model> {
        let tokenizer = Tokenizer::word_level(&["a", "b"])?;
        let tiny = EncoderConfig::tiny(tokenizer.vocab_size() as i64, 7, 10);
        let config = EncoderConfig { num_attention_heads: 1, intermediate_size: 11, ..tiny };
        let labels: Vec<String> = (0..5).map(|label| label.to_string()).collect();
        let version = Version::new(&config, &tokenizer, 1)?;
        let model = Model::classifier(&version, &labels, &Method::Full, 1, device)?;
        model.set_trainable(|name| name == DECAYED || name == PLAIN)?;
        Ok(model)
    }

    fn leaf(model: &Model, name: &str) -> Result<Tensor> {
        model.parts().find_map(|part| part.leaves.get(name).ok()).context("a tensor of the model")
    }

    /// Both tensors as one vector, in the order of the golden file.
    fn both(model: &Model) -> Result<Tensor> {
        let flat = |name| Ok::<_, anyhow::Error>(leaf(model, name)?.f_detach()?.f_reshape([-1])?);
        Ok(Tensor::f_cat(&[flat(DECAYED)?, flat(PLAIN)?], 0)?.f_to_device(Device::Cpu)?)
    }

    fn set(model: &mut Model, values: &Tensor) -> Result<()> {
        for part in model.parts_mut() {
            for (name, value) in [(DECAYED, values.narrow(0, 0, 35).view([5, 7])), (PLAIN, values.narrow(0, 35, 11))] {
                if part.leaves.contains(name) {
                    part.theta.set(name, &value)?;
                }
            }
        }
        Ok(())
    }

    /// Σ gradient · parameter: a loss with this gradient.
    fn backward(model: &Model, gradient: &Tensor) -> Result<()> {
        let gradient = gradient.f_to_device(model.device())?;
        let (decayed, plain) = (gradient.narrow(0, 0, 35).view([5, 7]), gradient.narrow(0, 35, 11));
        let loss = leaf(model, DECAYED)?.f_mul(&decayed)?.f_sum(Kind::Float)?;
        Ok(loss.f_add(&leaf(model, PLAIN)?.f_mul(&plain)?.f_sum(Kind::Float)?)?.f_backward()?)
    }

    /// The settings of tests/parity/make_golden.py.
    fn plan(clip_norm: f64) -> Optimisation {
        Optimisation {
            steps: 50,
            learning_rate: 3e-3,
            warmup_steps: 7,
            weight_decay: 0.1,
            beta2: 0.98,
            epsilon: 1e-6,
            clip_norm,
            ..Optimisation::default()
        }
    }

    #[test]
    fn fifty_steps_equal_adamw_of_torch_with_its_schedule_and_its_clipping() -> Result<()> {
        // The tests may run elsewhere than they were built: cargo, or whoever starts them, says where the crate lies now.
        let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
        let golden = read_safetensors(format!("{here}/tests/parity/golden/optim.safetensors"))?.tensors;
        for (device, (name, clip_norm)) in
            devices_here().into_iter().flat_map(|device| [("plain", 0.0), ("clipped", 1.0)].map(|case| (device, case)))
        {
            let mut model = model(device)?;
            set(&mut model, &golden["initial"])?;
            let untouched = leaf(&model, "classifier.dense.weight")?.copy();
            let mut optimizer = AdamW::new(&model, &plan(clip_norm))?;
            let mut largest = 0_f64;
            for step in 0..50 {
                let rate = f64::try_from(golden[&format!("{name}.learning_rates")].get(step))?;
                let ours = 3e-3 * Schedule::Linear.factor(step as usize, 7, 50);
                assert!((rate - ours).abs() < 1e-12, "step {step}: learning rate {ours}, torch has {rate}");
                backward(&model, &golden["gradients"].get(step))?;
                optimizer.step()?;
                let theirs = golden[&format!("{name}.parameters")].get(step);
                largest = largest.max(f64::try_from((both(&model)? - theirs).abs().max())?);
                assert!(largest <= 1e-6, "{name}, step {step}: off by {largest:.1e}");
            }
            println!("{device:?}, {name}: largest difference {largest:.1e}");
            assert_eq!((optimizer.step_count(), optimizer.skipped()?), (50, 0));
            assert_eq!(untouched, leaf(&model, "classifier.dense.weight")?, "what is not trained does not decay");
        }
        Ok(())
    }

    #[test]
    fn gradients_add_up_until_a_step_and_one_that_is_not_finite_is_left_out() -> Result<()> {
        devices_here().into_iter().try_for_each(left_out_on)
    }

    fn left_out_on(device: Device) -> Result<()> {
        let (mut one, mut two) = (model(device)?, model(device)?);
        let start = both(&one)?;
        let gradient = Tensor::arange(46, (Kind::Float, Device::Cpu)) - 20.0;
        set(&mut one, &start)?;
        set(&mut two, &start)?;
        let (mut whole, mut halves) = (AdamW::new(&one, &plan(1.0))?, AdamW::new(&two, &plan(1.0))?);
        for bad in [f64::NAN, f64::INFINITY] {
            let before = both(&two)?;
            backward(&two, &gradient.masked_fill(&gradient.eq(3.0), bad))?;
            halves.step()?;
            assert_eq!(before, both(&two)?, "a gradient with {bad} moves nothing");
        }
        assert_eq!(halves.skipped()?, 2);
        // Skipped updates count in the schedule and in the bias correction; so give the other optimizer two of zero.
        let still = Tensor::zeros_like(&gradient);
        for _ in 0..2 {
            backward(&one, &still)?;
            whole.step()?;
        }
        set(&mut one, &start)?;
        for _ in 0..5 {
            backward(&one, &gradient)?;
            whole.step()?;
            backward(&two, &(&gradient * 0.5))?;
            backward(&two, &(&gradient * 0.5))?;
            halves.step()?;
        }
        let difference = f64::try_from((both(&one)? - both(&two)?).abs().max())?;
        assert!(difference < 1e-6, "{difference}");
        assert!(f64::try_from((both(&one)? - start).abs().max())? > 1e-3, "something must have moved");
        Ok(())
    }

    #[test]
    fn neighbours_of_one_decay_setting_are_one_slice_and_what_is_not_trained_parts_them() -> Result<()> {
        let names = [("a.weight", 20), ("b.weight", 16), ("c.weight", 5), ("a.bias", 3), ("b.bias", 17)];
        let ones = |shape: &[i64]| Tensor::ones(shape, (Kind::Float, Device::Cpu));
        let tensors = names.map(|(name, size)| {
            (name.to_string(), if name.ends_with("bias") { ones(&[size]) } else { ones(&[size, 1]) })
        });
        let theta = Theta::from_named(tensors)?;
        let slices = |trained: &[&str]| segments(&theta, &trained.iter().map(ToString::to_string).collect::<Vec<_>>());
        // Places are multiples of 16 numbers: 20 take 32, 16 take 16, 5 take 16; then 3 take 16 and 17 take 32.
        let all = ["a.weight", "b.weight", "c.weight", "a.bias", "b.bias"];
        assert_eq!(slices(&all), [(0, 64, true), (64, 48, false)]);
        assert_eq!(slices(&["a.weight", "c.weight", "b.bias"]), [(0, 32, true), (48, 16, true), (80, 32, false)]);
        assert_eq!(slices(&["b.bias", "b.weight", "a.weight"]), [(0, 48, true), (80, 32, false)]);
        assert_eq!(slices(&[]), []);
        Ok(())
    }
}
