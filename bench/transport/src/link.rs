//! A link carries whole frames between two nodes. What is compared is everything below this trait.

use std::{future::Future, pin::Pin};

use anyhow::{Result, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest frame in this benchmark: one Noise message, the narrowest of the transports, must hold it.
pub const FRAME_MAX: usize = 60 * 1024;

pub type LinkFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

pub trait Link: Send {
    /// Hands one frame to the network; returns once nothing of it waits in a buffer of ours.
    fn send<'a>(&'a mut self, frame: &'a [u8]) -> LinkFuture<'a, ()>;
    /// Reads one frame into `frame`, replacing its contents.
    fn recv<'a>(&'a mut self, frame: &'a mut Vec<u8>) -> LinkFuture<'a, ()>;
}

/// Where a node listens and from where it dials.
pub trait Endpoint: Send {
    fn address(&self) -> String;
    /// Opens a link to the node with that index, and only to the holder of its key.
    fn connect<'a>(&'a mut self, peer: usize, address: &'a str) -> LinkFuture<'a, Box<dyn Link>>;
    fn accept(&mut self) -> LinkFuture<'_, Box<dyn Link>>;
}

/// Bytes read ahead, so that a header and its body cost one read.
#[derive(Default)]
pub struct Inbox {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    /// Reads until `len` bytes are there, and returns them without taking them.
    pub async fn peek<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        len: usize,
    ) -> Result<&[u8]> {
        if self.buffer.is_empty() {
            self.buffer.resize(2 * FRAME_MAX, 0);
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.start + len > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        while self.end - self.start < len {
            match stream.read(&mut self.buffer[self.end..]).await? {
                0 => bail!("the peer closed the link"),
                n => self.end += n,
            }
        }
        Ok(&self.buffer[self.start..self.start + len])
    }

    pub fn take(&mut self, len: usize) {
        self.start += len;
    }
}

/// Frames with a four-byte length over any byte stream: header and body leave in one write.
pub struct StreamLink<S> {
    stream: S,
    inbox: Inbox,
    outbox: Vec<u8>,
}

impl<S> StreamLink<S> {
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            inbox: Inbox::default(),
            outbox: Vec::new(),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Link for StreamLink<S> {
    fn send<'a>(&'a mut self, frame: &'a [u8]) -> LinkFuture<'a, ()> {
        Box::pin(async move {
            self.outbox.clear();
            self.outbox
                .extend_from_slice(&u32::try_from(frame.len())?.to_le_bytes());
            self.outbox.extend_from_slice(frame);
            self.stream.write_all(&self.outbox).await?;
            self.stream.flush().await?;
            Ok(())
        })
    }

    fn recv<'a>(&'a mut self, frame: &'a mut Vec<u8>) -> LinkFuture<'a, ()> {
        Box::pin(async move {
            let header = self.inbox.peek(&mut self.stream, 4).await?.try_into()?;
            let len = usize::try_from(u32::from_le_bytes(header))?;
            ensure!(len <= FRAME_MAX, "a frame of {len} bytes");
            let bytes = self.inbox.peek(&mut self.stream, 4 + len).await?;
            frame.clear();
            frame.extend_from_slice(&bytes[4..]);
            self.inbox.take(4 + len);
            Ok(())
        })
    }
}
