//! From numbers to pixels: round ticks, ranges, and where the data stands on the canvas.

use super::thousands;

/// Round positions for about `wanted` ticks between `lo` and `hi`, and the decimals they need.
pub(super) fn ticks(lo: f64, hi: f64, wanted: usize) -> (Vec<f64>, usize) {
    let rough = (hi - lo) / wanted.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough * 0.999);
    let Some(step) = step.filter(|step| step.is_finite() && *step > 0.0) else { return (vec![lo], 3) };
    let (first, last) = ((lo / step - 1e-9).ceil(), (hi / step + 1e-9).floor());
    let count = ((last - first) as usize).min(50);
    let at = (0..=count).map(|index| (first + index as f64) * step).collect();
    (at, (-step.log10().floor()).clamp(0.0, 9.0) as usize)
}

/// `value` with `decimals` digits after the point, a true minus and no negative zero.
pub(super) fn number(value: f64, decimals: usize) -> String {
    if value.abs() >= 1e9 {
        return format!("{value:.1e}");
    }
    if decimals == 0 {
        return thousands(value.round() as i64);
    }
    let text = format!("{value:.decimals$}");
    let zero = text.chars().all(|character| matches!(character, '-' | '0' | '.'));
    if zero { text.replace('-', "") } else { text.replace('-', "−") }
}

/// The fewest decimals, up to 6, that show all of `values` exactly.
pub(super) fn decimals(values: &[f64]) -> usize {
    let whole = |value: f64| (value - value.round()).abs() <= 1e-9 * value.abs().max(1.0);
    (0..6).find(|digits| values.iter().all(|value| whole(value * 10f64.powi(*digits)))).unwrap_or(6) as usize
}

/// Smallest and largest of `values`, kept apart, and padded by a share of their distance.
pub(super) fn span(values: impl Iterator<Item = f64>, padding: f64) -> (f64, f64) {
    let (lo, hi) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), value| (lo.min(value), hi.max(value)));
    let (lo, hi) = (lo.max(-1e15), hi.min(1e15));
    let least = 1e-6 * lo.abs().max(hi.abs()).max(1e-3);
    if hi - lo < least {
        let apart = lo.abs().max(1.0) * 0.5;
        return (lo - apart, hi + apart);
    }
    (lo - padding * (hi - lo), hi + padding * (hi - lo))
}

/// Where the data stands on the canvas.
pub(super) struct Frame {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
    pub x: (f64, f64),
    pub y: (f64, f64),
}

impl Frame {
    /// Data to pixels; what lies outside is put on the edge.
    pub fn x(&self, value: f64) -> f64 {
        self.left + ((value - self.x.0) / (self.x.1 - self.x.0)).clamp(0.0, 1.0) * (self.right - self.left)
    }

    pub fn y(&self, value: f64) -> f64 {
        self.bottom - ((value - self.y.0) / (self.y.1 - self.y.0)).clamp(0.0, 1.0) * (self.bottom - self.top)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_stand_at_round_numbers() {
        let (at, decimals) = ticks(0.17, 0.93, 6);
        let shown: Vec<String> = at.iter().map(|value| number(*value, decimals)).collect();
        assert_eq!(shown, ["0.2", "0.4", "0.6", "0.8"]);
        let (at, decimals) = ticks(0.0, 2000.0, 8);
        assert_eq!(number(at[3], decimals), "1,500");
        assert_eq!(ticks(-0.02, 0.02, 4).0.len(), 5);
    }

    #[test]
    fn numbers_show_a_true_minus_and_no_negative_zero() {
        assert_eq!([number(-0.25, 2), number(-0.0, 1), number(-1500.0, 0)], ["−0.25", "0.0", "−1,500"]);
        assert_eq!([number(-0.004, 2), number(-0.006, 2), number(-0.4, 0)], ["0.00", "−0.01", "0"]);
    }

    #[test]
    fn equal_values_still_span_a_range() {
        let (lo, hi) = span([0.5, 0.5].into_iter(), 0.05);
        assert!(lo < 0.5 && hi > 0.5);
    }
}
