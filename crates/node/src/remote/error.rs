//! What goes wrong between a client and its server, in words that say what to do.

use std::io;
use std::time::Duration;

use super::{Address, KEY_VARIABLE, SseError};

/// Most characters of a server's own words that are shown.
const WORDS_CHARS_MAX: usize = 2000;

/// Why a server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The key cannot be sent.
    #[error(
        "{KEY_VARIABLE} holds characters that no key has: set it to the key as it was given to you"
    )]
    Key,
    /// Nobody listens there.
    #[error(
        "no server answers at {address}; start one with `skein up` in another terminal, or give \
         the address of one with --url"
    )]
    Unreachable {
        /// The server.
        address: Address,
        /// What the client said.
        #[source]
        source: ureq::Error,
    },
    /// TLS failed.
    #[error("no secure connection to {address}: its certificate must be one that browsers accept")]
    Tls {
        /// The server.
        address: Address,
        /// What the client said.
        #[source]
        source: ureq::Error,
    },
    /// It did not answer in time.
    #[error("the server at {address} did not answer within {waited:?}")]
    Late {
        /// The server.
        address: Address,
        /// How long it was waited for.
        waited: Duration,
    },
    /// It fell silent in the middle of an answer.
    #[error(
        "nothing came from the server at {address} for {waited:?}: what it said so far is not all of the answer"
    )]
    Silent {
        /// The server.
        address: Address,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The connection broke.
    #[error("the connection to {address} broke off before the answer was complete")]
    Broken {
        /// The server.
        address: Address,
        /// What the client said.
        #[source]
        source: ureq::Error,
    },
    /// The stream ended before the answer did.
    #[error("the server at {address} ended the stream before the answer was complete")]
    Unfinished {
        /// The server.
        address: Address,
    },
    /// It says what no server of models says.
    #[error("what answers at {address} is no server of models: {reason}")]
    Foreign {
        /// The server.
        address: Address,
        /// What it said.
        reason: String,
    },
    /// Its stream cannot be read.
    #[error("the server at {address} sent what is no stream of events")]
    Stream {
        /// The server.
        address: Address,
        /// What is wrong with it.
        #[source]
        source: SseError,
    },
    /// It asks for a key, or for another one.
    #[error(
        "the server asks for a key: {message} (skein takes it from the environment variable {KEY_VARIABLE})"
    )]
    Unauthorized {
        /// The server's words.
        message: String,
    },
    /// It refused.
    #[error("the server refused: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The API's code for what is wrong, if it has one.
        code: Option<String>,
        /// The server's words.
        message: String,
    },
    /// It gave up in the middle of an answer.
    #[error("the server broke the answer off: {message}")]
    Failed {
        /// The server's words.
        message: String,
    },
    /// The answer never ends.
    #[error("the answer of the server at {address} is larger than any answer")]
    TooLong {
        /// The server.
        address: Address,
    },
    /// It offers nothing.
    #[error("the server at {address} offers no model")]
    NoModels {
        /// The server.
        address: Address,
    },
}

impl RemoteError {
    /// Whether it shows that no server of models is there at all. One that does not answer is
    /// there.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Foreign { .. })
    }

    /// Whether the conversation has become too long for the model.
    pub fn is_context_full(&self) -> bool {
        let full = "context_length_exceeded";
        matches!(self, Self::Refused { code: Some(code), .. } if code == full)
    }

    /// Why a request brought no response; `waited` is how long it was allowed to take.
    pub(super) fn of_call(address: &Address, source: ureq::Error, waited: Duration) -> Self {
        use ureq::{Error, Timeout};
        let address = address.clone();
        match source {
            Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
                Self::Unreachable { address, source }
            }
            Error::Timeout(_) => Self::Late { address, waited },
            Error::Tls(_) | Error::Rustls(_) | Error::Pem(_) => Self::Tls { address, source },
            // The library hands on what the handshake said as an error of the socket.
            Error::Io(ref error)
                if address.is_encrypted() && error.kind() == io::ErrorKind::InvalidData =>
            {
                Self::Tls { address, source }
            }
            Error::Io(ref error) if is_break(error) => Self::Broken { address, source },
            Error::Protocol(_) | Error::LargeResponseHeader(..) => Self::Foreign {
                address,
                reason: format!("it does not speak HTTP ({source})"),
            },
            _ => Self::Unreachable { address, source },
        }
    }

    /// Why the body of a response ended too early.
    pub(super) fn of_body(address: &Address, source: ureq::Error, waited: Duration) -> Self {
        let address = address.clone();
        match source {
            ureq::Error::Timeout(_) => Self::Late { address, waited },
            ureq::Error::BodyExceedsLimit(bytes) => Self::Foreign {
                address,
                reason: format!("its answer has more than {bytes} bytes"),
            },
            source => Self::Broken { address, source },
        }
    }
}

/// Whether a connection that was there went away.
fn is_break(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::NotConnected
    )
}

/// A server's words, fit for a terminal: bounded, on one line, without control characters.
pub(crate) fn words(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut words: String = text.chars().take(WORDS_CHARS_MAX).map(plain).collect();
    if text.chars().nth(WORDS_CHARS_MAX).is_some() {
        words.push('…');
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_server_do_not_move_the_cursor() {
        assert_eq!(words("a\u{1b}[2Jb\nc\u{9b}d"), "a [2Jb c d");
        assert_eq!(
            words(&"x".repeat(5000)).chars().count(),
            WORDS_CHARS_MAX + 1
        );
    }
}
