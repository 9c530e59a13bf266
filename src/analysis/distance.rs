//! How far apart two points, or two directions, of parameter space lie: in all, and part by part.
//!
//! As `cal_dist.py` of the paper's code measures it (paper, section 6): L2 = ‖a − b‖, RMS = √(‖a − b‖² / n) ("average L2"),
//! cosine = ⟨a, b⟩ / (‖a‖·‖b‖). Integer buffers, which swamped its cosine, do not exist here.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::display::{Cell, Column, Table};
use crate::params::{Delta, Part, Theta};

/// Elements that are cast to float64 at a time.
const CHUNK: i64 = 1 << 20;

/// Distance and angle of two vectors a and b of n parameters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distance {
    /// n
    pub parameters: i64,
    /// ‖a‖ and ‖b‖
    pub norms: [f64; 2],
    /// ‖a − b‖
    pub l2: f64,
    /// √(‖a − b‖² / n): how far a parameter moved, whatever their number.
    pub rms: f64,
    /// Cosine of the angle between a and b; `None` where one of them is zero.
    pub cosine: Option<f64>,
    /// That angle, 0 to 180.
    pub degrees: Option<f64>,
}

/// The distance within one part of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartDistance {
    /// `embeddings`, `layer 0`, `layer 1`, …, `rest`
    pub part: String,
    /// Its distance.
    #[serde(flatten)]
    pub distance: Distance,
}

/// Distances of two parameter vectors: Σ l2² over the parts is l2² of the whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distances {
    /// Over all parameters.
    pub whole: Distance,
    /// Embeddings, encoder layers, and the rest (heads and the like): those that exist.
    pub parts: Vec<PartDistance>,
}

/// Distances between two versions (`&Theta`) or two directions (`&Delta` dereferences to it), accumulated in float64.
///
/// Errors: other layouts, numbers that are not finite (the tensor is named).
pub fn distance(a: &Theta, b: &Theta) -> Result<Distances> {
    a.layout().same_as(b.layout()).context("cannot measure the distance of these parameters")?;
    // Parts in the order of the model: embeddings, layers, rest.
    let mut parts: Vec<(Part, Sums)> = Vec::new();
    for entry in a.layout().entries() {
        let (first, second) = (a.view(&entry.name)?, b.view(&entry.name)?);
        let sums = Sums::of(&first, &second).with_context(|| format!("tensor {}", entry.name))?;
        let part = if entry.part == Part::Pooler { Part::Other } else { entry.part };
        match parts.binary_search_by_key(&part, |&(known, _)| known) {
            Ok(at) => parts[at].1.add(&sums),
            Err(at) => parts.insert(at, (part, sums)),
        }
    }
    let mut whole = Sums::default();
    parts.iter().for_each(|(_, sums)| whole.add(sums));
    let parts = parts.iter().map(|(part, sums)| PartDistance { part: name(*part), distance: sums.distance() });
    Ok(Distances { whole: whole.distance(), parts: parts.collect() })
}

/// The angle between what tuning changed, Δ, and what the upgrade changed, M_{i+1} − M_i, with their distances: `norms[0]` is ‖Δ‖,
/// `norms[1]` the length of the upgrade. Unrelated directions of n parameters have a cosine of about 0 ± 1/√n.
///
/// Errors as [`distance`].
pub fn angle_to_upgrade(delta: &Delta, old: &Theta, new: &Theta) -> Result<Distances> {
    distance(delta, &*(new - old)?)
}

impl Distances {
    /// The distance within a part, by its name.
    pub fn part(&self, name: &str) -> Option<&Distance> {
        self.parts.iter().find(|part| part.part == name).map(|part| &part.distance)
    }

    /// One row a part, and one for the whole.
    pub fn table(&self) -> Table {
        let columns = vec![
            Column::text("part"),
            Column::number("parameters", 0),
            Column::number("‖a‖", 3),
            Column::number("‖b‖", 3),
            Column::number("L2 = ‖a − b‖", 3),
            Column::number("RMS", 5),
            Column::number("cosine", 4),
            Column::number("angle (°)", 1),
        ];
        let mut table = Table::new("distances", "Distances in parameter space", columns)
            .caption("RMS is the L2 distance divided by √parameters.");
        let parts = self.parts.iter().map(|part| (part.part.as_str(), &part.distance));
        for (name, d) in parts.chain([("whole", &self.whole)]) {
            let mut row = vec![Cell::from(name), Cell::from(d.parameters as usize)];
            row.extend([d.norms[0], d.norms[1], d.l2, d.rms].map(Cell::from));
            row.extend([d.cosine, d.degrees].map(Cell::from));
            table.push(row);
        }
        table
    }
}

/// What a part is called: heads and the like are the rest.
fn name(part: Part) -> String {
    match part {
        Part::Embeddings => "embeddings".to_string(),
        Part::Layer(layer) => format!("layer {layer}"),
        Part::Pooler | Part::Other => "rest".to_string(),
    }
}

/// n, ‖a‖², ‖b‖², ‖a − b‖², ⟨a, b⟩
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    n: i64,
    a: f64,
    b: f64,
    difference: f64,
    dot: f64,
}

impl Sums {
    fn of(a: &Tensor, b: &Tensor) -> Result<Sums> {
        let (a, b) = (a.f_reshape([-1])?, b.f_reshape([-1])?.f_to_device(a.device())?);
        let n = a.size()[0];
        let mut sums = Sums { n, ..Sums::default() };
        for start in (0..n).step_by(CHUNK as usize) {
            let cast = |x: &Tensor| x.f_narrow(0, start, CHUNK.min(n - start))?.f_to_kind(Kind::Double);
            let (a, b) = (cast(&a)?, cast(&b)?);
            let difference = a.f_sub(&b)?;
            let dot = |x: &Tensor, y: &Tensor| -> Result<f64> { Ok(f64::try_from(x.f_dot(y)?)?) };
            sums.a += dot(&a, &a)?;
            sums.b += dot(&b, &b)?;
            sums.difference += dot(&difference, &difference)?;
            sums.dot += dot(&a, &b)?;
        }
        ensure!(
            (sums.a + sums.b).is_finite(),
            "it holds numbers that are not finite: these parameters are damaged, tune or load them again"
        );
        Ok(sums)
    }

    fn add(&mut self, other: &Sums) {
        self.n += other.n;
        self.a += other.a;
        self.b += other.b;
        self.difference += other.difference;
        self.dot += other.dot;
    }

    fn distance(&self) -> Distance {
        // √a·√b rather than √(a·b), which is 0 for tiny vectors; rounding may leave a hair more than 1.
        let norms = [self.a.sqrt(), self.b.sqrt()];
        let cosine = (norms[0] > 0.0 && norms[1] > 0.0).then(|| (self.dot / norms[0] / norms[1]).clamp(-1.0, 1.0));
        Distance {
            parameters: self.n,
            norms,
            l2: self.difference.sqrt(),
            rms: (self.difference / self.n.max(1) as f64).sqrt(),
            cosine,
            degrees: cosine.map(|cosine| cosine.acos().to_degrees()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::inputs::testing;
    use crate::params::{Layout, Slot};

    fn theta(tensors: &[(&str, &[f32])]) -> Result<Theta> {
        Theta::from_named(tensors.iter().map(|(name, numbers)| (name.to_string(), Tensor::from_slice(numbers))))
    }

    /// Numbers that belong somewhere in a model.
    fn placed(tensors: &[(Part, &[f32])]) -> Result<Theta> {
        let slot = |(part, numbers): &(Part, &[f32])| {
            let shape = vec![numbers.len() as i64];
            Slot { part: *part, ..Slot::from((format!("{part:?}"), shape)) }
        };
        let mut theta = Theta::zeros(std::sync::Arc::new(Layout::new(tensors.iter().map(slot))?), tch::Device::Cpu)?;
        for (part, numbers) in tensors {
            theta.set(&format!("{part:?}"), &Tensor::from_slice(numbers))?;
        }
        Ok(theta)
    }

    fn close(got: f64, wanted: f64) {
        assert!((got - wanted).abs() < 1e-12 * wanted.abs().max(1.0), "{got} should be {wanted}");
    }

    #[test]
    fn distances_are_those_computed_by_hand() -> Result<()> {
        let (words, layer, head) = (Part::Embeddings, Part::Layer(10), Part::Other);
        let a = placed(&[(head, &[0.0]), (layer, &[3.0, 0.0]), (words, &[1.0, 2.0, 2.0])])?;
        let b = placed(&[(head, &[2.0]), (layer, &[0.0, 4.0]), (words, &[1.0, 2.0, 2.0])])?;
        let distances = distance(&a, &b)?;
        let names: Vec<&str> = distances.parts.iter().map(|part| part.part.as_str()).collect();
        assert_eq!(names, ["embeddings", "layer 10", "rest"]);
        let part = |name: &str| distances.part(name).copied().context("no such part");
        let (same, right_angle, zero) = (part("embeddings")?, part("layer 10")?, part("rest")?);
        assert_eq!((same.l2, same.norms, same.cosine, same.degrees), (0.0, [3.0, 3.0], Some(1.0), Some(0.0)));
        assert_eq!((right_angle.l2, right_angle.norms, right_angle.cosine), (5.0, [3.0, 4.0], Some(0.0)));
        close(right_angle.rms, 12.5_f64.sqrt());
        close(right_angle.degrees.context("an angle")?, 90.0);
        assert_eq!((zero.l2, zero.rms, zero.cosine, zero.degrees), (2.0, 2.0, None, None));
        close(distances.whole.l2, 29_f64.sqrt());
        close(distances.whole.rms, (29.0_f64 / 6.0).sqrt());
        close(distances.whole.cosine.context("a cosine")?, 9.0 / (18.0_f64 * 29.0).sqrt());
        assert_eq!(distances.whole.parameters, 6);
        Ok(())
    }

    #[test]
    fn parts_add_up_and_the_whole_is_what_vector_arithmetic_gives() -> Result<()> {
        let (a, b) =
            (testing::version(&testing::config(), 1)?.backbone, testing::version(&testing::config(), 2)?.backbone);
        let distances = distance(&a, &b)?;
        assert_eq!(distances.parts.len(), 3);
        close(distances.parts.iter().map(|part| part.distance.l2.powi(2)).sum::<f64>().sqrt(), distances.whole.l2);
        assert_eq!(distances.parts.iter().map(|part| part.distance.parameters).sum::<i64>(), a.num_parameters());
        assert_eq!(distances.whole.parameters, a.num_parameters());
        assert!((distances.whole.l2 - (&a - &b)?.norm()?).abs() < 1e-5);
        assert!((distances.whole.cosine.context("a cosine")? - a.cosine(&b)?).abs() < 1e-6);
        assert!((distance(&a.scale(1e-15)?, &b)?.whole.cosine.context("tiny")? - a.cosine(&b)?).abs() < 1e-6);
        Ok(())
    }

    #[test]
    fn a_delta_has_an_angle_to_the_upgrade() -> Result<()> {
        let w = "w";
        let (old, new) = (theta(&[(w, &[1.0, 1.0])])?, theta(&[(w, &[3.0, 1.0])])?);
        let delta = |x: [f32; 2]| theta(&[(w, &x)]).map(Delta::new);
        for (direction, degrees) in [([1.0, 0.0], 0.0), ([1.0, 1.0], 45.0), ([0.0, -2.0], 90.0), ([-5.0, 0.0], 180.0)] {
            let angle = angle_to_upgrade(&delta(direction)?, &old, &new)?.whole;
            close(angle.degrees.context("an angle")?, degrees);
            assert_eq!(angle.norms[1], 2.0);
        }
        assert_eq!(angle_to_upgrade(&delta([1.0, 1.0])?, &old, &old)?.whole.degrees, None);
        let between = distance(&*delta([1.0, 0.0])?, &*delta([0.0, 1.0])?)?;
        close(between.whole.l2, 2_f64.sqrt());
        Ok(())
    }

    #[test]
    fn other_layouts_and_damaged_numbers_are_refused_by_name() -> Result<()> {
        let (a, b) = (theta(&[("w", &[1.0, 2.0])])?, theta(&[("w", &[1.0])])?);
        assert!(format!("{:#}", distance(&a, &b).unwrap_err()).contains("w is [2] here and [1] there"));
        let broken = theta(&[("w", &[1.0, f32::INFINITY])])?;
        assert!(format!("{:#}", distance(&a, &broken).unwrap_err()).contains("tensor w"));
        Ok(())
    }

    #[test]
    fn distances_print_and_come_back_from_json() -> Result<()> {
        let a = testing::version(&testing::config(), 1)?.backbone;
        let distances = distance(&a, &a.scale(0.0)?)?;
        let text = distances.table().to_text();
        assert!(text.contains("embeddings") && text.contains("layer 1") && text.contains("whole"), "{text}");
        let json = serde_json::to_value(&distances)?;
        assert_eq!(
            (&json["parts"][0]["part"], &json["whole"]["cosine"]),
            (&"embeddings".into(), &serde_json::Value::Null)
        );
        assert_eq!(serde_json::from_value::<Distances>(json)?, distances);
        Ok(())
    }
}
