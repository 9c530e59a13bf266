//! Tensors on disk, read one by one: opening a file reads its header alone, and filling a vector needs no second copy of it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use safetensors::{Dtype, tensor::Metadata};
use serde::Deserialize;
use tch::{Kind, Tensor};

use super::{Layout, Theta};
use crate::files::read_json;

/// A header is at most this long, as in the safetensors library itself.
const LONGEST_HEADER: u64 = 100_000_000;
/// Bytes read at a time: a multiple of every element's size.
const PIECE: usize = 1 << 22;

/// Tensors in a safetensors file, or in several that an index joins. Only the headers have been read.
#[derive(Debug)]
pub struct Stored {
    source: PathBuf,
    files: Vec<File>,
    paths: Vec<PathBuf>,
    tensors: BTreeMap<String, StoredTensor>,
    metadata: BTreeMap<String, String>,
}

/// One tensor on disk.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    /// Its shape.
    pub shape: Vec<i64>,
    /// Its numbers' kind as the file names it.
    pub dtype: Dtype,
    file: usize,
    start: u64,
    bytes: u64,
}

/// `model.safetensors.index.json`
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Stored {
    /// Opens one safetensors file. A missing, truncated or foreign one is named, with the reason.
    pub fn open(path: impl AsRef<Path>) -> Result<Stored> {
        let path = path.as_ref();
        let mut stored = Stored::empty(path);
        stored.add(path)?;
        Ok(stored)
    }

    /// Opens the weights of a Hugging Face folder: `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    ///
    /// Errors where a shard is missing, or holds other tensors than the index says; where there is only `pytorch_model.bin`, with the
    /// line that converts it.
    pub fn open_folder(folder: impl AsRef<Path>) -> Result<Stored> {
        let folder = folder.as_ref();
        let (whole, index) = (folder.join("model.safetensors"), folder.join("model.safetensors.index.json"));
        if whole.is_file() {
            return Stored::open(whole);
        }
        if index.is_file() {
            return Stored::open_shards(&index);
        }
        ensure!(folder.is_dir(), "there is no folder {}", folder.display());
        for pickled in ["pytorch_model.bin", "pytorch_model.bin.index.json"] {
            ensure!(
                !folder.join(pickled).exists(),
                "{0} holds only {pickled}, which this program does not read. Convert it once, in Python: \
                 from transformers import AutoModelForMaskedLM as M; M.from_pretrained({0:?}).save_pretrained({0:?}) \
                 (AutoModelForSequenceClassification for a classifier)",
                folder.display()
            );
        }
        bail!("{} holds no weights: neither model.safetensors nor model.safetensors.index.json", folder.display())
    }

    fn open_shards(index: &Path) -> Result<Stored> {
        let map = read_json::<Index>(index)?.weight_map;
        let folder = index.parent().unwrap_or(Path::new("."));
        let mut stored = Stored::empty(index);
        let mut shards: Vec<&String> = map.values().collect();
        shards.sort();
        shards.dedup();
        for shard in &shards {
            let plain = Path::new(shard).file_name().is_some_and(|name| name == shard.as_str());
            ensure!(plain, "{} names a shard {shard:?}, which is no plain file name", index.display());
            ensure!(
                folder.join(shard).is_file(),
                "the shard {shard} that {} names is not there: fetch the whole model again",
                index.display()
            );
            stored.add(&folder.join(shard))?;
        }
        for (name, shard) in &map {
            let found = stored.tensors.get(name).map(|tensor| shards[tensor.file]);
            ensure!(
                found == Some(shard),
                "{} says that {name} is in {shard}, but it is {}: index and shards do not belong together, fetch the whole model again",
                index.display(),
                found.map_or("in no shard".to_string(), |found| format!("in {found}"))
            );
        }
        let unlisted: Vec<&str> =
            stored.tensors.keys().filter(|name| !map.contains_key(*name)).map(String::as_str).collect();
        ensure!(
            unlisted.is_empty(),
            "the shards hold {} tensors that {} does not list ({}): index and shards do not belong together",
            unlisted.len(),
            index.display(),
            few(&unlisted)
        );
        Ok(stored)
    }

    fn empty(source: &Path) -> Stored {
        Stored {
            source: source.to_path_buf(),
            files: Vec::new(),
            paths: Vec::new(),
            tensors: BTreeMap::new(),
            metadata: BTreeMap::new(),
        }
    }

    /// Reads the header of one more file.
    fn add(&mut self, path: &Path) -> Result<()> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (header, data) = read_header(&file).with_context(|| {
            format!(
                "{} is not a whole safetensors file (truncated, or another format): fetch or make it again",
                path.display()
            )
        })?;
        for (name, info) in header.tensors() {
            let shape = info.shape.iter().map(|&size| i64::try_from(size)).collect::<Result<Vec<i64>, _>>();
            let (start, end) = info.data_offsets;
            let tensor = StoredTensor {
                shape: shape.with_context(|| format!("tensor {name} in {} is too large", path.display()))?,
                dtype: info.dtype,
                file: self.files.len(),
                start: data + start as u64,
                bytes: (end - start) as u64,
            };
            let twice = self.tensors.insert(name.clone(), tensor).is_some();
            ensure!(!twice, "two shards of {} hold a tensor {name}", self.source.display());
        }
        self.metadata.extend(header.metadata().clone().unwrap_or_default());
        self.files.push(file);
        self.paths.push(path.to_path_buf());
        Ok(())
    }

    /// The file, or the index of several.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// The tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, StoredTensor> {
        &self.tensors
    }

    /// The string metadata.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn find(&self, name: &str) -> Result<&StoredTensor> {
        self.tensors.get(name).with_context(|| format!("{} holds no tensor {name}", self.source.display()))
    }

    /// Reads one tensor, of the kind it has in the file.
    pub fn read(&self, name: &str) -> Result<Tensor> {
        let tensor = self.find(name)?;
        let kind = kind_of(tensor.dtype).with_context(|| format!("tensor {name} in {}", self.source.display()))?;
        let target = Tensor::f_empty(&tensor.shape, (kind, tch::Device::Cpu))?;
        self.read_into(name, &target)?;
        Ok(target)
    }

    /// Reads one tensor over the numbers of another of its shape, converted where kinds differ; says whether all of them are finite.
    fn read_into(&self, name: &str, target: &Tensor) -> Result<bool> {
        let (flat, mut done, mut finite) = (target.f_view([-1])?, 0, true);
        self.each_piece(name, |numbers| {
            let count = numbers.size1()?;
            let mut place = flat.f_narrow(0, done, count)?;
            tch::no_grad(|| place.f_copy_(numbers))?;
            finite &= !numbers.is_floating_point() || bool::try_from(place.f_isfinite()?.f_all()?)?;
            done += count;
            Ok(true)
        })?;
        Ok(finite)
    }

    /// Hands the numbers of a tensor on, a few megabytes at a time, while `take` asks for more.
    fn each_piece(&self, name: &str, mut take: impl FnMut(&Tensor) -> Result<bool>) -> Result<()> {
        let tensor = self.find(name)?;
        let failed = || format!("cannot load tensor {name} from {}", self.source.display());
        let kind = kind_of(tensor.dtype).with_context(failed)?;
        let (size, mut piece, mut done) = (kind.elt_size_in_bytes(), Vec::new(), 0);
        while done < tensor.bytes {
            piece.resize(PIECE.min((tensor.bytes - done) as usize), 0);
            self.files[tensor.file].read_exact_at(&mut piece, tensor.start + done).with_context(failed)?;
            let numbers =
                Tensor::f_from_data_size(&piece, &[(piece.len() / size) as i64], kind).with_context(failed)?;
            if !take(&numbers).with_context(failed)? {
                return Ok(());
            }
            done += piece.len() as u64;
        }
        Ok(())
    }

    /// Whether two tensors are the same numbers.
    pub(crate) fn same(&self, one: &str, other: &str) -> Result<bool> {
        let (a, b) = (self.find(one)?, self.find(other)?);
        if a.shape != b.shape || a.dtype != b.dtype {
            return Ok(false);
        }
        let (size, mut done, mut same, mut piece) = (b.bytes, 0_u64, true, Vec::new());
        self.each_piece(one, |numbers| {
            let bytes = (numbers.numel() * numbers.kind().elt_size_in_bytes()) as u64;
            piece.resize(bytes as usize, 0);
            self.files[b.file].read_exact_at(&mut piece, b.start + done)?;
            same = Tensor::f_from_data_size(&piece, &numbers.size(), numbers.kind())?.f_equal(numbers)?;
            done += bytes;
            Ok(same && done < size)
        })?;
        Ok(same)
    }

    /// The files: one, or the shards in the order of their names.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }
}

/// The header of a file, and where its data begins.
fn read_header(file: &File) -> Result<(Metadata, u64)> {
    let length = file.metadata()?.len();
    let mut size = [0; 8];
    file.read_exact_at(&mut size, 0).context("it is shorter than 8 bytes")?;
    let size = u64::from_le_bytes(size);
    ensure!(
        size <= LONGEST_HEADER && size + 8 <= length,
        "a header of {size} bytes does not fit a file of {length} bytes"
    );
    let mut header = vec![0; size as usize];
    file.read_exact_at(&mut header, 8)?;
    let header: Metadata = serde_json::from_slice(&header).context("its header is broken")?;
    let expected = 8 + size + header.data_len() as u64;
    ensure!(expected == length, "it has {length} bytes, its header describes {expected}");
    Ok((header, 8 + size))
}

fn kind_of(dtype: Dtype) -> Result<Kind> {
    Ok(match dtype {
        Dtype::BOOL => Kind::Bool,
        Dtype::U8 => Kind::Uint8,
        Dtype::I8 => Kind::Int8,
        Dtype::I16 => Kind::Int16,
        Dtype::I32 => Kind::Int,
        Dtype::I64 => Kind::Int64,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        other => bail!("dtype {other:?} is not supported: convert it to float32"),
    })
}

/// How stored tensors fail to fill a layout: what is not there beside what is there instead.
#[derive(Debug, Default)]
pub(crate) struct Misfit {
    missing: Vec<String>,
    wrong: Vec<String>,
    unexpected: Vec<String>,
}

impl Misfit {
    /// Holds each tensor of the layout against the one stored for it; whatever is stored beside is `unexpected`.
    pub fn of(layout: &Layout, stored: &Stored, names: &BTreeMap<String, String>, unexpected: Vec<String>) -> Misfit {
        let mut misfit = Misfit { unexpected, ..Misfit::default() };
        for entry in layout.entries() {
            let Some((name, tensor)) = names.get(&entry.name).and_then(|name| stored.tensors.get_key_value(name))
            else {
                misfit.missing.push(format!("{} {:?}", entry.name, entry.shape));
                continue;
            };
            if tensor.shape != entry.shape {
                misfit.wrong.push(format!("{name} has the shape {:?}, expected {:?}", tensor.shape, entry.shape));
            } else if !matches!(tensor.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64) {
                misfit.wrong.push(format!(
                    "{name} is of dtype {:?}, expected float32, float16 or bfloat16: convert it first",
                    tensor.dtype
                ));
            }
        }
        misfit
    }

    pub fn is_none(&self) -> bool {
        self.missing.is_empty() && self.wrong.is_empty() && self.unexpected.is_empty()
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Each kind is cut by itself, so that one of them cannot crowd out the others.
        let kinds =
            [("wrong", &self.wrong), ("missing", &self.missing), ("in the file, but of no use here", &self.unexpected)];
        for (kind, names) in kinds.into_iter().filter(|(_, names)| !names.is_empty()) {
            write!(f, "\n  {} {kind}:", names.len())?;
            names.iter().take(8).try_for_each(|name| write!(f, "\n    {name}"))?;
            if names.len() > 8 {
                write!(f, "\n    … and {} more", names.len() - 8)?;
            }
        }
        Ok(())
    }
}

/// The first few of many names.
pub(crate) fn few<S: AsRef<str>>(names: &[S]) -> String {
    let more = if names.len() > 5 { ", …" } else { "" };
    let named: Vec<&str> = names.iter().take(5).map(AsRef::as_ref).collect();
    format!("{}{more}", named.join(", "))
}

impl Theta {
    /// Fills `layout` from a file, all or nothing and converted to `f32`: `names` says which stored tensor becomes which, and
    /// `unexpected` names what is stored beside and should not be. One tensor after the other is read to its place.
    ///
    /// Errors list what is missing, unexpected, or of another shape or kind; and name tensors with NaN or infinity in them.
    pub(crate) fn from_stored(
        layout: std::sync::Arc<Layout>,
        stored: &Stored,
        names: &BTreeMap<String, String>,
        unexpected: Vec<String>,
    ) -> Result<Theta> {
        let misfit = Misfit::of(&layout, stored, names, unexpected);
        ensure!(misfit.is_none(), "{} does not fit; nothing was loaded:{misfit}", stored.source.display());
        let theta = Theta::zeros(layout, tch::Device::Cpu)?;
        let mut broken = Vec::new();
        for (ours, theirs) in names {
            if !stored.read_into(theirs, &theta.view(ours)?)? {
                broken.push(theirs.as_str());
            }
        }
        ensure!(
            broken.is_empty(),
            "{} holds NaN or infinity in {} tensors ({}): the weights are ruined, fetch or train them again",
            stored.source.display(),
            broken.len(),
            few(&broken)
        );
        Ok(theta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::write_safetensors;

    /// Names as they are, for a file that has them so.
    fn same_names(layout: &Layout) -> BTreeMap<String, String> {
        layout.entries().iter().map(|entry| (entry.name.clone(), entry.name.clone())).collect()
    }

    fn theta(names: &[&str]) -> Result<Theta> {
        let tensor = |at: usize| Tensor::from_slice(&[at as f32, 0.1, -2.5]).view([3, 1]);
        Theta::from_named(names.iter().enumerate().map(|(at, name)| (name.to_string(), tensor(at))))
    }

    #[test]
    fn half_precision_becomes_the_same_numbers_in_float() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("model.safetensors");
        let exact = theta(&["a", "b", "c", "d"])?;
        for kind in [Kind::Half, Kind::BFloat16, Kind::Double] {
            let tensor = |name: &str| Ok((name.to_string(), exact.get(name)?.to_kind(kind)));
            let tensors = ["a", "b", "c", "d"].into_iter().map(tensor).collect::<Result<Vec<_>>>()?;
            Tensor::write_safetensors(&tensors, &path)?;
            let stored = Stored::open(&path)?;
            let back = Theta::from_stored(exact.layout().clone(), &stored, &same_names(exact.layout()), vec![])?;
            for (name, tensor) in &tensors {
                assert_eq!(back.get(name)?, tensor.to_kind(Kind::Float), "{kind:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn shards_are_one_model_and_an_index_that_lies_is_refused() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        let (one, two) = (theta(&["a", "b"])?, theta(&["c"])?);
        write_safetensors(at("model-1.safetensors"), &[("", &one)], "format", "pt")?;
        write_safetensors(at("model-2.safetensors"), &[("", &two)], "format", "pt")?;
        let index = |map: serde_json::Value| {
            std::fs::write(at("model.safetensors.index.json"), serde_json::json!({ "weight_map": map }).to_string())
        };
        let (first, second) = ("model-1.safetensors", "model-2.safetensors");
        index(serde_json::json!({"a": first, "b": first, "c": second}))?;
        let stored = Stored::open_folder(folder.path())?;
        assert_eq!(stored.tensors().keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(stored.read("c")?, two.get("c")?);

        let refused = || format!("{:#}", Stored::open_folder(folder.path()).unwrap_err());
        index(serde_json::json!({"a": first, "b": second, "c": second}))?;
        assert!(refused().contains("says that b is in model-2.safetensors, but it is in model-1"), "{}", refused());
        index(serde_json::json!({"a": first, "c": second}))?;
        assert!(refused().contains("1 tensors that") && refused().contains("(b)"), "{}", refused());
        index(serde_json::json!({"a": first, "b": first, "c": "../../etc/c"}))?;
        assert!(refused().contains("no plain file name"), "{}", refused());
        index(serde_json::json!({"a": first, "b": first, "c": "model-3.safetensors"}))?;
        assert!(refused().contains("shard model-3.safetensors") && refused().contains("not there"), "{}", refused());
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_listed_beside_what_is_there_instead() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("model.safetensors");
        let tensors = [("w", Tensor::from_slice(&[1_i64, 2, 3])), ("x", Tensor::from_slice(&[1_f32]))];
        Tensor::write_safetensors(&tensors, &path)?;
        let wanted: Vec<String> = (0..30).map(|at| format!("layer.{at}.bias")).collect();
        let wanted =
            wanted.iter().map(|name| (name.clone(), vec![3])).chain([("w".into(), vec![3]), ("x".into(), vec![2])]);
        let layout = std::sync::Arc::new(Layout::new(wanted)?);
        let error =
            Theta::from_stored(layout.clone(), &Stored::open(&path)?, &same_names(&layout), vec!["other".into()]);
        let error = error.unwrap_err().to_string();
        for part in [
            "model.safetensors",
            "30 missing",
            "layer.0.bias [3]",
            "… and 22 more",
            "w is of dtype I64",
            "x has the shape [1], expected [2]",
            "other",
        ] {
            assert!(error.contains(part), "{part:?} is not in {error}");
        }
        Ok(())
    }

    #[test]
    fn ruined_numbers_are_found_and_named() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("model.safetensors");
        for bad in [f32::NAN, f32::INFINITY] {
            let mut ruined = theta(&["a", "b"])?;
            ruined.set("b", &Tensor::from_slice(&[1.0, bad, 2.0]).view([3, 1]))?;
            write_safetensors(&path, &[("", &ruined)], "format", "pt")?;
            let layout = ruined.layout();
            let error = Theta::from_stored(layout.clone(), &Stored::open(&path)?, &same_names(layout), vec![]);
            let error = error.unwrap_err().to_string();
            assert!(error.contains("NaN or infinity in 1 tensors (b)"), "{error}");
        }
        Ok(())
    }
}
