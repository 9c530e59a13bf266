//! Parameters as vectors: everything the crate studies is arithmetic on these.
//!
//! A pre-trained model is a **point** θ ([`Theta`]), what tuning adds is a **direction** Δ = θ_tuned − θ_base ([`Delta`]), an
//! upgrade is a move of the base. Recycling by addition then reads like the formula:
//!
//! ```
//! # use recyclable::params::Theta;
//! # use tch::Tensor;
//! # fn main() -> anyhow::Result<()> {
//! # let theta = |x: [f32; 2]| Theta::from_named([("w".to_string(), Tensor::from_slice(&x))]);
//! let (m0, tuned, m1) = (theta([1.0, 1.0])?, theta([1.5, 1.0])?, theta([2.0, 3.0])?);
//! let recycled = (&m1 + &(&tuned - &m0)?)?;
//! # assert_eq!(Vec::<f32>::try_from(recycled.get("w")?)?, [2.5, 3.0]);
//! # Ok(()) }
//! ```

mod delta;
mod file;
mod layout;
mod show;
mod stored;
mod theta;

pub use delta::Delta;
pub use file::{Safetensors, read_safetensors, write_safetensors};
pub use layout::{Entry, Layout, Part, Slot};
pub(crate) use show::{summary, tree};
pub(crate) use stored::few;
pub use stored::{Stored, StoredTensor};
pub use theta::Theta;
