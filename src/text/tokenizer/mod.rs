//! Tokenizers: trained here (byte-level BPE), listed (one word, one token), or loaded from a Hugging Face folder.

mod folder;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::utils::truncation::{TruncationDirection, TruncationParams, TruncationStrategy, truncate_encodings};
use tokenizers::{AddedToken, PaddingParams, PostProcessor};

use crate::files::write_atomic;

/// Special tokens in the order of their ids in a tokenizer made here, as in `roberta-base` (whose `<mask>` comes last).
const SPECIALS: [&str; 5] = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"];

/// Ids of the five special tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Specials {
    /// `<s>` or `[CLS]`, the first token of every sequence; classifiers read it.
    pub bos: i64,
    /// `<pad>` or `[PAD]`, which fills short sequences.
    pub pad: i64,
    /// `</s>` or `[SEP]`, the last token of every sequence.
    pub eos: i64,
    /// `<unk>` or `[UNK]`, for what the vocabulary does not cover.
    pub unk: i64,
    /// `<mask>` or `[MASK]`, which hides a token from the masked language model.
    pub mask: i64,
}

/// One encoded text (or pair), special tokens included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Encoding {
    /// Token ids, at most as many as asked for.
    pub ids: Vec<i64>,
    /// At which token the second text begins, where the tokenizer gives it a type of its own, as BERT's does.
    pub second: Option<usize>,
    /// Whether something was cut off to get there.
    pub truncated: bool,
}

/// A tokenizer with the framing of its family: RoBERTa's `<s> a </s>`, and for a pair `<s> a </s></s> b </s>`; BERT's `[CLS] a [SEP]`,
/// and for a pair `[CLS] a [SEP] b [SEP]`, of which `b [SEP]` is of another type.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    specials: Specials,
    special_ids: Vec<i64>,
    cut_at: TruncationDirection,
    fingerprint: Arc<OnceLock<String>>,
}

impl Tokenizer {
    /// Trains byte-level BPE on `documents`, as RoBERTa's: 256 bytes, five specials (`<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3,
    /// `<mask>` 4) and merges of pairs seen at least twice, until `vocab_size` tokens are reached or pairs run out.
    ///
    /// # Errors
    /// When there is no text, or `vocab_size` is too small for bytes and specials.
    pub fn train_bpe<'a>(documents: impl IntoIterator<Item = &'a str>, vocab_size: usize) -> Result<Self> {
        let smallest = 256 + SPECIALS.len();
        ensure!(
            vocab_size >= smallest,
            "a byte-level vocabulary needs at least {smallest} tokens (256 bytes and {} specials), {vocab_size} were asked for",
            SPECIALS.len()
        );
        let mut inner = tokenizers::Tokenizer::new(BPE::default());
        inner.with_pre_tokenizer(Some(ByteLevel::default().add_prefix_space(false)));
        inner.with_decoder(Some(ByteLevel::default()));
        let mut seen = false;
        let documents: Vec<&str> = documents.into_iter().inspect(|text| seen |= !text.trim().is_empty()).collect();
        ensure!(seen, "cannot train a tokenizer on no text: the corpus is empty");
        let trainer = BpeTrainer::builder()
            .vocab_size(vocab_size)
            .min_frequency(2)
            .show_progress(false)
            .special_tokens(special_tokens())
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        inner
            .train(&mut TrainerWrapper::from(trainer), documents.into_iter())
            .map_err(|error| anyhow!("training the tokenizer failed: {error}"))?;
        inner.with_post_processor(Some(framing().trim_offsets(true)));
        Self::from_inner(inner)
    }

    /// One token a word: the specials 0–4, then `words` in their order. Texts are split at white space.
    ///
    /// # Errors
    /// On a word that is empty, contains white space, is a special token or stands twice.
    pub fn word_level<S: AsRef<str>>(words: &[S]) -> Result<Self> {
        let mut ids: std::collections::HashMap<String, u32> =
            SPECIALS.iter().zip(0..).map(|(token, id)| (token.to_string(), id)).collect();
        for (word, id) in words.iter().map(AsRef::as_ref).zip(SPECIALS.len() as u32..) {
            ensure!(!word.is_empty() && !word.contains(char::is_whitespace), "{word:?} is no single word");
            ensure!(ids.insert(word.to_string(), id).is_none(), "the word {word:?} stands in the vocabulary twice");
        }
        let model = WordLevel::builder()
            .vocab(ids.into_iter().collect())
            .unk_token("<unk>".to_string())
            .build()
            .map_err(|error| anyhow!("building the word list failed: {error}"))?;
        let mut inner = tokenizers::Tokenizer::new(model);
        inner.with_pre_tokenizer(Some(WhitespaceSplit));
        inner.add_special_tokens(&special_tokens());
        inner.with_post_processor(Some(framing().trim_offsets(false)));
        Self::from_inner(inner)
    }

    /// Loads a `tokenizer.json`; truncation and padding set in it are dropped, since length is the caller's business here.
    ///
    /// Special tokens are found by their text: `<s>`, `</s>`, `<pad>`, `<mask>`, `<unk>`, else BERT's `[CLS]`, `[SEP]`, …
    ///
    /// # Errors
    /// Names the file, and which special token or frame is missing.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).with_context(|| format!("cannot read the tokenizer {}", path.display()))?;
        Self::from_json(&bytes).with_context(|| format!("{} is not a usable tokenizer.json", path.display()))
    }

    /// As [`Tokenizer::load`], from the bytes of a `tokenizer.json`.
    pub fn from_json(json: impl AsRef<[u8]>) -> Result<Self> {
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(|error| anyhow!("{error}"))?;
        inner.with_truncation(None).map_err(|error| anyhow!("{error}"))?;
        inner.with_padding(None::<PaddingParams>);
        Self::from_inner(inner)
    }

    /// What tells this tokenizer from others: a hash of its `tokenizer.json` and of the end at which it cuts, 16 hex digits. Equal fingerprints give equal ids.
    pub fn fingerprint(&self) -> Result<String> {
        if let Some(known) = self.fingerprint.get() {
            return Ok(known.clone());
        }
        let hash = Sha256::digest(format!("{}{}", self.to_json()?, self.cut_at.as_ref()));
        let fingerprint: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(self.fingerprint.get_or_init(|| fingerprint).clone())
    }

    /// Writes `tokenizer.json`, which `transformers.PreTrainedTokenizerFast` loads too.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        write_atomic(path, self.to_json()?.as_bytes())
    }

    /// The contents of `tokenizer.json`; equal tokenizers give equal bytes.
    pub fn to_json(&self) -> Result<String> {
        self.inner.to_string(true).map_err(|error| anyhow!("cannot encode the tokenizer: {error}"))
    }

    /// The contents of a `tokenizer_config.json` beside it, from which `transformers` learns the special tokens, and whether the model
    /// reads token types.
    pub fn config_json(&self, model_max_length: usize, token_types: bool) -> serde_json::Value {
        let inputs: &[&str] = if token_types {
            &["input_ids", "token_type_ids", "attention_mask"]
        } else {
            &["input_ids", "attention_mask"]
        };
        let token = |id: i64| self.token(id).unwrap_or_default();
        serde_json::json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": model_max_length,
            "bos_token": token(self.specials.bos), "cls_token": token(self.specials.bos),
            "eos_token": token(self.specials.eos), "sep_token": token(self.specials.eos),
            "pad_token": token(self.specials.pad), "unk_token": token(self.specials.unk),
            "mask_token": token(self.specials.mask),
            "model_input_names": inputs,
            "truncation_side": self.cut_at.as_ref(),
        })
    }

    /// Encodes one text or a pair, framed by special tokens, in at most `max_len` tokens; the longer of a pair is cut first.
    pub fn encode(&self, text: &str, pair: Option<&str>, max_len: usize) -> Result<Encoding> {
        let added = self.inner.get_post_processor().map_or(0, |frame| frame.added_tokens(pair.is_some()));
        ensure!(
            max_len > added + usize::from(pair.is_some()),
            "a length of {max_len} leaves no room for text beside {added} special tokens"
        );
        let failed = |error: tokenizers::Error| anyhow!("cannot encode {:?}: {error}", excerpt(text));
        let first = self.inner.encode_fast(text, false).map_err(failed)?;
        let second = pair.map(|pair| self.inner.encode_fast(pair, false).map_err(failed)).transpose()?;
        let full = first.len() + second.as_ref().map_or(0, tokenizers::Encoding::len);
        let limit = TruncationParams {
            max_length: max_len - added,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
            direction: self.cut_at,
        };
        let truncated = full > limit.max_length;
        let (first, second) = truncate_encodings(first, second, &limit).map_err(failed)?;
        let framed = self.inner.post_process(first, second, true).map_err(failed)?;
        let second = framed.get_type_ids().iter().position(|&kind| kind != 0);
        Ok(Encoding { ids: framed.get_ids().iter().map(|&id| i64::from(id)).collect(), second, truncated })
    }

    /// The ids of `text` alone: no special tokens around it, nothing cut.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<i64>> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|error| anyhow!("cannot encode {:?}: {error}", excerpt(text)))?;
        Ok(encoding.get_ids().iter().map(|&id| i64::from(id)).collect())
    }

    /// The text of `ids`; special tokens are left out.
    pub fn decode(&self, ids: &[i64]) -> Result<String> {
        let ids = ids
            .iter()
            .map(|&id| u32::try_from(id).map_err(|_| anyhow!("{id} is no token id")))
            .collect::<Result<Vec<_>>>()?;
        self.inner.decode(&ids, true).map_err(|error| anyhow!("cannot decode: {error}"))
    }

    /// The token with this id, as the vocabulary spells it.
    pub fn token(&self, id: i64) -> Option<String> {
        self.inner.id_to_token(u32::try_from(id).ok()?)
    }

    /// The largest id plus one, added tokens included: the rows that a model's embedding must have at least.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1)
    }

    /// Ids of the five special tokens.
    pub fn specials(&self) -> Specials {
        self.specials
    }

    /// All ids that are special (the five, and whatever else a loaded tokenizer flags so), ascending.
    pub fn special_ids(&self) -> &[i64] {
        &self.special_ids
    }

    /// Id of `<pad>`.
    pub fn pad_id(&self) -> i64 {
        self.specials.pad
    }

    /// Id of `<s>`.
    pub fn bos_id(&self) -> i64 {
        self.specials.bos
    }

    /// Id of `</s>`.
    pub fn eos_id(&self) -> i64 {
        self.specials.eos
    }

    /// Id of `<mask>`.
    pub fn mask_id(&self) -> i64 {
        self.specials.mask
    }

    /// Id of `<unk>`.
    pub fn unk_id(&self) -> i64 {
        self.specials.unk
    }

    fn from_inner(inner: tokenizers::Tokenizer) -> Result<Self> {
        Self::with_named(inner, &|_| None)
    }

    /// The special tokens are those `named`, by their keys in `tokenizer_config.json`, else known by their text.
    fn with_named(inner: tokenizers::Tokenizer, named: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let find = |key: &str, names: [&str; 2]| {
            if let Some(name) = named(key) {
                let id = inner.token_to_id(&name).map(i64::from);
                return id.with_context(|| {
                    format!("{key} is {name:?}, which is not in the vocabulary: the files do not belong together")
                });
            }
            let id = names.iter().find_map(|name| inner.token_to_id(name));
            id.map(i64::from).with_context(|| {
                format!("the tokenizer has no special token {} (nor {}): add it to its vocabulary", names[0], names[1])
            })
        };
        let specials = Specials {
            bos: find("cls_token", ["<s>", "[CLS]"])?,
            eos: find("sep_token", ["</s>", "[SEP]"])?,
            pad: find("pad_token", ["<pad>", "[PAD]"])?,
            mask: find("mask_token", ["<mask>", "[MASK]"])?,
            unk: find("unk_token", ["<unk>", "[UNK]"])?,
        };
        let flagged = inner.get_added_tokens_decoder();
        let mut special_ids: Vec<i64> =
            flagged.iter().filter(|(_, token)| token.special).map(|(&id, _)| i64::from(id)).collect();
        special_ids.extend([specials.bos, specials.eos, specials.pad, specials.mask, specials.unk]);
        special_ids.sort_unstable();
        special_ids.dedup();
        let (cut_at, fingerprint) = (TruncationDirection::Right, Arc::default());
        let tokenizer = Self { inner, specials, special_ids, cut_at, fingerprint };
        let framed = tokenizer.encode("a", None, 16)?.ids;
        if framed.first() != Some(&specials.bos) || framed.last() != Some(&specials.eos) {
            bail!(
                "the tokenizer does not put {} before and {} after a text: give it a post-processor that does",
                tokenizer.token(specials.bos).unwrap_or_default(),
                tokenizer.token(specials.eos).unwrap_or_default()
            );
        }
        Ok(tokenizer)
    }
}

fn special_tokens() -> Vec<AddedToken> {
    SPECIALS.iter().map(|&token| AddedToken::from(token, true)).collect()
}

fn framing() -> RobertaProcessing {
    RobertaProcessing::new(("</s>".to_string(), 2), ("<s>".to_string(), 0)).add_prefix_space(false)
}

fn excerpt(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 4] =
        ["the cell divides, the cell grows", "the naïve café — 細胞 🧬", "the cell and the cell", "grows and divides"];

    #[test]
    fn bytes_make_every_text_come_back_as_it_was() -> Result<()> {
        let tokenizer = Tokenizer::train_bpe(TEXTS, 300)?;
        for text in ["naïve 細胞 🧬", " leading and  double blanks\ttab", "ĂÂ\u{0}\u{7f}", "never seen: ζ Ω"] {
            let ids = tokenizer.encode(text, None, 512)?.ids;
            assert_eq!(tokenizer.decode(&ids)?, text);
            assert!(!ids.contains(&tokenizer.unk_id()));
        }
        Ok(())
    }

    #[test]
    fn special_tokens_have_robertas_places_and_frame_texts_as_it_does() -> Result<()> {
        let words = Tokenizer::word_level(&["a", "b", "c"])?;
        for tokenizer in [&Tokenizer::train_bpe(TEXTS, 270)?, &words] {
            let expected = Specials { bos: 0, pad: 1, eos: 2, unk: 3, mask: 4 };
            assert_eq!((tokenizer.specials(), tokenizer.special_ids()), (expected, &[0, 1, 2, 3, 4][..]));
        }
        assert_eq!(words.encode("a c x", None, 9)?.ids, [0, 5, 7, 3, 2]);
        assert_eq!(words.encode("a", Some("b c"), 9)?.ids, [0, 5, 2, 2, 6, 7, 2]);
        assert_eq!(words.encode("a <mask>", None, 9)?.ids, [0, 5, 4, 2]);
        assert_eq!(words.decode(&[0, 5, 7, 2, 1])?, "a c");
        assert_eq!(words.vocab_size(), 8);
        Ok(())
    }

    #[test]
    fn long_texts_are_cut_and_say_so_and_of_a_pair_the_longer_half_is() -> Result<()> {
        let words = Tokenizer::word_level(&["a", "b"])?;
        let cut = |text: &str, pair, max_len| words.encode(text, pair, max_len);
        assert_eq!(cut("a a a", None, 5)?, Encoding { ids: vec![0, 5, 5, 5, 2], second: None, truncated: false });
        assert_eq!(cut("a a a", None, 4)?, Encoding { ids: vec![0, 5, 5, 2], second: None, truncated: true });
        assert_eq!(
            cut("a", Some("b b b"), 7)?,
            Encoding { ids: vec![0, 5, 2, 2, 6, 6, 2], second: None, truncated: true }
        );
        assert_eq!(cut("", None, 4)?, Encoding { ids: vec![0, 2], second: None, truncated: false });
        assert!(format!("{:#}", cut("a", None, 2).unwrap_err()).contains("no room"));
        Ok(())
    }

    #[test]
    fn training_twice_gives_the_same_bytes_and_loading_gives_the_same_ids() -> Result<()> {
        let documents: Vec<String> = (0..500).map(|row| format!("gene {} inhibits {}", row % 37, row % 11)).collect();
        let train = || Tokenizer::train_bpe(documents.iter().map(String::as_str), 320);
        let (once, twice) = (train()?, train()?);
        assert_eq!(once.to_json()?, twice.to_json()?);
        let folder = tempfile::tempdir()?;
        once.save(folder.path().join("tokenizer.json"))?;
        let loaded = Tokenizer::load(folder.path().join("tokenizer.json"))?;
        assert_eq!(loaded.encode(&documents[7], Some("gene"), 64)?, once.encode(&documents[7], Some("gene"), 64)?);
        assert_eq!(loaded.to_json()?, once.to_json()?);
        Ok(())
    }

    #[test]
    fn truncation_and_padding_in_a_loaded_file_are_dropped() -> Result<()> {
        let mut inner = Tokenizer::word_level(&["a"])?.inner;
        inner
            .with_truncation(Some(TruncationParams { max_length: 3, ..Default::default() }))
            .map_err(|error| anyhow!("{error}"))?;
        inner.with_padding(Some(PaddingParams::default()));
        let json = inner.to_string(false).map_err(|error| anyhow!("{error}"))?;
        assert_eq!(Tokenizer::from_json(json)?.encode("a a a", None, 9)?.ids, [0, 5, 5, 5, 2]);
        Ok(())
    }

    #[test]
    fn bert_style_names_do_and_a_missing_special_token_is_named() -> Result<()> {
        let json = Tokenizer::word_level(&["a"])?.to_json()?;
        let bert = [("<s>", "[CLS]"), ("</s>", "[SEP]"), ("<pad>", "[PAD]"), ("<mask>", "[MASK]"), ("<unk>", "[UNK]")];
        let renamed = bert.iter().fold(json.clone(), |json, (ours, theirs)| json.replace(ours, theirs));
        assert_eq!(Tokenizer::from_json(&renamed)?.encode("a", None, 9)?.ids, [0, 5, 2]);

        let error = format!("{:#}", Tokenizer::from_json(json.replace("<mask>", "<hide>")).unwrap_err());
        assert!(error.contains("<mask>") && error.contains("[MASK]"), "{error}");
        let mut bare: serde_json::Value = serde_json::from_str(&json)?;
        bare["post_processor"] = serde_json::Value::Null;
        let error = format!("{:#}", Tokenizer::from_json(bare.to_string()).unwrap_err());
        assert!(error.contains("post-processor") && error.contains("<s>"), "{error}");
        Ok(())
    }

    #[test]
    fn what_cannot_become_a_tokenizer_is_refused() -> Result<()> {
        let says = |error: anyhow::Error, part: &str| assert!(format!("{error:#}").contains(part), "{error:#}");
        says(Tokenizer::train_bpe(["", "  "], 300).unwrap_err(), "empty");
        says(Tokenizer::train_bpe(["a"], 200).unwrap_err(), "at least 261");
        says(Tokenizer::word_level(&["a", "b", "a"]).unwrap_err(), "\"a\" stands in the vocabulary twice");
        says(Tokenizer::word_level(&["a b"]).unwrap_err(), "no single word");
        says(Tokenizer::load("/nowhere/tokenizer.json").unwrap_err(), "/nowhere/tokenizer.json");
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("tokenizer.json"), "{\"model\": ")?;
        says(Tokenizer::load(folder.path().join("tokenizer.json")).unwrap_err(), "tokenizer.json is not a usable");
        Ok(())
    }
}
