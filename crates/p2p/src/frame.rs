//! Frames: a length of four bytes, little-endian, then so many bytes.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Memory is taken in steps of this many bytes, as they arrive: a peer that announces much and sends
/// little costs little.
const STEP: usize = 1 << 16;

/// Why no frame was read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {found} bytes is announced; at most {max} are taken")]
    TooLong { found: usize, max: usize },
    #[error("the stream ends inside a frame")]
    Truncated,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Waits for the beginning of a frame: its length, or `None` where the stream ends before.
///
/// # Cancel safety
/// Not safe: part of the length may be lost.
pub(crate) async fn length(
    from: &mut (impl AsyncRead + Unpin),
    max: usize,
) -> Result<Option<usize>, FrameError> {
    let mut bytes = [0; 4];
    let first = from.read(&mut bytes).await?;
    if first == 0 {
        return Ok(None);
    }
    exact(from, &mut bytes[first..]).await?;
    let found = u32::from_le_bytes(bytes) as usize;
    match found <= max {
        true => Ok(Some(found)),
        false => Err(FrameError::TooLong { found, max }),
    }
}

/// Reads the bytes of a frame whose length was read and bounded.
///
/// # Cancel safety
/// Not safe: what was read is lost.
pub(crate) async fn content(
    from: &mut (impl AsyncRead + Unpin),
    length: usize,
) -> Result<Vec<u8>, FrameError> {
    let mut bytes = Vec::with_capacity(length.min(STEP));
    while bytes.len() < length {
        let start = bytes.len();
        bytes.resize(length.min(start + STEP), 0);
        exact(from, &mut bytes[start..]).await?;
    }
    Ok(bytes)
}

async fn exact(from: &mut (impl AsyncRead + Unpin), to: &mut [u8]) -> Result<(), FrameError> {
    match from.read_exact(to).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(FrameError::Truncated),
        Err(error) => Err(error.into()),
    }
}
