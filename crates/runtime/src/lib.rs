//! Time, tasks, randomness, files and channels: the only crate that touches the machine below it.
#![forbid(unsafe_code)]
