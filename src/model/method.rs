//! How a model is tuned: all of it, or small modules inside it.

use anyhow::{Context, Result, ensure};
use regex::Regex;
use serde::{Deserialize, Serialize};

/// Says by name what is trained.
type NameFilter = Box<dyn Fn(&str) -> bool>;

/// The tuning method.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Full fine-tuning: every backbone parameter moves.
    #[default]
    Full,
    /// Bottleneck adapters after each sublayer; the backbone is frozen.
    Adapter(AdapterConfig),
    /// Low-rank updates of linear maps; the backbone is frozen.
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
            Method::Adapter(_) | Method::Lora(_) => Box::new(|_| false),
            Method::Matching(pattern) => {
                let regex = Regex::new(pattern).with_context(|| format!("{pattern:?} is not a regular expression"))?;
                Box::new(move |name| regex.is_match(name))
            }
        })
    }

    /// Says what contradicts itself.
    pub fn validate(&self) -> Result<()> {
        match self {
            Method::Full => Ok(()),
            Method::Adapter(adapter) => {
                ensure!(adapter.bottleneck > 0, "an adapter bottleneck of {} cannot be", adapter.bottleneck);
                Ok(())
            }
            Method::Lora(lora) => {
                ensure!(lora.rank > 0, "a LoRA rank of {} cannot be", lora.rank);
                ensure!(!lora.targets.is_empty(), "LoRA needs at least one target, such as \"query\"");
                Ok(())
            }
            Method::Matching(_) => self.trains_backbone().map(|_| ()),
        }
    }
}

/// Where in a layer the adapters sit. The paper's library changed its mind between versions, which its authors did not pin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdapterPosition {
    /// After the whole sublayer, behind residual and LayerNorm (OpenDelta 0.2.4).
    #[default]
    AfterSublayer,
    /// Inside the sublayer, behind its output projection and before dropout, residual and LayerNorm (OpenDelta 0.3; Houlsby).
    InSublayer,
}

/// h ← h + W_up · gelu_tanh(W_down · h + b_down) + b_up, twice a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdapterConfig {
    /// The inner width.
    pub bottleneck: i64,
    /// Where in a layer they stand.
    pub position: AdapterPosition,
    /// Standard deviation of the initial weights (biases start at 0): near the identity, not at it.
    pub initializer_range: f64,
}

impl Default for AdapterConfig {
    fn default() -> AdapterConfig {
        AdapterConfig { bottleneck: 24, position: AdapterPosition::default(), initializer_range: 0.01 }
    }
}

/// y ← W·x + b + (alpha / rank) · B·A·x, with A uniform in ±1/√in and B = 0 at first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Inner width r of the update B·A.
    pub rank: i64,
    /// Scale: updates count alpha / rank.
    pub alpha: f64,
    /// Which linear maps of a layer: whole names (`attention.self.query`) or their last parts (`query`, `dense`), as this family of
    /// encoders or as BERT calls them.
    pub targets: Vec<String>,
}

impl Default for LoraConfig {
    fn default() -> LoraConfig {
        LoraConfig { rank: 8, alpha: 16.0, targets: vec!["query".into(), "value".into()] }
    }
}
