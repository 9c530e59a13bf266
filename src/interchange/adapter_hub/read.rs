//! An adapter of AdapterHub and its prediction head, taken in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use tch::{Device, Kind, Tensor};

use super::all_names;
use super::config::{Before, Envelope, HubAdapter, HubHead, labels};
use crate::files::read_json;
use crate::interchange::account::Account;
use crate::interchange::options::{ImportOptions, Imported, adapter_folder};
use crate::interchange::{card, head};
use crate::model::{Adapted, AdapterConfig, EncoderConfig, HeadShape, Method, Version, architecture};
use crate::params::Theta;

const NO_HEAD: &str =
    "save the adapter with its head (model.save_adapter(…, with_head=True)), or the head beside it (model.save_head)";

pub(crate) fn read(folder: &Path, base: &Version, options: &ImportOptions) -> Result<Imported> {
    let folder = adapter_folder(folder, options.adapter.as_deref())?;
    let envelope: Envelope = read_json(folder.join("adapter_config.json"))?;
    let encoder = &base.config;
    check_model(&envelope, encoder)?;
    if let Some(kind) = envelope.config.get("architecture").and_then(|kind| kind.as_str()) {
        bail!("it is a {kind} of AdapterHub: only bottleneck adapters are supported");
    }
    let mut hub: HubAdapter = serde_json::from_value(envelope.config.clone())
        .context("config in adapter_config.json is no bottleneck adapter")?;
    if !envelope.other.contains_key("version") {
        hub.rename_activation();
    }
    let adapter = hub.adapter(encoder.hidden_size, encoder.num_hidden_layers)?;
    let whole = architecture::whole_names(encoder);
    let ours = |name: &str| Ok(whole(name));
    let mut account = Account::open(&folder, "adapter", "pytorch_adapter.bin", ours)?;
    let mut notes = Vec::new();
    let carried = card::evidence(&folder, &account, base, envelope.model_name.as_deref(), options, &mut notes)?;
    let modules = modules(&mut account, encoder, &adapter)?;
    account.close()?;
    let (head, shape, named) = prediction_head(&folder, base)?;
    let classes = head.layout().entries().last().context("a head without tensors")?.shape[0];
    let named = carried.as_ref().map(|card| card.labels.clone()).or(named);
    let labels = head::labels(options, named, classes, &mut notes)?;
    let (method, name) = (Method::Adapter(adapter), envelope.model_name.unwrap_or_default());
    let card = card::taken_in(base, options, method, labels, shape, &name, &notes, carried)?;
    Ok(Imported { adapted: Adapted { backbone: None, modules: Some(modules), head, card }, notes })
}

fn check_model(envelope: &Envelope, encoder: &EncoderConfig) -> Result<()> {
    let (theirs, ours) = (&envelope.model_type, encoder.model_type.to_string());
    ensure!(*theirs == ours, "it is an adapter for {theirs}, the base is a {ours}");
    let hidden = envelope.hidden_size.unwrap_or(encoder.hidden_size);
    ensure!(
        hidden == encoder.hidden_size,
        "it is an adapter for a hidden size of {hidden}, the base has {}",
        encoder.hidden_size
    );
    Ok(())
}

/// The adapter's tensors by our names. What is left in the account has no place in it.
fn modules(account: &mut Account, encoder: &EncoderConfig, adapter: &AdapterConfig) -> Result<Theta> {
    let inside = |name: &str| Some(name.split_once(".adapters.")?.1.split_once('.')?.0.to_string());
    let names: BTreeSet<String> = account.names().filter_map(inside).collect();
    let name = match names.iter().collect::<Vec<_>>().as_slice() {
        [one] => one.to_string(),
        [] => bail!("{} holds no tensor of an adapter", account.source()),
        several => bail!("{} holds the tensors of several adapters: {several:?}", account.source()),
    };
    let specs = architecture::module_tensors(encoder, &Method::Adapter(adapter.clone()))?;
    let mut modules = Theta::zeros(Arc::new(architecture::layout(encoder, &specs)?), Device::Cpu)?;
    let mut there: BTreeMap<String, Tensor> = BTreeMap::new();
    for (theirs, ours) in all_names(encoder, adapter.position, &name, adapter.norm_before) {
        let Some(spec) = specs.iter().find(|spec| spec.name == ours) else { continue };
        let Some(value) = account.take(&theirs, &spec.shape(encoder))? else { continue };
        if let Some(other) = there.get(&ours) {
            ensure!(value.f_equal(other)?, "{theirs} and another name of it in {} differ", account.source());
        }
        modules.set(&ours, &value)?;
        there.insert(ours, value);
    }
    let missing: Vec<&str> =
        specs.iter().map(|spec| spec.name.as_str()).filter(|name| !there.contains_key(*name)).collect();
    ensure!(
        missing.is_empty(),
        "{} lacks what adapter_config.json describes (here called {}): it is not whole",
        account.source(),
        crate::params::few(&missing)
    );
    Ok(modules)
}

/// The head, its shape where that is not the family's own, and the classes where the folder names them.
fn prediction_head(folder: &Path, base: &Version) -> Result<(Theta, Option<HeadShape>, Option<Vec<String>>)> {
    let path = folder.join("head_config.json");
    ensure!(path.is_file(), "{} holds no prediction head: {NO_HEAD}", folder.display());
    let envelope: Envelope = read_json(&path)?;
    let encoder = &base.config;
    check_model(&envelope, encoder)?;
    let names = &encoder.architecture().classifier;
    if envelope.config.is_null() {
        // The head of a class of transformers, under its own names.
        let class = encoder.model_type.class("ForSequenceClassification");
        ensure!(
            envelope.model_class == class,
            "its head is that of a {}: only that of a {class} is supported",
            envelope.model_class
        );
        let whole = architecture::whole_names(encoder);
        let mut account = Account::open(folder, "model_head", "pytorch_model_head.bin", |name| Ok(whole(name)))?;
        let classes = head::classes(encoder, &account);
        let classes = classes.with_context(|| format!("{} holds no {}", account.source(), names.out))?;
        let head = head::head(&mut account, encoder, classes, NO_HEAD, head::of_pooler(base))?;
        account.close()?;
        return Ok((head, None, envelope.label2id.as_ref().map(labels).transpose()?));
    }
    let hub: HubHead = serde_json::from_value(envelope.config.clone()).context("config in head_config.json")?;
    let before = hub.before()?;
    let own = encoder.head_shape();
    let shape = match before {
        Before::Nothing => Some(HeadShape { dense: false, activation: own.activation }),
        Before::Pooler => {
            ensure!(names.pooler, "its prediction head reads a pooler, which a {} here has not", encoder.model_type);
            None
        }
        Before::Dense(activation) => Some(HeadShape { dense: true, activation }).filter(|shape| *shape != own),
    };
    // heads.NAME.N.weight: dropout and activations are counted, too.
    let last = hub.last_place();
    let ours = |theirs: &str| -> Result<String> {
        let rest = theirs.strip_prefix("heads.").and_then(|rest| rest.split_once('.')).map(|(_, rest)| rest);
        let (place, end) =
            rest.and_then(|rest| rest.split_once('.')).with_context(|| format!("{theirs} is no tensor of a head"))?;
        let module = match place.parse::<usize>() {
            Ok(place) if place == last => names.out,
            Ok(1) => names.dense,
            _ => bail!("{theirs} is no tensor of a head of {} layers", hub.layers),
        };
        Ok(format!("{module}.{end}"))
    };
    let mut account = Account::open(folder, "model_head", "pytorch_model_head.bin", ours)?;
    let config = EncoderConfig { head: shape, ..encoder.clone() };
    let (pooler, bias) = (head::of_pooler(base), format!("{}.bias", names.out));
    let absent = |name: &str| match before {
        _ if name == bias && !hub.bias => Tensor::f_zeros([hub.num_labels], (Kind::Float, Device::Cpu)).ok(),
        Before::Pooler => pooler(name),
        Before::Nothing | Before::Dense(_) => None,
    };
    let head = head::head(&mut account, &config, hub.num_labels, NO_HEAD, absent)?;
    account.close()?;
    Ok((head, shape, hub.label2id.as_ref().map(labels).transpose()?))
}
