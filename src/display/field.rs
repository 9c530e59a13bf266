//! Fields as data: cells coloured by value. A plane through models, a matrix of similarities, an attention map.

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::figure::{Axis, finite};

/// A point to name on a field, in the coordinates of its axes: say a model on a plane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Along the x axis.
    pub x: f64,
    /// Along the y axis.
    pub y: f64,
    /// What is written beside it.
    pub label: String,
}

/// A grid of square cells coloured by value, darkest the smallest.
///
/// Along an axis with a range the cells' centres are evenly spaced from its one end to its other, without one they stand at
/// 0, 1, 2, … Row 0 is at the bottom, as on any plane; where the y axis has names it is at the top, as in any matrix.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Field {
    /// Rows along y, in each the columns along x. `None` was not measured: hatched, and so explained above the field.
    pub values: Vec<Vec<Option<f64>>>,
    /// What the values are, with their unit.
    pub label: String,
    /// Values of the darkest and the lightest colour; chosen from the data when `None`. Values outside have the colours of the
    /// ends, and the colour bar ends in a point there.
    pub range: Option<(f64, f64)>,
    /// Values whose lines of equal value are drawn and named; lines are linear between centres.
    pub contours: Vec<f64>,
    /// Points that are named.
    pub marks: Vec<Mark>,
    /// Writes the number into every cell, unless cells are too small to read it.
    pub show_values: bool,
}

impl Field {
    /// A field of numbers, or of `Option`s where some were not measured.
    pub fn new<V: Into<Option<f64>>, R: IntoIterator<Item = V>>(
        label: impl Into<String>,
        rows: impl IntoIterator<Item = R>,
    ) -> Self {
        let values = rows.into_iter().map(|row| row.into_iter().map(Into::into).collect()).collect();
        Self { values, label: label.into(), ..Self::default() }
    }

    /// Sets the values of the darkest and the lightest colour.
    pub fn range(mut self, lo: f64, hi: f64) -> Self {
        self.range = Some((lo, hi));
        self
    }

    /// Adds lines of equal value.
    pub fn contours(mut self, levels: impl IntoIterator<Item = f64>) -> Self {
        self.contours.extend(levels);
        self
    }

    /// Names a point.
    pub fn mark(mut self, label: impl Into<String>, x: f64, y: f64) -> Self {
        self.marks.push(Mark { x, y, label: label.into() });
        self
    }

    /// Writes the number into every cell.
    pub fn show_values(mut self) -> Self {
        self.show_values = true;
        self
    }

    pub(super) fn rows(&self) -> usize {
        self.values.len()
    }

    pub(super) fn columns(&self) -> usize {
        self.values.first().map_or(0, Vec::len)
    }

    /// Every value that was measured, with its row and column.
    pub(super) fn measured(&self) -> impl Iterator<Item = (usize, usize, f64)> {
        let row = |(row, values): (usize, &Vec<Option<f64>>)| {
            let cell = move |(column, value): (usize, &Option<f64>)| value.map(|value| (row, column, value));
            values.iter().enumerate().filter_map(cell).collect::<Vec<_>>()
        };
        self.values.iter().enumerate().flat_map(row)
    }

    /// Width and height of a figure that gives cells room enough to be told apart, but no more than they need.
    pub(super) fn size(&self, x: &Axis) -> (u32, u32) {
        let (rows, columns) = (self.rows().max(1) as f64, self.columns().max(1) as f64);
        let cell = (540.0 / columns).min(500.0 / rows).min(56.0);
        // Names that do not fit below their columns are turned upwards.
        let longest = x.ticks.iter().map(|(_, name)| 8.0 * name.chars().count() as f64).fold(0.0, f64::max);
        let names = if longest > cell { longest.min(150.0) } else { 20.0 };
        (760, (cell * rows + names + 90.0).clamp(260.0, 760.0) as u32)
    }

    pub(super) fn check(&self, x: &Axis, y: &Axis) -> Result<()> {
        ensure!(!self.label.is_empty(), "its colours have no name: say what the values are, with their unit");
        ensure!(self.columns() > 0, "it has no cells");
        for (row, values) in self.values.iter().enumerate() {
            ensure!(
                values.len() == self.columns(),
                "row {row} has {} cells and row 0 has {}: put None where nothing was measured",
                values.len(),
                self.columns()
            );
        }
        ensure!(self.measured().next().is_some(), "none of its cells was measured");
        for (row, column, value) in self.measured() {
            ensure!(value.is_finite(), "row {row}, column {column} holds {value}, which has no colour: put None there");
        }
        if let Some((lo, hi)) = self.range {
            ensure!(lo.is_finite() && hi.is_finite() && lo < hi, "its colours go from {lo} to {hi}");
        }
        self.contours.iter().try_for_each(|level| finite("contours", &[Some(*level)]))?;
        for (axis, name, cells) in [(x, "columns", self.columns()), (y, "rows", self.rows())] {
            let named = axis.ticks.len();
            ensure!(
                named == 0 || named == cells || axis.range.is_some(),
                "axis \"{}\" has {named} names for {cells} {name}: name each, or give the axis a range to name positions in",
                axis.label
            );
            let (lo, hi) = edges(axis, cells);
            let mut outside = axis.ticks.iter().filter(|(at, _)| !(lo..=hi).contains(at));
            if let Some((at, name)) = outside.next() {
                bail!("\"{name}\" at {at} lies outside axis \"{}\" from {lo} to {hi}", axis.label);
            }
        }
        let (across, along) = (edges(x, self.columns()), edges(y, self.rows()));
        for mark in &self.marks {
            finite(&mark.label, &[Some(mark.x), Some(mark.y)])?;
            ensure!(
                (across.0..=across.1).contains(&mark.x) && (along.0..=along.1).contains(&mark.y),
                "\"{}\" at ({}, {}) lies outside the field, which goes from ({}, {}) to ({}, {})",
                mark.label,
                mark.x,
                mark.y,
                across.0,
                along.0,
                across.1,
                along.1
            );
        }
        Ok(())
    }
}

/// Where the first of so many cells begins and the last one ends, in the coordinates of their axis.
pub(super) fn edges(axis: &Axis, cells: usize) -> (f64, f64) {
    match axis.range {
        Some((lo, hi)) if cells > 1 => {
            let half = (hi - lo) / (cells - 1) as f64 / 2.0;
            (lo - half, hi + half)
        }
        Some(range) => range,
        None => (-0.5, cells as f64 - 0.5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::Figure;

    fn refused(x: Axis, y: Axis, field: Field) -> String {
        format!("{:#}", Figure::field("f", "t", x, y, field).to_svg().unwrap_err())
    }

    fn with_values(values: Vec<Vec<Option<f64>>>) -> String {
        refused(Axis::new("x"), Axis::new("y"), Field::new("value", values))
    }

    #[test]
    fn ragged_empty_and_unmeasured_fields_are_refused_by_name() {
        let ragged = with_values(vec![vec![Some(1.0), Some(2.0)], vec![Some(3.0)]]);
        assert!(ragged.contains("row 1 has 1 cells and row 0 has 2: put None"), "{ragged}");
        assert!(with_values(vec![]).contains("no cells"));
        assert!(with_values(vec![vec![], vec![]]).contains("no cells"));
        assert!(with_values(vec![vec![None, None]]).contains("none of its cells was measured"));
        let odd = with_values(vec![vec![Some(1.0), Some(f64::NAN)]]);
        assert!(odd.contains("row 0, column 1 holds NaN") && odd.contains("put None"), "{odd}");
    }

    #[test]
    fn what_does_not_belong_to_the_field_is_refused_by_name() {
        let (x, y) = (|| Axis::new("x").range(0.0, 1.0), || Axis::new("rows"));
        let field = || Field::new("value", [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
        assert!(refused(x(), y(), Field { label: String::new(), ..field() }).contains("colours have no name"));
        assert!(refused(x(), y(), field().range(1.0, 1.0)).contains("colours go from 1 to 1"));
        assert!(refused(x(), y(), field().contours([f64::INFINITY])).contains("contours"));
        assert!(
            refused(x(), y(), field().mark("far", 1.6, 0.0)).contains("\"far\" at (1.6, 0) lies outside the field")
        );
        assert!(refused(x(), y().names(["a", "b"]), field()).contains("axis \"rows\" has 2 names for 3 rows"));
        let named = Axis { ticks: vec![(9.0, "nine".into())], ..x() };
        assert!(refused(named, y(), field()).contains("\"nine\" at 9 lies outside axis \"x\""));
        assert!(refused(Axis::default(), y(), field()).contains("x axis"));
        let figure = Figure::field("f", "t", x(), y(), field()).reference("chance", 1.0);
        assert!(format!("{:#}", figure.to_svg().unwrap_err()).contains("use marks"));
    }

    #[test]
    fn centres_are_spaced_over_the_range_and_cells_reach_half_a_step_beyond() {
        assert_eq!(edges(&Axis::new("x").range(0.0, 1.0), 5), (-0.125, 1.125));
        assert_eq!(edges(&Axis::new("x").range(0.0, 1.0), 1), (0.0, 1.0));
        assert_eq!(edges(&Axis::new("x").names(["a", "b", "c"]), 3), (-0.5, 2.5));
    }

    #[test]
    fn a_field_comes_back_from_json() -> Result<()> {
        let field = Field::new("accuracy", [[Some(0.5), None], [Some(0.25), Some(1.0)]]).range(0.0, 1.0);
        let field = field.contours([0.4]).mark("M_0", 0.0, 1.0).show_values();
        let figure = Figure::field("plane", "Plane", Axis::new("x"), Axis::new("y").names(["a", "b"]), field);
        let json = serde_json::to_value(&figure)?;
        assert!(json["plot"]["field"]["values"][0][1].is_null());
        assert_eq!(serde_json::from_value::<Figure>(json)?, figure);
        Ok(())
    }
}
