//! What models have in common: how alike their heads attend, how alike their hidden states are, how far apart their
//! parameters lie.
//!
//! Every analysis returns a result that owns its numbers, serialises, and shows itself as a
//! [`Table`](crate::display::Table) and, where that helps, as a [`Figure`](crate::display::Figure).

mod attention_maps;
mod attention_rows;
pub mod cka;
pub mod distance;
mod head_matrix;
mod head_sums;
pub mod heads;
mod hidden_states;
mod inputs;

pub use attention_maps::{AttentionMaps, attention_maps};
pub use attention_rows::AttentionRows;
pub use cka::linear_cka;
pub use distance::{Distance, Distances, PartDistance, angle_to_upgrade, distance};
pub use head_matrix::HeadMatrix;
pub use heads::{HeadSimilarity, head_similarity};
pub use hidden_states::{LayerSimilarity, hidden_state_similarity};
