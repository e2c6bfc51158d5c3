//! The parent: starts four nodes for each case, gives the commands, keeps the accounts.

use std::{
    fs::{self, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command as Process, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::{
    keys::NODES,
    load,
    node::{Command, Operation, Times},
    transport::Transport,
};

const BULK_FRAMES: usize = 64 * 1024 / 28;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Runtime {
    /// tokio's current-thread runtime.
    Current,
    /// tokio's multi-thread runtime with two workers.
    Multi,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Load {
    Idle,
    /// Half of every core is taken.
    Busy,
    /// The same at a low priority.
    BusyNice,
}

#[derive(Args, Debug)]
pub struct RunArgs {
    #[arg(long, value_delimiter = ',')]
    transports: Vec<Transport>,
    #[arg(long, value_delimiter = ',', default_values = ["current", "multi"])]
    runtimes: Vec<Runtime>,
    #[arg(long, value_delimiter = ',', default_values = ["idle", "busy"])]
    loads: Vec<Load>,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Frames per back-to-back measurement.
    #[arg(long, default_value_t = 2000)]
    count: usize,
    /// Where results are appended, one JSON object per line.
    #[arg(long)]
    out: PathBuf,
}

/// One measurement of one case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub transport: String,
    pub runtime: String,
    pub load: String,
    #[serde(flatten)]
    pub command: Command,
    #[serde(flatten)]
    pub times: Times,
    /// User and system time of all four processes, load excepted, per frame.
    pub cpu_us: f64,
    /// Context switches of all four processes, load excepted, per frame.
    pub switches: f64,
    /// What the hypervisor took from this machine meanwhile, in milliseconds over all cores.
    pub steal_ms: u64,
    /// Datagrams that found a full receive buffer.
    pub udp_drops: u64,
}

/// Rounds are outermost, so that a disturbance hits all cases and not one.
pub fn run(args: &RunArgs) -> Result<()> {
    let all = Transport::value_variants();
    let transports = if args.transports.is_empty() {
        all
    } else {
        &args.transports
    };
    let mut out = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&args.out)?;
    for round in 0..args.rounds {
        for &transport in transports {
            for &runtime in &args.runtimes {
                for &load in &args.loads {
                    let names = [name(transport), name(runtime), name(load)];
                    note(&format!("round {round}: {}", names.join(" ")));
                    match case(&names, args.count) {
                        Ok(records) => {
                            for record in records {
                                writeln!(out, "{}", serde_json::to_string(&record)?)?;
                            }
                        }
                        Err(error) => note(&format!("failed: {error:#}")),
                    }
                }
            }
        }
    }
    Ok(())
}

fn name(value: impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The four processes, ended when this goes.
struct Nodes(Vec<(Child, BufReader<ChildStdout>)>);

impl Drop for Nodes {
    fn drop(&mut self) {
        // All first, so that none lives to complain about its neighbour.
        for (child, _) in &mut self.0 {
            let _ = child.kill();
        }
        for (child, _) in &mut self.0 {
            let _ = child.wait();
        }
    }
}

impl Nodes {
    fn start([transport, runtime, load]: &[String; 3]) -> Result<Self> {
        let mut nodes = Self(Vec::new());
        for index in 0..NODES {
            let mut child = Process::new(std::env::current_exe()?)
                .args([
                    "node",
                    "--index",
                    &index.to_string(),
                    "--transport",
                    transport,
                ])
                .args(["--runtime", runtime, "--load", load])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let out = BufReader::new(child.stdout.take().context("standard output is a pipe")?);
            nodes.0.push((child, out));
        }
        let addresses = (0..NODES)
            .map(|index| nodes.read(index))
            .collect::<Result<Vec<_>>>()?;
        let line = serde_json::to_string(&addresses)?;
        for index in 0..NODES {
            nodes.write(index, &line)?;
        }
        ensure!(nodes.read(0)? == "ready", "the links did not come up");
        // The rest of the set-up: window growth, MTU discovery, gossip meshes.
        thread::sleep(Duration::from_millis(if transport.ends_with("chatter") {
            2000
        } else {
            300
        }));
        Ok(nodes)
    }

    fn write(&mut self, index: usize, line: &str) -> Result<()> {
        let input = self.0[index]
            .0
            .stdin
            .as_mut()
            .context("standard input is a pipe")?;
        writeln!(input, "{line}")?;
        Ok(input.flush()?)
    }

    fn read(&mut self, index: usize) -> Result<String> {
        let mut line = String::new();
        let read = self.0[index].1.read_line(&mut line)?;
        ensure!(read > 0, "node {index} has ended");
        Ok(line.trim_end().to_owned())
    }

    /// CPU time in nanoseconds and context switches, over all threads but the load.
    fn accounts(&self) -> Result<(u64, u64)> {
        let mut sum = (0, 0);
        for (child, _) in &self.0 {
            for task in fs::read_dir(format!("/proc/{}/task", child.id()))? {
                // A thread may end while we look.
                let (time, switches) = thread_accounts(&task?.path()).unwrap_or((0, 0));
                sum = (sum.0 + time, sum.1 + switches);
            }
        }
        Ok(sum)
    }
}

fn thread_accounts(task: &Path) -> Result<(u64, u64)> {
    if fs::read_to_string(task.join("comm"))?.trim_end() == load::NAME {
        return Ok((0, 0));
    }
    let time = fs::read_to_string(task.join("schedstat"))?;
    let time = time
        .split(' ')
        .next()
        .context("schedstat has three numbers")?
        .parse()?;
    let status = fs::read_to_string(task.join("status"))?;
    let switches = status
        .lines()
        .filter_map(|line| line.split_once("ctxt_switches:"))
        .filter_map(|(_, count)| count.trim().parse::<u64>().ok())
        .sum();
    Ok((time, switches))
}

/// Stolen milliseconds and dropped datagrams since the machine started.
fn machine() -> Result<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat")?;
    let steal: u64 = stat
        .split_ascii_whitespace()
        .nth(8)
        .context("steal is the eighth")?
        .parse()?;
    let snmp = fs::read_to_string("/proc/net/snmp")?;
    let mut udp = snmp.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let names = udp.next().context("names of the UDP counters")?.split(' ');
    let values = udp.next().context("values of the UDP counters")?.split(' ');
    let drops = names
        .zip(values)
        .find(|(name, _)| *name == "RcvbufErrors")
        .context("RcvbufErrors")?;
    // Linux counts in ticks of 10 ms.
    Ok((steal * 10, drops.1.parse()?))
}

fn case(names: &[String; 3], count: usize) -> Result<Vec<Record>> {
    let mut nodes = Nodes::start(names)?;
    let mut records = Vec::new();
    for command in commands(count) {
        let (steal, drops) = machine()?;
        let before = nodes.accounts()?;
        nodes.write(0, &serde_json::to_string(&command)?)?;
        let times = serde_json::from_str(&nodes.read(0)?)?;
        let after = nodes.accounts()?;
        let machine = machine()?;
        let frames = command.count as f64;
        let [transport, runtime, load] = names.clone();
        records.push(Record {
            transport,
            runtime,
            load,
            times,
            cpu_us: after.0.saturating_sub(before.0) as f64 / 1e3 / frames,
            switches: after.1.saturating_sub(before.1) as f64 / frames,
            steal_ms: machine.0 - steal,
            udp_drops: machine.1 - drops,
            command,
        });
    }
    Ok(records)
}

fn commands(count: usize) -> Vec<Command> {
    use Operation::{Bulk, Circuit, Echo};
    let (small, large) = (3584, 28 * 1024);
    let command = |operation, frame, count, gap_us| Command {
        operation,
        frame,
        count,
        gap_us,
    };
    vec![
        command(Echo, small, count, 0),
        command(Echo, large, count, 0),
        command(Circuit, small, count, 0),
        command(Circuit, large, count, 0),
        // A token every few milliseconds: the pace of a session whose stages compute.
        command(Circuit, small, count / 2, 3000),
        command(Circuit, large, count / 2, 3000),
        command(Bulk, large, BULK_FRAMES, 0),
    ]
}
