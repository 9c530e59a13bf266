//! What a notebook needs of every value a cell may end with.

use std::fmt::Display;
use std::process::Command;

use recyclable::display::Progress;

/// Fails to compile where a type lacks `evcxr_display`, `Show` or `Display`.
macro_rules! shown {
    ($($module:ident: $($type:ident),+;)+) => {
        fn checked() -> Vec<&'static str> {
            fn displays<T: recyclable::display::Show + Display>(_: fn(&T), name: &'static str) -> &'static str {
                name
            }
            vec![$($(displays(recyclable::$module::$type::evcxr_display, stringify!($type))),+),+]
        }
    };
}

shown! {
    display: Bundle, Figure, Table;
    stats: Interval;
    device: Precision;
    params: Theta, Delta, Layout, Entry, Safetensors;
    model: Model, Version, Adapted, Card, EncoderConfig, Method, AdapterConfig, LoraConfig, Coordinates,
        Permutation;
    text: Corpus, Task, Example, Text, TaskData, TaskCard, World, WorldConfig, Tokenizer, Specials, Encoding, Sequences,
        MlmData, MlmBatch, TokenBatch, TaskBatch, MaskingConfig, Overlaps, LeakReport;
    train: PretrainConfig, PretrainRun, TuneConfig, TuneRun, Optimisation, Scores, Evaluation, EncodedTask;
    lineage: Lineage, VersionRecord, Finding;
    recycle: Init, Distill, Combined, DistillConfig, Interpolation;
    analysis: ModePath, PathPoint, Barrier, Curve, CurveConfig, Plane, PlaneConfig, HeadSimilarity, HeadMatrix, LayerSimilarity,
        AttentionRows, AttentionMaps, Distance, PartDistance, Distances, Triangle, Flips, ScaleSearch, InsideUpgrade;
    experiment: Profile, Compute, Experiment;
    claims: Claim, Condition, Part, Verdict;
    report: Report, RunComparison, SweepReport;
}

mod experiments {
    use recyclable::experiment::{baselines, studies, sweep, world_check};

    pub fn shown() -> Vec<&'static str> {
        fn displays<T: recyclable::display::Show + std::fmt::Display>(_: fn(&T)) -> &'static str {
            std::any::type_name::<T>()
        }
        vec![
            displays(sweep::SweepConfig::evcxr_display),
            displays(world_check::WorldCheck::evcxr_display),
            displays(world_check::WorldCheckConfig::evcxr_display),
            displays(world_check::Finding::evcxr_display),
            displays(studies::VersionDistances::evcxr_display),
            displays(baselines::Baseline::evcxr_display),
        ]
    }
}

#[test]
fn every_value_that_a_cell_may_end_with_shows_itself() {
    let mut names = checked();
    names.extend(experiments::shown());
    let unique: std::collections::BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(unique.len(), names.len(), "a type stands in the list twice: {names:?}");
}

/// What the next test's child does.
#[test]
#[ignore = "run by progress_in_a_notebook_is_whole_lines_of_standard_output, in a process of its own"]
fn some_work_with_progress() {
    let progress = Progress::new("upgrade", 100);
    for step in 1..=100 {
        progress.update(step, "loss 5.123 · 9000 tokens/s");
    }
    progress.finish("loss 4.9");
}

/// Standard output and standard error of the work, in a process with or without evcxr's variable.
fn work(in_notebook: bool) -> [String; 2] {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "some_work_with_progress", "--nocapture"]).env_remove("EVCXR_IS_RUNTIME");
    if in_notebook {
        command.env("EVCXR_IS_RUNTIME", "1");
    }
    let output = command.output().unwrap();
    assert!(output.status.success());
    [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap())
}

#[test]
fn progress_in_a_notebook_is_whole_lines_of_standard_output() {
    let [out, errors] = work(true);
    let lines: Vec<&str> = out.lines().filter(|line| line.starts_with("upgrade: ")).collect();
    assert_eq!(lines.len(), 2, "{out}");
    assert!(lines[0].starts_with("upgrade: 5/100 steps · loss 5.123 · 9000 tokens/s · ETA "), "{out}");
    assert!(lines[1].starts_with("upgrade: done in ") && lines[1].ends_with(" · loss 4.9"), "{out}");
    assert!(!out.contains('\r') && errors.is_empty(), "{errors}");
}

#[test]
fn progress_in_a_log_goes_to_standard_error() {
    let [out, errors] = work(false);
    assert!(errors.contains("upgrade: 5/100 steps") && !out.contains("upgrade: "), "{out} {errors}");
}
