//! The gateway over a scripted backend, in process.

mod answers;
mod errors;
mod hostile;
mod network;
pub(crate) mod rig;
mod security;
mod tcp;
