use rand::RngExt;

use super::*;
use crate::stats::t_interval;

const ACCURACIES: [f64; 5] = [0.81, 0.79, 0.84, 0.80, 0.82];
const GAINS: [f64; 10] = [0.004, -0.012, 0.009, 0.001, -0.003, 0.006, 0.010, -0.002, 0.003, 0.005];
const BARRIERS: [f64; 5] = [0.004, 0.013, 0.007, 0.021, 0.010];

fn between(lo: f64, hi: f64) -> Interval {
    Interval { n: 5, mean: (lo + hi) / 2.0, sd: Some(0.1), lo: Some(lo), hi: Some(hi) }
}

fn nearly(got: f64, wanted: f64) {
    assert!((got - wanted).abs() <= 1e-8 * wanted.abs(), "{got} should be {wanted}");
}

#[test]
fn an_interval_stands_right_wrong_or_across() {
    use Standing::{Across, Right, Wrong};
    let cases = [
        (Bound::at_least(0.5), 0.5, 0.7, Right),
        (Bound::at_least(0.5), 0.4, 0.7, Across),
        (Bound::at_least(0.5), 0.3, 0.5, Across),
        (Bound::at_least(0.5), 0.3, 0.49, Wrong),
        (Bound::above(0.0), 0.1, 0.2, Right),
        (Bound::above(0.0), 0.0, 0.2, Across),
        (Bound::above(0.0), -0.1, 0.0, Wrong),
        (Bound::at_most(0.02), 0.0, 0.02, Right),
        (Bound::at_most(0.02), 0.02, 0.03, Across),
        (Bound::at_most(0.02), 0.021, 0.03, Wrong),
    ];
    for (bound, lo, hi, wanted) in cases {
        assert_eq!(bound.standing(&between(lo, hi)), Some(wanted), "[{lo}, {hi}] {bound}");
    }
    let one = Interval { n: 1, mean: 0.9, sd: None, lo: None, hi: None };
    assert_eq!(Bound::at_least(0.5).standing(&one), None);
}

#[test]
fn rounding_neither_misses_nor_passes_a_bound() {
    let hair = ROUNDING / 2.0;
    assert_eq!(Bound::at_least(0.3).standing(&between(0.3 - hair, 0.4)), Some(Standing::Right));
    assert_eq!(Bound::at_most(0.3).standing(&between(0.2, 0.3 + hair)), Some(Standing::Right));
    assert_eq!(Bound::above(0.3).standing(&between(0.3 + hair, 0.4)), Some(Standing::Across));
    assert_eq!(Bound::above(0.3).standing(&between(0.2, 0.3 + hair)), Some(Standing::Wrong));
    // 0.1 + 0.2 is not 0.3, but no further from it than rounding.
    let point = between(0.1 + 0.2, 0.1 + 0.2);
    let standings = [Bound::above(0.3), Bound::at_least(0.3), Bound::at_most(0.3)].map(|bound| bound.standing(&point));
    assert_eq!(standings, [Standing::Wrong, Standing::Right, Standing::Right].map(Some));
}

#[test]
fn a_bound_reads_as_in_a_sentence_and_is_read_back_from_json() -> Result<()> {
    let written = [Bound::above(0.0), Bound::at_least(-0.01), Bound::at_most(0.02)];
    assert_eq!(written.map(|bound| bound.to_string()), ["> 0", "≥ −0.01", "≤ 0.02"]);
    assert_eq!(serde_json::to_string(&written[1])?, r#"{"side":"at_least","value":-0.01}"#);
    assert_eq!(serde_json::from_str::<Bound>(r#"{"side":"above","value":0}"#)?, written[0]);
    assert_eq!(serde_json::to_string(&Standing::Across)?, r#""across""#);
    Ok(())
}

/// SciPy 1.17.1: `min(1, 2 * stats.ttest_1samp(x, bound, alternative=…).pvalue)`, `"less"` for at most, `"greater"` for the others.
#[test]
fn p_values_are_twice_those_of_scipy() -> Result<()> {
    let cases: [(&[f64], Bound, f64); 9] = [
        (&ACCURACIES, Bound::at_least(0.79), 0.06280761100070069),
        (&ACCURACIES, Bound::at_least(0.78), 0.02047587442091051),
        (&ACCURACIES, Bound::at_least(0.5), 3.4498366913994122e-06),
        (&ACCURACIES, Bound::above(0.9), 1.0),
        (&GAINS, Bound::above(0.0), 0.33400944940723754),
        (&GAINS, Bound::at_least(-0.01), 0.0002343391599964687),
        (&BARRIERS, Bound::at_most(0.02), 0.03668198940044108),
        (&BARRIERS, Bound::at_most(0.0125), 0.6340271611962768),
        (&[0.3, 0.1], Bound::above(0.0), 0.2951672353008665),
    ];
    for (values, bound, wanted) in cases {
        nearly(p_value(values, bound)?.unwrap(), wanted);
    }
    Ok(())
}

#[test]
fn p_is_at_most_five_per_cent_exactly_where_the_interval_stands_right() -> Result<()> {
    let mut rng = crate::seed::rng(0, "p and standing", 0);
    let mut stood = [0; 3];
    for _ in 0..3000 {
        let n = rng.random_range(2..12);
        let centre = rng.random_range(-0.1..0.1);
        let values: Vec<f64> = (0..n).map(|_| centre + rng.random_range(-0.1..0.1)).collect();
        let (value, interval) = (rng.random_range(-0.1..0.1), t_interval(&values)?);
        for bound in [Bound::above(value), Bound::at_least(value), Bound::at_most(value)] {
            let (p, standing) = (p_value(&values, bound)?.unwrap(), bound.standing(&interval).unwrap());
            assert_eq!(p <= 0.05, standing == Standing::Right, "p = {p}: {interval} is {standing:?} of {bound}");
            assert!(standing != Standing::Wrong || p == 1.0, "p = {p} on the wrong side");
            stood[standing as usize] += 1;
        }
    }
    assert!(stood.iter().all(|&times| times > 500), "right, wrong, across: {stood:?}");
    Ok(())
}

#[test]
fn without_spread_p_is_as_the_mean_lies_and_one_value_has_none() -> Result<()> {
    let p = |bound| p_value(&[0.5, 0.5], bound);
    assert_eq!(
        (p(Bound::at_least(0.5))?, p(Bound::at_most(0.5))?, p(Bound::above(0.5))?),
        (Some(0.0), Some(0.0), Some(1.0))
    );
    assert_eq!((p_value(&[0.5], Bound::above(0.0))?, equivalence(&[0.5], 0.0, 1.0)?), (None, None));
    assert!(p_value(&[], Bound::above(0.0)).is_err() && p_value(&[0.5, f64::NAN], Bound::above(0.0)).is_err());
    assert!(p(Bound::above(f64::NAN)).unwrap_err().to_string().contains("finite"));
    Ok(())
}

/// statsmodels 0.15.0: `weightstats.DescrStatsW(x).ttost_mean(low, high)[0]`.
#[test]
fn equivalence_equals_that_of_statsmodels() -> Result<()> {
    let cases: [(&[f64], f64, f64, f64); 5] = [
        (&GAINS, -0.01, 0.01, 0.0019829519186190876),
        (&GAINS, -0.003, 0.003, 0.33603666741791394),
        (&GAINS, -0.005, 0.02, 0.0036302908498377505),
        (&[0.3, 0.1], -1.0, 1.0, 0.03958342416056554),
        (&ACCURACIES, -1.0, 0.8, 0.882251819870279),
    ];
    for (values, low, high, wanted) in cases {
        nearly(equivalence(values, low, high)?.unwrap(), wanted);
    }
    assert_eq!((equivalence(&[0.5, 0.5], 0.0, 0.5)?, equivalence(&[0.5, 0.5], 0.6, 0.7)?), (Some(0.0), Some(1.0)));
    assert!(equivalence(&GAINS, 0.01, -0.01).unwrap_err().to_string().contains("margin"));
    assert!(equivalence(&GAINS, f64::NEG_INFINITY, 0.01).is_err());
    Ok(())
}

fn measured(mean: f64, sd: f64, n: usize) -> Interval {
    let half = half_width(n, sd).unwrap();
    Interval { n, mean, sd: Some(sd), lo: Some(mean - half), hi: Some(mean + half) }
}

/// SciPy 1.17.1: the first N ≥ n at which `mean - h > v or mean + h < v`, `h = stats.t.ppf(0.975, N - 1) * sd / sqrt(N)`, less n.
#[test]
fn the_units_still_needed_are_those_that_counting_up_in_scipy_finds() {
    let cases = [
        (0.05, 0.1, 5, 0.0, Some(13)),
        (0.01, 0.1, 3, 0.0, Some(384)),
        (-0.004, 0.02, 10, 0.0, Some(89)),
        (0.015, 0.02, 2, 0.02, Some(62)),
        (0.45, 0.2, 2, 0.5, Some(62)),
        (0.001, 0.1, 5, 0.0, Some(38_413)),
        (0.0006, 0.1, 5, 0.0, None),
        (0.3, 0.1, 5, 0.0, Some(0)),
    ];
    for (mean, sd, n, value, wanted) in cases {
        for bound in [Bound::above(value), Bound::at_least(value), Bound::at_most(value)] {
            assert_eq!(units_to_decide(&measured(mean, sd, n), bound), wanted, "{mean} ± {sd}, n = {n}, {bound}");
        }
    }
}

#[test]
fn with_the_units_still_needed_it_is_decided_and_with_one_less_it_is_not() {
    let mut rng = crate::seed::rng(0, "units to decide", 0);
    for _ in 0..300 {
        let (mean, sd, n) = (rng.random_range(-1.0..1.0), rng.random_range(0.1..2.0), rng.random_range(2..20));
        let bound = Bound::above(0.0);
        let Some(further) = units_to_decide(&measured(mean, sd, n), bound) else { continue };
        let decided = |n| bound.standing(&measured(mean, sd, n)) != Some(Standing::Across);
        assert!(decided(n + further) && (further == 0 || !decided(n + further - 1)), "{mean} ± {sd}, {n} + {further}");
    }
}

#[test]
fn no_number_of_units_is_named_where_none_can_be_known() {
    assert_eq!(units_to_decide(&measured(0.5, 0.1, 5), Bound::at_least(0.5)), None, "the mean is at the bound");
    let one = Interval { n: 1, mean: 0.9, sd: None, lo: None, hi: None };
    assert_eq!(units_to_decide(&one, Bound::at_least(0.5)), None, "one value has no spread");
    let bootstrapped = Interval { sd: None, ..between(-0.1, 0.2) };
    assert_eq!(units_to_decide(&bootstrapped, Bound::above(0.0)), None, "no spread is known");
    assert_eq!(units_to_decide(&measured(0.5, 0.0, 5), Bound::at_least(0.5)), Some(0), "equal values decide");
}
