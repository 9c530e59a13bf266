//! What a notebook imports: `use recyclable::prelude::*;`

pub use anyhow::{Context, Result};
pub use tch::{Device, Tensor};

pub use crate::analysis::{
    CurveConfig, InsideUpgrade, PlaneConfig, Route, Tuned, angle_to_upgrade, attention_maps, compare_layers,
    compare_paths, distance, head_similarity, hidden_state_similarity, linear_path, plane, scale_search, train_curve,
    triangle,
};
pub use crate::claims::judge;
pub use crate::device::{Precision, default_device, device};
pub use crate::display::{Axis, Bundle, Figure, Point, Progress, Show, Table, show_all};
pub use crate::experiment::{Compute, Experiment, Profile, perform};
pub use crate::lineage::{Lineage, VersionRecord};
pub use crate::model::{
    Adapted, AdapterConfig, Coordinates, EncoderConfig, LoraConfig, Method, Model, Permutation, Version,
};
pub use crate::notebook::{Check, Course, check};
pub use crate::params::{Delta, Theta};
pub use crate::recycle::{Combined, Distill, DistillConfig, Init, Interpolation, Recycle, Upgrade};
pub use crate::report::{Report, reproduce};
pub use crate::text::{Corpus, Task, TaskData, Text, Tokenizer, World, WorldConfig};
pub use crate::train::{
    HeadWarmup, Optimisation, PretrainConfig, Start, TuneConfig, compare_runs, evaluate, held_out_loss, pretrain, tune,
};
