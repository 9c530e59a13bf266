//! The network computes what `transformers` computes, on the committed golden folders (tests/parity/make_golden.py).

mod support;

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use recyclable::model::{Adapted, AdapterConfig, AdapterPosition, Card, LoraConfig, Method, Model, Version};
use recyclable::params::Theta;
use recyclable::stats::t_interval;
use recyclable::text::TokenBatch;
use recyclable::train::{Schedule, accuracy, macro_f1};
use serde_json::Value;
use support::{Golden, compare_gradients, golden, relative_error};
use tch::{Device, Kind, Tensor};

const CASES: [&str; 6] = ["odd", "one-type", "missing-fields", "decoder-bias", "lm-head-bias", "old-checkpoint"];

fn load(case: &str) -> Result<(Version, Golden)> {
    let version = Version::load(golden(case)).with_context(|| format!("the folder of case {case}"))?;
    Ok((version, Golden::load(golden(case).join("golden.safetensors"))?))
}

/// The batch `name` of a golden file and its mask.
fn tokens(golden: &Golden, name: &str) -> Result<TokenBatch> {
    let attention_mask = golden.find(&format!("{name}.attention_mask")).map(|mask| mask.to_kind(Kind::Bool));
    Ok(TokenBatch { input_ids: golden.get(&format!("{name}.input_ids"))?, attention_mask, token_types: None })
}

#[test]
fn hidden_states_scores_and_loss_of_a_masked_language_model_equal_those_of_transformers() -> Result<()> {
    for case in CASES {
        let (version, golden) = load(case)?;
        let model = Model::masked_lm(&version, Device::Cpu)?;
        for batch in ["padded", "full"] {
            let tokens = tokens(&golden, batch)?;
            let mask = tokens.attention_mask.as_ref();
            let states = model.hidden_states(&tokens)?;
            assert_eq!(states.len(), version.config.num_hidden_layers + 1);
            for (layer, state) in states.iter().enumerate() {
                golden.compare(&format!("{batch}.hidden.{layer}"), state, mask, 0.0)?;
            }
            let logits = model.mlm_logits(&tokens, None)?;
            golden.compare(&format!("{batch}.logits"), &logits, mask, 0.0)?;
            let loss = masked_lm_loss(&model, &golden, batch)?;
            golden.compare(&format!("{batch}.loss"), &loss, None, 0.0)?;
        }
        println!("{case}: {}", golden.worst());
    }
    Ok(())
}

/// Mean cross-entropy at the labelled positions, from logits computed there alone, as in training.
fn masked_lm_loss(model: &Model, golden: &Golden, batch: &str) -> Result<Tensor> {
    let labels = golden.get(&format!("{batch}.labels"))?.reshape([-1]);
    let positions = labels.ne(-100).nonzero().reshape([-1]);
    let logits = model.mlm_logits(&tokens(golden, batch)?, Some(&positions))?; // (m, vocabulary)
    Ok(logits.cross_entropy_for_logits(&labels.index_select(0, &positions)))
}

#[test]
fn every_gradient_of_the_masked_language_model_equals_that_of_transformers() -> Result<()> {
    for case in CASES {
        let (version, golden) = load(case)?;
        let model = Model::masked_lm(&version, Device::Cpu)?;
        for batch in ["padded", "full"] {
            if !golden.below(&format!("{batch}.grad")).is_empty() {
                let gradients = model.gradients(&masked_lm_loss(&model, &golden, batch)?)?;
                compare_gradients(&golden, &format!("{batch}.grad"), gradients)?;
            }
        }
        println!("{case}: {}", golden.worst());
    }
    Ok(())
}

/// The classifier of a golden folder: its encoder with the head that the golden file holds.
fn classifier(version: &Version, golden: &Golden) -> Result<Model> {
    let head = golden
        .below("classifier")
        .into_iter()
        .map(|name| Ok((name.clone(), golden.get(&format!("classifier/{name}"))?)));
    let card = Card {
        head: None,
        method: Method::Full,
        task: "golden".to_string(),
        labels: (0..5).map(|label| format!("label {label}")).collect(),
        base: version.fingerprint()?,
        base_layout: version.backbone.layout().fingerprint(),
        tokenizer: None,
        recipe: Value::Null,
        scores: BTreeMap::new(),
        ancestry: Vec::new(),
    };
    let head = Theta::from_named(head.collect::<Result<Vec<_>>>()?)?;
    Adapted { backbone: None, modules: None, head, card }.apply(version, Device::Cpu)
}

#[test]
fn class_scores_loss_and_gradients_of_a_classifier_equal_those_of_transformers() -> Result<()> {
    for case in CASES {
        let (version, golden) = load(case)?;
        let model = classifier(&version, &golden)?;
        for batch in ["padded", "full"] {
            let (tokens, rows) = (tokens(&golden, batch)?, golden.get(&format!("{batch}.class_rows"))?);
            let pick = |tensor: &Tensor| tensor.index_select(0, &rows);
            let tokens = TokenBatch {
                input_ids: pick(&tokens.input_ids),
                attention_mask: tokens.attention_mask.as_ref().map(pick),
                token_types: None,
            };
            let logits = model.logits(&tokens)?;
            golden.compare(&format!("{batch}.class_logits"), &logits, None, 0.0)?;
            let loss = logits.cross_entropy_for_logits(&golden.get(&format!("{batch}.class_labels"))?);
            golden.compare(&format!("{batch}.class_loss"), &loss, None, 0.0)?;
            if !golden.below(&format!("{batch}.class_grad")).is_empty() {
                compare_gradients(&golden, &format!("{batch}.class_grad"), model.gradients(&loss)?)?;
            }
        }
        println!("{case}: {}", golden.worst());
    }
    Ok(())
}

#[test]
fn attention_weights_equal_those_of_transformers_and_the_explicit_path_equals_the_fused_one() -> Result<()> {
    let mut largest = 0_f64;
    for case in CASES {
        let (version, golden) = load(case)?;
        let model = Model::masked_lm(&version, Device::Cpu)?;
        for batch in ["padded", "full"] {
            let tokens = tokens(&golden, batch)?;
            let fused = model.hidden_states(&tokens)?;
            let (explicit, weights) = model.attentions(&tokens)?;
            assert_eq!((explicit.len(), weights.len()), (fused.len(), fused.len() - 1));
            for (explicit, fused) in explicit.iter().zip(&fused) {
                let error = relative_error(explicit, fused, tokens.attention_mask.as_ref(), 1.0)?;
                largest = largest.max(error);
                ensure!(error <= 1e-5, "{case}, {batch}: the two attention paths differ by {error:.1e}");
            }
            for weights in &weights {
                let sums = weights.sum_dim_intlist(-1, false, Kind::Float);
                ensure!(
                    relative_error(&sums, &sums.ones_like(), None, 0.0)? < 1e-5,
                    "attention weights must sum to one"
                );
            }
            if golden.find(&format!("{batch}.attentions")).is_some() {
                let mut weights = Tensor::stack(&weights, 0); // (layers, b, heads, t, t)
                if let Some(mask) = &tokens.attention_mask {
                    let (b, t) = tokens.size();
                    weights *= mask.view([1, b, 1, t, 1]);
                }
                golden.compare(&format!("{batch}.attentions"), &weights, None, 0.0)?;
                println!("{case}, {batch}: {}", golden.worst());
            }
        }
    }
    ensure!(largest > 0.0, "two paths that agree to the bit are one path");
    println!("largest difference of the two paths {largest:.1e}");
    Ok(())
}

/// Our name of a module's tensor, from that in the golden file (`layer.0.attention.down.weight`, `layer.0.query.a`).
fn module_name(method: &str, golden: &str) -> Result<String> {
    let parts: Vec<&str> = golden.split('.').collect();
    let prefix = format!("roberta.encoder.layer.{}", parts[1]);
    Ok(match (method, parts[2], &parts[3..]) {
        ("lora", place, ["a"]) => format!("{prefix}.attention.self.{place}.lora_A.weight"),
        ("lora", place, ["b"]) => format!("{prefix}.attention.self.{place}.lora_B.weight"),
        ("adapter-post", place, [map, kind]) => format!("{prefix}.{place}.adapter.{map}_proj.{kind}"),
        ("adapter-inner", "attention", [map, kind]) => {
            format!("{prefix}.attention.output.dense.adapter.{map}_proj.{kind}")
        }
        ("adapter-inner", place, [map, kind]) => format!("{prefix}.{place}.dense.adapter.{map}_proj.{kind}"),
        _ => anyhow::bail!("no such module: {golden}"),
    })
}

#[test]
fn adapters_in_both_positions_and_lora_equal_modules_put_into_transformers_by_hand() -> Result<()> {
    let adapter = |position| Method::Adapter(AdapterConfig { bottleneck: 5, position, ..Default::default() });
    let methods = [
        ("adapter-post", adapter(AdapterPosition::AfterSublayer)),
        ("adapter-inner", adapter(AdapterPosition::InSublayer)),
        ("lora", Method::Lora(LoraConfig { rank: 4, alpha: 6.0, ..Default::default() })),
    ];
    let version = Version::load(golden("odd"))?;
    let labels: Vec<String> = ["one", "two"].map(String::from).to_vec();
    for (name, method) in methods {
        let golden = Golden::load(golden(&format!("adapted/{name}.safetensors")))?;
        let fresh = Model::classifier(&version, &labels, &method, 0, Device::Cpu)?;
        let mut modules = fresh.modules().context("a method with modules")?.try_clone()?;
        let stored = golden.below("modules");
        assert_eq!(stored.len(), modules.layout().entries().len(), "{name}: as many tensors here as there");
        for stored in &stored {
            modules.set(&module_name(name, stored)?, &golden.get(&format!("modules/{stored}"))?)?;
        }
        let mut adapted = Adapted::of(&fresh, &version, "golden", Value::Null)?;
        adapted.modules = Some(modules);
        let model = adapted.apply(&version, Device::Cpu)?;

        let mask = golden.get("attention_mask")?.to_kind(Kind::Bool);
        let tokens = TokenBatch {
            input_ids: golden.get("input_ids")?,
            attention_mask: Some(mask.shallow_clone()),
            token_types: None,
        };
        let states = model.hidden_states(&tokens)?;
        for (layer, state) in states.iter().enumerate() {
            golden.compare(&format!("hidden.{layer}"), state, Some(&mask), 0.0)?;
        }
        let last = states.last().context("states")?;
        let loss = (last * mask.unsqueeze(-1) * golden.get("probe")?).sum(Kind::Float);
        let gradients: BTreeMap<String, Tensor> = model.gradients(&loss)?.into_iter().collect();
        for stored in &stored {
            let gradient = gradients.get(&module_name(name, stored)?).context("a module is not trained")?;
            golden.compare(&format!("grad/{stored}"), gradient, None, 1e-2)?;
        }
        let others: Vec<_> =
            gradients.keys().filter(|name| !name.contains("adapter") && !name.contains("lora")).collect();
        assert!(others.iter().all(|name| name.starts_with("classifier.")), "the backbone must be frozen: {others:?}");
        println!("{name}: {}", golden.worst());
    }
    Ok(())
}

#[test]
fn the_golden_files_notice_another_epsilon_and_positions_counted_from_elsewhere() -> Result<()> {
    let notices = |case: &str, change: fn(&mut Version)| -> Result<bool> {
        let (mut version, golden) = load(case)?;
        change(&mut version);
        let logits = Model::masked_lm(&version, Device::Cpu)?.mlm_logits(&tokens(&golden, "padded")?, None)?;
        let mask = golden.get("padded.attention_mask")?;
        Ok(relative_error(&logits, &golden.get("padded.logits")?, Some(&mask), 0.0)? > 1e-2)
    };
    ensure!(notices("missing-fields", |version| version.config.layer_norm_eps = 1e-5)?, "roberta-base's epsilon");
    ensure!(notices("one-type", |version| version.config.layer_norm_eps = 1e-2)?, "a coarse epsilon");
    ensure!(notices("odd", |version| version.config.pad_token_id = 0)?, "positions from 1 on");
    Ok(())
}

#[test]
fn accuracy_and_macro_f1_equal_scikit_learn_where_classes_are_absent_too() -> Result<()> {
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(golden("metrics.json"))?)?;
    ensure!(cases.len() >= 15);
    for case in cases {
        let numbers = |key: &str| serde_json::from_value::<Vec<usize>>(case[key].clone());
        let (truth, predicted) = (numbers("truth")?, numbers("predicted")?);
        for (name, ours) in [("accuracy", accuracy(&truth, &predicted)), ("macro_f1", macro_f1(&truth, &predicted))] {
            let theirs = case[name].as_f64().context("a number")?;
            ensure!((ours - theirs).abs() < 1e-12, "{}: {name} is {ours}, scikit-learn says {theirs}", case["case"]);
        }
    }
    Ok(())
}

#[test]
fn intervals_of_a_mean_equal_those_of_scipy() -> Result<()> {
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(golden("intervals.json"))?)?;
    ensure!(cases.len() >= 12);
    for case in cases {
        let values: Vec<f64> = serde_json::from_value(case["values"].clone())?;
        let interval = t_interval(&values)?;
        let [lo, hi] = interval.bounds().context("bounds")?;
        for (name, ours) in [("mean", interval.mean), ("lo", lo), ("hi", hi)] {
            let theirs = case[name].as_f64().context("a number")?;
            ensure!(
                (ours - theirs).abs() < 1e-10 * theirs.abs().max(1.0),
                "{values:?}: {name} {ours}, SciPy: {theirs}"
            );
        }
    }
    Ok(())
}

#[test]
fn the_linear_schedule_equals_get_linear_schedule_with_warmup() -> Result<()> {
    let golden = Golden::load(golden("optim.safetensors"))?;
    for (warmup, steps) in [(0, 10), (3, 10), (10, 10), (5, 40)] {
        let ours: Vec<f64> = (0..steps).map(|step| Schedule::Linear.factor(step, warmup, steps)).collect();
        golden.compare_within(&format!("schedule.{warmup}.{steps}"), &Tensor::from_slice(&ours), None, 1.0, 1e-12)?;
    }
    Ok(())
}
