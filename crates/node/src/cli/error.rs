//! Everything that can go wrong in a command, and its exit code.

use std::io;
use std::process::ExitCode;

use crate::bench::peer::PeerError;
use crate::bench::quality::QualityError;
use crate::bench::stages::MeasureError;
use crate::config::ConfigError;
use crate::generate::GenerateError;
use crate::keys::KeysError;
use crate::logs::LogError;
use crate::node::NodeError;
use crate::open::OpenError;
use crate::remote::RemoteError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The configuration was refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log filter was refused.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The file of keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The model was not found or cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The node did not start or ended badly.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// No answer.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// A server did not do what it was asked.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Splitting failed.
    #[error(transparent)]
    Split(#[from] super::split::SplitCommandError),
    /// The network did not start or went down.
    #[error(transparent)]
    Up(#[from] super::up::UpError),
    /// Exporting failed.
    #[error(transparent)]
    Export(#[from] super::export::ExportCommandError),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] super::train::TrainCommandError),
    /// Verifying could not be done.
    #[error(transparent)]
    Verify(#[from] super::verify::VerifyCommandError),
    /// A measurement failed.
    #[error(transparent)]
    Measure(#[from] MeasureError),
    /// Formats could not be compared.
    #[error(transparent)]
    Quality(#[from] QualityError),
    /// The peer of a measurement failed.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// Something could not be read or written.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Standard output is closed.
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
    /// The terminal cannot be read.
    #[error("cannot read from the terminal")]
    Terminal(#[from] rustyline::error::ReadlineError),
}

impl CommandError {
    /// Whether a conversation has become too long for the model.
    pub(super) fn is_context_full(&self) -> bool {
        match self {
            Self::Generate(GenerateError::ContextFull { .. }) => true,
            Self::Generate(GenerateError::Remote(error)) | Self::Remote(error) => {
                error.is_context_full()
            }
            _ => false,
        }
    }

    /// 2 for what the user can mend on the command line or in the configuration, else 1.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}
