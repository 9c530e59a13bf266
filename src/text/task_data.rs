//! The batches of a task: length-bucketed to tune on, in order of length to evaluate.

use anyhow::{Result, ensure};
use rand::seq::SliceRandom;
use tch::{Device, Kind, Tensor};

use super::batch::Recent;
use super::sequences::in_parallel;
use super::{Example, TokenBatch, Tokenizer};
use crate::native::upload;
use crate::seed;

/// A batch of a task.
#[derive(Debug)]
pub struct TaskBatch {
    /// The texts.
    pub tokens: TokenBatch,
    /// (b) int64.
    pub labels: Tensor,
    /// Which examples these are: indices into the split.
    pub rows: Vec<i64>,
}

impl TaskBatch {
    /// The same batch on `device`.
    pub fn to_device(&self, device: Device) -> Result<Self> {
        let labels = upload(&self.labels, device)?;
        Ok(Self { tokens: self.tokens.to_device(device)?, labels, rows: self.rows.clone() })
    }
}

/// A split of a task, encoded.
#[derive(Debug)]
pub struct TaskData {
    ids: Vec<Vec<i64>>,
    seconds: Vec<Option<usize>>,
    labels: Vec<i64>,
    pad: i64,
    truncated: usize,
    plans: Recent<(u64, usize, usize), Vec<Vec<usize>>>,
}

impl TaskData {
    /// Encodes `examples`, each cut off at `max_len` tokens; [`TaskData::truncated`] tells how many were.
    ///
    /// # Errors
    /// When there are no examples.
    pub fn new(examples: &[Example], tokenizer: &Tokenizer, max_len: usize) -> Result<Self> {
        ensure!(!examples.is_empty(), "there are no examples to make batches of");
        let encodings = in_parallel(examples, |one| tokenizer.encode(&one.text, one.text_pair.as_deref(), max_len))?;
        Ok(Self {
            truncated: encodings.iter().filter(|encoding| encoding.truncated).count(),
            seconds: encodings.iter().map(|encoding| encoding.second).collect(),
            ids: encodings.into_iter().map(|encoding| encoding.ids).collect(),
            labels: examples.iter().map(|example| example.label as i64).collect(),
            pad: tokenizer.pad_id(),
            plans: Recent::default(),
        })
    }

    /// How many examples there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Never true: [`TaskData::new`] refuses an empty split.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// How many texts were cut off.
    pub fn truncated(&self) -> usize {
        self.truncated
    }

    /// Labels of all examples, in order.
    pub fn labels(&self) -> &[i64] {
        &self.labels
    }

    /// Share of the most frequent label, in [0, 1]: the accuracy of always answering it.
    pub fn majority_share(&self) -> f64 {
        let mut counts = std::collections::HashMap::new();
        self.labels.iter().for_each(|label| *counts.entry(label).or_insert(0_usize) += 1);
        counts.into_values().max().unwrap_or(0) as f64 / self.len() as f64
    }

    /// Length of the longest example in tokens.
    pub fn longest(&self) -> usize {
        self.ids.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Batches an epoch of `batch_size` has.
    pub fn batches_per_epoch(&self, batch_size: usize) -> usize {
        self.len().div_ceil(batch_size.max(1))
    }

    /// The batch of `step`, a pure function of the arguments: every epoch visits every example once, in an order drawn from
    /// (`seed`, epoch). Texts of similar length go together; an epoch's batches differ by at most one example in size.
    ///
    /// # Errors
    /// When `batch_size` is 0.
    pub fn batch(&self, step: usize, batch_size: usize, seed: u64) -> Result<TaskBatch> {
        ensure!(batch_size > 0, "a batch needs at least one example; batch_size is 0");
        let per_epoch = self.batches_per_epoch(batch_size);
        let epoch = step / per_epoch;
        let plan = self.plans.get((seed, batch_size, epoch), || self.plan(batch_size, seed, epoch));
        self.rows(&plan[step % per_epoch])
    }

    /// Exactly these examples, in this order.
    ///
    /// # Errors
    /// When there are none, or one does not exist.
    pub fn rows(&self, rows: &[usize]) -> Result<TaskBatch> {
        if let Some(row) = rows.iter().find(|&&row| row >= self.len()) {
            anyhow::bail!("there is no example {row}; the split has {}", self.len());
        }
        let sequences: Vec<&[i64]> = rows.iter().map(|&row| self.ids[row].as_slice()).collect();
        let labels: Vec<i64> = rows.iter().map(|&row| self.labels[row]).collect();
        let seconds: Vec<Option<usize>> = rows.iter().map(|&row| self.seconds[row]).collect();
        Ok(TaskBatch {
            tokens: TokenBatch::new(&sequences, self.pad)?.with_seconds(&seconds)?,
            labels: Tensor::f_from_slice(&labels)?.f_to_kind(Kind::Int64)?,
            rows: rows.iter().map(|&row| row as i64).collect(),
        })
    }

    /// All examples once, in order of length, each batch with at most `max_tokens` tokens, padding included (a text longer
    /// than that stands alone).
    pub fn evaluation_batches(&self, max_tokens: usize) -> Result<Vec<TaskBatch>> {
        let mut rows: Vec<usize> = (0..self.len()).collect();
        rows.sort_by_key(|&row| (self.ids[row].len(), row));
        let mut batches = Vec::new();
        let mut start = 0;
        for end in 1..=rows.len() {
            let full = end == rows.len() || (end + 1 - start) * self.ids[rows[end]].len() > max_tokens;
            if full {
                batches.push(self.rows(&rows[start..end])?);
                start = end;
            }
        }
        Ok(batches)
    }

    /// Shuffle, sort by length within every 16 batches' worth, cut, and shuffle the batches.
    fn plan(&self, batch_size: usize, seed: u64, epoch: usize) -> Vec<Vec<usize>> {
        const BATCHES_TO_SORT: usize = 16;
        let mut rng = seed::rng(seed, "task-order", epoch as u64);
        let mut rows: Vec<usize> = (0..self.len()).collect();
        rows.shuffle(&mut rng);
        for pool in rows.chunks_mut(batch_size.saturating_mul(BATCHES_TO_SORT)) {
            pool.sort_by_key(|&row| self.ids[row].len());
        }
        let count = self.batches_per_epoch(batch_size);
        let cut = |batch: usize| batch * rows.len() / count;
        let mut plan: Vec<Vec<usize>> = (0..count).map(|batch| rows[cut(batch)..cut(batch + 1)].to_vec()).collect();
        plan.shuffle(&mut rng);
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 examples: number k has k % 9 + 1 words and the label k % 3.
    fn data() -> Result<TaskData> {
        let example = |row: usize| Example { text: vec!["w"; row % 9 + 1].join(" "), text_pair: None, label: row % 3 };
        TaskData::new(&(0..100).map(example).collect::<Vec<_>>(), &Tokenizer::word_level(&["w"])?, 8)
    }

    fn ids(batch: &TaskBatch) -> Result<Vec<Vec<i64>>> {
        Ok(Vec::try_from(&batch.tokens.input_ids)?)
    }

    #[test]
    fn an_epoch_visits_every_example_once_in_batches_of_nearly_equal_size() -> Result<()> {
        let data = data()?;
        assert_eq!((data.truncated(), data.longest(), data.batches_per_epoch(32)), (33, 8, 4));
        assert_eq!(data.majority_share(), 0.34, "100 labels of three: 34, 33, 33");
        for epoch in 0..3 {
            let batches = (0..4).map(|step| data.batch(epoch * 4 + step, 32, 9)).collect::<Result<Vec<_>>>()?;
            let mut rows: Vec<i64> = batches.iter().flat_map(|batch| batch.rows.clone()).collect();
            rows.sort_unstable();
            assert_eq!(rows, (0..100).collect::<Vec<_>>());
            assert!(batches.iter().all(|batch| batch.rows.len() == 25));
        }
        // More than there is: the whole split, every time.
        assert_eq!(data.batch(5, 1000, 0)?.rows.len(), 100);
        assert!(data.batch(0, 0, 0).is_err());
        Ok(())
    }

    #[test]
    fn a_batch_depends_on_its_arguments_alone() -> Result<()> {
        let (data, other) = (data()?, data()?);
        let before = data.batch(17, 8, 1)?;
        for step in 0..40 {
            other.batch(step, 8, 2)?;
            other.batch(step, 16, 1)?;
        }
        let after = other.batch(17, 8, 1)?;
        assert_eq!((&before.rows, ids(&before)?), (&after.rows, ids(&after)?));
        assert_eq!(Vec::<i64>::try_from(&before.labels)?, before.rows.iter().map(|row| row % 3).collect::<Vec<_>>());
        assert_ne!(before.rows, data.batch(17, 8, 2)?.rows, "another seed");
        assert_ne!(before.rows, data.batch(17 + 13, 8, 1)?.rows, "another epoch");
        Ok(())
    }

    #[test]
    fn texts_of_similar_length_go_together() -> Result<()> {
        let data = data()?;
        let padding =
            |batch: &TaskBatch| -> Result<usize> { Ok(ids(batch)?.concat().iter().filter(|&&id| id == 1).count()) };
        let bucketed = (0..13).map(|step| padding(&data.batch(step, 8, 0)?)).sum::<Result<usize>>()?;
        let rows: Vec<usize> = (0..100).collect();
        let plain = rows.chunks(8).map(|rows| padding(&data.rows(rows)?)).sum::<Result<usize>>()?;
        assert!(bucketed * 3 < plain, "{bucketed} against {plain}");
        Ok(())
    }

    #[test]
    fn evaluation_sees_every_row_once_within_its_token_budget() -> Result<()> {
        let data = data()?;
        let batches = data.evaluation_batches(64)?;
        let mut rows: Vec<i64> = batches.iter().flat_map(|batch| batch.rows.clone()).collect();
        rows.sort_unstable();
        assert_eq!(rows, (0..100).collect::<Vec<_>>());
        assert!(batches.iter().all(|batch| batch.tokens.size().0 * batch.tokens.size().1 <= 64));
        assert_eq!(data.evaluation_batches(1)?.len(), 100);
        assert_eq!(data.evaluation_batches(usize::MAX)?.len(), 1);
        assert!(data.rows(&[100]).is_err());
        Ok(())
    }
}
