//! The tensors a network computes with: autograd leaves that share a flat buffer's memory, and their rounded copy.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tch::{Kind, Tensor};

pub(crate) use crate::native::Weight;
use crate::params::{Layout, Theta};

/// One leaf per tensor of a [`Theta`]. An in-place update of the flat buffer updates the network.
#[derive(Debug)]
pub(crate) struct Leaves {
    layout: Arc<Layout>,
    tensors: Vec<Tensor>,
    index: HashMap<String, usize>,
    /// The flat buffer of a [`Rounded`].
    rounded: Option<Tensor>,
}

/// A flat buffer in bfloat16: all tensors are rounded in one go, and only when they have changed.
#[derive(Debug)]
pub(crate) struct Rounded {
    exact: Tensor,
    rounded: Tensor,
    /// What libtorch counts up whenever `exact` is written to, as of the last rounding.
    version: Cell<i64>,
}

impl Rounded {
    /// Rounds again if need be. Graphs of before know that their weights have changed, and refuse to go backward.
    pub fn refresh(&self) -> Result<()> {
        let version = self.exact.f_internal_version()?;
        if self.version.get() != version {
            tch::no_grad(|| self.rounded.shallow_clone().f_copy_(&self.exact).map(drop))?;
            self.version.set(version);
        }
        Ok(())
    }
}

impl Leaves {
    pub fn of(theta: &Theta) -> Result<Leaves> {
        let entries = theta.layout().entries();
        let tensors = entries.iter().map(|e| Ok(theta.view(&e.name)?.f_detach()?)).collect::<Result<Vec<_>>>()?;
        let index = entries.iter().enumerate().map(|(at, entry)| (entry.name.clone(), at)).collect();
        Ok(Leaves { layout: theta.layout().clone(), tensors, index, rounded: None })
    }

    /// The same leaves with a rounded copy of `theta`, whose they are. It has to be refreshed before it is used.
    pub fn rounded(&self, theta: &Theta) -> Result<(Leaves, Rounded)> {
        let exact = theta.flat().shallow_clone();
        let rounded = Tensor::f_empty(exact.size(), (Kind::BFloat16, exact.device()))?;
        let tensors = self.tensors.iter().map(Tensor::shallow_clone).collect();
        let (layout, index) = (self.layout.clone(), self.index.clone());
        let leaves = Leaves { layout, tensors, index, rounded: Some(rounded.shallow_clone()) };
        Ok((leaves, Rounded { exact, rounded, version: Cell::new(-1) }))
    }

    pub fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    /// The leaf itself (another handle to it).
    pub fn get(&self, name: &str) -> Result<Tensor> {
        let at = self.index.get(name).with_context(|| format!("the model has no tensor named {name}"))?;
        Ok(self.tensors[*at].shallow_clone())
    }

    /// The leaf and its rounded copy, where there is one.
    pub fn weight(&self, name: &str) -> Result<Weight> {
        let entry = self.layout.find(name)?;
        let place = |flat: &Tensor| flat.f_narrow(0, entry.offset, entry.len)?.f_view(entry.shape.as_slice());
        Ok(Weight { exact: self.get(name)?, rounded: self.rounded.as_ref().map(place).transpose()? })
    }

    /// Marks which leaves are trained.
    pub fn set_trainable(&self, trainable: impl Fn(&str) -> bool) -> Result<()> {
        for (entry, tensor) in self.layout.entries().iter().zip(&self.tensors) {
            let _ = tensor.f_set_requires_grad(trainable(&entry.name))?;
        }
        Ok(())
    }

    /// Names of the trained leaves.
    pub fn trainable(&self) -> Vec<String> {
        let entries = self.layout.entries().iter().zip(&self.tensors);
        entries.filter(|(_, tensor)| tensor.requires_grad()).map(|(entry, _)| entry.name.clone()).collect()
    }

    /// Tensors scale · leaf + offset, through which gradients reach the leaves.
    pub fn affine(&self, scale: f64, offset: &Theta) -> Result<Leaves> {
        self.layout.same_as(offset.layout())?;
        let entries = self.layout.entries().iter().zip(&self.tensors);
        let tensors = entries.map(|(entry, leaf)| Ok(leaf.f_mul_scalar(scale)?.f_add(&offset.view(&entry.name)?)?));
        let tensors = tensors.collect::<Result<Vec<_>>>()?;
        Ok(Leaves { layout: self.layout.clone(), tensors, index: self.index.clone(), rounded: None })
    }

    /// One zeroed buffer that backward passes add the gradients of the trained leaves to; `None` when nothing is trained.
    ///
    /// Autograd adds to an existing gradient in place, so each leaf's is made once and pointed into the buffer.
    pub fn alias_gradients(&self) -> Result<Option<Theta>> {
        let trained: Vec<_> = self.tensors.iter().filter(|tensor| tensor.requires_grad()).collect();
        let Some(first) = trained.first() else { return Ok(None) };
        let gradients = Theta::zeros(self.layout.clone(), first.device())?;
        let sums = trained.iter().map(|tensor| tensor.f_sum(Kind::Float)).collect::<Result<Vec<_>, _>>()?;
        Tensor::f_stack(&sums, 0)?.f_sum(Kind::Float)?.f_backward()?;
        for (entry, tensor) in self.layout.entries().iter().zip(&self.tensors).filter(|(_, t)| t.requires_grad()) {
            let view = gradients.view(&entry.name)?;
            let mut gradient = tensor.f_grad()?;
            gradient.f_set_data(&view)?;
            ensure!(gradient.data_ptr() == view.data_ptr(), "libtorch did not alias the gradient of {}", entry.name);
        }
        Ok(Some(gradients))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::{AdamWUpdate, Moved, fused_adamw};
    use tch::Device;

    const PLACE: (Kind, Device) = (Kind::Float, Device::Cpu);

    #[test]
    fn whatever_writes_to_the_parameters_has_them_rounded_again() -> Result<()> {
        let named = |value: f64| [("a.weight".to_owned(), Tensor::full([4, 4], value, PLACE))];
        let mut theta = Theta::from_named(named(1.0))?;
        let (leaves, rounded) = Leaves::of(&theta)?.rounded(&theta)?;
        let seen = || -> Result<f64> {
            rounded.refresh()?;
            let weight = leaves.weight("a.weight")?.rounded.context("it is rounded")?;
            assert_eq!(weight.kind(), Kind::BFloat16);
            Ok(f64::try_from(weight.to_kind(Kind::Double).mean(Kind::Double))?)
        };
        assert_eq!(seen()?, 1.0);
        theta.set("a.weight", &Tensor::full([4, 4], 2, PLACE))?;
        assert_eq!(seen()?, 2.0);
        theta.copy_from(&Theta::from_named(named(3.0))?)?;
        assert_eq!(seen()?, 3.0);
        let (four, five) = (Theta::from_named(named(4.0))?, Theta::from_named(named(5.0))?);
        theta.write_sum(&[(0.5, &four), (0.4, &five)])?;
        assert_eq!(seen()?, 4.0);
        let [ones, mean, square] = [1.0, 0.0, 0.0].map(|value| Tensor::full([16], value, PLACE));
        let moved = Moved { parameters: theta.flat(), gradients: &ones, mean: &mean, square: &square };
        let update = AdamWUpdate {
            step: &Tensor::ones([], PLACE),
            learning_rate: 1.0,
            beta1: 0.5,
            beta2: 0.5,
            weight_decay: 0.0,
            epsilon: 1e-8,
            grad_scale: None,
            found_inf: &Tensor::zeros([], PLACE),
        };
        fused_adamw(&[moved], &update)?;
        assert_eq!(seen()?, 3.0);
        Ok(())
    }
}
