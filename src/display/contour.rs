//! Lines of equal value through a grid of numbers, by marching squares.

use std::collections::BTreeMap;

use super::canvas::Xy;

/// The side of a square of four neighbouring centres: from (row, column) to the next column or, if `down`, the next row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Side {
    row: usize,
    column: usize,
    down: bool,
}

/// Polylines where the values pass `level`, as (column, row) with the cells' centres at whole numbers; a closed line ends where
/// it starts. Values between centres are linear along the squares' sides. Squares with a corner missing hold no line.
pub(super) fn contours(values: &[Vec<Option<f64>>], level: f64) -> Vec<Vec<Xy>> {
    let at = |row: usize, column: usize| values.get(row).and_then(|row| row.get(column)).copied().flatten();
    let mut neighbours: BTreeMap<Side, Vec<Side>> = BTreeMap::new();
    let columns = values.first().map_or(0, Vec::len);
    for (row, column) in (1..values.len()).flat_map(|row| (1..columns).map(move |column| (row - 1, column - 1))) {
        let corners = (at(row, column), at(row, column + 1), at(row + 1, column + 1), at(row + 1, column));
        let (Some(a), Some(b), Some(c), Some(d)) = corners else { continue };
        for (one, other) in crossings([a, b, c, d], level) {
            let sides = [one, other].map(|side| match side {
                0 => Side { row, column, down: false },
                1 => Side { row, column: column + 1, down: true },
                2 => Side { row: row + 1, column, down: false },
                _ => Side { row, column, down: true },
            });
            neighbours.entry(sides[0]).or_default().push(sides[1]);
            neighbours.entry(sides[1]).or_default().push(sides[0]);
        }
    }
    let point = |side: &Side| {
        let (row, column) = (side.row + usize::from(side.down), side.column + usize::from(!side.down));
        let along = match (at(side.row, side.column), at(row, column)) {
            // Halves, because the difference of extreme values may be infinite.
            (Some(from), Some(to)) => (level / 2.0 - from / 2.0) / (to / 2.0 - from / 2.0),
            _ => 0.5,
        };
        let (x, y) = (side.column as f64, side.row as f64);
        if side.down { (x, y + along) } else { (x + along, y) }
    };
    chains(neighbours).iter().map(|chain| chain.iter().map(point).collect()).collect()
}

/// Which sides of a square (0 top, 1 right, 2 bottom, 3 left) a line joins, from the values at its corners (clockwise from top
/// left). Where two opposite corners are above the level and two below, the mean of all four says which pair is joined.
fn crossings(corners: [f64; 4], level: f64) -> Vec<(usize, usize)> {
    let above = corners.map(|corner| corner >= level);
    let crossed: Vec<usize> = (0..4).filter(|side| above[*side] != above[(side + 1) % 4]).collect();
    match crossed[..] {
        [one, other] => vec![(one, other)],
        [_, _, _, _] => {
            let middle = corners.iter().map(|corner| corner / 4.0).sum::<f64>() >= level;
            // Lines cut off the corners that differ from the middle.
            if middle == above[0] { vec![(0, 1), (2, 3)] } else { vec![(3, 0), (1, 2)] }
        }
        _ => Vec::new(),
    }
}

/// Joins pieces to lines: open ones from end to end first, then closed ones.
fn chains(mut neighbours: BTreeMap<Side, Vec<Side>>) -> Vec<Vec<Side>> {
    let mut starts: Vec<Side> = neighbours.keys().copied().collect();
    starts.sort_by_key(|side| neighbours.get(side).map_or(0, Vec::len));
    let mut found = Vec::new();
    for start in starts {
        let mut chain = vec![start];
        let mut here = start;
        while let Some(next) = neighbours.get_mut(&here).and_then(Vec::pop) {
            if let Some(back) = neighbours.get_mut(&next) {
                back.retain(|side| *side != here);
            }
            chain.push(next);
            here = next;
        }
        if chain.len() > 1 {
            found.push(chain);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(rows: usize, columns: usize, value: impl Fn(f64, f64) -> f64) -> Vec<Vec<Option<f64>>> {
        (0..rows).map(|y| (0..columns).map(|x| Some(value(x as f64, y as f64))).collect()).collect()
    }

    #[test]
    fn a_slope_is_crossed_by_one_straight_line_at_the_right_place() {
        let lines = contours(&grid(5, 4, |x, _| x), 1.25);
        let [line] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(line.len(), 5);
        assert!(line.iter().all(|(x, _)| (x - 1.25).abs() < 1e-12), "{line:?}");
        assert_eq!(line.iter().map(|(_, y)| *y).fold(0.0, f64::max), 4.0);
    }

    #[test]
    fn a_hill_is_ringed_by_a_closed_line() {
        let lines = contours(&grid(21, 21, |x, y| -((x - 10.0).powi(2) + (y - 10.0).powi(2))), -25.5);
        let [ring] = &lines[..] else { panic!("{} lines", lines.len()) };
        assert_eq!(ring.first(), ring.last());
        assert!(ring.iter().all(|(x, y)| ((x - 10.0).hypot(y - 10.0) - 25.5_f64.sqrt()).abs() < 0.05));
    }

    #[test]
    fn a_saddle_joins_what_its_middle_belongs_to() {
        assert_eq!(crossings([1.0, 0.0, 1.0, 0.0], 0.4), [(0, 1), (2, 3)]);
        assert_eq!(crossings([1.0, 0.0, 1.0, 0.0], 0.6), [(3, 0), (1, 2)]);
    }

    #[test]
    fn no_line_enters_what_was_not_measured() {
        let mut values = grid(5, 4, |x, _| x);
        values[2][1] = None;
        let lines = contours(&values, 1.25);
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().flatten().all(|(_, y)| *y <= 1.0 || *y >= 3.0), "{lines:?}");
    }

    #[test]
    fn flat_tiny_and_extreme_fields_do_no_harm() {
        assert!(contours(&grid(3, 3, |_, _| 1.0), 1.0).is_empty());
        assert!(contours(&grid(1, 9, |x, _| x), 1.5).is_empty());
        assert!(contours(&[], 0.0).is_empty());
        let lines = contours(&grid(2, 2, |x, _| if x > 0.0 { 1.7e308 } else { -1.7e308 }), 0.0);
        assert_eq!(lines, [[(0.5, 0.0), (0.5, 1.0)]]);
    }
}
