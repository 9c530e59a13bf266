//! Small models side by side, one thread each, instead of one model on many threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

/// `work` on every job, as many at a time as libtorch has threads, each computing on one thread. Results keep the jobs' order.
///
/// Nothing in this crate draws from libtorch's generator on the CPU, so a job's result does not depend on its neighbours. The
/// first error (in the order of the jobs) comes back; jobs not begun by then are dropped.
pub(crate) fn in_threads<J: Send, R: Send>(jobs: Vec<J>, work: impl Fn(J) -> Result<R> + Sync) -> Result<Vec<R>> {
    let threads = tch::get_num_threads();
    let workers = (threads.max(1) as usize).min(jobs.len());
    let jobs: Vec<Mutex<Option<J>>> = jobs.into_iter().map(|job| Mutex::new(Some(job))).collect();
    let results: Vec<Mutex<Option<Result<R>>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    let (next, stop) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
    let worker = || {
        tch::set_num_threads(1);
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= jobs.len() || stop.load(Ordering::Relaxed) != usize::MAX {
                break;
            }
            let job = jobs[at].lock().unwrap_or_else(PoisonError::into_inner).take();
            let result = job.map(&work);
            if let Some(Err(_)) = result {
                stop.fetch_min(at, Ordering::Relaxed);
            }
            *results[at].lock().unwrap_or_else(PoisonError::into_inner) = result;
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(worker);
        }
    });
    // The number is partly the process's: what the workers set must not outlive them.
    tch::set_num_threads(threads);
    let results = results.into_iter().map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner));
    let mut done = Vec::with_capacity(jobs.len());
    let mut dropped = false;
    for result in results {
        match result {
            Some(result) => done.push(result?),
            None => dropped = true,
        }
    }
    (!dropped).then_some(done).context("a job was dropped because another one failed")
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
