//! A figure in words and numbers: for terminals, and for notebooks whose host keeps nothing but text.

use super::field::{Field, edges};
use super::figure::{Axis, Bar, BarSeries, Figure, Line, Plot, Point};
use super::scale::{number, span};
use super::table::{Cell, Column, Table};

/// Tables of at most so many columns, and rows of a matrix, are written as numbers.
const MOST_NUMBERS: usize = 10;
/// Characters of a curve, and cells of a map along each side, at most.
const WIDEST: usize = 48;
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const SHADES: [char; 5] = [' ', '░', '▒', '▓', '█'];

impl Figure {
    /// Title, axes, the data as a short table, a curve or a shaded map, lines to compare with, caption.
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n", self.title);
        text += &match &self.plot {
            Plot::Lines(lines) => format!("{} over {}\n{}", self.y.label, self.x.label, of_lines(self, lines)),
            Plot::Bars { groups, series } => format!("{}\n{}", self.y.label, of_bars(groups, series)),
            Plot::Field(field) => {
                format!(
                    "{} by {} (down) and {} (across)\n{}",
                    field.label,
                    self.y.label,
                    self.x.label,
                    of_field(self, field)
                )
            }
        };
        for reference in &self.references {
            text += &format!("{}: {}\n", reference.label, short(reference.value));
        }
        if !self.caption.is_empty() {
            text += &format!("{}\n", self.caption);
        }
        text
    }
}

/// A number with about four digits that matter.
fn short(value: f64) -> String {
    let decimals = if value == 0.0 { 0.0 } else { (3.0 - value.abs().log10().floor()).clamp(0.0, 6.0) };
    let text = number(value, decimals as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn range(value: f64, lo: Option<f64>, hi: Option<f64>) -> Cell {
    Cell::Text(match (lo, hi) {
        (Some(lo), Some(hi)) => format!("{} [{}, {}]", short(value), short(lo), short(hi)),
        _ => short(value),
    })
}

/// The name of a position on an axis, where it has one, or else the position.
fn name_of(axis: &Axis, at: f64) -> String {
    axis.ticks.iter().find(|(place, _)| *place == at).map_or_else(|| short(at), |(_, name)| name.clone())
}

/// Few points as a table with a column for every x, many as a curve a line.
fn of_lines(figure: &Figure, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let mut xs: Vec<f64> = points().map(|point| point.x).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let labels = super::draw::distinct(lines.iter().map(|line| line.label.as_str()));
    let of = |label: &str| -> Vec<&Point> {
        lines.iter().filter(|line| line.label == label).flat_map(|line| &line.points).collect()
    };
    if xs.len() <= MOST_NUMBERS {
        let columns = xs.iter().map(|x| Column::number(name_of(&figure.x, *x), 3));
        let mut table = Table::new("", "", [Column::text("")].into_iter().chain(columns).collect());
        for label in labels {
            let points = of(label);
            let at =
                |x: &f64| points.iter().find(|point| point.x == *x).map(|point| range(point.y, point.lo, point.hi));
            table.push([Cell::from(label)].into_iter().chain(xs.iter().map(|x| Cell::from(at(x)))));
        }
        return table.to_text();
    }
    let heights = span(points().map(|point| point.y), 0.0);
    let columns = ["", "curve", "first", "last", "lowest", "highest"];
    let columns = columns
        .iter()
        .enumerate()
        .map(|(at, name)| if at < 2 { Column::text(*name) } else { Column::number(*name, 3) });
    let mut table = Table::new("", "", columns.collect()).caption(format!(
        "The curves go from {} to {}, their heights from {} to {}.",
        short(xs[0]),
        short(xs[xs.len() - 1]),
        short(heights.0),
        short(heights.1)
    ));
    for label in labels {
        let points = of(label);
        let at = |point: Option<&&Point>| {
            point.map(|point| format!("{} at {}", short(point.y), name_of(&figure.x, point.x)))
        };
        let by_height = |a: &&&Point, b: &&&Point| a.y.total_cmp(&b.y);
        let ends = [points.first(), points.last(), points.iter().min_by(by_height), points.iter().max_by(by_height)];
        let curve = curve(&points, (xs[0], xs[xs.len() - 1]), heights);
        table.push([Cell::from(label), Cell::from(curve)].into_iter().chain(ends.map(|point| Cell::from(at(point)))));
    }
    table.to_text()
}

/// The heights of points in block characters: equal widths of x, the mean of what lies in each, a dot where nothing does.
fn curve(points: &[&Point], (left, right): (f64, f64), (low, high): (f64, f64)) -> String {
    let width = points.len().clamp(1, WIDEST);
    let place = |point: &Point| (((point.x - left) / (right - left) * width as f64) as usize).min(width - 1);
    let character = |column: usize| {
        let here: Vec<f64> = points.iter().filter(|point| place(point) == column).map(|point| point.y).collect();
        let mean = here.iter().sum::<f64>() / here.len() as f64;
        if here.is_empty() { '·' } else { level(mean, low, high, &HEIGHTS) }
    };
    (0..width).map(character).collect()
}

/// Which of the characters stands for `value` between the lowest and the highest.
fn level(value: f64, low: f64, high: f64, characters: &[char]) -> char {
    let share = ((value - low) / (high - low)).clamp(0.0, 1.0);
    characters[(share * (characters.len() - 1) as f64).round() as usize]
}

/// A row a group, a column a series.
fn of_bars(groups: &[String], series: &[BarSeries]) -> String {
    let columns = series.iter().map(|one| Column::number(one.label.as_str(), 3));
    let mut table = Table::new("", "", [Column::text("")].into_iter().chain(columns).collect());
    for (at, group) in groups.iter().enumerate() {
        let bar = |one: &BarSeries| one.bars.get(at)?.as_ref().map(|bar: &Bar| range(bar.value, bar.lo, bar.hi));
        table.push([Cell::from(group.as_str())].into_iter().chain(series.iter().map(|one| Cell::from(bar(one)))));
    }
    table.to_text()
}

/// Small fields as numbers, large ones as a shaded map, two characters a cell; marks with their places.
fn of_field(figure: &Figure, field: &Field) -> String {
    let (rows, columns) = (field.rows(), field.columns());
    // A field with named rows stands as a matrix does, one without as a plane does.
    let order: Vec<usize> = if figure.y.ticks.is_empty() { (0..rows).rev().collect() } else { (0..rows).collect() };
    let centre = |axis: &Axis, cells: usize, at: usize| {
        let (lo, hi) = edges(axis, cells);
        lo + (hi - lo) * (at as f64 + 0.5) / cells as f64
    };
    let name = |axis: &Axis, cells: usize, at: usize| name_of(axis, centre(axis, cells, at));
    let mut text = if rows.max(columns) <= MOST_NUMBERS {
        let names = (0..columns).map(|at| Column::number(name(&figure.x, columns, at), 3));
        let mut table = Table::new("", "", [Column::text("")].into_iter().chain(names).collect());
        for row in order {
            let cells = field.values[row].iter().map(|value| Cell::from(value.map(short)));
            table.push([Cell::from(name(&figure.y, rows, row))].into_iter().chain(cells));
        }
        table.to_text()
    } else {
        let (low, high) = field.range.unwrap_or_else(|| span(field.measured().map(|(_, _, value)| value), 0.0));
        let shade = |value: &Option<f64>| value.map_or('?', |value| level(value, low, high, &SHADES));
        let (down, across) = (rows.div_ceil(WIDEST), columns.div_ceil(WIDEST));
        let line = |row: usize| -> String {
            let cells = field.values[row].iter().step_by(across).map(shade).flat_map(|shade| [shade, shade]);
            format!("│{}│\n", cells.collect::<String>())
        };
        let drawn: String = order.into_iter().step_by(down).map(line).collect();
        let marks: String = SHADES.iter().collect();
        format!("{drawn}from {} to {}: {marks}\n", short(low), short(high))
    };
    for mark in &field.marks {
        text += &format!("{} is at ({}, {})\n", mark.label, short(mark.x), short(mark.y));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axes() -> (Axis, Axis) {
        (Axis::new("updates"), Axis::new("accuracy"))
    }

    #[test]
    fn a_short_line_is_a_table_of_its_points_with_their_names_and_intervals() {
        let point = Point { lo: Some(0.75), hi: Some(0.85), ..Point::new(1.0, 0.8) };
        let x = Axis::new("version").names(["M_0", "M_1"]);
        let figure = Figure::lines("f", "Decline", x, Axis::new("accuracy"))
            .line("Δ of M_0", vec![Point::new(0.0, 0.9), point])
            .reference("chance", 0.25)
            .caption("One seed.");
        let wanted = "Decline\naccuracy over version\n          M_0               M_1\n\
                      ─────────────────────────────\nΔ of M_0  0.9  0.8 [0.75, 0.85]\nchance: 0.25\nOne seed.\n";
        let bare = |text: &str| text.replace('─', "");
        assert_eq!(bare(&figure.to_text()), bare(wanted));
    }

    #[test]
    fn a_long_line_is_a_curve_with_its_ends_and_extremes() {
        let points = (0..=100).map(|at| Point::new(f64::from(at), (f64::from(at) / 100.0 - 0.5).powi(2))).collect();
        let text = Figure::lines("f", "Bowl", axes().0, axes().1).line("loss", points).to_text();
        let curve = text.lines().find(|line| line.starts_with("loss")).unwrap();
        assert!(curve.contains("█▇") && curve.contains("▁▁▁"), "{curve}");
        assert!(curve.contains("0.25 at 0") && curve.contains("0 at 50") && curve.contains("0.25 at 100"), "{curve}");
        assert!(text.contains("from 0 to 100"), "{text}");
    }

    #[test]
    fn bars_are_a_table_with_a_dash_where_there_is_none() {
        let figure = Figure::grouped("f", "Few-shot", ["topic", "relation"], axes().1)
            .bars("labels only", vec![Some(Bar::new(0.4321)), None])
            .bars("distilled", vec![Some(Bar::new(0.5)), Some(Bar::new(0.75))]);
        let text = figure.to_text();
        assert!(text.contains("labels only") && text.contains("0.4321") && text.contains('–'), "{text}");
        assert_eq!(text.lines().last().unwrap().split_whitespace().collect::<Vec<_>>(), ["relation", "–", "0.75"]);
    }

    #[test]
    fn a_matrix_is_written_in_numbers_from_the_top_and_a_plane_is_shaded_from_the_bottom() {
        let names = |label: &str| Axis::new(label).names(["a", "b"]);
        let matrix = Field::new("similarity", [[Some(0.9), Some(0.1)], [None, Some(0.8)]]);
        let text = Figure::field("f", "Heads", names("to"), names("from"), matrix).to_text();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            (&rows[4][..], &rows[5][..]),
            (["a", "0.9", "0.1"].as_slice(), ["b", "–", "0.8"].as_slice()),
            "{text}"
        );

        let rising = (0..12).map(|row| (0..12).map(move |_| f64::from(row)).collect::<Vec<_>>());
        let axis = |label: &str| Axis::new(label).range(0.0, 11.0);
        let field = Field::new("loss", rising).mark("M_0", 0.0, 0.0);
        let text = Figure::field("f", "Plane", axis("x"), axis("y"), field).to_text();
        let map: Vec<&str> = text.lines().filter(|line| line.starts_with('│')).collect();
        assert_eq!(
            (map.len(), map[0], map[11]),
            (12, format!("│{}│", "█".repeat(24)).as_str(), format!("│{}│", " ".repeat(24)).as_str())
        );
        assert!(text.contains("from 0 to 11") && text.contains("M_0 is at (0, 0)"), "{text}");
    }

    #[test]
    fn numbers_are_short_and_still_tell_small_ones_apart() {
        assert_eq!([0.0, 0.25, 1234.5, -0.00123].map(short), ["0", "0.25", "1,235", "−0.00123"]);
    }
}
