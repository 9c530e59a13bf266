//! Recyclable tuning for continually pre-trained language models.

pub mod device;
pub mod display;
pub mod experiment;
pub mod files;
pub mod lineage;
pub mod model;
pub mod params;
pub mod recycle;
pub mod seed;
pub mod stats;
pub mod text;
pub mod train;
