//! Training from the command line: what `skein train` reads, keeps and tells.
//!
//! In the folder that it is given, `training/` holds the settings (`settings.json`), the last state
//! (`state.safetensors`) and a log (`log.jsonl`); the trained model is written beside it at the
//! end, as an ordinary Hugging Face folder.

pub mod curve;
pub mod model;
pub mod report;
pub mod samples;
pub mod settings;
