//! Hold the repository to its own rules: the tidy check.
//!
//! The rules are a library, so that a test runs them with all other tests ([`tidy`]); the binary
//! is for people who want the findings alone: `cargo xtask tidy`.
#![forbid(unsafe_code)]

pub mod tidy;
