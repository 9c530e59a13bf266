//! safetensors out, and whole files in.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use safetensors::{
    Dtype,
    tensor::{Metadata, TensorInfo},
};
use tch::{Device, Tensor};

use super::{Stored, Theta};
use crate::files::write_atomic_with;

/// What a safetensors file holds.
pub struct Safetensors {
    /// The tensors by name, on the CPU, in the dtype of the file.
    pub tensors: HashMap<String, Tensor>,
    /// The file's string metadata.
    pub metadata: HashMap<String, String>,
}

/// Writes the tensors of these parameters, their names behind a prefix, into one file, atomically, with one metadata pair. One tensor
/// after the other goes to the disk; parameters on a GPU are copied to the CPU first, part by part.
///
/// One pair only: safetensors keeps metadata in a hash map, and a second pair would make the bytes depend on its order.
pub fn write_safetensors(path: impl AsRef<Path>, parts: &[(&str, &Theta)], key: &str, value: &str) -> Result<()> {
    let path = path.as_ref();
    let mut tensors: Vec<(String, usize, &str, Vec<usize>)> = Vec::new();
    for (part, (prefix, theta)) in parts.iter().enumerate() {
        for entry in theta.layout().entries() {
            let shape = entry.shape.iter().map(|&size| size as usize).collect();
            tensors.push((format!("{prefix}{}", entry.name), part, &entry.name, shape));
        }
    }
    // By name, as the safetensors library orders what is of one kind.
    tensors.sort();
    let mut end = 0;
    let described = tensors.iter().map(|(name, _, _, shape)| {
        let start = end;
        end += shape.iter().product::<usize>() * size_of::<f32>();
        (name.clone(), TensorInfo { dtype: Dtype::F32, shape: shape.clone(), data_offsets: (start, end) })
    });
    let failed = || format!("cannot encode {}", path.display());
    let metadata = HashMap::from([(key.to_string(), value.to_string())]);
    let header = Metadata::new(Some(metadata), described.collect()).with_context(failed)?;
    let mut header = serde_json::to_vec(&header).with_context(failed)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let on_cpu = |theta: &Theta| (theta.device() != Device::Cpu).then(|| theta.to_device(Device::Cpu)).transpose();
    let copies = parts.iter().map(|(_, theta)| on_cpu(theta)).collect::<Result<Vec<_>>>()?;
    write_atomic_with(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for (_, part, name, _) in &tensors {
            file.write_all(&copies[*part].as_ref().unwrap_or(parts[*part].1).bytes(name)?)?;
        }
        Ok(())
    })
}

/// Reads a whole file. A missing, truncated or foreign one is named, with the reason.
pub fn read_safetensors(path: impl AsRef<Path>) -> Result<Safetensors> {
    let stored = Stored::open(path)?;
    let tensors = stored.tensors().keys().map(|name| Ok((name.clone(), stored.read(name)?)));
    Ok(Safetensors {
        tensors: tensors.collect::<Result<_>>()?,
        metadata: stored.metadata().iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
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
        for entry in theta.layout().entries() {
            assert_eq!(loaded.tensors[&entry.name], theta.get(&entry.name)?);
        }
        let theirs = safetensors::SafeTensors::deserialize(&std::fs::read(&one)?)
            .map(|file| file.names().into_iter().map(str::to_string).collect::<Vec<_>>())?;
        assert_eq!(theirs.len(), 3, "the safetensors library reads it too: {theirs:?}");
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
