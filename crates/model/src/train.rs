//! Training: gradients, optimiser, what learns, states that survive a kill.
//!
//! The network is the twin's ([`crate::twin`]) over operations made for training: large steps with
//! their own backward pass, plain code whose sums have one order. A step is a function of weights,
//! optimiser state, batch and seed: neither threads nor instruction set change a bit of it, nor
//! does stopping and going on from a state.
//!
//! [`Trainer`] makes steps over [`Batch`]es, [`Feed`] makes batches of samples, [`run()`] drives both
//! and tells an [`Observer`]. Nothing here reads a clock or a file.

mod adamw;
mod batch;
mod config;
mod feed;
mod gradients;
mod initial;
mod learned;
mod operations;
mod pack;
mod run;
mod schedule;
mod state;
mod trainer;

pub use crate::memory::keep_freed_memory;
pub use batch::{Batch, BatchError};
pub use config::{ConfigError, TrainConfig};
pub use feed::{Feed, FeedError, Position, Sample};
pub use initial::initial;
pub use learned::{LearnedError, Lora, ParameterSet};
pub use run::{Ended, Flow, Observer, Plan, run};
pub use state::{StateError, StateFile, write_state};
pub use trainer::{Evaluation, Step, TrainError, Trainer};
