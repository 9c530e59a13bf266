//! Corpora: text to pre-train on, one document a line.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::files::{as_json, without_mark, write_atomic};

/// Documents of one domain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Corpus {
    /// What the corpus is called: its file's stem, or the world's domain.
    pub name: String,
    /// The documents, in the order of the file, none empty.
    pub documents: Vec<String>,
}

#[derive(Deserialize)]
struct Line {
    text: String,
}

impl Corpus {
    /// A corpus of `documents`; empty ones are dropped.
    ///
    /// # Errors
    /// When none is left.
    pub fn new(name: impl Into<String>, documents: Vec<String>) -> Result<Self> {
        let name = name.into();
        let documents: Vec<String> = documents.into_iter().filter(|text| !text.trim().is_empty()).collect();
        ensure!(!documents.is_empty(), "the corpus {name} is empty: it needs at least one document");
        Ok(Self { name, documents })
    }

    /// Reads `.txt` (UTF-8, one document a line) or `.jsonl` (one object a line, its `text` counts); empty lines are skipped.
    ///
    /// # Errors
    /// Names the file, and the line where it is malformed; an empty corpus and another ending are refused.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let text = read_utf8(path)?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let documents = match ending {
            "txt" => lines.map(|(_, line)| line.trim().to_string()).collect(),
            "jsonl" => lines
                .map(|(index, line)| {
                    let line: Line = serde_json::from_str(&as_json(line)).with_context(|| {
                        format!("{}:{}: expected an object with \"text\"", path.display(), index + 1)
                    })?;
                    Ok(line.text.trim().to_string())
                })
                .collect::<Result<_>>()?,
            other => bail!("{}: a corpus ends in .txt or .jsonl, not in {other:?}", path.display()),
        };
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("corpus");
        Self::new(name, documents).with_context(|| format!("{} holds no text", path.display()))
    }

    /// Writes the corpus, as `.txt` (line breaks inside a document become blanks) or as `.jsonl`.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let mut out = String::new();
        let as_json = match path.extension().and_then(|ending| ending.to_str()) {
            Some("txt") => false,
            Some("jsonl") => true,
            _ => bail!("{}: a corpus ends in .txt or .jsonl", path.display()),
        };
        for document in &self.documents {
            if as_json {
                out.push_str(&serde_json::json!({ "text": document }).to_string());
            } else {
                out.push_str(&document.replace(['\n', '\r'], " "));
            }
            out.push('\n');
        }
        write_atomic(path, out.as_bytes())
    }

    /// The documents whose hash share lies in `[lo, hi)`. It depends on a document's text alone, so the same documents
    /// fall into the same share whatever else the corpus holds: `by_hash(0.0, 0.02)` is a held-out set for good.
    pub fn by_hash(&self, lo: f64, hi: f64) -> Self {
        let inside = |text: &&String| (lo..hi).contains(&hash_share(text));
        Self { name: self.name.clone(), documents: self.documents.iter().filter(inside).cloned().collect() }
    }

    /// How many documents there are.
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// The documents as string slices.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.documents.iter().map(String::as_str)
    }
}

/// A number in [0, 1) that depends on `text` alone: the first 53 bits of its SHA-256.
pub fn hash_share(text: &str) -> f64 {
    let digest = Sha256::digest(text.as_bytes());
    let bits = digest.iter().take(8).fold(0u64, |bits, &byte| bits << 8 | u64::from(byte)) >> 11;
    bits as f64 / (1u64 << 53) as f64
}

/// Reads a file that must be UTF-8; says in which line it is not.
pub(super) fn read_utf8(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|&&byte| byte == b'\n').count() + 1;
        anyhow::anyhow!("{}:{line}: not UTF-8; convert the file (say, with iconv -t UTF-8)", path.display())
    })?;
    Ok(without_mark(&text).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_and_fields_that_nobody_reads_change_nothing() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let plain = Corpus::new("c", vec!["one".into(), "two".into()])?;
        let jsonl = "\u{feff}{\"text\": \"one\", \"score\": NaN}\n{\"text\": \"two\"}\n";
        for (name, text) in [("c.txt", "\u{feff}one\ntwo\n"), ("c.jsonl", jsonl)] {
            std::fs::write(folder.path().join(name), text)?;
            assert_eq!(Corpus::load(folder.path().join(name))?, plain);
        }
        Ok(())
    }

    #[test]
    fn both_formats_give_back_what_was_saved() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let corpus = Corpus::new("c", vec!["Ein Wort, \"zwei\"".into(), "třetí 語".into()])?;
        for file in ["c.txt", "c.jsonl"] {
            corpus.save(folder.path().join(file))?;
            assert_eq!(Corpus::load(folder.path().join(file))?, corpus);
        }
        Ok(())
    }

    #[test]
    fn empty_lines_and_carriage_returns_do_not_count() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("news.txt");
        std::fs::write(&path, "one\r\n\r\n  \n two \n")?;
        let corpus = Corpus::load(&path)?;
        assert_eq!(
            (corpus.name.as_str(), corpus.documents.as_slice()),
            ("news", &["one".to_string(), "two".into()][..])
        );
        Ok(())
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_place() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let refusal = |file: &str, bytes: &[u8]| -> Result<String> {
            let path = folder.path().join(file);
            std::fs::write(&path, bytes)?;
            Ok(format!("{:#}", Corpus::load(&path).unwrap_err()))
        };
        assert!(refusal("empty.txt", b"\n\n")?.contains("empty.txt holds no text"));
        assert!(refusal("bad.jsonl", b"{\"text\": \"a\"}\n{\"txt\": 1}\n")?.contains("bad.jsonl:2"));
        assert!(refusal("latin.txt", b"a\nb\n\xe9t\xe9\n")?.contains("latin.txt:3: not UTF-8"));
        assert!(refusal("table.csv", b"a")?.contains("\"csv\""));
        assert!(format!("{:#}", Corpus::load(folder.path().join("none.txt")).unwrap_err()).contains("none.txt"));
        Ok(())
    }

    #[test]
    fn a_share_by_hash_depends_on_the_text_alone_and_shares_add_up() -> Result<()> {
        let corpus = Corpus::new("c", (0..2000).map(|row| format!("document {row}")).collect())?;
        let (held, rest) = (corpus.by_hash(0.0, 0.3), corpus.by_hash(0.3, 1.0));
        assert_eq!(held.len() + rest.len(), corpus.len());
        assert!((500..700).contains(&held.len()), "{}", held.len());
        let half = Corpus::new("h", corpus.documents[..1000].to_vec())?.by_hash(0.0, 0.3);
        assert!(half.documents.iter().all(|document| held.documents.contains(document)));
        // SHA-256 of "abc" begins with ba7816bf, on every machine and in every version.
        assert!((hash_share("abc") - f64::from(0xba78_16bf_u32) / 2f64.powi(32)).abs() < 1e-9);
        Ok(())
    }
}
