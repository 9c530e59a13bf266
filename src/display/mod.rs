//! Showing results: tables and figures from plain numbers, and the progress of long work.
//!
//! Nothing here knows models or experiments. A [`Table`] or [`Figure`] is data that serialises, and renders itself for a
//! terminal, Markdown, HTML, SVG or PNG. A [`Bundle`] of them is what a notebook cell shows, and whatever implements [`Show`] has one.

pub mod bundle;
mod canvas;
mod cells;
mod color;
mod contour;
mod draw;
pub mod field;
pub mod figure;
mod labels;
mod layout;
mod palette;
mod plain;
pub mod progress;
mod scale;
pub mod settings;
mod sheet;
pub mod show;
pub mod table;

pub use bundle::{Bundle, Part};
pub use field::{Field, Mark};
pub use figure::{Axis, Bar, BarSeries, Figure, Line, Plot, Point, Reference};
pub use progress::Progress;
pub use show::{Show, show_all};
pub use table::{Align, Cell, Column, Table};

/// `text` with the five characters that mean something in HTML or XML written as entities.
pub fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// `text` on one line, with what Markdown would take for markup inside a table cell or a heading escaped.
pub fn escape_markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '|' | '*' | '_' | '`' | '[' | ']' => {
                escaped.push('\\');
                escaped.push(character);
            }
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '\n' | '\r' => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A whole number with thousands separated by commas: 54000 → `54,000`.
pub fn thousands(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0 { format!("−{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_name_stays_text() {
        assert_eq!(escape_html("<script>'a' & \"b\""), "&lt;script&gt;&#39;a&#39; &amp; &quot;b&quot;");
        assert_eq!(escape_markdown("a|b_c\n<d>"), "a\\|b\\_c &lt;d&gt;");
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(thousands(-12_000), "−12,000");
    }
}
