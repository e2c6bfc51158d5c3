//! Bounded channels: the only kind there is.
//!
//! Other crates take their channels from here, so that a simulated runtime can replace them and no
//! queue without a bound slips in.

pub use tokio::sync::mpsc::{Permit, Receiver, Sender, channel as bounded, error};
pub use tokio::sync::{Notify, oneshot, watch};
