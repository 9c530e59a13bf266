//! What outdated weights are still good for: on every later version, on the way there, and scaled.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tch::Device;

use super::ends::Tuned;
use crate::display::{Axis, Cell, Column, Field, Figure, Point, Table};
use crate::text::TaskData;
use crate::train::{Evaluation, Scores, evaluate};

/// How answers change between an old and a new model on the same examples. An unchanged accuracy can hide many of both kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flips {
    /// Wrong before, right now.
    pub positive: usize,
    /// Right before, wrong now: what users notice after an upgrade.
    pub negative: usize,
    /// Right both times.
    pub both_right: usize,
    /// Wrong both times.
    pub both_wrong: usize,
}

impl Flips {
    /// Counts, from which examples the old and the new model get right. Errors when they are not the same examples.
    pub fn count(old: &[bool], new: &[bool]) -> Result<Flips> {
        ensure!(
            old.len() == new.len() && !old.is_empty(),
            "flips are counted on the same examples, but there are {} old and {} new answers",
            old.len(),
            new.len()
        );
        let mut flips = Flips::default();
        for pair in old.iter().zip(new) {
            *match pair {
                (false, true) => &mut flips.positive,
                (true, false) => &mut flips.negative,
                (true, true) => &mut flips.both_right,
                (false, false) => &mut flips.both_wrong,
            } += 1;
        }
        Ok(flips)
    }

    /// Examples compared.
    pub fn n(&self) -> usize {
        self.positive + self.negative + self.both_right + self.both_wrong
    }

    /// Negative flips as a share of all examples.
    pub fn negative_rate(&self) -> f64 {
        self.negative as f64 / self.n().max(1) as f64
    }

    /// Positive flips as a share of all examples.
    pub fn positive_rate(&self) -> f64 {
        self.positive as f64 / self.n().max(1) as f64
    }
}

/// Weights of every version on every later one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Triangle {
    /// Names of the versions, oldest first.
    pub versions: Vec<String>,
    /// `scores[i][j − i]`: Δ_i, tuned on version i, applied to version j ≥ i.
    pub scores: Vec<Vec<Scores>>,
    /// `flips[i][j − i]` against version i, where the weights come from.
    pub flips: Vec<Vec<Flips>>,
    /// The majority class's share.
    pub chance: f64,
}

/// Applies Δ_i to every version from i on, untrained; `tuned` are versions in order, each with weights tuned on it.
///
/// Errors: no versions, names that do not match them in number, weights of another layout.
pub fn triangle<S: AsRef<str>>(
    names: &[S],
    tuned: &[Tuned],
    data: &TaskData,
    chance: f64,
    device: Device,
) -> Result<Triangle> {
    ensure!(!tuned.is_empty(), "a triangle needs at least one version");
    ensure!(names.len() == tuned.len(), "{} names do not fit {} versions", names.len(), tuned.len());
    let (mut scores, mut flips) = (Vec::new(), Vec::new());
    for (at, source) in tuned.iter().enumerate() {
        let moved = tuned[at..].iter().map(|target| {
            let moved = Tuned { version: target.version, ..*source };
            evaluate(&moved.model(device)?, data)
        });
        let moved =
            moved.collect::<Result<Vec<_>>>().with_context(|| format!("the weights of {}", names[at].as_ref()))?;
        let right = |evaluation: &Evaluation| evaluation.right(data);
        let own = right(&moved[0]);
        flips.push(moved.iter().map(|one| Flips::count(&own, &right(one))).collect::<Result<_>>()?);
        scores.push(moved.into_iter().map(|evaluation| evaluation.scores).collect());
    }
    Ok(Triangle { versions: names.iter().map(|name| name.as_ref().to_string()).collect(), scores, flips, chance })
}

impl Triangle {
    /// Accuracy by source and target.
    pub fn table(&self) -> Table {
        let caption =
            format!("Accuracy; the diagonal is each version's own. The majority class has {:.3}.", self.chance);
        let mut columns = vec![Column::text("weights tuned on")];
        columns.extend(self.versions.iter().map(|name| Column::number(format!("on {name}"), 3)));
        let mut table = Table::new("triangle", "Weights of every version on every later one", columns).caption(caption);
        for (i, name) in self.versions.iter().enumerate() {
            let empty = std::iter::repeat_n(Cell::Empty(()), i);
            let cells = self.scores[i].iter().map(|scores| Cell::from(scores.accuracy));
            table.push([Cell::from(name.as_str())].into_iter().chain(empty).chain(cells));
        }
        table
    }

    /// Positive and negative flips beside accuracy, a row for each source and target.
    pub fn flips_table(&self) -> Table {
        let columns = vec![
            Column::text("weights tuned on"),
            Column::text("applied to"),
            Column::number("accuracy", 3),
            Column::number("positive flips", 3),
            Column::number("negative flips", 3),
        ];
        let caption =
            "Shares of all texts: wrong on the version of the weights and right here, right there and wrong here.";
        let mut table = Table::new("flips", "How answers change", columns).caption(caption);
        for (i, j) in (0..self.versions.len()).flat_map(|i| (i + 1..self.versions.len()).map(move |j| (i, j))) {
            let (scores, flips) = (self.scores[i][j - i], self.flips[i][j - i]);
            table.push([
                Cell::from(self.versions[i].as_str()),
                self.versions[j].as_str().into(),
                scores.accuracy.into(),
                flips.positive_rate().into(),
                flips.negative_rate().into(),
            ]);
        }
        table
    }

    /// The same as a matrix in colour.
    pub fn figure(&self) -> Figure {
        let row = |i: usize| {
            let before = std::iter::repeat_n(None, i);
            before.chain(self.scores[i].iter().map(|scores| Some(scores.accuracy)))
        };
        let field = Field::new("accuracy", (0..self.versions.len()).map(row)).range(0.0, 1.0).show_values();
        let axis = |label: &str| Axis::new(label).names(self.versions.iter().map(String::as_str));
        let title = "Weights of every version on every later one";
        Figure::field("triangle", title, axis("applied to"), axis("weights tuned on"), field)
            .caption(format!("The diagonal is each version's own. The majority class has {:.3}.", self.chance))
    }
}

/// Scores of α·Δ for several α, and the best of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScaleSearch {
    /// (α, scores on dev), in ascending order of α.
    pub dev: Vec<(f64, Scores)>,
    /// The α with the best dev accuracy (of equals the one nearest to 1).
    pub best: f64,
    /// Test scores at the best α.
    pub test_at_best: Scores,
    /// Test scores at α = 1.
    pub test_at_one: Scores,
    /// The majority class's share on dev.
    pub chance: f64,
}

/// Looks on dev for the α with which α·Δ does best on `version`, and scores it on test. The head is not scaled; of adapters and
/// LoRA the last linear map is, which scales what they add.
///
/// Errors: no α, one that is not finite, weights of another layout.
pub fn scale_search(
    tuned: Tuned,
    alphas: &[f64],
    dev: &TaskData,
    test: &TaskData,
    device: Device,
) -> Result<ScaleSearch> {
    ensure!(!alphas.is_empty(), "there is no α to try");
    let at = |alpha: f64, data: &TaskData| -> Result<Scores> {
        ensure!(alpha.is_finite(), "α is {alpha}");
        let scaled = tuned.adapted.scaled(alpha)?;
        Ok(evaluate(&Tuned { adapted: &scaled, ..tuned }.model(device)?, data)?.scores)
    };
    let mut alphas = alphas.to_vec();
    alphas.sort_by(f64::total_cmp);
    let chance = dev.majority_share();
    let dev = alphas.into_iter().map(|alpha| Ok((alpha, at(alpha, dev)?))).collect::<Result<Vec<_>>>()?;
    let better = |a: &&(f64, Scores), b: &&(f64, Scores)| {
        a.1.accuracy.total_cmp(&b.1.accuracy).then((b.0 - 1.0).abs().total_cmp(&(a.0 - 1.0).abs()))
    };
    let best = dev.iter().max_by(better).context("there is no α to try")?.0;
    Ok(ScaleSearch { best, test_at_best: at(best, test)?, test_at_one: at(1.0, test)?, chance, dev })
}

impl ScaleSearch {
    /// One row an α.
    pub fn table(&self) -> Table {
        let columns = vec![Column::number("α", 2), Column::number("dev accuracy", 3), Column::number("dev loss", 3)];
        let title = "Scaled weights α·Δ on the upgraded version";
        let mut table = Table::new("scale", title, columns).caption(self.caption());
        for (alpha, scores) in &self.dev {
            table.push([Cell::from(*alpha), scores.accuracy.into(), scores.loss.into()]);
        }
        table
    }

    fn caption(&self) -> String {
        format!(
            "The best α on dev is {:.2}; on test it gives {:.3}, α = 1 gives {:.3}.",
            self.best, self.test_at_best.accuracy, self.test_at_one.accuracy
        )
    }

    /// Dev accuracy over α.
    pub fn figure(&self) -> Figure {
        let points = self.dev.iter().map(|(alpha, scores)| Point::new(*alpha, scores.accuracy)).collect();
        let y = Axis::new("dev accuracy").range(0.0, 1.0);
        Figure::lines("scale", "Scaled weights α·Δ on the upgraded version", Axis::new("α"), y)
            .line("dev", points)
            .reference("chance", self.chance)
            .caption(self.caption())
    }
}

/// Outdated weights along the inside of an upgrade.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InsideUpgrade {
    /// (updates of the upgrade's pre-training, scores of the weights applied there); 0 is the old version.
    pub points: Vec<(usize, Scores)>,
    /// Whether the upgrade, done again, ended with the version that was stored, to the bit. On another machine or by other code it
    /// takes the same way but for rounding.
    pub is_stored_version: bool,
    /// The majority class's share.
    pub chance: f64,
}

impl InsideUpgrade {
    /// Scores the weights on one more point of the way.
    pub fn push(&mut self, step: usize, tuned: Tuned, data: &TaskData, device: Device) -> Result<()> {
        self.points.push((step, evaluate(&tuned.model(device)?, data)?.scores));
        Ok(())
    }

    fn caption(&self) -> &'static str {
        match self.is_stored_version {
            true => "The upgrade was done again and ended with the stored version, to the bit.",
            false => "The upgrade was done again; by rounding it did not end with exactly the stored version.",
        }
    }

    /// One row a point.
    pub fn table(&self) -> Table {
        let columns =
            vec![Column::number("updates", 0), Column::number("test accuracy", 3), Column::number("test loss", 3)];
        let title = "Outdated weights along the inside of an upgrade";
        let mut table = Table::new("inside", title, columns).caption(self.caption());
        for (step, scores) in &self.points {
            table.push([Cell::from(*step), scores.accuracy.into(), scores.loss.into()]);
        }
        table
    }

    /// Test accuracy over the updates of the upgrade.
    pub fn figure(&self) -> Figure {
        let points = self.points.iter().map(|(step, scores)| Point::new(*step as f64, scores.accuracy)).collect();
        let x = Axis::new("updates of the upgrade's pre-training");
        let title = "Outdated weights along the inside of an upgrade";
        Figure::lines("inside", title, x, Axis::new("test accuracy").range(0.0, 1.0))
            .line("Δ applied, untrained", points)
            .reference("chance", self.chance)
            .caption(self.caption())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flips_are_counted_by_kind() -> Result<()> {
        let (old, new) = ([true, true, true, false, false], [true, false, true, true, false]);
        let flips = Flips::count(&old, &new)?;
        assert_eq!(flips, Flips { positive: 1, negative: 1, both_right: 2, both_wrong: 1 });
        assert_eq!((flips.n(), flips.negative_rate(), flips.positive_rate()), (5, 0.2, 0.2));
        assert!(Flips::count(&old, &new[1..]).unwrap_err().to_string().contains("5 old and 4 new"));
        assert!(Flips::count(&[], &[]).is_err());
        Ok(())
    }
}
