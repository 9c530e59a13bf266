//! Recyclable tuning for continually pre-trained language models.

pub mod device;
pub mod files;
pub mod model;
pub mod params;
pub mod seed;
pub mod text;
