//! Named tensors over one contiguous flat buffer.

use std::borrow::Cow;
use std::ops::{Add, Sub};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use regex::Regex;
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use super::{Delta, Entry, Layout, Slot};

/// A point in parameter space: named tensors over one flat buffer, laid out by a [`Layout`].
///
/// Cloning copies the numbers. Only a model hands out tensors that share them.
#[derive(Debug)]
pub struct Theta {
    layout: Arc<Layout>,
    flat: Tensor,
}

impl Theta {
    /// All zeros, in `f32`.
    pub fn zeros(layout: Arc<Layout>, device: Device) -> Result<Theta> {
        let flat = Tensor::f_zeros([layout.buffer_len()], (Kind::Float, device))?;
        Ok(Theta { layout, flat })
    }

    /// A point made of these tensors, which are copied and cast to `f32`; the layout follows their order.
    pub fn from_named(tensors: impl IntoIterator<Item = (String, Tensor)>) -> Result<Theta> {
        Theta::from_slots(tensors.into_iter().map(|(name, tensor)| (Slot::from((name, tensor.size())), tensor)))
    }

    /// The same, of tensors of which more is known.
    fn from_slots(tensors: impl IntoIterator<Item = (Slot, Tensor)>) -> Result<Theta> {
        let (slots, tensors): (Vec<Slot>, Vec<Tensor>) = tensors.into_iter().unzip();
        let device = tensors.first().map_or(Device::Cpu, Tensor::device);
        let mut theta = Theta::zeros(Arc::new(Layout::new(slots.iter().cloned())?), device)?;
        for (slot, tensor) in slots.iter().zip(&tensors) {
            theta.set(&slot.name, tensor)?;
        }
        Ok(theta)
    }

    /// Wraps a flat buffer that fits `layout`.
    pub(crate) fn from_flat(layout: Arc<Layout>, flat: Tensor) -> Theta {
        debug_assert_eq!(flat.size(), [layout.buffer_len()]);
        Theta { layout, flat }
    }

    /// Names, shapes and places.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The buffer itself, padding included: `(buffer_len)`.
    pub(crate) fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// The tensor with this name, sharing memory with the buffer.
    pub(crate) fn view(&self, name: &str) -> Result<Tensor> {
        let entry = self.layout.find(name)?;
        Ok(self.flat.f_narrow(0, entry.offset, entry.len)?.f_view(entry.shape.as_slice())?)
    }

    /// A copy of the tensor with this name.
    pub fn get(&self, name: &str) -> Result<Tensor> {
        Ok(self.view(name)?.f_detach_copy()?)
    }

    /// Overwrites the tensor with this name; shapes must agree.
    pub fn set(&mut self, name: &str, value: &Tensor) -> Result<()> {
        let mut view = self.view(name)?;
        if view.size() != value.size() {
            bail!("tensor {name} is {:?}, the new value {:?}", view.size(), value.size());
        }
        tch::no_grad(|| view.f_copy_(value)).with_context(|| format!("cannot set tensor {name}"))?;
        Ok(())
    }

    /// Parameters, padding excluded.
    pub fn num_parameters(&self) -> i64 {
        self.layout.num_parameters()
    }

    /// Where the numbers lie.
    pub fn device(&self) -> Device {
        self.flat.device()
    }

    /// A copy on another device.
    pub fn to_device(&self, device: Device) -> Result<Theta> {
        let flat = self.flat.f_to_device_(device, Kind::Float, false, true)?;
        Ok(Theta::from_flat(self.layout.clone(), flat))
    }

    /// A copy.
    pub fn try_clone(&self) -> Result<Theta> {
        Ok(Theta::from_flat(self.layout.clone(), self.flat.f_detach_copy()?))
    }

    /// Takes over the numbers of `other`, in place.
    pub fn copy_from(&mut self, other: &Theta) -> Result<()> {
        self.layout.same_as(&other.layout)?;
        tch::no_grad(|| self.flat.f_copy_(&other.flat))?;
        Ok(())
    }

    /// factor · θ
    pub fn scale(&self, factor: f64) -> Result<Theta> {
        Ok(Theta::from_flat(self.layout.clone(), self.flat.f_mul_scalar(factor)?))
    }

    /// The straight path (1 − μ)·self + μ·other, at μ.
    pub fn lerp(&self, other: &Theta, mu: f64) -> Result<Theta> {
        self.layout.same_as(&other.layout)?;
        Ok(Theta::from_flat(self.layout.clone(), self.flat.f_lerp(&other.flat, mu)?))
    }

    /// Overwrites the numbers with Σ weight · θ over `terms`, piece by piece, so that a path of many points needs one buffer.
    ///
    /// Errors when a term has another layout.
    pub fn write_sum(&mut self, terms: &[(f64, &Theta)]) -> Result<()> {
        const PIECE: i64 = 1 << 18;
        for (_, theta) in terms {
            self.layout.same_as(&theta.layout)?;
        }
        let length = self.layout.buffer_len();
        tch::no_grad(|| {
            for start in (0..length).step_by(PIECE as usize) {
                let piece = |flat: &Tensor| flat.f_narrow(0, start, PIECE.min(length - start));
                let mut target = piece(&self.flat)?.f_zero_()?;
                for (weight, theta) in terms {
                    let _ = target.f_add_(&piece(&theta.flat)?.f_mul_scalar(*weight)?)?;
                }
            }
            Ok(())
        })
    }

    /// ⟨self, other⟩, accumulated in double precision.
    pub fn dot(&self, other: &Theta) -> Result<f64> {
        self.layout.same_as(&other.layout)?;
        let product = self.flat.f_mul(&other.flat)?.f_sum(Kind::Double)?;
        Ok(f64::try_from(product)?)
    }

    /// ‖self‖₂, accumulated in double precision.
    pub fn norm(&self) -> Result<f64> {
        Ok(f64::try_from(self.flat.f_norm_scalaropt_dtype(2.0, Kind::Double)?)?)
    }

    /// ⟨a, b⟩ / (‖a‖·‖b‖). Errors when one of them is all zeros: the angle is undefined.
    pub fn cosine(&self, other: &Theta) -> Result<f64> {
        let (a, b) = (self.norm()?, other.norm()?);
        if a == 0.0 || b == 0.0 {
            bail!("the angle to a vector of zeros is undefined");
        }
        Ok(self.dot(other)? / (a * b))
    }

    /// The tensors whose names match `pattern` (a regular expression), copied. Errors when none does.
    pub fn select(&self, pattern: &str) -> Result<Theta> {
        let regex = Regex::new(pattern).with_context(|| format!("{pattern:?} is not a regular expression"))?;
        let chosen = self.part(|entry| regex.is_match(&entry.name))?;
        if chosen.layout.entries().is_empty() {
            bail!("no tensor name matches {pattern:?}");
        }
        Ok(chosen)
    }

    /// The tensors that are `wanted`, copied; none where none is.
    pub(crate) fn part(&self, wanted: impl Fn(&Entry) -> bool) -> Result<Theta> {
        let chosen = self.layout.entries().iter().filter(|entry| wanted(entry));
        let chosen = chosen.map(|entry| Ok((entry.slot(), self.view(&entry.name)?))).collect::<Result<Vec<_>>>()?;
        Theta::from_slots(chosen)
    }

    /// Whether every number is finite.
    pub fn is_finite(&self) -> Result<bool> {
        Ok(bool::try_from(self.flat.f_isfinite()?.f_all()?)?)
    }

    /// The bytes of one tensor, little-endian `f32`; on the CPU they are those in the buffer.
    pub(crate) fn bytes(&self, name: &str) -> Result<Cow<'_, [u8]>> {
        let (entry, length) = (self.layout.find(name)?, self.layout.find(name)?.len as usize);
        if self.flat.device() == Device::Cpu && cfg!(target_endian = "little") {
            let start = self.flat.data_ptr().cast::<f32>();
            // SAFETY: the layout places `length` elements from `offset` on inside the buffer, one contiguous `f32` tensor on the CPU
            // that lives as long as `self`, and what is borrowed from `self` is not written to meanwhile.
            let numbers =
                unsafe { std::slice::from_raw_parts(start.add(entry.offset as usize).cast::<u8>(), 4 * length) };
            return Ok(Cow::Borrowed(numbers));
        }
        let tensor = self.view(name)?.f_to_device(Device::Cpu)?;
        let mut bytes = vec![0_u8; length * 4];
        tensor.f_copy_data_u8(&mut bytes, length)?;
        Ok(Cow::Owned(bytes))
    }

    /// SHA-256 of names, shapes and bytes, in the order of the names: equal exactly when the models are. 32 hex digits.
    pub fn fingerprint(&self) -> Result<String> {
        let mut names: Vec<_> = self.layout.entries().iter().collect();
        names.sort_by(|a, b| a.name.cmp(&b.name));
        let mut hash = Sha256::new();
        for entry in names {
            hash.update(format!("{}{:?}F32\n", entry.name, entry.shape));
            hash.update(self.bytes(&entry.name)?);
        }
        Ok(hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
    }
}

/// θ_tuned − θ_base = Δ
impl Sub for &Theta {
    type Output = Result<Delta>;

    fn sub(self, base: &Theta) -> Result<Delta> {
        self.layout.same_as(&base.layout).context("cannot take the difference of these models")?;
        Ok(Delta::new(Theta::from_flat(self.layout.clone(), self.flat.f_sub(&base.flat)?)))
    }
}

/// θ ⊕ Δ
impl Add<&Delta> for &Theta {
    type Output = Result<Theta>;

    fn add(self, delta: &Delta) -> Result<Theta> {
        self.layout.same_as(delta.layout()).context("cannot apply this difference to this model")?;
        Ok(Theta::from_flat(self.layout.clone(), self.flat.f_add(delta.flat())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn theta(w: [f32; 3], b: f32) -> Theta {
        let tensors = [("w".to_string(), Tensor::from_slice(&w)), ("b.bias".to_string(), Tensor::from_slice(&[b]))];
        Theta::from_named(tensors).unwrap()
    }

    #[test]
    fn a_delta_moves_another_base_by_the_same_vector() -> Result<()> {
        let (m0, tuned, m1) = (theta([1., 2., 3.], 0.), theta([2., 2., 1.], 5.), theta([10., 20., 30.], 1.));
        let delta = (&tuned - &m0)?;
        let recycled = (&m1 + &delta)?;
        assert_eq!(Vec::<f32>::try_from(recycled.get("w")?)?, [11., 20., 28.]);
        assert_eq!(Vec::<f32>::try_from(recycled.get("b.bias")?)?, [6.]);
        assert_eq!((&m0 + &delta)?.fingerprint()?, tuned.fingerprint()?);
        Ok(())
    }

    #[test]
    fn norms_dots_and_angles_ignore_the_padding() -> Result<()> {
        let (a, b) = (theta([1., 2., 2.], 4.), theta([2., 0., 1.], 0.));
        assert_eq!((a.norm()?, a.dot(&b)?), (5.0, 4.0));
        assert!((a.cosine(&b)? - 4.0 / (5.0 * 5.0_f64.sqrt())).abs() < 1e-12);
        assert!(a.cosine(&theta([0.; 3], 0.)).unwrap_err().to_string().contains("undefined"));
        Ok(())
    }

    #[test]
    fn the_path_between_two_points_is_straight() -> Result<()> {
        let (a, b) = (theta([0., 0., 4.], 1.), theta([4., 0., 0.], 3.));
        assert_eq!(Vec::<f32>::try_from(a.lerp(&b, 0.25)?.get("w")?)?, [1., 0., 3.]);
        assert_eq!(a.lerp(&b, 1.0)?.fingerprint()?, b.fingerprint()?);
        Ok(())
    }

    #[test]
    fn a_weighted_sum_is_written_over_what_was_there() -> Result<()> {
        let (a, b, c) = (theta([1., 2., 3.], 4.), theta([0., 10., 0.], 0.), theta([0., 0., 100.], 1.));
        let mut sum = theta([9.; 3], 9.);
        sum.write_sum(&[(2.0, &a), (-1.0, &b), (0.5, &c)])?;
        assert_eq!(Vec::<f32>::try_from(sum.get("w")?)?, [2., -6., 56.]);
        assert_eq!(Vec::<f32>::try_from(sum.get("b.bias")?)?, [8.5]);
        sum.write_sum(&[(1.0, &a), (0.0, &b)])?;
        assert_eq!(sum.fingerprint()?, a.fingerprint()?);
        Ok(())
    }

    #[test]
    fn a_fingerprint_depends_on_names_shapes_and_numbers_not_on_order() -> Result<()> {
        let named = |pairs: [(&str, Tensor); 2]| Theta::from_named(pairs.map(|(name, t)| (name.to_string(), t)));
        let (x, y) = (Tensor::from_slice(&[1f32, 2.]), Tensor::from_slice(&[3f32]));
        let print = named([("x", x.copy()), ("y", y.copy())])?.fingerprint()?;
        assert_eq!(print, named([("y", y.copy()), ("x", x.copy())])?.fingerprint()?);
        assert_ne!(print, named([("x", x.copy() + 1e-6), ("y", y.copy())])?.fingerprint()?);
        assert_ne!(print, named([("x", x.view([2, 1])), ("y", y.copy())])?.fingerprint()?);
        assert_ne!(print, named([("z", x.copy()), ("y", y)])?.fingerprint()?);
        Ok(())
    }

    #[test]
    fn a_clone_does_not_share_memory_and_a_selection_neither() -> Result<()> {
        let a = theta([1., 2., 3.], 4.);
        let (mut copy, mut part) = (a.try_clone()?, a.select("^w$")?);
        copy.set("w", &Tensor::from_slice(&[9f32; 3]))?;
        part.set("w", &Tensor::from_slice(&[9f32; 3]))?;
        assert_eq!(Vec::<f32>::try_from(a.get("w")?)?, [1., 2., 3.]);
        assert!(a.select("nothing").is_err() && part.get("b.bias").is_err());
        Ok(())
    }
}
