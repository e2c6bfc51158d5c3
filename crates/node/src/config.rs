//! Configuration: one typed file for every role; file before environment before flags.
//!
//! Each setting is declared once, below: its documentation, type and default are what the parser,
//! the environment, `skein config explain` and `docs/config.md` are made of.

pub mod explain;
mod load;
mod setting;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use skein_base::ByteSize;

pub use load::{ConfigError, Loaded, Origin, Override, environment_name, nearest};
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
    /// Which model to run.
    model: ModelSettings {
        /// What to load: a Hugging Face folder, a folder written by `skein model split`, a `.gguf`
        /// file, or `org/name@commit` of the hub.
        path: Option<String> = None;
        /// The model's name in the API. Not set: the name of the folder, file or repository.
        name: Option<String> = None;
        /// What to hold weights in: `auto` keeps what the checkpoint stores (bf16 or f32), `f32` and
        /// `bf16` convert. It changes the bits of the answers.
        format: Format = Format::Auto;
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
        /// Threads that compute. 0: one for each core. It does not change the answers.
        threads: u32 = 0;
        /// Memory for the keys and values of past tokens. What does not fit waits, or is told to come
        /// back later; it never grows beyond this. Not set: a quarter of the memory that is left
        /// beside the weights, at most 8 GiB, at most what `sessions_max` full contexts need.
        kv_memory: Option<ByteSize> = None;
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
