//! Where a [`Field`]'s cells stand, and what is written around them: names along both sides, the colour bar.

use anyhow::Result;
use plotters::prelude::DrawingBackend;

use super::canvas::{Canvas, INK, LINE_HEIGHT, MARGIN, QUIET, Text, Xy};
use super::cells::{Colors, SMALLEST};
use super::color::text_on;
use super::field::{Field, edges};
use super::figure::{Axis, Figure};
use super::scale::{Frame, number, ticks};

const BAR_WIDTH: f64 = 16.0;
/// Between field and colour bar.
const BAR_GAP: f64 = 24.0;
/// Height of the point at an end beyond which values lie.
const BAR_POINT: f64 = 10.0;
/// Enough for steps of colour not to be seen.
const BAR_STEPS: usize = 96;

/// Names along one side: in data coordinates, and how they look.
struct Names {
    at: Vec<(f64, String)>,
    text: Text,
    widest: f64,
}

impl Names {
    /// Names wider than `room` are cut.
    fn new<DB: DrawingBackend>(canvas: &Canvas<DB>, mut at: Vec<(f64, String)>, text: Text, room: f64) -> Result<Self> {
        let mut widest = 0.0_f64;
        for (_, name) in &mut at {
            *name = canvas.shortened(name, room, text)?;
            widest = widest.max(canvas.text_width(name, text)?);
        }
        Ok(Self { at, text, widest })
    }

    /// Leaves out names until there are `needed` pixels from one to the next, of which a unit of the axis has so many.
    fn thinned(mut self, needed: f64, unit: f64) -> Self {
        if let [(first, _), (second, _), ..] = self.at[..] {
            let every = (needed / ((second - first).abs() * unit)).ceil().min(1e6) as usize;
            self.at = self.at.into_iter().step_by(every.max(1)).collect();
        }
        self
    }
}

/// The names' positions: given, or round numbers.
fn positions(axis: &Axis, cells: usize, wanted: usize) -> Vec<(f64, String)> {
    let (at, decimals) = match axis.range {
        _ if !axis.ticks.is_empty() => return axis.ticks.clone(),
        Some((lo, hi)) => ticks(lo, hi, wanted),
        // Cells are counted, so steps are whole.
        None if cells > 1 => ticks(0.0, (cells - 1) as f64, wanted.min(cells - 1)),
        None => (vec![0.0], 0),
    };
    at.into_iter().map(|at| (at, number(at, decimals))).collect()
}

/// A laid out field.
pub(super) struct Layout {
    frame: Frame,
    /// Row 0 is at the top.
    downwards: bool,
    pub rows: usize,
    pub columns: usize,
    /// Of a cell, in pixels.
    pub side: f64,
    across: Names,
    /// The names of the columns read upwards.
    turned: bool,
    along: Names,
    bar: Names,
    bar_bottom: f64,
    y_label: Vec<String>,
    bar_label: Vec<String>,
}

impl Layout {
    pub fn of<DB: DrawingBackend>(
        canvas: &Canvas<DB>,
        figure: &Figure,
        field: &Field,
        colors: Xy,
        top: f64,
    ) -> Result<Self> {
        let layout = Self::with_names(canvas, figure, field, colors, top, Text::PLAIN.size)?;
        if layout.side >= Text::PLAIN.size {
            return Ok(layout);
        }
        let size = layout.side.max(SMALLEST);
        Self::with_names(canvas, figure, field, colors, top, size)
    }

    /// Rows and columns have names of this size, numbers their usual one.
    fn with_names<DB: DrawingBackend>(
        canvas: &Canvas<DB>,
        figure: &Figure,
        field: &Field,
        (lo, hi): Xy,
        top: f64,
        size: f64,
    ) -> Result<Self> {
        let (rows, columns) = (field.rows(), field.columns());
        let text = |axis: &Axis| if axis.ticks.is_empty() { Text::PLAIN } else { Text { size, ..Text::PLAIN } };
        let height = (canvas.height - top - MARGIN).max(80.0);
        // Names of columns may be as wide as these, or else turn upwards and leave the cells most of the height.
        let room = (0.4 * height).max((height - 60.0) / rows as f64);
        let across = Names::new(canvas, positions(&figure.x, columns, 7), text(&figure.x), room)?;
        let along = Names::new(canvas, positions(&figure.y, rows, 6), text(&figure.y), 0.25 * canvas.width)?;
        let (at, decimals) = ticks(lo, hi, ((height / 60.0) as usize).clamp(5, 8));
        let at = at.into_iter().map(|at| (at, number(at, decimals))).collect();
        let bar = Names::new(canvas, at, Text::PLAIN, 0.2 * canvas.width)?;
        let y_label = canvas.wrapped(&figure.y.label, height - 60.0, Text::PLAIN)?;
        let bar_label = canvas.wrapped(&field.label, height - 60.0, Text::PLAIN)?;

        let left = MARGIN + y_label.len() as f64 * LINE_HEIGHT + along.widest + 14.0;
        let beside = BAR_GAP + BAR_WIDTH + 7.0 + bar.widest + 10.0 + bar_label.len() as f64 * LINE_HEIGHT;
        let side = |turned: bool| {
            let below = if turned { across.widest } else { LINE_HEIGHT } + 10.0 + LINE_HEIGHT + 4.0;
            let wide = (canvas.width - left - beside - MARGIN) / columns as f64;
            wide.min((height - below) / rows as f64).max(1.0)
        };
        let turned = !figure.x.ticks.is_empty() && across.widest + 6.0 > side(false);
        let side = side(turned);
        let (right, bottom) = (left + side * columns as f64, top + side * rows as f64);
        let bar_bottom = bottom.max(top + 100.0).min(canvas.height - MARGIN - BAR_POINT).max(top + 1.0);

        let (x, y) = (edges(&figure.x, columns), edges(&figure.y, rows));
        let downwards = !figure.y.ticks.is_empty();
        // Capitals leave some of a line's height empty.
        let line = |names: &Names| 0.9 * names.text.size;
        let needed = if turned { line(&across) } else { across.widest + 6.0 };
        let across = across.thinned(needed, (right - left) / (x.1 - x.0));
        let needed = line(&along);
        let along = along.thinned(needed, (bottom - top) / (y.1 - y.0));
        let bar = bar.thinned(LINE_HEIGHT, (bar_bottom - top) / (hi - lo));
        let frame = Frame { left, right, top, bottom, x, y: if downwards { (y.1, y.0) } else { y } };
        Ok(Self { frame, downwards, rows, columns, side, across, turned, along, bar, bar_bottom, y_label, bar_label })
    }

    /// Pixels of a point between the cells' centres.
    pub fn at(&self, column: f64, row: f64) -> Xy {
        let row = if self.downwards { row } else { (self.rows - 1) as f64 - row };
        (self.frame.left + (column + 0.5) * self.side, self.frame.top + (row + 0.5) * self.side)
    }

    /// Pixels of a point in the coordinates of the axes.
    pub fn data(&self, x: f64, y: f64) -> Xy {
        (self.frame.x(x), self.frame.y(y))
    }

    /// Top left and bottom right corner.
    pub fn cell(&self, row: usize, column: usize) -> (Xy, Xy) {
        let (x, y) = self.at(column as f64, row as f64);
        let half = self.side / 2.0;
        ((x - half, y - half), (x + half, y + half))
    }

    /// Which row is so many lines below the top.
    pub fn row_of(&self, line: usize) -> usize {
        if self.downwards { line } else { self.rows - 1 - line }
    }

    /// Top left and bottom right of all cells.
    pub fn corners(&self) -> (Xy, Xy) {
        ((self.frame.left, self.frame.top), (self.frame.right, self.frame.bottom))
    }

    pub fn contains(&self, (x, y): Xy) -> bool {
        (self.frame.left..=self.frame.right).contains(&x) && (self.frame.top..=self.frame.bottom).contains(&y)
    }

    /// Border, names along both sides and names of the axes.
    pub fn sides<DB: DrawingBackend>(&self, canvas: &mut Canvas<DB>, figure: &Figure) -> Result<()> {
        let Frame { left, right, bottom, .. } = self.frame;
        let (a, b) = self.corners();
        canvas.outline(a, b)?;
        for (at, name) in &self.across.at {
            let x = self.frame.x(*at);
            canvas.path(&[(x, bottom), (x, bottom + 4.0)], &[], INK, 0.6, 1.0)?;
            let text = self.across.text;
            if self.turned {
                canvas.text(name, (x, bottom + 8.0), Text { upwards: true, ..text.ending() })?;
            } else {
                canvas.text(name, (x, bottom + 15.0), text.centred())?;
            }
        }
        for (at, name) in &self.along.at {
            let y = self.frame.y(*at);
            canvas.path(&[(left - 4.0, y), (left, y)], &[], INK, 0.6, 1.0)?;
            canvas.text(name, (left - 8.0, y), self.along.text.ending())?;
        }
        let names = if self.turned { self.across.widest } else { LINE_HEIGHT };
        let quiet = Text { opacity: QUIET, ..Text::PLAIN.centred() };
        canvas.text(&figure.x.label, ((left + right) / 2.0, bottom + 10.0 + names + 10.0), quiet)?;
        self.upwards(canvas, &self.y_label, MARGIN + 2.0)
    }

    /// The colour bar with its numbers and name; levels of contours are drawn across it.
    pub fn bar<DB: DrawingBackend>(&self, canvas: &mut Canvas<DB>, field: &Field, colors: &Colors) -> Result<()> {
        let (lo, hi) = colors.0;
        let (left, top) = (self.frame.right + BAR_GAP, self.frame.top);
        let (right, bottom) = (left + BAR_WIDTH, self.bar_bottom);
        let scale = Frame { left, right, top, bottom, x: (0.0, 1.0), y: (lo, hi) };
        let value = |share: f64| lo + share * (hi - lo);
        for step in 0..BAR_STEPS {
            let share = |step: f64| value(step / BAR_STEPS as f64);
            let (from, color) = (scale.y(share(step as f64)), colors.of(share(step as f64 + 0.5)));
            canvas.rectangle((left, top), (right, from), color, 1.0)?;
        }
        let middle = (left + right) / 2.0;
        let ends = [(lo, bottom, bottom + BAR_POINT), (hi, top, top - BAR_POINT)];
        for (end, base, tip) in ends {
            let beyond = |value: f64| if end == lo { value < lo } else { value > hi };
            if field.measured().any(|(_, _, value)| beyond(value)) {
                let corners = [(left, base), (middle, tip), (right, base)];
                canvas.polygon(&corners, colors.of(end), 1.0)?;
                canvas.path(&corners, &[], INK, 0.6, 1.0)?;
            }
        }
        for level in field.contours.iter().filter(|level| (lo..=hi).contains(*level)) {
            let y = scale.y(*level);
            canvas.path(&[(left, y), (right, y)], &[], text_on(colors.of(*level)), 1.0, 1.5)?;
        }
        canvas.outline((left, top), (right, bottom))?;
        for (at, name) in &self.bar.at {
            let y = scale.y(*at);
            canvas.path(&[(right, y), (right + 4.0, y)], &[], INK, 0.6, 1.0)?;
            canvas.text(name, (right + 7.0, y), self.bar.text)?;
        }
        self.upwards(canvas, &self.bar_label, right + 7.0 + self.bar.widest + 10.0 + LINE_HEIGHT / 2.0)
    }

    /// Lines of text that read upwards, the first centred on `x`, beside the middle of the field.
    fn upwards<DB: DrawingBackend>(&self, canvas: &mut Canvas<DB>, lines: &[String], x: f64) -> Result<()> {
        let mut widest = 0.0_f64;
        for line in lines {
            widest = widest.max(canvas.text_width(line, Text::PLAIN)?);
        }
        // Names longer than the field is high start at its top.
        let middle = self.frame.top + widest.max(self.frame.bottom - self.frame.top) / 2.0;
        for (index, line) in lines.iter().enumerate() {
            let text = Text { opacity: QUIET, upwards: true, ..Text::PLAIN.centred() };
            canvas.text(line, (x + index as f64 * LINE_HEIGHT, middle), text)?;
        }
        Ok(())
    }
}
