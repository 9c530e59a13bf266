//! The card of weights that were taken in, and the one that exported weights carry with them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::account::Account;
use super::options::ImportOptions;
use crate::model::{Card, HeadShape, Method, Version};

/// The metadata key under which exported weights keep their card.
pub(super) const KEY: &str = "recyclable";

/// The card of what was taken in.
pub(super) fn new(
    base: &Version,
    task: &str,
    method: Method,
    labels: Vec<String>,
    head: Option<HeadShape>,
    recipe: Value,
) -> Result<Card> {
    Ok(Card {
        method,
        task: task.to_string(),
        labels,
        head,
        base: base.fingerprint()?,
        base_layout: base.backbone.layout().fingerprint(),
        tokenizer: Some(base.tokenizer.fingerprint()?),
        recipe,
        scores: BTreeMap::new(),
        ancestry: Vec::new(),
    })
}

/// The card that a file carries, which was exported from here; another base than it names is refused.
pub(super) fn carried(
    account: &Account,
    base: &Version,
    options: &ImportOptions,
    notes: &mut Vec<String>,
) -> Result<Option<Card>> {
    let Some(text) = account.metadata(KEY) else { return Ok(None) };
    let card: Card = serde_json::from_str(text).context("the card in its metadata is broken")?;
    let fingerprint = base.fingerprint()?;
    if card.base != fingerprint {
        let problem = format!("it was tuned on the base {}, this one is {fingerprint}", card.base);
        ensure!(options.force, "{problem}: give that base, apply the weights there, or force it");
        notes.push(format!("forced: {problem}"));
    }
    Ok(Some(card))
}
