//! How a model is tuned: all of it, or small modules inside it.

mod adapter;
mod lora;

use anyhow::{Context, Result, ensure};
use regex::Regex;
use serde::{Deserialize, Serialize};

pub use adapter::{AdapterConfig, AdapterPosition, Scaling, Signal, Sublayers, Wiring};
pub use lora::{LoraBias, LoraConfig};

/// Says by name what is trained.
type NameFilter = Box<dyn Fn(&str) -> bool>;

/// The tuning method.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Full fine-tuning: every backbone parameter moves.
    #[default]
    Full,
    /// Bottleneck adapters at the sublayers; the backbone is frozen.
    Adapter(AdapterConfig),
    /// Low-rank updates of linear maps; the backbone is frozen, but for the biases and modules that its settings name.
    Lora(LoraConfig),
    /// The backbone parameters whose names match a regular expression move, as in BitFit (`"\\.bias$"`); `"^$"` moves
    /// the head alone.
    Matching(String),
}

impl Method {
    /// `full`, `adapter`, `lora` or `matching`.
    pub fn name(&self) -> &'static str {
        match self {
            Method::Full => "full",
            Method::Adapter(_) => "adapter",
            Method::Lora(_) => "lora",
            Method::Matching(_) => "matching",
        }
    }

    /// Whether the backbone parameter with this name is trained.
    pub(crate) fn trains_backbone(&self) -> Result<NameFilter> {
        Ok(match self {
            Method::Full => Box::new(|_| true),
            Method::Adapter(_) => Box::new(|_| false),
            Method::Lora(lora) => {
                let lora = lora.clone();
                Box::new(move |name| lora.trains(name))
            }
            Method::Matching(pattern) => {
                let regex = Regex::new(pattern).with_context(|| format!("{pattern:?} is not a regular expression"))?;
                Box::new(move |name| regex.is_match(name))
            }
        })
    }

    /// Refuses modules that are no addition to the model: there is no α of them, and no model without them.
    pub(crate) fn check_addition(&self) -> Result<()> {
        if let Method::Adapter(adapter) = self {
            ensure!(
                adapter.is_addition(),
                "these adapters are no addition to the model: a LayerNorm takes what they are added to along ({:?}), so that they can be neither \
                 scaled nor left out",
                adapter.position
            );
        }
        Ok(())
    }

    /// Whether it moves the backbone, or parts of it, so that a difference is left.
    pub(crate) fn moves_backbone(&self) -> bool {
        match self {
            Method::Full | Method::Matching(_) => true,
            Method::Adapter(_) => false,
            Method::Lora(lora) => lora.moves_backbone(),
        }
    }

    /// Says what contradicts itself.
    pub fn validate(&self) -> Result<()> {
        match self {
            Method::Full => Ok(()),
            Method::Adapter(adapter) => adapter.validate(),
            Method::Lora(lora) => lora.validate(),
            Method::Matching(_) => self.trains_backbone().map(|_| ()),
        }
    }
}

/// For what is left out of files where it is as usual.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
