//! Other stacks, each measured by a Python process in the same rounds.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;
use skein_weights::Dtype;

/// Whose speed is measured beside ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerKind {
    /// transformers on torch.
    Transformers,
    /// llama.cpp, as its Python package builds it.
    LlamaCpp,
}

impl PeerKind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transformers => "transformers",
            Self::LlamaCpp => "llama.cpp",
        }
    }

    /// What the Python needs.
    fn packages(self) -> &'static str {
        match self {
            Self::Transformers => "torch and transformers",
            Self::LlamaCpp => "torch, safetensors, gguf and llama-cpp-python",
        }
    }

    /// The script, so that the binary alone suffices.
    fn script(self) -> &'static str {
        match self {
            Self::Transformers => include_str!("../../../../scripts/bench/peers.py"),
            Self::LlamaCpp => include_str!("../../../../scripts/bench/llama.py"),
        }
    }

    /// What it calls the format of weights; transformers has none of blocks, and runs `bf16` for them.
    fn dtype(self, dtype: Dtype) -> &'static str {
        match (self, dtype) {
            (_, Dtype::F32) => "f32",
            (Self::Transformers, _) | (_, Dtype::Bf16) => "bf16",
            (Self::LlamaCpp, Dtype::Q8) => "q8",
            (Self::LlamaCpp, Dtype::Q4) => "q4",
        }
    }
}

/// Why the peer could not be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// Python cannot be started.
    #[error("cannot start {}: give a Python with {packages}", python.display())]
    Start {
        /// What it needs.
        packages: &'static str,
        /// The Python.
        python: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It ended, or cannot be talked to.
    #[error("the Python process of a peer ended early; what it said is above")]
    Ended(#[source] io::Error),
    /// It said something else than expected.
    #[error("the Python process of a peer said {line:?} ({reason})")]
    Answer {
        /// Its line.
        line: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// What it says when the model is loaded.
#[derive(Debug, Clone, Deserialize)]
pub struct Ready {
    /// Seconds that loading took.
    pub load_seconds: f64,
    /// Of its packages.
    pub versions: String,
}

/// Tokens per second of one round.
#[derive(Debug, Clone, Deserialize)]
pub struct PeerRound {
    /// Of the prompt.
    pub prefill: f64,
    /// Of decoding alone.
    pub decode: f64,
    /// Of some sessions together, where it can.
    #[serde(default)]
    pub batched: Vec<(usize, f64)>,
}

#[derive(Debug, Deserialize)]
struct Peak {
    peak_bytes: u64,
}

/// A running peer; ended when dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Who it is.
    pub kind: PeerKind,
    /// In what it computes.
    pub dtype: &'static str,
    /// What it said when it was ready.
    pub ready: Ready,
}

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct PeerSettings<'a> {
    /// Whom to measure.
    pub kind: PeerKind,
    /// The interpreter.
    pub python: &'a Path,
    /// The Hugging Face folder.
    pub model: &'a Path,
    /// Precision of the weights.
    pub dtype: Dtype,
    /// Threads.
    pub threads: usize,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens before and during decoding.
    pub decode: usize,
}

impl Peer {
    /// Starts it and waits until the model is loaded.
    pub fn start(settings: PeerSettings<'_>) -> Result<Self, PeerError> {
        let kind = settings.kind;
        let dtype = kind.dtype(settings.dtype);
        let mut child = Command::new(settings.python)
            .args(["-c", kind.script(), "--dtype", dtype])
            .arg("--model")
            .arg(settings.model)
            .args(["--threads", &settings.threads.to_string()])
            .args(["--prompt", &settings.prompt.to_string()])
            .args(["--decode", &settings.decode.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| PeerError::Start {
                packages: kind.packages(),
                python: settings.python.to_owned(),
                source,
            })?;
        let input = child.stdin.take().expect("asked for a pipe");
        let mut output = BufReader::new(child.stdout.take().expect("asked for a pipe"));
        let ready = answer(&mut output);
        if ready.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        Ok(Self {
            child,
            input,
            output,
            kind,
            dtype,
            ready: ready?,
        })
    }

    /// One round.
    pub fn round(&mut self) -> Result<PeerRound, PeerError> {
        self.input.write_all(b"round\n").map_err(PeerError::Ended)?;
        answer(&mut self.output)
    }

    /// Ends it; the most memory it took, in bytes.
    pub fn end(mut self) -> Result<u64, PeerError> {
        self.input.write_all(b"end\n").map_err(PeerError::Ended)?;
        let peak: Peak = answer(&mut self.output)?;
        Ok(peak.peak_bytes)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answer<T: for<'a> Deserialize<'a>>(output: &mut impl io::BufRead) -> Result<T, PeerError> {
    let mut line = String::new();
    // The longest line it writes has some hundred bytes.
    let mut bounded = io::Read::take(output, 1 << 16);
    let read = bounded.read_line(&mut line).map_err(PeerError::Ended)?;
    if read == 0 {
        return Err(PeerError::Ended(io::ErrorKind::UnexpectedEof.into()));
    }
    serde_json::from_str(&line).map_err(|error| PeerError::Answer {
        reason: error.to_string(),
        line,
    })
}
