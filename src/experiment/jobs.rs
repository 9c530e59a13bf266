//! Many small independent pieces of work, side by side, each remembered on disk.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Serialize, de::DeserializeOwned};

use super::parallel::in_workers;
use crate::display::Progress;
use crate::files::{read_json, write_json};

/// Work with a name under which its result is remembered.
pub(crate) trait Job: Sync {
    type Output: Serialize + DeserializeOwned + Send;

    /// Unique in its run, fit for a file name.
    fn id(&self) -> String;

    /// A word for the progress line.
    fn headline(output: &Self::Output) -> String;
}

/// A folder of results, one file a job: a job whose file is there is not done again.
pub(crate) struct Ledger {
    folder: PathBuf,
}

impl Ledger {
    pub fn new(folder: impl Into<PathBuf>) -> Ledger {
        Ledger { folder: folder.into() }
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    /// The remembered result of this job.
    pub fn get<J: Job>(&self, job: &J) -> Result<J::Output> {
        read_json(self.path(&job.id())).with_context(|| format!("job {} has left no result", job.id()))
    }

    /// Forgets the result of this job, so that it is done again.
    pub fn forget<J: Job>(&self, job: &J) -> Result<()> {
        let path = self.path(&job.id());
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Does this job, unless it is remembered. Returns its headline where it was done.
    pub fn once<J: Job>(&self, job: &J, work: impl FnOnce(&J) -> Result<J::Output>) -> Result<Option<String>> {
        let id = job.id();
        if self.path(&id).exists() {
            return Ok(None);
        }
        let output = work(job).with_context(|| format!("job {id} failed"))?;
        write_json(self.path(&id), &output)?;
        Ok(Some(format!("{id}: {}", J::headline(&output))))
    }

    /// Does all jobs that are not remembered, on `workers` threads of `threads` libtorch threads each. `prepare` makes what a worker keeps between
    /// its jobs. The first error stops the others after their present job; what is done stays done.
    ///
    /// Results do not depend on the number of workers: a job's randomness is its own.
    pub fn run<J: Job, W>(
        &self,
        label: &str,
        jobs: &[J],
        workers: usize,
        threads: usize,
        prepare: impl Fn() -> Result<W> + Sync,
        work: impl Fn(&mut W, &J) -> Result<J::Output> + Sync,
    ) -> Result<()> {
        let open: Vec<&J> = jobs.iter().filter(|job| !self.path(&job.id()).exists()).collect();
        if open.is_empty() {
            return Ok(());
        }
        let progress = Progress::jobs(label, open.len(), "jobs");
        let count = open.len();
        let done = in_workers(open, workers, threads, prepare, |kept, job| {
            if let Some(headline) = self.once(job, |job| work(kept, job))? {
                progress.advance(headline);
            }
            Ok(())
        });
        progress.finish(format!("{count} jobs"));
        done.map(drop)
    }
}

/// Where a run keeps the results of its jobs.
pub(crate) fn ledger(out: &Path) -> Ledger {
    Ledger::new(out.join("jobs"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use anyhow::bail;

    struct Square(u64);

    impl Job for Square {
        type Output = u64;

        fn id(&self) -> String {
            format!("square-{}", self.0)
        }

        fn headline(output: &u64) -> String {
            output.to_string()
        }
    }

    #[test]
    fn jobs_are_done_once_and_remembered() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let (ledger, count) = (Ledger::new(folder.path()), AtomicUsize::new(0));
        let jobs: Vec<Square> = (0..7).map(Square).collect();
        for _ in 0..2 {
            ledger.run(
                "squares",
                &jobs,
                2,
                1,
                || Ok(()),
                |(), job| {
                    count.fetch_add(1, Ordering::Relaxed);
                    Ok(job.0 * job.0)
                },
            )?;
        }
        assert_eq!((ledger.get(&Square(6))?, count.into_inner()), (36, 7));
        Ok(())
    }

    #[test]
    fn a_failure_is_named_and_what_was_done_stays_done() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let ledger = Ledger::new(folder.path());
        let jobs: Vec<Square> = (0..5).map(Square).collect();
        let run = |bad: u64| {
            ledger.run("squares", &jobs, 1, 1, || Ok(()), |(), job| if job.0 == bad { bail!("no") } else { Ok(job.0) })
        };
        let error = run(2).unwrap_err().to_string();
        assert!(error.contains("square-2"), "{error}");
        assert!(ledger.get(&Square(1)).is_ok() && ledger.get(&Square(2)).is_err() && ledger.get(&Square(4)).is_err());
        run(99)?;
        assert_eq!(ledger.get(&Square(4))?, 4);
        Ok(())
    }
}
