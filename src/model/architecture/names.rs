//! Which tensor of a file is which of a model's, whatever wrote the file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Result, ensure};

use super::super::EncoderConfig;
use super::{TensorSpec, tensors};
use crate::params::Stored;

/// What torch.compile and data parallelism put before names.
const WRAPPERS: [&str; 2] = ["_orig_mod", "module"];
/// What LayerNorm's scale and bias were called in old checkpoints, and are called now.
const OLD_NAMES: [(&str, &str); 2] = [(".gamma", ".weight"), (".beta", ".bias")];
/// Buffers that older releases stored: they follow from the configuration.
const BUFFERS: [&str; 2] = [".position_ids", ".token_type_ids"];

/// What may stand on an encoder of these families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OtherHead {
    MaskedLm,
    Classifier,
    Pooler,
    NextSentence,
    QuestionAnswering,
}

impl fmt::Display for OtherHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OtherHead::MaskedLm => "masked-LM head",
            OtherHead::Classifier => "classification head",
            OtherHead::Pooler => "pooler",
            OtherHead::NextSentence => "next-sentence head",
            OtherHead::QuestionAnswering => "question-answering head",
        })
    }
}

/// What an encoder's tensors are called.
struct Known {
    names: BTreeSet<String>,
    prefix: &'static str,
    layers: String,
}

impl Known {
    fn of(config: &EncoderConfig) -> Known {
        let (family, specs) = (config.architecture(), [tensors::backbone(config), tensors::pooler(config)].concat());
        let names = specs.into_iter().map(|spec| spec.name).collect();
        Known { names, prefix: family.prefix, layers: format!("{}.", family.layers) }
    }

    /// A name with the family's prefix, where it is one of the encoder's that lacks it.
    fn whole(&self, name: &str) -> String {
        let prefixed = format!("{}.{name}", self.prefix);
        if name.starts_with(&self.layers) || self.names.contains(&prefixed) { prefixed } else { name.to_string() }
    }
}

/// Gives names the family's prefix, where they are of the encoder and lack it: tools that were given a bare encoder know of none.
pub(crate) fn whole_names(config: &EncoderConfig) -> impl Fn(&str) -> String + use<> {
    let known = Known::of(config);
    move |name| known.whole(name)
}

/// The tensors of a file by our names for them.
#[derive(Debug, Default)]
pub(crate) struct Named {
    /// Ours, and the file's.
    names: BTreeMap<String, String>,
    /// Whether the encoder's names in the file have the family's prefix.
    has_prefix: bool,
}

impl Named {
    /// Reads names alone. Whatever wraps a name is taken off it, the prefix of a bare encoder is put before it, and of tensors that are
    /// one (the decoder and the word embeddings, its bias under two names) one is kept.
    ///
    /// Errors where two tensors have one name, or where tensors differ that should be one.
    pub fn of(config: &EncoderConfig, stored: &Stored) -> Result<Named> {
        let family = config.architecture();
        let known = Known::of(config);
        let (mut names, mut has_prefix) = (BTreeMap::new(), false);
        for theirs in stored.tensors().keys() {
            let mut ours = unwrapped(theirs);
            if let Some((old, new)) = OLD_NAMES.iter().find(|(old, _)| ours.ends_with(old)) {
                ours = format!("{}{new}", &ours[..ours.len() - old.len()]);
            }
            has_prefix |= known.names.contains(&ours);
            ours = known.whole(&ours);
            if BUFFERS.iter().any(|buffer| ours.ends_with(buffer)) {
                continue;
            }
            if let Some(other) = names.insert(ours.clone(), theirs.clone()) {
                anyhow::bail!("{} holds {ours} twice, as {other} and as {theirs}", stored.source().display());
            }
        }
        let mut named = Named { names, has_prefix };
        let (words, decoder) = (family.embedding(family.embeddings.words), family.masked_lm.decoder);
        named.tie(&format!("{words}.weight"), &format!("{decoder}.weight"), stored)?;
        named.tie(family.masked_lm.bias, &format!("{decoder}.bias"), stored)?;
        Ok(named)
    }

    /// Two names of one parameter become the first.
    fn tie(&mut self, kept: &str, other: &str, stored: &Stored) -> Result<()> {
        if kept == other {
            return Ok(());
        }
        let Some(second) = self.names.remove(other) else { return Ok(()) };
        if let Some(first) = self.names.get(kept) {
            ensure!(
                stored.same(first, &second)?,
                "{first} and {second} in {} differ, but here they are one parameter: models whose decoder is not tied to the word \
                 embeddings are not supported",
                stored.source().display()
            );
            return Ok(());
        }
        self.names.insert(kept.to_string(), second);
        Ok(())
    }

    /// The file's name for a tensor of ours.
    pub fn find(&self, ours: &str) -> Option<&str> {
        self.names.get(ours).map(String::as_str)
    }

    /// Takes these out.
    pub fn take(&mut self, specs: &[TensorSpec]) -> BTreeMap<String, String> {
        let taken = specs.iter().filter_map(|spec| self.names.remove_entry(&spec.name));
        taken.collect()
    }

    /// Takes out whatever belongs to heads other than the `wanted`: how many tensors of each.
    pub fn take_others(&mut self, config: &EncoderConfig, wanted: OtherHead) -> Vec<(OtherHead, usize)> {
        let family = config.architecture();
        let (mlm, classifier) = (&family.masked_lm, &family.classifier);
        let bias = mlm.bias.trim_end_matches(".bias");
        let others = [
            (OtherHead::MaskedLm, vec![mlm.dense, mlm.norm, mlm.decoder, bias]),
            (OtherHead::Classifier, vec![classifier.dense, classifier.out]),
            (OtherHead::Pooler, vec!["pooler"]),
            (OtherHead::NextSentence, vec!["cls.seq_relationship"]),
            (OtherHead::QuestionAnswering, vec!["qa_outputs"]),
        ];
        let mut taken = Vec::new();
        for (other, modules) in others.into_iter().filter(|(other, _)| *other != wanted) {
            let before = self.names.len();
            let belongs = |name: &str| {
                let name = name.strip_prefix(family.prefix).and_then(|name| name.strip_prefix('.')).unwrap_or(name);
                modules.iter().any(|module| name.strip_prefix(module).is_some_and(|rest| rest.starts_with('.')))
            };
            self.names.retain(|name, _| !belongs(name));
            if self.names.len() < before {
                taken.push((other, before - self.names.len()));
            }
        }
        taken
    }

    /// Takes out what lies outside of the encoder, in a file whose encoder has its prefix: heads that nothing is known of. In a file of bare
    /// names nobody can tell where they belong. Returns the file's names.
    pub fn take_outside(&mut self, config: &EncoderConfig) -> Vec<String> {
        let inside = format!("{}.", config.architecture().prefix);
        if !self.has_prefix {
            return Vec::new();
        }
        let (kept, outside) =
            std::mem::take(&mut self.names).into_iter().partition(|(name, _)| name.starts_with(&inside));
        self.names = kept;
        let outside: BTreeMap<String, String> = outside;
        outside.into_values().collect()
    }

    /// What nothing was taken for, as the file calls it.
    pub fn rest(self) -> Vec<String> {
        self.names.into_values().collect()
    }
}

/// A name without what wraps it.
fn unwrapped(name: &str) -> String {
    let mut inner = name;
    while let Some((_, rest)) = inner.split_once('.').filter(|(first, _)| WRAPPERS.contains(first)) {
        inner = rest;
    }
    inner.split('.').filter(|word| *word != WRAPPERS[0]).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_are_taken_off_wherever_they_are() {
        for wrapped in ["a.b", "_orig_mod.a.b", "module.a.b", "module._orig_mod.module.a.b", "a._orig_mod.b"] {
            assert_eq!(unwrapped(wrapped), "a.b");
        }
        assert_eq!(unwrapped("a.module.b"), "a.module.b");
    }
}
