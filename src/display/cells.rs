//! How a [`Field`]'s cells are drawn. Where they stand and what is around them is in [`Layout`], what is on them in [`labels`].

use anyhow::Result;
use plotters::prelude::{DrawingBackend, RGBColor};

use super::canvas::{Canvas, INK, LINE_HEIGHT, MARGIN, Text, Xy};
use super::color::{cividis, text_on};
use super::field::Field;
use super::figure::Figure;
use super::labels;
use super::layout::Layout;
use super::scale::{number, span};

/// Text smaller than this cannot be read.
pub(super) const SMALLEST: f64 = 9.0;
/// Numbers in cells, names of marks and contours.
pub(super) const INSIDE: Text = Text { size: 13.0, ..Text::PLAIN };
/// From one line of the hatching to the next, and their share of full ink.
const HATCH: (f64, f64) = (6.0, 0.4);

/// What hatched cells are, where there are any. Returns where that ends.
pub(super) fn legend<DB: DrawingBackend>(canvas: &mut Canvas<DB>, field: &Field, top: f64) -> Result<f64> {
    if field.values.iter().flatten().all(Option::is_some) {
        return Ok(top);
    }
    let middle = top + LINE_HEIGHT / 2.0;
    let (a, b) = ((MARGIN, middle - 6.5), (MARGIN + 20.0, middle + 6.5));
    hatch(canvas, a, b)?;
    canvas.outline(a, b)?;
    canvas.text("not measured", (b.0 + 7.0, middle), Text::PLAIN)?;
    Ok(top + LINE_HEIGHT)
}

/// Draws the field with everything around it, from `top` on.
pub(super) fn field<DB: DrawingBackend>(
    canvas: &mut Canvas<DB>,
    figure: &Figure,
    field: &Field,
    top: f64,
) -> Result<()> {
    let colors = Colors(field.range.unwrap_or_else(|| span(field.measured().map(|(_, _, value)| value), 0.0)));
    let layout = Layout::of(canvas, figure, field, colors.0, top)?;
    cells(canvas, field, &layout, &colors)?;
    if field.show_values {
        values(canvas, field, &layout, &colors)?;
    }
    labels::draw(canvas, field, &layout, &colors)?;
    layout.sides(canvas, figure)?;
    layout.bar(canvas, field, &colors)
}

/// The values of the darkest and the lightest colour.
pub(super) struct Colors(pub Xy);

impl Colors {
    pub fn of(&self, value: f64) -> RGBColor {
        // Halves, because the difference of extreme values may be infinite.
        let (lo, hi) = (self.0.0 / 2.0, self.0.1 / 2.0);
        cividis((value / 2.0 - lo) / (hi - lo))
    }
}

pub(super) fn middle(a: Xy, b: Xy) -> Xy {
    ((a.0 + b.0) / 2.0, (a.1 + b.1) / 2.0)
}

/// Colours, line by line down the canvas, over hatching that shows where nothing was measured.
fn cells<DB: DrawingBackend>(canvas: &mut Canvas<DB>, field: &Field, layout: &Layout, colors: &Colors) -> Result<()> {
    let at = |line: usize, column: usize| {
        (line < layout.rows).then(|| layout.row_of(line)).and_then(|row| field.values.get(row)?.get(column).copied()?)
    };
    if field.values.iter().flatten().any(Option::is_none) {
        let (a, b) = layout.corners();
        hatch(canvas, a, b)?;
    }
    for line in 0..layout.rows {
        let color = |column: usize| at(line, column).map(|value| colors.of(value));
        let below = |column: usize| at(line + 1, column).is_some();
        let mut first = 0;
        while first < layout.columns {
            // Neighbours that look alike are one rectangle: maps have many, and every rectangle costs a line of SVG.
            let alike = |column: &usize| color(*column) == color(first) && below(*column) == below(first);
            let last = (first + 1..layout.columns).take_while(alike).last().unwrap_or(first);
            let (start, next) = (first, last + 1);
            first = next;
            let Some(color) = color(start) else { continue };
            let (a, mut b) = (layout.cell(layout.row_of(line), start).0, layout.cell(layout.row_of(line), last).1);
            // A pixel under the next cell, else scaled drawings show hairlines between neighbours.
            b.0 += if at(line, next).is_some() { 1.0 } else { 0.0 };
            b.1 += if below(start) { 1.0 } else { 0.0 };
            canvas.rectangle(a, b, color, 1.0)?;
        }
    }
    Ok(())
}

/// Slanting lines across a rectangle.
fn hatch<DB: DrawingBackend>(canvas: &mut Canvas<DB>, a: Xy, b: Xy) -> Result<()> {
    let (gap, opacity) = HATCH;
    let first = ((a.0 + a.1) / gap).floor() as i64 + 1;
    // Along each line x + y stays the same.
    for sum in (first..).map(|index| index as f64 * gap).take_while(|sum| *sum < b.0 + b.1) {
        let (left, right) = (a.0.max(sum - b.1), b.0.min(sum - a.1));
        canvas.path(&[(left, sum - left), (right, sum - right)], &[], INK, opacity, 1.0)?;
    }
    Ok(())
}

/// Numbers in the cells, as large as the narrowest allows; none where they could not be read.
fn values<DB: DrawingBackend>(canvas: &mut Canvas<DB>, field: &Field, layout: &Layout, colors: &Colors) -> Result<()> {
    let (lo, hi) = colors.0;
    // Two significant digits of a fifth of the range tell neighbouring colours apart.
    let digits = (1.0 - ((hi - lo) / 5.0).log10().floor()).clamp(0.0, 6.0) as usize;
    let mut widest = 1.0_f64;
    for (_, _, value) in field.measured() {
        widest = widest.max(canvas.text_width(&number(value, digits), INSIDE)?);
    }
    let size = INSIDE.size * ((layout.side - 3.0) / widest).min(1.0).min(layout.side * 0.8 / INSIDE.size);
    if size < SMALLEST {
        return Ok(());
    }
    for (row, column, value) in field.measured() {
        let (a, b) = layout.cell(row, column);
        let text = Text { size, color: text_on(colors.of(value)), ..INSIDE.centred() };
        canvas.text(&number(value, digits), middle(a, b), text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::{Axis, Plot};

    fn plane() -> Figure {
        let rows = (0..5).map(|_| (0..5).map(f64::from));
        let field = Field::new("accuracy (%)", rows).range(0.0, 4.0).contours([1.5]).mark("M_0 <&>", 0.5, 0.25);
        Figure::field("plane", "Slope & marks", Axis::new("x").range(0.0, 1.0), Axis::new("y").range(0.0, 1.0), field)
    }

    fn matrix() -> Figure {
        let names = || Axis::new("head").names(["one", "two & three"]);
        let field = Field::new("similarity", [[Some(0.0), Some(0.25)], [None, Some(1.0)]]).range(0.0, 1.0);
        Figure::field("matrix", "Similarity", names(), names(), field.show_values())
    }

    /// An element of a drawing.
    struct Element {
        attributes: Vec<(String, String)>,
        text: String,
    }

    impl Element {
        fn get(&self, name: &str) -> &str {
            self.attributes.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
        }
    }

    fn elements(figure: &Figure, name: &str) -> Result<Vec<Element>> {
        let svg = figure.to_svg()?;
        let document = roxmltree::Document::parse(&svg)?;
        let element = |node: roxmltree::Node| Element {
            attributes: node.attributes().map(|one| (one.name().to_owned(), one.value().to_owned())).collect(),
            text: node.text().unwrap_or_default().trim().to_owned(),
        };
        Ok(document.descendants().filter(|node| node.has_tag_name(name)).map(element).collect())
    }

    fn hex(color: RGBColor) -> String {
        format!("#{:02X}{:02X}{:02X}", color.0, color.1, color.2)
    }

    /// Where the first rectangle of a value's colour stands.
    fn stands(figure: &Figure, value: f64) -> Result<(i32, i32)> {
        let Plot::Field(field) = &figure.plot else { panic!("{:?}", figure.plot) };
        let color = hex(Colors(field.range.unwrap_or((0.0, 1.0))).of(value));
        let found = elements(figure, "rect")?.into_iter().find(|one| one.get("fill") == color);
        let found = found.ok_or_else(|| anyhow::anyhow!("no rectangle shows {value}"))?;
        Ok((found.get("x").parse()?, found.get("y").parse()?))
    }

    #[test]
    fn an_svg_is_well_formed_and_names_everything() -> Result<()> {
        let texts: Vec<String> = elements(&plane(), "text")?.into_iter().map(|one| one.text).collect();
        for wanted in ["Slope & marks", "x", "y", "accuracy (%)", "M_0 <&>", "1.5", "0.4"] {
            assert!(texts.iter().any(|text| text == wanted), "{wanted} is missing in {texts:?}");
        }
        assert!(plane().to_svg()?.contains("M_0 &lt;&amp;&gt;"));
        let texts: Vec<String> = elements(&matrix(), "text")?.into_iter().map(|one| one.text).collect();
        assert_eq!(texts.iter().filter(|text| *text == "two & three").count(), 2);
        Ok(())
    }

    #[test]
    fn a_png_has_twice_the_size_and_the_same_bytes_each_time() -> Result<()> {
        let png = plane().to_png()?;
        let side = |at: usize| u32::from_be_bytes([png[at], png[at + 1], png[at + 2], png[at + 3]]);
        assert_eq!((side(16), side(20)), (2 * plane().size.0, 2 * plane().size.1));
        assert_eq!(plane().to_png()?, png);
        assert_eq!(matrix().to_svg()?, matrix().to_svg()?);
        Ok(())
    }

    #[test]
    fn a_plane_reads_upwards_and_a_named_matrix_downwards() -> Result<()> {
        let rows = [[0.0, 0.25], [0.5, 1.0]];
        let field = || Field::new("value", rows).range(0.0, 1.0);
        let plane = Figure::field("f", "", Axis::new("x"), Axis::new("y"), field());
        let named = Axis::new("y").names(["first", "second"]);
        let matrix = Figure::field("f", "", Axis::new("x"), named, field());
        assert!(stands(&plane, 0.25)?.1 > stands(&plane, 1.0)?.1, "row 0 is at the bottom");
        assert!(stands(&matrix, 0.25)?.1 < stands(&matrix, 1.0)?.1, "row 0 is at the top");
        assert!(stands(&plane, 0.25)?.0 > stands(&plane, 0.0)?.0, "column 0 is at the left");
        Ok(())
    }

    #[test]
    fn a_contour_crosses_where_the_slope_has_its_level() -> Result<()> {
        let figure = plane();
        let ink = hex(text_on(Colors((0.0, 4.0)).of(1.5)));
        let lines = elements(&figure, "polyline")?;
        let contour = lines.iter().find(|one| one.get("stroke") == ink);
        let points = contour.map(|one| one.get("points").to_owned()).unwrap_or_default();
        let across: Vec<f64> =
            points.split_whitespace().filter_map(|point| point.split(',').next()?.parse().ok()).collect();
        // Half way between the centres of columns 1 and 2, which is where column 2's cells begin.
        let border = f64::from(stands(&figure, 2.0)?.0);
        assert_eq!(across.len(), 5);
        assert!(across.iter().all(|x| (x - border).abs() <= 1.0), "{across:?} are not at {border}");
        Ok(())
    }

    #[test]
    fn what_was_not_measured_is_hatched_and_explained() -> Result<()> {
        let says = |figure: &Figure| Ok::<_, anyhow::Error>(figure.to_svg()?.contains("not measured"));
        let whole = Figure { plot: Plot::Field(Field::new("value", [[0.0, 1.0]])), ..matrix() };
        let whole = Figure { y: Axis::new("y"), ..whole };
        assert_eq!((says(&matrix())?, says(&whole)?), (true, false));
        let hatching = |figure: &Figure| {
            let opacity = HATCH.1.to_string();
            let lines = elements(figure, "polyline")?.into_iter();
            Ok::<_, anyhow::Error>(lines.filter(|one| one.get("opacity") == opacity).count())
        };
        assert!(hatching(&matrix())? > 10 && hatching(&whole)? == 0);
        Ok(())
    }

    #[test]
    fn text_on_cells_keeps_its_colour_whatever_the_page_makes_of_ink() -> Result<()> {
        let texts = elements(&matrix(), "text")?;
        let fill = |wanted: &str| texts.iter().find(|one| one.text == wanted).map(|one| one.get("fill").to_owned());
        assert_eq!(fill("1.00").as_deref(), Some("#000000"));
        assert_eq!(fill("0.00").as_deref(), Some("#FFFFFF"));
        // The page clears the first white only, which must be the ground.
        let svg = matrix().to_svg()?;
        let first = svg.find("fill=\"#FFFFFF\"").and_then(|at| svg[..at].rfind('<')).map(|at| &svg[at..at + 40]);
        assert!(
            first.is_some_and(|rectangle| rectangle.starts_with("<rect x=\"0\" y=\"0\" width=\"760\"")),
            "{first:?}"
        );
        Ok(())
    }

    #[test]
    fn the_bar_ends_in_a_point_only_where_values_lie_beyond() -> Result<()> {
        let points = |lo: f64, hi: f64| {
            let field = Field::new("value", [[0.0, 1.0]]).range(lo, hi);
            let figure = Figure::field("f", "", Axis::new("x"), Axis::new("y"), field);
            Ok::<_, anyhow::Error>(elements(&figure, "polygon")?.len())
        };
        assert_eq!((points(0.0, 1.0)?, points(0.0, 0.5)?, points(0.25, 0.5)?), (0, 1, 2));
        Ok(())
    }

    #[test]
    fn extreme_and_tiny_fields_are_drawn_all_the_same() -> Result<()> {
        let figure = |values: Vec<Vec<f64>>, range: f64| {
            let field = Field::new("value", values).contours([0.0, 1e300]).show_values();
            let x = Axis::new("x").range(-range, range);
            Figure::field("f", "t", x.clone(), x, field)
        };
        figure(vec![vec![3.0]], 1.0).to_svg()?;
        figure(vec![vec![-1.7e308, 1.7e308], vec![1e-300, 0.0]], 1.7e308).to_png()?;
        figure(vec![vec![1e9, 1e9 + 1e-6]; 90], 1e-300).to_svg()?;
        let mut small = figure(vec![vec![0.5; 200]; 2], 1.0);
        small.size = (200, 150);
        small.title = "a long title that must be broken into many lines in so narrow a figure".into();
        small.x.label = "an even longer name of an axis".into();
        small.to_png()?;
        Ok(())
    }
}
