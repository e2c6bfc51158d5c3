//! A link: an encrypted stream of frames between two nodes that have proved who they are.
//!
//! Whoever dials knows whom; whoever listens learns it. The first frame of each side names the
//! protocol that the link is for, with its version; a side that does not know it ends the link with
//! words in its own error.
//!
//! Every wait has a deadline: shaking hands, a frame once it has begun, writing, and silence. An
//! idle link is kept by empty frames, which nobody sees.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rustls::pki_types::{IpAddr, ServerName};
use skein_base::NodeId;
use skein_base::limits::STAGE_MESSAGE_BYTES_MAX;
use skein_runtime::timeout;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::frame::{self, FrameError};
use crate::identity::{Identity, node_of};
use crate::tls;

/// Longest name of a protocol.
const PROTOCOL_BYTES_MAX: usize = 64;

/// Bounds and patience of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkConfig {
    /// Longest frame, in bytes.
    pub frame_max: usize,
    /// How long connecting and shaking hands may take together.
    pub handshake_timeout: Duration,
    /// How long a frame may take once its length is there, and how long writing one.
    pub frame_timeout: Duration,
    /// After how long without a frame the other side counts as gone.
    pub silence_max: Duration,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            frame_max: STAGE_MESSAGE_BYTES_MAX,
            handshake_timeout: Duration::from_secs(5),
            frame_timeout: Duration::from_secs(30),
            silence_max: Duration::from_secs(3),
        }
    }
}

/// Why there is no link, or none any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The system, or TLS: a wrong key, a broken record.
    #[error("the link failed: {0}")]
    Io(#[from] io::Error),
    /// The configuration of TLS was refused.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// Something took too long.
    #[error("{what} took longer than {allowed:?}")]
    Timeout {
        /// What.
        what: &'static str,
        /// How long it was allowed to take.
        allowed: Duration,
    },
    /// The other side said nothing for too long.
    #[error("nothing was heard for {allowed:?}")]
    Silent {
        /// How long it may be silent.
        allowed: Duration,
    },
    /// A frame is longer than allowed.
    #[error("a frame of {found} bytes; at most {max} are taken")]
    TooLong {
        /// Its length.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// The stream ended inside a frame.
    #[error("the link ended inside a frame")]
    Truncated,
    /// The other side ended the link.
    #[error("the other side ended the link")]
    Ended,
    /// The other side shows no key that names a node.
    #[error("the other side shows no ed25519 key")]
    NoKey,
    /// The other side speaks something else.
    #[error("the other side speaks {theirs:?}, this one {ours:?}: one of them must be updated")]
    Protocol {
        /// What it said.
        theirs: String,
        /// What is spoken here.
        ours: String,
    },
}

impl From<FrameError> for LinkError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::TooLong { found, max } => Self::TooLong { found, max },
            FrameError::Truncated => Self::Truncated,
            FrameError::Io(error) => Self::Io(error),
        }
    }
}

/// Takes frames from a link.
#[derive(Debug)]
pub struct LinkReader<S = TcpStream> {
    stream: ReadHalf<TlsStream<S>>,
    config: LinkConfig,
}

/// Puts frames on a link.
#[derive(Debug)]
pub struct LinkWriter<S = TcpStream> {
    stream: WriteHalf<TlsStream<S>>,
    config: LinkConfig,
    /// A frame with its length, so that both go out at once: two writes are two records, two packets
    /// and two wake-ups of the other side.
    whole: Vec<u8>,
    /// How much of it is written.
    written: usize,
}

/// Memory for outgoing frames that a link keeps between them.
const KEPT_BYTES: usize = 64 << 10;

/// Both directions of a link.
pub type Halves<S = TcpStream> = (LinkReader<S>, LinkWriter<S>);

/// Dials a node and makes sure that it is that one.
///
/// # Errors
/// See [`LinkError`].
///
/// # Cancel safety
/// Safe: the connection is dropped.
pub async fn connect(
    own: &Identity,
    (node, address): (NodeId, SocketAddr),
    protocol: &str,
    config: LinkConfig,
) -> Result<Halves, LinkError> {
    let connector = TlsConnector::from(tls::client(own, node)?);
    // Not sent and not checked: the key is the name.
    let name = ServerName::IpAddress(IpAddr::from(address.ip()));
    let dial = async {
        let stream = TcpStream::connect(address).await?;
        // Each frame is waited for.
        stream.set_nodelay(true)?;
        let stream = connector.connect(name, stream).await?;
        greet(TlsStream::from(stream), protocol, config).await
    };
    let allowed = config.handshake_timeout;
    let done = timeout(allowed, dial).await;
    done.unwrap_or(Err(LinkError::Timeout {
        what: "connecting",
        allowed,
    }))
}

/// Shakes hands with whoever dialled, and learns who it is.
///
/// # Errors
/// See [`LinkError`].
///
/// # Cancel safety
/// Safe: the connection is dropped.
pub async fn accept(
    own: &Identity,
    stream: TcpStream,
    protocol: &str,
    config: LinkConfig,
) -> Result<(NodeId, Halves), LinkError> {
    let acceptor = TlsAcceptor::from(tls::server(own)?);
    let shake = async {
        stream.set_nodelay(true)?;
        let stream = acceptor.accept(stream).await?;
        let keys = stream.get_ref().1.peer_certificates();
        let node = keys.and_then(|keys| node_of(keys.first()?));
        let node = node.ok_or(LinkError::NoKey)?;
        let halves = greet(TlsStream::from(stream), protocol, config).await?;
        Ok((node, halves))
    };
    let allowed = config.handshake_timeout;
    let done = timeout(allowed, shake).await;
    done.unwrap_or(Err(LinkError::Timeout {
        what: "shaking hands",
        allowed,
    }))
}

/// Both say what they speak.
async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    stream: TlsStream<S>,
    protocol: &str,
    config: LinkConfig,
) -> Result<Halves<S>, LinkError> {
    let (read, write) = tokio::io::split(stream);
    let mut reader = LinkReader {
        stream: read,
        config,
    };
    let mut writer = LinkWriter {
        stream: write,
        config,
        whole: Vec::new(),
        written: 0,
    };
    writer.send(protocol.as_bytes()).await?;
    let theirs = reader.next(PROTOCOL_BYTES_MAX).await?;
    if theirs != protocol.as_bytes() {
        return Err(LinkError::Protocol {
            theirs: String::from_utf8_lossy(&theirs).into_owned(),
            ours: protocol.to_owned(),
        });
    }
    Ok((reader, writer))
}

impl<S: AsyncRead + AsyncWrite + Unpin> LinkReader<S> {
    /// The next frame that is not empty.
    ///
    /// # Errors
    /// See [`LinkError`]; the link is of no use then.
    ///
    /// # Cancel safety
    /// Not safe: part of a frame may be lost. Give each link a task that only reads.
    pub async fn recv(&mut self) -> Result<Vec<u8>, LinkError> {
        self.next(self.config.frame_max).await
    }

    async fn next(&mut self, max: usize) -> Result<Vec<u8>, LinkError> {
        loop {
            let allowed = self.config.silence_max;
            let length = timeout(allowed, frame::length(&mut self.stream, max)).await;
            let length = length.ok_or(LinkError::Silent { allowed })??;
            let length = length.ok_or(LinkError::Ended)?;
            if length == 0 {
                continue;
            }
            let allowed = self.config.frame_timeout;
            let content = timeout(allowed, frame::content(&mut self.stream, length)).await;
            let what = "receiving a frame";
            return Ok(content.ok_or(LinkError::Timeout { what, allowed })??);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> LinkWriter<S> {
    /// Sends a frame; an empty one says that this side is alive, and must go out well within the
    /// other's [`LinkConfig::silence_max`] where nothing else does.
    ///
    /// # Errors
    /// See [`LinkError`]; the link is of no use then.
    ///
    /// # Cancel safety
    /// Not safe: part of the frame may have been sent. [`Self::finish`] sends the rest.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        self.begin(bytes)?;
        self.finish().await
    }

    /// Sends a frame as far as the system takes it at once. False if [`Self::finish`] must send the
    /// rest. For whoever is no task: it saves waking one.
    ///
    /// # Errors
    /// See [`LinkError`]; the link is of no use then.
    pub fn try_send(&mut self, bytes: &[u8]) -> Result<bool, LinkError> {
        self.begin(bytes)?;
        // Nobody waits for the wake-up: whoever finishes the rest asks again.
        let mut context = Context::from_waker(Waker::noop());
        match self.poll_finish(&mut context) {
            Poll::Ready(done) => done.map(|()| true),
            Poll::Pending => Ok(false),
        }
    }

    /// Sends what is left of a frame.
    ///
    /// # Errors
    /// See [`LinkError`]; the link is of no use then.
    ///
    /// # Cancel safety
    /// Safe: called again, it goes on.
    pub async fn finish(&mut self) -> Result<(), LinkError> {
        let allowed = self.config.frame_timeout;
        let sent = timeout(allowed, std::future::poll_fn(|cx| self.poll_finish(cx))).await;
        let what = "sending a frame";
        sent.ok_or(LinkError::Timeout { what, allowed })?
    }

    fn begin(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        let max = self.config.frame_max;
        let found = bytes.len();
        let length = u32::try_from(found).ok().filter(|_| found <= max);
        let length = length.ok_or(LinkError::TooLong { found, max })?;
        self.whole.clear();
        self.whole.shrink_to(KEPT_BYTES);
        self.whole.extend_from_slice(&length.to_le_bytes());
        self.whole.extend_from_slice(bytes);
        self.written = 0;
        Ok(())
    }

    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        while self.written < self.whole.len() {
            let rest = &self.whole[self.written..];
            match ready!(Pin::new(&mut self.stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(LinkError::Ended)),
                written => self.written += written,
            }
        }
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        Poll::Ready(Ok(()))
    }

    /// Ends the link in order: what was sent arrives.
    ///
    /// # Errors
    /// See [`LinkError`].
    ///
    /// # Cancel safety
    /// Safe: the link ends without a word then.
    pub async fn close(mut self) -> Result<(), LinkError> {
        let allowed = self.config.frame_timeout;
        let closed = timeout(allowed, self.stream.shutdown()).await;
        let what = "closing";
        Ok(closed.ok_or(LinkError::Timeout { what, allowed })??)
    }
}

#[cfg(test)]
mod tests;
