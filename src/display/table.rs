//! Tables: typed cells in, text for a terminal, Markdown or HTML out.

use serde::{Deserialize, Serialize};
use unicode_width::UnicodeWidthStr;

use super::{escape_html, escape_markdown};
use crate::stats::Interval;

/// Where a column's cells stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Align {
    /// At the left, as text does.
    #[default]
    Left,
    /// At the right, as numbers do.
    Right,
    /// In the middle.
    Center,
}

/// A column's heading, alignment and the decimals its numbers are shown with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The heading.
    pub name: String,
    /// Where its cells stand.
    pub align: Align,
    /// Digits after the point.
    pub decimals: usize,
}

impl Column {
    /// A left-aligned column of text.
    pub fn text(name: impl Into<String>) -> Self {
        Self { name: name.into(), align: Align::Left, decimals: 3 }
    }

    /// A right-aligned column of numbers shown with `decimals` digits after the point.
    pub fn number(name: impl Into<String>, decimals: usize) -> Self {
        Self { name: name.into(), align: Align::Right, decimals }
    }
}

/// What stands in a table: in JSON a string, a number, an object with a mean and bounds, or null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Cell {
    /// A number, shown with the column's decimals.
    Number(f64),
    /// Text, shown as it is.
    Text(String),
    /// A mean with its interval; shown as the mean alone where `lo` or `hi` is missing.
    Range {
        /// The mean.
        mean: f64,
        /// Lower end of the interval.
        lo: Option<f64>,
        /// Upper end of the interval.
        hi: Option<f64>,
    },
    /// Nothing, shown as a dash.
    Empty(()),
}

impl Cell {
    /// The cell's text; a number that is not finite shows as a dash.
    pub fn show(&self, decimals: usize) -> String {
        let number = |value: f64| match value.is_finite() {
            true => format!("{value:.decimals$}").replace('-', "−"),
            false => "–".to_owned(),
        };
        match self {
            Cell::Text(text) => text.clone(),
            Cell::Number(value) => number(*value),
            Cell::Range { mean, lo: Some(lo), hi: Some(hi) } => {
                format!("{} [{}, {}]", number(*mean), number(*lo), number(*hi))
            }
            Cell::Range { mean, .. } => number(*mean),
            Cell::Empty(()) => "–".to_owned(),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Cell::Text(text.to_owned())
    }
}
impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell::Text(text)
    }
}
impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        if value.is_finite() { Cell::Number(value) } else { Cell::Empty(()) }
    }
}
impl From<&Interval> for Cell {
    /// The mean with its bounds, where it has any.
    fn from(interval: &Interval) -> Self {
        Cell::Range { mean: interval.mean, lo: interval.lo, hi: interval.hi }
    }
}
impl From<usize> for Cell {
    /// A count, with thousands separated.
    fn from(count: usize) -> Self {
        Cell::Text(super::thousands(count as i64))
    }
}
impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Cell::Empty(()), Into::into)
    }
}

/// A titled table. Rows shorter than the columns are filled with dashes when shown, longer ones are cut.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Short name by which readers of the JSON find it, say `few_shot.full`.
    pub id: String,
    /// What stands above it.
    pub title: String,
    /// What a reader must know to read it: seeds, lineages, units.
    pub caption: String,
    /// Headings from left to right.
    pub columns: Vec<Column>,
    /// Rows from top to bottom.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub fn new(id: impl Into<String>, title: impl Into<String>, columns: Vec<Column>) -> Self {
        Self { id: id.into(), title: title.into(), columns, ..Self::default() }
    }

    /// A table of names and values, which has no headings.
    pub fn facts<'a>(title: impl Into<String>, facts: impl IntoIterator<Item = (&'a str, Cell)>) -> Self {
        let mut table = Self::new("facts", title, vec![Column::text(""), Column { decimals: 4, ..Column::text("") }]);
        for (name, value) in facts {
            table.push([Cell::from(name), value]);
        }
        table
    }

    /// Sets the caption.
    pub fn caption(mut self, caption: impl Into<String>) -> Self {
        self.caption = caption.into();
        self
    }

    /// Adds a row.
    pub fn push<C: Into<Cell>>(&mut self, row: impl IntoIterator<Item = C>) {
        self.rows.push(row.into_iter().map(Into::into).collect());
    }

    pub(super) fn has_headings(&self) -> bool {
        self.columns.iter().any(|column| !column.name.is_empty())
    }

    /// Every cell as text, each row as long as the columns.
    pub(super) fn texts(&self) -> Vec<Vec<String>> {
        let show = |row: &Vec<Cell>| {
            let cell = |(at, column): (usize, &Column)| row.get(at).unwrap_or(&Cell::Empty(())).show(column.decimals);
            self.columns.iter().enumerate().map(cell).collect()
        };
        self.rows.iter().map(show).collect()
    }

    /// For a terminal: title, columns padded to the display width of their widest cell, caption.
    pub fn to_text(&self) -> String {
        let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let heads: Vec<String> = self.columns.iter().map(|column| one_line(&column.name)).collect();
        let rows: Vec<Vec<String>> =
            self.texts().iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()).collect();
        let widest = |at: usize| rows.iter().map(|row| row[at].width()).fold(heads[at].width(), usize::max);
        let widths: Vec<usize> = (0..heads.len()).map(widest).collect();
        let line = |cells: &[String]| {
            let padded = cells.iter().zip(&self.columns).zip(&widths).map(|((cell, column), &width)| {
                let room = width.saturating_sub(cell.width());
                let before = match column.align {
                    Align::Left => 0,
                    Align::Right => room,
                    Align::Center => room / 2,
                };
                format!("{}{cell}{}", " ".repeat(before), " ".repeat(room - before))
            });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let rule = "─".repeat(widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1));
        let mut lines = Vec::new();
        lines.extend((!self.title.is_empty()).then(|| self.title.clone()));
        lines.extend(self.has_headings().then(|| line(&heads)));
        lines.push(rule);
        lines.extend(rows.iter().map(|row| line(row)));
        lines.extend((!self.caption.is_empty()).then(|| self.caption.clone()));
        lines.join("\n") + "\n"
    }

    /// GitHub-flavoured Markdown: a bold title, the table, the caption in italics.
    pub fn to_markdown(&self) -> String {
        let mut text = String::new();
        if !self.title.is_empty() {
            text += &format!("**{}**\n\n", escape_markdown(&self.title));
        }
        let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        text += &row(self.columns.iter().map(|column| escape_markdown(&column.name)).collect());
        let rule = |column: &Column| match column.align {
            Align::Left => ":---".to_owned(),
            Align::Right => "---:".to_owned(),
            Align::Center => ":---:".to_owned(),
        };
        text += &row(self.columns.iter().map(rule).collect());
        for cells in self.texts() {
            text += &row(cells.iter().map(|cell| escape_markdown(cell)).collect());
        }
        if !self.caption.is_empty() {
            text += &format!("\n*{}*\n", escape_markdown(&self.caption));
        }
        text
    }

    /// A `<table>` that reads well without a style sheet (heading row, alignment, caption) and takes one well.
    pub fn to_html(&self) -> String {
        let (title, caption) = (escape_html(&self.title), escape_html(&self.caption));
        match self.title.is_empty() && self.caption.is_empty() {
            true => self.html_around(""),
            false => self.html_around(&format!(
                "<caption style=\"text-align:left\"><strong>{title}</strong> {caption}</caption>\n"
            )),
        }
    }

    /// The `<table>` with this markup in front of its rows.
    pub(super) fn html_around(&self, caption: &str) -> String {
        let style = |column: &Column| match column.align {
            Align::Left => "left",
            Align::Right => "right",
            Align::Center => "center",
        };
        let mut html = format!("<table cellpadding=\"4\">\n{caption}");
        html += if self.has_headings() { "<thead><tr>" } else { "" };
        for column in self.columns.iter().filter(|_| self.has_headings()) {
            html +=
                &format!("<th scope=\"col\" style=\"text-align:{}\">{}</th>", style(column), escape_html(&column.name));
        }
        html += if self.has_headings() { "</tr></thead>\n<tbody>\n" } else { "<tbody>\n" };
        for row in self.texts() {
            html += "<tr>";
            for (cell, column) in row.iter().zip(&self.columns) {
                html += &format!("<td style=\"text-align:{}\">{}</td>", style(column), escape_html(cell));
            }
            html += "</tr>\n";
        }
        html + "</tbody>\n</table>\n"
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table =
            Table::new("t", "Scores", vec![Column::text("method"), Column::number("accuracy", 2)]).caption("3 seeds");
        table.push([Cell::from("Δ applied"), Cell::Range { mean: 0.5, lo: Some(0.4), hi: Some(0.6) }]);
        table.push([Cell::from("a|<script>"), Cell::from(-1.0)]);
        table.push(["short"]);
        table
    }

    #[test]
    fn a_terminal_sees_aligned_columns() {
        let wanted = "Scores\n\
                      method               accuracy\n\
                      ─────────────────────────────\n\
                      Δ applied   0.50 [0.40, 0.60]\n\
                      a|<script>              −1.00\n\
                      short                       –\n\
                      3 seeds\n";
        assert_eq!(table().to_text(), wanted);
    }

    #[test]
    fn markdown_is_aligned_and_escaped() {
        let wanted = "**Scores**\n\n| method | accuracy |\n| :--- | ---: |\n\
                      | Δ applied | 0.50 \\[0.40, 0.60\\] |\n| a\\|&lt;script&gt; | −1.00 |\n| short | – |\n\n*3 seeds*\n";
        assert_eq!(table().to_markdown(), wanted);
    }

    #[test]
    fn html_holds_no_markup_from_the_cells() {
        let html = table().to_html();
        assert!(html.contains("a|&lt;script&gt;") && !html.contains("<script"), "{html}");
        assert!(html.contains("<td style=\"text-align:right\">0.50 [0.40, 0.60]</td>"));
        assert_eq!(html.matches("<tr>").count(), 4);
    }

    #[test]
    fn facts_have_no_headings() {
        let facts = Table::facts("Run", [("updates", Cell::from(200_usize)), ("loss", 0.5.into())]);
        assert_eq!(facts.to_text(), "Run\n───────────────\nupdates  200\nloss     0.5000\n");
        let html = facts.to_html();
        assert!(!html.contains("<th") && html.contains("<td style=\"text-align:left\">0.5000</td>"), "{html}");
    }

    #[test]
    fn numbers_stay_numbers_in_json_and_come_back() -> anyhow::Result<()> {
        let json = serde_json::to_value(table())?;
        assert_eq!(json["rows"][1][1], -1.0);
        assert_eq!(json["rows"][0][1]["hi"], 0.6);
        assert_eq!(serde_json::from_value::<Table>(json)?, table());
        assert_eq!(Cell::from(f64::NAN), Cell::Empty(()));
        Ok(())
    }
}
