//! Tokenizers out of Hugging Face folders, whichever files they are kept in.

use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Map, Value};
use tokenizers::decoders::wordpiece::WordPiece as WordPieceDecoder;
use tokenizers::models::bpe::BPE;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::{BertNormalizer, NormalizerWrapper};
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::utils::truncation::TruncationDirection;
use tokenizers::{AddedToken, PaddingParams};

use super::Tokenizer;
use crate::files::{as_json, read_json};

/// The special tokens by their keys in the settings, with what BERT and RoBERTa call them.
const SPECIALS: [(&str, &str, &str); 5] = [
    ("cls_token", "[CLS]", "<s>"),
    ("sep_token", "[SEP]", "</s>"),
    ("pad_token", "[PAD]", "<pad>"),
    ("unk_token", "[UNK]", "<unk>"),
    ("mask_token", "[MASK]", "<mask>"),
];

impl Tokenizer {
    /// Loads the tokenizer of a folder: `tokenizer.json`, else BERT's `vocab.txt`, else RoBERTa's `vocab.json` and `merges.txt`.
    ///
    /// `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json` say what the special and added tokens are, whether
    /// BERT's texts are lower-cased, and at which end long texts are cut. Truncation and padding set in a file are dropped.
    ///
    /// # Errors
    /// Where there is none of these, or they do not belong together.
    pub fn load_folder(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let settings = Settings::read(folder)?;
        let has = |name: &str| folder.join(name).is_file();
        let (source, inner) = if has("tokenizer.json") {
            ("tokenizer.json", settings.whole(&folder.join("tokenizer.json")))
        } else if has("vocab.txt") {
            ("vocab.txt", settings.word_piece(&folder.join("vocab.txt")))
        } else if has("vocab.json") && has("merges.txt") {
            ("vocab.json", settings.byte_level(folder))
        } else {
            let sentencepiece =
                ["sentencepiece.bpe.model", "spiece.model", "tokenizer.model"].into_iter().find(|name| has(name));
            let found = sentencepiece
                .map_or("no tokenizer".to_string(), |name| format!("only {name}, which this program does not read"));
            bail!(
                "{0} holds {found}: tokenizer.json is wanted (or vocab.txt, or vocab.json and merges.txt). In Python: \
                 from transformers import AutoTokenizer; AutoTokenizer.from_pretrained(NAME).save_pretrained({0:?})",
                folder.display()
            )
        };
        let usable = || format!("{} is not a usable tokenizer", folder.join(source).display());
        let mut inner = inner.with_context(usable)?;
        settings.add_tokens(&mut inner).with_context(usable)?;
        let mut tokenizer =
            Self::with_named(inner, &|key| settings.token(key).map(|token| token.content)).with_context(usable)?;
        if settings.text("truncation_side") == Some("left") {
            tokenizer.cut_at = TruncationDirection::Left;
        }
        Ok(tokenizer)
    }
}

/// What lies beside a vocabulary.
struct Settings {
    /// `tokenizer_config.json`, over `special_tokens_map.json`.
    fields: Map<String, Value>,
    /// `added_tokens.json`: ids by token.
    added: Map<String, Value>,
}

impl Settings {
    fn read(folder: &Path) -> Result<Settings> {
        let read = |name: &str| -> Result<Map<String, Value>> {
            let path = folder.join(name);
            if path.is_file() { read_json(path) } else { Ok(Map::new()) }
        };
        let mut fields = read("special_tokens_map.json")?;
        fields.extend(read("tokenizer_config.json")?.into_iter().filter(|(_, value)| !value.is_null()));
        Ok(Settings { fields, added: read("added_tokens.json")? })
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.fields.get(key)?.as_str()
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.fields.get(key)?.as_bool()
    }

    /// A special token, which is a text or describes itself.
    fn token(&self, key: &str) -> Option<AddedToken> {
        described(self.fields.get(key)?, true)
    }

    /// A `tokenizer.json`, in which the settings of BERT's normalizer count less than those beside it.
    fn whole(&self, path: &Path) -> Result<tokenizers::Tokenizer> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut inner = tokenizers::Tokenizer::from_str(&as_json(&text)).map_err(|error| anyhow!("{error}"))?;
        inner.with_truncation(None).map_err(|error| anyhow!("{error}"))?;
        inner.with_padding(None::<PaddingParams>);
        if let Some(NormalizerWrapper::BertNormalizer(normalizer)) = inner.get_normalizer() {
            let normalizer = self.bert_normalizer(normalizer);
            inner.with_normalizer(Some(normalizer));
        }
        Ok(inner)
    }

    fn bert_normalizer(&self, otherwise: &BertNormalizer) -> BertNormalizer {
        BertNormalizer::new(
            otherwise.clean_text,
            self.flag("tokenize_chinese_chars").unwrap_or(otherwise.handle_chinese_chars),
            self.flag("strip_accents").or(otherwise.strip_accents),
            self.flag("do_lower_case").unwrap_or(otherwise.lowercase),
        )
    }

    /// BERT's tokenizer: a token a line.
    fn word_piece(&self, path: &Path) -> Result<tokenizers::Tokenizer> {
        let [cls, sep, _, unk, _] = SPECIALS.map(|(key, bert, _)| self.named(key, bert));
        let model = WordPiece::from_file(&path.display().to_string()).unk_token(unk).build();
        let model = model.map_err(|error| anyhow!("{error}"))?;
        let mut inner = tokenizers::Tokenizer::new(model);
        inner.with_normalizer(Some(self.bert_normalizer(&BertNormalizer::new(true, true, None, true))));
        inner.with_pre_tokenizer(Some(BertPreTokenizer));
        inner.with_decoder(Some(WordPieceDecoder::new("##".to_string(), true)));
        self.add_specials(&mut inner, |(key, bert, _)| self.named(key, bert))?;
        let id =
            |token: &str| inner.token_to_id(token).with_context(|| format!("there is no {token} in the vocabulary"));
        let frame = TemplateProcessing::builder()
            .try_single(format!("{cls}:0 $A:0 {sep}:0"))
            .and_then(|frame| frame.try_pair(format!("{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1")))
            .map_err(|error| anyhow!("{error}"))?
            .special_tokens(vec![(cls.clone(), id(&cls)?), (sep.clone(), id(&sep)?)])
            .build()
            .map_err(|error| anyhow!("{error}"))?;
        inner.with_post_processor(Some(frame));
        Ok(inner)
    }

    /// RoBERTa's tokenizer: pairs of bytes.
    fn byte_level(&self, folder: &Path) -> Result<tokenizers::Tokenizer> {
        let path = |name: &str| folder.join(name).display().to_string();
        let model =
            BPE::from_file(&path("vocab.json"), &path("merges.txt")).build().map_err(|error| anyhow!("{error}"))?;
        let (blank, trim) = (self.flag("add_prefix_space").unwrap_or(false), self.flag("trim_offsets").unwrap_or(true));
        let mut inner = tokenizers::Tokenizer::new(model);
        inner.with_pre_tokenizer(Some(ByteLevel::default().add_prefix_space(blank)));
        inner.with_decoder(Some(ByteLevel::default()));
        self.add_specials(&mut inner, |(key, _, roberta)| self.named(key, roberta))?;
        let [cls, sep, ..] = SPECIALS.map(|(key, _, roberta)| self.named(key, roberta));
        let frame = |token: String| -> Result<(String, u32)> {
            let id = inner.token_to_id(&token).with_context(|| format!("there is no {token} in the vocabulary"))?;
            Ok((token, id))
        };
        let frame = RobertaProcessing::new(frame(sep)?, frame(cls)?).trim_offsets(trim).add_prefix_space(blank);
        inner.with_post_processor(Some(frame));
        Ok(inner)
    }

    /// The text of a special token, by default the family's.
    fn named(&self, key: &str, otherwise: &str) -> String {
        self.token(key).map_or_else(|| otherwise.to_string(), |token| token.content)
    }

    /// Lets special tokens of the vocabulary be found in texts, too.
    fn add_specials(
        &self,
        inner: &mut tokenizers::Tokenizer,
        name: impl Fn((&str, &str, &str)) -> String,
    ) -> Result<()> {
        for special in SPECIALS {
            let plain = || AddedToken::from(name(special), true);
            let token = self.token(special.0).unwrap_or_else(plain);
            ensure!(inner.token_to_id(&token.content).is_some(), "there is no {} in the vocabulary", token.content);
            inner.add_special_tokens(&[token]);
        }
        Ok(())
    }

    /// The texts of special tokens beyond the usual ones.
    fn more_specials(&self) -> Vec<String> {
        let named = ["additional_special_tokens", "extra_special_tokens"].into_iter();
        let lists = named.filter_map(|key| self.fields.get(key)?.as_array());
        lists.flatten().filter_map(|token| Some(described(token, true)?.content)).collect()
    }

    /// Tokens that were added to the vocabulary and stand beside it, in the order of their ids.
    fn add_tokens(&self, inner: &mut tokenizers::Tokenizer) -> Result<()> {
        let listed =
            self.added.iter().filter_map(|(token, id)| Some((id.as_u64()?, AddedToken::from(token.as_str(), false))));
        let decoder = self.fields.get("added_tokens_decoder").and_then(Value::as_object);
        let decoder = decoder.into_iter().flatten();
        let decoder = decoder.filter_map(|(id, token)| Some((id.parse().ok()?, described(token, false)?)));
        let mut tokens: Vec<(u64, AddedToken)> = listed.chain(decoder).collect();
        tokens.sort_by_key(|(id, _)| *id);
        let special = self.more_specials();
        for (id, token) in tokens {
            let token = if special.contains(&token.content) { AddedToken::from(token.content, true) } else { token };
            if inner.token_to_id(&token.content).is_none() {
                let added = token.clone();
                if added.special {
                    inner.add_special_tokens(&[added])
                } else {
                    inner.add_tokens(&[added])
                };
            }
            let got = inner.token_to_id(&token.content).map(u64::from);
            ensure!(
                got == Some(id),
                "the added token {:?} should have id {id}, but has {got:?}: vocabulary and added tokens do not belong together",
                token.content
            );
        }
        Ok(())
    }
}

/// A token as settings describe it: its text, or an object with its text and how it is looked for.
fn described(value: &Value, special: bool) -> Option<AddedToken> {
    if let Some(text) = value.as_str() {
        return Some(AddedToken::from(text, special));
    }
    let flag = |name: &str, otherwise: bool| value.get(name).and_then(Value::as_bool).unwrap_or(otherwise);
    let special = flag("special", special);
    let token = AddedToken::from(value.get("content")?.as_str()?, special);
    Some(
        token
            .lstrip(flag("lstrip", false))
            .rstrip(flag("rstrip", false))
            .single_word(flag("single_word", false))
            .normalized(flag("normalized", !special)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> Result<tempfile::TempDir> {
        let folder = tempfile::tempdir()?;
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text)?;
        }
        Ok(folder)
    }

    const WORDS: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nein\n##haus\nHaus\nhaus\n";

    #[test]
    fn a_list_of_words_is_berts_tokenizer_with_types_for_pairs() -> Result<()> {
        let folder = folder(&[("vocab.txt", WORDS)])?;
        let tokenizer = Tokenizer::load_folder(folder.path())?;
        assert_eq!(tokenizer.encode("Einhaus Haus [MASK] ?", None, 16)?.ids, [2, 5, 6, 8, 4, 1, 3]);
        let pair = tokenizer.encode("ein", Some("haus"), 16)?;
        assert_eq!((pair.ids, pair.second), (vec![2, 5, 3, 8, 3], Some(3)));
        assert_eq!(tokenizer.encode("ein", None, 16)?.second, None);
        Ok(())
    }

    #[test]
    fn settings_beside_a_vocabulary_are_honoured() -> Result<()> {
        let settings = r#"{"do_lower_case": false, "truncation_side": "left", "cls_token": {"content": "[BEGIN]"},
            "added_tokens_decoder": {"9": {"content": "[BEGIN]", "special": true}, "10": {"content": "neu"}}}"#;
        let folder = folder(&[("vocab.txt", WORDS), ("tokenizer_config.json", settings)])?;
        // A first token that is not in the list itself.
        let error = format!("{:#}", Tokenizer::load_folder(folder.path()).unwrap_err());
        assert!(error.contains("[BEGIN]") && error.contains("vocab.txt"), "{error}");
        std::fs::write(
            folder.path().join("tokenizer_config.json"),
            settings.replace("[BEGIN]", "[CLS]").replace("\"9\"", "\"2\"").replace("10", "9"),
        )?;
        let tokenizer = Tokenizer::load_folder(folder.path())?;
        assert_eq!(tokenizer.special_ids(), [0, 1, 2, 3, 4]);
        assert_eq!(tokenizer.encode("Haus neu Ein", None, 16)?.ids, [2, 7, 9, 1, 3]);
        assert_eq!(tokenizer.encode("Haus neu haus", None, 4)?.ids, [2, 9, 8, 3], "cut at the left");
        Ok(())
    }

    #[test]
    fn a_token_added_as_special_by_an_old_folder_is_special() -> Result<()> {
        let added = ("added_tokens.json", r#"{"[ENT]": 9, "neu": 10}"#);
        let map = ("special_tokens_map.json", r#"{"additional_special_tokens": ["[ENT]"]}"#);
        let folder = folder(&[("vocab.txt", WORDS), added, map])?;
        let tokenizer = Tokenizer::load_folder(folder.path())?;
        assert_eq!(tokenizer.special_ids(), [0, 1, 2, 3, 4, 9]);
        assert_eq!(tokenizer.encode("haus [ENT] neu", None, 16)?.ids, [2, 8, 9, 10, 3]);
        Ok(())
    }

    #[test]
    fn files_that_do_not_belong_together_are_refused() -> Result<()> {
        let refused = |files: &[(&str, &str)]| -> Result<String> {
            Ok(format!("{:#}", Tokenizer::load_folder(folder(files)?.path()).unwrap_err()))
        };
        assert!(refused(&[("config.json", "{}")])?.contains("no tokenizer"));
        assert!(refused(&[("sentencepiece.bpe.model", "x")])?.contains("only sentencepiece.bpe.model"));
        assert!(refused(&[("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nein\n")])?.contains("no [MASK]"));
        let error = refused(&[("vocab.txt", WORDS), ("added_tokens.json", r#"{"neu": 40}"#)])?;
        assert!(error.contains("should have id 40") && error.contains("Some(9)"), "{error}");
        let error = refused(&[("vocab.txt", WORDS), ("tokenizer_config.json", r#"{"mask_token": "<m>"}"#)])?;
        assert!(error.contains("<m>"), "{error}");
        Ok(())
    }
}
