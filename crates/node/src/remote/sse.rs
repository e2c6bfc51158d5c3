//! Server-sent events, from bytes to the `data` of each event, without I/O.
//!
//! As the HTML standard has it (section 9.2.6, "Interpreting an event stream"), but for two things: bytes
//! that are no UTF-8 are an error instead of being replaced, and lines and events are bounded.

/// Longest line, in bytes. A chunk of an answer has some hundred.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Longest `data` of an event, in bytes: of all its lines together.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// Why a stream of events cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SseError {
    /// A line is too long.
    #[error("a line of more than {LINE_BYTES_MAX} bytes")]
    LineTooLong,
    /// An event is too long.
    #[error("an event of more than {EVENT_BYTES_MAX} bytes")]
    EventTooLong,
    /// A line is no text.
    #[error("bytes that are no UTF-8")]
    NotUtf8,
}

/// Reads events out of bytes that come in pieces of any size.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The line that has begun.
    line: Vec<u8>,
    /// `data` of the event that has begun; `None` before its first line of data.
    data: Option<String>,
    /// The last byte was a carriage return: a line feed now is the rest of that line's end.
    returned: bool,
    /// Whether a line was read: only before the first one a byte order mark may stand.
    begun: bool,
}

impl Decoder {
    /// Takes the next bytes; puts the events that they complete behind `events`, also those before
    /// an error.
    pub(super) fn push(
        &mut self,
        mut bytes: &[u8],
        events: &mut Vec<String>,
    ) -> Result<(), SseError> {
        while let Some((&first, rest)) = bytes.split_first() {
            if std::mem::take(&mut self.returned) && first == b'\n' {
                bytes = rest;
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let part = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + part.len() > LINE_BYTES_MAX {
                return Err(SseError::LineTooLong);
            }
            self.line.extend_from_slice(part);
            let Some(end) = end else { break };
            self.returned = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            events.extend(self.end_line()?);
        }
        Ok(())
    }

    /// Interprets the line; the event that it ends, if it does.
    fn end_line(&mut self) -> Result<Option<String>, SseError> {
        let bytes = std::mem::take(&mut self.line);
        let line = std::str::from_utf8(&bytes).map_err(|_| SseError::NotUtf8)?;
        let line = match std::mem::replace(&mut self.begun, true) {
            false => line.strip_prefix('\u{feff}').unwrap_or(line),
            true => line,
        };
        if line.is_empty() {
            return Ok(self.data.take());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        // A line without a field's name is a comment; other fields say nothing about an answer.
        if field == "data" {
            self.add(value.strip_prefix(' ').unwrap_or(value))?;
        }
        Ok(None)
    }

    fn add(&mut self, value: &str) -> Result<(), SseError> {
        let length = self.data.as_ref().map_or(0, |data| data.len() + 1);
        if length + value.len() > EVENT_BYTES_MAX {
            return Err(SseError::EventTooLong);
        }
        match &mut self.data {
            None => self.data = Some(value.to_owned()),
            Some(data) => {
                data.push('\n');
                data.push_str(value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
