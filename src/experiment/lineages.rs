//! The lineages of a run, with the texts they are pre-trained on.

use std::path::Path;

use anyhow::{Context, Result};

use super::materials::Materials;
use super::plan::DataPlan;
use super::results::Knowledge;
use super::results::{KnowledgeKey, commit};
use crate::lineage::Lineage;

/// One set of texts, and the lineages of it.
pub(crate) struct Site {
    pub plan: DataPlan,
    pub materials: Materials,
    lineages: Vec<Lineage>,
}

impl Site {
    /// Makes or loads the texts, and opens the lineages in the folder of a run.
    pub fn open(plan: DataPlan, materials: Materials, out: &Path) -> Result<Site> {
        let open = |lineage| Lineage::open(out.join(plan.lineage_folder(lineage)));
        let lineages = plan.lineages().map(open).collect::<Result<_>>()?;
        Ok(Site { plan, materials, lineages })
    }

    pub fn lineage(&self, index: usize) -> Result<&Lineage> {
        let missing = || format!("{} has {} lineages, numbered from 0", self.plan.name, self.lineages.len());
        self.lineages.get(index).with_context(missing)
    }

    /// What every version of every lineage knows of every domain.
    pub fn knowledge(&self) -> Result<Vec<Knowledge>> {
        let versions = self.plan.pretrained();
        let mut rows = Vec::new();
        for (lineage, store) in self.lineages.iter().enumerate() {
            for version in &versions {
                let record = store.record(version)?;
                for (domain, &loss) in &record.held_out {
                    let (version, domain) = (version.clone(), domain.clone());
                    rows.push(Knowledge {
                        key: KnowledgeKey { data: self.plan.name.clone(), lineage, version, domain },
                        corpus: record.corpus.clone(),
                        loss,
                        seconds: record.seconds,
                        tokens_per_second: record.tokens_per_second,
                        commit: record.recipe["commit"].as_str().map_or_else(commit, str::to_string),
                    });
                }
            }
        }
        Ok(rows)
    }
}
