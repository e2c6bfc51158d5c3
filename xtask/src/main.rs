//! `cargo xtask <chore>`: the chores of this repository.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The chores of this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Check layers, owners of foreign libraries, and the rules of STYLE.md that no lint knows.
    Tidy,
}

#[expect(clippy::print_stderr, reason = "a tool for people at a terminal")]
fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().chore {
        Chore::Tidy => {
            let findings = xtask::tidy::run(&xtask::tidy::repository_root())?;
            for finding in &findings {
                eprintln!("{finding}");
            }
            Ok(if findings.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
    }
}
