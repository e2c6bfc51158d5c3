//! Whole networks on a virtual clock, from one seed.
//!
//! An entry with its scheduler and its circuit, and stages with real slices of real checkpoints; every
//! message passes through its encoding. Links delay what they carry and lose it, stages compute
//! slowly, stop, die and come back. Nothing here reads a clock or draws randomness but from the seed,
//! so that the same seed gives the same trace.
#![forbid(unsafe_code)]

mod entry;
mod net;
mod random;
mod reference;

pub use entry::{Outcomes, Plan, run};
pub use net::{ENTRY, Faults, Net, PAGES, Shape};
pub use random::Random;
pub use reference::{Tokens, alone, expected, load, requests};
