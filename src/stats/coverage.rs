//! Why the unit is the lineage: over simulated studies, how often a 95 % interval contains the truth.

use anyhow::{Context, Result};
use rand_distr::{Distribution, Normal};

use super::{Interval, mean, t_interval, variance_shares};

const TRUTH: f64 = 0.6;
const LINEAGES: usize = 10;
const SEEDS: usize = 2;
const STUDIES: u64 = 2000;

/// Scores of a study, by lineage and seed: truth + the lineage's deviation + the seed's.
fn study(number: u64, lineage_sd: f64, seed_sd: f64) -> Result<Vec<Vec<f64>>> {
    let mut rng = crate::seed::rng(0, "coverage", number);
    let (lineages, seeds) = (Normal::new(TRUTH, lineage_sd)?, Normal::new(0.0, seed_sd)?);
    let mut lineage = || {
        let own = lineages.sample(&mut rng);
        (0..SEEDS).map(|_| own + seeds.sample(&mut rng)).collect()
    };
    Ok((0..LINEAGES).map(|_| lineage()).collect())
}

/// The interval over lineages, each the mean of its seeds.
fn over_lineages(scores: &[Vec<f64>]) -> Result<Interval> {
    t_interval(&scores.iter().map(|seeds| mean(seeds)).collect::<Result<Vec<f64>>>()?)
}

/// The interval over seeds, each the mean of its lineages: all seeds share the lineages, so their deviations never show in it.
fn over_seeds(scores: &[Vec<f64>]) -> Result<Interval> {
    let seed = |at: usize| mean(&scores.iter().map(|seeds| seeds[at]).collect::<Vec<_>>());
    t_interval(&(0..SEEDS).map(seed).collect::<Result<Vec<f64>>>()?)
}

/// The interval over all scores, as if a lineage's seeds were independent.
fn pooled(scores: &[Vec<f64>]) -> Result<Interval> {
    t_interval(&scores.concat())
}

/// Shares of studies whose interval contains the truth: over lineages, over seeds, pooled.
fn coverage(lineage_sd: f64, seed_sd: f64) -> Result<[f64; 3]> {
    let mut covered = [0; 3];
    for number in 0..STUDIES {
        let scores = study(number, lineage_sd, seed_sd)?;
        for (count, interval) in
            covered.iter_mut().zip([over_lineages(&scores)?, over_seeds(&scores)?, pooled(&scores)?])
        {
            let [lo, hi] = interval.bounds().context("bounds")?;
            *count += u64::from(lo <= TRUTH && TRUTH <= hi);
        }
    }
    let rates = covered.map(|count| count as f64 / STUDIES as f64);
    let [lineages, seeds, pooled] = rates;
    println!(
        "sd {lineage_sd} (lineages), {seed_sd} (seeds): over lineages {lineages}, over seeds {seeds}, pooled {pooled}"
    );
    Ok(rates)
}

#[test]
fn an_interval_over_lineages_covers_the_truth_and_the_others_do_not_where_lineages_differ() -> Result<()> {
    let [lineages, seeds, pooled] = coverage(0.05, 0.02)?;
    assert!((0.93..=0.97).contains(&lineages), "over lineages: {lineages}");
    assert!(seeds < 0.93, "over seeds: {seeds}");
    assert!(pooled < 0.93, "pooled: {pooled}");
    Ok(())
}

#[test]
fn an_interval_over_lineages_covers_the_truth_where_seeds_differ_more_as_well() -> Result<()> {
    let [lineages, ..] = coverage(0.01, 0.05)?;
    assert!((0.93..=0.97).contains(&lineages), "over lineages: {lineages}");
    Ok(())
}

#[test]
fn variance_shares_are_on_average_those_that_were_put_in() -> Result<()> {
    let (mut between, mut within) = (Vec::new(), Vec::new());
    for number in 0..STUDIES {
        let shares = variance_shares(&study(number, 0.05, 0.02)?)?.context("shares")?;
        between.push(shares.between);
        within.push(shares.within);
    }
    let (between, within) = (mean(&between)?, mean(&within)?);
    println!("variance between {between:.6} (0.0025 put in), within {within:.6} (0.0004)");
    // Standard errors over 2,000 studies: 2.7e-5 and 4e-6.
    assert!((between - 0.0025).abs() < 1.1e-4 && (within - 0.0004).abs() < 1.6e-5);
    Ok(())
}
