//! safetensors in and out.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use tch::{Kind, Tensor};

use super::Theta;
use crate::files::write_atomic;

/// What a safetensors file holds.
pub struct Safetensors {
    /// The tensors by name, on the CPU, in the dtype of the file.
    pub tensors: HashMap<String, Tensor>,
    /// The file's string metadata.
    pub metadata: HashMap<String, String>,
}

/// Writes the tensors of these parameters, their names behind a prefix, into one file, atomically, with one metadata pair.
///
/// One pair only: safetensors keeps metadata in a hash map, and a second pair would make the bytes depend on its order.
pub fn write_safetensors(path: impl AsRef<Path>, parts: &[(&str, &Theta)], key: &str, value: &str) -> Result<()> {
    let path = path.as_ref();
    let mut buffers = Vec::new();
    for (prefix, theta) in parts {
        for entry in theta.layout().entries() {
            let shape: Vec<usize> = entry.shape.iter().map(|&size| size as usize).collect();
            buffers.push((format!("{prefix}{}", entry.name), shape, theta.bytes(&entry.name)?));
        }
    }
    let views = buffers.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
        view.map(|view| (name.as_str(), view)).with_context(|| format!("cannot encode tensor {name}"))
    });
    let metadata = HashMap::from([(key.to_string(), value.to_string())]);
    let bytes = safetensors::serialize(views.collect::<Result<Vec<_>>>()?, Some(metadata))
        .with_context(|| format!("cannot encode {}", path.display()))?;
    write_atomic(path, &bytes)
}

/// Reads a whole file. A missing, truncated or foreign one is named, with the reason.
pub fn read_safetensors(path: impl AsRef<Path>) -> Result<Safetensors> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let broken = || {
        format!(
            "{} is not a whole safetensors file (truncated, or another format): fetch or make it again",
            path.display()
        )
    };
    let (_, header) = SafeTensors::read_metadata(&bytes).with_context(broken)?;
    let file = SafeTensors::deserialize(&bytes).with_context(broken)?;
    let mut tensors = HashMap::new();
    for (name, view) in file.tensors() {
        let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        let kind = kind_of(view.dtype()).with_context(|| format!("tensor {name} in {}", path.display()))?;
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)
            .with_context(|| format!("cannot load tensor {name} from {}", path.display()))?;
        tensors.insert(name, tensor);
    }
    Ok(Safetensors { tensors, metadata: header.metadata().clone().unwrap_or_default() })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn theta() -> Result<Theta> {
        let names = ["a.weight", "b.bias", "c.weight"];
        let tensors = names
            .iter()
            .enumerate()
            .map(|(i, name)| (name.to_string(), Tensor::from_slice(&[i as f32, 0.1, -2.5]).view([3, 1])));
        Theta::from_named(tensors)
    }

    #[test]
    fn what_was_written_is_read_back_to_the_bit_and_bytes_repeat() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let (one, two) = (folder.path().join("1.safetensors"), folder.path().join("2.safetensors"));
        let theta = theta()?;
        write_safetensors(&one, &[("", &theta)], "format", "pt")?;
        write_safetensors(&two, &[("", &theta)], "format", "pt")?;
        assert_eq!(std::fs::read(&one)?, std::fs::read(&two)?);
        let loaded = read_safetensors(&one)?;
        assert_eq!(loaded.metadata["format"], "pt");
        let back = Theta::from_loaded(theta.layout().clone(), loaded.tensors, "file")?;
        assert_eq!(back.fingerprint()?, theta.fingerprint()?);
        Ok(())
    }

    #[test]
    fn truncated_missing_and_foreign_files_are_named() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("model.safetensors");
        write_safetensors(&path, &[("", &theta()?)], "format", "pt")?;
        let whole = std::fs::read(&path)?;
        for bytes in [&whole[..whole.len() - 5], &whole[..3], b"not a tensor in sight".as_slice()] {
            std::fs::write(&path, bytes)?;
            let error = format!("{:#}", read_safetensors(&path).err().context("must fail")?);
            assert!(error.contains("model.safetensors") && error.contains("truncated"), "{error}");
        }
        let missing = format!("{:#}", read_safetensors(folder.path().join("absent")).err().context("must fail")?);
        assert!(missing.contains("absent") && missing.contains("No such file"), "{missing}");
        Ok(())
    }
}
