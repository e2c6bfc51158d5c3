//! Say what a model shall learn and judge what it has learned: the small world of the embedded model.
//!
//! [`world`] makes conversations about a few people, places and things, about numbers, and about
//! Skein itself, from a seed. [`checker`] judges answers by a grammar and a semantics of its own.
//! [`chat`] says how conversations are written for a model, [`entropy`] what its loss is compared
//! with, [`evaluate`] asks a model and counts.
//!
//! Everything here is decided from values: no clock, file, thread or entropy of the machine.
//! `docs/genesis.md` tells what the world holds and how it was chosen.
#![forbid(unsafe_code)]

pub mod answer;
pub mod chat;
pub mod checker;
pub mod entropy;
pub mod evaluate;
pub mod world;

pub use answer::{Class, Expected, Form, Measure};
pub use world::{Course, Kind, Sample, Split, Turn, World};
