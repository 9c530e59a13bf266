//! The tensors a network computes with: autograd leaves that share a flat buffer's memory.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tch::{Kind, Tensor};

use crate::params::{Layout, Theta};

/// One leaf per tensor of a [`Theta`]. An in-place update of the flat buffer updates the network.
#[derive(Debug)]
pub(crate) struct Leaves {
    layout: Arc<Layout>,
    tensors: Vec<Tensor>,
    index: HashMap<String, usize>,
}

impl Leaves {
    pub fn of(theta: &Theta) -> Result<Leaves> {
        let entries = theta.layout().entries();
        let tensors = entries.iter().map(|e| Ok(theta.view(&e.name)?.f_detach()?)).collect::<Result<Vec<_>>>()?;
        let index = entries.iter().enumerate().map(|(at, entry)| (entry.name.clone(), at)).collect();
        Ok(Leaves { layout: theta.layout().clone(), tensors, index })
    }

    pub fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    /// The leaf itself (another handle to it).
    pub fn get(&self, name: &str) -> Result<Tensor> {
        let at = self.index.get(name).with_context(|| format!("the model has no tensor named {name}"))?;
        Ok(self.tensors[*at].shallow_clone())
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
        Ok(Leaves { layout: self.layout.clone(), tensors, index: self.index.clone() })
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
