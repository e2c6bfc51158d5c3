//! Tables for a person: medians over the rounds during which the hypervisor took nothing, where there are
//! any, else over all.

use std::{collections::BTreeMap, fs, io::Write, path::PathBuf};

use anyhow::Result;
use clap::Args;

use crate::{node::Operation, run::Record};

#[derive(Args, Debug)]
pub struct TableArgs {
    /// What `run` wrote.
    file: PathBuf,
}

pub fn run(args: &TableArgs) -> Result<()> {
    let mut cases: BTreeMap<_, Vec<Record>> = BTreeMap::new();
    let mut order = Vec::new();
    for line in fs::read_to_string(&args.file)?.lines() {
        let record: Record = serde_json::from_str(line)?;
        let command = &record.command;
        let title = match (command.operation, command.gap_us) {
            (Operation::Echo, _) => format!("hop (echo / 2), {} bytes", command.frame),
            (Operation::Circuit, 0) => format!("circuit, {} bytes", command.frame),
            (Operation::Circuit, gap) => {
                format!("circuit, {} bytes, every {gap} us", command.frame)
            }
            (Operation::Bulk, _) => "one way, MiB/s".to_owned(),
        };
        if !order.contains(&record.transport) {
            order.push(record.transport.clone());
        }
        let rank = order.iter().position(|name| *name == record.transport);
        let key = (record.load.clone(), title, rank, record.runtime.clone());
        cases.entry(key).or_default().push(record);
    }
    let mut out = std::io::stdout().lock();
    let mut section = (String::new(), String::new());
    for ((load, title, _, runtime), mut records) in cases {
        // A machine that is taken away for milliseconds says nothing about a transport.
        if records.iter().any(|record| record.steal_ms == 0) {
            records.retain(|record| record.steal_ms == 0);
        }
        if section != (load.clone(), title.clone()) {
            writeln!(out, "\n{load}: {title}")?;
            writeln!(
                out,
                "| transport | runtime | p50 | p90 | p99 | max | CPU us | switches | rounds |"
            )?;
            section = (load, title);
        }
        writeln!(out, "{}", row(&records, &runtime))?;
    }
    Ok(())
}

fn row(records: &[Record], runtime: &str) -> String {
    let command = &records[0].command;
    let name = &records[0].transport;
    let rounds = records.len();
    let cpu = median(records.iter().map(|r| r.cpu_us));
    let switches = median(records.iter().map(|r| r.switches));
    if command.operation == Operation::Bulk {
        let mib = (command.count * command.frame) as f64 / f64::from(1 << 20);
        let rate = median(records.iter().map(|r| mib / (r.times.p50_us / 1e6)));
        return format!(
            "| {name} | {runtime} | {rate:.0} | | | | {cpu:.0} | {switches:.1} | {rounds} |"
        );
    }
    let hops = if command.operation == Operation::Echo {
        2.0
    } else {
        1.0
    };
    let at = |pick: fn(&Record) -> f64| median(records.iter().map(pick)) / hops;
    format!(
        "| {name} | {runtime} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} | {rounds} |",
        at(|r| r.times.p50_us),
        at(|r| r.times.p90_us),
        at(|r| r.times.p99_us),
        at(|r| r.times.max_us),
        cpu / hops,
        switches / hops,
    )
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
