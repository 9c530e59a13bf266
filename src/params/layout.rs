//! Where each named tensor lies inside the one flat buffer of a [`Theta`](super::Theta).

use std::collections::HashMap;

use anyhow::{Result, bail};
use sha2::{Digest, Sha256};

/// Every tensor starts at a multiple of this many elements: 64 bytes of `f32`, a cache line.
const ALIGNMENT: i64 = 16;

/// One tensor's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The tensor's name as in Hugging Face checkpoints.
    pub name: String,
    /// Its shape.
    pub shape: Vec<i64>,
    /// Where it starts, in elements.
    pub offset: i64,
    /// How many elements it has; what follows up to the next offset is zero padding.
    pub len: i64,
    /// Whether weight decay applies to it: not to biases and LayerNorm weights.
    pub decay: bool,
}

impl Entry {
    /// Elements including the padding behind.
    pub fn padded_len(&self) -> i64 {
        padded(self.len)
    }
}

/// The order, names and shapes of the tensors in a flat buffer. Decayed tensors come first, so a decay group is one slice.
#[derive(Clone, Debug)]
pub struct Layout {
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
    len: i64,
}

impl Layout {
    /// Lays tensors out in the order given, those with weight decay before those without.
    ///
    /// Errors when a name stands twice or a shape has a negative size.
    pub fn new(tensors: impl IntoIterator<Item = (String, Vec<i64>)>) -> Result<Layout> {
        let (decayed, plain): (Vec<_>, Vec<_>) = tensors.into_iter().partition(|(name, _)| decays(name));
        let mut layout = Layout { entries: Vec::new(), index: HashMap::new(), len: 0 };
        for (name, shape) in decayed.into_iter().chain(plain) {
            if shape.iter().any(|&size| size < 0) {
                bail!("tensor {name} has the impossible shape {shape:?}");
            }
            if layout.index.insert(name.clone(), layout.entries.len()).is_some() {
                bail!("two tensors are named {name}: names must be unique");
            }
            let len = shape.iter().product();
            let decay = decays(&name);
            layout.entries.push(Entry { name, shape, offset: layout.len, len, decay });
            layout.len += padded(len);
        }
        Ok(layout)
    }

    /// The tensors in the order of the buffer.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The place of the tensor with this name.
    pub fn find(&self, name: &str) -> Result<&Entry> {
        match self.index.get(name) {
            Some(&at) => Ok(&self.entries[at]),
            None => bail!("there is no tensor named {name}; the first of {} is {:?}", self.entries.len(), self.first()),
        }
    }

    /// Elements of the flat buffer, padding included.
    pub fn buffer_len(&self) -> i64 {
        self.len
    }

    /// Parameters, padding excluded.
    pub fn num_parameters(&self) -> i64 {
        self.entries.iter().map(|entry| entry.len).sum()
    }

    /// A hash of names and shapes, in the order of the names: 16 hex digits.
    pub fn fingerprint(&self) -> String {
        let mut names: Vec<_> = self.entries.iter().map(|entry| format!("{}{:?}\n", entry.name, entry.shape)).collect();
        names.sort();
        Sha256::digest(names.concat()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Names the first differences to `other`, or nothing when both describe the same tensors in the same places.
    pub fn same_as(&self, other: &Layout) -> Result<()> {
        if self.entries == other.entries {
            return Ok(());
        }
        let mut differences = Vec::new();
        for entry in &self.entries {
            match other.index.get(&entry.name).map(|&at| &other.entries[at]) {
                None => differences.push(format!("{} is only in the first", entry.name)),
                Some(there) if there.shape != entry.shape => {
                    differences.push(format!("{} is {:?} here and {:?} there", entry.name, entry.shape, there.shape));
                }
                Some(_) => {}
            }
        }
        let only_there = other.entries.iter().filter(|entry| !self.index.contains_key(&entry.name));
        differences.extend(only_there.map(|entry| format!("{} is only in the second", entry.name)));
        if differences.is_empty() {
            differences.push("the same tensors stand in another order".to_string());
        }
        let more = differences.len().saturating_sub(5);
        differences.truncate(5);
        let tail = if more > 0 { format!(", and {more} more") } else { String::new() };
        bail!(
            "the layouts differ: {}{tail}. Arithmetic needs two models of the same architecture and vocabulary",
            differences.join("; ")
        )
    }

    fn first(&self) -> &str {
        self.entries.first().map_or("(none)", |entry| &entry.name)
    }
}

fn padded(len: i64) -> i64 {
    (len + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT
}

/// Decoupled weight decay leaves biases and LayerNorm weights alone, as in the `Trainer` of transformers.
fn decays(name: &str) -> bool {
    let norm = name.contains("LayerNorm") || name.contains("layer_norm");
    !norm && !name.ends_with(".bias") && name != "bias"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(tensors: &[(&str, &[i64])]) -> Result<Layout> {
        Layout::new(tensors.iter().map(|(name, shape)| (name.to_string(), shape.to_vec())))
    }

    #[test]
    fn decayed_tensors_come_first_and_start_on_cache_lines() -> Result<()> {
        let layout =
            layout(&[("a.bias", &[3]), ("a.weight", &[3, 5]), ("LayerNorm.weight", &[3]), ("b.weight", &[17])])?;
        let places: Vec<_> = layout.entries().iter().map(|e| (e.name.as_str(), e.offset, e.len, e.decay)).collect();
        assert_eq!(
            places,
            [
                ("a.weight", 0, 15, true),
                ("b.weight", 16, 17, true),
                ("a.bias", 48, 3, false),
                ("LayerNorm.weight", 64, 3, false)
            ]
        );
        assert_eq!((layout.buffer_len(), layout.num_parameters()), (80, 38));
        Ok(())
    }

    #[test]
    fn a_difference_is_named_with_both_shapes() -> Result<()> {
        let (a, b) = (layout(&[("w", &[2, 3]), ("x", &[1])])?, layout(&[("w", &[2, 4]), ("y", &[1])])?);
        let error = a.same_as(&b).unwrap_err().to_string();
        for part in ["w is [2, 3] here and [2, 4] there", "x is only in the first", "y is only in the second"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(a.same_as(&a).is_ok());
        Ok(())
    }

    #[test]
    fn a_repeated_name_is_refused() {
        assert!(layout(&[("w", &[1]), ("w", &[1])]).unwrap_err().to_string().contains("two tensors are named w"));
    }
}
