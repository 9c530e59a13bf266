//! Why recycling works: are old and new solutions joined by a low path, do they compute alike, how far apart do they lie?
//!
//! Every analysis takes models and encoded examples and returns a result that owns its numbers, serialises, and shows itself as a
//! [`Table`](crate::display::Table) and, where that helps, as a [`Figure`](crate::display::Figure).

mod attention_maps;
mod attention_rows;
pub mod cka;
mod compare;
mod compatibility;
mod curve;
pub mod distance;
mod ends;
mod fields;
mod head_matrix;
mod head_sums;
pub mod heads;
mod hidden_states;
mod inputs;
mod path;
mod plane;
mod show;

pub use attention_maps::{AttentionMaps, attention_maps};
pub use attention_rows::AttentionRows;
pub use cka::linear_cka;
pub use compare::{compare_layers, compare_paths};
pub use compatibility::{Flips, InsideUpgrade, ScaleSearch, Triangle, scale_search, triangle};
pub use curve::{Curve, CurveConfig, train_curve};
pub use distance::{Distance, Distances, PartDistance, angle_to_upgrade, distance};
pub use ends::Tuned;
pub use head_matrix::HeadMatrix;
pub use heads::{HeadSimilarity, head_similarity};
pub use hidden_states::{LayerSimilarity, hidden_state_similarity};
pub use path::{Barrier, DEFAULT_POINTS, ModePath, PathPoint, Route, Split, linear_path};
pub(crate) use path::{rise, walk};
pub use plane::{Plane, PlaneConfig, plane};
