//! The profiles of a pre-trained encoder on real text.

use std::path::Path;

use anyhow::{Context, Result};

use super::built_in::TuningSizes;
use super::{
    Beginning, EncoderSource, FewShotPlan, FolderSource, FurtherWorlds, Limits, OtherSource, PilotPlan, Profile,
    Source, Study, TaskPlan,
};
use crate::files::read_json;
use crate::model::{AdapterConfig, LoraConfig, Method};
use crate::train::{HeadWarmup, Optimisation, PretrainConfig};

/// What a folder of texts says that is to be studied on it.
const STUDY: &str = "study.json";

impl Profile {
    /// A pre-trained encoder on real text. M_0 is the encoder with its masked-LM head, pre-trained on with the general corpus and a
    /// part of every other; then it is upgraded domain by domain. The folder's `study.json` ([`Study`]) says which corpus is which; a
    /// folder without one has the corpora news, bio, rev and cs.
    ///
    /// # Errors
    /// A `study.json` that cannot be read.
    pub fn encoder(model: &Path, folder: &Path) -> Result<Profile> {
        let study = study(folder)?;
        let sizes = TuningSizes {
            max_length: 64,
            full_steps: 150,
            few_steps: 100,
            full_batch: 16,
            few_batch: 16,
            eval_every: 50,
        };
        Ok(Profile {
            name: "encoder".to_string(),
            source: Source::Folder(FolderSource {
                folder: folder.to_path_buf(),
                initial: study.initial,
                initial_share: 0.3,
                upgrades: study.upgrades,
                vocab_size: None,
            }),
            model: Beginning::Encoder(EncoderSource { encoder: model.to_path_buf(), other: None }),
            initial: PretrainConfig {
                head_warmup: Some(HeadWarmup { steps: 60, learning_rate: 1e-3 }),
                ..pretraining(120, 32, 64)
            },
            upgrade: pretraining(120, 32, 64),
            tasks: study.tasks,
            sources: study.sources,
            methods: methods(sizes),
            rates: vec![1.0],
            few_shot: FewShotPlan { shots: 16, ..FewShotPlan::with_hidden_states(100.0) },
            pilot: PilotPlan { points: 7, tasks: Some(1), texts: 100 },
            limits: Limits { train: 1_500, dev: 300, test: 600 },
            independent: false,
            placebo: true,
            variants: false,
            twice: false,
            seeds: 2,
            lineages: 1,
            further_worlds: FurtherWorlds::default(),
            ..Profile::world()
        })
    }

    /// The same where time is no matter (some hours a lineage on two cores): 8,192 tokens an update, twice the tuning, a higher
    /// learning rate with twice the updates beside the usual one, and five lineages, so that more can be said than about the one at hand.
    ///
    /// # Errors
    /// As [`Profile::encoder`].
    pub fn encoder_full(model: &Path, folder: &Path) -> Result<Profile> {
        let profile = Profile::encoder(model, folder)?;
        let sizes = TuningSizes {
            max_length: 128,
            full_steps: 300,
            few_steps: 200,
            full_batch: 32,
            few_batch: 16,
            eval_every: 25,
        };
        Ok(Profile {
            name: "encoder-full".to_string(),
            initial: PretrainConfig { head_warmup: profile.initial.head_warmup, ..pretraining(120, 64, 128) },
            upgrade: pretraining(130, 64, 128),
            methods: methods(sizes),
            // Full fine-tuning at the usual rate has not levelled off by the last update.
            rates: vec![1.0, 3.0],
            further_updates: 2.0,
            few_shot: FewShotPlan { shots: 32, ..profile.few_shot },
            pilot: PilotPlan { texts: 200, ..profile.pilot },
            limits: Limits { train: 3_200, dev: 300, test: 1_000 },
            seeds: 1,
            lineages: 5,
            ..profile
        })
    }

    /// A first look at the same, in minutes: one upgrade, one task, one seed, so that nothing is decided.
    ///
    /// # Errors
    /// As [`Profile::encoder`].
    pub fn first_look(model: &Path, folder: &Path) -> Result<Profile> {
        let mut profile = Profile::encoder(model, folder)?;
        if let Source::Folder(source) = &mut profile.source {
            source.upgrades.truncate(1);
        }
        profile.tasks.truncate(1);
        profile.tasks.iter_mut().for_each(|task| task.targets.truncate(1));
        profile.methods.truncate(2);
        profile.name = "first-look".to_string();
        Ok(Profile {
            sources: Vec::new(),
            limits: Limits { dev: 200, test: 400, ..profile.limits },
            placebo: false,
            seeds: 1,
            ..profile
        })
    }
}

/// Sequences of `max_length` tokens, packed; the rate is that of continued pre-training, a tenth of a beginner's.
fn pretraining(steps: usize, batch_size: usize, max_length: usize) -> PretrainConfig {
    let optimisation = PretrainConfig::default().optimisation;
    PretrainConfig {
        optimisation: Optimisation { steps, warmup_steps: steps * 6 / 100, learning_rate: 2e-4, ..optimisation },
        batch_size,
        max_length,
        packing: true,
        checkpoint_every: 50,
        ..PretrainConfig::default()
    }
}

fn methods(sizes: TuningSizes) -> Vec<super::MethodPlan> {
    sizes.methods_at([
        (Method::Full, 5e-5),
        (Method::Adapter(AdapterConfig::default()), 1e-3),
        (Method::Lora(LoraConfig::default()), 1e-3),
    ])
}

fn study(folder: &Path) -> Result<Study> {
    let path = folder.join(STUDY);
    if path.is_file() {
        return read_json(&path)
            .context("it names the corpora \"initial\" and \"upgrades\", and the \"tasks\" with their \"targets\"");
    }
    Ok(Study::four_domains())
}

impl Study {
    /// News first, then biomedicine, reviews and computer science: what a folder that says nothing of itself is taken for.
    pub(super) fn four_domains() -> Study {
        let task = |name: &str, targets: &[usize]| TaskPlan { name: name.to_string(), targets: targets.to_vec() };
        Study {
            initial: "news".to_string(),
            upgrades: ["bio", "rev", "cs"].map(str::to_string).to_vec(),
            tasks: vec![
                task("chemprot", &[1]),
                task("rt_polarity", &[1, 2]),
                task("acl_arc", &[1, 3]),
                task("ag_news", &[1]),
            ],
            sources: vec![OtherSource { task: "ag_news".to_string(), relation: "different".to_string() }],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_says_what_is_studied_on_it() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let text =
            r#"{"initial": "nyt", "upgrades": ["movie", "tweets"], "tasks": [{"name": "reviews", "targets": [1, 2]}]}"#;
        std::fs::write(folder.path().join(STUDY), text)?;
        let profile = Profile::encoder(Path::new("encoder"), folder.path())?;
        profile.validate()?;
        assert_eq!((profile.num_upgrades(), profile.tasks[0].name.as_str()), (2, "reviews"));
        let look = Profile::first_look(Path::new("encoder"), folder.path())?;
        look.validate()?;
        assert_eq!((look.num_upgrades(), look.seeds, &look.tasks[0].targets), (1, 1, &vec![1]));
        std::fs::write(folder.path().join(STUDY), r#"{"first": "nyt"}"#)?;
        let error = format!("{:#}", Profile::encoder(Path::new("encoder"), folder.path()).unwrap_err());
        assert!(error.contains("study.json") && error.contains("upgrades"), "{error}");
        Ok(())
    }
}
