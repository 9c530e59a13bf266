//! M_PERM: the same function in other coordinates. What carries over to it owes nothing to the coordinates, what does not needs them.
//!
//! Heads of a layer, neurons of a feed-forward map and dimensions of the hidden states have no order of their own. For a linear map f
//! whose input is permuted by P_in and whose output is by P_out,
//!
//! ```text
//! P_out · f(P_inᵀ · x)  =  (P_out · W · P_inᵀ) · x + P_out · b
//! ```
//!
//! and LayerNorm, GELU, softmax and the sum with the residual do not see an order. So a model permuted throughout computes what it did
//! (to rounding, as sums run in another order), and shares no coordinate with itself.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use tch::Tensor;

use super::architecture::{self, Axis};
use super::{Adapted, Coordinates, EncoderConfig, Method, Permutation, Version};
use crate::params::{Delta, Part, Theta};

/// What the axes of every tensor count that a model with these weights can have, by name.
fn axes(config: &EncoderConfig, method: &Method, classes: usize) -> Result<HashMap<String, (Vec<Axis>, Part)>> {
    let specs = [
        architecture::backbone(config),
        architecture::masked_lm(config),
        architecture::classifier(config, classes),
        architecture::module_tensors(config, method)?,
    ];
    Ok(specs.into_iter().flatten().map(|spec| (spec.name, (spec.axes, spec.part))).collect())
}

impl Permutation {
    /// P_out · W · P_inᵀ and P_out · b, of all tensors.
    fn of(&self, theta: &Theta, axes: &HashMap<String, (Vec<Axis>, Part)>) -> Result<Theta> {
        let mut permuted = theta.try_clone()?;
        for entry in theta.layout().entries() {
            let mut value = theta.view(&entry.name)?;
            let known = axes.get(&entry.name);
            let (counted, part) =
                known.with_context(|| format!("nothing is known of what the axes of {} count", entry.name))?;
            for (dim, (&axis, &size)) in counted.iter().zip(&entry.shape).enumerate() {
                let order = self.order(axis, *part, size);
                if let Some(order) = order.with_context(|| format!("cannot permute {}", entry.name))? {
                    let order = Tensor::f_from_slice(&order)?.f_to_device(theta.device())?;
                    value = value.f_index_select(dim as i64, &order)?;
                }
            }
            permuted.set(&entry.name, &value)?;
        }
        Ok(permuted)
    }

    /// The order of the `size` places along an axis; `None` where they stay.
    fn order(&self, axis: Axis, part: Part, size: i64) -> Result<Option<Vec<i64>>> {
        let in_layer = |orders: &'_ [Vec<usize>]| -> Result<Vec<i64>> {
            let Part::Layer(layer) = part else { bail!("only layers have heads and neurons") };
            let order = orders.get(layer).context("the permutation has no such layer")?;
            Ok(order.iter().map(|&place| place as i64).collect())
        };
        Ok(match axis {
            Axis::Fixed(_) => None,
            Axis::Hidden => self.hidden.as_ref().map(|order| order.iter().map(|&place| place as i64).collect()),
            Axis::Neurons => Some(in_layer(&self.neurons)?),
            Axis::Heads => {
                let heads = in_layer(&self.heads)?;
                let d = size / heads.len().max(1) as i64; // rows of a head
                Some(heads.into_iter().flat_map(|head| head * d..(head + 1) * d).collect())
            }
        })
    }
}

impl Version {
    /// M_PERM: this model's function in other coordinates, drawn from `seed`. To carry weights along or to know what went where,
    /// draw a [`Permutation::random`] and give it to [`Version::permuted_by`].
    pub fn permuted(&self, coordinates: Coordinates, seed: u64) -> Result<Version> {
        self.permuted_by(&Permutation::random(&self.config, coordinates, seed)?)
    }

    /// M_PERM, by this permutation: backbone, masked-LM head and pooler.
    ///
    /// Errors where it is no permutation of this model's coordinates.
    pub fn permuted_by(&self, permutation: &Permutation) -> Result<Version> {
        permutation.check(&self.config)?;
        let (config, tokenizer) = (self.config.clone(), self.tokenizer.clone());
        let axes = axes(&config, &Method::Full, 2)?;
        let (backbone, lm_head) = (permutation.of(&self.backbone, &axes)?, permutation.of(&self.lm_head, &axes)?);
        let pooler = self.pooler.as_ref().map(|pooler| permutation.of(pooler, &axes)).transpose()?;
        Ok(Version { config, tokenizer, backbone, lm_head, pooler })
    }
}

impl Adapted {
    /// P(Δ): the weights carried to the coordinates of M_PERM, where `base` is the version M they were tuned on:
    /// M_PERM ⊕ P(Δ) computes what M ⊕ Δ does. The inside of adapters, LoRA and the head keeps its order. The card names M_PERM as
    /// the base, and its recipe says why.
    ///
    /// Errors where `base` is another version, or where this is no permutation of its coordinates.
    pub fn permuted_by(&self, permutation: &Permutation, base: &Version) -> Result<Adapted> {
        ensure!(
            self.check_base(base)?,
            "these weights were tuned on version {}, not on {}: give the version they were tuned on",
            self.card.base,
            base.fingerprint()?
        );
        let mut card = self.card.derived("carried to permuted coordinates");
        card.base = base.permuted_by(permutation)?.fingerprint()?;
        let axes = axes(&self.card.config(base), &self.card.method, self.card.labels.len())?;
        let of = |theta: &Theta| permutation.of(theta, &axes);
        Ok(Adapted {
            backbone: self.backbone.as_deref().map(of).transpose()?.map(Delta::new),
            modules: self.modules.as_ref().map(of).transpose()?,
            head: of(&self.head)?,
            card,
        })
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::model::testing::{adapted, difference, methods, tokens, version, version_of};
    use crate::model::{Family, Method, Model};

    const BOTH: [Coordinates; 2] = [Coordinates::Inner, Coordinates::All];

    #[test]
    fn words_are_predicted_as_before_in_coordinates_that_have_little_in_common() -> Result<()> {
        for version in Family::ALL.map(version_of) {
            words_are_predicted_as_before(version?)?;
        }
        Ok(())
    }

    fn words_are_predicted_as_before(version: Version) -> Result<()> {
        let tokens = tokens(&version)?;
        let layer = &version.config.architecture().layer;
        let predict = |version: &Version| Model::masked_lm(version, Device::Cpu)?.mlm_logits(&tokens, None);
        let before = predict(&version)?;
        for coordinates in BOTH {
            let permuted = version.permuted(coordinates, 7)?;
            let off = difference(&predict(&permuted)?, &before)?;
            assert!(off <= 1e-5, "{coordinates:?}: off by {off:.1e}");
            let cosine = |pattern: &str| permuted.backbone.select(pattern)?.cosine(&version.backbone.select(pattern)?);
            for moved in [layer.query, layer.attention_output, layer.intermediate, layer.output] {
                let moved = &format!("{moved}.weight");
                assert!(
                    cosine(moved)?.abs() < 0.2,
                    "{coordinates:?}: {moved} has kept its place: {:.2}",
                    cosine(moved)?
                );
            }
            let words = cosine("word_embeddings")?;
            assert_eq!(words.abs() < 0.2, coordinates == Coordinates::All, "{coordinates:?}: {words:.2}");
        }
        Ok(())
    }

    #[test]
    fn weights_carried_along_compute_what_they_did() -> Result<()> {
        for version in Family::ALL.map(version_of) {
            carried_weights_compute_what_they_did(version?)?;
        }
        Ok(())
    }

    fn carried_weights_compute_what_they_did(version: Version) -> Result<()> {
        let tokens = tokens(&version)?;
        for coordinates in BOTH {
            let permutation = Permutation::random(&version.config, coordinates, 7)?;
            let permuted = version.permuted_by(&permutation)?;
            for (name, method) in methods() {
                let weights = adapted(&version, &method)?;
                let carried = weights.permuted_by(&permutation, &version)?;
                assert!(carried.check_base(&permuted)? && !carried.check_base(&version)?);
                let before = weights.apply(&version, Device::Cpu)?.logits(&tokens)?;
                let after = carried.apply(&permuted, Device::Cpu)?.logits(&tokens)?;
                let off = difference(&after, &before)?;
                assert!(off <= 1e-5, "{coordinates:?}, {name}: off by {off:.1e}");
            }
        }
        Ok(())
    }

    #[test]
    fn untouched_weights_are_lost_in_other_coordinates() -> Result<()> {
        let version = version()?;
        let (tokens, permuted) = (tokens(&version)?, version.permuted(Coordinates::All, 7)?);
        for (name, method) in methods() {
            let weights = adapted(&version, &method)?;
            let before = weights.apply(&version, Device::Cpu)?.logits(&tokens)?;
            let off = difference(&weights.apply(&permuted, Device::Cpu)?.logits(&tokens)?, &before)?;
            assert!(off > 0.1, "{name}: off by only {off:.1e}");
        }
        Ok(())
    }

    #[test]
    fn adapters_do_not_notice_that_heads_and_neurons_moved_but_a_delta_does() -> Result<()> {
        let version = version()?;
        let tokens = tokens(&version)?;
        let permutation = Permutation::random(&version.config, Coordinates::Inner, 7)?;
        let permuted = version.permuted_by(&permutation)?;
        for (name, method) in methods() {
            let weights = adapted(&version, &method)?;
            let before = weights.apply(&version, Device::Cpu)?.logits(&tokens)?;
            let off = difference(&weights.apply(&permuted, Device::Cpu)?.logits(&tokens)?, &before)?;
            match &method {
                Method::Adapter(_) => {
                    assert!(off <= 1e-5, "{name}: off by {off:.1e}");
                    let carried = weights.permuted_by(&permutation, &version)?;
                    let [before, after] = [&weights, &carried].map(|weights| weights.modules.as_ref());
                    let print = |modules: Option<&Theta>| modules.context("no modules")?.fingerprint();
                    assert_eq!(print(after)?, print(before)?, "{name}");
                }
                _ => assert!(off > 0.01, "{name}: off by only {off:.1e}"),
            }
        }
        Ok(())
    }

    #[test]
    fn the_inverse_brings_every_number_back() -> Result<()> {
        let version = version()?;
        let permutation = Permutation::random(&version.config, Coordinates::All, 7)?;
        let back = version.permuted_by(&permutation)?.permuted_by(&permutation.inverse()?)?;
        assert_eq!(back.backbone.fingerprint()?, version.backbone.fingerprint()?);
        assert_eq!(back.lm_head.fingerprint()?, version.lm_head.fingerprint()?);
        Ok(())
    }

    #[test]
    fn weights_are_carried_from_where_they_were_tuned_and_their_card_says_so() -> Result<()> {
        let version = version()?;
        let permutation = Permutation::random(&version.config, Coordinates::All, 7)?;
        let (weights, permuted) = (adapted(&version, &Method::Full)?, version.permuted_by(&permutation)?);
        let error = weights.permuted_by(&permutation, &permuted).unwrap_err().to_string();
        assert!(error.contains(&version.fingerprint()?) && error.contains(&permuted.fingerprint()?), "{error}");
        let carried = weights.permuted_by(&permutation, &version)?;
        assert_eq!(carried.card.recipe["control"], "carried to permuted coordinates");
        assert_eq!(carried.card.recipe["tune"], weights.card.recipe["tune"]);
        Ok(())
    }
}
