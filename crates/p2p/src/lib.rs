//! Carry typed messages and streams between peers.
//!
//! So far: [`Identity`], and [`link`]: one TCP connection with TLS 1.3 in which both ends prove the
//! ed25519 key that is their name. `docs/transport.md` of the repository says why this and not
//! libp2p's own streams.
#![forbid(unsafe_code)]

mod frame;
pub mod identity;
pub mod link;
pub mod links;
mod outgoing;
mod tls;

pub use identity::{Identity, IdentityError};
pub use link::{LinkConfig, LinkError, LinkReader, LinkWriter, accept, connect};
pub use links::{AddressBook, LinkEvent, LinkEventKind, Links, LinksConfig, SendError};
