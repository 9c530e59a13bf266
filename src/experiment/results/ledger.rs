//! Many small independent pieces of work, side by side, each remembered as a row of a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use serde::{Serialize, de::DeserializeOwned};

use crate::display::Progress;
use crate::experiment::parallel::in_workers;
use crate::files::write_atomic;

/// A row of a table: a key that no other row has, and what was measured.
pub(crate) trait Row: Serialize + DeserializeOwned + Send {
    /// What is to be done; also the name of the work.
    type Key: Ord + Clone + Display + Sync + Send;
    /// The file in the table's folder.
    const FILE: &'static str;

    fn key(&self) -> &Self::Key;

    /// A word for the progress line.
    fn headline(&self) -> String;
}

/// The rows of one file: work whose row is there is not done again. A row is appended as soon as its work is done, so that a program
/// that is killed loses what it was at and nothing else.
pub(crate) struct Ledger<R: Row> {
    path: PathBuf,
    open: Mutex<Open<R>>,
}

struct Open<R: Row> {
    rows: BTreeMap<R::Key, R>,
    file: File,
}

/// The rows in `folder`, sorted by key; none where there is no file.
///
/// Errors: a line that is not a row, except a last one without its end: that work was cut off while it was written down.
pub(crate) fn read<R: Row>(folder: &Path) -> Result<Vec<R>> {
    let path = folder.join(R::FILE);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |(at, line): (usize, &str)| -> Result<R> {
        serde_json::from_str(line).with_context(|| {
            let shown = path.display();
            format!("line {} of {shown} is not a row that this program writes: it was changed, or another version wrote it; choose another --out", at + 1)
        })
    };
    let rows = whole.lines().enumerate().filter(|(_, line)| !line.is_empty()).map(parse);
    // Of two rows with one key the later one counts.
    let rows: BTreeMap<R::Key, R> = rows.map(|row| row.map(|row| (row.key().clone(), row))).collect::<Result<_>>()?;
    Ok(rows.into_values().collect())
}

impl<R: Row> Ledger<R> {
    /// Opens the file in `folder`, or makes it, keeping the rows that `keep` wants.
    pub fn open(folder: &Path, keep: impl Fn(&R) -> bool) -> Result<Ledger<R>> {
        let rows = read::<R>(folder)?.into_iter().filter(keep).map(|row| (row.key().clone(), row)).collect();
        let path = folder.join(R::FILE);
        // Written anew: sorted, without what is not kept and without half a last line.
        write_rows(&path, &rows)?;
        let file = OpenOptions::new().append(true).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Ledger { path, open: Mutex::new(Open { rows, file }) })
    }

    fn open_file(&self) -> MutexGuard<'_, Open<R>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a row.
    pub fn add(&self, row: R) -> Result<()> {
        let line = serde_json::to_string(&row)? + "\n";
        let mut open = self.open_file();
        let written = open.file.write_all(line.as_bytes()).and_then(|()| open.file.sync_data());
        written.with_context(|| format!("cannot write {}: is the disk full?", self.path.display()))?;
        open.rows.insert(row.key().clone(), row);
        Ok(())
    }

    /// The keys that have no row yet, in the order given.
    pub fn missing(&self, keys: &[R::Key]) -> Vec<R::Key> {
        let open = self.open_file();
        keys.iter().filter(|key| !open.rows.contains_key(key)).cloned().collect()
    }

    /// Does all work that is not remembered, on `workers` threads of `threads` libtorch threads each. `prepare` makes what a worker keeps
    /// between its pieces. Neighbours that are `together` go to one worker, one after the other. The first error stops the others
    /// after their present piece; what is done stays done.
    ///
    /// Results do not depend on the number of workers: a run's randomness is its own.
    #[allow(
        clippy::too_many_arguments,
        reason = "what is done, where, how it is shared out, and two closures that do it"
    )]
    pub fn run<W>(
        &self,
        label: &str,
        keys: &[R::Key],
        together: impl Fn(&R::Key, &R::Key) -> bool,
        workers: usize,
        threads: usize,
        prepare: impl Fn() -> Result<W> + Sync,
        work: impl Fn(&mut W, &R::Key) -> Result<R> + Sync,
    ) -> Result<()> {
        let missing = self.missing(keys);
        if missing.is_empty() {
            return Ok(());
        }
        let count = missing.len();
        let progress = Progress::jobs(label, count, "jobs");
        let groups: Vec<&[R::Key]> = missing.chunk_by(|a, b| together(a, b)).collect();
        let done = in_workers(groups, workers, threads, prepare, |kept, keys| {
            for key in keys {
                let row = work(kept, key).with_context(|| format!("{key} failed"))?;
                let headline = format!("{key}: {}", row.headline());
                self.add(row)?;
                progress.advance(headline);
            }
            Ok(())
        });
        progress.finish(format!("{count} jobs"));
        done.map(drop)
    }

    /// The rows of these keys, sorted. The file is left with its rows sorted as well, so that equal runs leave equal files.
    pub fn finish(self, keys: &[R::Key]) -> Result<Vec<R>> {
        let wanted: BTreeSet<&R::Key> = keys.iter().collect();
        let open = self.open.into_inner().unwrap_or_else(PoisonError::into_inner);
        write_rows(&self.path, &open.rows)?;
        Ok(open.rows.into_iter().filter(|(key, _)| wanted.contains(key)).map(|(_, row)| row).collect())
    }
}

fn write_rows<R: Row>(path: &Path, rows: &BTreeMap<R::Key, R>) -> Result<()> {
    let lines = rows.values().map(|row| Ok(serde_json::to_string(row)? + "\n")).collect::<Result<String>>()?;
    write_atomic(path, lines.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use anyhow::bail;
    use serde::Deserialize;

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Square {
        root: u64,
        square: u64,
    }

    impl Row for Square {
        type Key = u64;
        const FILE: &'static str = "squares.jsonl";

        fn key(&self) -> &u64 {
            &self.root
        }

        fn headline(&self) -> String {
            self.square.to_string()
        }
    }

    fn square(root: u64) -> Square {
        Square { root, square: root * root }
    }

    #[test]
    fn work_is_done_once_and_remembered_by_the_next_program() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let (count, keys) = (AtomicUsize::new(0), (0..7).collect::<Vec<u64>>());
        for _ in 0..2 {
            let ledger = Ledger::<Square>::open(folder.path(), |_| true)?;
            ledger.run(
                "squares",
                &keys,
                |a, b| a / 2 == b / 2,
                2,
                1,
                || Ok(()),
                |(), root| {
                    count.fetch_add(1, Ordering::Relaxed);
                    Ok(square(*root))
                },
            )?;
            assert_eq!(ledger.finish(&[6, 2])?.iter().map(|row| row.square).collect::<Vec<_>>(), [4, 36]);
        }
        assert_eq!(count.into_inner(), 7);
        // What is not wanted any more is done again.
        let ledger = Ledger::<Square>::open(folder.path(), |row| row.root != 3)?;
        assert_eq!(ledger.missing(&keys), [3]);
        Ok(())
    }

    #[test]
    fn a_failure_is_named_and_what_was_done_stays_done() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let run = |bad: u64| -> Result<()> {
            let ledger = Ledger::<Square>::open(folder.path(), |_| true)?;
            let work = |(): &mut (), root: &u64| if *root == bad { bail!("no") } else { Ok(square(*root)) };
            ledger.run("squares", &(0..5).collect::<Vec<_>>(), |_, _| false, 1, 1, || Ok(()), work)
        };
        let error = run(2).unwrap_err().to_string();
        assert!(error.contains("2 failed"), "{error}");
        assert_eq!(read::<Square>(folder.path())?.iter().map(|row| row.root).collect::<Vec<_>>(), [0, 1]);
        run(99)?;
        assert_eq!(read::<Square>(folder.path())?.len(), 5);
        Ok(())
    }

    #[test]
    fn half_a_last_line_is_work_to_be_done_again_and_any_other_broken_line_is_refused() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join(Square::FILE);
        std::fs::write(&path, "{\"root\":1,\"square\":1}\n{\"root\":2,\"squ")?;
        let ledger = Ledger::<Square>::open(folder.path(), |_| true)?;
        assert_eq!(ledger.missing(&[1, 2]), [2]);
        ledger.add(square(2))?;
        assert_eq!(read::<Square>(folder.path())?.len(), 2, "the row stands on a line of its own");
        std::fs::write(&path, "{\"root\":1}\n{\"root\":2,\"square\":4}\n")?;
        let error = format!("{:#}", Ledger::<Square>::open(folder.path(), |_| true).err().context("refused")?);
        assert!(error.contains("line 1 of") && error.contains("squares.jsonl"), "{error}");
        Ok(())
    }
}
