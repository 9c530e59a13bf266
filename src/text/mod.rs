//! Text in, batches of token ids out: corpora, tasks, tokenizers, masking, and the built-in world.
//!
//! Everything here is plain Rust on the CPU and deterministic: a batch is a pure function of its arguments, so a run resumes
//! by knowing its step, and two runs with the same seed read the same tokens.

mod batch;
mod corpus;
mod leaks;
mod mlm;
mod sequences;
mod show;
mod task;
mod task_data;
mod tokenizer;
mod world;

pub use batch::TokenBatch;
pub use corpus::{Corpus, hash_share};
pub use leaks::{LeakReport, Overlaps};
pub use mlm::{MaskingConfig, MlmBatch, MlmData};
pub use sequences::{Sequences, pack};
pub use task::{Example, Task, Text};
pub use task_data::{TaskBatch, TaskData};
pub use tokenizer::{Encoding, Specials, Tokenizer};
pub use world::{TaskCard, TaskKind, World, WorldConfig};
