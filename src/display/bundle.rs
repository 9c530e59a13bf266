//! What one notebook cell shows: figures, tables and words, as one map from MIME types to contents.
//!
//! A cell of evcxr has *one* output, in which every MIME type stands once, and whoever opens the notebook picks one of them. What they
//! pick decides what a bundle holds:
//!
//! - JupyterLab takes the first it may show of `text/html`, `image/svg+xml`, `image/png`, `text/plain`; in a notebook that is not
//!   trusted it skips SVG and strips HTML down, and file viewers on the web strip HTML further, inline pictures included.
//! - So a bundle **with a figure** has no HTML: `image/svg+xml`, `image/png` and `text/plain`, with its tables and words drawn below the
//!   figures. Whoever may show any picture shows all of it.
//! - A bundle **of tables and words** is `text/html` without colours, classes or scripts, and `text/plain`.
//! - `text/plain` says the same in words and numbers: it is all that the plain `evcxr` REPL prints and all that some hosts keep.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::canvas;
use super::sheet::Sheet;
use super::{Figure, Show, Table, escape_html};
use crate::files::write_atomic;

/// A piece of a [`Bundle`].
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// A drawing with its caption.
    Figure(Box<Figure>),
    /// A table with title and caption.
    Table(Table),
    /// A paragraph a line.
    Text(String),
    /// What could not be shown, and why.
    Problem(String),
}

/// Figures, tables and words in the order in which they are shown.
///
/// ```
/// # use recyclable::display::{Bundle, Column, Table};
/// # fn main() -> anyhow::Result<()> {
/// let mut table = Table::new("seeds", "Accuracy", vec![Column::text("start"), Column::number("accuracy", 2)]);
/// table.push([recyclable::display::Cell::from("recycled"), 0.91.into()]);
/// let bundle = Bundle::new().text("After 50 updates:").table(table);
/// assert!(bundle.to_text().contains("recycled      0.91"));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bundle {
    parts: Vec<Part>,
}

impl Bundle {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a figure.
    pub fn figure(mut self, figure: Figure) -> Self {
        self.parts.push(Part::Figure(Box::new(figure)));
        self
    }

    /// Adds a table.
    pub fn table(mut self, table: Table) -> Self {
        self.parts.push(Part::Table(table));
        self
    }

    /// Adds words, a paragraph a line.
    pub fn text(mut self, words: impl Into<String>) -> Self {
        self.parts.push(Part::Text(words.into()));
        self
    }

    /// Adds everything that `value` shows, or, in its place, why it cannot be shown.
    pub fn with<T: Show + ?Sized>(mut self, value: &T) -> Self {
        match value.show() {
            Ok(bundle) => self.parts.extend(bundle.parts),
            Err(error) => self.parts.push(Part::Problem(cannot_display(value.type_name(), &error))),
        }
        self
    }

    /// The pieces, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// What could not be shown, and why.
    pub fn problems(&self) -> Vec<String> {
        let problem = |part: &Part| if let Part::Problem(words) = part { Some(words.clone()) } else { None };
        self.parts.iter().filter_map(problem).collect()
    }

    fn has_figures(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Figure(_)))
    }

    /// Contents by MIME type; pictures in base64 but for SVG. Errors: a figure that cannot be drawn, more than fits one picture.
    pub fn mime(&self) -> Result<BTreeMap<String, String>> {
        let mut map = BTreeMap::from([("text/plain".to_owned(), self.to_text())]);
        if self.has_figures() {
            map.insert("image/svg+xml".to_owned(), self.to_svg()?);
            map.insert("image/png".to_owned(), STANDARD.encode(self.to_png()?));
        } else {
            map.insert("text/html".to_owned(), self.to_html()?);
        }
        Ok(map)
    }

    /// For a terminal.
    pub fn to_text(&self) -> String {
        let text = |part: &Part| match part {
            Part::Figure(figure) => figure.to_text(),
            Part::Table(table) => table.to_text(),
            Part::Text(words) | Part::Problem(words) => words.clone() + "\n",
        };
        self.parts.iter().map(text).collect::<Vec<_>>().join("\n")
    }

    /// All of it in one SVG document. Errors as [`Bundle::mime`].
    pub fn to_svg(&self) -> Result<String> {
        canvas::svg(&Sheet::of(&self.parts)?)
    }

    /// All of it in one PNG. Errors as [`Bundle::mime`].
    pub fn to_png(&self) -> Result<Vec<u8>> {
        canvas::png(&Sheet::of(&self.parts)?)
    }

    /// Markup to put into a page. Figures are inline pictures. Errors: a figure that cannot be drawn.
    pub fn to_html(&self) -> Result<String> {
        let mut html = String::new();
        let paragraphs =
            |words: &str| -> String { words.lines().map(|line| format!("<p>{}</p>\n", escape_html(line))).collect() };
        for part in &self.parts {
            html += &match part {
                Part::Figure(figure) => format!(
                    "<p><img alt=\"{}\" width=\"{}\" src=\"data:image/png;base64,{}\"></p>\n{}",
                    escape_html(&figure.title),
                    figure.size.0,
                    STANDARD.encode(figure.to_png()?),
                    paragraphs(&figure.caption)
                ),
                Part::Table(table) => {
                    let title = match table.title.as_str() {
                        "" => String::new(),
                        title => format!("<p><strong>{}</strong></p>\n", escape_html(title)),
                    };
                    title + &table.html_around("") + &paragraphs(&table.caption)
                }
                Part::Text(words) => paragraphs(words),
                Part::Problem(words) => format!("<p><strong>{}</strong></p>\n", escape_html(words)),
            };
        }
        Ok(html)
    }

    /// Writes it as what the ending of `path` says: `.svg`, `.png`, `.html` or `.txt`. The file is replaced whole.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let bytes = match path.extension().and_then(|ending| ending.to_str()) {
            Some("svg") => self.to_svg()?.into_bytes(),
            Some("png") => self.to_png()?,
            Some("html") => format!("<!doctype html>\n<meta charset=\"utf-8\">\n{}", self.to_html()?).into_bytes(),
            Some("txt") => self.to_text().into_bytes(),
            _ => bail!("{}: what is shown is saved as .svg, .png, .html or .txt", path.display()),
        };
        write_atomic(path, &bytes).with_context(|| format!("cannot save {}", path.display()))
    }

    /// The same, but where it cannot be drawn in words alone, saying why.
    pub(super) fn drawable(self) -> (Self, BTreeMap<String, String>) {
        match self.mime() {
            Ok(map) => (self, map),
            Err(error) => {
                let in_words = Bundle::new().text(self.to_text());
                let problem = Part::Problem(cannot_display("it as a picture", &error));
                let bundle = Bundle { parts: [vec![problem], in_words.parts].concat() };
                // Words are always drawable: no figure is left.
                let map = bundle.mime().unwrap_or_default();
                (bundle, map)
            }
        }
    }
}

/// The visible line in place of what cannot be shown.
pub(super) fn cannot_display(what: &str, error: &anyhow::Error) -> String {
    format!("✗ cannot display {what}: {error:#}")
}

/// Writes the blocks that evcxr collects into a cell's output. A line of the content that looks like one of evcxr's own marks is moved
/// to the right by a blank, or it would end the block.
pub(super) fn write_evcxr(map: &BTreeMap<String, String>, out: &mut dyn Write) -> io::Result<()> {
    for (mime, content) in map {
        writeln!(out, "EVCXR_BEGIN_CONTENT {mime}")?;
        for line in content.lines() {
            let harmless = if line.starts_with("EVCXR_") { " " } else { "" };
            writeln!(out, "{harmless}{line}")?;
        }
        writeln!(out, "EVCXR_END_CONTENT")?;
    }
    out.flush()
}
