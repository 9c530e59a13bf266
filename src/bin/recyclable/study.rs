//! `recyclable study`: what `reproduce` does not do by default, on the versions of a finished run.

mod perform;

use std::path::PathBuf;

use clap::Subcommand;
use recyclable::analysis::Route;
use recyclable::device::Precision;

pub use perform::run;

/// Look closer at a finished run: paths, curves, planes, heads, distances, the inside of an upgrade, the world's dial
///
/// Versions are named M0, M1, …, IND, PERM, their weights coupled to M_0's where the run has such ones; M1+uncoupled are those that are
/// not, M1+recycled those started from Δ_0 (where the run recycled to that version), M1+seed1 those of another seed. Tables are printed; figures (SVG and PNG) and numbers (JSON) go to a folder in RUN/studies, or to --out. A run
/// of real text names its data folder as it was called: study it from the same working directory.
#[derive(clap::Args)]
pub struct Study {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Args)]
struct Common {
    /// The folder of a run of `reproduce`
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// A task of the run [default: its first]
    #[arg(long)]
    task: Option<String>,
    /// A tuning method of the run [default: its first]
    #[arg(long)]
    method: Option<String>,
    /// Which of the run's seeds, from 0
    #[arg(long, default_value_t = 0)]
    seed: usize,
    /// Which of the run's lineages, from 0
    #[arg(long, default_value_t = 0)]
    lineage: usize,
    /// Where figures and numbers go [default: RUN/studies/TASK.METHOD.SEED.LINEAGE]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// cpu, cuda, cuda:N or auto; RECYCLABLE_DEVICE by default, else cpu
    #[arg(long)]
    device: Option<String>,
    /// Threads; every core by default
    #[arg(long)]
    threads: Option<usize>,
}

#[derive(Subcommand)]
enum What {
    /// Weights of every version on every later one, with negative flips
    Triangle(Common),
    /// Outdated weights along the inside of an upgrade (its pre-training is done again)
    Inside {
        #[command(flatten)]
        common: Common,
        /// The number of the upgraded version
        #[arg(long, default_value_t = 1)]
        to: usize,
        /// Moments of the upgrade, besides its start
        #[arg(long, default_value_t = 10)]
        points: usize,
    },
    /// Scaled weights α·Δ_0 on a version, the best α by line search on dev
    Scale {
        #[command(flatten)]
        common: Common,
        /// The version that the weights are applied to
        #[arg(long, default_value = "M1")]
        to: String,
        /// The α to try
        #[arg(long, value_delimiter = ',', allow_hyphen_values = true, default_value = "0,0.25,0.5,0.75,1,1.25,1.5,2")]
        alphas: Vec<f64>,
    },
    /// The straight path between two tuned versions
    Path {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        ends: Ends,
        /// Points along a path, ends included
        #[arg(long, default_value_t = recyclable::analysis::DEFAULT_POINTS)]
        points: usize,
    },
    /// A trained curve between two tuned versions, beside the straight path
    Curve {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        ends: Ends,
        /// Points along a path, ends included
        #[arg(long, default_value_t = recyclable::analysis::DEFAULT_POINTS)]
        points: usize,
        /// bezier or chain
        #[arg(long, value_parser = crate::spec::named::<Route>, default_value = "bezier")]
        route: Route,
        /// Updates of the control point
        #[arg(long, default_value_t = 200)]
        steps: usize,
        /// Peak learning rate
        #[arg(long, default_value_t = 1e-3)]
        learning_rate: f64,
    },
    /// Accuracy and loss over the plane through three tuned versions
    Plane {
        #[command(flatten)]
        common: Common,
        /// Three versions: M0,M1,PERM
        #[arg(long, value_delimiter = ',', default_value = "M0,M1,PERM")]
        through: Vec<String>,
        /// Points along each side
        #[arg(long, default_value_t = 21)]
        resolution: usize,
        /// Dev texts at most
        #[arg(long, default_value_t = 200)]
        texts: usize,
    },
    /// Attention heads and hidden states of two tuned versions
    Heads {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        ends: Ends,
        /// Dev texts at most
        #[arg(long, default_value_t = 200)]
        texts: usize,
    },
    /// Where the heads of a tuned version look in a sentence
    Attention {
        #[command(flatten)]
        common: Common,
        /// The version
        #[arg(long, default_value = "M0")]
        version: String,
        /// The sentence [default: the task's first dev text]
        #[arg(long)]
        text: Option<String>,
        /// The layer, from 0
        #[arg(long, default_value_t = 0)]
        layer: usize,
        /// The head, from 0
        #[arg(long, default_value_t = 0)]
        head: usize,
    },
    /// Distances between two versions, and the angle between Δ and the upgrade
    Distance {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        ends: Ends,
    },
    /// Where outdated weights keep working and where they are overtaken, over two dials of the built-in world: worlds made and
    /// pre-trained anew for every setting
    Sweep {
        /// Where everything goes
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// A profile as JSON (see `reproduce --show`) [default: world]
        #[arg(long, value_name = "FILE")]
        spec: Option<PathBuf>,
        /// Shares of the new domain's concepts that the general domain does not have [default: 0.25,0.5,0.75,1]
        #[arg(long, value_delimiter = ',')]
        distances: Vec<f64>,
        /// Shares of the content words of dev and test texts that no training text has [default: 0,0.3,0.9]
        #[arg(long, value_delimiter = ',')]
        new_words: Vec<f64>,
        /// Tasks of the world's first upgrade [default: bio_topic,bio_relation]
        #[arg(long, value_delimiter = ',')]
        tasks: Vec<String>,
        /// Lineages of each setting [default: 3]
        #[arg(long)]
        lineages: Option<usize>,
        /// Seeds of each lineage [default: 1]
        #[arg(long)]
        seeds: Option<usize>,
        /// fp32, bf16 or auto [default: the profile's]
        #[arg(long)]
        precision: Option<Precision>,
        /// cpu, cuda, cuda:N or auto; RECYCLABLE_DEVICE by default, else cpu
        #[arg(long)]
        device: Option<String>,
        /// Threads; every core by default
        #[arg(long)]
        threads: Option<usize>,
    },
}

#[derive(clap::Args)]
struct Ends {
    /// The first version
    #[arg(long, default_value = "M0")]
    from: String,
    /// The second version
    #[arg(long, default_value = "M1")]
    to: String,
}
