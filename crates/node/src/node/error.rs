//! Why a node did not start or did not end well.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use skein_base::ByteSize;
use skein_gateway::ServeError;
use skein_model::LoadError;
use skein_runtime::EntropyError;
use skein_serving::StartError;
use skein_text::tokenizer::TokenizerError;
use skein_weights::checkpoint::VocabularyError;

use crate::budget::NotEnoughMemory;
use crate::keys::KeysError;
use crate::open::OpenError;
use crate::roles::identity::KeyFileError;

/// Why a node did not start or did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// No model was named.
    #[error("no model is given: write --model MODEL, or set model.path in the configuration")]
    NoModel,
    /// The model cannot be found or read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is no tokenizer.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The weights do not fit.
    #[error(transparent)]
    Memory(#[from] NotEnoughMemory),
    /// The weights cannot be loaded.
    #[error("the weights cannot be loaded")]
    Load(#[from] LoadError),
    /// The folder for keys and values on disk cannot be used.
    #[error(
        "no file can be made in {} for keys and values: choose another folder (engine.kv_disk_folder), or set engine.kv_disk to 0",
        folder.display()
    )]
    KvDisk {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The disk for keys and values holds none.
    #[error(
        "engine.kv_disk is {given}, and a page of keys and values of this model takes {page}: give it more, or 0 for none"
    )]
    KvDiskSmall {
        /// The setting.
        given: ByteSize,
        /// A page.
        page: ByteSize,
    },
    /// The engine did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Engine settings without sense.
    #[error("[engine] {0}")]
    Engine(#[from] skein_serving::ConfigError),
    /// The gateway's settings are refused.
    #[error("[gateway] {0}")]
    Gateway(#[from] skein_gateway::ConfigError),
    /// The gateway failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The file of API keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A certificate without its key or the other way round.
    #[error("gateway.{missing} is not set: TLS needs both tls_certificate and tls_key")]
    HalfTls {
        /// The setting that is missing.
        missing: &'static str,
    },
    /// A file of the configuration cannot be read.
    #[error("cannot read {} (gateway.{setting})", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The setting that names it.
        setting: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A stage without layers.
    #[error("stage.layers is not set: say which layers this node serves, such as \"0-5\"")]
    NoLayers,
    /// Layers that the model does not have.
    #[error("stage.layers ends with layer {last}, and the model has layers 0 to {}", layers - 1)]
    LayersOutside {
        /// The last layer asked for.
        last: u32,
        /// How many there are.
        layers: u32,
    },
    /// A model without an id.
    #[error(
        "{} was not split, so it has no id by which nodes know it: `skein model split {} --output DIR --slices N` writes a folder that has one",
        path.display(), path.display()
    )]
    NotSplit {
        /// The model.
        path: PathBuf,
    },
    /// Stages that do not cover the model.
    #[error(
        "network.stages leaves layers out: from layer 0 to layer {} each stage must begin where another ends",
        layers - 1
    )]
    NoWay {
        /// Layers of the model.
        layers: u32,
    },
    /// A node without anything to do.
    #[error("node.roles is empty: name \"gateway\", \"stage\", or both")]
    NoRole,
    /// A stage that nobody can reach.
    #[error("node.listen is not set: a stage needs an address at which gateways reach it")]
    NoNodeAddress,
    /// The node's key.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The address is taken.
    #[error(
        "{listen} is in use: another program (or another skein) listens there; choose another with \
         {} {}:PORT, or port 0 for a free one",
        flag, listen.ip()
    )]
    AddressTaken {
        /// The address.
        listen: SocketAddr,
        /// The flag or setting that names it.
        flag: &'static str,
    },
    /// The address cannot be used.
    #[error("cannot listen on {listen}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The asynchronous runtime or its signals cannot be had.
    #[error("the operating system gave no threads or signals")]
    System(#[source] io::Error),
    /// A part failed while serving.
    #[error("{0}")]
    Failed(String),
}
