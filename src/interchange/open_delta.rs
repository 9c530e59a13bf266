//! Bottleneck adapters of OpenDelta, as the authors of the paper tuned them: both layouts of its releases, read only.
//!
//! ```text
//! 0.2.4   LAYER.attention.adapter.modulelist.down_proj.weight       after the whole sublayer
//! 0.3     LAYER.attention.output.dense.adapter.modulelist.…         inside it, behind the output projection
//! ```

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use tch::Device;

use super::account::Account;
use super::options::{ImportOptions, Imported};
use super::{card, head};
use crate::files::read_json;
use crate::model::architecture::{self, ADAPTER_DOWN};
use crate::model::{Activation, Adapted, AdapterConfig, AdapterPosition, EncoderConfig, Method, Version};
use crate::params::{Stored, Theta};

/// Where the maps of an adapter lie below its name.
const INSIDE: &str = ".adapter.modulelist.";

/// What OpenDelta's `config.json` says of adapters; files that were saved without it are of its defaults.
#[derive(Deserialize)]
#[serde(default)]
struct DeltaConfig {
    delta_type: String,
    non_linearity: String,
}

impl Default for DeltaConfig {
    fn default() -> DeltaConfig {
        DeltaConfig { delta_type: "adapter".to_string(), non_linearity: "gelu_new".to_string() }
    }
}

/// Whether a folder holds such a file, or says so of itself.
pub(super) fn is_one(folder: &Path) -> bool {
    let config = read_json::<serde_json::Value>(folder.join("config.json"));
    config.is_ok_and(|config| config.get("delta_type").is_some())
        || Stored::open_folder(folder).is_ok_and(|stored| stored.tensors().keys().any(|name| name.contains(INSIDE)))
}

pub(super) fn read(folder: &Path, base: &Version, options: &ImportOptions) -> Result<Imported> {
    let path = folder.join("config.json");
    let config: DeltaConfig = if path.is_file() { read_json(&path)? } else { DeltaConfig::default() };
    ensure!(config.delta_type == "adapter", "it is a {} of OpenDelta: only adapters are supported", config.delta_type);
    let encoder = &base.config;
    let whole = architecture::whole_names(encoder);
    let ours = |name: &str| Ok(whole(&name.replace(INSIDE, ".adapter.")));
    let mut account = Account::open(folder, "model", "pytorch_model.bin", ours)?;
    let mut notes = Vec::new();
    let carried = card::evidence(folder, &account, base, None, options, &mut notes)?;
    let adapter = AdapterConfig {
        position: position(&account, encoder)?,
        // Its names: `gelu_orig` is the exact one.
        activation: match config.non_linearity.as_str() {
            "gelu_orig" => Activation::Gelu,
            other => other.parse()?,
        },
        ..AdapterConfig::default()
    };
    let bottleneck = width(&account).context("its adapters have no map down")?;
    let adapter = AdapterConfig { bottleneck, ..adapter };
    let specs = architecture::module_tensors(encoder, &Method::Adapter(adapter.clone()))?;
    let mut modules = Theta::zeros(Arc::new(architecture::layout(encoder, &specs)?), Device::Cpu)?;
    for spec in &specs {
        let value = account.take(&spec.name, &spec.shape(encoder))?;
        let value = value.with_context(|| format!("{} lacks {}: it is not whole", account.source(), spec.name))?;
        modules.set(&spec.name, &value)?;
    }
    let remedy = "OpenDelta saves it where unfrozen_modules names the classifier";
    let classes = head::classes(encoder, &account)
        .with_context(|| format!("{} holds no classification head: {remedy}", account.source()))?;
    let head = head::head(&mut account, encoder, classes, remedy, head::of_pooler(base))?;
    let labels = head::labels(options, None, classes, &mut notes)?;
    account.close()?;
    let card = card::taken_in(base, options, Method::Adapter(adapter), labels, None, "", &notes, carried)?;
    Ok(Imported { adapted: Adapted { backbone: None, modules: Some(modules), head, card }, notes })
}

/// Which of the two layouts it is.
fn position(account: &Account, encoder: &EncoderConfig) -> Result<AdapterPosition> {
    let first = encoder.architecture().layer_prefix(0);
    for position in [AdapterPosition::AfterSublayer, AdapterPosition::InSublayer] {
        let [attention, _] = architecture::adapter_places(encoder, position);
        if account.shape(&format!("{first}.{attention}.{ADAPTER_DOWN}.weight")).is_some() {
            return Ok(position);
        }
    }
    bail!("its adapters stand where neither release 0.2.4 nor 0.3 of OpenDelta puts them: {:?}", account.names().next())
}

fn width(account: &Account) -> Option<i64> {
    let down = account.names().find(|name| name.ends_with(&format!("{ADAPTER_DOWN}.weight")))?;
    account.shape(down)?.first().copied()
}
