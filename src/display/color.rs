//! Colours for values: dark to light, told apart by colour-blind readers and in grey print alike.

use plotters::prelude::{BLACK, RGBColor, WHITE};

/// Cividis at equal steps from the smallest to the largest value. Nuñez, Anderton and Renslow, "Optimizing colormaps with
/// consideration for color vision deficiency to enable accurate interpretation of scientific data", PLoS ONE 13(7), 2018;
/// every sixteenth of the 256 colours as matplotlib publishes them, whose others linear steps between these meet within 11 of
/// 255 levels.
const CIVIDIS: [RGBColor; 17] = [
    RGBColor(0x00, 0x22, 0x4E),
    RGBColor(0x00, 0x2E, 0x6A),
    RGBColor(0x1A, 0x38, 0x6F),
    RGBColor(0x32, 0x43, 0x6D),
    RGBColor(0x43, 0x4E, 0x6C),
    RGBColor(0x53, 0x5A, 0x6D),
    RGBColor(0x61, 0x65, 0x6F),
    RGBColor(0x6F, 0x70, 0x73),
    RGBColor(0x7D, 0x7C, 0x78),
    RGBColor(0x8B, 0x87, 0x78),
    RGBColor(0x9A, 0x93, 0x76),
    RGBColor(0xAA, 0xA0, 0x73),
    RGBColor(0xBB, 0xAD, 0x6D),
    RGBColor(0xCC, 0xBA, 0x64),
    RGBColor(0xDD, 0xC8, 0x58),
    RGBColor(0xEF, 0xD7, 0x48),
    RGBColor(0xFE, 0xE8, 0x38),
];

/// The colour at `share` of the way from the smallest (0) to the largest value (1).
pub(super) fn cividis(share: f64) -> RGBColor {
    // Also 0 where the share is not a number, which is what extreme ranges come to.
    let at = if share > 0.0 { share.min(1.0) } else { 0.0 } * (CIVIDIS.len() - 1) as f64;
    let below = (at as usize).min(CIVIDIS.len() - 2);
    let (from, to, along) = (CIVIDIS[below], CIVIDIS[below + 1], at - below as f64);
    let mix = |from: u8, to: u8| (f64::from(from) + (f64::from(to) - f64::from(from)) * along).round() as u8;
    RGBColor(mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2))
}

/// Relative luminance as WCAG 2 defines it: 0 is black, 1 white.
fn luminance(color: RGBColor) -> f64 {
    let linear = |channel: u8| match f64::from(channel) / 255.0 {
        low if low <= 0.04045 => low / 12.92,
        high => ((high + 0.055) / 1.055).powf(2.4),
    };
    0.2126 * linear(color.0) + 0.7152 * linear(color.1) + 0.0722 * linear(color.2)
}

/// WCAG 2's contrast: 1 (none) to 21 (black and white).
fn contrast(one: RGBColor, other: RGBColor) -> f64 {
    let (one, other) = (luminance(one) + 0.05, luminance(other) + 0.05);
    one.max(other) / one.min(other)
}

/// Black or white, whichever reads better on `ground`. Never the ink that the report swaps for the page's own colour, which
/// would be light on light cells in dark mode.
pub(super) fn text_on(ground: RGBColor) -> RGBColor {
    if contrast(BLACK, ground) >= contrast(WHITE, ground) { BLACK } else { WHITE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares() -> impl Iterator<Item = f64> {
        (0..=1000).map(|step| f64::from(step) / 1000.0)
    }

    #[test]
    fn larger_values_are_lighter() {
        // Colours closer than this differ by a rounded channel at most.
        let levels: Vec<f64> = shares().step_by(10).map(|share| luminance(cividis(share))).collect();
        assert!(levels.windows(2).all(|pair| pair[0] < pair[1]), "{levels:?}");
        assert!(levels[0] < 0.02 && levels[100] > 0.75);
    }

    #[test]
    fn the_ends_hold_beyond_the_range() {
        assert_eq!((cividis(-3.0), cividis(7.0)), (CIVIDIS[0], CIVIDIS[16]));
        assert_eq!((cividis(0.5), cividis(f64::NAN)), (CIVIDIS[8], CIVIDIS[0]));
    }

    #[test]
    fn text_reads_well_on_every_colour() {
        for share in shares() {
            let ground = cividis(share);
            assert!(contrast(text_on(ground), ground) >= 4.5, "at {share}");
        }
    }
}
