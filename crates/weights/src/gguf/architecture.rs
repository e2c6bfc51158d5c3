//! The profile of a GGUF file, from its metadata and the tensors that it has.
//!
//! A key of the architecture that is not known is refused unless its value is neutral: it might
//! change results.

use skein_base::limits::{CONTEXT_MAX, LAYERS_MAX, VOCABULARY_MAX, WIDTH_MAX};

use crate::profile::{Biases, Family, Mlp, NormKind, Positions, Profile, RopeScaling};

use super::error::GgufError;
use super::file::GgufFile;
use super::value::{Array, Value};

/// Keys of an architecture (without its prefix) that are read below, or that say nothing about
/// results.
const KNOWN: [&str; 22] = [
    "attention.causal",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.attn_factor",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "tensor_data_layout",
    "vocab_size",
];

/// Keys for which one means "as if it were not there", as zero does.
const NEUTRAL_AT_ONE: [&str; 4] = [
    "logit_scale",
    "embedding_scale",
    "residual_scale",
    "rope.scaling.attn_factor",
];

/// The name of the tensor that holds divisors of rotary frequencies.
pub(super) const ROPE_FREQS: &str = "rope_freqs.weight";

/// What llama.cpp calls the architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Architecture {
    Llama,
    Qwen2,
    Qwen3,
    Gpt2,
}

impl Architecture {
    pub(super) fn of(file: &GgufFile) -> Result<Self, GgufError> {
        let key = "general.architecture";
        let value = file
            .value(key)
            .ok_or_else(|| GgufError::MissingKey { key: key.into() })?;
        match value.as_text() {
            Some("llama") => Ok(Self::Llama),
            Some("qwen2") => Ok(Self::Qwen2),
            Some("qwen3") => Ok(Self::Qwen3),
            Some("gpt2") => Ok(Self::Gpt2),
            _ => Err(GgufError::Architecture {
                found: value.brief(),
            }),
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gpt2 => "gpt2",
        }
    }
}

/// Reads the profile. `rope_divisors` is the content of [`ROPE_FREQS`], where there is one.
pub(super) fn profile(
    file: &GgufFile,
    architecture: Architecture,
    rope_divisors: Option<Vec<f32>>,
) -> Result<Profile, GgufError> {
    let keys = Keys {
        file,
        prefix: architecture.prefix(),
    };
    keys.refuse_unknown()?;
    let layers = keys.dimension("block_count", LAYERS_MAX)?;
    let hidden = keys.dimension("embedding_length", WIDTH_MAX)?;
    let heads = keys.dimension("attention.head_count", WIDTH_MAX)?;
    let kv_heads = keys.dimension_or("attention.head_count_kv", WIDTH_MAX, Some(heads))?;
    let head_dim = keys.head_dim(hidden, heads)?;
    keys.check_heads(heads, kv_heads, head_dim)?;
    let context = keys.dimension("context_length", CONTEXT_MAX)?;
    let window = keys.window(context)?;
    let gpt2 = architecture == Architecture::Gpt2;
    let epsilon = if gpt2 {
        "layer_norm_epsilon"
    } else {
        "layer_norm_rms_epsilon"
    };
    Ok(Profile {
        family: match architecture {
            Architecture::Llama if window.is_some() => Family::Mistral,
            Architecture::Llama => Family::Llama,
            Architecture::Qwen2 => Family::Qwen2,
            Architecture::Qwen3 => Family::Qwen3,
            Architecture::Gpt2 => Family::Gpt2,
        },
        vocabulary: vocabulary(file)?,
        hidden,
        intermediate: keys.dimension("feed_forward_length", WIDTH_MAX)?,
        layers,
        heads,
        kv_heads,
        head_dim,
        context,
        norm: if gpt2 { NormKind::Layer } else { NormKind::Rms },
        norm_epsilon: keys.epsilon(&format!("attention.{epsilon}"))?,
        positions: match architecture {
            Architecture::Gpt2 => Positions::Learned { count: context },
            _ => keys.rope(head_dim, rope_divisors)?,
        },
        mlp: if gpt2 { Mlp::GeluTanh } else { Mlp::GatedSilu },
        biases: biases(file, gpt2),
        qk_norm: architecture == Architecture::Qwen3,
        windows: match window {
            Some(window) => vec![Some(window); layers as usize],
            None => Vec::new(),
        },
        tied: !file.tensors().contains_key("output.weight"),
    })
}

/// Rows of the embedding table.
fn vocabulary(file: &GgufFile) -> Result<u32, GgufError> {
    let name = "token_embd.weight";
    let tensor = file
        .tensors()
        .get(name)
        .ok_or_else(|| GgufError::MissingTensor {
            name: name.to_owned(),
        })?;
    let rows = u32::try_from(tensor.shape[0])
        .ok()
        .filter(|&rows| rows <= VOCABULARY_MAX);
    rows.filter(|_| tensor.shape.len() == 2)
        .ok_or_else(|| GgufError::tensor(name, format!("shape {:?} is no table", tensor.shape)))
}

/// llama.cpp takes biases of the Llama family where it finds them; we ask the first layer.
fn biases(file: &GgufFile, gpt2: bool) -> Biases {
    let has = |name: &str| file.tensors().contains_key(&format!("blk.0.{name}.bias"));
    Biases {
        qkv: gpt2 || has("attn_q"),
        attention_output: gpt2 || has("attn_output"),
        mlp: gpt2 || has("ffn_up"),
    }
}

/// The metadata of one architecture.
#[derive(Debug)]
struct Keys<'a> {
    file: &'a GgufFile,
    prefix: &'static str,
}

impl Keys<'_> {
    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.file.value(&self.full(key))
    }

    fn error(&self, key: &str, problem: impl Into<String>) -> GgufError {
        GgufError::metadata(&self.full(key), problem)
    }

    fn unsupported(&self, key: &str, value: &Value) -> GgufError {
        GgufError::Unsupported {
            key: self.full(key),
            value: value.brief(),
        }
    }

    fn refuse_unknown(&self) -> Result<(), GgufError> {
        let prefix = self.full("");
        for (full, value) in self.file.metadata() {
            let Some(key) = full.strip_prefix(&prefix) else {
                continue;
            };
            let number = value.as_f64();
            let neutral = number == Some(0.0)
                || *value == Value::Bool(false)
                || (number == Some(1.0) && NEUTRAL_AT_ONE.contains(&key));
            if key == "attention.causal" && *value != Value::Bool(true) {
                return Err(self.unsupported(key, value));
            }
            let known = KNOWN.contains(&key) && key != "rope.scaling.attn_factor";
            if !known && !neutral {
                return Err(self.unsupported(key, value));
            }
        }
        Ok(())
    }

    /// A number between 1 and `max`. Some converters give one per layer; all must be equal.
    fn dimension(&self, key: &str, max: u32) -> Result<u32, GgufError> {
        self.dimension_or(key, max, None)
    }

    fn dimension_or(&self, key: &str, max: u32, default: Option<u32>) -> Result<u32, GgufError> {
        let found = match (self.value(key), default) {
            (Some(Value::Array(Array::Ints(list))), _) => {
                let first = list.first().copied().unwrap_or(0);
                if list.iter().any(|&each| each != first) {
                    return Err(self.error(key, "differs from layer to layer: not served"));
                }
                u64::try_from(first).ok()
            }
            (Some(value), _) => value.as_u64(),
            (None, Some(default)) => return Ok(default),
            (None, None) => {
                return Err(GgufError::MissingKey {
                    key: self.full(key),
                });
            }
        };
        found
            .and_then(|found| u32::try_from(found).ok())
            .filter(|found| (1..=max).contains(found))
            .ok_or_else(|| self.error(key, format!("must be a number from 1 to {max}")))
    }

    fn head_dim(&self, hidden: u32, heads: u32) -> Result<u32, GgufError> {
        let default = hidden.is_multiple_of(heads).then_some(hidden / heads);
        let head_dim = self.dimension_or("attention.key_length", WIDTH_MAX, default)?;
        let value = self.dimension_or("attention.value_length", WIDTH_MAX, default)?;
        if value != head_dim {
            let problem = format!("{value} differs from the key length of {head_dim}: not served");
            return Err(self.error("attention.value_length", problem));
        }
        Ok(head_dim)
    }

    fn check_heads(&self, heads: u32, kv_heads: u32, head_dim: u32) -> Result<(), GgufError> {
        if !heads.is_multiple_of(kv_heads) {
            let problem = format!("{kv_heads} does not divide the {heads} query heads");
            return Err(self.error("attention.head_count_kv", problem));
        }
        if heads
            .checked_mul(head_dim)
            .is_none_or(|width| width > WIDTH_MAX)
        {
            let problem = format!("{heads} heads of {head_dim} are wider than {WIDTH_MAX}");
            return Err(self.error("attention.head_count", problem));
        }
        Ok(())
    }

    /// The sliding window, if it is shorter than the context.
    fn window(&self, context: u32) -> Result<Option<u32>, GgufError> {
        let key = "attention.sliding_window";
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let window = value
            .as_u64()
            .ok_or_else(|| self.error(key, "must be a number"))?;
        Ok(u32::try_from(window)
            .ok()
            .filter(|&window| window > 0 && window < context))
    }

    fn epsilon(&self, key: &str) -> Result<f32, GgufError> {
        let value = self.value(key).ok_or_else(|| GgufError::MissingKey {
            key: self.full(key),
        })?;
        let epsilon = value.as_f64().map(|epsilon| epsilon as f32);
        epsilon
            .filter(|epsilon| *epsilon > 0.0 && *epsilon < 1.0)
            .ok_or_else(|| self.error(key, "must be a number between 0 and 1"))
    }

    fn positive(&self, key: &str) -> Result<Option<f64>, GgufError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let number = value
            .as_f64()
            .filter(|number| number.is_finite() && *number >= 0.0);
        number
            .map(Some)
            .ok_or_else(|| self.error(key, "must be a number, not negative"))
    }

    fn rope(&self, head_dim: u32, divisors: Option<Vec<f32>>) -> Result<Positions, GgufError> {
        let key = "rope.dimension_count";
        let rotated = self.dimension_or(key, WIDTH_MAX, Some(head_dim))?;
        if rotated != head_dim || !head_dim.is_multiple_of(2) {
            let problem = format!("{rotated} of {head_dim} dimensions rotated: not served");
            return Err(self.error(key, problem));
        }
        let theta = self.positive("rope.freq_base")?.unwrap_or(10_000.0);
        if theta < 1.0 {
            return Err(self.error("rope.freq_base", "must be 1 or more"));
        }
        let factor = self.linear_factor()?;
        let scaling = match divisors {
            Some(list) => self.divisors(list, factor, head_dim / 2)?,
            None if factor == 1.0 => RopeScaling::None,
            None => RopeScaling::Linear { factor },
        };
        Ok(Positions::Rope { theta, scaling })
    }

    /// By how much all frequencies are divided. As in llama.cpp, a factor without a type is linear.
    fn linear_factor(&self) -> Result<f64, GgufError> {
        let key = "rope.scaling.type";
        match self.value(key) {
            Some(value) if value.as_text() == Some("none") => return Ok(1.0),
            Some(value) if value.as_text() != Some("linear") => {
                return Err(self.unsupported(key, value));
            }
            _ => {}
        }
        let factor = match self.positive("rope.scaling.factor")? {
            Some(factor) => Some(factor),
            None => self.positive("rope.scale_linear")?,
        };
        // Zero is how converters say that there is none.
        Ok(factor.filter(|factor| *factor > 0.0).unwrap_or(1.0))
    }

    fn divisors(
        &self,
        list: Vec<f32>,
        factor: f64,
        expected: u32,
    ) -> Result<RopeScaling, GgufError> {
        if list.len() != expected as usize {
            let problem = format!("{} divisors, not {expected}", list.len());
            return Err(GgufError::tensor(ROPE_FREQS, problem));
        }
        let divisors: Vec<f32> = list
            .into_iter()
            .map(|divisor| (f64::from(divisor) * factor) as f32)
            .collect();
        if !divisors
            .iter()
            .all(|divisor| divisor.is_finite() && *divisor > 0.0)
        {
            return Err(GgufError::tensor(
                ROPE_FREQS,
                "a divisor is not a positive number",
            ));
        }
        if divisors.iter().all(|&divisor| divisor == 1.0) {
            return Ok(RopeScaling::None);
        }
        Ok(RopeScaling::Divisors { divisors })
    }
}
