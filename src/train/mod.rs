//! Training: one loop, AdamW over flat slices, masked-LM pre-training and task tuning.

mod checkpoint;
mod compare;
mod metrics;
mod optim;
mod pretrain;
mod schedule;
mod show;
mod trainer;
mod tune;

pub use checkpoint::remove_checkpoint;
pub use compare::compare_runs;
pub use metrics::{Evaluation, Metric, Scores, accuracy, evaluate, macro_f1};
pub use optim::{AdamW, Optimisation};
pub use pretrain::{HeadWarmup, PretrainConfig, PretrainRun, held_out_loss, pretrain, pretrain_observed};
pub use schedule::Schedule;
pub(crate) use show::loss_figure;
pub use trainer::{LossNotFinite, LossPoint};
pub(crate) use trainer::{Objective, fit};
pub(crate) use tune::tune_with;
pub use tune::{CurvePoint, EncodedTask, Start, TuneConfig, TuneRun, TuningStopped, tune};
