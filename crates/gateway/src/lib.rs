//! Speak HTTP: OpenAI API, health and metrics.
#![forbid(unsafe_code)]

mod answering;
mod assembly;
mod backend;
mod body;
mod config;
mod cors;
mod endpoints;
mod error;
mod front;
mod host;
mod ids;
mod json;
mod keys;
mod limit;
mod metrics;
pub mod network;
mod openai;
mod prompts;
mod serve;
mod state;
#[cfg(test)]
mod tests;

pub use backend::{Backend, Model};
pub use config::{ConfigError, GatewayConfig, TlsPem};
pub use keys::{KEY_PREFIX, KeyEntry, KeyError, KeyHash, KeyLimits, format_key};
pub use metrics::{AlreadyInstalled, Metrics};
pub use serve::{Gateway, ServeError, serve};

/// The name of clients without a key, where none is needed.
pub const ANONYMOUS: &str = "anonymous";
