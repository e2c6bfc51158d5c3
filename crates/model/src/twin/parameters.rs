//! Weights by part and canonical name.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use skein_weights::profile::TensorSpec;
use skein_weights::source::ReadError;
use skein_weights::{Part, Slice, WeightSource};

#[cfg(feature = "train")]
use super::Operations;

/// Why weights could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TwinLoadError {
    /// A tensor could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A tensor is not of the shape that the profile asks for.
    #[error("{name} of {part} has shape {found:?}, the profile needs {expected:?}")]
    Shape {
        /// The part.
        part: Part,
        /// The canonical name.
        name: &'static str,
        /// The shape found.
        found: Vec<u64>,
        /// The shape needed.
        expected: Vec<u64>,
    },
    /// The tensor library refused.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// What is added to a projection without touching its weight: `scale * up * down`, of low rank
/// (LoRA: Hu and others, 2021).
#[derive(Debug, Clone)]
pub struct Adapter {
    /// `[rank, inputs]`.
    pub down: Tensor,
    /// `[outputs, rank]`.
    pub up: Tensor,
    /// What their product is multiplied by.
    pub scale: f64,
}

/// `f32` tensors by part and canonical name ([`skein_weights::Profile::tensors`]), and adapters of
/// some of them.
#[derive(Debug, Clone, Default)]
pub struct Parameters {
    tensors: BTreeMap<(Part, &'static str), Tensor>,
    adapters: BTreeMap<(Part, &'static str), Adapter>,
}

impl Parameters {
    /// Reads every tensor of every part, as `f32`.
    pub fn load(source: &dyn WeightSource) -> Result<Self, TwinLoadError> {
        let profile = source.profile();
        let mut parts = vec![Part::Embedding];
        parts.extend(Slice::whole(profile.layers).parts(profile.tied));
        parts.dedup();
        let mut parameters = Self::default();
        for part in parts {
            for spec in profile.tensors(part) {
                let tensor = read(source, part, &spec)?;
                parameters.set(part, spec.name, tensor);
            }
        }
        Ok(parameters)
    }

    /// One tensor.
    pub fn get(&self, part: Part, name: &'static str) -> Option<&Tensor> {
        self.tensors.get(&(part, name))
    }

    /// Replaces one tensor, for instance by a variable to train.
    pub fn set(&mut self, part: Part, name: &'static str, tensor: Tensor) {
        self.tensors.insert((part, name), tensor);
    }

    /// What adapts the weight `name` of `part`, if anything does.
    pub fn adapter(&self, part: Part, name: &'static str) -> Option<&Adapter> {
        self.adapters.get(&(part, name))
    }

    /// Adapts the weight `name` of `part`, in place of an adapter that it may have.
    pub fn set_adapter(&mut self, part: Part, name: &'static str, adapter: Adapter) {
        self.adapters.insert((part, name), adapter);
    }

    /// All adapters, in the order of part and name.
    pub fn adapters(&self) -> impl Iterator<Item = (Part, &'static str, &Adapter)> {
        self.adapters
            .iter()
            .map(|(&(part, name), adapter)| (part, name, adapter))
    }

    /// The same values, of which no operation is recorded. Nothing is copied.
    pub fn detached(&self) -> Self {
        let tensors = self.tensors.iter().map(|(key, one)| (*key, one.detach()));
        let adapters = self.adapters.iter().map(|(key, one)| {
            let adapter = Adapter {
                down: one.down.detach(),
                up: one.up.detach(),
                scale: one.scale,
            };
            (*key, adapter)
        });
        Self {
            tensors: tensors.collect(),
            adapters: adapters.collect(),
        }
    }

    /// The same model without adapters: each added to its weight, multiplied by these operations.
    ///
    /// # Errors
    /// If the shapes of an adapter and its weight do not match.
    #[cfg(feature = "train")]
    pub(crate) fn merged(&self, operations: &dyn Operations) -> candle_core::Result<Self> {
        let mut merged = self.detached();
        for (key, adapter) in std::mem::take(&mut merged.adapters) {
            let down = adapter.down.t()?.contiguous()?;
            let change = operations.linear(&adapter.up, &down, None)?;
            if let Some(weight) = merged.tensors.get_mut(&key) {
                *weight = (&*weight + change.affine(adapter.scale, 0.0)?)?;
            }
        }
        Ok(merged)
    }

    /// Copies tensors that are variables, which their owner may change.
    #[cfg(feature = "train")]
    pub(crate) fn own(&mut self) -> candle_core::Result<()> {
        for tensor in self.tensors.values_mut().filter(|one| one.is_variable()) {
            *tensor = tensor.copy()?.detach();
        }
        Ok(())
    }

    /// All tensors, in the order of part and name.
    pub fn iter(&self) -> impl Iterator<Item = (Part, &'static str, &Tensor)> {
        self.tensors
            .iter()
            .map(|(&(part, name), tensor)| (part, name, tensor))
    }
}

/// Reads one tensor whose shape is that of `spec`.
fn read(source: &dyn WeightSource, part: Part, spec: &TensorSpec) -> Result<Tensor, TwinLoadError> {
    let tensor = source.tensor(part, spec.name)?;
    if tensor.shape() != spec.shape {
        let (found, expected) = (tensor.shape().to_vec(), spec.shape.clone());
        return Err(TwinLoadError::Shape {
            part,
            name: spec.name,
            found,
            expected,
        });
    }
    // The profile's own bounds hold for its shapes, so they fit in memory's address range.
    let shape: Vec<usize> = spec.shape.iter().map(|&size| size as usize).collect();
    let rows = if shape.len() == 1 { 1 } else { spec.shape[0] };
    let mut values = vec![0.0; shape.iter().product()];
    tensor.read_f32(0..rows, &mut values)?;
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}
