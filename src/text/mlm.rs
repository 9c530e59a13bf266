//! Masked language modelling: which tokens are hidden, and the batches to pre-train on.

use anyhow::{Context, Result, ensure};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::batch::Recent;
use super::{TokenBatch, Tokenizer};
use crate::native::upload;
use crate::seed;

/// How tokens are hidden. Rates are those of BERT and RoBERTa (and of `DataCollatorForLanguageModeling` in transformers).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaskingConfig {
    /// Probability that a token is chosen; each one independently, special tokens never.
    pub probability: f64,
    /// Share of the chosen that become `<mask>`.
    pub mask: f64,
    /// Share of the chosen that become another token, drawn uniformly from all that are not special. The rest stay as they are.
    pub random: f64,
}

impl Default for MaskingConfig {
    fn default() -> Self {
        Self { probability: 0.15, mask: 0.8, random: 0.1 }
    }
}

impl MaskingConfig {
    /// Refuses rates that are no probabilities.
    pub fn validate(&self) -> Result<()> {
        ensure!(
            self.probability > 0.0 && self.probability <= 1.0,
            "masking: probability must lie in (0, 1], it is {}",
            self.probability
        );
        ensure!(
            self.mask >= 0.0 && self.random >= 0.0 && self.mask + self.random <= 1.0 + 1e-9,
            "masking: mask ({}) and random ({}) must not be negative and their sum not above 1",
            self.mask,
            self.random
        );
        Ok(())
    }
}

/// A batch with some tokens hidden.
#[derive(Debug)]
pub struct MlmBatch {
    /// What the model reads.
    pub tokens: TokenBatch,
    /// (m) int64: where tokens were chosen, as indices into the flattened (b·t) batch, ascending; m ≥ 1.
    pub positions: Tensor,
    /// (m) int64: the tokens that stood there.
    pub labels: Tensor,
}

impl MlmBatch {
    /// The same batch on `device`.
    pub fn to_device(&self, device: Device) -> Result<Self> {
        Ok(Self {
            tokens: self.tokens.to_device(device)?,
            positions: upload(&self.positions, device)?,
            labels: upload(&self.labels, device)?,
        })
    }
}

/// Sequences to pre-train on, and the rule by which tokens are hidden.
#[derive(Debug)]
pub struct MlmData {
    sequences: Vec<Vec<i64>>,
    batch_size: usize,
    masking: MaskingConfig,
    seed: u64,
    vocabulary: Vocabulary,
    orders: Recent<usize, Vec<u32>>,
}

/// A token to predict: where it stands in a batch, and what the model reads in its place.
struct Hidden {
    row: usize,
    column: usize,
    read: i64,
}

/// What masking has to know of a tokenizer.
#[derive(Debug)]
struct Vocabulary {
    pad: i64,
    mask: i64,
    special: Vec<bool>,
    ordinary: Vec<i64>,
}

impl MlmData {
    /// Batches of `batch_size` sequences out of `sequences` (see [`super::Sequences`]).
    ///
    /// # Errors
    /// When there is no sequence with an ordinary token, `batch_size` is 0, or a rate is no probability.
    pub fn new(
        sequences: Vec<Vec<i64>>,
        tokenizer: &Tokenizer,
        batch_size: usize,
        masking: MaskingConfig,
        seed: u64,
    ) -> Result<Self> {
        masking.validate()?;
        ensure!(batch_size > 0, "a batch needs at least one sequence; batch_size is 0");
        let mut special = vec![false; tokenizer.vocab_size()];
        for &id in tokenizer.special_ids() {
            if let Some(special) = special.get_mut(id as usize) {
                *special = true;
            }
        }
        let ordinary: Vec<i64> = (0..special.len()).filter(|&id| !special[id]).map(|id| id as i64).collect();
        ensure!(!ordinary.is_empty(), "the tokenizer has no tokens but special ones");
        let vocabulary = Vocabulary { pad: tokenizer.pad_id(), mask: tokenizer.mask_id(), special, ordinary };
        // A sequence of special tokens alone could fill a batch in which nothing can be hidden.
        let sequences: Vec<Vec<i64>> =
            sequences.into_iter().filter(|ids| ids.iter().any(|&id| vocabulary.can_be_hidden(id))).collect();
        ensure!(!sequences.is_empty(), "there is no text to pre-train on: every sequence is empty");
        ensure!(u32::try_from(sequences.len()).is_ok(), "more than {} sequences are not supported", u32::MAX);
        Ok(Self { sequences, batch_size, masking, seed, vocabulary, orders: Recent::default() })
    }

    /// How many sequences there are.
    pub fn len(&self) -> usize {
        self.sequences.len()
    }

    /// Never true: [`MlmData::new`] refuses to be empty.
    pub fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// Tokens of one epoch.
    pub fn tokens(&self) -> usize {
        self.sequences.iter().map(Vec::len).sum()
    }

    /// The batch of `step`, always `batch_size` sequences: epochs follow each other without a gap, each in an order drawn from
    /// (seed, epoch); what is hidden is drawn from (seed, step). The same step is the same batch, whatever came before.
    pub fn batch(&self, step: usize) -> Result<MlmBatch> {
        let (count, first) = (self.len(), step * self.batch_size);
        let sequences: Vec<&[i64]> = (first..first + self.batch_size)
            .map(|place| self.sequences[self.order(place / count)[place % count] as usize].as_slice())
            .collect();
        self.hide(&sequences, &self.draw(&sequences, &mut seed::rng(self.seed, "mlm-mask", step as u64))?)
    }

    /// Every sequence once, in order of length. What is hidden is drawn for each sequence by itself, at least one token, so that
    /// the questions depend on the seed and the sequences alone, not on how they are batched.
    pub fn evaluation_batches(&self) -> Result<Vec<MlmBatch>> {
        let mut rows: Vec<usize> = (0..self.len()).collect();
        rows.sort_by_key(|&row| self.sequences[row].len());
        let batch = |rows: &[usize]| {
            let sequences: Vec<&[i64]> = rows.iter().map(|&row| self.sequences[row].as_slice()).collect();
            let mut hidden = Vec::new();
            for (at, &row) in rows.iter().enumerate() {
                let mut rng = seed::rng(self.seed, "mlm-mask-eval", row as u64);
                let drawn = self.draw(&sequences[at..=at], &mut rng)?;
                hidden.extend(drawn.into_iter().map(|one| Hidden { row: at, ..one }));
            }
            self.hide(&sequences, &hidden)
        };
        rows.chunks(self.batch_size).map(batch).collect()
    }

    fn order(&self, epoch: usize) -> std::sync::Arc<Vec<u32>> {
        self.orders.get(epoch, || {
            let mut order: Vec<u32> = (0..self.len() as u32).collect();
            order.shuffle(&mut seed::rng(self.seed, "mlm-order", epoch as u64));
            order
        })
    }

    /// Chooses tokens of `sequences`, at least one, and what the model reads in their place.
    fn draw(&self, sequences: &[&[i64]], rng: &mut impl Rng) -> Result<Vec<Hidden>> {
        let can_be_hidden = |row: usize, column: &usize| self.vocabulary.can_be_hidden(sequences[row][*column]);
        let mut chosen = Vec::new();
        for (row, sequence) in sequences.iter().enumerate() {
            let columns = (0..sequence.len()).filter(|column| can_be_hidden(row, column));
            chosen.extend(columns.filter(|_| rng.random_bool(self.masking.probability)).map(|column| (row, column)));
        }
        if chosen.is_empty() {
            // Rare with large batches; without a target there is no loss, so one token is hidden after all.
            let row = rng.random_range(0..sequences.len());
            let columns: Vec<usize> = (0..sequences[row].len()).filter(|column| can_be_hidden(row, column)).collect();
            let column = columns.choose(rng).context("a sequence has no token that could be hidden")?;
            chosen.push((row, *column));
        }
        let hidden = chosen.into_iter();
        Ok(hidden
            .map(|(row, column)| Hidden { row, column, read: self.replacement(sequences[row][column], rng) })
            .collect())
    }

    /// The batch of `sequences` in which these tokens are hidden.
    fn hide(&self, sequences: &[&[i64]], hidden: &[Hidden]) -> Result<MlmBatch> {
        let longest = sequences.iter().map(|ids| ids.len()).max().unwrap_or(0);
        let mut ids: Vec<Vec<i64>> = sequences.iter().map(|ids| ids.to_vec()).collect();
        let (mut positions, mut labels) = (Vec::new(), Vec::new());
        for &Hidden { row, column, read } in hidden {
            positions.push((row * longest + column) as i64);
            labels.push(std::mem::replace(&mut ids[row][column], read));
        }
        Ok(MlmBatch {
            tokens: TokenBatch::new(&ids, self.vocabulary.pad)?,
            positions: Tensor::f_from_slice(&positions)?,
            labels: Tensor::f_from_slice(&labels)?,
        })
    }

    fn replacement(&self, id: i64, rng: &mut impl Rng) -> i64 {
        let lot = rng.random::<f64>();
        if lot < self.masking.mask {
            self.vocabulary.mask
        } else if lot < self.masking.mask + self.masking.random {
            self.vocabulary.ordinary.choose(rng).copied().unwrap_or(id)
        } else {
            id
        }
    }
}

impl Vocabulary {
    fn can_be_hidden(&self, id: i64) -> bool {
        usize::try_from(id).ok().and_then(|id| self.special.get(id)).is_some_and(|special| !special)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: usize = 50;

    fn tokenizer() -> Result<Tokenizer> {
        Tokenizer::word_level(&(0..WORDS).map(|word| format!("w{word}")).collect::<Vec<_>>())
    }

    /// 64 sequences of 5 to 44 tokens, no two alike.
    fn data(batch_size: usize, masking: MaskingConfig, seed: u64) -> Result<MlmData> {
        let words = |row: usize| (0..3 + row % 40).map(move |place| 5 + ((row * 7 + place * 3) % WORDS) as i64);
        let sequences = (0..64).map(|row| [0].into_iter().chain(words(row)).chain([2]).collect()).collect();
        MlmData::new(sequences, &tokenizer()?, batch_size, masking, seed)
    }

    /// The batch's ids as read, and as they were before masking.
    fn read(batch: &MlmBatch) -> Result<(Vec<i64>, Vec<i64>)> {
        let read: Vec<i64> = Vec::try_from(batch.tokens.input_ids.f_reshape([-1])?)?;
        let mut original = read.clone();
        let (positions, labels) = (Vec::<i64>::try_from(&batch.positions)?, Vec::<i64>::try_from(&batch.labels)?);
        for (&position, label) in positions.iter().zip(labels) {
            original[position as usize] = label;
        }
        Ok((read, original))
    }

    #[test]
    fn rates_are_those_asked_for_and_special_tokens_are_never_touched() -> Result<()> {
        let data = data(64, MaskingConfig::default(), 3)?;
        let (mut tokens, mut chosen, mut masked, mut random, mut kept) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for step in 0..100 {
            let batch = data.batch(step)?;
            let (read, original) = read(&batch)?;
            tokens += original.iter().filter(|&&id| id > 4).count() as f64;
            for position in Vec::<i64>::try_from(&batch.positions)? {
                let (read, original) = (read[position as usize], original[position as usize]);
                assert!(original > 4, "the special token {original} was hidden");
                assert!(read >= 4, "replaced by the special token {read}");
                chosen += 1.0;
                match read {
                    4 => masked += 1.0,
                    same if same == original => kept += 1.0,
                    _ => random += 1.0,
                }
            }
        }
        // About 150,000 tokens: four standard errors. One random token in fifty is the one that stood there.
        let near =
            |measured: f64, expected: f64, within: f64| assert!((measured - expected).abs() < within, "{measured}");
        near(chosen / tokens, 0.15, 0.004);
        near(masked / chosen, 0.8, 0.011);
        near(random / chosen, 0.1 * 49.0 / 50.0, 0.008);
        near(kept / chosen, 0.1 + 0.1 / 50.0, 0.008);
        Ok(())
    }

    #[test]
    fn an_epoch_reads_every_sequence_once_and_epochs_differ() -> Result<()> {
        let data = data(16, MaskingConfig::default(), 0)?;
        let epoch = |first: usize| -> Result<Vec<Vec<i64>>> {
            let mut all = Vec::new();
            for step in first..first + 4 {
                let batch = data.batch(step)?;
                let (rows, columns) = batch.tokens.size();
                let (_, original) = read(&batch)?;
                assert_eq!(rows, 16);
                let row = |row: &[i64]| row.iter().copied().filter(|&id| id != 1).collect::<Vec<_>>();
                all.extend(original.chunks(columns as usize).map(row));
            }
            Ok(all)
        };
        let (mut first, mut second) = (epoch(0)?, epoch(4)?);
        assert_ne!(first, second);
        first.sort_unstable();
        second.sort_unstable();
        let mut expected = data.sequences.clone();
        expected.sort_unstable();
        assert_eq!((&first, &second), (&expected, &expected));
        Ok(())
    }

    #[test]
    fn a_step_is_the_same_batch_whatever_came_before() -> Result<()> {
        let (one, other) = (data(16, MaskingConfig::default(), 5)?, data(16, MaskingConfig::default(), 5)?);
        for step in 0..30 {
            one.batch(step)?;
        }
        assert_eq!(read(&one.batch(11)?)?, read(&other.batch(11)?)?);
        assert_ne!(read(&one.batch(11)?)?, read(&one.batch(12)?)?);
        assert_ne!(read(&one.batch(11)?)?, read(&data(16, MaskingConfig::default(), 6)?.batch(11)?)?);
        Ok(())
    }

    #[test]
    fn evaluation_masks_are_fixed_and_cover_all() -> Result<()> {
        let data = data(10, MaskingConfig::default(), 5)?;
        let (once, twice) = (data.evaluation_batches()?, data.evaluation_batches()?);
        assert_eq!(once.iter().map(|batch| batch.tokens.size().0).sum::<i64>(), 64);
        for (one, other) in once.iter().zip(&twice) {
            assert_eq!(read(one)?, read(other)?);
        }
        Ok(())
    }

    #[test]
    fn evaluation_asks_the_same_questions_whatever_the_batch_size() -> Result<()> {
        let questions = |batch_size: usize| -> Result<Vec<(Vec<i64>, Vec<i64>)>> {
            let mut all = Vec::new();
            for batch in data(batch_size, MaskingConfig::default(), 5)?.evaluation_batches()? {
                let ((read, original), columns) = (read(&batch)?, batch.tokens.size().1 as usize);
                let ordinary = |row: &[i64]| row.iter().copied().filter(|&id| id != 1).collect::<Vec<_>>();
                all.extend(read.chunks(columns).zip(original.chunks(columns)).map(|(r, o)| (ordinary(r), ordinary(o))));
            }
            Ok(all)
        };
        let one_by_one = questions(1)?;
        assert!(one_by_one.len() == 64 && one_by_one.iter().any(|(read, original)| read != original));
        for batch_size in [7, 64] {
            assert_eq!(questions(batch_size)?, one_by_one);
        }
        Ok(())
    }

    /// Computed before evaluation had masks of its own: runs must repeat across versions of this crate.
    #[test]
    fn training_masks_stay_what_they_were() -> Result<()> {
        let batch = data(4, MaskingConfig::default(), 5)?.batch(3)?;
        assert_eq!(Vec::<i64>::try_from(&batch.positions)?, [4, 11, 33, 83, 86, 97, 120, 123, 124, 127]);
        assert_eq!(read(&batch)?.0.iter().sum::<i64>(), 2253);
        Ok(())
    }

    #[test]
    fn every_batch_has_a_target_even_when_chance_chose_none() -> Result<()> {
        let rare = MaskingConfig { probability: 1e-9, mask: 1.0, random: 0.0 };
        let data = data(2, rare, 0)?;
        for step in 0..50 {
            let batch = data.batch(step)?;
            assert_eq!(batch.positions.size(), [1]);
            assert_eq!(read(&batch)?.0[batch.positions.int64_value(&[0]) as usize], 4);
        }
        Ok(())
    }

    #[test]
    fn what_cannot_be_learnt_from_is_refused() -> Result<()> {
        let tokenizer = tokenizer()?;
        let refuse = |sequences: Vec<Vec<i64>>, batch_size, masking| {
            format!("{:#}", MlmData::new(sequences, &tokenizer, batch_size, masking, 0).unwrap_err())
        };
        assert!(refuse(vec![], 1, MaskingConfig::default()).contains("no text"));
        assert!(refuse(vec![vec![0, 2]], 1, MaskingConfig::default()).contains("no text"));
        assert!(refuse(vec![vec![0, 5, 2]], 0, MaskingConfig::default()).contains("batch_size"));
        let never = MaskingConfig { probability: 0.0, ..Default::default() };
        assert!(refuse(vec![vec![0, 5, 2]], 1, never).contains("probability"));
        let much = MaskingConfig { mask: 0.8, random: 0.3, ..Default::default() };
        assert!(refuse(vec![vec![0, 5, 2]], 1, much).contains("above 1"));
        Ok(())
    }
}
