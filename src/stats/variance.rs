//! Where variance comes from: from group to group (lineages), or within a group (seeds).

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{ROUNDING, mean};

/// The variance between groups and within them, in the squared unit of the observations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct VarianceShares {
    /// Groups, say lineages.
    pub groups: usize,
    /// Observations in all of them, say seeds × lineages.
    pub observations: usize,
    /// Variance of the groups' true means; 0 where the groups differ no more than their observations make them.
    pub between: f64,
    /// Variance of observations about their group's true mean.
    pub within: f64,
}

impl VarianceShares {
    /// between / (between + within), the intraclass correlation ICC(1); `None` where nothing varies.
    ///
    /// It says what further seeds can still do: near 1 the seeds of a lineage repeat one another, and only more lineages help.
    pub fn between_share(&self) -> Option<f64> {
        let all = self.between + self.within;
        (all > 0.0).then(|| self.between / all)
    }
}

/// Variance components of a one-way layout with random groups, by the method of moments (ANOVA; Searle, Casella & McCulloch,
/// *Variance Components*, 1992, ch. 3); groups may differ in size.
///
/// within = MSW, between = max(0, (MSB − MSW) / n₀), with n₀ = (N − Σ nᵢ² / N) / (k − 1) for k groups of nᵢ, N in all. Where sizes
/// are equal and MSB > MSW, these are REML's estimates too. They come from few groups: report them, decide nothing by them.
/// `None` where the two cannot be told apart: fewer than two groups, or no group of two. Errors: an empty group, a value that is
/// not finite (the group's number is named).
pub fn variance_shares(groups: &[Vec<f64>]) -> Result<Option<VarianceShares>> {
    let means = groups.iter().enumerate().map(|(at, group)| {
        mean(group).with_context(|| format!("group {} of {} has no variance to share", at + 1, groups.len()))
    });
    let means = means.collect::<Result<Vec<f64>>>()?;
    let (k, n) = (groups.len(), groups.iter().map(Vec::len).sum::<usize>());
    if k < 2 || n == k {
        return Ok(None);
    }
    let sizes: Vec<f64> = groups.iter().map(|group| group.len() as f64).collect();
    let (total, squared_sizes) = (n as f64, sizes.iter().map(|size| size * size).sum::<f64>());
    let centre = sizes.iter().zip(&means).map(|(size, mean)| size * mean).sum::<f64>() / total;
    let among: f64 = sizes.iter().zip(&means).map(|(size, mean)| size * (mean - centre).powi(2)).sum();
    let inside: f64 =
        groups.iter().zip(&means).flat_map(|(group, mean)| group.iter().map(move |x| (x - mean).powi(2))).sum();
    let (among, inside) = (among / (k - 1) as f64, inside / (n - k) as f64);
    let per_group = (total - squared_sizes / total) / (k - 1) as f64;
    // Equal values have means that differ by rounding: without this they would have shares.
    let settled = |variance: f64| if variance < ROUNDING.powi(2) { 0.0 } else { variance };
    let (between, within) = (settled((among - inside) / per_group), settled(inside));
    Ok(Some(VarianceShares { groups: k, observations: n, between, within }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(groups: &[&[f64]]) -> Result<Option<VarianceShares>> {
        variance_shares(&groups.iter().map(|group| group.to_vec()).collect::<Vec<_>>())
    }

    fn close(got: VarianceShares, between: f64, within: f64, tolerance: f64) {
        assert!((got.between - between).abs() < tolerance && (got.within - within).abs() < tolerance, "{got:?}");
    }

    const LINEAGES: [&[f64]; 5] = [&[0.61, 0.63], &[0.70, 0.69], &[0.55, 0.58], &[0.66, 0.62], &[0.59, 0.60]];

    /// statsmodels 0.15.0: mean squares of `anova_lm(ols("y ~ C(g)", data).fit())`, and REML's components,
    /// `mixedlm("y ~ 1", data, groups=data["g"]).fit(reml=True)`, which it finds by iteration: `cov_re` and `scale`.
    #[test]
    fn components_of_equal_groups_equal_those_of_statsmodels() -> Result<()> {
        let got = shares(&LINEAGES)?.context("shares")?;
        close(got, 0.0022525, 0.00031, 1e-12);
        close(got, 0.0022524907221895363, 0.00031000090891227693, 2e-8);
        assert_eq!((got.groups, got.observations), (5, 10));
        assert!((got.between_share().context("share")? - 0.0022525 / 0.0025625).abs() < 1e-9);
        Ok(())
    }

    /// statsmodels 0.15.0: `anova_lm` as above gives MSB 0.005082777777777789 and MSW 0.00039861111111111125; n₀ = (10 − 30 / 10) / 3.
    #[test]
    fn components_of_unequal_groups_follow_from_the_mean_squares_of_statsmodels() -> Result<()> {
        let got = shares(&[&[0.61, 0.63, 0.60], &[0.70], &[0.55, 0.58], &[0.66, 0.62, 0.67, 0.64]])?;
        close(got.context("shares")?, 0.002007500000000005, 0.00039861111111111125, 1e-12);
        Ok(())
    }

    /// The same call gives MSB 1.6667e-5 < MSW 0.01535 here.
    #[test]
    fn groups_that_differ_less_than_their_observations_have_no_share() -> Result<()> {
        let got = shares(&[&[0.5, 0.7], &[0.7, 0.5], &[0.55, 0.66]])?.context("shares")?;
        close(got, 0.0, 0.01535, 1e-12);
        assert_eq!((got.between, got.between_share()), (0.0, Some(0.0)));
        Ok(())
    }

    #[test]
    fn where_nothing_varies_there_is_nothing_to_share() -> Result<()> {
        let got = shares(&[&[0.1, 0.1, 0.1], &[0.1, 0.1]])?.context("shares")?;
        assert_eq!((got.between, got.within, got.between_share()), (0.0, 0.0, None));
        let repeated = shares(&[&[0.1, 0.1, 0.1], &[0.2, 0.2]])?.context("shares")?;
        assert_eq!(repeated.between_share(), Some(1.0));
        Ok(())
    }

    #[test]
    fn one_lineage_or_one_seed_a_lineage_cannot_be_split() -> Result<()> {
        assert_eq!((shares(&[])?, shares(&[&[0.5, 0.6]])?, shares(&[&[0.5], &[0.6]])?), (None, None, None));
        assert!(shares(&[&[0.5], &[0.6, 0.7]])?.is_some(), "one group of two is enough");
        assert!(format!("{:#}", shares(&[&[0.5, 0.6], &[]]).unwrap_err()).contains("group 2 of 2"));
        assert!(format!("{:#}", shares(&[&[0.5, f64::NAN], &[0.1]]).unwrap_err()).contains("group 1 of 2"));
        Ok(())
    }

    #[test]
    fn shares_say_in_words_how_much_is_between_and_keep_their_value_in_json() -> Result<()> {
        let got = shares(&LINEAGES)?.context("shares")?;
        let words = "Variance: 88 % between groups (standard deviation 0.047), 12 % within them (0.018); 5 groups, 10 observations";
        assert_eq!(got.to_string().trim_end(), words);
        let equal = shares(&[&[0.5, 0.5], &[0.5, 0.5]])?.context("shares")?;
        assert!(equal.to_string().contains("all observations are equal"), "{equal}");
        assert_eq!(serde_json::from_str::<VarianceShares>(&serde_json::to_string(&got)?)?, got);
        Ok(())
    }
}
