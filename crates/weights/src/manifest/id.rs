//! The model id.

use skein_base::codec::Writer;
use skein_base::{Blake3, ModelId};

use super::{PartEntry, SidecarEntry};
use crate::checkpoint::SidecarRole;
use crate::profile::{Family, Mlp, NormKind, Positions, Profile, RopeScaling};

pub(super) fn model_id(profile: &Profile, files: &[SidecarEntry], parts: &[PartEntry]) -> ModelId {
    let mut writer = Writer::domain("skein model id 2");
    write_profile(&mut writer, profile);
    let tokenizers: Vec<&SidecarEntry> = files
        .iter()
        .filter(|entry| entry.role == SidecarRole::Tokenizer)
        .collect();
    writer.u32(tokenizers.len() as u32);
    for entry in tokenizers {
        writer
            .bytes(entry.name.as_bytes())
            .u64(entry.bytes)
            .raw(&entry.sha256.0);
    }
    writer.u32(parts.len() as u32);
    for entry in parts {
        writer.raw(&entry.blake3.0);
    }
    ModelId(Blake3::of(&writer.finish()).0)
}

/// The canonical encoding of a profile: fields in the order of the type, enumerations as numbers
/// that never change their meaning, floats as their bits.
pub(crate) fn write_profile(writer: &mut Writer, profile: &Profile) {
    writer.u8(match profile.family {
        Family::Llama => 0,
        Family::Mistral => 1,
        Family::Qwen2 => 2,
        Family::Qwen3 => 3,
        Family::Gpt2 => 4,
    });
    for dimension in [
        profile.vocabulary,
        profile.hidden,
        profile.intermediate,
        profile.layers,
        profile.heads,
        profile.kv_heads,
        profile.head_dim,
        profile.context,
    ] {
        writer.u32(dimension);
    }
    writer.u8(match profile.norm {
        NormKind::Rms => 0,
        NormKind::Layer => 1,
    });
    writer.u32(profile.norm_epsilon.to_bits());
    write_positions(writer, &profile.positions);
    writer.u8(match profile.mlp {
        Mlp::GatedSilu => 0,
        Mlp::GeluTanh => 1,
    });
    let biases = profile.biases;
    for flag in [
        biases.qkv,
        biases.attention_output,
        biases.mlp,
        profile.qk_norm,
    ] {
        writer.u8(u8::from(flag));
    }
    writer.u32(profile.windows.len() as u32);
    for window in &profile.windows {
        // Zero is no window: a real one is at least 1.
        writer.u32(window.unwrap_or(0));
    }
    writer.u8(u8::from(profile.tied));
}

fn write_positions(writer: &mut Writer, positions: &Positions) {
    match positions {
        Positions::Learned { count } => {
            writer.u8(0).u32(*count);
        }
        Positions::Rope { theta, scaling } => {
            writer.u8(1).u64(theta.to_bits());
            write_scaling(writer, scaling);
        }
    }
}

fn write_scaling(writer: &mut Writer, scaling: &RopeScaling) {
    match scaling {
        RopeScaling::None => {
            writer.u8(0);
        }
        RopeScaling::Linear { factor } => {
            writer.u8(1).u64(factor.to_bits());
        }
        RopeScaling::Llama3 {
            factor,
            low_frequency_factor: low,
            high_frequency_factor: high,
            original_context,
        } => {
            writer
                .u8(2)
                .u64(factor.to_bits())
                .u64(low.to_bits())
                .u64(high.to_bits());
            writer.u32(*original_context);
        }
        RopeScaling::Divisors { divisors } => {
            writer.u8(3).u32(divisors.len() as u32);
            for divisor in divisors {
                writer.u32(divisor.to_bits());
            }
        }
    }
}
