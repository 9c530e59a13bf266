//! Where each named tensor lies inside the one flat buffer of a [`Theta`](super::Theta).

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// Every tensor starts at a multiple of this many elements: 64 bytes of `f32`, a cache line.
const ALIGNMENT: i64 = 16;
/// No buffer has more elements than this: their bytes are still counted by an `i64`.
const LARGEST: i64 = i64::MAX / 16;

/// Where in the model a tensor belongs, in the order in which data flows through it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The embeddings and their LayerNorm.
    Embeddings,
    /// The layer with this number, with the modules in it.
    Layer(usize),
    /// The map that reads the first token for classifiers, where it is pre-trained.
    Pooler,
    /// A head, or a tensor of which nothing is known.
    #[default]
    Other,
}

/// A tensor that is to be laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The tensor's name as in Hugging Face checkpoints.
    pub name: String,
    /// Its shape.
    pub shape: Vec<i64>,
    /// Whether weight decay applies to it: not to biases and LayerNorms.
    pub decay: bool,
    /// Where in the model it belongs.
    pub part: Part,
}

/// Of a tensor that no architecture describes: vectors (biases, LayerNorms) do not decay, matrices do.
impl From<(String, Vec<i64>)> for Slot {
    fn from((name, shape): (String, Vec<i64>)) -> Slot {
        Slot { name, decay: shape.len() > 1, shape, part: Part::Other }
    }
}

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
    /// Whether weight decay applies to it: not to biases and LayerNorms.
    pub decay: bool,
    /// Where in the model it belongs.
    pub part: Part,
}

impl Entry {
    /// The same tensor, to be laid out elsewhere.
    pub fn slot(&self) -> Slot {
        Slot { name: self.name.clone(), shape: self.shape.clone(), decay: self.decay, part: self.part }
    }

    /// What the part it belongs to is called: `embeddings`, `layer 3`, and a head by the first word of its names.
    pub(crate) fn part_name(&self) -> String {
        match self.part {
            Part::Embeddings => "embeddings".to_string(),
            Part::Layer(layer) => format!("layer {layer}"),
            Part::Pooler => "pooler".to_string(),
            Part::Other => self.name.split('.').next().unwrap_or(&self.name).to_string(),
        }
    }

    /// Its name inside that part: of a layer what follows its number, of the embeddings module and tensor.
    pub(crate) fn name_in_part(&self) -> &str {
        let after = |mark: &str| self.name.split_once(mark).map(|(_, inside)| inside);
        let inside = match self.part {
            Part::Layer(layer) => after(&format!(".{layer}.")),
            Part::Embeddings | Part::Pooler => self.name.rmatch_indices('.').nth(1).map(|(at, _)| &self.name[at + 1..]),
            Part::Other => after("."),
        };
        inside.unwrap_or(&self.name)
    }

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
    /// Errors when a name stands twice, or a shape has a negative size or more elements than can be counted.
    pub fn new<S: Into<Slot>>(tensors: impl IntoIterator<Item = S>) -> Result<Layout> {
        let (decayed, plain): (Vec<_>, Vec<_>) = tensors.into_iter().map(S::into).partition(|slot| slot.decay);
        let mut layout = Layout { entries: Vec::new(), index: HashMap::new(), len: 0 };
        for Slot { name, shape, decay, part } in decayed.into_iter().chain(plain) {
            if layout.index.insert(name.clone(), layout.entries.len()).is_some() {
                bail!("two tensors are named {name}: names must be unique");
            }
            let impossible = || format!("tensor {name} has the impossible shape {shape:?}");
            let times = |len: i64, &size: &i64| if size < 0 { None } else { len.checked_mul(size) };
            let len = shape.iter().try_fold(1, times).filter(|&len| len <= LARGEST).with_context(impossible)?;
            let end = layout.len.checked_add(padded(len)).filter(|&end| end <= LARGEST).with_context(impossible)?;
            layout.entries.push(Entry { name, shape, offset: layout.len, len, decay, part });
            layout.len = end;
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
        let same = |(a, b): (&Entry, &Entry)| (&a.name, &a.shape, a.offset) == (&b.name, &b.shape, b.offset);
        if self.entries.len() == other.entries.len() && self.entries.iter().zip(&other.entries).all(same) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(tensors: &[(&str, &[i64])]) -> Result<Layout> {
        Layout::new(tensors.iter().map(|(name, shape)| (name.to_string(), shape.to_vec())))
    }

    #[test]
    fn decayed_tensors_come_first_and_start_on_cache_lines() -> Result<()> {
        let layout = layout(&[("a.bias", &[3]), ("a.weight", &[3, 5]), ("norm.weight", &[3]), ("b.weight", &[17, 1])])?;
        let places: Vec<_> = layout.entries().iter().map(|e| (e.name.as_str(), e.offset, e.len, e.decay)).collect();
        assert_eq!(
            places,
            [
                ("a.weight", 0, 15, true),
                ("b.weight", 16, 17, true),
                ("a.bias", 48, 3, false),
                ("norm.weight", 64, 3, false)
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
    fn sizes_that_overflow_are_refused_by_name() {
        for shape in [&[1 << 62, 2][..], &[1 << 40, 1 << 40], &[-3], &[i64::MAX]] {
            let error = layout(&[("a", &[2]), ("w", shape)]).unwrap_err().to_string();
            assert!(error.contains("tensor w has the impossible shape"), "{error}");
        }
    }

    #[test]
    fn a_repeated_name_is_refused() {
        assert!(layout(&[("w", &[1]), ("w", &[1])]).unwrap_err().to_string().contains("two tensors are named w"));
    }
}
