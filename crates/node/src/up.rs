//! A whole network on one machine: which processes there are, how they are started and watched.
//!
//! ```text
//! skein up ─┬─ skein node (gateway) ──links──┬─ stage 0a ── stage 1a ── …
//!           │                                └─ stage 0b ── stage 1b ── …
//!           └─ the state folder: the split model, keys, configurations and logs of all nodes
//! ```
//!
//! [`layout`] decides what the processes are, [`state`] keeps their files, [`supervisor`] keeps them
//! running.

pub mod layout;
pub mod state;
pub mod supervisor;
