//! Measures transports for the links between stages: latency, tails, CPU and throughput.
//!
//! `run` starts four processes on loopback for each case, A to D. A frame goes A, B, C, D, and D answers A on
//! a link that A opened: the path of a token. `table` prints the medians of what `run` wrote.

mod keys;
mod link;
mod load;
mod node;
mod p2p;
mod quic;
mod run;
mod table;
mod tcp;
mod transport;

use anyhow::Result;
use clap::Parser;

#[derive(Parser, Debug)]
#[command(about)]
enum Cli {
    /// One of the four processes; started by `run`.
    Node(node::NodeArgs),
    /// Measure.
    Run(run::RunArgs),
    /// Print the medians of a file that `run` wrote.
    Table(table::TableArgs),
}

fn main() -> Result<()> {
    match Cli::parse() {
        Cli::Node(args) => node::run(&args),
        Cli::Run(args) => run::run(&args),
        Cli::Table(args) => table::run(&args),
    }
}
