//! The maps that everything is made of: linear ones, and LayerNorm.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::leaves::{Leaves, Weight};
use super::lora::Lora;
use super::pass::{Pass, linear};
use crate::native;

/// y = x·Wᵀ + b, plus a low-rank update where LoRA is in place.
#[derive(Debug)]
pub(crate) struct Linear {
    pub weight: Weight,
    pub bias: Weight,
    lora: Option<Lora>,
}

impl Linear {
    pub fn new(leaves: &Leaves, name: &str) -> Result<Linear> {
        Ok(Linear {
            weight: leaves.weight(&format!("{name}.weight"))?,
            bias: leaves.weight(&format!("{name}.bias"))?,
            lora: None,
        })
    }

    /// The same with a low-rank update, where there is one.
    pub fn with_update(self, lora: Option<Lora>) -> Linear {
        Linear { lora, ..self }
    }

    /// Whether it is x·Wᵀ + b and nothing else.
    pub fn is_plain(&self) -> bool {
        self.lora.is_none()
    }

    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let y = linear(x, &[&self.weight], &[&self.bias], pass)?;
        match &self.lora {
            None => Ok(y),
            Some(lora) => Ok(y.f_add(&lora.forward(x, pass)?)?),
        }
    }
}

#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    pub fn new(leaves: &Leaves, name: &str, eps: f64) -> Result<LayerNorm> {
        Ok(LayerNorm {
            weight: leaves.get(&format!("{name}.weight"))?,
            bias: leaves.get(&format!("{name}.bias"))?,
            eps,
        })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.f_to_kind(Kind::Float)?;
        Ok(x.f_layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), self.eps, true)?)
    }

    /// LayerNorm(residual + dropout(branch))
    pub fn of_sum(&self, branch: &Tensor, residual: &Tensor, p: f64, pass: &Pass) -> Result<Tensor> {
        if residual.device().is_cuda() {
            return self.forward(&pass.dropout(branch, p)?.f_add(residual)?);
        }
        let norm = native::Norm { weight: &self.weight, bias: &self.bias, epsilon: self.eps };
        let (p, seed) = pass.draw(p).map_or((0.0, 0), |seed| (p, seed));
        native::add_norm(branch, residual, norm, p, seed)
    }
}
