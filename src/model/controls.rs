//! What Δ is compared with: its head alone, and a random direction of the same norms.

use anyhow::Result;
use rand_distr::{Distribution, StandardNormal};
use serde_json::{Map, Value};
use tch::{Device, Tensor};

use super::{Adapted, Card};
use crate::params::{Delta, Theta};
use crate::seed;

impl Adapted {
    /// The head and nothing else: Δ = 0, and modules that add exactly nothing. It is a control to apply, not to tune further: modules
    /// of zeros get no gradient but that of their last bias.
    ///
    /// Errors for adapters that are no addition to the model.
    pub fn head_only(&self) -> Result<Adapted> {
        self.card.method.check_addition()?;
        let zeros = |theta: &Theta| Theta::zeros(theta.layout().clone(), theta.device());
        self.with_directions("head only", zeros)
    }

    /// A Gaussian direction with, tensor by tensor, the norms of Δ (of adapters and LoRA: of the modules), and the same head:
    ///
    /// ```text
    /// Δ'_t = ‖Δ_t‖ · z_t / ‖z_t‖,   z_t ~ N(0, 1)
    /// ```
    ///
    /// Equal seeds give equal directions.
    pub fn random_like(&self, seed: u64) -> Result<Adapted> {
        self.with_directions(&format!("random direction of the same norms, seed {seed}"), |theta| {
            direction(theta, seed)
        })
    }

    /// The same head behind other directions. Scores were those of Δ, and are left out.
    fn with_directions(&self, control: &str, change: impl Fn(&Theta) -> Result<Theta>) -> Result<Adapted> {
        let mut card = self.card.derived(control);
        card.scores.clear();
        Ok(Adapted {
            backbone: self.backbone.as_ref().map(|delta| change(delta).map(Delta::new)).transpose()?,
            modules: self.modules.as_ref().map(change).transpose()?,
            head: self.head.try_clone()?,
            card,
        })
    }
}

impl Card {
    /// The card of weights made from these: its recipe is theirs, and `control` says what became of the result.
    pub(super) fn derived(&self, control: &str) -> Card {
        let mut recipe = match &self.recipe {
            Value::Object(fields) => fields.clone(),
            Value::Null => Map::new(),
            other => Map::from_iter([("of".to_string(), other.clone())]),
        };
        let control = match recipe.get("control").and_then(Value::as_str) {
            Some(before) => format!("{before}; then {control}"),
            None => control.to_string(),
        };
        recipe.insert("control".to_string(), Value::from(control));
        Card { recipe: Value::Object(recipe), ..self.clone() }
    }
}

/// A random direction with the norm of each tensor of `theta`.
fn direction(theta: &Theta, seed: u64) -> Result<Theta> {
    let mut random = Theta::zeros(theta.layout().clone(), Device::Cpu)?;
    for (at, entry) in theta.layout().entries().iter().enumerate() {
        let norm = |values: &Tensor| -> Result<f64> {
            Ok(f64::try_from(values.f_norm_scalaropt_dtype(2.0, tch::Kind::Double)?)?)
        };
        let mut rng = seed::rng(seed, "random-direction", at as u64);
        let z: Vec<f32> = StandardNormal.sample_iter(&mut rng).take(entry.len as usize).collect();
        let z = Tensor::f_from_slice(&z)?.f_view(entry.shape.as_slice())?;
        let scale = norm(&theta.view(&entry.name)?)? / norm(&z)?;
        random.set(&entry.name, &z.f_mul_scalar(scale)?)?;
    }
    random.to_device(theta.device())
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;
    use crate::model::AdapterPosition;
    use crate::model::testing::{adapted, difference, methods, tokens, version};
    use crate::model::{Method, Model};

    /// Δ or the modules, whichever there is.
    fn direction_of(weights: &Adapted) -> Result<&Theta> {
        weights.backbone.as_deref().or(weights.modules.as_ref()).context("there is no direction")
    }

    #[test]
    fn the_head_alone_is_the_head_put_on_the_bare_base() -> Result<()> {
        let version = version()?;
        let tokens = tokens(&version)?;
        for (name, method) in methods() {
            let mut weights = adapted(&version, &method)?;
            weights.card.scores.insert("dev_accuracy".to_string(), 0.9);
            let (labels, backbone, head) =
                (&weights.card.labels, version.backbone.try_clone()?, weights.head.try_clone()?);
            let bare =
                Model::from_parts(version.config.clone(), labels, &Method::Full, backbone, None, head, Device::Cpu)?;
            let control = weights.head_only()?;
            let off = difference(&control.apply(&version, Device::Cpu)?.logits(&tokens)?, &bare.logits(&tokens)?)?;
            // LoRA keeps attention from absorbing its maps, and adapters that read more than one signal have their sums taken one by one:
            // other orders of summation.
            let reordered = match &method {
                Method::Lora(_) => true,
                Method::Adapter(adapter) => {
                    !matches!(adapter.position, AdapterPosition::AfterSublayer | AdapterPosition::InSublayer)
                }
                _ => false,
            };
            assert!(off <= if reordered { 1e-5 } else { 0.0 }, "{name}: off by {off:.1e}");
            assert_eq!(direction_of(&control)?.norm()?, 0.0);
            assert_eq!((&control.card.method, control.card.scores.len()), (&method, 0));
            assert_eq!(control.card.recipe["control"], "head only");
            assert_eq!(control.card.recipe["tune"]["max_length"], 12);
        }
        Ok(())
    }

    #[test]
    fn a_random_direction_has_the_norms_of_every_tensor_and_no_angle() -> Result<()> {
        let version = version()?;
        for (name, method) in methods() {
            let weights = adapted(&version, &method)?;
            let random = weights.random_like(5)?;
            let (ours, theirs) = (direction_of(&random)?, direction_of(&weights)?);
            ours.layout().same_as(theirs.layout())?;
            let (mut length, mut variance) = (0.0, 0.0);
            for entry in theirs.layout().entries() {
                let norm = |theta: &Theta| Ok::<_, anyhow::Error>(f64::try_from(theta.get(&entry.name)?.norm())?);
                let (ours, theirs) = (norm(ours)?, norm(theirs)?);
                let off = if theirs > 0.0 { (ours / theirs - 1.0).abs() } else { ours };
                assert!(off <= 1e-4, "{name}, {}: {ours} for {theirs}", entry.name);
                length += theirs.powi(2);
                variance += theirs.powi(4) / entry.len as f64;
            }
            let cosine = ours.cosine(theirs)?;
            // In a tensor of n numbers the cosine of random directions deviates by 1/√n; tensors count by their squared norms.
            let deviation = variance.sqrt() / length;
            assert!(cosine.abs() < 4.0 * deviation, "{name}: {cosine}, whose deviation is {deviation}");
            assert_eq!(random.head.fingerprint()?, weights.head.fingerprint()?);
            assert_eq!(direction_of(&weights.random_like(5)?)?.fingerprint()?, ours.fingerprint()?);
            assert_ne!(direction_of(&weights.random_like(6)?)?.fingerprint()?, ours.fingerprint()?);
        }
        Ok(())
    }

    #[test]
    fn what_did_not_move_does_not_move_at_random_either() -> Result<()> {
        let weights = adapted(&version()?, &Method::Full)?.head_only()?;
        let random = weights.random_like(1)?;
        assert_eq!(direction_of(&random)?.norm()?, 0.0);
        assert_eq!(random.card.recipe["control"], "head only; then random direction of the same norms, seed 1");
        Ok(())
    }
}
