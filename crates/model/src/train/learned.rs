//! What learns.

use std::collections::BTreeSet;

use candle_core::{Device, Tensor, Var};
use skein_weights::{Part, Profile};

use crate::random::{Purpose, Random, derive};
use crate::twin::{Adapter, Parameters};

/// What learns: the weights themselves or adapters beside them, without the parts that are frozen.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ParameterSet {
    /// Adapters of low rank instead of the weights.
    pub lora: Option<Lora>,
    /// Parts that stay as they are. A head tied to the embedding is the embedding's.
    pub frozen: BTreeSet<Part>,
}

impl ParameterSet {
    /// What learns, as a text that differs where what learns differs.
    pub(super) fn describe(&self) -> String {
        let list = |items: Vec<String>| items.join(" ");
        let frozen = list(self.frozen.iter().map(Part::to_string).collect());
        match &self.lora {
            None => format!("all but [{frozen}]"),
            Some(lora) => {
                let targets = list(lora.targets.iter().cloned().collect());
                let (rank, alpha) = (lora.rank, lora.alpha);
                format!("lora of rank {rank} and alpha {alpha} on [{targets}] but [{frozen}]")
            }
        }
    }
}

/// Adapters of low rank (Hu and others, 2021): to a projection `W` is added `alpha / rank * B A`,
/// `A` `[rank, inputs]` normal at first and `B` `[outputs, rank]` zero, so that training starts
/// from the model as it is. Everything else is frozen.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// The rank, at least 1 and at most the smaller side of each projection that is adapted.
    pub rank: usize,
    /// The scale times the rank, above zero.
    pub alpha: f64,
    /// Canonical names of the projections, such as `attn_q` or `mlp_up`; empty for all.
    pub targets: BTreeSet<String>,
}

impl Lora {
    /// Whether the weight of this name gets an adapter.
    fn adapts(&self, weight: &str) -> bool {
        self.targets.is_empty() || self.targets.contains(base(weight))
    }
}

/// The name of a projection by that of its weight.
fn base(weight: &str) -> &str {
    weight.trim_end_matches(".weight")
}

/// Why nothing can learn like that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LearnedError {
    /// A target names no projection.
    #[error("no layer has a projection {target}; it has {known}")]
    Target {
        /// The target.
        target: String,
        /// What there is, for a message.
        known: String,
    },
    /// The rank is zero.
    #[error("adapters of rank 0 learn nothing: it must be at least 1")]
    RankZero,
    /// The rank is larger than a projection to be adapted.
    #[error("rank {rank} does not fit {name}, which has {most} on its smaller side")]
    Rank {
        /// The rank.
        rank: usize,
        /// The projection.
        name: &'static str,
        /// The largest rank possible.
        most: usize,
    },
    /// The scale is no number above zero.
    #[error("alpha must be a number above 0")]
    Alpha,
    /// A frozen part does not exist.
    #[error("the model has no {part} to freeze")]
    Part {
        /// The part.
        part: Part,
    },
    /// Everything is frozen.
    #[error("nothing is left to learn: all parts are frozen")]
    Nothing,
    /// The tensor library refused.
    #[error("the tensor library refused: {problem}")]
    Tensor {
        /// What it said.
        problem: String,
    },
}

impl From<candle_core::Error> for LearnedError {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor {
            problem: error.to_string(),
        }
    }
}

/// A tensor that learns.
#[derive(Debug, Clone)]
pub(super) struct Learned {
    /// The part that it belongs to.
    pub(super) part: Part,
    /// Its name in a stored state, such as `layers.3.attn_q.weight.down`.
    pub(super) name: String,
    /// Its value.
    pub(super) variable: Var,
}

impl Learned {
    fn new(part: Part, name: &str, variable: Var) -> Self {
        let place = match part {
            Part::Embedding => "embedding".to_owned(),
            Part::Layer(index) => format!("layers.{index}"),
            Part::Head => "head".to_owned(),
        };
        Self {
            part,
            name: format!("{place}.{name}"),
            variable,
        }
    }

    /// Whether weight decay pulls at it: at matrices, not at norms and biases.
    pub(super) fn decays(&self) -> bool {
        self.variable.rank() > 1
    }
}

/// Replaces what learns by variables; lists them in the order of part and name. `parameters` are
/// nobody else's variables: these would be shared.
pub(super) fn prepare(
    profile: &Profile,
    set: &ParameterSet,
    seed: u64,
    parameters: &mut Parameters,
) -> Result<Vec<Learned>, LearnedError> {
    let parts = profile.parts();
    if let Some(&part) = set.frozen.iter().find(|part| !parts.contains(part)) {
        return Err(LearnedError::Part { part });
    }
    let thawed = parts.into_iter().filter(|part| !set.frozen.contains(part));
    let learned = match &set.lora {
        None => variables(thawed, parameters)?,
        Some(lora) => adapters(profile, thawed, lora, seed, parameters)?,
    };
    if learned.is_empty() {
        return Err(LearnedError::Nothing);
    }
    Ok(learned)
}

fn variables(
    parts: impl Iterator<Item = Part>,
    parameters: &mut Parameters,
) -> Result<Vec<Learned>, LearnedError> {
    let parts: Vec<Part> = parts.collect();
    let mut learned = Vec::new();
    for (part, name, tensor) in parameters.clone().iter() {
        if parts.contains(&part) {
            let variable = Var::from_tensor(tensor)?;
            parameters.set(part, name, variable.as_tensor().clone());
            learned.push(Learned::new(part, name, variable));
        }
    }
    Ok(learned)
}

fn adapters(
    profile: &Profile,
    parts: impl Iterator<Item = Part>,
    lora: &Lora,
    seed: u64,
    parameters: &mut Parameters,
) -> Result<Vec<Learned>, LearnedError> {
    check(profile, lora)?;
    let mut learned = Vec::new();
    for part in parts.filter(|part| matches!(part, Part::Layer(_))) {
        for (name, outputs, inputs) in projections(profile) {
            if !lora.adapts(name) {
                continue;
            }
            let mut random = Random::new(derive(seed, Purpose::Adapters, &[learned.len() as u64]));
            let deviation = 1.0 / (inputs as f64).sqrt();
            let values = (0..lora.rank * inputs).map(|_| (random.normal() * deviation) as f32);
            let values: Vec<f32> = values.collect();
            let down = Tensor::from_vec(values, (lora.rank, inputs), &Device::Cpu)?;
            let down = Var::from_tensor(&down)?;
            let up = Var::zeros((outputs, lora.rank), down.dtype(), &Device::Cpu)?;
            let adapter = Adapter {
                down: down.as_tensor().clone(),
                up: up.as_tensor().clone(),
                scale: lora.alpha / lora.rank as f64,
            };
            parameters.set_adapter(part, name, adapter);
            learned.push(Learned::new(part, &format!("{name}.down"), down));
            learned.push(Learned::new(part, &format!("{name}.up"), up));
        }
    }
    Ok(learned)
}

/// Name, outputs and inputs of each projection of a layer.
fn projections(profile: &Profile) -> impl Iterator<Item = (&'static str, usize, usize)> {
    let tensors = profile.tensors(Part::Layer(0)).into_iter();
    tensors.filter_map(|spec| match spec.shape[..] {
        [outputs, inputs] => Some((spec.name, outputs as usize, inputs as usize)),
        _ => None,
    })
}

fn check(profile: &Profile, lora: &Lora) -> Result<(), LearnedError> {
    let bases = || projections(profile).map(|(name, ..)| base(name));
    for target in &lora.targets {
        if !bases().any(|known| known == target) {
            return Err(LearnedError::Target {
                target: target.clone(),
                known: bases().collect::<Vec<_>>().join(", "),
            });
        }
    }
    let rank = lora.rank;
    if rank == 0 {
        return Err(LearnedError::RankZero);
    }
    for (name, outputs, inputs) in projections(profile).filter(|one| lora.adapts(one.0)) {
        let most = outputs.min(inputs);
        if rank > most {
            return Err(LearnedError::Rank { rank, name, most });
        }
    }
    if !(lora.alpha.is_finite() && lora.alpha > 0.0) {
        return Err(LearnedError::Alpha);
    }
    Ok(())
}
