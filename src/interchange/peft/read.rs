//! A LoRA of PEFT, taken in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use tch::{Device, Tensor};

use super::PREFIX;
use super::config::PeftConfig;
use crate::interchange::account::Account;
use crate::interchange::options::{ImportOptions, Imported, adapter_folder};
use crate::interchange::{card, head};
use crate::model::architecture::{self, LORA_A, LORA_B};
use crate::model::{Adapted, EncoderConfig, LoraBias, LoraConfig, Method, Version};
use crate::params::{Delta, Theta, few};

/// What PEFT calls the parts of a module that it wraps.
const WRAPPERS: [&str; 3] = [".base_layer.", ".modules_to_save.default.", ".modules_to_save."];
/// What a wrapped module was before.
const ORIGINAL: &str = ".original_module.";

pub(crate) fn read(folder: &Path, base: &Version, options: &ImportOptions) -> Result<Imported> {
    let folder = adapter_folder(folder, options.adapter.as_deref())?;
    let (config, encoder) = (PeftConfig::load(&folder.join("adapter_config.json"))?, &base.config);
    config.check(encoder.architecture().class)?;
    let whole = architecture::whole_names(encoder);
    let mut account = Account::open(&folder, "adapter_model", "adapter_model.bin", |name| our_name(name, &whole))?;
    let mut notes = Vec::new();
    let named = config.base_model_name_or_path.as_deref();
    let carried = card::evidence(&folder, &account, base, named, options, &mut notes)?;
    let mut proof = Proof { options, notes: &mut notes };
    leave_originals_out(&mut account, base, &mut proof)?;

    let (updates, of_head) = updates(&mut account, &config, encoder)?;
    let lora = lora(&config, &updates, encoder)?;
    let method = Method::Lora(lora.clone());
    let specs = architecture::module_tensors(encoder, &method)?;
    let mut modules = Theta::zeros(Arc::new(architecture::layout(encoder, &specs)?), Device::Cpu)?;
    for (module, Update { a, b }) in &updates {
        modules.set(&format!("{module}.{LORA_A}"), a)?;
        modules.set(&format!("{module}.{LORA_B}"), b)?;
    }
    let backbone = moved(&mut account, base, &lora, &mut Proof { options, notes: &mut notes })?;

    let task_type = config.task_type.as_deref().unwrap_or("none");
    let remedy = format!(
        "PEFT saves of the head what modules_to_save names (task_type is {task_type}). Train it again with modules_to_save = {:?}",
        architecture::head_modules(encoder)
    );
    let classes = head::classes(encoder, &account).with_context(|| {
        format!("{} holds no classification head ({}): {remedy}", account.source(), architecture::scores(encoder))
    })?;
    let mut head = head::head(&mut account, encoder, classes, &remedy, head::of_pooler(base))?;
    for (module, Update { a, b }) in of_head {
        notes.push(format!("the update of {module}, which belongs to the head, was added to it"));
        let (name, scale) = (format!("{module}.weight"), scale(&config, &module, a.size()[0])?);
        head.set(&name, &head.get(&name)?.f_add(&b.f_matmul(&a)?.f_mul_scalar(scale)?)?)?;
    }
    let named = carried.as_ref().map(|card| card.labels.clone());
    let labels = head::labels(options, named, classes, &mut notes)?;
    account.close()?;
    let name = config.base_model_name_or_path.unwrap_or_default();
    let card = card::taken_in(base, options, method, labels, None, &name, &notes, carried)?;
    let backbone = backbone.map(Delta::new);
    Ok(Imported { adapted: Adapted { backbone, modules: Some(modules), head, card }, notes })
}

/// B·A of one linear map, A: (rank, in) and B: (out, rank).
struct Update {
    a: Tensor,
    b: Tensor,
}

/// Our name for a tensor: without what PEFT wraps around it, with the family's prefix.
fn our_name(theirs: &str, whole: impl Fn(&str) -> String) -> Result<String> {
    let inner = theirs.strip_prefix(PREFIX);
    let inner =
        inner.with_context(|| format!("the tensor {theirs} does not begin with {PREFIX}: no adapter of PEFT"))?;
    let mut name = inner.to_string();
    for wrapper in WRAPPERS {
        name = name.replace(wrapper, ".");
    }
    // A state that was saved by hand keeps the adapter's name: `lora_A.default.weight`.
    for matrix in ["lora_A", "lora_B"] {
        if let Some((module, rest)) = name.split_once(&format!(".{matrix}.")) {
            let end = rest.rsplit('.').next().unwrap_or_default();
            name = format!("{module}.{matrix}.{end}");
        }
    }
    Ok(whole(&name))
}

/// What wrapped modules were before: of the encoder it must be what the base has, of the head it is nothing.
fn leave_originals_out(account: &mut Account, base: &Version, proof: &mut Proof) -> Result<()> {
    let originals: Vec<String> = account.names().filter(|name| name.contains(ORIGINAL)).map(String::from).collect();
    let mut of_head = Vec::new();
    for original in originals {
        let name = original.replace(ORIGINAL, ".");
        let Ok(ours) = base.backbone.get(&name) else {
            of_head.extend(account.take_where(|other| other == original));
            continue;
        };
        let theirs = account.take(&original, &ours.size())?.context("a tensor that is there")?;
        proof.same(&name, &theirs, &ours)?;
    }
    if !of_head.is_empty() {
        proof.notes.push(format!("what the head was before was left out ({})", few(&of_head)));
    }
    Ok(())
}

type Updates = BTreeMap<String, Update>;

/// The updates in the file, of the encoder and of the head. They must be those that the configuration asks for.
fn updates(account: &mut Account, config: &PeftConfig, encoder: &EncoderConfig) -> Result<(Updates, Updates)> {
    let modules: BTreeSet<String> =
        account.names().filter_map(|name| name.split_once(".lora_").map(|(module, _)| module.to_string())).collect();
    let strange: Vec<&str> =
        account.names().filter(|n| n.contains(".lora_") && !n.ends_with(LORA_A) && !n.ends_with(LORA_B)).collect();
    ensure!(
        strange.is_empty(),
        "{} holds {}: updates of embeddings, DoRA's magnitudes and biases of LoRA are not supported. Merge it in Python \
         (model.merge_and_unload()) and take in the model",
        account.source(),
        few(&strange)
    );
    let (maps, head_maps) = (architecture::map_shapes(encoder), architecture::head_map_shapes(encoder));
    for module in maps.keys() {
        ensure!(
            modules.contains(module) || !config.targets(module)?,
            "{} lacks the update of {module}, which target_modules names: it is not whole",
            account.source()
        );
    }
    let (mut of_encoder, mut of_head) = (Updates::new(), Updates::new());
    for module in modules {
        let (known, into) = match (maps.get(&module), head_maps.get(&module)) {
            (Some(shape), _) => (shape, &mut of_encoder),
            (None, Some(shape)) => (shape, &mut of_head),
            (None, None) => bail!("{} updates {module}, which is no linear map of this model", account.source()),
        };
        ensure!(
            config.targets(&module)?,
            "{} updates {module}, which target_modules does not name: file and configuration do not belong together",
            account.source()
        );
        let rank = config.rank(&module)?;
        let there = account.shape(&format!("{module}.{LORA_A}")).and_then(|shape| shape.first().copied());
        ensure!(
            there.is_none_or(|there| there == rank),
            "the update of {module} has the rank {}, adapter_config.json says {rank}",
            there.unwrap_or_default()
        );
        let [writes, reads] = *known;
        let mut matrix = |end: &str, shape: [i64; 2]| {
            let found = account.take(&format!("{module}.{end}"), &shape)?;
            found.with_context(|| format!("{} lacks {module}.{end}: it is not whole", account.source()))
        };
        into.insert(module.clone(), Update { a: matrix(LORA_A, [rank, reads])?, b: matrix(LORA_B, [writes, rank])? });
    }
    ensure!(!of_encoder.is_empty(), "{} updates no linear map of the encoder", account.source());
    Ok((of_encoder, of_head))
}

/// The same settings as this library has them. Targets keep their short names where these mean the same maps.
fn lora(config: &PeftConfig, updates: &Updates, encoder: &EncoderConfig) -> Result<LoraConfig> {
    let names: Vec<String> = updates.keys().cloned().collect();
    let mut lora = LoraConfig {
        rank: config.r,
        alpha: config.lora_alpha,
        targets: names.clone(),
        rslora: config.use_rslora,
        dropout: config.lora_dropout,
        bias: match config.bias.as_str() {
            "none" => LoraBias::None,
            "all" => LoraBias::All,
            "lora_only" => LoraBias::LoraOnly,
            other => bail!("bias is {other:?} in adapter_config.json: none, all and lora_only are known"),
        },
        ..LoraConfig::default()
    };
    for name in &names {
        let (rank, alpha) = (config.rank(name)?, config.alpha(name)?);
        if rank != config.r {
            lora.rank_pattern.insert(name.clone(), rank);
        }
        if alpha != config.lora_alpha {
            lora.alpha_pattern.insert(name.clone(), alpha);
        }
    }
    if let Some(super::config::Targets::Names(short)) = &config.target_modules {
        let maps = architecture::map_shapes(encoder);
        let mut short: Vec<String> = short.clone();
        short.sort();
        let shorter = LoraConfig { targets: short, ..lora.clone() };
        let chosen: Vec<String> = maps.into_keys().filter(|map| shorter.updates(map)).collect();
        let all_fit =
            shorter.targets.iter().all(|target| names.iter().any(|map| architecture::names_module(target, map)));
        if chosen == names && all_fit {
            lora = shorter;
        }
    }
    lora.modules_to_save = saved_modules(config, encoder);
    Ok(lora)
}

/// The parts of the encoder that were trained whole. PEFT takes every module whose name ends so, in the middle of a word, too.
fn saved_modules(config: &PeftConfig, encoder: &EncoderConfig) -> Vec<String> {
    let parameters: Vec<String> = architecture::backbone(encoder).into_iter().map(|spec| spec.name).collect();
    let holders =
        |name: &str| -> Vec<String> { name.match_indices('.').map(|(at, _)| name[..at].to_string()).collect() };
    let modules: BTreeSet<String> = parameters.iter().flat_map(|name| holders(name)).collect();
    let mut saved = Vec::new();
    for name in config.modules_to_save.iter().flatten() {
        let wrapped: Vec<&String> = modules.iter().filter(|module| module.ends_with(name.as_str())).collect();
        match wrapped.iter().all(|module| architecture::names_module(name, module)) {
            true if wrapped.is_empty() => {}
            true => saved.push(name.clone()),
            false => saved.extend(wrapped.into_iter().cloned()),
        }
    }
    saved
}

fn scale(config: &PeftConfig, module: &str, rank: i64) -> Result<f64> {
    let rank = rank as f64;
    Ok(config.alpha(module)? / if config.use_rslora { rank.sqrt() } else { rank })
}

/// Holds what an adapter says of its base against the base.
struct Proof<'a> {
    options: &'a ImportOptions,
    notes: &'a mut Vec<String>,
}

/// ‖difference‖ ÷ ‖parameter‖ that rounding to bfloat16 leaves at most.
const ROUNDED: f64 = 1.0 / 256.0;

impl Proof<'_> {
    /// Refuses a parameter that was not trained and is not what the base has, but for rounding.
    fn same(&mut self, name: &str, theirs: &Tensor, ours: &Tensor) -> Result<()> {
        let norm = |x: &Tensor| Ok::<_, anyhow::Error>(f64::try_from(x.f_norm()?)?);
        let (off, length) = (norm(&theirs.f_sub(ours)?)?, norm(ours)?);
        if off > ROUNDED * length {
            let problem = format!(
                "its {name}, which was not trained, lies {off:.3} from the base's, whose length is {length:.3}"
            );
            ensure!(self.options.force, "{problem}: it was not tuned from this base. Give that one, or force it");
            self.notes.push(format!("forced: {problem}"));
        }
        Ok(())
    }
}

/// What of the encoder was trained whole, as a difference to the base; nothing where nothing was. Parameters that the adapter holds without
/// having trained them must be those of the base.
fn moved(account: &mut Account, base: &Version, lora: &LoraConfig, proof: &mut Proof) -> Result<Option<Theta>> {
    let zeros = || Theta::zeros(base.backbone.layout().clone(), Device::Cpu);
    let mut difference = lora.moves_backbone().then(zeros).transpose()?;
    for entry in base.backbone.layout().entries() {
        let is_trained = lora.trains(&entry.name);
        match (account.take(&entry.name, &entry.shape)?, &mut difference) {
            (Some(value), Some(difference)) if is_trained => {
                difference.set(&entry.name, &value.f_sub(&base.backbone.view(&entry.name)?)?)?;
            }
            (Some(value), _) => proof.same(&entry.name, &value, &base.backbone.view(&entry.name)?)?,
            (None, _) => ensure!(
                !is_trained,
                "it lacks {}, which {} trains: it is not whole",
                entry.name,
                if lora.modules_to_save.is_empty() { "bias" } else { "bias or modules_to_save" }
            ),
        }
    }
    Ok(difference)
}
