//! The lineages of a run: M_0 → M_1 → … → M_L, the independent M_IND, M_0 in other coordinates, and the network before any of it.

use anyhow::{Context, Result};
use serde_json::json;
use tch::Device;

use super::compute::Compute;
use super::materials::Materials;
use super::parallel::in_workers;
use super::plan::{INDEPENDENT, PERMUTED, PERMUTED_INNER, PLACEBO, UNTRAINED, version_name};
use super::profile::{Beginning, Profile, Source};
use super::results::commit;
use crate::display::Progress;
use crate::lineage::{Lineage, VersionRecord};
use crate::model::{Coordinates, EncoderConfig, Version};
use crate::seed;
use crate::text::Corpus;
use crate::train::{PretrainConfig, held_out_loss, pretrain};

/// Versions that are pre-trained one after the other: a lineage's own, or its independent model alone.
#[derive(Clone, Copy)]
pub(crate) struct Chain<'a> {
    profile: &'a Profile,
    materials: &'a Materials,
    lineage: &'a Lineage,
    /// The number of the lineage: its initial weights, orders and masks are drawn by it.
    index: usize,
    /// How often M_0 is upgraded.
    last: usize,
    independent: bool,
}

impl<'a> Chain<'a> {
    /// The chains of one lineage, up to its version `last`.
    pub fn of(
        profile: &'a Profile,
        materials: &'a Materials,
        lineage: &'a Lineage,
        index: usize,
        last: usize,
    ) -> Vec<Chain<'a>> {
        let own = Chain { profile, materials, lineage, index, last, independent: false };
        let independent = profile.independent.then_some(Chain { independent: true, ..own });
        [own].into_iter().chain(independent).collect()
    }
}

/// Pre-trains whatever the chains lack; what is complete is left alone, what was interrupted goes on.
///
/// On the CPU chains stand side by side, sharing the threads: two small models on a core each are faster than one after the other
/// on two cores. In a log each version gets about this many `lines`.
pub(crate) fn pretrain_chains(mut chains: Vec<Chain>, place: Compute, lines: u64) -> Result<()> {
    chains.sort_by_key(|chain| chain.independent);
    let workers = if place.device.is_cuda() { 1 } else { place.threads.min(chains.len()).max(1) };
    let threads = (place.threads / workers).max(1);
    in_workers(chains, workers, threads, || Ok(()), |(), chain| chain.pretrain(place.device, lines)).map(drop)
}

/// The seed of one pre-training: of `first` (M_0), `independent`, or the name of an upgraded version. No two lineages of a run share one.
/// Worlds of another seed have others; settings of one world's dials share theirs, so that what differs between them is the dial.
fn lineage_seed(profile: &Profile, lineage: usize, purpose: &str) -> u64 {
    let world = if let Source::World(world) = &profile.source { world.seed } else { 0 };
    seed::derive(profile.seed.wrapping_add(world), &format!("lineage {lineage} {purpose}"))
}

/// How one upgrade is pre-trained.
pub(super) fn upgrade_config(profile: &Profile, lineage: usize, name: &str) -> PretrainConfig {
    let seed = lineage_seed(profile, lineage, name);
    PretrainConfig { seed, precision: profile.precision, ..profile.upgrade.clone() }
}

/// The architecture of a profile's models: that of its encoder, else vocabulary of the tokenizer and positions for the longest sequence.
fn architecture(profile: &Profile, materials: &Materials) -> Result<EncoderConfig> {
    let size = match &profile.model {
        Beginning::Encoder(source) => return EncoderConfig::load(source.encoder.join("config.json")),
        Beginning::Untrained(size) => size,
    };
    let (vocabulary, length) = (materials.tokenizer.vocab_size() as i64, profile.initial.max_length as i64);
    Ok(EncoderConfig {
        num_hidden_layers: size.num_hidden_layers,
        num_attention_heads: size.num_attention_heads,
        ..EncoderConfig::tiny(vocabulary, size.hidden_size, length)
    })
}

impl Chain<'_> {
    fn pretrain(&self, device: Device, lines: u64) -> Result<()> {
        let (profile, materials, lineage) = (self.profile, self.materials, self.lineage);
        let fresh =
            |purpose: &str| Version::new(&architecture(profile, materials)?, &materials.tokenizer, self.seed(purpose));
        // A pre-trained encoder is the same for every lineage; what differs are the order and the masks of all that follows.
        let begin = |purpose: &str| match profile.starts_from() {
            None => fresh(purpose),
            Some(source) => Version::load(match (&source.other, purpose) {
                (Some(other), "independent") => other,
                _ => &source.encoder,
            }),
        };
        let make = |name: &str,
                    parent: Option<&str>,
                    corpus: &Corpus,
                    config,
                    purpose: &str,
                    base: &dyn Fn() -> Result<Version>| {
            let stage = Stage { chain: self, name, parent, corpus, device, lines };
            stage.make(config, self.seed(purpose), base)
        };
        if self.independent {
            // M_0's data and budget, but another initialisation and order.
            let base = || begin("independent");
            return make(INDEPENDENT, None, &materials.initial, &profile.initial, "independent", &base);
        }
        if !lineage.has_version(UNTRAINED) {
            let record = VersionRecord { seed: self.seed("first"), ..record("nothing", None) };
            lineage.save_version(UNTRAINED, &fresh("first")?, record)?;
        }
        make("M0", None, &materials.initial, &profile.initial, "first", &|| begin("first"))?;
        for (name, coordinates) in [(PERMUTED, Coordinates::All), (PERMUTED_INNER, Coordinates::Inner)] {
            if !lineage.has_version(name) {
                let permuted = lineage.version("M0")?.permuted(coordinates, self.seed(name))?;
                let record = VersionRecord { seed: self.seed(name), ..record("nothing", Some("M0")) };
                lineage.save_version(name, &permuted, record)?;
            }
        }
        if profile.placebo {
            make(PLACEBO, Some("M0"), &materials.general, &profile.upgrade, PLACEBO, &|| lineage.version("M0"))?;
        }
        for (at, corpus) in materials.upgrades.iter().enumerate().take(self.last) {
            let (parent, name) = (version_name(at), version_name(at + 1));
            make(&name, Some(&parent), corpus, &profile.upgrade, &name, &|| lineage.version(&parent))?;
        }
        Ok(())
    }

    fn seed(&self, purpose: &str) -> u64 {
        lineage_seed(self.profile, self.index, purpose)
    }
}

fn record(corpus: &str, parent: Option<&str>) -> VersionRecord {
    VersionRecord { parent: parent.map(str::to_string), corpus: corpus.to_string(), ..VersionRecord::default() }
}

/// One version of a chain.
struct Stage<'a> {
    chain: &'a Chain<'a>,
    name: &'a str,
    parent: Option<&'a str>,
    corpus: &'a Corpus,
    device: Device,
    /// Of progress in a log.
    lines: u64,
}

impl Stage<'_> {
    fn make(&self, config: &PretrainConfig, seed: u64, base: &dyn Fn() -> Result<Version>) -> Result<()> {
        let Chain { profile, materials, lineage, index, .. } = *self.chain;
        if lineage.has_version(self.name) {
            return Ok(());
        }
        let config = PretrainConfig { seed, precision: profile.precision, ..config.clone() };
        let label = format!("pre-train {} of lineage {index}", self.name);
        let progress = Progress::new(label, config.optimisation.steps).lines(self.lines);
        let checkpoint = lineage.checkpoint_path(self.name);
        let run = pretrain(&base()?, self.corpus, &config, self.device, Some(&checkpoint), &progress)
            .with_context(|| format!("version {} of lineage {index}", self.name))?;
        let mut record = VersionRecord { seed, ..record(&self.corpus.name, self.parent) };
        for domain in &materials.held_out {
            // The masks of the questions are the same for every version.
            let asked = PretrainConfig { seed: profile.seed, ..config.clone() };
            record.held_out.insert(domain.name.clone(), held_out_loss(&run.version, domain, &asked, self.device)?);
        }
        let threads = tch::get_num_threads();
        record.recipe =
            json!({ "pretrain": config, "truncated": run.truncated, "threads": threads, "commit": commit() });
        (record.seconds, record.tokens_per_second) = (run.seconds, run.tokens_per_second);
        lineage.save_version(self.name, &run.version, record)?;
        let loss = run.losses.last().map_or(f64::NAN, |point| point.loss);
        progress.finish(format!("loss {loss:.3} · {:.0} tokens/s", run.tokens_per_second));
        Ok(())
    }
}
