//! A client of the gateway: who is served there, how it is, and answers from it.
//!
//! ```text
//! address ─► client ─► GET  /v1/models, /v1/network     one request, one deadline
//!                  └─► POST /v1/chat/completions ─► bytes ─► events (sse) ─► chunks ─► text (answer)
//! ```
//! The HTTP library blocks, so an answer is read on a thread of its own that hands events through a
//! bounded channel. What the server sends is bounded before it is kept, and no wait is without a
//! deadline: a server may be slow, broken, or no server of models at all.

mod address;
mod answer;
mod client;
mod error;
mod sse;
#[cfg(test)]
mod tests;

pub use address::{Address, AddressError};
pub use answer::{AnswerRequest, AnswerStream, SamplingFields};
pub use client::{Client, Deadlines, NetworkAnswer};
pub use error::RemoteError;
pub(crate) use error::words;
pub use sse::SseError;

/// The environment variable with the key that servers are shown.
pub const KEY_VARIABLE: &str = "SKEIN_API_KEY";
