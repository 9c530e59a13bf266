//! Classification heads of other tools.

use std::sync::Arc;

use anyhow::{Result, ensure};
use tch::{Device, Tensor};

use super::account::Account;
use super::options::ImportOptions;
use crate::model::{EncoderConfig, Version, architecture};
use crate::params::Theta;

/// The classes, in the order of the head's scores: as the folder names them, or the caller where it does not, or by number.
///
/// Errors where folder and caller contradict each other, or the head.
pub(super) fn labels(
    options: &ImportOptions,
    named: Option<Vec<String>>,
    classes: i64,
    notes: &mut Vec<String>,
) -> Result<Vec<String>> {
    let numbered: Vec<String> = (0..classes).map(|class| format!("LABEL_{class}")).collect();
    let named = named.filter(|labels| *labels != numbered);
    let labels = match (&options.labels, named) {
        (Some(given), Some(named)) => {
            ensure!(
                *given == named,
                "the folder calls its classes {}, in this order; the labels that are given are {}",
                named.join(", "),
                given.join(", ")
            );
            named
        }
        (Some(given), None) => given.clone(),
        (None, Some(named)) => named,
        (None, None) => {
            notes.push(format!("nothing says what the {classes} classes are called: they are LABEL_0, LABEL_1, …"));
            numbered
        }
    };
    ensure!(
        labels.len() as i64 == classes,
        "the head scores {classes} classes, but there are {} labels: {}",
        labels.len(),
        labels.join(", ")
    );
    let unique: std::collections::BTreeSet<&String> = labels.iter().collect();
    ensure!(unique.len() == labels.len(), "a label stands there twice: {}", labels.join(", "));
    ensure!(classes >= 2, "the head scores {classes} class: a classifier needs at least two");
    Ok(labels)
}

/// How many classes a head scores, by the bias of its last map.
pub(super) fn classes(config: &EncoderConfig, account: &Account) -> Option<i64> {
    account.shape(&format!("{}.bias", architecture::scores(config)))?.first().copied()
}

/// The head, whose tensors bear our names. What the file lacks is `absent`'s.
///
/// Errors name what is missing all the same, and `remedy` says what to do.
pub(super) fn head(
    account: &mut Account,
    config: &EncoderConfig,
    classes: i64,
    remedy: &str,
    absent: impl Fn(&str) -> Option<Tensor>,
) -> Result<Theta> {
    let specs = architecture::classifier(config, classes as usize);
    let mut head = Theta::zeros(Arc::new(architecture::layout(config, &specs)?), Device::Cpu)?;
    let mut missing = Vec::new();
    for spec in &specs {
        match account.take(&spec.name, &spec.shape(config))?.or_else(|| absent(&spec.name)) {
            Some(value) => head.set(&spec.name, &value)?,
            None => missing.push(spec.name.as_str()),
        }
    }
    ensure!(missing.is_empty(), "{} lacks {} of the head: {remedy}", account.source(), missing.join(", "));
    Ok(head)
}

/// What the base's pooler has under a name: tools that leave the pooler as it was do not save it.
pub(super) fn of_pooler(base: &Version) -> impl Fn(&str) -> Option<Tensor> {
    |name| base.pooler.as_ref().and_then(|pooler| pooler.get(name).ok())
}
