//! Batches of token ids.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};

use crate::native::upload;

/// Sequences of one batch, padded to the longest of them.
#[derive(Debug)]
pub struct TokenBatch {
    /// (b, t) int64.
    pub input_ids: Tensor,
    /// (b, t) bool, true where a token stands; `None` when nothing is padded.
    pub attention_mask: Option<Tensor>,
    /// (b, t) int64: 0 in the first text, 1 in the second of a pair, where the tokenizer tells them apart; `None` when all are 0.
    pub token_types: Option<Tensor>,
}

impl TokenBatch {
    /// Pads `sequences` with `pad` to the longest one.
    ///
    /// # Errors
    /// When there is no sequence, or all are empty.
    pub fn new<S: AsRef<[i64]>>(sequences: &[S], pad: i64) -> Result<Self> {
        let longest = sequences.iter().map(|ids| ids.as_ref().len()).max().unwrap_or(0);
        ensure!(longest > 0, "a batch needs at least one token");
        let shape = [sequences.len() as i64, longest as i64];
        let mut ids = vec![pad; sequences.len() * longest];
        let mut mask = vec![false; ids.len()];
        for (row, sequence) in sequences.iter().map(AsRef::as_ref).enumerate() {
            let start = row * longest;
            ids[start..start + sequence.len()].copy_from_slice(sequence);
            mask[start..start + sequence.len()].fill(true);
        }
        let padded = mask.contains(&false);
        Ok(Self {
            input_ids: Tensor::f_from_slice(&ids)?.f_view(shape)?,
            attention_mask: padded.then(|| Tensor::f_from_slice(&mask)?.f_view(shape)).transpose()?,
            token_types: None,
        })
    }

    /// The same, where `seconds` says at which token of each sequence its second text begins, if it has one.
    ///
    /// # Errors
    /// When there are not as many as sequences.
    pub fn with_seconds(mut self, seconds: &[Option<usize>]) -> Result<Self> {
        let (b, t) = self.size();
        ensure!(seconds.len() as i64 == b, "{} second texts for {b} sequences", seconds.len());
        if seconds.iter().all(Option::is_none) {
            return Ok(self);
        }
        let starts: Vec<i64> = seconds.iter().map(|second| second.map_or(t, |start| start as i64)).collect();
        let starts = Tensor::f_from_slice(&starts)?.f_view([b, 1])?;
        let places = Tensor::f_arange(t, (Kind::Int64, Device::Cpu))?.f_view([1, t])?;
        let types = places.f_ge_tensor(&starts)?.f_to_kind(Kind::Int64)?; // (b, t)
        // Padding is of type 0, as Python's tokenizers have it.
        self.token_types = Some(match &self.attention_mask {
            Some(mask) => types.f_mul(mask)?,
            None => types,
        });
        Ok(self)
    }

    /// (b, t).
    pub fn size(&self) -> (i64, i64) {
        let size = self.input_ids.size();
        (size[0], size[1])
    }

    /// The same batch on `device`.
    pub fn to_device(&self, device: Device) -> Result<Self> {
        Ok(Self {
            input_ids: upload(&self.input_ids, device)?,
            attention_mask: self.attention_mask.as_ref().map(|mask| upload(mask, device)).transpose()?,
            token_types: self.token_types.as_ref().map(|types| upload(types, device)).transpose()?,
        })
    }

    /// A second handle on the same tensors; nothing is copied.
    pub fn shallow_clone(&self) -> Self {
        Self {
            input_ids: self.input_ids.shallow_clone(),
            attention_mask: self.attention_mask.as_ref().map(Tensor::shallow_clone),
            token_types: self.token_types.as_ref().map(Tensor::shallow_clone),
        }
    }
}

/// The last few values of a pure function that is dear: orders of epochs, here.
#[derive(Debug)]
pub(super) struct Recent<K, V>(Mutex<Vec<(K, Arc<V>)>>);

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<K: PartialEq, V> Recent<K, V> {
    const KEPT: usize = 3;

    pub(super) fn get(&self, key: K, make: impl FnOnce() -> V) -> Arc<V> {
        // A poisoned lock means that `make` panicked elsewhere; what is stored is still whole.
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, value)) = recent.iter().find(|(known, _)| *known == key) {
            return value.clone();
        }
        let value = Arc::new(make());
        recent.truncate(Self::KEPT - 1);
        recent.insert(0, (key, value.clone()));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_padded_to_its_longest_text_and_masked_only_if_padded() -> Result<()> {
        let batch = TokenBatch::new(&[vec![0, 5, 2], vec![0, 2]], 1)?;
        assert_eq!(Vec::<Vec<i64>>::try_from(&batch.input_ids)?, [[0, 5, 2], [0, 2, 1]]);
        let mask = batch.attention_mask.as_ref().map(|mask| (mask.kind(), Vec::<Vec<bool>>::try_from(mask)));
        let Some((Kind::Bool, Ok(mask))) = mask else { anyhow::bail!("no mask") };
        assert_eq!(mask, [[true; 3], [true, true, false]]);
        assert!(TokenBatch::new(&[vec![0, 2], vec![0, 2]], 1)?.attention_mask.is_none());
        let types = TokenBatch::new(&[vec![0, 5, 2, 6, 2], vec![0, 5, 2], vec![0, 2, 6, 2]], 1)?;
        let types = types.with_seconds(&[Some(3), None, Some(2)])?.token_types.map(Vec::<Vec<i64>>::try_from);
        let Some(Ok(types)) = types else { anyhow::bail!("no types") };
        assert_eq!(types, [[0, 0, 0, 1, 1], [0; 5], [0, 0, 1, 1, 0]]);
        assert!(TokenBatch::new(&[vec![0, 2]], 1)?.with_seconds(&[None])?.token_types.is_none());
        assert!(TokenBatch::new(&Vec::<Vec<i64>>::new(), 1).is_err());
        Ok(())
    }
}
