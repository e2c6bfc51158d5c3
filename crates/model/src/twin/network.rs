//! How an architecture is put together: the one place, for whatever operations.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use skein_weights::profile::{Mlp, NormKind};
use skein_weights::{Part, Profile};

use super::positions::{Rotary, Rows};
use super::{Operations, Parameters, Site, TwinError, attention};

/// A model about to run over rows of tokens. The residual stream `x` is `[n, hidden]`.
#[derive(Debug)]
pub(crate) struct Network<'a> {
    pub(super) profile: &'a Profile,
    pub(super) parameters: &'a Parameters,
    pub(super) operations: &'a dyn Operations,
    pub(super) rows: Arc<Rows>,
    pub(super) rotary: Option<Arc<Rotary>>,
}

impl<'a> Network<'a> {
    /// A model over these rows.
    ///
    /// # Errors
    /// If a document is longer than the context.
    pub(crate) fn new(
        profile: &'a Profile,
        parameters: &'a Parameters,
        operations: &'a dyn Operations,
        rows: &Rows,
    ) -> Result<Self, TwinError> {
        let (tokens, context) = (rows.longest(), profile.context);
        if tokens > context as usize {
            return Err(TwinError::ContextExceeded { tokens, context });
        }
        Ok(Self {
            profile,
            parameters,
            operations,
            rows: Arc::new(rows.clone()),
            rotary: Rotary::new(profile, tokens).map(Arc::new),
        })
    }

    /// The residual stream before the first layer, of one id for each position.
    pub(crate) fn embed(&self, ids: &[u32]) -> Result<Tensor, TwinError> {
        let (found, expected) = (ids.len(), self.rows.positions().len());
        if found != expected {
            return Err(TwinError::Ids { found, expected });
        }
        let vocabulary = self.profile.vocabulary;
        if let Some(&id) = ids.iter().find(|&&id| id >= vocabulary) {
            return Err(TwinError::TokenOutOfRange { id, vocabulary });
        }
        let scope = self.scope(Part::Embedding);
        let rows = Tensor::new(ids, &Device::Cpu)?;
        let mut x = scope.get("tokens.weight")?.index_select(&rows, 0)?;
        if let Some(table) = scope.find("positions.weight") {
            let positions = Tensor::new(self.rows.positions(), &Device::Cpu)?;
            x = (x + table.index_select(&positions, 0)?)?;
        }
        Ok(self
            .operations
            .dropout(&x, Part::Embedding, Site::Embedding)?)
    }

    /// Layer `index`: attention, then the feed-forward layer, each on the normalised stream and
    /// added to it.
    pub(crate) fn layer(&self, index: u32, x: &Tensor) -> Result<Tensor, TwinError> {
        let scope = self.scope(Part::Layer(index));
        let normed = scope.norm("attn_norm.weight", "attn_norm.bias", x)?;
        let mixed = attention::forward(&scope, index, &normed)?;
        let x = (x + scope.dropout(&mixed, Site::Attention)?)?;
        let normed = scope.norm("mlp_norm.weight", "mlp_norm.bias", &x)?;
        let fed = scope.mlp(&normed)?;
        Ok((x + scope.dropout(&fed, Site::Mlp)?)?)
    }

    /// The stream after the final norm.
    pub(crate) fn normed(&self, x: &Tensor) -> Result<Tensor, TwinError> {
        self.scope(Part::Head).norm("norm.weight", "norm.bias", x)
    }

    /// The output head, `[vocabulary, hidden]`.
    pub(crate) fn table(&self) -> Result<&'a Tensor, TwinError> {
        let (part, name) = if self.profile.tied {
            (Part::Embedding, "tokens.weight")
        } else {
            (Part::Head, "head.weight")
        };
        let found = self.parameters.get(part, name);
        found.ok_or(TwinError::Missing { part, name })
    }

    /// Where tokens stand.
    #[cfg(test)]
    pub(crate) fn rows(&self) -> Arc<Rows> {
        Arc::clone(&self.rows)
    }

    /// The angles of positions, where they enter by rotation.
    #[cfg(test)]
    pub(crate) fn rotary(&self) -> Option<Arc<Rotary>> {
        self.rotary.clone()
    }

    fn scope(&self, part: Part) -> Scope<'_> {
        Scope {
            network: self,
            part,
        }
    }
}

/// The parameters of one part, and what to do with them.
pub(super) struct Scope<'a> {
    pub(super) network: &'a Network<'a>,
    pub(super) part: Part,
}

impl<'a> Scope<'a> {
    pub(super) fn find(&self, name: &'static str) -> Option<&'a Tensor> {
        self.network.parameters.get(self.part, name)
    }

    pub(super) fn get(&self, name: &'static str) -> Result<&'a Tensor, TwinError> {
        self.find(name).ok_or(TwinError::Missing {
            part: self.part,
            name,
        })
    }

    fn norm(
        &self,
        weight: &'static str,
        bias: &'static str,
        x: &Tensor,
    ) -> Result<Tensor, TwinError> {
        let Network {
            profile,
            operations,
            ..
        } = self.network;
        let (weight, epsilon) = (self.get(weight)?, profile.norm_epsilon);
        Ok(match profile.norm {
            NormKind::Rms => operations.rms_norm(x, weight, epsilon)?,
            NormKind::Layer => operations.layer_norm(x, weight, self.get(bias)?, epsilon)?,
        })
    }

    fn mlp(&self, x: &Tensor) -> Result<Tensor, TwinError> {
        let operations = self.network.operations;
        let (gate, up) = (
            ["mlp_gate.weight", "mlp_gate.bias"],
            ["mlp_up.weight", "mlp_up.bias"],
        );
        let inner = match self.network.profile.mlp {
            Mlp::GatedSilu => operations.gated_silu(&self.project(&[gate, up], x)?)?,
            Mlp::GeluTanh => operations.gelu_tanh(&self.project(&[up], x)?)?,
        };
        self.project(&[["mlp_down.weight", "mlp_down.bias"]], &inner)
    }

    fn dropout(&self, x: &Tensor, site: Site) -> Result<Tensor, TwinError> {
        Ok(self.network.operations.dropout(x, self.part, site)?)
    }
}
