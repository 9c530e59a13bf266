//! From documents to the sequences a language model reads: one a document, or packed.

use anyhow::{Result, ensure};

use super::{Corpus, Tokenizer};

/// Encoded documents, ready for [`super::MlmData`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequences {
    /// Token ids, framed by `<s>` and `</s>`.
    pub ids: Vec<Vec<i64>>,
    /// How many documents were cut off (none when packing).
    pub truncated: usize,
}

impl Sequences {
    /// One sequence a document, cut off at `max_len`.
    pub fn one_a_document(corpus: &Corpus, tokenizer: &Tokenizer, max_len: usize) -> Result<Self> {
        let encodings = in_parallel(&corpus.documents, |text| tokenizer.encode(text, None, max_len))?;
        let truncated = encodings.iter().filter(|encoding| encoding.truncated).count();
        Ok(Self { ids: encodings.into_iter().map(|encoding| encoding.ids).collect(), truncated })
    }

    /// Documents joined by `</s>` and cut every `max_len` tokens, see [`pack`]: nothing is lost, nothing is padded.
    pub fn packed(corpus: &Corpus, tokenizer: &Tokenizer, max_len: usize) -> Result<Self> {
        let documents = in_parallel(&corpus.documents, |text| tokenizer.encode_plain(text))?;
        Ok(Self { ids: pack(&documents, max_len, tokenizer)?, truncated: 0 })
    }

    /// All tokens, special ones included.
    pub fn tokens(&self) -> usize {
        self.ids.iter().map(Vec::len).sum()
    }
}

/// Packs `documents` (ids, with or without their frame) into sequences `<s> … </s> … </s> …` of exactly `max_len` tokens, the
/// last one shorter: RoBERTa's full sentences. A document ends with `</s>` and goes on in the next sequence if it must.
///
/// # Errors
/// When `max_len` leaves no room for text.
pub fn pack(documents: &[Vec<i64>], max_len: usize, tokenizer: &Tokenizer) -> Result<Vec<Vec<i64>>> {
    ensure!(max_len >= 3, "packing needs sequences of at least 3 tokens (<s>, one word, </s>), not {max_len}");
    let (bos, eos) = (tokenizer.bos_id(), tokenizer.eos_id());
    let mut stream = Vec::new();
    for document in documents {
        let document = document.strip_prefix(&[bos]).unwrap_or(document);
        let document = document.strip_suffix(&[eos]).unwrap_or(document);
        if !document.is_empty() {
            stream.extend_from_slice(document);
            stream.push(eos);
        }
    }
    let sequences = stream.chunks(max_len - 1).filter(|chunk| chunk.iter().any(|&id| id != eos));
    Ok(sequences.map(|chunk| std::iter::once(bos).chain(chunk.iter().copied()).collect()).collect())
}

/// `work` on every text, on all cores; results keep the texts' order, so the number of threads changes nothing.
pub(super) fn in_parallel<T: Sync, R: Send>(texts: &[T], work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(texts.len() / 256 + 1);
    let share = texts.len().div_ceil(threads).max(1);
    let work = &work;
    std::thread::scope(|scope| {
        let workers: Vec<_> = texts
            .chunks(share)
            .map(|share| scope.spawn(move || share.iter().map(work).collect::<Result<Vec<R>>>()))
            .collect();
        let mut results = Vec::with_capacity(texts.len());
        for worker in workers {
            match worker.join() {
                Ok(part) => results.extend(part?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(results)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_loses_nothing_and_fills_every_sequence_but_the_last() -> Result<()> {
        let tokenizer = Tokenizer::word_level(&["a", "b", "c"])?;
        let documents = [vec![0, 5, 6, 2], vec![], vec![7], vec![0, 2], vec![5, 5, 5, 5, 5]];
        let packed = pack(&documents, 5, &tokenizer)?;
        assert_eq!(packed, [vec![0, 5, 6, 2, 7], vec![0, 2, 5, 5, 5], vec![0, 5, 5, 2]]);
        assert!(pack(&documents, 2, &tokenizer).is_err());
        // A last sequence with nothing but the end of a document teaches nothing.
        assert_eq!(pack(&[vec![5, 6, 7]], 4, &tokenizer)?, [vec![0, 5, 6, 7]]);
        Ok(())
    }

    #[test]
    fn documents_keep_their_order_and_truncations_are_counted() -> Result<()> {
        let words: Vec<String> = (0..3000).map(|word| format!("w{word}")).collect();
        let tokenizer = Tokenizer::word_level(&words)?;
        let documents =
            words.iter().enumerate().map(|(row, word)| if row < 7 { format!("{word} w0 w0") } else { word.clone() });
        let corpus = Corpus::new("c", documents.collect())?;
        let sequences = Sequences::one_a_document(&corpus, &tokenizer, 4)?;
        assert_eq!((sequences.ids.len(), sequences.truncated), (3000, 7));
        assert!(sequences.ids.iter().enumerate().all(|(row, ids)| ids[1] == row as i64 + 5));
        assert_eq!(sequences.tokens(), 7 * 4 + 2993 * 3);
        let packed = Sequences::packed(&corpus, &tokenizer, 4)?;
        let kept: usize = packed.ids.iter().flatten().filter(|&&id| id > 4).count();
        assert_eq!(kept, 3000 + 14);
        Ok(())
    }
}
