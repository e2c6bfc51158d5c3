//! Everything about an architecture that code needs, read from the model's own configuration.

use serde::{Deserialize, Serialize};

use crate::part::Part;

/// A family of architectures that Skein serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Llama 2, 3, 3.1 and later ones of the same shape.
    Llama,
    /// Mistral: Llama with a sliding window.
    Mistral,
    /// Qwen2 and Qwen2.5: biases on q, k and v.
    Qwen2,
    /// Qwen3: norms on q and k.
    Qwen3,
    /// GPT-2: layer norms, learned positions, a plain feed-forward layer.
    Gpt2,
}

/// How vectors are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum NormKind {
    /// `x / sqrt(mean(x^2) + eps) * weight`.
    Rms,
    /// `(x - mean) / sqrt(variance + eps) * weight + bias`.
    Layer,
}

/// How positions enter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Positions {
    /// Rotary embedding over the whole head, halves paired (`x[i]` with `x[i + d/2]`).
    Rope {
        /// The base of the frequencies.
        theta: f64,
        /// Change of the frequencies for long contexts.
        scaling: RopeScaling,
    },
    /// A table of `count` learned vectors added to the token embeddings.
    Learned {
        /// Rows of the table.
        count: u32,
    },
}

/// Changes of rotary frequencies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RopeScaling {
    /// None.
    None,
    /// Every frequency divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided by `factor`, high ones kept, a ramp between.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// `original_context / low_frequency_factor` is the longest wavelength that is ramped.
        low_frequency_factor: f64,
        /// `original_context / high_frequency_factor` is the longest wavelength kept.
        high_frequency_factor: f64,
        /// Context length of the original training.
        original_context: u32,
    },
    /// Each frequency divided by a number of its own, as GGUF files store Llama 3.1's scaling.
    Divisors {
        /// `head_dim / 2` finite positive divisors, highest frequency first.
        divisors: Vec<f32>,
    },
}

/// The feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Mlp {
    /// `down(silu(gate(x)) * up(x))`.
    GatedSilu,
    /// `down(gelu_tanh(up(x)))`.
    GeluTanh,
}

/// Which projections carry a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Biases {
    /// q, k and v.
    pub qkv: bool,
    /// The attention's output projection.
    pub attention_output: bool,
    /// The feed-forward layer.
    pub mlp: bool,
}

/// An architecture with its dimensions. Part of the model id: every field changes results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The family.
    pub family: Family,
    /// Rows of the embedding table.
    pub vocabulary: u32,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Width of the feed-forward layer.
    pub intermediate: u32,
    /// Number of transformer layers.
    pub layers: u32,
    /// Number of query heads.
    pub heads: u32,
    /// Number of key and value heads; divides `heads`.
    pub kv_heads: u32,
    /// Width of one head; not always `hidden / heads`.
    pub head_dim: u32,
    /// Longest sequence, in tokens.
    pub context: u32,
    /// Kind of all norms on the residual stream.
    pub norm: NormKind,
    /// What every norm adds to the variance; the bits of the `f32` value used.
    pub norm_epsilon: f32,
    /// How positions enter.
    pub positions: Positions,
    /// The feed-forward layer.
    pub mlp: Mlp,
    /// Which projections carry a bias.
    pub biases: Biases,
    /// Whether q and k are RMS-normalised per head before the rotary embedding.
    pub qk_norm: bool,
    /// Per layer: how many positions, its own included, a token attends to; `None` for all.
    /// Empty if no layer has a window.
    pub windows: Vec<Option<u32>>,
    /// Whether the output head is the embedding table.
    pub tied: bool,
}

/// A tensor that a part must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Canonical name, the same in every layer.
    pub name: &'static str,
    /// `[outputs, inputs]` of a projection, `[rows, hidden]` of a table, `[width]` of a vector.
    pub shape: Vec<u64>,
}

impl TensorSpec {
    /// Whether activations are multiplied with it (or it is a table of embeddings): only such a matrix is held in
    /// another format than `f32`. Learned positions are added.
    pub fn is_product(&self) -> bool {
        self.shape.len() == 2 && self.name != "positions.weight"
    }
}

/// Matrices that are computed as one, their outputs one after another.
pub const STACKS: [&[&str]; 2] = [
    &["attn_q.weight", "attn_k.weight", "attn_v.weight"],
    &["mlp_gate.weight", "mlp_up.weight"],
];

impl Profile {
    /// The window of `layer`, if it has one.
    pub fn window(&self, layer: u32) -> Option<u32> {
        self.windows.get(layer as usize).copied().flatten()
    }

    /// Width of all query heads together.
    pub fn query_width(&self) -> u32 {
        self.heads * self.head_dim
    }

    /// Width of all key heads together.
    pub fn kv_width(&self) -> u32 {
        self.kv_heads * self.head_dim
    }

    /// The tensors of `part`, in canonical order. Projections are `[outputs, inputs]`, q, k and v
    /// apart, whatever the checkpoint's own layout was.
    ///
    /// - embedding: `tokens.weight`, `positions.weight`
    /// - layer: `attn_norm.weight`, `attn_norm.bias`, `attn_q.weight`, `attn_q.bias`,
    ///   `attn_k.*`, `attn_v.*`, `attn_o.*`, `q_norm.weight`, `k_norm.weight`,
    ///   `mlp_norm.*`, `mlp_gate.*`, `mlp_up.*`, `mlp_down.*`
    /// - head: `norm.weight`, `norm.bias`, `head.weight`
    pub fn tensors(&self, part: Part) -> Vec<TensorSpec> {
        match part {
            Part::Embedding => self.embedding_tensors(),
            Part::Layer(_) => self.layer_tensors(),
            Part::Head => self.head_tensors(),
        }
    }

    /// All parts, in order.
    pub fn parts(&self) -> Vec<Part> {
        let layers = (0..self.layers).map(Part::Layer);
        std::iter::once(Part::Embedding)
            .chain(layers)
            .chain([Part::Head])
            .collect()
    }

    /// The canonical name equal to `name`, if `part` has such a tensor.
    pub fn canonical_name(&self, part: Part, name: &str) -> Option<&'static str> {
        if matches!(part, Part::Layer(index) if index >= self.layers) {
            return None;
        }
        self.tensors(part)
            .into_iter()
            .map(|spec| spec.name)
            .find(|found| *found == name)
    }

    fn embedding_tensors(&self) -> Vec<TensorSpec> {
        let mut list = vec![spec("tokens.weight", &[self.vocabulary, self.hidden])];
        if let Positions::Learned { count } = self.positions {
            list.push(spec("positions.weight", &[count, self.hidden]));
        }
        list
    }

    fn head_tensors(&self) -> Vec<TensorSpec> {
        let mut list = vec![spec("norm.weight", &[self.hidden])];
        list.extend(self.norm_bias("norm.bias"));
        if !self.tied {
            list.push(spec("head.weight", &[self.vocabulary, self.hidden]));
        }
        list
    }

    fn layer_tensors(&self) -> Vec<TensorSpec> {
        let (hidden, query, kv) = (self.hidden, self.query_width(), self.kv_width());
        let mut list = vec![spec("attn_norm.weight", &[hidden])];
        list.extend(self.norm_bias("attn_norm.bias"));
        let biases = self.biases;
        projection(
            &mut list,
            ["attn_q.weight", "attn_q.bias"],
            [query, hidden],
            biases.qkv,
        );
        projection(
            &mut list,
            ["attn_k.weight", "attn_k.bias"],
            [kv, hidden],
            biases.qkv,
        );
        projection(
            &mut list,
            ["attn_v.weight", "attn_v.bias"],
            [kv, hidden],
            biases.qkv,
        );
        let output_bias = biases.attention_output;
        projection(
            &mut list,
            ["attn_o.weight", "attn_o.bias"],
            [hidden, query],
            output_bias,
        );
        if self.qk_norm {
            list.push(spec("q_norm.weight", &[self.head_dim]));
            list.push(spec("k_norm.weight", &[self.head_dim]));
        }
        list.push(spec("mlp_norm.weight", &[hidden]));
        list.extend(self.norm_bias("mlp_norm.bias"));
        let (wide, narrow) = ([self.intermediate, hidden], [hidden, self.intermediate]);
        if self.mlp == Mlp::GatedSilu {
            projection(
                &mut list,
                ["mlp_gate.weight", "mlp_gate.bias"],
                wide,
                biases.mlp,
            );
        }
        projection(
            &mut list,
            ["mlp_up.weight", "mlp_up.bias"],
            wide,
            biases.mlp,
        );
        projection(
            &mut list,
            ["mlp_down.weight", "mlp_down.bias"],
            narrow,
            biases.mlp,
        );
        list
    }

    fn norm_bias(&self, name: &'static str) -> Option<TensorSpec> {
        (self.norm == NormKind::Layer).then(|| spec(name, &[self.hidden]))
    }
}

fn spec(name: &'static str, shape: &[u32]) -> TensorSpec {
    TensorSpec {
        name,
        shape: shape.iter().copied().map(u64::from).collect(),
    }
}

fn projection(
    list: &mut Vec<TensorSpec>,
    [weight, bias]: [&'static str; 2],
    shape: [u32; 2],
    has_bias: bool,
) {
    list.push(spec(weight, &shape));
    if has_bias {
        list.push(spec(bias, &shape[..1]));
    }
}
