//! The tools that weights come from, by name.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result};

/// A tool that weights come from, or go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A `…ForSequenceClassification` folder of transformers: a whole model.
    Transformers,
    /// LoRA of PEFT.
    Peft,
    /// Bottleneck adapters of AdapterHub (the package `adapters`).
    AdapterHub,
    /// Bottleneck adapters of OpenDelta: only read.
    OpenDelta,
}

const NAMES: [(Format, &str); 4] = [
    (Format::Transformers, "transformers"),
    (Format::Peft, "peft"),
    (Format::AdapterHub, "adapterhub"),
    (Format::OpenDelta, "opendelta"),
];

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(format, _)| format == self).map_or("", |(_, name)| name))
    }
}

impl FromStr for Format {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Format> {
        let known = NAMES.map(|(_, name)| name).join(", ");
        let found = NAMES.iter().find(|(_, known)| *known == name);
        found.map(|(format, _)| *format).with_context(|| format!("no format is named {name:?}: there are {known}"))
    }
}
