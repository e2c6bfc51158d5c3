//! The `config.json` of an export.

use serde::Serialize;
use serde_json::{Map, Value};

use super::tensors::Stored;
use super::{Export, ExportError};
use crate::config::{self, ConfigError};
use crate::hf;
use crate::source::Dtype;

/// The names of the element type: of transformers 5 and of those before.
const KEYS: [&str; 2] = ["dtype", "torch_dtype"];

/// The configuration that came along, or one made from the profile, with the element type that the
/// matrices are written in.
pub(super) fn bytes(export: &Export<'_>, stored: &[Stored<'_>]) -> Result<Vec<u8>, ExportError> {
    let profile = export.weights.profile();
    let own = export.sidecars.iter().find(|one| one.name == hf::CONFIG);
    let mut config = match own {
        Some(own) => {
            if config::parse(&own.bytes)? != *profile {
                return Err(ExportError::OtherModel);
            }
            let map: Result<Map<String, Value>, _> = serde_json::from_slice(&own.bytes);
            map.map_err(|error| ConfigError::Json {
                problem: error.to_string(),
            })?
        }
        None => config::render(profile)?,
    };
    let matrices = || stored.iter().filter(|one| one.shape.len() == 2);
    let dtype = match matrices().all(|one| one.dtype == Dtype::Bf16) {
        true => "bfloat16",
        false => "float32",
    };
    let present = KEYS.iter().find(|key| config.contains_key(**key));
    let key = present.copied().unwrap_or("torch_dtype");
    config.insert(key.to_owned(), dtype.into());
    Ok(pretty(&config))
}

/// JSON as people read it, with a newline at its end.
pub(super) fn pretty(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("texts and numbers have JSON");
    bytes.push(b'\n');
    bytes
}
