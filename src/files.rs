//! Files that are either whole or absent.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

/// Writes `bytes` to `path` through a temporary file beside it, so that no reader ever sees half a file.
/// Missing parent folders are made.
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    write_atomic_with(path, |file| Ok(file.write_all(bytes)?))
}

/// The same, of what `write` writes.
pub(crate) fn write_atomic_with(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut BufWriter<&File>) -> Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let failed = || format!("cannot write {}: is the folder writable and the disk not full?", path.display());
    std::fs::create_dir_all(folder).with_context(failed)?;
    let file = tempfile::Builder::new().prefix(".writing-").tempfile_in(folder).with_context(failed)?;
    let mut writer = BufWriter::with_capacity(1 << 20, file.as_file());
    write(&mut writer).with_context(failed)?;
    writer.flush().with_context(failed)?;
    drop(writer);
    file.as_file().sync_data().with_context(failed)?;
    readable_by_all(file.path());
    file.persist(path).with_context(failed)?;
    Ok(())
}

/// Writes `value` as indented JSON, atomically.
pub fn write_json(path: impl AsRef<Path>, value: &impl Serialize) -> Result<()> {
    let path = path.as_ref();
    let mut text = serde_json::to_string_pretty(value).with_context(|| format!("cannot encode {}", path.display()))?;
    text.push('\n');
    write_atomic(path, text.as_bytes())
}

/// Reads JSON; a missing file, bad JSON or an unknown field is named with the file and the line.
pub fn read_json<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<T> {
    let path = path.as_ref();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&as_json(&text)).with_context(|| format!("{} is not what was expected", path.display()))
}

/// Text of JSON as other programs write it, as JSON: without a byte order mark, and with `null` for the NaN and Infinity of Python.
pub(crate) fn as_json(text: &str) -> Cow<'_, str> {
    let text = without_mark(text);
    if !text.contains("NaN") && !text.contains("Infinity") {
        return Cow::Borrowed(text);
    }
    let (mut plain, mut rest, mut quoted) = (String::with_capacity(text.len()), text, false);
    while let Some(first) = rest.chars().next() {
        let number = ["NaN", "-Infinity", "Infinity"].into_iter().find(|number| !quoted && rest.starts_with(number));
        let taken = match (number, first) {
            (Some(number), _) => number.len(),
            (None, '\\') if quoted => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            _ => first.len_utf8(),
        };
        quoted ^= first == '"';
        plain.push_str(number.map_or(&rest[..taken], |_| "null"));
        rest = &rest[taken..];
    }
    Cow::Owned(plain)
}

/// Text without the byte order mark that some editors put before it.
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// SHA-256 of a file's bytes, its first 16 bytes in hexadecimal.
pub fn fingerprint(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let failed = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(failed)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).with_context(failed)? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    Ok(hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

/// Temporary files are private by default; what stays should have the permissions of an ordinary file.
fn readable_by_all(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644));
    }
    #[cfg(not(unix))]
    let _ = path;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_beside_it() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("deep/er/file.txt");
        write_atomic(&path, b"one")?;
        write_atomic(&path, b"two")?;
        assert_eq!(std::fs::read(&path)?, b"two");
        assert_eq!(std::fs::read_dir(path.parent().context("parent")?)?.count(), 1);
        Ok(())
    }

    #[test]
    fn numbers_that_only_python_writes_are_null_outside_of_texts() -> Result<()> {
        let text = "\u{feff}{\"a\": NaN, \"b\": [-Infinity, Infinity], \"c\": \"NaN, \\\"NaN\\\\\", \"d\": \"ü\"}";
        let value: serde_json::Value = serde_json::from_str(&as_json(text))?;
        assert_eq!(value, serde_json::json!({"a": null, "b": [null, null], "c": "NaN, \"NaN\\", "d": "ü"}));
        assert_eq!(as_json("{\"x\": 1}"), "{\"x\": 1}");
        Ok(())
    }

    #[test]
    fn an_unwritable_place_is_named_in_the_error() {
        let error = write_atomic("/proc/nowhere/file", b"x").unwrap_err().to_string();
        assert!(error.contains("/proc/nowhere/file"), "{error}");
    }
}
