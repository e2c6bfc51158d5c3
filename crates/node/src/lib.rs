//! Assemble roles from configuration, supervise them, and be the command line.
#![forbid(unsafe_code)]

pub mod bench;
pub mod budget;
pub mod carried;
pub mod cli;
pub mod config;
pub mod console;
pub mod embedded;
pub mod generate;
pub mod hub;
pub mod keys;
pub mod locate;
pub mod logs;
pub mod memory;
pub mod node;
pub mod open;
pub mod prompt;
pub mod remote;
pub mod roles;
pub mod stop;
pub mod train;
pub mod up;
