//! The second opinion: every served architecture over candle, readable and differentiable.
//!
//! Same [`Profile`], same canonical parameter names as the serving path, and nothing else in common
//! with it but the rotary frequencies: whole sequences without KV, `f32`, composed from basic
//! operations that all have a backward pass. Shapes below: `n` positions, `d` head size.

mod attention;
mod layer;
mod mlp;
mod norm;
mod parameters;
mod positions;

use candle_core::{Device, Tensor};
use skein_weights::{Part, Profile, WeightSource};

pub use parameters::{Parameters, TwinLoadError};

/// Why the twin gave no logits.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TwinError {
    /// No token was given.
    #[error("no token ids: give at least one")]
    Empty,
    /// A token id outside the vocabulary.
    #[error("token id {id} is outside the vocabulary of {vocabulary}")]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// The vocabulary's size.
        vocabulary: u32,
    },
    /// More tokens than positions.
    #[error("{tokens} tokens are more than the context of {context}")]
    ContextExceeded {
        /// Tokens given.
        tokens: usize,
        /// The context length.
        context: u32,
    },
    /// A parameter that the profile names is not there.
    #[error("{part} has no parameter {name}")]
    Missing {
        /// The part asked.
        part: Part,
        /// The canonical name asked for.
        name: &'static str,
    },
    /// The tensor library refused.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// A whole model over candle, on the CPU.
#[derive(Debug, Clone)]
pub struct Twin {
    profile: Profile,
    parameters: Parameters,
}

impl Twin {
    /// Reads every tensor of `source` as `f32`.
    pub fn load(source: &dyn WeightSource) -> Result<Self, TwinLoadError> {
        Ok(Self::new(
            source.profile().clone(),
            Parameters::load(source)?,
        ))
    }

    /// A model with these parameters, some of which may be variables to train. Shapes are those of
    /// [`Profile::tensors`].
    pub fn new(profile: Profile, parameters: Parameters) -> Self {
        Self {
            profile,
            parameters,
        }
    }

    /// The architecture.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The weights.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Logits `[n, vocabulary]` of `n` token ids, each row given the ids up to its own.
    pub fn logits(&self, ids: &[u32]) -> Result<Tensor, TwinError> {
        let mut x = self.embed(ids)?;
        let rotary = positions::Rotary::new(&self.profile, ids.len())?;
        for index in 0..self.profile.layers {
            x = layer::forward(&self.scope(Part::Layer(index)), index, &x, rotary.as_ref())?;
        }
        let head = self.scope(Part::Head);
        let x = norm::residual(&head, "norm.weight", "norm.bias", &x)?;
        let table = if self.profile.tied {
            self.scope(Part::Embedding).get("tokens.weight")?
        } else {
            head.get("head.weight")?
        };
        Ok(x.matmul(&table.t()?)?)
    }

    /// The residual stream before the first layer, `[n, hidden]`.
    fn embed(&self, ids: &[u32]) -> Result<Tensor, TwinError> {
        let Profile {
            vocabulary,
            context,
            ..
        } = self.profile;
        if ids.is_empty() {
            return Err(TwinError::Empty);
        }
        if ids.len() > context as usize {
            return Err(TwinError::ContextExceeded {
                tokens: ids.len(),
                context,
            });
        }
        if let Some(&id) = ids.iter().find(|&&id| id >= vocabulary) {
            return Err(TwinError::TokenOutOfRange { id, vocabulary });
        }
        let scope = self.scope(Part::Embedding);
        let rows = Tensor::new(ids, &Device::Cpu)?;
        let tokens = scope.get("tokens.weight")?.index_select(&rows, 0)?;
        match scope.find("positions.weight") {
            Some(table) => Ok((tokens + table.narrow(0, 0, ids.len())?)?),
            None => Ok(tokens),
        }
    }

    fn scope(&self, part: Part) -> Scope<'_> {
        Scope {
            profile: &self.profile,
            parameters: &self.parameters,
            part,
        }
    }
}

/// The parameters of one part.
struct Scope<'a> {
    profile: &'a Profile,
    parameters: &'a Parameters,
    part: Part,
}

impl<'a> Scope<'a> {
    fn find(&self, name: &'static str) -> Option<&'a Tensor> {
        self.parameters.get(self.part, name)
    }

    fn get(&self, name: &'static str) -> Result<&'a Tensor, TwinError> {
        self.find(name).ok_or(TwinError::Missing {
            part: self.part,
            name,
        })
    }

    /// `x W^T + b` with `x` `[n, inputs]` and `W` `[outputs, inputs]`; the bias if there is one.
    fn linear(
        &self,
        weight: &'static str,
        bias: &'static str,
        x: &Tensor,
    ) -> Result<Tensor, TwinError> {
        let product = x.matmul(&self.get(weight)?.t()?)?;
        match self.find(bias) {
            Some(bias) => Ok(product.broadcast_add(bias)?),
            None => Ok(product),
        }
    }
}
