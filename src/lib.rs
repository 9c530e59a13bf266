//! Recyclable tuning for continually pre-trained language models.

pub mod files;
pub mod params;
pub mod seed;
pub mod text;
