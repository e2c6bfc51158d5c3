//! Where llama.cpp's converter put each canonical tensor, and in what order of rows.

use crate::part::Part;
use crate::profile::{Profile, TensorSpec};
use crate::stored::Order;

use super::architecture::Architecture;

/// Where a canonical tensor is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    /// The name in the file.
    pub(super) name: String,
    /// The shape in the file, outermost dimension first.
    pub(super) shape: Vec<u64>,
    /// The first row (element of a vector) that belongs to the canonical tensor.
    pub(super) first: u64,
    /// The order of the rows (elements of a vector).
    pub(super) order: Order,
}

/// Where `spec` of `part` is. Every canonical tensor of the served architectures has a place.
pub(super) fn stored(
    profile: &Profile,
    architecture: Architecture,
    part: Part,
    spec: &TensorSpec,
) -> Stored {
    let (stem, kind) = spec.name.rsplit_once('.').unwrap_or((spec.name, "weight"));
    let plain = |name: String| Stored {
        name: format!("{name}.{kind}"),
        shape: spec.shape.clone(),
        first: 0,
        order: Order::Plain,
    };
    let Part::Layer(layer) = part else {
        return plain(outer(stem).to_owned());
    };
    let blk = |stem: &str| format!("blk.{layer}.{stem}");
    let (query, kv) = (
        u64::from(profile.query_width()),
        u64::from(profile.kv_width()),
    );
    let fused = |first| {
        let mut shape = spec.shape.clone();
        shape[0] = query + 2 * kv;
        Stored {
            shape,
            first,
            ..plain(blk("attn_qkv"))
        }
    };
    let interleaved = Order::Interleaved {
        head_dim: u64::from(profile.head_dim),
    };
    match (architecture, stem) {
        (Architecture::Gpt2, "attn_q") => fused(0),
        (Architecture::Gpt2, "attn_k") => fused(query),
        (Architecture::Gpt2, "attn_v") => fused(query + kv),
        (Architecture::Llama, "attn_q" | "attn_k") => Stored {
            order: interleaved,
            ..plain(blk(stem))
        },
        _ => plain(blk(inner(stem))),
    }
}

/// llama.cpp's word for a tensor outside the layers.
fn outer(stem: &str) -> &str {
    match stem {
        "tokens" => "token_embd",
        "positions" => "position_embd",
        "norm" => "output_norm",
        "head" => "output",
        other => other,
    }
}

/// llama.cpp's word for a tensor of a layer.
fn inner(stem: &str) -> &str {
    match stem {
        "attn_o" => "attn_output",
        "q_norm" => "attn_q_norm",
        "k_norm" => "attn_k_norm",
        "mlp_norm" => "ffn_norm",
        "mlp_gate" => "ffn_gate",
        "mlp_up" => "ffn_up",
        "mlp_down" => "ffn_down",
        other => other,
    }
}
