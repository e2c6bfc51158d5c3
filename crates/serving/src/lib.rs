//! Serve one pipeline stage: sessions, batches, KV, admission.
//!
//! [`Engine::start`] gives a thread that owns a [`Stage`] (a model and its KV); [`EngineHandle`]
//! takes [`Request`]s from any task and gives [`Generation`]s, whose [`Event`]s are the answer. All
//! decisions are in [`scheduler`], which knows neither threads nor time.
#![forbid(unsafe_code)]

pub mod config;
pub mod desk;
pub mod engine;
pub mod host;
pub mod metrics;
pub mod prefix;
pub mod request;
pub mod scheduler;
pub mod stage;
pub mod store;
#[cfg(test)]
mod testing;
pub mod view;
pub mod wire;

pub use config::{ConfigError, EngineConfig};
pub use engine::{Engine, EngineHandle, Generation, StartError};
pub use request::{
    ClientId, Event, FinishReason, GenerationError, Request, SubmitError, Token, Usage,
};
pub use scheduler::{Load, Scheduler};
pub use stage::{
    Executor, Local, ModelStage, Paging, Progress, Stage, StageError, StageLimits, Ticket, Wake,
};
pub use store::{Spill, StoreError};
