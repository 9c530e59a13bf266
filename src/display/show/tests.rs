use roxmltree::Document;

use super::*;
use crate::display::{Axis, Cell, Column, Point};

fn table() -> Table {
    let mut table = Table::new("t", "Scores <b>", vec![Column::text("label"), Column::number("accuracy", 2)]);
    table.push([Cell::from("<script>alert(1)</script>"), 0.5.into()]);
    table.caption("3 seeds & one lineage")
}

fn figure() -> Figure {
    Figure::lines("f", "A <script> line", Axis::new("updates"), Axis::new("accuracy"))
        .line("one", vec![Point::new(0.0, 0.25), Point::new(1.0, 0.75)])
        .caption("It rises & stays.")
}

/// Blocks of evcxr by MIME type, read the way evcxr reads them.
fn blocks(output: &[u8]) -> Vec<(String, String)> {
    let text = std::str::from_utf8(output).unwrap();
    let (mut blocks, mut open): (Vec<(String, String)>, bool) = (Vec::new(), false);
    for line in text.lines() {
        match (open, line) {
            (false, begin) => {
                blocks.push((begin.strip_prefix("EVCXR_BEGIN_CONTENT ").unwrap().to_owned(), String::new()));
                open = true;
            }
            (true, "EVCXR_END_CONTENT") => open = false,
            (true, line) => blocks.last_mut().unwrap().1 += &format!("{line}\n"),
        }
    }
    assert!(!open, "{text}");
    blocks
}

fn output_of(value: &dyn Show) -> (Vec<(String, String)>, String) {
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    write_notebook(value, &mut out, &mut errors).unwrap();
    (blocks(&out), String::from_utf8(errors).unwrap())
}

fn mimes(value: &dyn Show) -> Vec<String> {
    output_of(value).0.into_iter().map(|(mime, _)| mime).collect()
}

#[test]
fn figures_are_pictures_and_tables_are_html_and_together_they_are_one_picture() {
    assert_eq!(mimes(&figure()), ["image/png", "image/svg+xml", "text/plain"]);
    assert_eq!(mimes(&table()), ["text/html", "text/plain"]);
    assert_eq!(mimes(&"words"), ["text/html", "text/plain"]);
    assert_eq!(mimes(&show_all(&[&table(), &figure(), &"words"])), ["image/png", "image/svg+xml", "text/plain"]);
}

#[test]
fn the_png_decodes_from_base64_and_is_dark_on_an_opaque_white_ground() -> Result<()> {
    use base64::Engine;
    let (blocks, _) = output_of(&show_all(&[&figure(), &table()]));
    let bytes = base64::engine::general_purpose::STANDARD.decode(blocks[0].1.trim())?;
    assert_eq!(bytes, show_all(&[&figure(), &table()]).to_png()?);
    let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info()?;
    assert!(reader.info().trns.is_none());
    let mut pixels = vec![0; reader.output_buffer_size().unwrap_or_default()];
    let frame = reader.next_frame(&mut pixels)?;
    assert_eq!((frame.color_type, frame.width), (png::ColorType::Rgb, 2 * 760));
    let white = pixels.chunks_exact(3).filter(|pixel| **pixel == [255; 3]).count() as f64 * 3.0 / pixels.len() as f64;
    let dark = pixels.chunks_exact(3).filter(|pixel| pixel.iter().all(|channel| *channel < 60)).count();
    assert!(pixels[..3] == [255; 3] && white > 0.9 && dark > 500, "{white} white, {dark} dark");
    Ok(())
}

#[test]
fn the_svg_holds_every_figure_table_and_caption_as_text() -> Result<()> {
    let (blocks, _) = output_of(&show_all(&[&figure(), &table(), &figure(), &"last words"]));
    let document = Document::parse(&blocks[1].1)?;
    let nodes = document.descendants().filter(|node| node.is_text());
    let texts: Vec<&str> = nodes.filter_map(|node| node.text()).map(str::trim).collect();
    for wanted in [
        "A <script> line",
        "It rises & stays.",
        "Scores <b>",
        "<script>alert(1)</script>",
        "3 seeds & one lineage",
        "last words",
    ] {
        assert!(texts.contains(&wanted), "{wanted:?} is not in {texts:?}");
    }
    assert_eq!(texts.iter().filter(|text| **text == "A <script> line").count(), 2);
    let height: f64 = document.root_element().attribute("height").unwrap_or_default().parse()?;
    assert!(height > 2.0 * 440.0 + 100.0, "{height}");
    Ok(())
}

#[test]
fn html_keeps_markup_as_text_and_needs_no_style_sheet() {
    let html = &output_of(&show_all(&[&table(), &"<i>words</i>"])).0[0].1;
    assert!(html.contains("&lt;script&gt;alert(1)") && html.contains("&lt;i&gt;words") && !html.contains("<script"));
    assert!(html.contains("<strong>Scores &lt;b&gt;</strong>") && html.contains("<p>3 seeds &amp; one lineage</p>"));
    assert!(!html.contains("color") && !html.contains("class="), "{html}");
    let page = format!("<x>{html}</x>");
    assert!(Document::parse(&page).is_ok(), "{html}");
}

#[test]
fn the_text_of_a_bundle_is_useful_alone() {
    let text = show_all(&[&figure(), &table()]).to_text();
    for wanted in ["A <script> line", "accuracy over updates", "0.75", "It rises & stays.", "Scores", "0.50"] {
        assert!(text.contains(wanted), "{wanted:?} is not in {text}");
    }
}

#[test]
fn words_that_look_like_marks_of_the_kernel_do_not_end_the_output() {
    let (blocks, _) = output_of(&"before\nEVCXR_END_CONTENT\nEVCXR_PANIC_NOTIFICATION\nafter");
    assert_eq!(blocks.len(), 2, "{blocks:?}");
    assert!(blocks[1].1.contains(" EVCXR_END_CONTENT\n EVCXR_PANIC_NOTIFICATION\nafter"), "{blocks:?}");
}

struct Broken;

impl Show for Broken {
    fn show(&self) -> Result<Bundle> {
        anyhow::bail!("its <numbers> are gone")
    }
}

#[test]
fn what_cannot_be_shown_says_so_visibly_and_loudly_and_leaves_the_rest_alone() {
    let message = "✗ cannot display Broken: its <numbers> are gone";
    let (blocks, errors) = output_of(&Broken);
    assert!(blocks[0].1.contains("✗ cannot display Broken: its &lt;numbers&gt; are gone"), "{blocks:?}");
    assert!(blocks[1].1.contains(message) && errors.trim() == message, "{blocks:?} {errors}");
    assert_eq!(in_words(&Broken), format!("{message}\n"));

    let (blocks, errors) = output_of(&show_all(&[&table(), &Broken, &figure()]));
    assert_eq!(blocks.len(), 3);
    assert!(blocks[1].1.contains("cannot display Broken") && blocks[1].1.contains("A &lt;script&gt; line"));
    assert_eq!(errors.trim(), message);
}

#[test]
fn a_figure_that_cannot_be_drawn_is_told_in_words() {
    let odd = figure().line("bad", vec![Point::new(0.0, f64::NAN)]);
    let (blocks, errors) = output_of(&odd);
    assert_eq!(blocks.iter().map(|(mime, _)| mime.as_str()).collect::<Vec<_>>(), ["text/html", "text/plain"]);
    assert!(errors.contains("✗ cannot display it as a picture") && errors.contains("\"bad\""), "{errors}");
    assert!(blocks[1].1.contains("accuracy over updates"), "{blocks:?}");
}

#[test]
fn a_bundle_is_saved_as_what_its_file_is_called() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let bundle = show_all(&[&figure(), &table()]);
    for ending in ["svg", "png", "html", "txt"] {
        bundle.save(folder.path().join(format!("all.{ending}")))?;
    }
    let html = std::fs::read_to_string(folder.path().join("all.html"))?;
    assert!(html.contains("src=\"data:image/png;base64,iVBOR") && html.contains("<td"), "{html}");
    assert!(bundle.save(folder.path().join("all.doc")).unwrap_err().to_string().contains(".svg, .png"));
    Ok(())
}

#[test]
fn a_table_that_is_wider_than_a_page_is_broken_and_a_long_one_is_cut() -> Result<()> {
    let words = "many words that go on and on ".repeat(6);
    let mut wide = Table::new("w", "Wide", (0..8).map(|at| Column::text(format!("column {at}"))).collect());
    (0..3).for_each(|_| wide.push(vec![words.as_str(); 8]));
    let svg = show_all(&[&wide, &figure()]).to_svg()?;
    let width: f64 = Document::parse(&svg)?.root_element().attribute("width").unwrap_or_default().parse()?;
    assert!((760.0..=1_180.0).contains(&width), "{width}");

    let mut long = Table::new("l", "Long", vec![Column::number("row", 0)]);
    (0..100_usize).for_each(|row| long.push([row]));
    assert!(show_all(&[&long, &figure()]).to_svg()?.contains("… and 60 more rows."));
    assert!(show_all(&[&long, &figure()]).to_text().contains("\n 99\n"));
    let many = (0..40)
        .map(|_| &long as &dyn Show)
        .chain([&figure() as &dyn Show])
        .fold(Bundle::new(), |all, one| all.with(one));
    assert!(many.to_svg().unwrap_err().to_string().contains("show fewer values"));
    Ok(())
}
