//! Where numbers vary: between lineages, between seeds, between worlds.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::claims::{Claim, Evidence, world_numbers};
use crate::display::{Cell, Column, Table};
use crate::experiment::{Experiment, Unit};
use crate::stats;

/// How the variance of every headline number is shared; nothing where neither lineages nor seeds are repeated.
pub(super) fn variance(evidence: &Evidence, claims: &[Claim]) -> Option<Table> {
    let columns = vec![
        Column::text("claim"),
        Column::text("quantity"),
        Column::number("sd between lineages", 3),
        Column::number("sd between seeds of one", 3),
        Column::number("share between lineages", 2),
    ];
    let caption = format!(
        "{} One-way random effects (method of moments); of C4a on the logarithm. Where the share between lineages is large, more seeds on the \
         same lineages would not narrow an interval.",
        evidence.basis()
    );
    let mut table = Table::new("variance", "Where the numbers vary", columns).caption(caption);
    for claim in claims {
        let Some(shares) = &claim.variance else { continue };
        table.push([
            Cell::from(claim.id.as_str()),
            claim.quantity.as_str().into(),
            shares.between.sqrt().into(),
            shares.within.sqrt().into(),
            Cell::from(shares.between_share()),
        ]);
    }
    (!table.rows.is_empty()).then_some(table)
}

/// The claims' numbers in every world, and over worlds; nothing where there is one.
pub(super) fn worlds(experiment: &Experiment) -> Result<Option<Table>> {
    let (numbers, lacking) = world_numbers(experiment);
    let data: Vec<String> = experiment.profile.data().into_iter().map(|plan| plan.name).collect();
    if data.len() < 2 {
        return Ok(None);
    }
    let mut columns = vec![Column::text("claim"), Column::text("quantity")];
    columns.extend(data.iter().map(|name| Column::number(name.as_str(), 3)));
    columns.push(Column::number("over worlds", 3));
    let more = experiment.profile.further_worlds;
    let (lineages, seeds) = (more.lineages.min(experiment.profile.lineages), more.seeds.min(experiment.profile.seeds));
    let mut caption = format!(
        "Headline numbers in {} worlds of other seeds, means over {lineages} {} of {seeds} {} each (of the judged world the first so many, all at \
         the usual learning rate), and over the worlds where there is one, with a 95 % Student-t interval. Ratios of updates are averaged on the \
         logarithm. They decide nothing.",
        data.len(),
        Unit::Lineage.counted(lineages),
        Unit::Seed.counted(seeds)
    );
    for why in lacking {
        caption += &format!(" {why}.");
    }
    let mut table = Table::new("worlds", "The same in other worlds", columns).caption(caption);
    let mut claims: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for number in numbers {
        claims.entry(number.claim.clone()).or_default().push(number);
    }
    for (claim, numbers) in claims {
        let of = |name: &String| numbers.iter().find(|number| number.data == *name).map(|number| number.measured);
        let quantity = numbers.first().map_or(String::new(), |number| number.quantity.clone());
        let mut row = vec![Cell::from(claim.as_str()), quantity.into()];
        row.extend(data.iter().map(|name| Cell::from(of(name))));
        let geometric = claim.starts_with("C4a");
        let values: Vec<f64> =
            data.iter().filter_map(of).map(|value| if geometric { value.ln() } else { value }).collect();
        let mut over = stats::t_interval(&values)?;
        if geometric {
            over.mean = over.mean.exp();
            (over.lo, over.hi) = (over.lo.map(f64::exp), over.hi.map(f64::exp));
        }
        row.push(Cell::from(&over));
        table.push(row);
    }
    Ok(Some(table))
}
