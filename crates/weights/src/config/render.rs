//! A profile as a `config.json`, for checkpoints that came without one.

use serde_json::{Map, Value, json};

use crate::profile::{Family, Positions, Profile, RopeScaling};

/// What a configuration in this form cannot say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("config.json has no form for {what}")]
pub struct RenderError {
    /// The property of the profile.
    pub what: &'static str,
}

/// The fields of a `config.json` that [`super::parse`] reads as `profile`, in the form that
/// transformers has read since version 4.43.
pub fn render(profile: &Profile) -> Result<Map<String, Value>, RenderError> {
    match profile.family {
        Family::Gpt2 => gpt2(profile),
        _ => rotary(profile),
    }
}

fn gpt2(profile: &Profile) -> Result<Map<String, Value>, RenderError> {
    let Positions::Learned { count } = profile.positions else {
        return unsaid("rotary positions of GPT-2");
    };
    if count != profile.context || profile.heads * profile.head_dim != profile.hidden {
        return unsaid("a context or heads apart from the other dimensions of GPT-2");
    }
    if profile.heads != profile.kv_heads || !profile.windows.is_empty() {
        return unsaid("shared keys or windows of GPT-2");
    }
    Ok(object(json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": profile.vocabulary,
        "n_positions": profile.context,
        "n_embd": profile.hidden,
        "n_layer": profile.layers,
        "n_head": profile.heads,
        "n_inner": profile.intermediate,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": decimal(profile.norm_epsilon),
        "tie_word_embeddings": profile.tied,
    })))
}

fn rotary(profile: &Profile) -> Result<Map<String, Value>, RenderError> {
    let (architecture, model_type) = match profile.family {
        Family::Llama => ("LlamaForCausalLM", "llama"),
        Family::Mistral => ("MistralForCausalLM", "mistral"),
        Family::Qwen2 => ("Qwen2ForCausalLM", "qwen2"),
        Family::Qwen3 => ("Qwen3ForCausalLM", "qwen3"),
        Family::Gpt2 => unreachable!("it has a form of its own"),
    };
    let Positions::Rope { theta, scaling } = &profile.positions else {
        return unsaid("learned positions of a rotary family");
    };
    let mut config = object(json!({
        "architectures": [architecture],
        "model_type": model_type,
        "vocab_size": profile.vocabulary,
        "hidden_size": profile.hidden,
        "intermediate_size": profile.intermediate,
        "num_hidden_layers": profile.layers,
        "num_attention_heads": profile.heads,
        "num_key_value_heads": profile.kv_heads,
        "head_dim": profile.head_dim,
        "max_position_embeddings": profile.context,
        "hidden_act": "silu",
        "rms_norm_eps": decimal(profile.norm_epsilon),
        "rope_theta": theta,
        "rope_scaling": rope_scaling(scaling)?,
        "tie_word_embeddings": profile.tied,
    }));
    if matches!(profile.family, Family::Llama | Family::Qwen3) {
        config.insert("attention_bias".into(), profile.biases.qkv.into());
    }
    if profile.family == Family::Llama {
        config.insert("mlp_bias".into(), profile.biases.mlp.into());
    }
    windows(profile, &mut config)?;
    Ok(config)
}

fn rope_scaling(scaling: &RopeScaling) -> Result<Value, RenderError> {
    Ok(match scaling {
        RopeScaling::None => Value::Null,
        RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
        RopeScaling::Llama3 {
            factor,
            low_frequency_factor,
            high_frequency_factor,
            original_context,
        } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_frequency_factor,
            "high_freq_factor": high_frequency_factor,
            "original_max_position_embeddings": original_context,
        }),
        RopeScaling::Divisors { .. } => {
            return unsaid("rotary frequencies with a divisor each, as GGUF files store them");
        }
    })
}

/// Windows: of all layers alike (Mistral), or of some, all of one size (Qwen).
fn windows(profile: &Profile, config: &mut Map<String, Value>) -> Result<(), RenderError> {
    let list = &profile.windows;
    let size = list.iter().flatten().next().copied();
    let alike = |window: &Option<u32>| window.is_none() || *window == size;
    let fits = match profile.family {
        Family::Mistral => list.iter().all(|window| *window == size),
        Family::Qwen2 | Family::Qwen3 => list.iter().all(alike),
        Family::Llama | Family::Gpt2 => list.is_empty(),
    };
    if !fits {
        return unsaid("windows of several sizes, or of a family that has none");
    }
    match profile.family {
        Family::Mistral => {
            config.insert("sliding_window".into(), size.into());
        }
        Family::Qwen2 | Family::Qwen3 => {
            config.insert("use_sliding_window".into(), size.is_some().into());
            config.insert("sliding_window".into(), size.into());
            let kind = |layer| match profile.window(layer) {
                Some(_) => "sliding_attention",
                None => "full_attention",
            };
            let kinds: Vec<&str> = (0..profile.layers).map(kind).collect();
            config.insert("layer_types".into(), kinds.into());
        }
        Family::Llama | Family::Gpt2 => {}
    }
    Ok(())
}

/// The shortest decimal number that is this one in single precision.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| value.into())
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn unsaid<T>(what: &'static str) -> Result<T, RenderError> {
    Err(RenderError { what })
}
