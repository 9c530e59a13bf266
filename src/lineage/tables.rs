//! What a lineage looks like.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{Lineage, VersionRecord};
use crate::display::{Axis, Cell, Column, Figure, Point, Table};

impl Lineage {
    /// The versions, ancestors first: corpus, time, speed, number of adapted weights.
    pub fn table(&self) -> Result<Table> {
        let columns = vec![
            Column::text("version"),
            Column::text("continues"),
            Column::text("corpus"),
            Column::number("seed", 0),
            Column::number("seconds", 0),
            Column::number("tokens/s", 0),
            Column::number("adapted", 0),
            Column::text("fingerprint"),
        ];
        let mut table = Table::new("lineage", format!("Versions in {}", self.root.display()), columns);
        for (name, record) in self.versions()? {
            table.push([
                Cell::from(name.as_str()),
                Cell::from(record.parent.as_deref()),
                Cell::from(record.corpus),
                Cell::from(record.seed.to_string()),
                Cell::from(record.seconds),
                Cell::from(record.tokens_per_second.round().max(0.0) as usize),
                Cell::from(self.adapted_ids(&name)?.len()),
                Cell::from(short(&record.fingerprint)),
            ]);
        }
        Ok(table)
    }

    /// Held-out masked-LM loss of every version on every corpus: what each upgrade taught, and what it made forget.
    pub fn forgetting(&self) -> Result<Table> {
        let versions = self.versions()?;
        // Corpora in the order in which the lineage met them.
        let (mut corpora, mut seen) = (Vec::new(), BTreeSet::new());
        for (_, record) in &versions {
            let met = record.held_out.keys().filter(|corpus| record.corpus.contains(corpus.as_str()));
            for corpus in met.chain(record.held_out.keys()) {
                if seen.insert(corpus.clone()) {
                    corpora.push(corpus.clone());
                }
            }
        }
        let mut columns = vec![Column::text("version"), Column::text("trained on")];
        columns.extend(corpora.iter().map(|corpus| Column::number(corpus, 3)));
        let mut table = Table::new("forgetting", "Held-out masked-LM loss after every stage", columns)
            .caption("Nats a masked token, lower is better; every version answers the same questions.");
        // A version that was never asked has nothing to say here: the network before any training, say.
        for (name, record) in versions.into_iter().filter(|(_, record)| !record.held_out.is_empty()) {
            let losses = corpora.iter().map(|corpus| Cell::from(record.held_out.get(corpus).copied()));
            table.push([Cell::from(name), Cell::from(record.corpus)].into_iter().chain(losses));
        }
        Ok(table)
    }

    /// The same in a line for each corpus, along M_0 and the versions that continue it.
    pub fn forgetting_figure(&self) -> Result<Figure> {
        let line: Vec<_> =
            self.versions()?.into_iter().filter(|(name, record)| name == "M0" || record.parent.is_some()).collect();
        let corpora: BTreeSet<&String> = line.iter().flat_map(|(_, record)| record.held_out.keys()).collect();
        let x = Axis::new("version").names(line.iter().map(|(name, record)| format!("{name} ({})", record.corpus)));
        let y = Axis::new("held-out masked-LM loss (nats)");
        let mut figure = Figure::lines("forgetting", "What every upgrade teaches, and what it makes forget", x, y);
        for corpus in corpora {
            let at = |(place, (_, record)): (usize, &(String, VersionRecord))| {
                Some(Point::new(place as f64, *record.held_out.get(corpus)?))
            };
            figure = figure.line(corpus, line.iter().enumerate().filter_map(at).collect());
        }
        Ok(figure.caption("A line falls where its domain is trained on; where others are, it may rise again."))
    }

    /// The weights tuned on any version: task, method, where they come from.
    pub fn weights_table(&self) -> Result<Table> {
        let columns = ["version", "id", "task", "method", "from"].map(Column::text).to_vec();
        let mut table = Table::new("weights", "Weights tuned on them", columns);
        for (version, _) in self.versions()? {
            for id in self.adapted_ids(&version)? {
                let card = self.card(&version, &id)?;
                let from = card.imported_from().unwrap_or("here").to_string();
                let row = [version.clone(), id, card.task, card.method.name().to_string(), from];
                table.push(row.map(Cell::from));
            }
        }
        Ok(table)
    }

    /// The weights tuned on a version: task, method, scores.
    pub fn adapted_table(&self, version: &str) -> Result<Table> {
        let cards = self.adapted_ids(version)?.into_iter().map(|id| Ok((self.card(version, &id)?, id)));
        let cards = cards.collect::<Result<Vec<_>>>()?;
        let scores: BTreeSet<String> = cards.iter().flat_map(|(card, _)| card.scores.keys().cloned()).collect();
        let mut columns = ["id", "task", "method", "from"].map(Column::text).to_vec();
        columns.push(Column::number("recycled", 0));
        columns.extend(scores.iter().map(|score| Column::number(score.replace('_', " "), 3)));
        let mut table = Table::new(format!("adapted.{version}"), format!("Weights tuned on {version}"), columns)
            .caption("from: the tool they were taken in from, or here. recycled: how many older versions the weights come from.");
        for (card, id) in cards {
            let from = Cell::from(card.imported_from().unwrap_or("here"));
            let about = [Cell::from(id), Cell::from(card.task), Cell::from(card.method.name()), from];
            let recycled = Cell::from(card.ancestry.len());
            let scores = scores.iter().map(|score| Cell::from(card.scores.get(score).copied()));
            table.push(about.into_iter().chain([recycled]).chain(scores));
        }
        Ok(table)
    }
}

fn short(fingerprint: &str) -> &str {
    fingerprint.get(..12).unwrap_or(fingerprint)
}
