//! Figures, tables and words below each other in one picture, for places that show one picture and no markup.

use anyhow::{Result, ensure};
use plotters::prelude::DrawingBackend;

use super::bundle::Part;
use super::canvas::{self, Canvas, Drawing, INK, LINE_HEIGHT, MARGIN, QUIET, Text};
use super::draw;
use super::figure::Figure;
use super::table::{Align, Table};

/// What words and tables are set in.
const WORDS: Text = Text { size: 14.0, ..Text::PLAIN };
const CAPTION: Text = Text { opacity: QUIET, ..WORDS };
const HEADING: Text = Text { bold: true, size: 16.0, ..Text::PLAIN };
const HEAD: Text = Text { bold: true, ..WORDS };
/// The narrowest sheet, and the widest that tables are squeezed into.
const WIDTHS: (f64, f64) = (760.0, 1_180.0);
/// The widest a column may be, tried in turn until the table fits.
const COLUMNS: [f64; 5] = [420.0, 260.0, 180.0, 130.0, 90.0];
/// Between columns, between blocks, above and below a row's words.
const GAP: f64 = 18.0;
const ROW_PADDING: f64 = 6.0;
/// Rows of a table that are drawn at most; its text has them all.
const MOST_ROWS: usize = 40;
/// The highest sheet: a picture of it takes some 300 MB while it is drawn.
const MOST_HEIGHT: f64 = 8_000.0;

/// What is to be drawn, measured and broken into lines.
pub(super) struct Sheet<'a> {
    blocks: Vec<Block<'a>>,
    size: (f64, f64),
}

enum Block<'a> {
    Figure(&'a Figure),
    Lines(Vec<String>, Text),
    Grid(Grid),
}

/// A table broken into lines: the heading first, where there is one.
struct Grid {
    has_headings: bool,
    widths: Vec<f64>,
    aligns: Vec<Align>,
    /// \[row\]\[column\]\[line\]
    rows: Vec<Vec<Vec<String>>>,
}

impl<'a> Sheet<'a> {
    /// Measures the parts. Errors: nothing to draw, a figure that cannot be drawn, more than a picture can hold.
    pub fn of(parts: &'a [Part]) -> Result<Sheet<'a>> {
        let grids = canvas::measuring(|canvas| {
            let grid = |part: &Part| match part {
                Part::Table(table) => Grid::of(canvas, table).map(Some),
                _ => Ok(None),
            };
            parts.iter().map(grid).collect::<Result<Vec<_>>>()
        })?;
        let width_of = |(part, grid): (&Part, &Option<Grid>)| match (part, grid) {
            (Part::Figure(figure), _) => f64::from(figure.size.0),
            (_, Some(grid)) => grid.width() + 2.0 * MARGIN,
            _ => 0.0,
        };
        let width = parts.iter().zip(&grids).map(width_of).fold(WIDTHS.0, f64::max);
        let blocks = canvas::measuring(|canvas| {
            let lines = |words: &str, text: Text| -> Result<Block> {
                let paragraphs = words.lines().map(|line| canvas.wrapped(line, width - 2.0 * MARGIN, text));
                Ok(Block::Lines(paragraphs.collect::<Result<Vec<_>>>()?.concat(), text))
            };
            let mut blocks = Vec::new();
            for (part, grid) in parts.iter().zip(grids) {
                match part {
                    Part::Figure(figure) => {
                        figure.check()?;
                        blocks.extend([Block::Figure(figure), lines(&figure.caption, CAPTION)?]);
                    }
                    Part::Table(table) => {
                        blocks.push(lines(&table.title, HEADING)?);
                        blocks.extend(grid.map(Block::Grid));
                        let left = table.rows.len().saturating_sub(MOST_ROWS);
                        let more = if left > 0 { format!("… and {left} more rows. ") } else { String::new() };
                        blocks.push(lines(&format!("{more}{}", table.caption), CAPTION)?);
                    }
                    Part::Text(words) => blocks.push(lines(words, WORDS)?),
                    Part::Problem(words) => blocks.push(lines(words, HEAD)?),
                }
            }
            Ok(blocks)
        })?;
        let height = blocks.iter().map(Block::height).sum::<f64>() + MARGIN;
        ensure!(!parts.is_empty(), "there is nothing to draw");
        ensure!(
            width <= 4_000.0 && height <= MOST_HEIGHT,
            "a picture of {width:.0} × {height:.0} is too large: show fewer values at a time"
        );
        Ok(Sheet { blocks, size: (width, height) })
    }
}

impl Drawing for Sheet<'_> {
    fn size(&self) -> (u32, u32) {
        (self.size.0.ceil() as u32, self.size.1.ceil() as u32)
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &mut Canvas<DB>) -> Result<()> {
        let mut top = 0.0;
        for block in &self.blocks {
            let (width, height) = (canvas.width, block.height());
            match block {
                Block::Figure(figure) => {
                    let size = (f64::from(figure.size.0), f64::from(figure.size.1));
                    canvas.within((0.0, top), size, |canvas| draw::figure(canvas, figure))?;
                }
                Block::Lines(lines, text) => {
                    canvas.within((0.0, top), (width, height), |canvas| {
                        let at = |row: usize| (MARGIN, LINE_HEIGHT / 2.0 + 3.0 + row as f64 * line_height(*text));
                        lines.iter().enumerate().try_for_each(|(row, line)| canvas.text(line, at(row), *text))
                    })?;
                }
                Block::Grid(grid) => canvas.within((0.0, top), (width, height), |canvas| grid.draw(canvas))?,
            }
            top += height;
        }
        Ok(())
    }
}

fn line_height(text: Text) -> f64 {
    LINE_HEIGHT * (text.size / 15.0).max(1.0)
}

impl Block<'_> {
    fn height(&self) -> f64 {
        match self {
            Block::Figure(figure) => f64::from(figure.size.1),
            Block::Lines(lines, _) if lines.is_empty() => 0.0,
            Block::Lines(lines, text) => lines.len() as f64 * line_height(*text) + 10.0,
            Block::Grid(grid) => (0..grid.rows.len()).map(|row| grid.row_height(row)).sum::<f64>() + 6.0,
        }
    }
}

impl Grid {
    fn of<DB: DrawingBackend>(canvas: &Canvas<DB>, table: &Table) -> Result<Grid> {
        let has_headings = table.has_headings();
        let heads = || table.columns.iter().map(|column| column.name.clone()).collect::<Vec<String>>();
        let mut cells: Vec<Vec<String>> = has_headings.then(heads).into_iter().collect();
        cells.extend(table.texts().into_iter().take(MOST_ROWS));
        let aligns = table.columns.iter().map(|column| column.align).collect();
        let room = WIDTHS.1 - 2.0 * MARGIN;
        let mut grid = Grid { has_headings, widths: Vec::new(), aligns, rows: Vec::new() };
        for cap in COLUMNS {
            grid.wrap(canvas, &cells, cap)?;
            if grid.width() <= room {
                break;
            }
        }
        Ok(grid)
    }

    /// Breaks the cells into lines of at most `cap`, and makes the columns as wide as what came of it.
    fn wrap<DB: DrawingBackend>(&mut self, canvas: &Canvas<DB>, cells: &[Vec<String>], cap: f64) -> Result<()> {
        self.rows.clear();
        self.widths = vec![0.0; self.aligns.len()];
        for (row, cells) in cells.iter().enumerate() {
            let text = self.text(row);
            let mut lines_of_row = Vec::new();
            for (column, cell) in cells.iter().enumerate() {
                let lines = canvas.wrapped(cell, cap, text)?;
                // A word that is longer than a line stands in no other column's way.
                let lines = lines.iter().map(|line| canvas.shortened(line, cap, text)).collect::<Result<Vec<_>>>()?;
                for line in &lines {
                    self.widths[column] = self.widths[column].max(canvas.text_width(line, text)?);
                }
                lines_of_row.push(lines);
            }
            self.rows.push(lines_of_row);
        }
        Ok(())
    }

    fn text(&self, row: usize) -> Text {
        if row == 0 && self.has_headings { HEAD } else { WORDS }
    }

    fn width(&self) -> f64 {
        self.widths.iter().sum::<f64>() + GAP * self.widths.len().saturating_sub(1) as f64
    }

    fn row_height(&self, row: usize) -> f64 {
        let lines = self.rows[row].iter().map(Vec::len).max().unwrap_or(1).max(1);
        lines as f64 * LINE_HEIGHT + ROW_PADDING
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &mut Canvas<DB>) -> Result<()> {
        let (mut top, right) = (0.0, MARGIN + self.width());
        for (row, cells) in self.rows.iter().enumerate() {
            let text = self.text(row);
            let mut left = MARGIN;
            for ((lines, &width), align) in cells.iter().zip(&self.widths).zip(&self.aligns) {
                let (x, text) = match align {
                    Align::Left => (left, text),
                    Align::Center => (left + width / 2.0, text.centred()),
                    Align::Right => (left + width, text.ending()),
                };
                for (at, line) in lines.iter().enumerate() {
                    canvas.text(line, (x, top + (at as f64 + 0.5) * LINE_HEIGHT + ROW_PADDING / 2.0), text)?;
                }
                left += width + GAP;
            }
            top += self.row_height(row);
            let opacity = if row == 0 && self.has_headings { 0.6 } else { 0.13 };
            canvas.path(&[(MARGIN, top), (right, top)], &[], INK, opacity, 1.0)?;
        }
        Ok(())
    }
}
