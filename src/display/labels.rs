//! What is drawn on a [`Field`]'s cells: contours, marks and their names, which keep clear of each other.

use anyhow::Result;
use plotters::prelude::{BLACK, DrawingBackend, WHITE};

use super::canvas::{Canvas, Text, Xy};
use super::cells::{Colors, INSIDE, middle};
use super::color::text_on;
use super::contour::contours;
use super::field::Field;
use super::layout::Layout;
use super::scale::{decimals, number};

const MARK_RADIUS: f64 = 6.0;

/// Contours first, since marks are what a reader looks for.
pub(super) fn draw<DB: DrawingBackend>(
    canvas: &mut Canvas<DB>,
    field: &Field,
    layout: &Layout,
    colors: &Colors,
) -> Result<()> {
    let mut taken = Taken::default();
    let names = names(canvas, field, layout, &mut taken)?;
    lines(canvas, field, layout, colors, &mut taken)?;
    for (mark, (a, b)) in field.marks.iter().zip(names) {
        let at = layout.data(mark.x, mark.y);
        canvas.circle(at, MARK_RADIUS, WHITE, 1.0)?;
        canvas.circle(at, MARK_RADIUS - 2.0, BLACK, 1.0)?;
        canvas.rectangle(a, b, WHITE, 0.85)?;
        canvas.text(&mark.label, middle(a, b), Text { color: BLACK, ..INSIDE.centred() })?;
    }
    Ok(())
}

/// What other names must not cover.
#[derive(Default)]
struct Taken(Vec<(Xy, Xy)>);

impl Taken {
    fn free(&self, a: Xy, b: Xy) -> bool {
        self.0.iter().all(|(c, d)| a.0 >= d.0 || b.0 <= c.0 || a.1 >= d.1 || b.1 <= c.1)
    }
}

/// Where the marks' names stand: beside them, inside the field and clear of other marks and names as far as that goes.
fn names<DB: DrawingBackend>(
    canvas: &Canvas<DB>,
    field: &Field,
    layout: &Layout,
    taken: &mut Taken,
) -> Result<Vec<(Xy, Xy)>> {
    let r = MARK_RADIUS;
    for mark in &field.marks {
        let (x, y) = layout.data(mark.x, mark.y);
        taken.0.push(((x - r, y - r), (x + r, y + r)));
    }
    let mut names = Vec::new();
    for mark in &field.marks {
        let (x, y) = layout.data(mark.x, mark.y);
        let (width, height) = (canvas.text_width(&mark.label, INSIDE)? + 8.0, INSIDE.size + 4.0);
        let (right, left, across) = (x + r + 2.0, x - r - 2.0 - width, x - width / 2.0);
        let (level, above, below) = (y - height / 2.0, y - r - 2.0 - height, y + r + 2.0);
        let corners = [(right, level), (left, level), (across, above), (across, below), (right, above), (left, below)];
        let boxes = corners.map(|(x, y)| ((x, y), (x + width, y + height)));
        let inside = || boxes.iter().filter(|(a, b)| layout.contains(*a) && layout.contains(*b));
        let best = inside().find(|(a, b)| taken.free(*a, *b)).or_else(|| inside().next()).unwrap_or(&boxes[0]);
        taken.0.push(*best);
        names.push(*best);
    }
    Ok(names)
}

/// Contours, and their values where there is room on them.
fn lines<DB: DrawingBackend>(
    canvas: &mut Canvas<DB>,
    field: &Field,
    layout: &Layout,
    colors: &Colors,
    taken: &mut Taken,
) -> Result<()> {
    let mut drawn = Vec::new();
    for level in &field.contours {
        let ink = text_on(colors.of(*level));
        for line in contours(&field.values, *level) {
            let line: Vec<Xy> = line.iter().map(|(column, row)| layout.at(*column, *row)).collect();
            // Where cells are far from the level, its line may stand on a colour like its own.
            canvas.path(&line, &[], text_on(ink), 0.35, 4.0)?;
            canvas.path(&line, &[], ink, 1.0, 1.5)?;
            drawn.push((*level, line));
        }
    }
    let digits = decimals(&field.contours);
    for (level, line) in drawn {
        let name = number(level, digits);
        let (width, height) = (canvas.text_width(&name, INSIDE)? + 6.0, INSIDE.size + 2.0);
        let length: f64 = line.windows(2).map(|pair| distance(pair[0], pair[1])).sum();
        let boxes = [0.5, 0.35, 0.65, 0.2, 0.8].map(|share| {
            let (x, y) = along(&line, share * length);
            ((x - width / 2.0, y - height / 2.0), (x + width / 2.0, y + height / 2.0))
        });
        let fits = |(a, b): &&(Xy, Xy)| layout.contains(*a) && layout.contains(*b) && taken.free(*a, *b);
        let Some((a, b)) = boxes.iter().find(fits).filter(|_| length > 1.5 * width) else { continue };
        let ground = colors.of(level);
        canvas.rectangle(*a, *b, ground, 1.0)?;
        canvas.text(&name, middle(*a, *b), Text { color: text_on(ground), ..INSIDE.centred() })?;
        taken.0.push((*a, *b));
    }
    Ok(())
}

fn distance(a: Xy, b: Xy) -> f64 {
    (b.0 - a.0).hypot(b.1 - a.1)
}

/// The point of a line so many pixels from its start.
fn along(line: &[Xy], pixels: f64) -> Xy {
    let mut left = pixels;
    for pair in line.windows(2) {
        let length = distance(pair[0], pair[1]);
        if left <= length && length > 0.0 {
            let share = left / length;
            return (pair[0].0 + (pair[1].0 - pair[0].0) * share, pair[0].1 + (pair[1].1 - pair[0].1) * share);
        }
        left -= length;
    }
    line.last().copied().unwrap_or((0.0, 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_clear_of_what_is_taken() {
        let mut taken = Taken::default();
        taken.0.push(((0.0, 0.0), (10.0, 10.0)));
        assert!(!taken.free((9.0, 9.0), (12.0, 12.0)) && taken.free((10.0, 0.0), (12.0, 12.0)));
    }

    #[test]
    fn a_place_along_a_line_is_found_by_its_length() {
        let line = [(0.0, 0.0), (4.0, 0.0), (4.0, 4.0)];
        assert_eq!([along(&line, 2.0), along(&line, 6.0), along(&line, 99.0)], [(2.0, 0.0), (4.0, 2.0), (4.0, 4.0)]);
    }
}
