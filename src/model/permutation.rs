//! Other coordinates for a model: an order for its heads, its neurons, and its hidden dimensions.

use anyhow::{Result, ensure};
use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};

use super::EncoderConfig;
use crate::seed;

/// Which coordinates of a model are permuted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coordinates {
    /// The attention heads within each layer, and the neurons within each feed-forward map. What reads and writes hidden states
    /// alone, as adapters do, notices nothing.
    Inner,
    /// These, and the hidden dimensions, in one order for the whole model.
    #[default]
    All,
}

/// An order for each kind of coordinate: what stands at place i of the permuted model stood at place `order[i]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permutation {
    /// \[layer\]\[head\]
    pub heads: Vec<Vec<usize>>,
    /// \[layer\]\[neuron of the feed-forward map\]
    pub neurons: Vec<Vec<usize>>,
    /// \[hidden dimension\], the same everywhere; `None` where they keep their places.
    pub hidden: Option<Vec<usize>>,
}

impl Permutation {
    /// A random permutation that leaves no coordinate of its kind in its place: one cycle through all of them. Equal arguments give
    /// equal permutations. Only where there is a single head (neuron, dimension) does it stay.
    ///
    /// Errors where the configuration contradicts itself.
    pub fn random(config: &EncoderConfig, coordinates: Coordinates, seed: u64) -> Result<Permutation> {
        config.validate()?;
        let cycles = |purpose: &str, len: i64| -> Vec<Vec<usize>> {
            let layers = 0..config.num_hidden_layers as u64;
            layers.map(|layer| cycle(len as usize, &mut seed::rng(seed, purpose, layer))).collect()
        };
        let hidden = || cycle(config.hidden_size as usize, &mut seed::rng(seed, "permuted-hidden-dimensions", 0));
        Ok(Permutation {
            heads: cycles("permuted-heads", config.num_attention_heads),
            neurons: cycles("permuted-neurons", config.intermediate_size),
            hidden: (coordinates == Coordinates::All).then(hidden),
        })
    }

    /// P⁻¹: puts everything back where it was.
    ///
    /// Errors where an order leaves a place out.
    pub fn inverse(&self) -> Result<Permutation> {
        let all = |orders: &[Vec<usize>]| orders.iter().map(|order| inverse(order)).collect::<Result<Vec<_>>>();
        let hidden = self.hidden.as_deref().map(inverse).transpose()?;
        Ok(Permutation { heads: all(&self.heads)?, neurons: all(&self.neurons)?, hidden })
    }

    /// Errors where this is no permutation of the coordinates of such a model.
    pub fn check(&self, config: &EncoderConfig) -> Result<()> {
        let (layers, hidden) = (config.num_hidden_layers, self.hidden.iter().cloned().collect::<Vec<_>>());
        for (what, orders, count, len) in [
            ("heads", &self.heads, layers, config.num_attention_heads),
            ("neurons", &self.neurons, layers, config.intermediate_size),
            ("hidden dimensions", &hidden, hidden.len(), config.hidden_size),
        ] {
            ensure!(
                orders.len() == count,
                "the permutation orders the {what} of {} layers, the model has {count}: make it from this model's configuration",
                orders.len()
            );
            for order in orders {
                ensure!(
                    order.len() as i64 == len,
                    "the permutation orders {} {what}, the model has {len}: make it from this model's configuration",
                    order.len()
                );
                inverse(order)?;
            }
        }
        Ok(())
    }
}

/// A random cycle through 0..len (Sattolo's algorithm): with two places or more, none is kept.
fn cycle(len: usize, rng: &mut Xoshiro256PlusPlus) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    for last in (1..len).rev() {
        order.swap(last, rng.random_range(0..last));
    }
    order
}

/// The order that undoes this one.
fn inverse(order: &[usize]) -> Result<Vec<usize>> {
    let mut back = vec![None; order.len()];
    for (to, &from) in order.iter().enumerate() {
        ensure!(from < order.len(), "an order of {} places cannot name place {from}", order.len());
        ensure!(back[from].replace(to).is_none(), "the order names place {from} twice: it must name each place once");
    }
    Ok(back.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_stays_in_its_place_and_no_two_layers_are_alike() -> Result<()> {
        let config = EncoderConfig::tiny(50, 16, 10);
        for seed in 0..50 {
            let permutation = Permutation::random(&config, Coordinates::All, seed)?;
            permutation.check(&config)?;
            let orders = permutation.heads.iter().chain(&permutation.neurons).chain(&permutation.hidden);
            for order in orders {
                let (mut at, mut steps) = (order[0], 1);
                while at != 0 {
                    (at, steps) = (order[at], steps + 1);
                }
                assert_eq!(steps, order.len(), "one cycle through all places");
            }
            assert_ne!(permutation.neurons[0], permutation.neurons[1]);
        }
        Ok(())
    }

    #[test]
    fn a_seed_gives_one_permutation_and_inner_coordinates_are_those_of_all() -> Result<()> {
        let config = EncoderConfig::tiny(50, 16, 10);
        let random = |coordinates, seed| Permutation::random(&config, coordinates, seed);
        let all = random(Coordinates::All, 3)?;
        assert_eq!(all, random(Coordinates::All, 3)?);
        assert_eq!(Permutation { hidden: None, ..all.clone() }, random(Coordinates::Inner, 3)?);
        assert_ne!(all, random(Coordinates::All, 4)?);
        assert_eq!(all.inverse()?.inverse()?, all);
        assert_eq!(serde_json::from_str::<Permutation>(&serde_json::to_string(&all)?)?, all);
        Ok(())
    }

    #[test]
    fn one_head_has_nowhere_to_go() -> Result<()> {
        let config = EncoderConfig { num_attention_heads: 1, ..EncoderConfig::tiny(50, 16, 10) };
        assert_eq!(Permutation::random(&config, Coordinates::Inner, 0)?.heads, [[0], [0]]);
        Ok(())
    }

    #[test]
    fn what_does_not_permute_this_model_is_refused() -> Result<()> {
        let config = EncoderConfig::tiny(50, 16, 10);
        let refused = |change: fn(&mut Permutation)| -> Result<String> {
            let mut permutation = Permutation::random(&config, Coordinates::All, 0)?;
            change(&mut permutation);
            Ok(permutation.check(&config).unwrap_err().to_string())
        };
        assert!(refused(|p| p.heads.truncate(1))?.contains("heads of 1 layers, the model has 2"));
        assert!(refused(|p| p.neurons[1].truncate(3))?.contains("orders 3 neurons, the model has 64"));
        assert!(refused(|p| p.hidden = Some((0..8).collect()))?.contains("orders 8 hidden dimensions"));
        assert!(refused(|p| p.heads[0] = vec![0, 1, 1, 2])?.contains("place 1 twice"));
        assert!(refused(|p| p.heads[0] = vec![0, 1, 2, 9])?.contains("place 9"));
        Ok(())
    }
}
