//! Numbers of a sample in a table's cell.

use anyhow::Result;

use crate::claims::Sample;
use crate::display::Cell;

/// A mean with its interval over units.
pub(in crate::report) fn cell(sample: &Sample) -> Result<Cell> {
    Ok(Cell::from(&sample.interval()?))
}

/// The same where it could be measured, else a dash.
pub(in crate::report) fn cell_where(sample: Result<Sample>) -> Cell {
    sample.and_then(|sample| cell(&sample)).unwrap_or(Cell::Empty(()))
}
