//! Turn words into tokens and scores into words: tokenizer, chat template, sampler, stop strings.
//!
//! Pure: no clock, thread, I/O or randomness. Whatever a checkpoint or a client brings here
//! (`tokenizer.json`, templates, messages, scores of other nodes) may be hostile: it is bounded and
//! answered with typed errors.
#![forbid(unsafe_code)]

pub mod detokenizer;
pub mod gguf_tokenizer;
pub mod sampler;
pub mod stop;
pub mod template;
pub mod tokenizer;
pub mod tokenizer_training;
pub mod transcript;

pub use detokenizer::Detokenizer;
pub use sampler::{Sampled, Sampler, SamplingParams};
pub use stop::StopMatcher;
pub use template::{ChatRequest, ChatTemplate, Rendered};
pub use tokenizer::{Specials, Tokenizer};
pub use transcript::transcript;
