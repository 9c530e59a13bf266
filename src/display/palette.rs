//! PNG files with a palette: a plot has few colours, and a notebook that stores many plots wants small files.

use std::collections::HashMap;

use anyhow::Result;

/// The colours a palette can hold.
const MOST: usize = 256;
/// Levels of each channel that a colour may be rounded to, until the palette holds all of them. Each keeps white white.
const LEVELS: [u16; 3] = [256, 52, 32];

/// An 8-bit PNG of RGB pixels, with the finest palette that holds its colours. A picture of still more colours is written as it is.
pub(super) fn png(pixels: &[u8], width: u32, height: u32) -> Result<Vec<u8>> {
    let indexed = LEVELS.into_iter().find_map(|levels| indexed(pixels, levels));
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    match &indexed {
        Some((palette, indices)) => {
            encoder.set_color(png::ColorType::Indexed);
            encoder.set_palette(palette.as_slice());
            encoder.set_filter(png::Filter::NoFilter);
            encoder.write_header()?.write_image_data(indices)?;
        }
        None => {
            encoder.set_color(png::ColorType::Rgb);
            encoder.write_header()?.write_image_data(pixels)?;
        }
    }
    Ok(bytes)
}

/// Palette and indices of the pixels, their channels rounded to `levels`; `None` where that leaves too many colours.
fn indexed(pixels: &[u8], levels: u16) -> Option<(Vec<u8>, Vec<u8>)> {
    let steps = u32::from(levels - 1);
    let round = |channel: u8| ((u32::from(channel) * steps + 127) / 255 * 255 / steps) as u8;
    let (mut palette, mut known) = (Vec::new(), HashMap::new());
    let mut indices = Vec::with_capacity(pixels.len() / 3);
    for pixel in pixels.chunks_exact(3) {
        let color = [round(pixel[0]), round(pixel[1]), round(pixel[2])];
        let next = known.len();
        let index = *known.entry(color).or_insert(next);
        if index == MOST {
            return None;
        }
        if index == next {
            palette.extend(color);
        }
        indices.push(index as u8);
    }
    Some((palette, indices))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> Result<(png::ColorType, Vec<u8>)> {
        let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info()?;
        let kind = reader.info().color_type;
        let mut pixels = vec![0; reader.output_buffer_size().unwrap_or_default()];
        reader.next_frame(&mut pixels)?;
        Ok((kind, pixels))
    }

    #[test]
    fn few_colours_come_back_to_the_bit() -> Result<()> {
        let pixels: Vec<u8> = (0..12_u8).flat_map(|at| [at * 20, 255 - at, 7]).collect();
        assert_eq!(decoded(&png(&pixels, 4, 3)?)?, (png::ColorType::Indexed, pixels));
        Ok(())
    }

    #[test]
    fn many_colours_are_rounded_a_little_and_white_and_black_stay() -> Result<()> {
        let greys = (0..=255_u8).flat_map(|grey| [grey, grey, grey]);
        let pixels: Vec<u8> = greys.chain((0..=255_u8).flat_map(|blue| [0, 0, blue])).collect();
        let (kind, rounded) = decoded(&png(&pixels, 64, 8)?)?;
        assert_eq!(kind, png::ColorType::Indexed);
        assert!(pixels.iter().zip(&rounded).all(|(a, b)| a.abs_diff(*b) <= 3));
        assert_eq!((&rounded[..3], &rounded[255 * 3..256 * 3]), ([0; 3].as_slice(), [255; 3].as_slice()));
        Ok(())
    }

    #[test]
    fn a_picture_of_very_many_colours_is_kept_whole() -> Result<()> {
        let pixels: Vec<u8> =
            (0..4096_u32).flat_map(|at| [at % 16 * 17, at / 16 % 16 * 17, at / 256 * 17]).map(|c| c as u8).collect();
        assert_eq!(decoded(&png(&pixels, 64, 64)?)?, (png::ColorType::Rgb, pixels));
        Ok(())
    }
}
