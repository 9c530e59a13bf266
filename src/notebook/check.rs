//! What a notebook expects, said where everybody sees it.

use anyhow::{Result, bail};

use crate::display::{Bundle, Show};
use crate::displayable;

/// The environment variable that makes an expectation that is not met fail its cell: for whoever runs notebooks unattended.
pub const STRICT: &str = "RECYCLABLE_STRICT";

/// An expectation and whether it was met; a cell that ends with it shows ✓ or ✗.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was expected, in words.
    pub message: String,
    /// Whether it came so.
    pub holds: bool,
}

/// Shows ✓ and the message where `condition` holds, ✗ where it does not. With `RECYCLABLE_STRICT=1` in the environment the latter is
/// an error instead, so that a cell cannot look like success.
pub fn check(condition: bool, message: impl Into<String>) -> Result<Check> {
    judged(condition, message.into(), is_set(STRICT))
}

/// Whether an environment variable says yes: it is there, and neither empty nor 0.
pub(super) fn is_set(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| !matches!(value.trim(), "" | "0"))
}

fn judged(holds: bool, message: String, strict: bool) -> Result<Check> {
    if strict && !holds {
        bail!("✗ expected, and not so: {message}");
    }
    Ok(Check { message, holds })
}

impl Show for Check {
    fn show(&self) -> Result<Bundle> {
        let words = match self.holds {
            true => format!("✓ {}", self.message),
            false => format!("✗ expected, and not so: {}", self.message),
        };
        Ok(Bundle::new().text(words))
    }
}

displayable!(Check);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_expected_is_shown_with_its_mark() -> Result<()> {
        assert!(judged(true, "M_1 is better".into(), true)?.to_string().starts_with("✓ M_1 is better"));
        assert!(
            judged(false, "M_1 is better".into(), false)?.to_string().contains("✗ expected, and not so: M_1 is better")
        );
        Ok(())
    }

    #[test]
    fn a_strict_run_fails_where_an_expectation_is_not_met() {
        let error = judged(false, "M_1 is better".into(), true).unwrap_err().to_string();
        assert!(error.contains("✗") && error.contains("M_1 is better"), "{error}");
    }
}
