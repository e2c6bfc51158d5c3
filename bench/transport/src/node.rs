//! One process of the four. Node 0 asks, measures and is told what to do on its standard input; the others
//! answer until they are ended.

use std::{
    io::{BufRead, Write},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    runtime,
    time::sleep,
};

use crate::{
    keys::NODES,
    link::{Endpoint, Link},
    load,
    run::{Load, Runtime},
    transport::Transport,
};

/// The small frame by which the last stage answers the first: scores of one row.
const ANSWER: usize = 2048;
const BULK_FRAME: usize = 28 * 1024;
const WARM_UP: usize = 100;

/// The first byte of a frame says what to do with it.
const ECHO: u8 = 0;
const CIRCUIT: u8 = 1;
const BULK: u8 = 2;
const BULK_END: u8 = 3;

#[derive(Args, Debug)]
pub struct NodeArgs {
    #[arg(long)]
    index: usize,
    #[arg(long)]
    transport: Transport,
    #[arg(long)]
    runtime: Runtime,
    #[arg(long)]
    load: Load,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// To node 1 and back.
    Echo,
    /// To node 3 by way of 1 and 2; 3 answers directly.
    Circuit,
    /// Many frames to node 1, one answer.
    Bulk,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Command {
    pub operation: Operation,
    pub frame: usize,
    pub count: usize,
    /// Pause before each frame.
    pub gap_us: u64,
}

/// Times of one operation, in microseconds; of a bulk transfer, of the whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Times {
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
}

pub fn run(args: &NodeArgs) -> Result<()> {
    if args.load != Load::Idle {
        load::start(args.index, args.load == Load::BusyNice)?;
    }
    let (index, transport) = (args.index, args.transport);
    match args.runtime {
        Runtime::Current => runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(serve(index, transport)),
        // Spawned, because what `block_on` polls itself does not run on a worker.
        Runtime::Multi => {
            let runtime = runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?;
            runtime.block_on(async { tokio::spawn(serve(index, transport)).await? })
        }
    }
}

async fn serve(index: usize, transport: Transport) -> Result<()> {
    let mut endpoint = transport.bind(index).await?;
    say(&endpoint.address())?;
    let addresses = first_line()?;
    match index {
        0 => ask(endpoint, &addresses).await,
        3 => answer(endpoint).await,
        _ => {
            let mut next = dial(&mut *endpoint, index, index + 1, &addresses).await?;
            let (_, previous) = accept(&mut *endpoint).await?;
            forward(previous, &mut *next).await
        }
    }
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn first_line() -> Result<Vec<String>> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// Opens a link and says who we are.
async fn dial(
    endpoint: &mut dyn Endpoint,
    own: usize,
    peer: usize,
    addresses: &[String],
) -> Result<Box<dyn Link>> {
    let mut link = endpoint
        .connect(peer, &addresses[peer])
        .await
        .with_context(|| format!("dial {peer}"))?;
    link.send(&[u8::try_from(own)?]).await?;
    Ok(link)
}

async fn accept(endpoint: &mut dyn Endpoint) -> Result<(usize, Box<dyn Link>)> {
    let mut link = endpoint.accept().await?;
    let mut hello = Vec::new();
    link.recv(&mut hello).await?;
    Ok((usize::from(*hello.first().context("an empty hello")?), link))
}

/// A stage in the middle.
async fn forward(mut previous: Box<dyn Link>, next: &mut dyn Link) -> Result<()> {
    let mut frame = Vec::new();
    loop {
        previous.recv(&mut frame).await?;
        match frame.first() {
            Some(&ECHO | &BULK_END) => previous.send(&frame).await?,
            Some(&CIRCUIT) => next.send(&frame).await?,
            Some(&BULK) => {}
            _ => bail!("an unknown frame"),
        }
    }
}

/// The last stage.
async fn answer(mut endpoint: Box<dyn Endpoint>) -> Result<()> {
    let mut links: [Option<Box<dyn Link>>; NODES] = Default::default();
    for _ in 0..2 {
        let (from, link) = accept(&mut *endpoint).await?;
        *links.get_mut(from).context("a node that does not exist")? = Some(link);
    }
    let mut first = links[0].take().context("no link from the first stage")?;
    let mut previous = links[2].take().context("no link from the previous stage")?;
    let (mut frame, scores) = (Vec::new(), vec![CIRCUIT; ANSWER]);
    loop {
        previous.recv(&mut frame).await?;
        first.send(&scores).await?;
    }
}

/// The first stage: carries out what the parent asks for.
async fn ask(mut endpoint: Box<dyn Endpoint>, addresses: &[String]) -> Result<()> {
    let mut next = dial(&mut *endpoint, 0, 1, addresses).await?;
    let mut last = dial(&mut *endpoint, 0, 3, addresses).await?;
    say("ready")?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let command: Command = serde_json::from_str(&line)?;
        let times = match command.operation {
            Operation::Bulk => bulk(&mut *next, command.count).await?,
            Operation::Echo | Operation::Circuit => {
                repeat(&command, &mut *next, &mut *last).await?
            }
        };
        say(&serde_json::to_string(&times)?)?;
    }
    Ok(())
}

async fn repeat(command: &Command, next: &mut dyn Link, last: &mut dyn Link) -> Result<Times> {
    let kind = if command.operation == Operation::Echo {
        ECHO
    } else {
        CIRCUIT
    };
    // Not compressible and not constant, though nothing here looks at it.
    let mut frame: Vec<u8> = (0..command.frame)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    frame[0] = kind;
    let (mut reply, mut times) = (Vec::new(), Vec::with_capacity(command.count));
    let warm_up = WARM_UP.min(command.count / 4);
    for round in 0..warm_up + command.count {
        if command.gap_us > 0 {
            sleep(Duration::from_micros(command.gap_us)).await;
        }
        let start = Instant::now();
        next.send(&frame).await?;
        match kind {
            ECHO => next.recv(&mut reply).await?,
            _ => last.recv(&mut reply).await?,
        }
        if round >= warm_up {
            times.push(start.elapsed());
        }
    }
    Ok(quantiles(times))
}

async fn bulk(next: &mut dyn Link, count: usize) -> Result<Times> {
    let (mut frame, mut reply) = (vec![BULK; BULK_FRAME], Vec::new());
    let start = Instant::now();
    for _ in 1..count {
        next.send(&frame).await?;
    }
    frame.truncate(1);
    frame[0] = BULK_END;
    next.send(&frame).await?;
    next.recv(&mut reply).await?;
    Ok(quantiles(vec![start.elapsed()]))
}

fn quantiles(mut times: Vec<Duration>) -> Times {
    times.sort_unstable();
    let at = |percent: usize| {
        let rank = (times.len() * percent).div_ceil(100).clamp(1, times.len());
        times[rank - 1].as_secs_f64() * 1e6
    };
    Times {
        p50_us: at(50),
        p90_us: at(90),
        p99_us: at(99),
        max_us: at(100),
    }
}
