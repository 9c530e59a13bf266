//! Small models side by side, one thread each, instead of one model on many threads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

/// `work` on every job, as many at a time as libtorch has threads, each computing on one thread. Otherwise as [`in_workers`].
pub(crate) fn in_threads<J: Send, R: Send>(jobs: Vec<J>, work: impl Fn(J) -> Result<R> + Sync) -> Result<Vec<R>> {
    in_workers(jobs, tch::get_num_threads().max(1) as usize, 1, || Ok(()), |(), job| work(job))
}

/// `work` on every job by up to `workers` at a time, each computing on `threads` libtorch threads. `prepare` makes what a worker
/// keeps between its jobs. Results keep the jobs' order.
///
/// Nothing in this crate draws from libtorch's generator on the CPU, so a job's result does not depend on its neighbours. The
/// first error (in the order of the jobs) comes back; jobs not begun by then are dropped.
pub(crate) fn in_workers<J: Send, W, R: Send>(
    jobs: Vec<J>,
    workers: usize,
    threads: usize,
    prepare: impl Fn() -> Result<W> + Sync,
    work: impl Fn(&mut W, J) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let threads_before = tch::get_num_threads();
    let workers = workers.max(1).min(jobs.len());
    let jobs: Vec<Mutex<Option<J>>> = jobs.into_iter().map(|job| Mutex::new(Some(job))).collect();
    let results: Vec<Mutex<Option<Result<R>>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let worker = || {
        tch::set_num_threads(threads as i32);
        let mut kept = None;
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= jobs.len() || failed.load(Ordering::Relaxed) {
                break;
            }
            let job = jobs[at].lock().unwrap_or_else(PoisonError::into_inner).take();
            let result = job.map(|job| {
                let kept = match &mut kept {
                    Some(kept) => kept,
                    none => none.insert(prepare()?),
                };
                work(kept, job)
            });
            failed.fetch_or(matches!(result, Some(Err(_))), Ordering::Relaxed);
            *results[at].lock().unwrap_or_else(PoisonError::into_inner) = result;
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(worker);
        }
    });
    // The number is partly the process's: what the workers set must not outlive them.
    tch::set_num_threads(threads_before);
    // Jobs are begun in order, so what was dropped stands behind the error.
    let results = results.into_iter().map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner));
    results.map(|result| result.context("a job was dropped because another one failed")?).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_the_jobs_and_the_thread_count_is_given_back() -> Result<()> {
        let before = tch::get_num_threads();
        let squares = in_threads((0..20).collect(), |n: i32| {
            assert_eq!(tch::get_num_threads(), 1);
            Ok(n * n)
        })?;
        assert_eq!(squares, (0..20).map(|n| n * n).collect::<Vec<_>>());
        assert_eq!(tch::get_num_threads(), before);
        Ok(())
    }

    #[test]
    fn the_error_of_a_job_comes_back() {
        let failed = in_threads((0..9).collect(), |n: i32| if n == 3 { anyhow::bail!("job {n}") } else { Ok(n) });
        assert!(failed.unwrap_err().to_string().contains("job 3"));
    }
}
