//! The progress of long work: bars in a terminal, now and then a whole line elsewhere.
//!
//! Everything goes to standard error, but for a notebook: there it is standard output, because standard error looks like trouble and
//! what evcxr passes on are whole lines. All bars of a process share one drawing area, so work on several threads does not garble it.
//! In a log or a notebook a run gets about [`LINES_A_RUN`] lines, and what it does inside ([`Progress::child`]) gets none.

#[cfg(feature = "cli")]
use std::io::IsTerminal;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::thousands;

/// How many lines a run writes to a log at most, where nobody asks for others ([`Progress::lines`]).
pub const LINES_A_RUN: u64 = 20;
/// The shortest time between two lines of one run.
const BETWEEN_LINES: Duration = Duration::from_secs(2);

static SILENT: AtomicBool = AtomicBool::new(false);

/// Silences all progress begun after this call, or lets it speak again.
pub fn set_silent(silent: bool) {
    SILENT.store(silent, Ordering::Relaxed);
}

/// Whether this process runs the cells of a notebook (or the lines of the evcxr REPL): evcxr sets this variable for it.
pub fn in_notebook() -> bool {
    std::env::var_os("EVCXR_IS_RUNTIME").is_some()
}

/// Writes a line to standard error (in a notebook, to standard output) without tearing bars apart. Says nothing when silenced.
pub fn say(line: &str) {
    if SILENT.load(Ordering::Relaxed) {
        return;
    }
    #[cfg(feature = "cli")]
    if std::io::stderr().is_terminal() && !in_notebook() {
        bars().suspend(|| eprintln!("{line}"));
        return;
    }
    whole_line(line);
}

/// One line at once. Where nobody listens any more the work goes on all the same.
fn whole_line(line: &str) {
    let line = format!("{line}\n");
    let _ = match in_notebook() {
        true => std::io::stdout().lock().write_all(line.as_bytes()),
        false => std::io::stderr().lock().write_all(line.as_bytes()),
    };
}

#[cfg(feature = "cli")]
fn bars() -> &'static indicatif::MultiProgress {
    static BARS: std::sync::OnceLock<indicatif::MultiProgress> = std::sync::OnceLock::new();
    BARS.get_or_init(indicatif::MultiProgress::new)
}

/// How a [`Progress`] shows itself.
enum Face {
    Silent,
    Lines,
    #[cfg(feature = "cli")]
    Bar(indicatif::ProgressBar),
}

/// What changes while the work goes on.
struct State {
    step: u64,
    began: Instant,
    /// The step work began at: a resumed run's earlier steps say nothing about its speed.
    began_at: Option<u64>,
    last_line: Option<Instant>,
    lines: u64,
    finished: bool,
}

/// One piece of work of `total` steps. Shared by reference between threads.
///
/// ```
/// # use recyclable::display::Progress;
/// let progress = Progress::new("tune", 200);
/// for step in 1..=200 {
///     progress.update(step, "loss 0.31");
/// }
/// progress.finish("dev accuracy 0.91");
/// ```
pub struct Progress {
    label: String,
    unit: &'static str,
    total: u64,
    face: Face,
    /// How many lines it writes to a log at most.
    most_lines: u64,
    state: Mutex<State>,
    /// Where lines go; tests listen here.
    out: fn(&str),
    /// 0 for work that is in no other.
    depth: usize,
}

impl Progress {
    /// A bar where standard error is a terminal (and the `cli` feature is on), lines elsewhere and in notebooks, nothing when
    /// silenced.
    pub fn new(label: impl Into<String>, total: usize) -> Self {
        Self::jobs(label, total, "steps")
    }

    /// As [`Progress::new`], counting `unit` instead of steps: `12/300 jobs`.
    pub fn jobs(label: impl Into<String>, total: usize, unit: &'static str) -> Self {
        let label = label.into();
        let face = if SILENT.load(Ordering::Relaxed) { Face::Silent } else { Self::face(&label, total, unit) };
        Self::with_face(label, total, unit, face)
    }

    /// Shows nothing, whatever standard error is.
    pub fn silent() -> Self {
        Self::with_face(String::new(), 0, "steps", Face::Silent)
    }

    /// At most this many lines in a log, instead of [`LINES_A_RUN`]: for one of many pieces of work.
    pub fn lines(mut self, most: u64) -> Self {
        self.most_lines = most;
        self
    }

    /// Work inside this work: a bar of its own in a terminal, nothing in a log, where the outer lines are enough.
    pub fn child(&self, label: impl Into<String>, total: usize) -> Progress {
        let (label, depth) = (label.into(), self.depth + 1);
        let face = match self.face {
            Face::Silent | Face::Lines => Face::Silent,
            #[cfg(feature = "cli")]
            Face::Bar(_) => Self::face(&format!("{}{label}", "  ".repeat(depth)), total, "steps"),
        };
        let mut child = Self::with_face(label, total, "steps", face);
        child.depth = depth;
        child
    }

    fn with_face(label: String, total: usize, unit: &'static str, face: Face) -> Self {
        let state =
            State { step: 0, began: Instant::now(), began_at: None, last_line: None, lines: 0, finished: false };
        let (total, state) = (total as u64, Mutex::new(state));
        Self { label, unit, total, face, most_lines: LINES_A_RUN, state, out: whole_line, depth: 0 }
    }

    #[cfg(feature = "cli")]
    fn face(label: &str, total: usize, unit: &'static str) -> Face {
        if !std::io::stderr().is_terminal() || in_notebook() {
            return Face::Lines;
        }
        let bar = bars().add(indicatif::ProgressBar::new(total as u64));
        let template =
            format!("{{prefix:22!}} {{bar:24}} {{human_pos}}/{{human_len}} {unit}  ETA {{eta}}  {{wide_msg}}");
        if let Ok(style) = indicatif::ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_prefix(label.to_owned());
        Face::Bar(bar)
    }

    #[cfg(not(feature = "cli"))]
    fn face(_label: &str, _total: usize, _unit: &'static str) -> Face {
        Face::Lines
    }

    /// Reports that `step` steps are done. The first call of a resumed run names the step it resumed from.
    pub fn update(&self, step: usize, message: impl AsRef<str>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.step = step as u64;
        self.show(&mut state, message.as_ref());
    }

    /// One step more: for workers that share a list of jobs.
    pub fn advance(&self, message: impl AsRef<str>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.began_at.get_or_insert(0);
        state.step += 1;
        self.show(&mut state, message.as_ref());
    }

    /// Ends the work with its outcome; a log gets one last line.
    pub fn finish(&self, message: impl AsRef<str>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut state.finished, true) {
            return;
        }
        let took = for_humans(state.began.elapsed());
        let line = format!("{}: done in {took}{}", self.label, separated(message.as_ref()));
        match &self.face {
            Face::Silent => {}
            Face::Lines => (self.out)(&line),
            #[cfg(feature = "cli")]
            Face::Bar(bar) => {
                bar.finish_and_clear();
                bars().remove(bar);
                if self.depth == 0 {
                    say(&line);
                }
            }
        }
    }

    fn show(&self, state: &mut State, message: &str) {
        if state.began_at.is_none() {
            // One step may be done already when the first report comes; more than that was done before.
            state.began_at = Some(state.step.saturating_sub(1));
        }
        match &self.face {
            Face::Silent => {}
            Face::Lines => {
                let due = state.step.saturating_mul(self.most_lines) / self.total.max(1);
                let rested = state.last_line.is_none_or(|last| last.elapsed() >= BETWEEN_LINES);
                if due <= state.lines || !rested || state.step >= self.total {
                    return;
                }
                (state.lines, state.last_line) = (due, Some(Instant::now()));
                let eta = self.remaining(state).map(|left| format!(" · ETA {}", for_humans(left))).unwrap_or_default();
                let (step, total) = (thousands(state.step as i64), thousands(self.total as i64));
                (self.out)(&format!("{}: {step}/{total} {}{}{eta}", self.label, self.unit, separated(message)));
            }
            #[cfg(feature = "cli")]
            Face::Bar(bar) => {
                bar.set_position(state.step);
                bar.set_message(message.to_owned());
            }
        }
    }

    /// Time left at the speed so far.
    fn remaining(&self, state: &State) -> Option<Duration> {
        let done = state.step.checked_sub(state.began_at?).filter(|done| *done > 0)?;
        let left = self.total.saturating_sub(state.step);
        Some(state.began.elapsed().mul_f64(left as f64 / done as f64))
    }
}

impl Drop for Progress {
    /// Work that ends early (an error, a panic) leaves no bar behind.
    fn drop(&mut self) {
        #[cfg(feature = "cli")]
        if let Face::Bar(bar) = &self.face
            && !bar.is_finished()
        {
            bar.finish_and_clear();
            bars().remove(bar);
        }
    }
}

fn separated(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" · {message}") }
}

/// `45s`, `3m 20s`, `1h 5m`: two units at most.
pub fn for_humans(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 10.0 {
        return format!("{seconds:.1}s");
    }
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m {s}s"),
        (h, m, _) => format!("{h}h {m}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU8;

    fn listening(total: usize, out: fn(&str)) -> Progress {
        let mut progress = Progress::with_face("tune".into(), total, "steps", Face::Lines);
        progress.out = out;
        progress
    }

    #[test]
    fn quick_work_writes_its_first_line_and_its_last() {
        static HEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let progress = listening(1000, |line| HEARD.lock().unwrap().push(line.to_owned()));
        for step in 1..=1000 {
            progress.update(step, format!("loss {:.2}", 1.0 / step as f64));
        }
        progress.finish("accuracy 0.9");
        progress.finish("twice");
        let heard = HEARD.lock().unwrap();
        assert_eq!(heard.len(), 2, "{heard:?}");
        assert!(heard[0].starts_with("tune: 50/1,000 steps · loss 0.02 · ETA "), "{heard:?}");
        assert!(heard[1].starts_with("tune: done in ") && heard[1].ends_with(" · accuracy 0.9"), "{heard:?}");
    }

    #[test]
    fn slow_work_writes_at_most_twenty_lines_or_as_many_as_it_is_told() {
        static LINES: AtomicU8 = AtomicU8::new(0);
        let count = |_: &str| {
            LINES.fetch_add(1, Ordering::Relaxed);
        };
        for (progress, written) in [(listening(300, count), 19), (listening(300, count).lines(5), 4)] {
            LINES.store(0, Ordering::Relaxed);
            for _ in 0..300 {
                progress.state.lock().unwrap().last_line = None;
                progress.advance("");
            }
            assert_eq!(LINES.load(Ordering::Relaxed), written, "one more is the last line, written by finish");
        }
    }

    #[test]
    fn the_time_left_follows_from_the_steps_of_this_run() {
        let progress = listening(1000, |_| {});
        progress.update(901, "resumed");
        let mut state = progress.state.lock().unwrap();
        state.began -= Duration::from_secs(50);
        state.step = 950;
        let left = progress.remaining(&state).unwrap().as_secs_f64();
        assert!((left - 50.0).abs() < 1.0, "{left}");
    }

    #[test]
    fn many_threads_can_share_one_list_of_jobs() {
        let progress = Progress::silent();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..25).for_each(|_| progress.advance("")));
            }
        });
        assert_eq!(progress.state.lock().unwrap().step, 100);
    }

    #[test]
    fn durations_read_easily() {
        let shown = [3.25, 45.0, 200.0, 3900.0].map(|seconds| for_humans(Duration::from_secs_f64(seconds)));
        assert_eq!(shown, ["3.2s", "45s", "3m 20s", "1h 5m"]);
    }
}
