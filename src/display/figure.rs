//! Figures as data: line charts with intervals, grouped bars with error bars, reference lines, and fields of coloured cells
//! ([`Field`]). They render to SVG and PNG.
//!
//! Colours are Okabe and Ito's, which colour-blind readers tell apart; every series also has its own marker and dashes.
//! The font is embedded, so a figure is the same on every machine.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::canvas;
use super::field::Field;
use crate::stats::Interval;

/// One axis: what it shows (with its unit), and what is written along it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// What it shows, with its unit.
    pub label: String,
    /// Smallest and largest value shown; chosen from the data when `None`. Values outside are drawn at the edge.
    pub range: Option<(f64, f64)>,
    /// Named positions instead of numbers, say `(0.0, "M_0")`. On the y axis for fields only, and not for bars.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis with this label, its range and ticks left to the data.
    pub fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), ..Self::default() }
    }

    /// Shows values from `lo` to `hi`.
    pub fn range(mut self, lo: f64, hi: f64) -> Self {
        self.range = Some((lo, hi));
        self
    }

    /// Names the positions 0, 1, 2, …
    pub fn names<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.ticks = names.into_iter().enumerate().map(|(at, name)| (at as f64, name.into())).collect();
        self
    }
}

/// A point of a line, with its interval where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Where it stands along the x axis.
    pub x: f64,
    /// Its height.
    pub y: f64,
    /// Lower end of its interval.
    pub lo: Option<f64>,
    /// Upper end of its interval.
    pub hi: Option<f64>,
}

impl Point {
    /// A point without an interval.
    pub fn new(x: f64, y: f64) -> Self {
        Self { x, y, lo: None, hi: None }
    }

    /// An interval's mean at `x`, with its bounds where there are any.
    pub fn interval(x: f64, interval: &Interval) -> Self {
        Self { x, y: interval.mean, lo: interval.lo, hi: interval.hi }
    }
}

/// One line of a line chart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// What the legend calls it.
    pub label: String,
    /// Its points, in ascending order of x.
    pub points: Vec<Point>,
    /// Intervals as a shaded band (many points) instead of error bars (few).
    pub band: bool,
}

/// One bar, with its interval and the single observations (seeds) it summarises.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// Its height.
    pub value: f64,
    /// Lower end of its interval.
    pub lo: Option<f64>,
    /// Upper end of its interval.
    pub hi: Option<f64>,
    /// What `value` is the mean of, drawn as dots.
    pub observations: Vec<f64>,
}

impl Bar {
    /// A bar without an interval.
    pub fn new(value: f64) -> Self {
        Self { value, lo: None, hi: None, observations: Vec::new() }
    }

    /// The mean of the observations with its Student-t 95 % interval, and the observations themselves.
    pub fn of(observations: &[f64]) -> Result<Self> {
        let interval = crate::stats::t_interval(observations)?;
        Ok(Self { value: interval.mean, lo: interval.lo, hi: interval.hi, observations: observations.to_vec() })
    }
}

/// The bars of one colour: one a group, `None` where there is nothing to show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BarSeries {
    /// What the legend calls them.
    pub label: String,
    /// One a group, in the order of the groups.
    pub bars: Vec<Option<Bar>>,
}

/// A horizontal line to compare with: chance, a ceiling, a threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// What is written beside it.
    pub label: String,
    /// Its height.
    pub value: f64,
}

/// What is drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plot {
    /// Lines over a numeric x axis.
    Lines(Vec<Line>),
    /// Bars in named groups.
    Bars {
        /// What stands under the groups.
        groups: Vec<String>,
        /// The bars, one series a colour.
        series: Vec<BarSeries>,
    },
    /// Cells coloured by value.
    Field(Field),
}

/// A figure: data until it is rendered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Name of its files: letters, digits, `-`, `_`, `.` and `+`.
    pub id: String,
    /// What stands above it.
    pub title: String,
    /// What a reader must know to read it: seeds, lineages, what bars and bands mean.
    pub caption: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The data.
    pub plot: Plot,
    /// Horizontal lines to compare with.
    pub references: Vec<Reference>,
    /// Width and height in pixels of the SVG; the PNG has twice as many.
    pub size: (u32, u32),
}

impl Figure {
    fn new(id: impl Into<String>, title: impl Into<String>, x: Axis, y: Axis, plot: Plot) -> Self {
        let (id, title) = (id.into(), title.into());
        Self { id, title, caption: String::new(), x, y, plot, references: Vec::new(), size: (760, 440) }
    }

    /// An empty line chart; fill it with [`Figure::line`].
    pub fn lines(id: impl Into<String>, title: impl Into<String>, x: Axis, y: Axis) -> Self {
        Self::new(id, title, x, y, Plot::Lines(Vec::new()))
    }

    /// An empty bar chart over `groups`; fill it with [`Figure::bars`]. The y axis includes 0 unless its range says otherwise.
    pub fn grouped<S: Into<String>>(
        id: impl Into<String>,
        title: impl Into<String>,
        groups: impl IntoIterator<Item = S>,
        y: Axis,
    ) -> Self {
        let groups = groups.into_iter().map(Into::into).collect();
        Self::new(id, title, Axis::default(), y, Plot::Bars { groups, series: Vec::new() })
    }

    /// A bar for each name: the mean of its observations, with its 95 % interval where there are several.
    ///
    /// Errors: a name without observations.
    pub fn bar_chart<S: Into<String>>(
        title: impl Into<String>,
        y: Axis,
        observations: impl IntoIterator<Item = (S, Vec<f64>)>,
    ) -> Result<Self> {
        let (mut names, mut bars) = (Vec::new(), Vec::new());
        for (name, values) in observations {
            let name = name.into();
            bars.push(Some(Bar::of(&values).with_context(|| format!("the bar of {name}"))?));
            names.push(name);
        }
        let label = y.label.clone();
        Ok(Self::grouped("bars", title, names, y).bars(label, bars))
    }

    /// Cells coloured by value: a plane, a matrix or an attention map; see [`Field`] for what stands where. As high as the cells
    /// need to be square.
    pub fn field(id: impl Into<String>, title: impl Into<String>, x: Axis, y: Axis, field: Field) -> Self {
        let size = field.size(&x);
        Self { size, ..Self::new(id, title, x, y, Plot::Field(field)) }
    }

    /// Adds a line with error bars at its points. Lines of one label look alike, which is how a line gets a gap. Has no effect on
    /// other plots.
    pub fn line(self, label: impl Into<String>, points: Vec<Point>) -> Self {
        self.add_line(label.into(), points, false)
    }

    /// Adds a line with a shaded band. Has no effect on other plots.
    pub fn band(self, label: impl Into<String>, points: Vec<Point>) -> Self {
        self.add_line(label.into(), points, true)
    }

    fn add_line(mut self, label: String, points: Vec<Point>, band: bool) -> Self {
        if let Plot::Lines(lines) = &mut self.plot {
            lines.push(Line { label, points, band });
        }
        self
    }

    /// Adds one bar to every group. Has no effect on other plots.
    pub fn bars(mut self, label: impl Into<String>, bars: Vec<Option<Bar>>) -> Self {
        if let Plot::Bars { series, .. } = &mut self.plot {
            series.push(BarSeries { label: label.into(), bars });
        }
        self
    }

    /// Adds a horizontal line to compare with; a field cannot have one.
    pub fn reference(mut self, label: impl Into<String>, value: f64) -> Self {
        self.references.push(Reference { label: label.into(), value });
        self
    }

    /// Sets the caption.
    pub fn caption(mut self, caption: impl Into<String>) -> Self {
        self.caption = caption.into();
        self
    }

    /// An SVG document of `size`. Errors: nothing to draw, numbers that are not finite, axes without a name.
    pub fn to_svg(&self) -> Result<String> {
        self.check().and_then(|()| canvas::svg(self)).with_context(|| format!("cannot draw figure \"{}\"", self.id))
    }

    /// A PNG of twice `size`. Errors as [`Figure::to_svg`].
    pub fn to_png(&self) -> Result<Vec<u8>> {
        self.check().and_then(|()| canvas::png(self)).with_context(|| format!("cannot draw figure \"{}\"", self.id))
    }

    pub(super) fn check(&self) -> Result<()> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
        ensure!(
            !self.id.is_empty() && !self.id.starts_with('.') && self.id.chars().all(allowed),
            "its id names files: use letters, digits, '-', '_', '.' and '+' only"
        );
        ensure!(
            (200..=4000).contains(&self.size.0) && (150..=4000).contains(&self.size.1),
            "its size is {:?}",
            self.size
        );
        ensure!(!self.y.label.is_empty(), "its y axis has no name");
        for axis in [&self.x, &self.y] {
            if let Some((lo, hi)) = axis.range {
                ensure!(lo.is_finite() && hi.is_finite() && lo < hi, "axis \"{}\" goes from {lo} to {hi}", axis.label);
            }
            axis.ticks.iter().try_for_each(|(at, name)| finite(name, &[Some(*at)]))?;
        }
        self.references.iter().try_for_each(|reference| finite(&reference.label, &[Some(reference.value)]))?;
        match &self.plot {
            Plot::Lines(lines) => {
                ensure!(!self.x.label.is_empty(), "its x axis has no name");
                ensure!(lines.iter().any(|line| !line.points.is_empty()), "it has no points");
                for line in lines {
                    for point in &line.points {
                        finite(&line.label, &[Some(point.x), Some(point.y), point.lo, point.hi])?;
                    }
                }
            }
            Plot::Bars { groups, series } => {
                ensure!(series.iter().any(|one| one.bars.iter().any(Option::is_some)), "it has no bars");
                for one in series {
                    ensure!(
                        one.bars.len() == groups.len(),
                        "\"{}\" has {} bars for {} groups: put None where there is nothing",
                        one.label,
                        one.bars.len(),
                        groups.len()
                    );
                    for bar in one.bars.iter().flatten() {
                        finite(&one.label, &[Some(bar.value), bar.lo, bar.hi])?;
                        bar.observations.iter().try_for_each(|value| finite(&one.label, &[Some(*value)]))?;
                    }
                }
            }
            Plot::Field(field) => {
                ensure!(!self.x.label.is_empty(), "its x axis has no name");
                ensure!(self.references.is_empty(), "reference lines cannot be drawn on a field: use marks");
                field.check(&self.x, &self.y)?;
            }
        }
        Ok(())
    }
}

/// Refuses numbers that cannot be drawn.
pub(super) fn finite(label: &str, values: &[Option<f64>]) -> Result<()> {
    let odd = values.iter().flatten().find(|value| !value.is_finite());
    ensure!(odd.is_none(), "\"{label}\" holds {odd:?}, which cannot be drawn: leave the point out");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decline() -> Result<Figure> {
        let interval = |values: &[f64]| crate::stats::t_interval(values);
        let lineage = [[0.85, 0.83, 0.87], [0.80, 0.82, 0.78], [0.70, 0.66, 0.69]];
        let points = lineage.iter().enumerate();
        let points =
            points.map(|(at, values)| Ok(Point::interval(at as f64, &interval(values)?))).collect::<Result<_>>()?;
        let x = Axis::new("version").names(["M_1", "M_2", "<script>"]);
        Ok(Figure::lines("C1.full", "Retained share & decline", x, Axis::new("retained share r"))
            .line("Δ of M_0", points))
    }

    fn bars() -> Result<Figure> {
        Ok(Figure::grouped("few-shot", "Few-shot accuracy", ["topic", "relation"], Axis::new("accuracy"))
            .bars("labels only", vec![Some(Bar::of(&[0.5, 0.6])?), None])
            .bars("distilled", vec![Some(Bar::new(0.7)), Some(Bar::of(&[0.65, 0.66, 0.7])?)])
            .reference("chance", 0.25))
    }

    #[test]
    fn an_svg_is_well_formed_and_its_texts_are_escaped() -> Result<()> {
        for figure in [decline()?, bars()?] {
            let svg = figure.to_svg()?;
            let document = roxmltree::Document::parse(&svg)?;
            let texts: Vec<&str> = document.descendants().filter_map(|node| node.text()).map(str::trim).collect();
            assert!(texts.contains(&figure.title.as_str()) && texts.contains(&figure.y.label.as_str()), "{texts:?}");
            assert!(!svg.contains("<script"));
            assert_eq!(document.root_element().attribute("viewBox"), Some("0 0 760 440"));
        }
        assert!(decline()?.to_svg()?.contains("&lt;script&gt;"));
        Ok(())
    }

    #[test]
    fn a_png_has_its_signature_and_twice_the_size() -> Result<()> {
        let png = bars()?.to_png()?;
        assert_eq!(png[..8], [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a]);
        let side = |at: usize| u32::from_be_bytes([png[at], png[at + 1], png[at + 2], png[at + 3]]);
        assert_eq!((side(16), side(20)), (1520, 880));
        Ok(())
    }

    #[test]
    fn the_same_figure_gives_the_same_bytes() -> Result<()> {
        assert_eq!(bars()?.to_svg()?, bars()?.to_svg()?);
        assert_eq!(bars()?.to_png()?, bars()?.to_png()?);
        Ok(())
    }

    #[test]
    fn what_cannot_be_drawn_is_refused_by_name() -> Result<()> {
        let refused = |figure: Figure| format!("{:#}", figure.to_svg().unwrap_err());
        let empty = || Figure::lines("empty", "", Axis::new("x"), Axis::new("y"));
        assert!(refused(empty()).contains("\"empty\": it has no points"));
        assert!(refused(empty().line("bad", vec![Point::new(0.0, f64::NAN)])).contains("\"bad\""));
        assert!(refused(bars()?.bars("short", vec![])).contains("0 bars for 2 groups"));
        assert!(refused(Figure { id: "../up".into(), ..bars()? }).contains("id"));
        assert!(refused(Figure { y: Axis::default(), ..bars()? }).contains("y axis"));
        Ok(())
    }

    #[test]
    fn extreme_and_single_values_are_drawn_all_the_same() -> Result<()> {
        let lines = |points| Figure::lines("f", "t", Axis::new("x"), Axis::new("y")).band("one", points);
        lines(vec![Point::new(0.0, 0.0)]).to_svg()?;
        lines(vec![Point::new(1e-300, -1e300), Point::new(1e300, 1e300)]).to_svg()?;
        lines(vec![Point::new(5.0, 1e9), Point::new(5.0, 1e9 + 1e-6)]).to_svg()?;
        let mut narrow = bars()?;
        narrow.size = (200, 150);
        narrow.title = "a very long title that cannot fit into so narrow a figure and must be broken".into();
        narrow.to_png()?;
        Ok(())
    }

    #[test]
    fn a_figure_comes_back_from_json() -> Result<()> {
        let figure = bars()?;
        assert_eq!(serde_json::from_value::<Figure>(serde_json::to_value(&figure)?)?, figure);
        Ok(())
    }
}
