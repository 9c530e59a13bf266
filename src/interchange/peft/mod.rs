//! LoRA of PEFT: `adapter_config.json` and `adapter_model.safetensors`.

mod config;
mod read;
mod write;

pub(super) use read::read;
pub(super) use write::write;

/// What PEFT's names begin with.
const PREFIX: &str = "base_model.model.";
