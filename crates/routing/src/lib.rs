//! Send a request through untrusted stages and get the right answer back.
//!
//! [`Pipeline`] is an executor for `skein-serving`'s engine whose model is cut over other nodes: it
//! keeps a circuit through one replica of every slice, sends batches down the chain, takes scores
//! from its end, and when anything on the way fails it leaves the circuit for another. The engine then replays its
//! sessions from their tokens, which gives the same bits.
#![forbid(unsafe_code)]

pub mod directory;
pub mod pipeline;

pub use directory::{Directory, StageRecord, StaticDirectory};
pub use pipeline::{Inbox, Incoming, Mode, ModelSpec, Pipeline, PipelineConfig, Post, PostError};
