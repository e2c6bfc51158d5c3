//! `skein bench model`.

mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};
use skein_base::ByteSize;
use skein_model::{KvFormat, Pool, SliceModel, Stream};
use skein_runtime::{Clock, SystemClock};
use skein_serving::ModelStage;
use skein_weights::{Dtype, Slice};

use super::args::BenchArgs;
use super::{CommandError, Context, environment};
use crate::bench::checkpoint::{Random, SHAPES, prepare};
use crate::bench::median;
use crate::bench::peer::{Peer, PeerKind, PeerRound, PeerSettings};
use crate::bench::stages::Measured;
use crate::budget;
use crate::config::{Format, Setting as _};
use crate::hub::Fetching;
use crate::memory;
use crate::node::NodeError;
use crate::open::{self, Opened};

/// How many sessions decode together.
const BATCHES: [usize; 4] = [1, 4, 8, 16];
/// Tokens that one session decodes between two looks at the memory: it drifts within seconds.
const PIECE: usize = 8;
/// How often a line passes from a thread to another and back, in one look.
const LINE_TURNS: u32 = 2_000;
/// Passes over the stream's buffer in one look; the best counts, as the others were disturbed.
const STREAM_PASSES: usize = 2;

/// What one round measured.
#[derive(Debug, Clone, Default)]
struct Round {
    /// Bytes per second, the middle of all looks.
    stream: f64,
    /// Seconds that a cache line takes from one thread to another, if there are two; the middle of all looks.
    line: Option<f64>,
    /// Of the time that one session decoded, what reading the weights would have taken.
    share: f64,
    /// Seconds.
    first_token: f64,
    /// Tokens per second.
    prefill: f64,
    /// Tokens per second of all sessions, for each of [`BATCHES`].
    decode: Vec<f64>,
    /// In the order of the peers.
    peers: Vec<PeerRound>,
}

/// What was measured once.
#[derive(Debug, Clone, Copy)]
struct Once {
    load_seconds: f64,
    weight_bytes: u64,
    step_bytes: u64,
    peak: Option<ByteSize>,
}

pub(super) fn bench(context: &Context, args: &BenchArgs) -> Result<ExitCode, CommandError> {
    let format = Format::from_text(&args.format).map_err(|reason| usage("--format", &reason))?;
    let dtype = format.dtype().unwrap_or(Dtype::Bf16);
    let kv_format =
        KvFormat::from_text(&args.kv_format).map_err(|reason| usage("--kv-format", &reason))?;
    if args.rounds == 0 || args.prompt == 0 || args.decode == 0 {
        return Err(usage(
            "--rounds, --prompt and --decode",
            "must be at least 1",
        ));
    }
    let stream = args.stream.parse::<ByteSize>();
    let stream = stream.map_err(|error| usage("--stream", &error.to_string()))?;
    let clock = SystemClock::new();
    let threads = if args.threads == 0 {
        crate::node::threads(0)
    } else {
        args.threads
    };
    let opened = checkpoint(context, args, dtype)?;
    let mut peers = start_peers(context, args, &opened, (dtype, threads))?;
    let pool = Arc::new(Pool::new(threads));
    let (mut measured, once) = load(&opened, args, (dtype, kv_format, &pool), &clock)?;
    measured.check(args.prompt.max(2 * args.decode + 1))?;
    // Not counted: pages are touched and caches filled for the first time.
    let what = (args, once.step_bytes);
    one_round(&mut measured, what, None, (&mut peers, false))?;
    let once = Once {
        peak: memory::peak(),
        ..once
    };
    let stream = Stream::new(usize::try_from(stream.0).unwrap_or(usize::MAX), pool);
    let mut rounds = Vec::with_capacity(args.rounds);
    for number in 1..=args.rounds {
        context
            .console
            .note(&format!("round {number} of {}", args.rounds));
        let turn = (peers.as_mut_slice(), number % 2 == 0);
        rounds.push(one_round(&mut measured, what, Some(&stream), turn)?);
    }
    let set = format!("{:?}", measured.stage.model().instruction_set());
    let mut report = report(args, once, &rounds, (dtype, threads, &set));
    let mut said = Vec::new();
    for (index, peer) in peers.into_iter().enumerate() {
        said.push(peer_report(peer, index, &rounds)?);
    }
    report["peers"] = Value::Array(said);
    match args.json {
        true => context.console.json(&report)?,
        false => context.console.text(&table::table(&report))?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn usage(what: &str, reason: &str) -> CommandError {
    CommandError::Usage(format!("{what} {reason}"))
}

/// The given model, or random weights that are made on the spot.
fn checkpoint(context: &Context, args: &BenchArgs, dtype: Dtype) -> Result<Opened, CommandError> {
    let console = context.console;
    if let Some(model) = &args.model {
        return Ok(open::open(
            model,
            Fetching::new(&context.loaded.settings.model, false),
            console,
        )?);
    }
    let cache = cache_folder(args.cache.as_deref())?;
    let folder = shape_folder(context, &args.shape, dtype, &cache)?;
    Ok(open::open(&folder, Fetching::never(), console)?)
}

/// A folder with random weights of a known shape, made if it is not there.
pub(super) fn shape_folder(
    context: &Context,
    shape: &str,
    dtype: Dtype,
    cache: &Path,
) -> Result<String, CommandError> {
    let Some(shape) = SHAPES.into_iter().find(|known| known.name == shape) else {
        let known = SHAPES.map(|shape| shape.name).join(", ");
        return Err(usage(
            "--shape",
            &format!("{shape} is not known; known are {known}"),
        ));
    };
    context.console.note(&format!(
        "random weights of the shape of {} in {}",
        shape.name,
        cache.display()
    ));
    let what = format!("cannot write random weights to {}", cache.display());
    let folder =
        prepare(shape, dtype, cache).map_err(|source| CommandError::Io { what, source })?;
    Ok(folder.display().to_string())
}

/// The user's choice, else a folder in the user's cache.
pub(super) fn cache_folder(chosen: Option<&Path>) -> Result<PathBuf, CommandError> {
    if let Some(folder) = chosen {
        return Ok(folder.to_owned());
    }
    let home = || environment("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let base = environment("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(home);
    let base = base.ok_or_else(|| usage("--cache", "is needed: there is no HOME"))?;
    Ok(base.join("skein").join("bench"))
}

fn start_peers(
    context: &Context,
    args: &BenchArgs,
    opened: &Opened,
    (dtype, threads): (Dtype, usize),
) -> Result<Vec<Peer>, CommandError> {
    let wanted = [
        (
            PeerKind::Transformers,
            "--peer-transformers",
            &args.peer_transformers,
        ),
        (PeerKind::LlamaCpp, "--peer-llama", &args.peer_llama),
    ];
    let mut peers = Vec::new();
    for (kind, option, python) in wanted {
        let Some(python) = python else { continue };
        if !opened.path.is_dir() {
            return Err(usage(option, "needs a Hugging Face folder"));
        }
        context
            .console
            .note(&format!("loading the model in {}", kind.name()));
        peers.push(Peer::start(PeerSettings {
            kind,
            python,
            model: opened.path.as_path(),
            dtype,
            threads,
            prompt: args.prompt,
            decode: args.decode,
        })?);
    }
    Ok(peers)
}

/// What a peer did in all rounds; ends it.
fn peer_report(peer: Peer, index: usize, rounds: &[Round]) -> Result<Value, CommandError> {
    let over = |value: &dyn Fn(&PeerRound) -> f64| {
        let values: Vec<_> = rounds
            .iter()
            .map(|round| value(&round.peers[index]))
            .collect();
        median(&values)
    };
    let ratio = |of: &dyn Fn(&Round) -> f64, to: &dyn Fn(&PeerRound) -> f64| {
        let ratios = rounds
            .iter()
            .map(|round| of(round) / to(&round.peers[index]));
        median(&ratios.collect::<Vec<_>>())
    };
    let sessions = rounds.first().map(|round| &round.peers[index].batched);
    let batched = sessions.into_iter().flatten().enumerate();
    let batched = batched.map(|(place, (sessions, _))| {
        json!({ "sessions": sessions, "tokens_per_second": over(&|round| round.batched[place].1) })
    });
    Ok(json!({
        "name": peer.kind.name(),
        "format": peer.dtype,
        "prefill_tokens_per_second": over(&|round| round.prefill),
        "decode_tokens_per_second": over(&|round| round.decode),
        "prefill_ratio": ratio(&|round| round.prefill, &|peer| peer.prefill),
        "decode_ratio": ratio(&|round| round.decode[0], &|peer| peer.decode),
        "batched": batched.collect::<Vec<_>>(),
        "load_seconds": peer.ready.load_seconds,
        "versions": peer.ready.versions.clone(),
        "peak_bytes": peer.end()?,
    }))
}

fn load<'a>(
    opened: &Opened,
    args: &BenchArgs,
    (dtype, kv_format, pool): (Dtype, KvFormat, &Arc<Pool>),
    clock: &'a dyn Clock,
) -> Result<(Measured<'a>, Once), CommandError> {
    let profile = opened.checkpoint.profile();
    let layers = profile.layers;
    let most = BATCHES[BATCHES.len() - 1];
    let positions = (most * (2 * args.decode + 64)).max(args.prompt + 64) as u64;
    let kv = positions * budget::kv_bytes(profile, &Slice::whole(layers), kv_format);
    let start = clock.now();
    let source = opened.checkpoint.as_ref();
    let model = SliceModel::load(source, Slice::whole(layers), Some(dtype), Arc::clone(pool))
        .map_err(NodeError::from)?;
    let once = Once {
        load_seconds: clock.now().since(start).as_secs_f64(),
        weight_bytes: model.weight_bytes(),
        step_bytes: model.bytes_per_step(),
        peak: None,
    };
    let stage = ModelStage::new(model, kv_format, kv);
    Ok((
        Measured {
            stage,
            clock,
            random: Random(7),
        },
        once,
    ))
}

/// Every measurement once. In turn who begins, so that a drift within a round favours nobody.
fn one_round(
    measured: &mut Measured<'_>,
    (args, step_bytes): (&BenchArgs, u64),
    stream: Option<&Stream>,
    (peers, first): (&mut [Peer], bool),
) -> Result<Round, CommandError> {
    let early = if first { ask(peers)? } else { Vec::new() };
    let mut round = Round::default();
    round.first_token = measured.first_token(args.prompt)?;
    round.prefill = args.prompt as f64 / round.first_token;
    for batch in BATCHES {
        let rate = measured.decode(batch, args.decode, args.decode)?;
        round.decode.push(rate);
    }
    if let Some(stream) = stream {
        look_around(measured, args.decode, (stream, step_bytes), &mut round)?;
    }
    round.peers = if first { early } else { ask(peers)? };
    Ok(round)
}

/// A round of each peer.
fn ask(peers: &mut [Peer]) -> Result<Vec<PeerRound>, CommandError> {
    let rounds = peers.iter_mut().map(Peer::round);
    Ok(rounds.collect::<Result<_, _>>()?)
}

/// One session once more, with looks at the memory and the cores between its pieces: of the time that it takes, what
/// reading the weights would have taken by the looks before and after each piece; and the middle of all looks.
fn look_around(
    measured: &mut Measured<'_>,
    tokens: usize,
    (stream, step_bytes): (&Stream, u64),
    round: &mut Round,
) -> Result<(), CommandError> {
    let (mut looks, mut lines) = (Vec::new(), Vec::new());
    let clock = measured.clock;
    let mut look = || {
        looks.push(speed(stream, clock));
        lines.extend(line(stream, clock));
    };
    let pieces = measured.decode_in_pieces(tokens, PIECE, &mut look)?;
    let around = looks.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0);
    let floors = pieces.iter().zip(around);
    let floors = floors.map(|((tokens, _), speed)| *tokens as f64 * step_bytes as f64 / speed);
    let floor: f64 = floors.sum();
    let seconds: f64 = pieces.iter().map(|(_, seconds)| seconds).sum();
    round.share = floor / seconds.max(1e-9);
    round.stream = median(&looks);
    round.line = (!lines.is_empty()).then(|| median(&lines));
    Ok(())
}

/// Seconds that a cache line takes from one thread to another.
fn line(stream: &Stream, clock: &dyn Clock) -> Option<f64> {
    // A thread that sleeps wakes up first.
    let awake = stream.pass_line(1);
    let start = clock.now();
    let passed = awake && stream.pass_line(LINE_TURNS);
    passed.then(|| clock.now().since(start).as_secs_f64() / f64::from(2 * LINE_TURNS))
}

/// Bytes per second of the best of some passes over the buffer.
fn speed(stream: &Stream, clock: &dyn Clock) -> f64 {
    let passes = (0..STREAM_PASSES).map(|_| {
        let start = clock.now();
        std::hint::black_box(stream.read());
        stream.bytes() as f64 / clock.now().since(start).as_secs_f64().max(1e-9)
    });
    passes.fold(0.0, f64::max)
}

fn report(
    args: &BenchArgs,
    once: Once,
    rounds: &[Round],
    (dtype, threads, set): (Dtype, usize, &str),
) -> Value {
    let over =
        |value: &dyn Fn(&Round) -> f64| median(&rounds.iter().map(value).collect::<Vec<_>>());
    let lines: Vec<_> = rounds.iter().filter_map(|round| round.line).collect();
    let batches = BATCHES.iter().enumerate().map(|(index, batch)| {
        json!({ "sessions": batch, "tokens_per_second": over(&|round| round.decode[index]) })
    });
    json!({
        "model": args.model.as_ref().unwrap_or(&args.shape),
        "format": dtype.to_string(),
        "kv_format": args.kv_format,
        "threads": threads,
        "instruction_set": set,
        "rounds": rounds.len(),
        "prompt": args.prompt,
        "decode_after": args.decode,
        "load_seconds": once.load_seconds,
        "weight_bytes": once.weight_bytes,
        "bytes_per_token": once.step_bytes,
        "peak_bytes": once.peak.map(|peak| peak.0),
        "stream_bytes_per_second": over(&|round| round.stream),
        "line_nanoseconds": (!lines.is_empty()).then(|| 1e9 * median(&lines)),
        "floor_tokens_per_second": over(&|round| round.stream / once.step_bytes as f64),
        "first_token_seconds": over(&|round| round.first_token),
        "prefill_tokens_per_second": over(&|round| round.prefill),
        "decode_tokens_per_second": over(&|round| round.decode[0]),
        "share_of_floor": over(&|round| round.share),
        "batched": batches.collect::<Vec<_>>(),
    })
}
