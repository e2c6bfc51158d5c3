//! Bounds on everything that comes from outside, in one place.
//!
//! A bound is checked before memory is allocated for what it bounds.

/// Largest JSON header of a safetensors file, in bytes. The reference implementation's own bound.
pub const SAFETENSORS_HEADER_BYTES_MAX: u64 = 100_000_000;
/// Largest JSON document that describes a model (config, index, manifest), in bytes.
pub const MODEL_JSON_BYTES_MAX: u64 = 64 << 20;
/// Largest `tokenizer.json`, in bytes; those of 256k-token vocabularies take about 35 MB.
pub const TOKENIZER_BYTES_MAX: u64 = 128 << 20;
/// Most dimensions that a tensor may have.
pub const TENSOR_RANK_MAX: usize = 8;
/// Most tensors in one file.
pub const TENSORS_PER_FILE_MAX: usize = 1 << 20;
/// Most files in one model folder.
pub const FILES_PER_MODEL_MAX: usize = 1 << 16;
/// Longest name of a tensor, file or metadata key, in bytes.
pub const NAME_BYTES_MAX: usize = 1024;
/// Most transformer layers.
pub const LAYERS_MAX: u32 = 4096;
/// Widest dimension of a model (hidden, intermediate, heads times head size).
pub const WIDTH_MAX: u32 = 1 << 20;
/// Largest vocabulary.
pub const VOCABULARY_MAX: u32 = 1 << 24;
/// Longest context, in tokens.
pub const CONTEXT_MAX: u32 = 1 << 26;
/// The unit of transfer and verification of weights, in bytes.
pub const CHUNK_BYTES: u64 = 4 << 20;
/// How many of the best logits the last stage returns.
pub const TOP_SCORES: usize = 256;
/// Most ids that an entry may ask to have scored beside the best ones.
pub const ASKED_SCORES_MAX: usize = 1024;
/// Most bytes of one message between stages.
pub const STAGE_MESSAGE_BYTES_MAX: usize = 256 << 20;
/// Most stages of one circuit.
pub const HOPS_MAX: usize = 64;
/// Most sessions with rows in one message between stages.
pub const BATCH_ENTRIES_MAX: usize = 4096;
/// Most rows in one message between stages.
pub const BATCH_ROWS_MAX: usize = 1 << 16;
/// Most sequences that one message between stages forks or gives up.
pub const BATCH_CHANGES_MAX: usize = 1 << 14;
/// Longest voucher that pays for a circuit, in bytes.
pub const VOUCHER_BYTES_MAX: usize = 4096;
