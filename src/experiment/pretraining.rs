//! The lineages of a run: M_0 → M_1 → … → M_L, the independent M_IND, and the network before any of it.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow};
use serde_json::json;
use tch::Device;

use super::materials::Materials;
use super::profile::Profile;
use super::reproduce::Compute;
use super::runs::{INDEPENDENT, UNTRAINED, version_name};
use crate::display::Progress;
use crate::lineage::{Lineage, VersionRecord};
use crate::model::{RobertaConfig, Version};
use crate::seed;
use crate::text::Corpus;
use crate::train::{PretrainConfig, held_out_loss, pretrain};

/// Pre-trains whatever a lineage lacks; what is complete is left alone, what was interrupted goes on.
///
/// On the CPU the independent model is pre-trained beside the lineage, with half the threads each: two small models on a core
/// each are faster than one after the other on two cores. It is ready when the upgrades have but begun: its threads go on with
/// `meanwhile`, which is to return soon after the flag is set. In a log each version gets about this many `lines`.
pub(crate) fn pretrain_lineage(
    profile: &Profile,
    materials: &Materials,
    lineage: &Lineage,
    index: usize,
    place: Compute,
    lines: u64,
    meanwhile: impl FnOnce(&AtomicBool) -> Result<()> + Send,
) -> Result<()> {
    let own_seed = |purpose: &str| lineage_seed(profile, index, purpose);
    let config = architecture(profile, materials);
    let fresh = |purpose: &str| Version::new(&config, &materials.tokenizer, own_seed(purpose));
    let stage = Stage { profile, materials, lineage, device: place.device, lines };
    if !lineage.has_version(UNTRAINED) {
        lineage.save_version(
            UNTRAINED,
            &fresh("first")?,
            stage.record(UNTRAINED, None, "nothing", own_seed("first")),
        )?;
    }
    // M_IND has M_0's data and budget, but another initialisation and order.
    let independent = || {
        let seed = own_seed("independent");
        stage.make(INDEPENDENT, None, &materials.initial, &profile.initial, seed, || fresh("independent"))
    };
    let successive = || -> Result<()> {
        stage.make("M0", None, &materials.initial, &profile.initial, own_seed("first"), || fresh("first"))?;
        for (at, corpus) in materials.upgrades.iter().enumerate() {
            let (parent, name) = (version_name(at), version_name(at + 1));
            let seed = own_seed(&name);
            stage.make(&name, Some(&parent), corpus, &profile.upgrade, seed, || lineage.version(&parent))?;
        }
        Ok(())
    };
    if place.device.is_cuda() || place.threads < 2 {
        tch::set_num_threads(place.threads as i32);
        return successive().and_then(|()| independent());
    }
    let (half, upgraded) = ((place.threads / 2) as i32, AtomicBool::new(false));
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| {
            tch::set_num_threads(half);
            independent()?;
            meanwhile(&upgraded)
        });
        let done = scope.spawn(|| {
            tch::set_num_threads(half);
            let done = successive();
            upgraded.store(true, Ordering::Relaxed);
            done
        });
        let joined = [done.join(), beside.join()]
            .map(|end| end.unwrap_or_else(|_| Err(anyhow!("a pre-training thread panicked"))));
        joined.into_iter().collect()
    })
}

/// The seed of one pre-training: of `first` (M_0), `independent`, or the name of an upgraded version.
pub(super) fn lineage_seed(profile: &Profile, lineage: usize, purpose: &str) -> u64 {
    seed::derive(profile.seed, &format!("lineage {lineage} {purpose}"))
}

/// How one upgrade is pre-trained.
pub(super) fn upgrade_config(profile: &Profile, lineage: usize, name: &str) -> PretrainConfig {
    let seed = lineage_seed(profile, lineage, name);
    PretrainConfig { seed, precision: profile.precision, ..profile.upgrade.clone() }
}

/// The architecture of a profile's models: vocabulary of the tokenizer, positions for the longest sequence.
pub(super) fn architecture(profile: &Profile, materials: &Materials) -> RobertaConfig {
    let size = &profile.model;
    RobertaConfig {
        num_hidden_layers: size.num_hidden_layers,
        num_attention_heads: size.num_attention_heads,
        ..RobertaConfig::tiny(
            materials.tokenizer.vocab_size() as i64,
            size.hidden_size,
            profile.initial.max_length as i64,
        )
    }
}

struct Stage<'a> {
    profile: &'a Profile,
    materials: &'a Materials,
    lineage: &'a Lineage,
    device: Device,
    /// Of progress in a log, for each version.
    lines: u64,
}

impl Stage<'_> {
    fn make(
        &self,
        name: &str,
        parent: Option<&str>,
        corpus: &Corpus,
        config: &PretrainConfig,
        seed: u64,
        base: impl FnOnce() -> Result<Version>,
    ) -> Result<()> {
        if self.lineage.has_version(name) {
            return Ok(());
        }
        let config = PretrainConfig { seed, precision: self.profile.precision, ..config.clone() };
        let progress = Progress::new(format!("pre-train {name}"), config.optimisation.steps).lines(self.lines);
        let checkpoint = self.lineage.checkpoint_path(name);
        let run = pretrain(&base()?, corpus, &config, self.device, Some(&checkpoint), &progress)
            .with_context(|| format!("version {name}"))?;
        let mut record = self.record(name, parent, &corpus.name, seed);
        for domain in &self.materials.held_out {
            // The masks of the questions are the same for every version.
            let asked = PretrainConfig { seed: self.profile.seed, ..config.clone() };
            record.held_out.insert(domain.name.clone(), held_out_loss(&run.version, domain, &asked, self.device)?);
        }
        let threads = tch::get_num_threads();
        record.recipe = json!({ "pretrain": config, "truncated": run.truncated, "threads": threads });
        (record.seconds, record.tokens_per_second) = (run.seconds, run.tokens_per_second);
        self.lineage.save_version(name, &run.version, record)?;
        let loss = run.losses.last().map_or(f64::NAN, |point| point.loss);
        progress.finish(format!("loss {loss:.3} · {:.0} tokens/s", run.tokens_per_second));
        Ok(())
    }

    fn record(&self, name: &str, parent: Option<&str>, corpus: &str, seed: u64) -> VersionRecord {
        VersionRecord {
            name: name.to_string(),
            parent: parent.map(str::to_string),
            corpus: corpus.to_string(),
            seed,
            ..VersionRecord::default()
        }
    }
}
