//! The grammar of the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::answerer::ServerArgs;
use super::bench_quality::QualityBenchArgs;
use super::bench_world::WorldBenchArgs;
use super::config::ConfigCommand;
use super::export::ExportArgs;
use super::status::StatusArgs;
use super::train::TrainArgs;
use crate::config::Override;

/// Serve, split and verify large language models with exact, reproducible answers.
///
/// Exit codes: 0 done, 1 failed, 2 the command line was not understood.
#[derive(Debug, Parser)]
#[command(
    name = "skein",
    version,
    arg_required_else_help = true,
    propagate_version = true
)]
pub struct Cli {
    /// Configuration file (else SKEIN_CONFIG, else skein/skein.toml in the user's configuration).
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Which log messages to show: error, warn, info, debug, trace, or parts such as
    /// info,skein_gateway=debug.
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log: Option<String>,
    /// Say nothing but results and errors: no progress bars, no remarks.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a model through an OpenAI-compatible API.
    ///
    /// Prints one line, `listening on http://HOST:PORT`, on standard output when it is ready.
    /// Ctrl-C or SIGTERM stops it in order: no new requests, then the answers in progress, then
    /// the engine; a second Ctrl-C ends it at once.
    Serve(ServeArgs),
    /// Run a whole network on this machine: a gateway and a process for each stage.
    ///
    /// Prints one line, `listening on http://HOST:PORT`, on standard output when all of it is ready.
    /// A process that ends is started again. Ctrl-C ends everything in order; the next start finds
    /// keys and the split model in the state folder.
    Up(UpArgs),
    /// Run one node of a network: what it does stands in the configuration.
    ///
    /// Prints the node's id, then where it listens, when it is ready. Ctrl-C or SIGTERM stops it in
    /// order: a gateway as with `serve`; a stage finishes what it has taken and tells gateways to
    /// go elsewhere.
    Node(NodeArgs),
    /// Answer one prompt and exit: with a model of this process, or one of a server.
    ///
    /// Without --model, --url and model.path in the configuration it asks the server of this machine;
    /// where there is none, the small model inside Skein answers.
    Run(RunArgs),
    /// Talk with a model: one of this process, or one of a server.
    ///
    /// Without --model, --url and model.path in the configuration it talks to the server of this
    /// machine; where there is none, to the small model inside Skein.
    ///
    /// `/reset` forgets the conversation, `/system TEXT` sets the system message, `/exit` or
    /// Ctrl-D leaves. Ctrl-C stops the answer in progress and keeps the chat.
    Chat(ChatArgs),
    /// Show how a server and the stages of its models are.
    Status(StatusArgs),
    /// Train a model on texts or conversations, from a checkpoint or from nothing.
    ///
    /// Ctrl-C saves the state and says how to go on. Going on gives the same bits as never having
    /// stopped.
    Train(TrainArgs),
    /// Look at, cut, check and fetch models.
    #[command(subcommand)]
    Model(ModelCommand),
    /// Show, explain and check the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Measure speed, and what the embedded model knows.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Make API keys.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Print a completion script, for example: skein completions bash > /etc/bash_completion.d/skein.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

/// Work with models.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Show what a model is, what it needs, and whether it can be served.
    Inspect(InspectArgs),
    /// Cut a model into files by layer, with a manifest of hashes.
    ///
    /// Can be stopped at any time; the same command goes on where it stopped.
    Split(SplitArgs),
    /// Check every byte of a folder written by `skein model split`, then run each slice once.
    Verify(VerifyArgs),
    /// Write a model as an ordinary Hugging Face folder, which transformers loads.
    Export(ExportArgs),
    /// Fetch org/name@commit into the cache of the hub and print its folder.
    Fetch {
        /// The repository and the 40 digits of the commit: org/name@commit.
        repository: String,
    },
}

/// Measure.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Load time, prefill, decode alone and in batches, time to first token, memory; against the
    /// speed of memory.
    Model(BenchArgs),
    /// The same model in one process and cut over several: decode, hops, first token, long links.
    Pipeline(PipelineBenchArgs),
    /// What a model knows of the small world that the embedded one was trained on: held-out
    /// questions, judged.
    World(WorldBenchArgs),
    /// How far the answers of smaller formats are from those in f32: loss, scores, choices.
    Quality(QualityBenchArgs),
}

/// Make keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make an API key: prints it once and keeps only its hash.
    New(KeysNewArgs),
}

/// Which model, and how to run it.
#[derive(Debug, Clone, Args)]
pub struct ModelArgs {
    /// Hugging Face folder, folder written by `skein model split`, .gguf file, org/name@commit, or
    /// "embedded": the small model inside Skein, which is also what is taken if nothing is said.
    #[arg(long, short, value_name = "MODEL")]
    pub model: Option<String>,
    /// What to hold weights in: auto (as stored), f32, bf16, q8 or q4.
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// What to hold keys and values of past tokens in: f32, or int8 in a quarter of the memory.
    #[arg(long, value_name = "FORMAT")]
    pub kv_format: Option<String>,
    /// Threads that compute; 0 for one per core. It does not change the answers.
    #[arg(long, value_name = "N")]
    pub threads: Option<String>,
    /// Memory for the keys and values of past tokens, such as 2GiB.
    #[arg(long, value_name = "SIZE")]
    pub kv_memory: Option<String>,
    /// Load even if memory does not seem to suffice.
    #[arg(long)]
    pub force: bool,
    /// Never fetch from the hub; use its local cache alone.
    #[arg(long)]
    pub offline: bool,
}

/// Arguments of `serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Which model, and how to run it.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Address and port, such as 127.0.0.1:8080; port 0 picks a free one.
    #[arg(long, short, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// The model's name in the API.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// File with the hashes of API keys, as `skein keys new` writes it.
    #[arg(long, value_name = "FILE")]
    pub keys_file: Option<String>,
}

/// Arguments of `up`.
#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    /// Which model, and how to run it.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Into how many slices the model is cut; else 3, or as many as it has layers.
    #[arg(long, value_name = "N")]
    pub slices: Option<u32>,
    /// Stages for each slice. With two or more, any one may die and answers go on.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub replicas: u32,
    /// Address and port of the API, such as 127.0.0.1:8080; port 0 picks a free one.
    #[arg(long, short, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Where to keep keys, logs and the split model; else skein/NAME in the user's state folder.
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// The model's name in the API.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// File with the hashes of API keys, as `skein keys new` writes it.
    #[arg(long, value_name = "FILE")]
    pub keys_file: Option<String>,
}

/// Arguments of `node`.
#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    /// Which model, and how to run it.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Address and port of the API, such as 127.0.0.1:8080; port 0 picks a free one.
    #[arg(long, short, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// End when standard input ends: for whoever starts nodes and may be killed.
    #[arg(long, hide = true)]
    pub supervised: bool,
}

/// How to choose tokens. What is left out is as the checkpoint says, else temperature 1.
#[derive(Debug, Clone, Default, Args)]
pub struct SamplingArgs {
    /// Most tokens of an answer; else until the model ends it or its context is full.
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<usize>,
    /// 0 always takes the best token; 2 is wild.
    #[arg(long, short, value_name = "T")]
    pub temperature: Option<f32>,
    /// Choose among the best K tokens; 0 for all.
    #[arg(long, value_name = "K")]
    pub top_k: Option<u32>,
    /// Choose among the best tokens of this total probability.
    #[arg(long, value_name = "P")]
    pub top_p: Option<f32>,
    /// Choose among tokens of at least this share of the best one's probability.
    #[arg(long, value_name = "P")]
    pub min_p: Option<f32>,
    /// Divide the scores of tokens already seen; 1 changes nothing.
    #[arg(long, value_name = "R")]
    pub repetition_penalty: Option<f32>,
    /// Lower the scores of tokens already said, once each.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub presence_penalty: Option<f32>,
    /// Lower the scores of tokens already said, for each time.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub frequency_penalty: Option<f32>,
    /// The same seed, model and prompt give the same answer. Left out: drawn anew.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// End the answer before this text; may be given several times.
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
}

/// Arguments of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// What to answer; - reads standard input.
    pub prompt: String,
    /// Which model, and how to run it.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Which server answers instead.
    #[command(flatten)]
    pub server: ServerArgs,
    /// How to choose tokens.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// A system message before the prompt.
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    pub system: Option<String>,
    /// Continue the prompt as it is, without the model's chat template.
    #[arg(long)]
    pub raw: bool,
    /// Print one JSON object with text, tokens, finish reason and usage instead of streaming.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `chat`.
#[derive(Debug, Clone, Args)]
pub struct ChatArgs {
    /// Which model, and how to run it.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Which server answers instead.
    #[command(flatten)]
    pub server: ServerArgs,
    /// How to choose tokens.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// The system message.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
}

/// Arguments of `model inspect`.
#[derive(Debug, Clone, Args)]
pub struct InspectArgs {
    /// Folder, .gguf file, or org/name@commit.
    #[arg(value_name = "MODEL")]
    pub path: String,
    /// Into how many slices to cut for the table of bytes.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub slices: u32,
    /// For programs.
    #[arg(long)]
    pub json: bool,
    /// Never fetch from the hub; use its local cache alone.
    #[arg(long)]
    pub offline: bool,
}

/// Arguments of `model split`.
#[derive(Debug, Clone, Args)]
pub struct SplitArgs {
    /// Folder, .gguf file, or org/name@commit.
    #[arg(value_name = "MODEL")]
    pub path: String,
    /// The folder to write; made if absent.
    #[arg(long, short, value_name = "DIR")]
    pub output: PathBuf,
    /// How to cut.
    #[command(flatten)]
    pub cut: CutArgs,
    /// What to store matrices in: auto (as the checkpoint does), f32, bf16, q8 or q4.
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    pub format: String,
    /// Print the manifest's summary for programs.
    #[arg(long)]
    pub json: bool,
    /// Never fetch from the hub; use its local cache alone.
    #[arg(long)]
    pub offline: bool,
}

/// How to cut a model: exactly one of these.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct CutArgs {
    /// Into this many slices, as even as can be.
    #[arg(long, value_name = "N")]
    pub slices: Option<u32>,
    /// Before these layers: 6,12 gives layers 0-5, 6-11 and 12 to the last.
    #[arg(long, value_name = "LAYERS", value_delimiter = ',')]
    pub boundaries: Option<Vec<u32>>,
    /// By the memory of each node, in order: 4GiB,8GiB.
    #[arg(long, value_name = "SIZES", value_delimiter = ',')]
    pub memory: Option<Vec<String>>,
}

/// Arguments of `model verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// A folder written by `skein model split`.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Check the bytes alone and leave out the forward pass of each slice.
    #[arg(long)]
    pub no_forward: bool,
    /// For programs.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `bench model`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// Measure this model instead of one with random weights.
    #[arg(long, short, value_name = "MODEL", conflicts_with = "shape")]
    pub model: Option<String>,
    /// The shape of the random weights: qwen2.5-0.5b, qwen2.5-1.5b, qwen2.5-3b, tiny, or small for a quick look.
    #[arg(long, value_name = "SHAPE", default_value = "qwen2.5-0.5b")]
    pub shape: String,
    /// What to hold weights in: f32, bf16, q8 or q4.
    #[arg(long, value_name = "FORMAT", default_value = "bf16")]
    pub format: String,
    /// What to hold keys and values in: f32 or int8. Peers keep their own.
    #[arg(long, value_name = "FORMAT", default_value = "f32")]
    pub kv_format: String,
    /// Threads that compute; 0 for one per core.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// Interleaved rounds of every measurement; medians are reported.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub rounds: usize,
    /// Tokens of the prompt in the prefill measurement.
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub prompt: usize,
    /// Tokens before, and tokens during, each decode measurement.
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub decode: usize,
    /// Also measure transformers in the same rounds, with this Python (which has torch and
    /// transformers).
    #[arg(long, value_name = "PYTHON")]
    pub peer_transformers: Option<PathBuf>,
    /// Also measure llama.cpp in the same rounds, with this Python (which has torch, safetensors, gguf
    /// and llama-cpp-python).
    #[arg(long, value_name = "PYTHON")]
    pub peer_llama: Option<PathBuf>,
    /// How much memory the stream test reads; more than the processor's caches hold.
    #[arg(long, value_name = "SIZE", default_value = "512MiB")]
    pub stream: String,
    /// Where to keep the random weights; else skein/bench in the user's cache.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// For programs.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `bench pipeline`.
#[derive(Debug, Clone, Args)]
pub struct PipelineBenchArgs {
    /// Measure this model instead of one with random weights.
    #[arg(long, short, value_name = "MODEL", conflicts_with = "shape")]
    pub model: Option<String>,
    /// The shape of the random weights: qwen2.5-0.5b, qwen2.5-1.5b, qwen2.5-3b, tiny, or small for a quick look.
    #[arg(long, value_name = "SHAPE", default_value = "qwen2.5-0.5b")]
    pub shape: String,
    /// What to hold weights in: f32, bf16, q8 or q4.
    #[arg(long, value_name = "FORMAT", default_value = "bf16")]
    pub format: String,
    /// What to hold keys and values in: f32 or int8.
    #[arg(long, value_name = "FORMAT", default_value = "f32")]
    pub kv_format: String,
    /// Threads of one process and of each stage; 0 for one per core.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: u32,
    /// Into how many stages to cut.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "1,2,4"
    )]
    pub stages: Vec<u32>,
    /// How many sessions decode at once.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "1,4,8,16"
    )]
    pub sessions: Vec<usize>,
    /// Lengths of the prompts whose first token is waited for.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "512,2048"
    )]
    pub prompts: Vec<usize>,
    /// Tokens of each session in the decode measurement.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub decode: usize,
    /// Lengths of the prompts of sessions whose stage is killed, with the most stages.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "128,512,2048"
    )]
    pub faults: Vec<usize>,
    /// One-way delays of links, with the most stages.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "10ms,40ms"
    )]
    pub delays: Vec<String>,
    /// Rounds of every measurement; medians are reported.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub rounds: usize,
    /// Where to keep weights, keys and logs; else skein/bench in the user's cache.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// For programs.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `keys new`.
#[derive(Debug, Clone, Args)]
pub struct KeysNewArgs {
    /// Who it is for: 1 to 64 of a-z, A-Z, 0-9, '-', '_' and '.'.
    pub name: String,
    /// The file of hashes; else gateway.keys_file of the configuration.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Most requests a minute.
    #[arg(long, value_name = "N")]
    pub requests_per_minute: Option<u32>,
    /// Most tokens a minute, of prompts and answers together.
    #[arg(long, value_name = "N")]
    pub tokens_per_minute: Option<u32>,
}

impl Command {
    /// The settings that this command's flags override.
    pub fn overrides(&self) -> Vec<Override> {
        match self {
            Self::Serve(args) => api(&args.model, (&args.listen, &args.name, &args.keys_file)),
            Self::Up(args) => api(&args.model, (&args.listen, &args.name, &args.keys_file)),
            Self::Node(args) => api(&args.model, (&args.listen, &None, &None)),
            Self::Run(args) => args.model.overrides(),
            Self::Chat(args) => args.model.overrides(),
            Self::Bench(BenchCommand::World(args)) => args.model.overrides(),
            _ => Vec::new(),
        }
    }
}

/// What commands with an API have in common: where it listens, the model's name, the file of keys.
fn api(
    model: &ModelArgs,
    (listen, name, keys_file): (&Option<String>, &Option<String>, &Option<String>),
) -> Vec<Override> {
    let mut list = model.overrides();
    push(&mut list, "gateway", "listen", "--listen", listen.as_ref());
    push(&mut list, "model", "name", "--name", name.as_ref());
    let keys = ("gateway", "keys_file");
    push(&mut list, keys.0, keys.1, "--keys-file", keys_file.as_ref());
    list
}

impl ModelArgs {
    /// The settings that these flags override.
    pub(super) fn overrides(&self) -> Vec<Override> {
        let mut list = Vec::new();
        push(&mut list, "model", "path", "--model", self.model.as_ref());
        push(
            &mut list,
            "model",
            "format",
            "--format",
            self.format.as_ref(),
        );
        push(
            &mut list,
            "model",
            "kv_format",
            "--kv-format",
            self.kv_format.as_ref(),
        );
        push(
            &mut list,
            "engine",
            "threads",
            "--threads",
            self.threads.as_ref(),
        );
        push(
            &mut list,
            "engine",
            "kv_memory",
            "--kv-memory",
            self.kv_memory.as_ref(),
        );
        let set = |on: bool, text: &str| on.then(|| text.to_owned());
        push(
            &mut list,
            "model",
            "force",
            "--force",
            set(self.force, "true").as_ref(),
        );
        push(
            &mut list,
            "model",
            "fetch",
            "--offline",
            set(self.offline, "false").as_ref(),
        );
        list
    }
}

fn push(
    list: &mut Vec<Override>,
    section: &'static str,
    key: &'static str,
    flag: &'static str,
    value: Option<&String>,
) {
    list.extend(value.map(|value| Override {
        section,
        key,
        flag,
        value: value.clone(),
    }));
}
