//! Bounds on templates and what they do.

/// Longest source of a template, in bytes; those of large tool-using models take 20 KB.
pub const SOURCE_BYTES_MAX: usize = 256 << 10;
/// Most instructions of one rendering; a message costs a typical template about 50.
pub const STEPS_MAX: u64 = 2_000_000;
/// Most bytes that operators, filters and methods may read and write in one rendering.
pub const WORK_BYTES_MAX: u64 = 256 << 20;
/// Longest rendered chat, in bytes.
pub const OUTPUT_BYTES_MAX: usize = crate::tokenizer::TEXT_BYTES_MAX;
/// Longest list, in items.
pub const ITEMS_MAX: usize = 100_000;
/// Deepest nesting of calls in a template.
pub const RECURSION_MAX: usize = 64;
/// Deepest nesting of messages and tools.
pub const DEPTH_MAX: usize = 64;
/// Most messages.
pub const MESSAGES_MAX: usize = 16_384;
/// Most bytes that literal text of a template may add up to if every step writes the longest.
pub const LITERAL_BYTES_MAX: u64 = 512 << 20;
