//! A thin layer over plotters' backends: lengths in pixels of the SVG, whatever the backend's scale.

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

use super::draw;
use super::figure::Figure;
use super::palette;

/// Okabe and Ito's palette without yellow, which is too faint for lines on white.
pub(super) const PALETTE: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0x56, 0xB4, 0xE9),
    INK,
];
/// Text and axes. The report turns this colour into the page's own text colour.
pub(super) const INK: RGBColor = RGBColor(0x1F, 0x23, 0x28);
/// Around everything.
pub(super) const MARGIN: f64 = 14.0;
/// From line to line of text.
pub(super) const LINE_HEIGHT: f64 = 17.0;
/// Secondary text, as a share of full ink.
pub(super) const QUIET: f64 = 0.72;
/// Dash and gap in pixels; the first is a full line.
pub(super) const DASHES: [&[f64]; 5] = [&[], &[8.0, 4.0], &[2.0, 3.0], &[10.0, 3.0, 2.0, 3.0], &[14.0, 5.0]];

/// Bitmaps are drawn this many times larger and averaged down, which smooths edges.
const OVERSAMPLING: u32 = 2;
/// plotters sets text in bitmaps this share of its size higher than in SVG.
const BITMAP_SINK: f64 = 0.15;
/// Pixels of a PNG for each pixel of the SVG.
const PNG_SCALE: u32 = 2;

fn fonts() -> Result<()> {
    for (style, bytes) in [(FontStyle::Normal, dejavu::sans::regular()), (FontStyle::Bold, dejavu::sans::bold())] {
        register_font("sans-serif", style, bytes).map_err(|_| anyhow!("the embedded font cannot be read"))?;
    }
    Ok(())
}

/// Something that can be drawn on a canvas of its size.
pub(super) trait Drawing {
    /// Width and height in pixels of the SVG.
    fn size(&self) -> (u32, u32);

    fn draw<DB: DrawingBackend>(&self, canvas: &mut Canvas<DB>) -> Result<()>;
}

impl Drawing for Figure {
    fn size(&self) -> (u32, u32) {
        self.size
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &mut Canvas<DB>) -> Result<()> {
        draw::figure(canvas, self)
    }
}

/// The drawing as an SVG document.
pub(super) fn svg(drawing: &impl Drawing) -> Result<String> {
    fonts()?;
    let mut text = String::new();
    let mut canvas = Canvas::new(SVGBackend::with_string(&mut text, drawing.size()), 1.0, 0.0)?;
    drawing.draw(&mut canvas)?;
    canvas.done()?;
    drop(canvas);
    // What is said without saying it; texts hold no bare quotation marks.
    Ok(text.replace(" opacity=\"1\"", "").replace(" stroke=\"none\"", "").replace(" \"/>", "\"/>"))
}

/// The drawing as a PNG file.
pub(super) fn png(drawing: &impl Drawing) -> Result<Vec<u8>> {
    fonts()?;
    let factor = PNG_SCALE * OVERSAMPLING;
    let size = drawing.size();
    let (width, height) = (size.0 * factor, size.1 * factor);
    let mut pixels = vec![0u8; width as usize * height as usize * 3];
    let backend = BitMapBackend::with_buffer(&mut pixels, (width, height));
    let mut canvas = Canvas::new(backend, f64::from(factor), BITMAP_SINK)?;
    drawing.draw(&mut canvas)?;
    canvas.done()?;
    drop(canvas);
    let (width, height) = (width / OVERSAMPLING, height / OVERSAMPLING);
    palette::png(&averaged(&pixels, width as usize, height as usize), width, height)
}

/// A canvas to measure text with, on which nothing is drawn.
pub(super) fn measuring<R>(measure: impl FnOnce(&Canvas<SVGBackend>) -> Result<R>) -> Result<R> {
    fonts()?;
    let mut text = String::new();
    measure(&Canvas::new(SVGBackend::with_string(&mut text, (1, 1)), 1.0, 0.0)?)
}

/// Each pixel of the result is the mean of a square of `OVERSAMPLING`² pixels.
fn averaged(pixels: &[u8], width: usize, height: usize) -> Vec<u8> {
    let side = OVERSAMPLING as usize;
    let mut small = Vec::with_capacity(width * height * 3);
    for (row, column) in (0..height).flat_map(|row| (0..width).map(move |column| (row, column))) {
        for channel in 0..3 {
            let square = (0..side).flat_map(|dy| (0..side).map(move |dx| (dy, dx)));
            let at = |(dy, dx)| ((row * side + dy) * width * side + column * side + dx) * 3 + channel;
            let total: usize = square.map(|offset| pixels[at(offset)] as usize).sum();
            small.push(((total + side * side / 2) / (side * side)) as u8);
        }
    }
    small
}

pub(super) type Xy = (f64, f64);

/// What is drawn on. Every method takes pixels of the SVG.
pub(super) struct Canvas<DB: DrawingBackend> {
    backend: DB,
    scale: f64,
    sink: f64,
    /// Where (0, 0) is on the whole sheet.
    origin: Xy,
    pub width: f64,
    pub height: f64,
}

impl<DB: DrawingBackend> Canvas<DB> {
    /// A white canvas.
    fn new(backend: DB, scale: f64, sink: f64) -> Result<Self> {
        let (width, height) = backend.get_size();
        let (width, height) = (f64::from(width) / scale, f64::from(height) / scale);
        let mut canvas = Self { backend, scale, sink, origin: (0.0, 0.0), width, height };
        canvas.rectangle((0.0, 0.0), (canvas.width, canvas.height), WHITE, 1.0)?;
        Ok(canvas)
    }

    /// Draws inside a part of the sheet, which looks like a canvas of its own.
    pub fn within(&mut self, origin: Xy, size: Xy, draw: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let whole = (self.origin, self.width, self.height);
        (self.origin, self.width, self.height) = (origin, size.0, size.1);
        let drawn = draw(self);
        (self.origin, self.width, self.height) = whole;
        drawn
    }

    fn at(&self, (x, y): Xy) -> (i32, i32) {
        let place = |at: f64, origin: f64| ((at + origin) * self.scale).round() as i32;
        (place(x, self.origin.0), place(y, self.origin.1))
    }

    fn style(&self, color: RGBColor, opacity: f64, width: f64) -> ShapeStyle {
        let stroke_width = (width * self.scale).round().max(1.0) as u32;
        ShapeStyle { color: color.mix(opacity), filled: false, stroke_width }
    }

    pub fn rectangle(&mut self, a: Xy, b: Xy, color: RGBColor, opacity: f64) -> Result<()> {
        let (a, b, style) = (self.at(a), self.at(b), self.style(color, opacity, 1.0));
        self.backend.draw_rect(a, b, &style, true).map_err(|error| anyhow!("{error}"))
    }

    pub fn polygon(&mut self, corners: &[Xy], color: RGBColor, opacity: f64) -> Result<()> {
        let corners: Vec<_> = corners.iter().map(|corner| self.at(*corner)).collect();
        let style = self.style(color, opacity, 1.0);
        self.backend.fill_polygon(corners, &style).map_err(|error| anyhow!("{error}"))
    }

    pub fn circle(&mut self, centre: Xy, radius: f64, color: RGBColor, opacity: f64) -> Result<()> {
        let (centre, style) = (self.at(centre), self.style(color, opacity, 1.0));
        let radius = (radius * self.scale).round() as u32;
        self.backend.draw_circle(centre, radius, &style, true).map_err(|error| anyhow!("{error}"))
    }

    /// A line through `points`, in dashes of the given lengths and gaps (none: unbroken).
    pub fn path(&mut self, points: &[Xy], dashes: &[f64], color: RGBColor, opacity: f64, width: f64) -> Result<()> {
        let style = self.style(color, opacity, width);
        for piece in dashed(points, dashes) {
            let piece: Vec<_> = piece.iter().map(|point| self.at(*point)).collect();
            self.backend.draw_path(piece, &style).map_err(|error| anyhow!("{error}"))?;
        }
        Ok(())
    }

    /// The border of a rectangle.
    pub fn outline(&mut self, a: Xy, b: Xy) -> Result<()> {
        self.path(&[a, (b.0, a.1), b, (a.0, b.1), a], &[], INK, 0.6, 1.0)
    }

    /// The marker of series number `index`: six shapes in turn.
    pub fn marker(&mut self, index: usize, (x, y): Xy, color: RGBColor) -> Result<()> {
        let r = 4.5;
        match index % 6 {
            0 => self.circle((x, y), r, color, 1.0),
            1 => self.rectangle((x - r + 0.5, y - r + 0.5), (x + r - 0.5, y + r - 0.5), color, 1.0),
            2 => self.polygon(&[(x, y - r - 1.0), (x + r + 1.0, y + r), (x - r - 1.0, y + r)], color, 1.0),
            3 => self.polygon(&[(x, y - r - 1.5), (x + r + 1.5, y), (x, y + r + 1.5), (x - r - 1.5, y)], color, 1.0),
            4 => self.polygon(&[(x, y + r + 1.0), (x + r + 1.0, y - r), (x - r - 1.0, y - r)], color, 1.0),
            _ => {
                self.path(&[(x - r, y - r), (x + r, y + r)], &[], color, 1.0, 2.5)?;
                self.path(&[(x - r, y + r), (x + r, y - r)], &[], color, 1.0, 2.5)
            }
        }
    }

    /// A vertical interval with caps.
    pub fn error_bar(&mut self, x: f64, lo: f64, hi: f64, color: RGBColor) -> Result<()> {
        for piece in [[(x, lo), (x, hi)], [(x - 4.0, lo), (x + 4.0, lo)], [(x - 4.0, hi), (x + 4.0, hi)]] {
            self.path(&piece, &[], color, 1.0, 1.5)?;
        }
        Ok(())
    }

    fn text_style(&self, text: &Text) -> TextStyle<'static> {
        let weight = if text.bold { FontStyle::Bold } else { FontStyle::Normal };
        let font = FontDesc::new(FontFamily::SansSerif, text.size * self.scale, weight);
        let font = if text.upwards { font.transform(FontTransform::Rotate270) } else { font };
        TextStyle {
            font,
            color: text.color.mix(text.opacity).to_backend_color(),
            pos: Pos::new(text.anchor, text.level),
        }
    }

    pub fn text(&mut self, words: &str, (x, y): Xy, text: Text) -> Result<()> {
        let sink = self.sink * text.size;
        let at = self.at(if text.upwards { (x + sink, y) } else { (x, y + sink) });
        let style = self.text_style(&text);
        self.backend.draw_text(words, &style, at).map_err(|error| anyhow!("{error}"))
    }

    pub fn text_width(&self, words: &str, text: Text) -> Result<f64> {
        let size = self.backend.estimate_text_size(words, &self.text_style(&Text { upwards: false, ..text }));
        Ok(f64::from(size.map_err(|error| anyhow!("{error}"))?.0) / self.scale)
    }

    /// `words` broken into lines of at most `width` where there are spaces.
    pub fn wrapped(&self, words: &str, width: f64, text: Text) -> Result<Vec<String>> {
        let mut lines: Vec<String> = Vec::new();
        for word in words.split_whitespace() {
            let longer = lines.last().map(|line| format!("{line} {word}"));
            match (longer, lines.last_mut()) {
                (Some(longer), Some(last)) if self.text_width(&longer, text)? <= width => *last = longer,
                _ => lines.push(word.to_owned()),
            }
        }
        Ok(lines)
    }

    /// `words`, cut and ended by an ellipsis where they are wider than `width`.
    pub fn shortened(&self, words: &str, width: f64, text: Text) -> Result<String> {
        let mut kept = words.to_owned();
        while self.text_width(&kept, text)? > width && kept.chars().count() > 2 {
            let shorter = kept.chars().count() - if kept.ends_with('…') { 2 } else { 1 };
            kept = kept.chars().take(shorter).chain(['…']).collect();
        }
        Ok(kept)
    }

    fn done(&mut self) -> Result<()> {
        self.backend.present().map_err(|error| anyhow!("{error}"))
    }
}

/// How text looks and which of its points stands at the given position.
#[derive(Clone, Copy)]
pub(super) struct Text {
    pub size: f64,
    pub bold: bool,
    pub color: RGBColor,
    pub opacity: f64,
    pub anchor: HPos,
    pub level: VPos,
    pub upwards: bool,
}

impl Text {
    pub const PLAIN: Text = Text {
        size: 15.0,
        bold: false,
        color: INK,
        opacity: 1.0,
        anchor: HPos::Left,
        level: VPos::Center,
        upwards: false,
    };
    pub const TITLE: Text = Text { size: 19.0, bold: true, ..Text::PLAIN };

    pub fn centred(self) -> Self {
        Text { anchor: HPos::Center, ..self }
    }

    pub fn ending(self) -> Self {
        Text { anchor: HPos::Right, ..self }
    }
}

/// The pieces of a polyline that dashes of these lengths (dash, gap, dash, gap, …) leave.
fn dashed(points: &[Xy], dashes: &[f64]) -> Vec<Vec<Xy>> {
    if dashes.is_empty() || points.len() < 2 {
        return vec![points.to_vec()];
    }
    let (mut pieces, mut piece) = (Vec::new(), vec![points[0]]);
    let (mut index, mut left) = (0, dashes[0]);
    for pair in points.windows(2) {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        let length = (x1 - x0).hypot(y1 - y0);
        let mut gone = 0.0;
        while length - gone > left {
            gone += left;
            let here = (x0 + (x1 - x0) * gone / length, y0 + (y1 - y0) * gone / length);
            piece.push(here);
            if index % 2 == 0 {
                pieces.push(piece);
            }
            piece = vec![here];
            index = (index + 1) % dashes.len();
            left = dashes[index];
        }
        left -= length - gone;
        piece.push((x1, y1));
    }
    if index % 2 == 0 && piece.len() > 1 {
        pieces.push(piece);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_go_on_around_corners() {
        let pieces = dashed(&[(0.0, 0.0), (5.0, 0.0), (5.0, 5.0)], &[4.0, 2.0]);
        let wanted = vec![vec![(0.0, 0.0), (4.0, 0.0)], vec![(5.0, 1.0), (5.0, 5.0)]];
        assert_eq!(pieces, wanted);
        assert_eq!(dashed(&[(0.0, 0.0), (1.0, 0.0)], &[]), vec![vec![(0.0, 0.0), (1.0, 0.0)]]);
    }

    #[test]
    fn oversampled_pixels_are_averaged() {
        let (black, white) = ([0u8; 3], [255u8; 3]);
        let pixels = [black, white, white, white].concat();
        assert_eq!(averaged(&pixels, 1, 1), [191, 191, 191]);
    }
}
