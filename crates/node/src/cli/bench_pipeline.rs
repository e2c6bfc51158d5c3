//! `skein bench pipeline`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use skein_model::{KvFormat, Pool, SliceModel};
use skein_runtime::{Clock, Secret32, SystemClock};
use skein_serving::{Engine, EngineConfig, ModelStage};
use skein_weights::slices::SlicePlan;
use skein_weights::{Dtype, Slice};

use super::args::PipelineBenchArgs;
use super::bench::{cache_folder, shape_folder, usage};
use super::split::{self, SplitWish};
use super::up::UpError;
use super::{CommandError, Context};
use crate::bench::checkpoint::Random;
use crate::bench::median;
use crate::bench::network::{Running, Wanted};
use crate::bench::pipeline::{PipelineBenchError, Subject};
use crate::budget;
use crate::config::{Format, Setting as _, Settings, Span};
use crate::hub::Fetching;
use crate::node::{self, NodeError};
use crate::open::{self, Opened};
use crate::stop::{INTERRUPTED, StopSignals};
use crate::up::state::{State, is_split};

/// Tokens before each decode measurement.
const BEFORE: usize = 32;
/// An engine tells of itself a few times a second.
const LOOK: Duration = Duration::from_millis(600);
/// Rows of prompts in a batch where prefill is pipelined.
const CHUNK: u32 = 128;

pub(super) fn bench(context: &Context, args: &PipelineBenchArgs) -> Result<ExitCode, CommandError> {
    let format = Format::from_text(&args.format).map_err(|reason| usage("--format", &reason))?;
    let kv_format =
        KvFormat::from_text(&args.kv_format).map_err(|reason| usage("--kv-format", &reason))?;
    let delays: Result<Vec<Span>, _> = args
        .delays
        .iter()
        .map(|text| Span::from_text(text))
        .collect();
    let delays = delays.map_err(|reason| usage("--delays", &reason))?;
    let lists = [
        args.stages.len(),
        args.sessions.len(),
        args.rounds,
        args.decode,
    ];
    if lists.contains(&0) || args.sessions.contains(&0) {
        return Err(usage(
            "--stages, --sessions, --rounds and --decode",
            "must not be empty or 0",
        ));
    }
    let (state, opened) = model(context, args, format)?;
    let runtime = node::runtime()?;
    let bench = Bench {
        context,
        args,
        opened: &opened,
        state: &state,
        clock: Arc::new(SystemClock::new()),
        kv_tokens: kv_tokens(args),
        kv_format,
    };
    let report = runtime.block_on(async {
        let mut signals = StopSignals::new().map_err(NodeError::System)?;
        tokio::select! {
            report = bench.all(&delays) => report.map(Some),
            _ = signals.next() => Ok::<_, CommandError>(None),
        }
    });
    let Some(report) = report? else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    match args.json {
        true => context.console.json(&report)?,
        false => context.console.text(&table(&report))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The given model or random weights, split, with a folder for keys and configurations.
fn model(
    context: &Context,
    args: &PipelineBenchArgs,
    format: Format,
) -> Result<(State, Opened), CommandError> {
    let cache = cache_folder(args.cache.as_deref())?;
    let state = State::take(&cache.join("pipeline")).map_err(UpError::from)?;
    let dtype = format.dtype().unwrap_or(Dtype::Bf16);
    let source = match &args.model {
        Some(model) => model.clone(),
        None => shape_folder(context, &args.shape, dtype, &cache)?,
    };
    let opened = open::open(&source, Fetching::never(), context.console)?;
    if opened.checkpoint.model_id().is_some() {
        return Ok((state, opened));
    }
    let failed = |source| CommandError::Io {
        what: format!("cannot use {}", cache.display()),
        source,
    };
    let folder = state.model_folder(&opened.path, format).map_err(failed)?;
    if !is_split(&folder) {
        let slices = SlicePlan::Even(1);
        let wish = SplitWish { format, slices };
        split::write(context.console, opened, &folder, wish)?
            .ok_or_else(|| usage("the model", "was not split to its end"))?;
        state.remove_other_models(&folder).map_err(failed)?;
    }
    let folder = folder.display().to_string();
    Ok((
        state,
        open::open(&folder, Fetching::never(), context.console)?,
    ))
}

/// Room for the most sessions and for the longest prompt.
fn kv_tokens(args: &PipelineBenchArgs) -> u32 {
    let sessions = args.sessions.iter().copied().max().unwrap_or(1);
    let decode = sessions * (BEFORE + args.decode + 64);
    let prompts = args.prompts.iter().chain(&args.faults).copied();
    let prompt = prompts.max().unwrap_or(0) + 64;
    u32::try_from(decode.max(prompt)).unwrap_or(u32::MAX)
}

struct Bench<'a> {
    context: &'a Context,
    args: &'a PipelineBenchArgs,
    opened: &'a Opened,
    state: &'a State,
    clock: Arc<dyn Clock>,
    kv_tokens: u32,
    kv_format: KvFormat,
}

/// What an engine says of one session, over all rounds.
#[derive(Debug, Default)]
struct Figures {
    hop_median: Vec<f64>,
    hop_p99: Vec<f64>,
    step: Vec<f64>,
}

/// Tokens a second of stages, and of one process beside them, by round.
#[derive(Debug, Default)]
struct Speeds {
    one_process: Vec<f64>,
    stages: Vec<f64>,
    /// Of stages to one process, in the same round.
    ratio: Vec<f64>,
}

impl Speeds {
    fn add(&mut self, [one_process, stages]: [f64; 2]) {
        self.one_process.push(one_process);
        self.stages.push(stages);
        self.ratio.push(stages / one_process);
    }

    fn report(&self, sessions: usize) -> Value {
        json!({
            "sessions": sessions,
            "tokens_per_second": median(&self.stages),
            "one_process_tokens_per_second": median(&self.one_process),
            "of_one_process": median(&self.ratio),
        })
    }
}

impl Bench<'_> {
    async fn all(&self, delays: &[Span]) -> Result<Value, CommandError> {
        let single = self.single()?;
        let mut first = vec![self.prompts("one process", self.subject(&single)).await?];
        let mut rows = Vec::new();
        for stages in &self.args.stages {
            let running = self.start(self.wanted(*stages))?;
            let pair = [self.subject(&single), self.subject(running.engine())];
            rows.push(self.decode(&format!("{stages} stages"), pair).await?);
            running.end().await;
        }
        single.shutdown(Duration::ZERO).await;
        for stages in &self.args.stages {
            for (prefill_rows, how) in [(CHUNK, "in chunks"), (self.kv_tokens, "at once")] {
                let running = self.start(Wanted {
                    prefill_rows,
                    // As on machines of their own, with one core each.
                    threads: 1,
                    ..self.wanted(*stages)
                })?;
                let name = format!("{stages} stages of 1 thread, {how}");
                first.push(self.prompts(&name, self.subject(running.engine())).await?);
                running.end().await;
            }
        }
        let mut long = Vec::new();
        let most = self.args.stages.iter().copied().max().unwrap_or(1);
        let mut faults = Vec::new();
        for replicas in [2, 1] {
            if !self.args.faults.is_empty() {
                faults.push(self.faults(most, replicas).await?);
            }
        }
        for delay in delays {
            long.push(self.delayed(most, delay.0).await?);
        }
        Ok(json!({
            "model": self.args.model.as_ref().unwrap_or(&self.args.shape),
            "format": self.args.format,
            "kv_format": self.kv_format.name(),
            "threads": node::threads(self.args.threads),
            "rounds": self.args.rounds,
            "decode": rows,
            "first_token": first,
            "faults": faults,
            "delayed": long,
        }))
    }

    /// Shown when it is known: the whole takes minutes.
    fn told(&self, figures: Value) -> Value {
        self.note(&format!("  {figures}"));
        figures
    }

    fn note(&self, text: &str) {
        self.context.console.note(text);
    }

    fn wanted(&self, stages: u32) -> Wanted {
        Wanted {
            stages,
            replicas: 1,
            kv_tokens: self.kv_tokens,
            threads: self.args.threads,
            prefill_rows: CHUNK,
            kv_format: self.kv_format,
            delay: None,
        }
    }

    fn start(&self, wanted: Wanted) -> Result<Running, CommandError> {
        Ok(Running::start(
            self.opened,
            self.state,
            wanted,
            &self.clock,
        )?)
    }

    fn subject(&self, engine: &Engine) -> Subject {
        Subject {
            handle: engine.handle(),
            clock: Arc::clone(&self.clock),
            random: Random(11),
        }
    }

    /// The same model in this process, with the same chunks.
    fn single(&self) -> Result<Engine, CommandError> {
        let checkpoint = self.opened.checkpoint.as_ref();
        let layers = checkpoint.profile().layers;
        let pool = Arc::new(Pool::new(node::threads(self.args.threads)));
        let model = SliceModel::load(checkpoint, Slice::whole(layers), None, pool);
        let whole = Slice::whole(layers);
        let position = budget::kv_bytes(checkpoint.profile(), &whole, self.kv_format);
        let kv = (u64::from(self.kv_tokens) + 64) * position;
        let stage = ModelStage::new(model.map_err(NodeError::from)?, self.kv_format, kv);
        let config = EngineConfig {
            retained_max: 0,
            prefill_rows_max: CHUNK as usize,
            ..node::engine_config(&Settings::default().engine).map_err(NodeError::from)?
        };
        let secret = Secret32::random().map_err(NodeError::from)?;
        let clock = Arc::clone(&self.clock);
        Ok(Engine::start(stage, config, clock, secret).map_err(NodeError::from)?)
    }

    /// Decode speeds by sessions of one process and of stages, in turn: the speed of memory drifts, so that only
    /// neighbours in time can be compared. Hops are those of one session alone.
    async fn decode(&self, name: &str, mut subjects: [Subject; 2]) -> Result<Value, CommandError> {
        self.note(&format!("{name}: decode"));
        for subject in &mut subjects {
            // Not counted: pages are touched for the first time.
            subject.decode(1, (BEFORE, 8)).await?;
        }
        let length = (BEFORE, self.args.decode);
        let mut figures = Figures::default();
        let mut rows = Vec::new();
        let mut sessions = self.args.sessions.clone();
        // One alone first: what an engine tells of hops is of its last batches.
        sessions.sort_unstable();
        for sessions in sessions {
            let mut speeds = Speeds::default();
            for round in 0..self.args.rounds {
                let mut pair = [f64::NAN; 2];
                for turn in 0..2 {
                    // In turn who begins, so that a drift within a round favours nobody.
                    let which = (round + turn) % 2;
                    pair[which] = subjects[which].decode(sessions, length).await?;
                }
                speeds.add(pair);
                if sessions == 1 {
                    figures.see(&subjects[1]).await;
                }
            }
            rows.push(speeds.report(sessions));
        }
        let hop = (!figures.hop_median.is_empty()).then(
            || json!({ "median": median(&figures.hop_median), "p99": median(&figures.hop_p99) }),
        );
        Ok(self.told(json!({
            "subject": name,
            "speeds": rows,
            "step_seconds": median(&figures.step),
            "hop_seconds": hop,
        })))
    }

    /// Times to the first token by length of the prompt.
    async fn prompts(&self, name: &str, mut subject: Subject) -> Result<Value, CommandError> {
        self.note(&format!("{name}: first token"));
        let mut lengths = Vec::new();
        for prompt in &self.args.prompts {
            let mut seconds = Vec::new();
            for _ in 0..self.args.rounds {
                seconds.push(subject.first_token(*prompt).await?);
            }
            lengths.push(json!({ "prompt": prompt, "seconds": median(&seconds) }));
        }
        Ok(self.told(json!({ "subject": name, "lengths": lengths })))
    }

    /// One session while a stage that it uses is killed: how long it stands still, by what it had.
    async fn faults(&self, stages: u32, replicas: u32) -> Result<Value, CommandError> {
        let name = match replicas {
            1 => format!("{stages} stages, started again (cold)"),
            _ => format!("{stages} stages x {replicas}, another one takes over (warm)"),
        };
        self.note(&name);
        let mut running = self.start(Wanted {
            replicas,
            ..self.wanted(stages)
        })?;
        let mut subject = self.subject(running.engine());
        let mut lengths = Vec::new();
        for prompt in &self.args.faults {
            let mut stalls = Vec::new();
            for round in 0..self.args.rounds {
                // Before a session runs nothing has been said about who is used.
                subject.first_token(1).await?;
                skein_runtime::sleep(LOOK).await;
                let view = subject.view();
                let used: Vec<_> = view.executor.stages.iter().filter(|s| s.serving).collect();
                let Some(victim) = used.get(round % used.len().max(1)) else {
                    return Err(NodeError::Failed("no stage serves".to_owned()).into());
                };
                let victim = victim.node;
                let mut killed = None;
                let stall = subject.stall(*prompt, || {
                    killed = running.kill(victim);
                    let again = killed.filter(|_| replicas == 1);
                    if let Some(Err(error)) = again.map(|index| running.restart(index)) {
                        tracing::warn!(%error, "a stage was not started again");
                    }
                });
                stalls.push(stall.await?);
                if let Some(index) = killed {
                    if replicas > 1 {
                        running.restart(index)?;
                    }
                    running.wait(index)?;
                }
            }
            lengths.push(json!({ "prompt": prompt, "seconds": median(&stalls) }));
        }
        running.end().await;
        Ok(self.told(json!({ "subject": name, "lengths": lengths })))
    }

    /// One session over long links: what a token takes beyond computing and the legs.
    async fn delayed(&self, stages: u32, delay: Duration) -> Result<Value, CommandError> {
        let name = format!("{stages} stages, links of {} one way", Span(delay));
        self.note(&name);
        let running = self.start(Wanted {
            delay: Some(delay),
            ..self.wanted(stages)
        })?;
        let mut subject = self.subject(running.engine());
        let mut figures = Figures::default();
        let mut speeds = Vec::new();
        for _ in 0..self.args.rounds {
            speeds.push(subject.decode(1, (BEFORE, self.args.decode)).await?);
            figures.see(&subject).await;
        }
        running.end().await;
        let legs = f64::from(stages + 1);
        let token = 1.0 / median(&speeds);
        let between = median(&figures.hop_median) * legs;
        Ok(self.told(json!({
            "subject": name,
            "delay_seconds": delay.as_secs_f64(),
            "legs": legs,
            "token_seconds": token,
            "computing_seconds": median(&figures.step) - between,
            "beyond_seconds": between - legs * delay.as_secs_f64(),
        })))
    }
}

impl Figures {
    /// What the engine says after a measurement of one session.
    async fn see(&mut self, subject: &Subject) {
        // It tells a few times a second.
        skein_runtime::sleep(LOOK).await;
        let view = subject.view();
        self.step.push(view.step.median.as_secs_f64());
        if let Some(hop) = view.executor.hop {
            self.hop_median.push(hop.median.as_secs_f64());
            self.hop_p99.push(hop.p99.as_secs_f64());
        }
    }
}

fn table(report: &Value) -> String {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut out = format!(
        "{}, {}, {} threads, medians of {} rounds\n\ndecode, tokens a second of all sessions, of those of one process in the same rounds\n",
        report["model"], report["format"], report["threads"], report["rounds"]
    );
    for row in list(&report["decode"]) {
        out.push_str(&format!(
            "  {:<12}",
            row["subject"].as_str().unwrap_or_default()
        ));
        for speed in list(&row["speeds"]) {
            out.push_str(&format!(
                "  {:>2}: {:.1} of {:.1} ({:.0} %)",
                speed["sessions"],
                number(&speed["tokens_per_second"]),
                number(&speed["one_process_tokens_per_second"]),
                number(&speed["of_one_process"]) * 100.0
            ));
        }
        let hop = &row["hop_seconds"];
        if hop.is_object() {
            let (median, p99) = (number(&hop["median"]) * 1e6, number(&hop["p99"]) * 1e6);
            out.push_str(&format!("  hop p50 {median:.0} us, p99 {p99:.0} us"));
        }
        out.push('\n');
    }
    out.push_str("\nfirst token, seconds by length of the prompt\n");
    out.push_str(&lengths(&report["first_token"]));
    out.push_str("\na stage is killed: seconds without a token, by length of the prompt\n");
    out.push_str(&lengths(&report["faults"]));
    out.push_str("\nlong links, milliseconds of a token\n");
    for row in list(&report["delayed"]) {
        let ms = |name: &str| number(&row[name]) * 1e3;
        out.push_str(&format!(
            "  {:<48}  {:.1} in all: {:.1} computing, {} legs of {:.0}, {:.2} beyond\n",
            row["subject"].as_str().unwrap_or_default(),
            ms("token_seconds"),
            ms("computing_seconds"),
            row["legs"],
            ms("delay_seconds"),
            ms("beyond_seconds"),
        ));
    }
    out
}

/// Seconds by length of the prompt, a line for each subject.
fn lengths(rows: &Value) -> String {
    let mut out = String::new();
    for row in rows.as_array().into_iter().flatten() {
        out.push_str(&format!(
            "  {:<48}",
            row["subject"].as_str().unwrap_or_default()
        ));
        for length in row["lengths"].as_array().into_iter().flatten() {
            let seconds = length["seconds"].as_f64().unwrap_or(f64::NAN);
            out.push_str(&format!("  {}: {seconds:.3}", length["prompt"]));
        }
        out.push('\n');
    }
    out
}

impl From<PipelineBenchError> for CommandError {
    fn from(error: PipelineBenchError) -> Self {
        Self::Node(NodeError::Failed(error.to_string()))
    }
}
