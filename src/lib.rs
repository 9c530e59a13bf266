//! Recyclable tuning for continually pre-trained language models.
//!
//! Pre-trained language models are upgraded by *continual pre-training*: M_0 → M_1 → … on ever new domains. The weights that
//! were tuned for an old version (Δ = tuned − base) need not be thrown away then. This crate measures what they are still good
//! for, and tunes the new version with their help, after *Recyclable Tuning for Continual Pre-training* (Qin et al., Findings of
//! ACL 2023).
//!
//! A model is a **point** in parameter space ([`params::Theta`]), tuned weights are a **direction** ([`params::Delta`]), an
//! upgrade moves the base point. The whole story, on the built-in world of synthetic texts:
//!
//! ```no_run
//! use recyclable::prelude::*;
//!
//! fn main() -> Result<()> {
//!     let (cpu, quiet) = (Device::Cpu, Progress::silent());
//!     let world = World::new(WorldConfig::default())?;
//!     let tokenizer = world.tokenizer()?;
//!     let config = EncoderConfig::tiny(tokenizer.vocab_size() as i64, 128, 32);
//!     let pretraining = PretrainConfig { max_length: 32, ..Default::default() };
//!     let tuning = TuneConfig { max_length: 32, ..Default::default() };
//!     let task = world.task("bio_topic")?;
//!
//!     // The supplier pre-trains M_0, a customer tunes it: Δ_0.
//!     let fresh = Version::new(&config, &tokenizer, 0)?;
//!     let m0 = pretrain(&fresh, &world.initial_corpus()?, &pretraining, cpu, None, &quiet)?.version;
//!     let delta0 = tune(&m0, task, Start::Fresh, &tuning, cpu, &quiet)?.best;
//!
//!     // The supplier upgrades to M_1. Δ_0 still works on it, untouched …
//!     let m1 = pretrain(&m0, &world.corpus("bio")?, &pretraining, cpu, None, &quiet)?.version;
//!     let test = TaskData::new(&task.test, &tokenizer, 32)?;
//!     println!("M_1 ⊕ Δ_0: {:.3}", evaluate(&delta0.apply(&m1, cpu)?, &test)?.scores.accuracy);
//!
//!     // … and with eight labels a class start and teacher can be combined (M_0 ⊕ Δ_0, kept as it is, may still be better).
//!     let upgrade = Upgrade { old: &m0, outdated: &delta0, new: &m1 };
//!     let few = task.few_shot(8, 0)?;
//!     let recycled = Combined::default().recycle(upgrade, &few, &tuning, cpu, &quiet)?;
//!     println!("recycled: {:.3}", evaluate(&recycled.best.apply(&m1, cpu)?, &test)?.scores.accuracy);
//!     Ok(())
//! }
//! ```
//!
//! Data flows in one direction: [`text`] and [`model`] → [`train`] → [`lineage`] → [`recycle`], [`analysis`] →
//! [`experiment`] → [`claims`] → [`report`] → the command line and the [`notebook`] course. At the bottom, known to all: [`params`], [`device`],
//! [`display`], [`stats`], [`seed`], [`files`].

#![warn(missing_docs)]

pub mod analysis;
pub mod claims;
pub mod device;
pub mod display;
pub mod experiment;
pub mod files;
pub mod interchange;
pub mod lineage;
pub mod model;
mod native;
pub mod notebook;
pub mod params;
pub mod prelude;
pub mod recycle;
pub mod report;
pub mod seed;
pub mod stats;
pub mod text;
pub mod train;
