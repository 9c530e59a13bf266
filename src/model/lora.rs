//! Low-rank updates of linear maps.

use anyhow::Result;
use tch::Tensor;

use super::architecture::{LORA_A, LORA_B};
use super::encoder::{Pass, linear};
use super::leaves::{Leaves, Weight};
use super::method::LoraConfig;

/// (alpha / rank) · B·A·x, with A: (rank, in) and B: (out, rank).
#[derive(Debug)]
pub(crate) struct Lora {
    a: Weight,
    b: Weight,
    scale: f64,
}

impl Lora {
    /// The update of the linear map `name`, or nothing where that map is not a target.
    pub fn new(leaves: &Leaves, name: &str, config: &LoraConfig) -> Result<Option<Lora>> {
        let (a, b) = (format!("{name}.{LORA_A}"), format!("{name}.{LORA_B}"));
        if !leaves.contains(&a) {
            return Ok(None);
        }
        Ok(Some(Lora { a: leaves.weight(&a)?, b: leaves.weight(&b)?, scale: config.alpha / config.rank as f64 }))
    }

    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let inner = linear(x, &[&self.a], &[], pass)?; // (…, rank)
        Ok(linear(&inner, &[&self.b], &[], pass)?.f_mul_scalar(self.scale)?)
    }
}
