//! Names of canonical tensors in Hugging Face checkpoints.

use crate::part::Part;
use crate::profile::{Family, Profile};

/// Where a canonical tensor is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Name without the whole model's prefix.
    pub(crate) name: String,
    /// Whether the matrix is stored as `[inputs, outputs]`.
    pub(crate) transposed: bool,
    /// Which part of the stored outputs it is.
    pub(crate) share: Share,
}

/// One of `of` equal parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) index: u64,
    pub(crate) of: u64,
}

const WHOLE: Share = Share { index: 0, of: 1 };

/// A tensor's name without the prefix that the base model has inside the whole one.
pub(super) fn without_prefix(name: &str) -> &str {
    name.strip_prefix("model.")
        .or_else(|| name.strip_prefix("transformer."))
        .unwrap_or(name)
}

/// The name that a whole model's checkpoint has for a tensor.
pub(crate) fn full_name(profile: &Profile, origin: &Origin) -> String {
    let prefix = match profile.family {
        // The head is beside the base model, not inside.
        _ if origin.name.starts_with("lm_head.") => "",
        Family::Gpt2 => "transformer.",
        _ => "model.",
    };
    format!("{prefix}{}", origin.name)
}

/// Where the canonical tensor `name` of `part` is stored.
pub(crate) fn origin(profile: &Profile, part: Part, name: &str) -> Origin {
    let (base, kind) = name
        .rsplit_once('.')
        .expect("canonical names end in .weight or .bias");
    if profile.family == Family::Gpt2 {
        return gpt2(part, base, kind);
    }
    let stem = match base {
        "tokens" => "embed_tokens",
        "head" => "lm_head",
        "norm" => "norm",
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_o" => "self_attn.o_proj",
        "q_norm" => "self_attn.q_norm",
        "k_norm" => "self_attn.k_norm",
        "mlp_norm" => "post_attention_layernorm",
        "mlp_gate" => "mlp.gate_proj",
        "mlp_up" => "mlp.up_proj",
        "mlp_down" => "mlp.down_proj",
        other => unreachable!("no rotary family has {other}"),
    };
    let name = match part {
        Part::Layer(index) => format!("layers.{index}.{stem}.{kind}"),
        Part::Embedding | Part::Head => format!("{stem}.{kind}"),
    };
    Origin {
        name,
        transposed: false,
        share: WHOLE,
    }
}

fn gpt2(part: Part, base: &str, kind: &str) -> Origin {
    let (stem, transposed, share) = match base {
        "tokens" => ("wte", false, WHOLE),
        "positions" => ("wpe", false, WHOLE),
        "norm" => ("ln_f", false, WHOLE),
        "head" => ("lm_head", false, WHOLE),
        "attn_norm" => ("ln_1", false, WHOLE),
        "attn_q" => ("attn.c_attn", true, Share { index: 0, of: 3 }),
        "attn_k" => ("attn.c_attn", true, Share { index: 1, of: 3 }),
        "attn_v" => ("attn.c_attn", true, Share { index: 2, of: 3 }),
        "attn_o" => ("attn.c_proj", true, WHOLE),
        "mlp_norm" => ("ln_2", false, WHOLE),
        "mlp_up" => ("mlp.c_fc", true, WHOLE),
        "mlp_down" => ("mlp.c_proj", true, WHOLE),
        other => unreachable!("GPT-2 has no {other}"),
    };
    let name = match part {
        Part::Layer(index) => format!("h.{index}.{stem}.{kind}"),
        Part::Embedding | Part::Head => format!("{stem}.{kind}"),
    };
    Origin {
        name,
        transposed,
        share,
    }
}

/// Buffers that old exporters stored: masks and frequencies, which follow from the configuration.
pub(super) fn is_ignorable(profile: &Profile, name: &str) -> bool {
    let (layers, ends): (_, &[&str]) = match profile.family {
        Family::Gpt2 => ("h.", &["attn.bias", "attn.masked_bias"]),
        _ => ("layers.", &["self_attn.rotary_emb.inv_freq"]),
    };
    if name == "rotary_emb.inv_freq" {
        return profile.family != Family::Gpt2;
    }
    let inner = name
        .strip_prefix(layers)
        .and_then(|rest| rest.split_once('.'));
    inner.is_some_and(|(index, rest)| {
        index.parse().is_ok_and(|index: u32| index < profile.layers) && ends.contains(&rest)
    })
}
