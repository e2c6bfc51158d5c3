//! Configuration: one typed file for every role; file before environment before flags.
//!
//! Each setting is declared once, below: its documentation, type and default are what the parser,
//! the environment, `skein config explain` and `docs/config.md` are made of.

pub mod explain;
mod load;
mod network;
mod setting;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use skein_base::{ByteSize, NodeId};
use skein_model::KvFormat;
use skein_routing::Mode;

pub use load::{ConfigError, Loaded, Origin, Override, environment_name, nearest};
pub use network::{Layers, Role, StageAt};
pub use setting::{Format, LogFormat, Setting, Span};

/// A group of settings.
#[derive(Debug)]
pub struct Section {
    /// Its name in the file.
    pub name: &'static str,
    /// What it is about, line by line.
    pub doc: &'static [&'static str],
    /// Its settings, in order.
    pub fields: &'static [Field],
}

/// What is known about a setting beside its value.
#[derive(Debug)]
pub struct Field {
    /// Name of its section.
    pub section: &'static str,
    /// Its name in the section.
    pub key: &'static str,
    /// Its type, in words.
    pub type_name: &'static str,
    /// What it does, line by line.
    pub doc: &'static [&'static str],
}

macro_rules! settings {
    ($(
        $(#[doc = $section_doc:literal])*
        $section:ident : $struct:ident {
            $( $(#[doc = $doc:literal])* $key:ident : $type:ty = $default:expr ; )*
        }
    )*) => {
        $(
            $(#[doc = $section_doc])*
            #[derive(Debug, Clone, PartialEq)]
            pub struct $struct {
                $( $(#[doc = $doc])* pub $key: $type, )*
            }

            impl Default for $struct {
                fn default() -> Self {
                    Self { $( $key: $default, )* }
                }
            }
        )*

        /// Every setting of a process.
        #[derive(Debug, Clone, PartialEq, Default)]
        pub struct Settings {
            $( $(#[doc = $section_doc])* pub $section: $struct, )*
        }

        /// All sections with all their settings.
        pub static SECTIONS: &[Section] = &[$(
            Section {
                name: stringify!($section),
                doc: &[$($section_doc),*],
                fields: &[$(
                    Field {
                        section: stringify!($section),
                        key: stringify!($key),
                        type_name: <$type as Setting>::TYPE,
                        doc: &[$($doc),*],
                    },
                )*],
            },
        )*];

        impl Settings {
            /// The value of a setting as a file would have it; `None` if it is not set.
            pub fn get(&self, section: &str, key: &str) -> Option<toml::Value> {
                match (section, key) {
                    $($( (stringify!($section), stringify!($key)) => self.$section.$key.to_toml(), )*)*
                    _ => None,
                }
            }

            fn set_toml(&mut self, section: &str, key: &str, value: &toml::Value) -> Result<(), String> {
                match (section, key) {
                    $($( (stringify!($section), stringify!($key)) => {
                        self.$section.$key = Setting::from_toml(value)?;
                    } )*)*
                    _ => return Err("there is no such setting".to_owned()),
                }
                Ok(())
            }

            fn set_text(&mut self, section: &str, key: &str, text: &str) -> Result<(), String> {
                match (section, key) {
                    $($( (stringify!($section), stringify!($key)) => {
                        self.$section.$key = Setting::from_text(text)?;
                    } )*)*
                    _ => return Err("there is no such setting".to_owned()),
                }
                Ok(())
            }
        }
    };
}

settings! {
    /// What this node is among others.
    node: NodeSettings {
        /// What it does: `gateway` serves the API, `stage` serves a slice to gateways.
        roles: Vec<Role> = vec![Role::Gateway];
        /// Where other nodes reach it. Needed by a stage; a gateway only calls others.
        listen: Option<SocketAddr> = None;
        /// File with the node's secret key; written at the first start. Not set: another key at each
        /// start, under which nobody knows the node.
        key_file: Option<PathBuf> = None;
        /// The nodes that may make links to this one. Empty: any node that has the address.
        admit: Vec<NodeId> = Vec::new();
        /// Most links that other nodes make.
        links_max: u32 = 256;
        /// After how long without a sign of life a link counts as gone. Idle links say that they are
        /// alive four times as often.
        silence: Span = Span(Duration::from_secs(2));
    }

    /// The slice that a stage serves.
    stage: StageSettings {
        /// Its layers, both ends included, such as `0-5`. Its weights come from `model.path`, a folder
        /// written by `skein model split`.
        layers: Option<Layers> = None;
        /// Most circuits at a time.
        circuits_max: u32 = 256;
        /// Most rows in one pass over the weights.
        rows_max: u32 = 1024;
        /// How long a circuit may be silent.
        idle_timeout: Span = Span(Duration::from_secs(600));
    }

    /// The stages through which a gateway runs its model.
    network: NetworkSettings {
        /// The stages, as `LAYERS@NODE@ADDRESS`. Empty: the whole model runs in the gateway's process.
        stages: Vec<StageAt> = Vec::new();
        /// Who carries rows from stage to stage: in a `chain` each stage sends to the next; `driven`
        /// by the gateway, each answers it, which costs more legs and shows what each stage says.
        mode: Mode = Mode::Chain;
        /// Tokens for whose keys and values every stage must have room, over all requests together.
        kv_tokens: u32 = 32_768;
        /// How long it may take to set up a way through the stages.
        open_timeout: Span = Span(Duration::from_secs(5));
        /// How long a batch may take.
        step_timeout: Span = Span(Duration::from_secs(60));
        /// Without a way through all layers for so long, waiting requests are told so.
        down_max: Span = Span(Duration::from_secs(15));
        /// How long a stage that failed is left alone; twice as long each further time.
        shun: Span = Span(Duration::from_secs(2));
    }

    /// Which model to run.
    model: ModelSettings {
        /// What to load: a Hugging Face folder, a folder written by `skein model split`, a `.gguf`
        /// file, `org/name@commit` of the hub, or `embedded`: the small model inside Skein. Not set:
        /// the embedded one, but a `skein node` must be told.
        path: Option<String> = None;
        /// The model's name in the API. Not set: the name of the folder, file or repository.
        name: Option<String> = None;
        /// What to hold weights in: `auto` serves what the checkpoint stores as docs/formats.md says; `f32`,
        /// `bf16`, `q8` and `q4` (blocks of 32 weights, of 8.5 and 4.5 bits each) convert matrices. It changes the bits of the
        /// answers.
        format: Format = Format::Auto;
        /// What to hold keys and values of past tokens in: `f32` as they are computed, or `int8`, a byte for each and
        /// two scales for each token and head, in about a quarter of the memory. It changes the bits of the
        /// answers; all nodes of a model need the same.
        kv_format: KvFormat = KvFormat::F32;
        /// Whether `org/name@commit` may be fetched from the hub; if not, the local cache alone is
        /// used.
        fetch: bool = true;
        /// Give up fetching when the hub sent nothing for this long. What came is kept.
        fetch_timeout: Span = Span(Duration::from_secs(60));
        /// Load even if the memory that is available does not seem to suffice.
        force: bool = false;
    }

    /// The HTTP side of a node.
    gateway: GatewaySettings {
        /// Where to listen. Loopback by default; an address that others reach needs `keys_file` and
        /// TLS, or `allow_insecure`.
        listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
        /// File with the hashes of API keys, as `skein keys new` writes it. Not set: no key is asked
        /// for.
        keys_file: Option<PathBuf> = None;
        /// File with the TLS certificate chain (PEM). Needs `tls_key`.
        tls_certificate: Option<PathBuf> = None;
        /// File with the private key of the certificate (PEM).
        tls_key: Option<PathBuf> = None;
        /// Listen on an address that others reach even without keys and TLS: for a server behind a
        /// proxy that does both.
        allow_insecure: bool = false;
        /// Host names beside `localhost` and the address itself that clients may use, without port.
        /// Any other is refused, so that a web page cannot talk to this server behind your back.
        hosts: Vec<String> = Vec::new();
        /// Origins, such as `https://chat.example.org`, whose pages may call from a browser.
        cors_origins: Vec<String> = Vec::new();
        /// Largest body of a request.
        body_max: ByteSize = ByteSize(4 << 20);
        /// Most requests read or answered at once; more are told to come back.
        requests_max: u32 = 256;
        /// Most open connections; more are closed at once.
        connections_max: u32 = 1024;
        /// Longest time for TLS set-up and for the headers of a request, and how long a connection
        /// may idle.
        header_timeout: Span = Span(Duration::from_secs(30));
        /// Longest time for the body of a request.
        body_timeout: Span = Span(Duration::from_secs(60));
        /// Longest time for a whole answer.
        answer_timeout: Span = Span(Duration::from_secs(3600));
        /// Whether `/metrics` may be read without a key where keys are asked for.
        metrics_public: bool = false;
    }

    /// How the model is run.
    engine: EngineSettings {
        /// Threads that compute. 0: one for each core that has at least 4 MiB of weights to do. It
        /// does not change the answers.
        threads: u32 = 0;
        /// Memory for the keys and values of past tokens. What does not fit waits, or is told to come
        /// back later; it never grows beyond this. Not set: a quarter of the memory that is left
        /// beside the weights, at most 8 GiB, at most what `sessions_max` full contexts need.
        kv_memory: Option<ByteSize> = None;
        /// Disk for keys and values that give way in memory: those of finished requests, and of running ones that
        /// must wait for others. They are read back instead of computed again, with the same bits; those used least
        /// recently go first. 0: none. They tell what was asked and answered to whoever can read the disk,
        /// and are gone when the process ends. Used where the whole model runs in one process; stages of
        /// a network compute again. A slow disk slows every request, and one that hangs stops them: take a local one.
        kv_disk: ByteSize = ByteSize(0);
        /// The folder on whose file system they are, in a file without a name. Not set: the system's for temporary files,
        /// which on some machines is memory.
        kv_disk_folder: Option<PathBuf> = None;
        /// Most requests that are worked on at a time; more wait.
        sessions_max: u32 = 64;
        /// Most requests that get a token in one pass over the weights; the others take turns.
        decode_rows_max: u32 = 32;
        /// Most tokens of prompts in one pass, over all requests: what a long prompt may add to the
        /// time between two tokens of the others.
        prefill_rows_max: u32 = 256;
        /// Pages of 32 positions kept free for each running request when another one begins.
        growth_pages: u32 = 1;
        /// Most requests that wait; more are answered "busy".
        waiting_max: u32 = 256;
        /// Most requests of one client (API key) that wait.
        waiting_per_client_max: u32 = 256;
        /// Most finished requests whose keys and values are retained, so that a request that begins
        /// like one of them is answered sooner. They give way when room is needed. 0 retains none.
        retained_max: u32 = 64;
        /// Tokens buffered for a client that reads slowly; beyond that its answer pauses.
        events_max: u32 = 64;
        /// How long an answer may be paused before it is ended.
        stall_max: Span = Span(Duration::from_secs(60));
    }

    /// Figures for a monitoring system.
    metrics: MetricsSettings {
        /// Where to serve `/metrics`, `/healthz` and `/readyz` without the API, for a node that is no
        /// gateway. Not set: nowhere. A gateway has them at its own address.
        listen: Option<SocketAddr> = None;
    }

    /// What is written to standard error.
    log: LogSettings {
        /// Which messages: `error`, `warn`, `info`, `debug`, `trace`, or by part such as
        /// `info,skein_gateway=debug`.
        level: String = "info".to_owned();
        /// `human`, `json`, or `auto`: human on a terminal, JSON otherwise.
        format: LogFormat = LogFormat::Auto;
    }

    /// The process itself.
    runtime: RuntimeSettings {
        /// When asked to stop: how long answers in progress may go on before they are cut.
        drain: Span = Span(Duration::from_secs(20));
        /// After that: how long each part may take to stop before the process leaves anyway.
        stop: Span = Span(Duration::from_secs(5));
    }
}
