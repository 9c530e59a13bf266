//! PNG files with a palette: a plot has few colours, and a notebook that stores many plots wants small files.

use std::collections::HashMap;

use anyhow::Result;

/// The colours a palette can hold, and how many of them areas may take when soft edges need some too.
const MOST: usize = 256;
const FOR_AREAS: usize = 192;
/// So many pixels of one colour are an area, fewer the edge of a letter or a line.
const AREA: usize = 200;

type Color = [u8; 3];

/// An 8-bit PNG of RGB pixels. Up to 256 colours are kept as they are; of more, every pixel takes one that is near.
pub(super) fn png(pixels: &[u8], width: u32, height: u32) -> Result<Vec<u8>> {
    let (palette, indices) = indexed(pixels);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(palette.concat());
    encoder.set_compression(png::Compression::High);
    encoder.set_filter(png::Filter::NoFilter);
    encoder.write_header()?.write_image_data(&indices)?;
    Ok(bytes)
}

/// A palette, and every pixel's place in it.
fn indexed(pixels: &[u8]) -> (Vec<Color>, Vec<u8>) {
    let colors = || pixels.chunks_exact(3).map(|pixel| [pixel[0], pixel[1], pixel[2]]);
    let mut counts: HashMap<Color, usize> = HashMap::new();
    colors().for_each(|color| *counts.entry(color).or_default() += 1);
    let mut frequent: Vec<(Color, usize)> = counts.into_iter().collect();
    frequent.sort_by_key(|&(color, count)| (std::cmp::Reverse(count), color));
    let areas = frequent.iter().take_while(|(_, count)| *count >= AREA).count();
    let frequent: Vec<Color> = frequent.into_iter().map(|(color, _)| color).collect();
    let palette = match frequent.len() <= MOST {
        true => frequent,
        false => {
            let of_areas = covering(&frequent[..areas], Vec::new(), FOR_AREAS);
            covering(&frequent[areas..], of_areas, MOST)
        }
    };
    let mut known: HashMap<Color, u8> = palette.iter().copied().zip(0..=u8::MAX).collect();
    let nearest = |color| {
        let places = palette.iter().zip(0..=u8::MAX);
        places.min_by_key(|(other, _)| apart(color, **other)).map_or(0, |(_, at)| at)
    };
    let indices = colors().map(|color| *known.entry(color).or_insert_with(|| nearest(color))).collect();
    (palette, indices)
}

/// Adds to `palette`, frequent ones first, those of `colors` that are further from all it has than the smallest distance with
/// which it stays within `room`.
fn covering(colors: &[Color], palette: Vec<Color>, room: usize) -> Vec<Color> {
    for distance in 0..=u8::MAX {
        let mut larger = palette.clone();
        let fits = colors.iter().all(|color| {
            if !larger.iter().any(|known| apart(*color, *known) <= distance) {
                larger.push(*color);
            }
            larger.len() <= room
        });
        if fits {
            return larger;
        }
    }
    palette
}

/// How far two colours are from each other: the largest difference of a channel.
fn apart(a: Color, b: Color) -> u8 {
    a.iter().zip(b).map(|(a, b)| a.abs_diff(b)).max().unwrap_or(0)
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
    fn of_many_colours_each_takes_one_that_is_near_and_areas_keep_theirs() -> Result<()> {
        // Greys and blues in all shades, as at soft edges, around three areas.
        let shades = (0..=255_u8).flat_map(|shade| [[shade; 3], [0, 0, shade]].concat());
        let areas = [[255, 255, 255], [31, 35, 40], [213, 94, 0]].map(|color| color.repeat(512)).concat();
        let pixels: Vec<u8> = shades.chain(areas).collect();
        let (kind, drawn) = decoded(&png(&pixels, 64, 32)?)?;
        assert_eq!(kind, png::ColorType::Indexed);
        assert!(pixels.iter().zip(&drawn).all(|(a, b)| a.abs_diff(*b) <= 3));
        assert_eq!(drawn[3 * 512..], pixels[3 * 512..]);
        Ok(())
    }

    #[test]
    fn a_map_of_more_shades_than_a_palette_holds_stays_smooth() {
        let cell = |at: usize| [(at / 2) as u8, (at / 3) as u8, 200 - (at / 4) as u8].repeat(AREA);
        let pixels: Vec<u8> = (0..441).flat_map(cell).collect();
        let (palette, indices) = indexed(&pixels);
        let error =
            |(at, pixel): (usize, &[u8])| apart(palette[usize::from(indices[at])], [pixel[0], pixel[1], pixel[2]]);
        assert!(palette.len() <= MOST && pixels.chunks_exact(3).enumerate().map(error).max() <= Some(2));
    }

    #[test]
    fn a_palette_is_never_overrun() -> Result<()> {
        let channels = |at: u32| [at % 16 * 17, at / 16 % 16 * 17, at / 256 * 17].map(|channel| channel as u8);
        let pixels: Vec<u8> = (0..4096_u32).flat_map(channels).collect();
        let (palette, indices) = indexed(&pixels);
        assert!(palette.len() <= MOST && indices.len() == 4096);
        assert_eq!(decoded(&png(&pixels, 64, 64)?)?.1.len(), pixels.len());
        Ok(())
    }
}
