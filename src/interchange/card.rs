//! What weights of other tools say of their base, and the card of what is taken in.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::account::Account;
use super::options::ImportOptions;
use crate::model::{Card, HeadShape, Method, Version};
use crate::text::Tokenizer;

/// The metadata key under which exported weights keep their card.
pub(super) const KEY: &str = "recyclable";

/// What a folder of adapters proves of its base: the tokenizer beside it, where there is one, and the card of what was exported from here,
/// which comes back. Where there is no card, a note says so, with the name that the folder has for the base.
pub(super) fn evidence(
    folder: &Path,
    account: &Account,
    base: &Version,
    named: Option<&str>,
    options: &ImportOptions,
    notes: &mut Vec<String>,
) -> Result<Option<Card>> {
    if folder.join("tokenizer.json").is_file() {
        check_tokenizer(&Tokenizer::load(folder.join("tokenizer.json"))?, base, options, notes)?;
    }
    let Some(text) = account.metadata(KEY) else {
        let name = named.unwrap_or("no name");
        notes.push(format!(
            "nothing in the folder proves which base it was tuned on ({name}): names and shapes fit this one"
        ));
        return Ok(None);
    };
    let card: Card = serde_json::from_str(text).context("the card in its metadata is broken")?;
    let fingerprint = base.fingerprint()?;
    if card.base != fingerprint {
        let problem = format!("it was tuned on the base {}, this one is {fingerprint}", card.base);
        ensure!(options.force, "{problem}: give that base, apply the weights there, or force it");
        notes.push(format!("forced: {problem}"));
    }
    Ok(Some(card))
}

/// Refuses weights whose tokenizer is not the base's.
pub(super) fn check_tokenizer(
    tokenizer: &Tokenizer,
    base: &Version,
    options: &ImportOptions,
    notes: &mut Vec<String>,
) -> Result<()> {
    let (there, here) = (tokenizer.fingerprint()?, base.tokenizer.fingerprint()?);
    if there != here {
        let problem = format!(
            "the tokenizer beside it (fingerprint {there}) is not that of the base ({here}), to which token ids mean other words"
        );
        ensure!(options.force, "{problem}: give the base it was tuned from, or force it");
        notes.push(format!("forced: {problem}"));
    }
    Ok(())
}

/// The card of what was taken in from a folder of adapters: of what was exported from here, scores, recipe and ancestry are kept.
#[allow(clippy::too_many_arguments, reason = "what a card says, and what it said before")]
pub(super) fn taken_in(
    base: &Version,
    options: &ImportOptions,
    method: Method,
    labels: Vec<String>,
    head: Option<HeadShape>,
    named: &str,
    notes: &[String],
    carried: Option<Card>,
) -> Result<Card> {
    method.validate()?;
    let before = carried.as_ref().map_or(Value::Null, |card| card.recipe.clone());
    // How it was tuned says how long its texts were.
    let tune = before.get("tune").cloned();
    let mut recipe = json!({ "base": named, "notes": notes });
    if !before.is_null() {
        recipe["before"] = before;
    }
    let mut card = Card::new(base, &options.task, method, labels, head, recipe)?;
    if let Some(carried) = carried {
        (card.scores, card.ancestry) = (carried.scores, carried.ancestry);
    }
    if let Some(tune) = tune {
        card.recipe["tune"] = tune;
    }
    Ok(card)
}
