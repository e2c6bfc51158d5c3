//! The second opinion: every served architecture over candle, readable and differentiable.
//!
//! Same [`Profile`], same canonical parameter names as the serving path, and nothing else in common
//! with it but the rotary angles: whole sequences without KV, composed from basic operations that
//! all have a backward pass. Training runs the same network over other operations.
//!
//! Shapes below: `n` positions of all rows together, `d` head size.

mod attention;
mod composed;
mod network;
mod operations;
mod parameters;
mod positions;
mod project;
mod weights;

use candle_core::Tensor;
use skein_weights::{Part, Profile, WeightSource};

pub(crate) use composed::Composed;
pub(crate) use network::Network;
pub(crate) use operations::{Attention, Operations, Site};
pub use parameters::{Adapter, Parameters, TwinLoadError};
pub use positions::{Rows, RowsError};

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
    /// Not one id for each position.
    #[error("{found} token ids for {expected} positions")]
    Ids {
        /// Ids given.
        found: usize,
        /// Positions.
        expected: usize,
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
        let rows = Rows::single(ids.len()).map_err(|_| TwinError::Empty)?;
        self.batch_logits(ids, &rows)
    }

    /// Logits `[n, vocabulary]` of several rows at once, each token given those before it in its
    /// own document.
    pub fn batch_logits(&self, ids: &[u32], rows: &Rows) -> Result<Tensor, TwinError> {
        let network = Network::new(&self.profile, &self.parameters, &Composed, rows)?;
        let mut x = network.embed(ids)?;
        for index in 0..self.profile.layers {
            x = network.layer(index, &x)?;
        }
        Ok(network.normed(&x)?.matmul(&network.table()?.t()?)?)
    }
}
