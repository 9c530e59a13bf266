//! What the course of notebooks stands on: its settings, the weights its notebooks share, and expectations that are checked.
//!
//! ```no_run
//! use recyclable::prelude::*;
//!
//! # fn main() -> Result<()> {
//! let course = Course::open()?;
//! let (m0, m1) = (course.version("M0")?, course.version("M1")?);
//! let task = course.task("bio_topic")?;
//! let delta0 = course.tuned("M0", "bio_topic", &Method::Full, 0)?;
//! let before = evaluate(&delta0.apply(&m0, course.device)?, &course.encode(&task.test)?)?;
//! let after = evaluate(&delta0.apply(&m1, course.device)?, &course.encode(&task.test)?)?;
//! check(after.scores.accuracy > 0.5 * before.scores.accuracy, "Δ_0 keeps more than half of its accuracy on M_1")?;
//! # Ok(()) }
//! ```

mod check;
mod course;

pub use check::{Check, STRICT, check};
pub use course::{COURSE, Course, DEVICE, FAST};
