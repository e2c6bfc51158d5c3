//! What a node can do, each role joined to the machine: links, a stage, an entry.

pub mod entry;
pub mod identity;
pub mod links;
pub mod mailbox;
pub mod stage;
