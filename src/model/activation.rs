//! The non-linearities of adapters and classification heads, named as in transformers (`ACT2FN`).

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::native;

/// A function of one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Activation {
    /// max(x, 0)
    Relu,
    /// x·Φ(x)
    Gelu,
    /// Its approximation by tanh.
    #[default]
    GeluTanh,
    /// x·σ(x), also called SiLU.
    Swish,
    /// tanh(x)
    Tanh,
    /// σ(x)
    Sigmoid,
    /// x where it is positive, else x / 100.
    LeakyRelu,
    /// x
    Identity,
}

/// The names in use, that which is written first.
const NAMES: [(Activation, &[&str]); 8] = [
    (Activation::Relu, &["relu"]),
    (Activation::Gelu, &["gelu", "gelu_python"]),
    (Activation::GeluTanh, &["gelu_new", "gelu_pytorch_tanh", "gelu_fast"]),
    (Activation::Swish, &["swish", "silu"]),
    (Activation::Tanh, &["tanh"]),
    (Activation::Sigmoid, &["sigmoid"]),
    (Activation::LeakyRelu, &["leakyrelu", "leaky_relu"]),
    (Activation::Identity, &["linear"]),
];

impl Activation {
    pub(crate) fn forward(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Activation::Relu => x.f_relu()?,
            Activation::Gelu => gelu(x)?,
            Activation::GeluTanh => x.f_gelu("tanh")?,
            Activation::Swish => x.f_silu()?,
            Activation::Tanh => x.f_tanh()?,
            Activation::Sigmoid => x.f_sigmoid()?,
            Activation::LeakyRelu => x.f_leaky_relu()?,
            Activation::Identity => x.shallow_clone(),
        })
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = NAMES.iter().find(|(activation, _)| activation == self).map_or(&[""][..], |(_, names)| names);
        f.write_str(names[0])
    }
}

impl FromStr for Activation {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Activation> {
        let lower = name.to_lowercase();
        match NAMES.iter().find(|(_, names)| names.contains(&lower.as_str())) {
            Some((activation, _)) => Ok(*activation),
            None => {
                let known = NAMES.iter().flat_map(|(_, names)| names.iter().copied()).collect::<Vec<_>>().join(", ");
                bail!("the activation {name:?} is not supported: {known} are")
            }
        }
    }
}

impl TryFrom<String> for Activation {
    type Error = anyhow::Error;

    fn try_from(name: String) -> Result<Activation> {
        name.parse()
    }
}

impl From<Activation> for String {
    fn from(activation: Activation) -> String {
        activation.to_string()
    }
}

/// x·Φ(x)
pub(crate) fn gelu(x: &Tensor) -> Result<Tensor> {
    match (x.kind(), x.device()) {
        (Kind::BFloat16, Device::Cpu) => native::gelu(x),
        _ => Ok(x.f_gelu("none")?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_and_the_first_is_written() -> Result<()> {
        for (activation, names) in NAMES {
            for name in names {
                assert_eq!(serde_json::from_value::<Activation>((*name).into())?, activation);
            }
            assert_eq!(serde_json::to_value(activation)?, names[0]);
        }
        let error = "softplus".parse::<Activation>().unwrap_err().to_string();
        assert!(error.contains("softplus") && error.contains("gelu_new"), "{error}");
        Ok(())
    }
}
