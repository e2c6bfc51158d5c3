//! Rotary settings, in the form of old configurations (`rope_theta` beside `rope_scaling`) and of
//! transformers 5 (`rope_parameters`).

use super::{ConfigError, Fields};
use crate::profile::{Positions, RopeScaling};

/// The base that every served family falls back to.
const THETA: f64 = 10_000.0;

/// What is allowed beside the keys that a rope type needs.
const COMMON: &[&str] = &["rope_type", "type", "rope_theta", "partial_rotary_factor"];

/// Reads the rotary embedding; `context` is the default original context, as in transformers.
pub(super) fn positions(fields: &Fields, context: u32) -> Result<Positions, ConfigError> {
    full_rotation(fields)?;
    let outer = fields.number("rope_theta")?.unwrap_or(THETA);
    // Where both are given, transformers takes rope_scaling.
    let scaling = fields
        .object("rope_scaling")?
        .filter(|object| !object.is_empty());
    let parameters = fields
        .object("rope_parameters")?
        .filter(|object| !object.is_empty());
    let Some(rope) = scaling.or(parameters) else {
        return Ok(Positions::Rope {
            theta: outer,
            scaling: RopeScaling::None,
        });
    };
    full_rotation(&rope)?;
    let theta = rope.number("rope_theta")?.unwrap_or(outer);
    Ok(Positions::Rope {
        theta,
        scaling: read_scaling(&rope, context)?,
    })
}

fn full_rotation(fields: &Fields) -> Result<(), ConfigError> {
    match fields.number("partial_rotary_factor")? {
        None | Some(1.0) => Ok(()),
        Some(_) => Err(fields.unsupported(
            "partial_rotary_factor",
            "the rotation must cover whole heads",
        )),
    }
}

fn read_scaling(rope: &Fields, context: u32) -> Result<RopeScaling, ConfigError> {
    let name = if rope.text("rope_type")?.is_some() {
        "rope_type"
    } else {
        "type"
    };
    let need = |field| {
        rope.number(field)
            .and_then(|found| found.ok_or_else(|| rope.wrong(field, "a number")))
    };
    match rope.text(name)?.unwrap_or("default") {
        "default" => {
            refuse_others(rope, &[])?;
            Ok(RopeScaling::None)
        }
        "linear" => {
            // Written by some tools; the linear type does not read it.
            refuse_others(rope, &["factor", "original_max_position_embeddings"])?;
            Ok(RopeScaling::Linear {
                factor: need("factor")?,
            })
        }
        "llama3" => {
            let original = "original_max_position_embeddings";
            refuse_others(
                rope,
                &["factor", "low_freq_factor", "high_freq_factor", original],
            )?;
            Ok(RopeScaling::Llama3 {
                factor: need("factor")?,
                low_frequency_factor: need("low_freq_factor")?,
                high_frequency_factor: need("high_freq_factor")?,
                original_context: rope.count(original)?.unwrap_or(context),
            })
        }
        _ => Err(rope.unsupported(name, "served are default, linear and llama3")),
    }
}

fn refuse_others(rope: &Fields, read: &[&str]) -> Result<(), ConfigError> {
    for (name, value) in rope.iter() {
        if !value.is_null() && !COMMON.contains(&name) && !read.contains(&name) {
            return Err(rope.unsupported(name, "the rope type does not read it"));
        }
    }
    Ok(())
}
