//! The claims' numbers in other worlds: do they depend on the one that they are judged on?

use super::evidence::Evidence;
use super::judge_on;
use crate::experiment::{Experiment, Profile};

/// The headline number of a claim in one world: the mean over its lineages.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WorldNumber {
    /// Claim and method, say `C1.full`.
    pub claim: String,
    /// What the number is.
    pub quantity: String,
    /// Which world.
    pub data: String,
    pub measured: f64,
}

/// The claims' numbers in every world of an experiment; of the judged one as many lineages and seeds as the further ones have, so that
/// all rest on as much, and at the usual learning rate; and what could not be measured in one. Empty where there are no further worlds.
pub(crate) fn world_numbers(experiment: &Experiment) -> (Vec<WorldNumber>, Vec<String>) {
    let mut plans = experiment.profile.data();
    let (mut numbers, mut lacking) = (Vec::new(), Vec::new());
    let Some(further) = plans.get(1).map(|plan| plan.profile.clone()) else { return (numbers, lacking) };
    let judged = &mut plans[0].profile;
    let (lineages, seeds) = (further.lineages.min(judged.lineages), further.seeds.min(judged.seeds));
    *judged = Profile { lineages, seeds, rates: further.rates.clone(), ..judged.clone() };
    for plan in plans {
        let data = plan.name.clone();
        let verdicts = judge_on(&Evidence::on(experiment, plan));
        lacking.extend(verdicts.unmeasured.into_iter().map(|why| format!("{data}: {why}")));
        for claim in verdicts.claims {
            let (quantity, measured) = (claim.quantity, claim.measured);
            numbers.push(WorldNumber { claim: claim.id, quantity, data: data.clone(), measured });
        }
    }
    (numbers, lacking)
}
