//! The model that comes with the program: what `skein up` serves when nobody names another.
//!
//! A few million parameters, trained by Skein itself on text that this repository generates;
//! `docs/genesis.md` tells how, and what it can do.

use skein_base::Blake3;
use skein_weights::bytes::MemoryFolder;

/// What one writes to mean it, where a model is asked for.
pub const NAME: &str = "embedded";

/// Files of an ordinary Hugging Face folder.
const FILES: [(&str, &[u8]); 5] = [
    (
        "config.json",
        include_bytes!("../../../genesis/config.json"),
    ),
    (
        "generation_config.json",
        include_bytes!("../../../genesis/generation_config.json"),
    ),
    (
        "model.safetensors",
        include_bytes!("../../../genesis/model.safetensors"),
    ),
    (
        "tokenizer.json",
        include_bytes!("../../../genesis/tokenizer.json"),
    ),
    (
        "tokenizer_config.json",
        include_bytes!("../../../genesis/tokenizer_config.json"),
    ),
];

/// What the API calls it.
pub const MODEL_NAME: &str = "skein-small";

/// The files, as a folder.
#[must_use]
pub fn folder() -> MemoryFolder {
    MemoryFolder::new(FILES.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())))
}

/// Another one for every change of a file.
#[must_use]
pub fn fingerprint() -> Blake3 {
    let digests = FILES.map(|(name, bytes)| format!("{name} {}\n", Blake3::of(bytes)));
    Blake3::of(digests.concat().as_bytes())
}
