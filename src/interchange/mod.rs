//! Weights of other tools, in and out: models that transformers tuned, adapters of PEFT, AdapterHub and OpenDelta.
//!
//! ```text
//! folder                                        tool           what it becomes
//! config.json, model.safetensors                transformers   Δ = tuned − base, head
//! adapter_config.json with peft_type            PEFT           LoRA, head, whatever was saved whole
//! adapter_config.json with config, model_type   AdapterHub     bottleneck adapters, prediction head
//! model.safetensors with `….adapter.modulelist` OpenDelta      bottleneck adapters, head (read only)
//! ```
//!
//! Nothing is loaded by halves: every tensor of a folder is either used, or named as what it is and said to be left out, or the folder
//! is refused. Pickled files are never opened.

mod account;
mod adapter_hub;
mod card;
mod convert;
mod formats;
mod head;
mod open_delta;
mod options;
mod peft;
mod store;
mod tuned;

pub use convert::{export, format_of, import};
pub use formats::Format;
pub use options::{ImportOptions, Imported};
pub use store::import_into;
