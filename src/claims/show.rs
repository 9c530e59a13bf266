//! Claims in notebooks and terminals.

use anyhow::Result;

use super::{Claim, Condition, Part, Verdict};
use crate::display::{Bundle, Cell, Column, Show, Table};

impl Show for Claim {
    fn show(&self) -> Result<Bundle> {
        let facts = [
            ("statement", Cell::from(self.statement.as_str())),
            ("rule", self.rule.as_str().into()),
            (self.quantity.as_str(), Cell::from(Cell::from(&self.interval()).show(3))),
            ("units", format!("{} {}", self.n, self.unit.counted(self.n)).into()),
            ("verdict", self.outcome().into()),
        ];
        let note = (!self.note.is_empty()).then(|| ("note", Cell::from(self.note.as_str())));
        let facts = Table::facts(format!("Claim {}", self.id), facts.into_iter().chain(note));
        Ok(Bundle::new().table(facts).table(self.numbers()))
    }
}

impl Claim {
    /// Every number of it: what has to be the case, each task, and what stands beside.
    pub fn numbers(&self) -> Table {
        let columns =
            vec![Column::text("number"), Column::number("measured [95 % interval]", 3), Column::text("bound")];
        let mut table = Table::new(format!("claim-{}", self.id), format!("Numbers of {}", self.id), columns);
        for condition in &self.conditions {
            let number = Cell::from(&condition.part.interval());
            table.push([Cell::from(condition.part.name.as_str()), number, condition.bound.to_string().into()]);
        }
        let tasks = self.tasks.iter().map(|part| (format!("{} on {}", self.quantity, part.name), part));
        let parts = self.parts.iter().map(|part| (part.name.clone(), part));
        let texts = self.texts.iter().map(|part| (format!("{}, texts drawn anew", part.name), part));
        for (name, part) in tasks.chain(parts).chain(texts) {
            table.push([Cell::from(name), Cell::from(&part.interval()), Cell::Empty(())]);
        }
        table
    }
}

impl Show for Condition {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().text(format!("{}: {} ({})", self.part.name, self.part.interval(), self.bound)))
    }
}

impl Show for Part {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().text(format!("{}: {}", self.name, self.interval())))
    }
}

impl Show for Verdict {
    fn show(&self) -> Result<Bundle> {
        self.to_string().show()
    }
}

crate::displayable!(Claim, Condition, Part);
crate::displayable!(notebook: Verdict);
