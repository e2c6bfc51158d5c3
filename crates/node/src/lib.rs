//! Assemble roles from configuration, supervise them, and be the command line.
#![forbid(unsafe_code)]

pub mod bench;
pub mod config;
pub mod console;
pub mod generate;
pub mod hub;
pub mod locate;
pub mod logs;
pub mod memory;
pub mod stop;
