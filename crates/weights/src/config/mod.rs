//! `config.json` of a Hugging Face checkpoint, as a [`Profile`].
//!
//! Defaults of absent fields are those of the family's own configuration class in transformers.
//! A field that would change results and that Skein does not serve is refused by name. Fields
//! known to be harmless are listed per family; any other one is refused too, unless its value is
//! null, false or empty, which is how configurations say that a feature is off.

mod error;
mod fields;
mod harmless;
mod render;
mod rope;
#[cfg(test)]
mod tests;

pub use error::ConfigError;
pub use render::{RenderError, render};

use skein_base::limits;

use crate::profile::{Biases, Family, Mlp, NormKind, Positions, Profile};
use fields::Fields;

/// Reads the bytes of a `config.json`.
///
/// The profile that comes back is within all bounds ([`Profile::check`]).
pub fn parse(bytes: &[u8]) -> Result<Profile, ConfigError> {
    let found = bytes.len() as u64;
    if found > limits::MODEL_JSON_BYTES_MAX {
        return Err(ConfigError::TooLarge {
            found,
            max: limits::MODEL_JSON_BYTES_MAX,
        });
    }
    let fields = Fields::parse(bytes)?;
    let family = family(&fields)?;
    harmless::refuse_unknown(family, &fields)?;
    refuse_other_heads(family, &fields)?;
    let profile = match family {
        Family::Gpt2 => gpt2(&fields)?,
        Family::Llama | Family::Mistral | Family::Qwen2 | Family::Qwen3 => rotary(family, &fields)?,
    };
    profile.check()?;
    Ok(profile)
}

fn family(fields: &Fields) -> Result<Family, ConfigError> {
    let name = fields.text("model_type")?.ok_or(ConfigError::NoModelType)?;
    Ok(match name {
        "llama" => Family::Llama,
        "mistral" => Family::Mistral,
        "qwen2" => Family::Qwen2,
        "qwen3" => Family::Qwen3,
        "gpt2" => Family::Gpt2,
        _ => {
            return Err(ConfigError::UnknownFamily {
                model_type: cut(name),
            });
        }
    })
}

/// A checkpoint of the right family may still be no language model (a classifier, a reward model).
fn refuse_other_heads(family: Family, fields: &Fields) -> Result<(), ConfigError> {
    let stem = match family {
        Family::Llama => "Llama",
        Family::Mistral => "Mistral",
        Family::Qwen2 => "Qwen2",
        Family::Qwen3 => "Qwen3",
        Family::Gpt2 => "GPT2",
    };
    let names = fields.texts("architectures")?.unwrap_or_default();
    let served = |name: &str| {
        let head = name
            .strip_prefix(stem)
            .or_else(|| name.strip_prefix("LLaMA"));
        matches!(
            head,
            Some("ForCausalLM" | "LMHeadModel" | "DoubleHeadsModel" | "Model")
        )
    };
    if names.is_empty() || names.iter().any(|name| served(name)) {
        return Ok(());
    }
    Err(fields.unsupported("architectures", "Skein serves causal language models"))
}

/// Defaults of a family's configuration class.
struct Defaults {
    vocabulary: u32,
    hidden: u32,
    intermediate: u32,
    layers: u32,
    heads: u32,
    /// `None`: as many as query heads.
    kv_heads: Option<u32>,
    /// `None`: `hidden / heads`.
    head_dim: Option<u32>,
    context: u32,
}

fn defaults(family: Family) -> Defaults {
    let llama = Defaults {
        vocabulary: 32_000,
        hidden: 4096,
        intermediate: 11_008,
        layers: 32,
        heads: 32,
        kv_heads: None,
        head_dim: None,
        context: 2048,
    };
    let qwen = Defaults {
        vocabulary: 151_936,
        intermediate: 22_016,
        kv_heads: Some(32),
        context: 32_768,
        ..llama
    };
    match family {
        Family::Llama => llama,
        Family::Mistral => Defaults {
            intermediate: 14_336,
            kv_heads: Some(8),
            context: 131_072,
            ..llama
        },
        Family::Qwen2 => qwen,
        Family::Qwen3 => Defaults {
            head_dim: Some(128),
            ..qwen
        },
        Family::Gpt2 => Defaults {
            vocabulary: 50_257,
            hidden: 768,
            intermediate: 3072,
            layers: 12,
            heads: 12,
            context: 1024,
            ..llama
        },
    }
}

fn rotary(family: Family, fields: &Fields) -> Result<Profile, ConfigError> {
    let base = defaults(family);
    fields.expect_text("hidden_act", "silu", &["silu", "swish"])?;
    let hidden = fields.count("hidden_size")?.unwrap_or(base.hidden);
    let heads = fields.count("num_attention_heads")?.unwrap_or(base.heads);
    let kv_heads = match fields.has("num_key_value_heads") {
        // Null and absent are not the same: null means as many as query heads.
        true => fields.count("num_key_value_heads")?.unwrap_or(heads),
        false => base.kv_heads.unwrap_or(heads),
    };
    let derived = hidden.checked_div(heads).unwrap_or(0);
    let head_dim = match fields.count("head_dim")? {
        Some(explicit) => explicit,
        None => base.head_dim.unwrap_or(derived),
    };
    let context = fields
        .count("max_position_embeddings")?
        .unwrap_or(base.context);
    let layers = fields.count("num_hidden_layers")?.unwrap_or(base.layers);
    let attention_bias = fields.flag("attention_bias")?.unwrap_or(false);
    let mlp_bias = fields.flag("mlp_bias")?.unwrap_or(false);
    let biases = match family {
        Family::Qwen2 => Biases {
            qkv: true,
            attention_output: false,
            mlp: false,
        },
        Family::Llama => Biases {
            qkv: attention_bias,
            attention_output: attention_bias,
            mlp: mlp_bias,
        },
        Family::Qwen3 => Biases {
            qkv: attention_bias,
            attention_output: attention_bias,
            mlp: false,
        },
        Family::Mistral | Family::Gpt2 => Biases {
            qkv: false,
            attention_output: false,
            mlp: false,
        },
    };
    Ok(Profile {
        family,
        vocabulary: fields.count("vocab_size")?.unwrap_or(base.vocabulary),
        hidden,
        intermediate: fields
            .count("intermediate_size")?
            .unwrap_or(base.intermediate),
        layers,
        heads,
        kv_heads,
        head_dim,
        context,
        norm: NormKind::Rms,
        norm_epsilon: fields.number("rms_norm_eps")?.unwrap_or(1e-6) as f32,
        positions: rope::positions(fields, context)?,
        mlp: Mlp::GatedSilu,
        biases,
        qk_norm: family == Family::Qwen3,
        windows: windows(family, fields, layers)?,
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(false),
    })
}

fn gpt2(fields: &Fields) -> Result<Profile, ConfigError> {
    let base = defaults(Family::Gpt2);
    fields.expect_text(
        "activation_function",
        "gelu_new",
        &["gelu_new", "gelu_pytorch_tanh"],
    )?;
    fields.expect_flag("scale_attn_weights", true, true)?;
    for off in [
        "scale_attn_by_inverse_layer_idx",
        "reorder_and_upcast_attn",
        "add_cross_attention",
    ] {
        fields.expect_flag(off, false, false)?;
    }
    let count = |name, alias, default| -> Result<u32, ConfigError> {
        Ok(fields
            .count(name)?
            .or(fields.count(alias)?)
            .unwrap_or(default))
    };
    let hidden = count("n_embd", "hidden_size", base.hidden)?;
    let heads = count("n_head", "num_attention_heads", base.heads)?;
    let context = count("n_positions", "max_position_embeddings", base.context)?;
    let wide = hidden.saturating_mul(4);
    let uneven = heads == 0 || !hidden.is_multiple_of(heads);
    if uneven {
        return Err(fields.unsupported("n_head", "it must divide n_embd"));
    }
    Ok(Profile {
        family: Family::Gpt2,
        vocabulary: fields.count("vocab_size")?.unwrap_or(base.vocabulary),
        hidden,
        intermediate: fields.count("n_inner")?.unwrap_or(wide),
        layers: count("n_layer", "num_hidden_layers", base.layers)?,
        heads,
        kv_heads: heads,
        head_dim: hidden / heads,
        context,
        norm: NormKind::Layer,
        norm_epsilon: fields.number("layer_norm_epsilon")?.unwrap_or(1e-5) as f32,
        positions: Positions::Learned { count: context },
        mlp: Mlp::GeluTanh,
        biases: Biases {
            qkv: true,
            attention_output: true,
            mlp: true,
        },
        qk_norm: false,
        windows: Vec::new(),
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(true),
    })
}

/// A window of `w` lets position `p` attend to `p - w + 1 ..= p`.
fn windows(family: Family, fields: &Fields, layers: u32) -> Result<Vec<Option<u32>>, ConfigError> {
    // The list below has one entry per layer: bound it before it is made.
    if layers > limits::LAYERS_MAX {
        return Ok(Vec::new());
    }
    let size = match family {
        // Absent is the default of 4096, null is none.
        Family::Mistral => match fields.has("sliding_window") {
            true => fields.count("sliding_window")?,
            false => Some(4096),
        },
        Family::Qwen2 | Family::Qwen3 => {
            match (
                fields.flag("use_sliding_window")?,
                fields.has("sliding_window"),
            ) {
                (Some(true), true) => fields.count("sliding_window")?,
                (Some(true), false) => Some(4096),
                _ => None,
            }
        }
        Family::Llama | Family::Gpt2 => None,
    };
    let first = match family {
        Family::Qwen2 | Family::Qwen3 => fields.index("max_window_layers")?.unwrap_or(28),
        _ => 0,
    };
    let by_default = |layer| size.filter(|_| layer >= first);
    let mut list: Vec<Option<u32>> = (0..layers).map(by_default).collect();
    if let Some(types) = fields.texts("layer_types")? {
        let typed = typed_windows(fields, &types, size, layers)?;
        let decides = matches!(family, Family::Qwen2 | Family::Qwen3);
        if !decides && typed != list {
            // Transformers ignores the list for these families; who wrote it meant something.
            return Err(fields.unsupported("layer_types", "it contradicts sliding_window"));
        }
        list = typed;
    }
    if list.iter().all(Option::is_none) {
        list.clear();
    }
    Ok(list)
}

fn typed_windows(
    fields: &Fields,
    types: &[&str],
    size: Option<u32>,
    layers: u32,
) -> Result<Vec<Option<u32>>, ConfigError> {
    if types.len() != layers as usize {
        return Err(fields.unsupported("layer_types", "it must name one type per layer"));
    }
    let window = |kind: &&str| match (*kind, size) {
        ("full_attention", _) => Ok(None),
        ("sliding_attention", Some(size)) => Ok(Some(size)),
        _ => Err(fields.unsupported(
            "layer_types",
            "Skein serves full_attention, and sliding_attention where a sliding_window is in use",
        )),
    };
    types.iter().map(window).collect()
}

/// Text for a message, of bounded length.
fn cut(text: &str) -> String {
    text.chars().take(120).collect()
}
