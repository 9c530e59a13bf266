//! How a [`Figure`] is laid out: title, legend and, but for fields, axes and marks.

use anyhow::Result;
use plotters::prelude::{DrawingBackend, RGBColor};

use super::canvas::{Canvas, DASHES, INK, LINE_HEIGHT, MARGIN, PALETTE, QUIET, Text, Xy};
use super::cells;
use super::figure::{BarSeries, Figure, Line, Plot};
use super::scale::{Frame, number, span, ticks};

/// Grid lines, as a share of full ink.
const FAINT: f64 = 0.13;

/// Draws the whole figure.
pub(super) fn figure<DB: DrawingBackend>(canvas: &mut Canvas<DB>, figure: &Figure) -> Result<()> {
    let mut top = MARGIN;
    for line in canvas.wrapped(&figure.title, canvas.width - 2.0 * MARGIN, Text::TITLE)? {
        canvas.text(&line, (MARGIN, top + 8.0), Text::TITLE)?;
        top += 22.0;
    }
    let top = legend(canvas, figure, top + 2.0)? + 12.0;
    match &figure.plot {
        Plot::Lines(lines) => {
            let frame = axes(canvas, figure, top, line_ranges(figure, lines))?;
            references(canvas, figure, &frame)?;
            let labels = distinct(lines.iter().map(|line| line.label.as_str()));
            let style = |one: &Line| labels.iter().position(|label| *label == one.label).unwrap_or(0);
            for one in lines {
                interval_of(canvas, &frame, one, color(style(one)))?;
            }
            for one in lines {
                line(canvas, &frame, one, style(one))?;
            }
        }
        Plot::Bars { groups, series } => {
            let frame = axes(canvas, figure, top, bar_ranges(figure, groups.len(), series))?;
            bars(canvas, &frame, groups.len(), series)?;
            references(canvas, figure, &frame)?;
        }
        Plot::Field(field) => cells::field(canvas, figure, field, top)?,
    }
    Ok(())
}

fn color(index: usize) -> RGBColor {
    PALETTE[index % PALETTE.len()]
}

fn dashes(index: usize) -> &'static [f64] {
    DASHES[index % DASHES.len()]
}

/// Labels in the order of their first appearance: lines of one label look alike and share one key.
pub(super) fn distinct<'a>(labels: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for label in labels {
        if !seen.contains(&label) {
            seen.push(label);
        }
    }
    seen
}

/// Keys and names of the series from left to right, in as many rows as they need. Returns where they end.
fn legend<DB: DrawingBackend>(canvas: &mut Canvas<DB>, figure: &Figure, top: f64) -> Result<f64> {
    let (labels, key): (Vec<&str>, f64) = match &figure.plot {
        Plot::Lines(lines) => (distinct(lines.iter().map(|line| line.label.as_str())), 30.0),
        Plot::Bars { series, .. } => (series.iter().map(|one| one.label.as_str()).collect(), 13.0),
        Plot::Field(field) => return cells::legend(canvas, field, top),
    };
    if labels.len() < 2 {
        return Ok(top);
    }
    let (mut x, mut y) = (MARGIN, top + LINE_HEIGHT / 2.0);
    for (index, label) in labels.iter().enumerate() {
        let width = key + 7.0 + canvas.text_width(label, Text::PLAIN)? + 20.0;
        if x > MARGIN && x + width - 20.0 > canvas.width - MARGIN {
            (x, y) = (MARGIN, y + LINE_HEIGHT + 2.0);
        }
        if let Plot::Lines(_) = figure.plot {
            canvas.path(&[(x, y), (x + key, y)], dashes(index), color(index), 1.0, 2.0)?;
            canvas.marker(index, (x + key / 2.0, y), color(index))?;
        } else {
            canvas.rectangle((x, y - 6.5), (x + 13.0, y + 6.5), color(index), 1.0)?;
        }
        canvas.text(label, (x + key + 7.0, y), Text::PLAIN)?;
        x += width;
    }
    Ok(y + LINE_HEIGHT / 2.0)
}

/// Smallest and largest value on both axes of a line chart.
fn line_ranges(figure: &Figure, lines: &[Line]) -> (Xy, Xy) {
    let points = || lines.iter().flat_map(|line| &line.points);
    let named = figure.x.ticks.iter().map(|(at, _)| *at);
    let heights = points().flat_map(|point| [Some(point.y), point.lo, point.hi]).flatten();
    let references = figure.references.iter().map(|reference| reference.value);
    let padding = if figure.x.ticks.is_empty() { 0.02 } else { 0.08 };
    let x = span(points().map(|point| point.x).chain(named), padding);
    (figure.x.range.unwrap_or(x), figure.y.range.unwrap_or(span(heights.chain(references), 0.06)))
}

/// Smallest and largest value on both axes of a bar chart.
fn bar_ranges(figure: &Figure, groups: usize, series: &[BarSeries]) -> (Xy, Xy) {
    let bars = series.iter().flat_map(|one| one.bars.iter().flatten());
    let heights = bars.flat_map(|bar| {
        let own = [Some(bar.value), bar.lo, bar.hi].into_iter().flatten();
        own.chain(bar.observations.iter().copied())
    });
    let references = figure.references.iter().map(|reference| reference.value);
    let heights: Vec<f64> = heights.chain(references).chain([0.0]).collect();
    let (lo, hi) = span(heights.iter().copied(), 0.06);
    // Bars stand on the axis where none goes below zero.
    let grounded = heights.iter().all(|height| *height >= 0.0);
    let y = (if grounded { 0.0 } else { lo }, hi);
    (figure.x.range.unwrap_or((0.0, groups as f64)), figure.y.range.unwrap_or(y))
}

/// Draws grid, tick labels and axis names, and says where the data goes.
fn axes<DB: DrawingBackend>(canvas: &mut Canvas<DB>, figure: &Figure, top: f64, (x, y): (Xy, Xy)) -> Result<Frame> {
    let (heights, decimals) = ticks(y.0, y.1, 6);
    let heights: Vec<(f64, String)> = heights.into_iter().map(|at| (at, number(at, decimals))).collect();
    let mut widest = 0.0_f64;
    for (_, label) in &heights {
        widest = widest.max(canvas.text_width(label, Text::PLAIN)?);
    }
    let mut beside = 0.0_f64;
    for reference in &figure.references {
        beside = beside.max(canvas.text_width(&reference.label, Text::PLAIN)? + 6.0);
    }
    let left = (MARGIN + 20.0 + widest + 8.0).min(canvas.width / 2.0);
    let right = (canvas.width - MARGIN - beside).max(left + 40.0);

    let positions: Vec<(f64, String)> = match &figure.plot {
        Plot::Bars { groups, .. } => {
            groups.iter().enumerate().map(|(at, name)| (at as f64 + 0.5, name.clone())).collect()
        }
        _ if !figure.x.ticks.is_empty() => figure.x.ticks.clone(),
        _ => {
            let (positions, decimals) = ticks(x.0, x.1, 8);
            positions.into_iter().map(|at| (at, number(at, decimals))).collect()
        }
    };
    let room = (right - left) / positions.len().max(1) as f64 - 6.0;
    let mut names = Vec::new();
    for (at, name) in &positions {
        names.push((*at, canvas.wrapped(name, room.max(30.0), Text::PLAIN)?));
    }
    let rows = names.iter().map(|(_, lines)| lines.len()).max().unwrap_or(1);
    let label_height = if figure.x.label.is_empty() { 0.0 } else { LINE_HEIGHT + 4.0 };
    let bottom = (canvas.height - MARGIN + 4.0 - label_height - 8.0 - rows as f64 * LINE_HEIGHT).max(top + 30.0);
    let frame = Frame { left, right, top, bottom, x, y };

    for (at, label) in &heights {
        let height = frame.y(*at);
        canvas.path(&[(left, height), (right, height)], &[], INK, FAINT, 1.0)?;
        canvas.text(label, (left - 8.0, height), Text::PLAIN.ending())?;
    }
    let ground = if y.0 <= 0.0 && y.1 >= 0.0 { frame.y(0.0) } else { bottom };
    canvas.path(&[(left, ground), (right, ground)], &[], INK, 0.6, 1.0)?;
    for (at, lines) in &names {
        if let Plot::Lines(_) = figure.plot {
            canvas.path(&[(frame.x(*at), bottom), (frame.x(*at), bottom + 5.0)], &[], INK, 0.6, 1.0)?;
        }
        for (row, line) in lines.iter().enumerate() {
            canvas.text(line, (frame.x(*at), bottom + 15.0 + row as f64 * LINE_HEIGHT), Text::PLAIN.centred())?;
        }
    }
    let (middle, name_at) = ((left + right) / 2.0, canvas.height - MARGIN);
    canvas.text(&figure.x.label, (middle, name_at), Text { opacity: QUIET, ..Text::PLAIN.centred() })?;
    let upwards = Text { opacity: QUIET, upwards: true, ..Text::PLAIN.centred() };
    canvas.text(&figure.y.label, (MARGIN + 2.0, (top + bottom) / 2.0), upwards)?;
    Ok(frame)
}

/// Band or error bars of a line, below all lines.
fn interval_of<DB: DrawingBackend>(canvas: &mut Canvas<DB>, frame: &Frame, line: &Line, color: RGBColor) -> Result<()> {
    let bounds =
        line.points.iter().filter_map(|point| Some((frame.x(point.x), frame.y(point.lo?), frame.y(point.hi?))));
    let bounds: Vec<_> = bounds.collect();
    if !line.band {
        return bounds.iter().try_for_each(|(x, lo, hi)| canvas.error_bar(*x, *lo, *hi, color));
    }
    if bounds.len() < 2 {
        return Ok(());
    }
    let upper = bounds.iter().map(|(x, _, hi)| (*x, *hi));
    let lower = bounds.iter().rev().map(|(x, lo, _)| (*x, *lo));
    canvas.polygon(&upper.chain(lower).collect::<Vec<_>>(), color, 0.18)
}

fn line<DB: DrawingBackend>(canvas: &mut Canvas<DB>, frame: &Frame, line: &Line, index: usize) -> Result<()> {
    let points: Vec<Xy> = line.points.iter().map(|point| (frame.x(point.x), frame.y(point.y))).collect();
    if points.len() > 1 {
        canvas.path(&points, dashes(index), color(index), 1.0, 2.0)?;
    }
    // With many points only some carry the marker that tells series apart.
    let every = points.len().div_ceil(16).max(1);
    points.iter().step_by(every).try_for_each(|point| canvas.marker(index, *point, color(index)))
}

fn bars<DB: DrawingBackend>(canvas: &mut Canvas<DB>, frame: &Frame, groups: usize, series: &[BarSeries]) -> Result<()> {
    let slot = 0.84 / series.len().max(1) as f64;
    for (group, (index, one)) in (0..groups).flat_map(|group| series.iter().enumerate().map(move |one| (group, one))) {
        let Some(bar) = one.bars.get(group).and_then(Option::as_ref) else { continue };
        let start = group as f64 + 0.08 + slot * index as f64;
        let (left, right) = (frame.x(start) + 1.0, frame.x(start + slot) - 1.0);
        // Very wide bars say no more than slim ones.
        let (middle, half) = ((left + right) / 2.0, ((right - left) / 2.0).clamp(1.0, 34.0));
        let (ground, height) = (frame.y(0.0_f64.clamp(frame.y.0, frame.y.1)), frame.y(bar.value));
        canvas.rectangle(
            (middle - half, height.min(ground)),
            (middle + half, height.max(ground)),
            color(index),
            0.9,
        )?;
        if let (Some(lo), Some(hi)) = (bar.lo, bar.hi) {
            canvas.error_bar(middle, frame.y(lo), frame.y(hi), INK)?;
        }
        let seeds = bar.observations.len();
        for (at, value) in bar.observations.iter().enumerate().filter(|_| seeds > 1) {
            let share = (at as f64 + 0.5) / seeds as f64 * 2.0 - 1.0;
            canvas.circle((middle + share * half * 0.8, frame.y(*value)), 2.0, INK, 0.6)?;
        }
    }
    Ok(())
}

/// Dotted lines with their names beside the frame, moved apart where they would overlap.
fn references<DB: DrawingBackend>(canvas: &mut Canvas<DB>, figure: &Figure, frame: &Frame) -> Result<()> {
    let mut sorted: Vec<_> = figure.references.iter().collect();
    sorted.sort_by(|a, b| b.value.total_cmp(&a.value));
    let mut lowest = f64::NEG_INFINITY;
    for reference in sorted {
        let height = frame.y(reference.value);
        canvas.path(&[(frame.left, height), (frame.right, height)], &[4.0, 4.0], INK, QUIET, 1.5)?;
        lowest = height.max(lowest + LINE_HEIGHT);
        canvas.text(&reference.label, (frame.right + 6.0, lowest), Text { opacity: QUIET, ..Text::PLAIN })?;
    }
    Ok(())
}
