//! Find stop strings in text that arrives piece by piece.
//!
//! The match that counts is the one that *ends* first, and among those that end at the same
//! character the longest: so the result does not depend on how the text was cut. Text that may
//! still turn out to begin a stop string is held back.

#[cfg(test)]
mod tests;

/// Longest stop string, in bytes.
pub const STOP_BYTES_MAX: usize = 1024;

/// Why stop strings were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// An empty string would stop at once.
    #[error("stop string {index} is empty")]
    Empty {
        /// Its place in the list, from 0.
        index: usize,
    },
    /// One is too long.
    #[error("stop string {index} has {found} bytes, at most {max} are allowed")]
    TooLong {
        /// Its place in the list, from 0.
        index: usize,
        /// Its length in bytes.
        found: usize,
        /// The longest allowed.
        max: usize,
    },
    /// The list is too long.
    #[error("there are {found} stop strings, at most {max} are allowed")]
    TooMany {
        /// How many came.
        found: usize,
        /// How many there may be.
        max: usize,
    },
}

/// What became of a piece of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopStep {
    /// Text that may be shown now.
    pub text: String,
    /// The place in the list of the stop string that was found; nothing may follow.
    pub stopped: Option<usize>,
}

/// Watches one answer for its stop strings. Time per byte is constant on average for each stop
/// string (Knuth, Morris, Pratt).
#[derive(Debug, Clone, Default)]
pub struct StopMatcher {
    patterns: Vec<Pattern>,
    held: String,
    stopped: Option<usize>,
}

#[derive(Debug, Clone)]
struct Pattern {
    bytes: Vec<u8>,
    /// `borders[n]`: length of the longest proper prefix of the first `n` bytes that is also their
    /// suffix.
    borders: Vec<usize>,
    matched: usize,
}

impl StopMatcher {
    /// Watches for `stops`, of which there may be `count_max` (OpenAI: 4).
    pub fn new(stops: &[String], count_max: usize) -> Result<Self, StopError> {
        if stops.len() > count_max {
            return Err(StopError::TooMany {
                found: stops.len(),
                max: count_max,
            });
        }
        for (index, stop) in stops.iter().enumerate() {
            if stop.is_empty() {
                return Err(StopError::Empty { index });
            }
            if stop.len() > STOP_BYTES_MAX {
                let (found, max) = (stop.len(), STOP_BYTES_MAX);
                return Err(StopError::TooLong { index, found, max });
            }
        }
        let patterns = stops
            .iter()
            .map(|stop| Pattern::new(stop.as_bytes()))
            .collect();
        Ok(Self {
            patterns,
            held: String::new(),
            stopped: None,
        })
    }

    /// Takes the next piece. After a stop string was found every further piece is dropped.
    pub fn push(&mut self, piece: &str) -> StopStep {
        if self.stopped.is_some() {
            return StopStep {
                text: String::new(),
                stopped: self.stopped,
            };
        }
        let before = self.held.len();
        self.held.push_str(piece);
        for (index, byte) in piece.bytes().enumerate() {
            if let Some(stop) = self.advance(byte) {
                self.stopped = Some(stop);
                let start = before + index + 1 - self.patterns[stop].bytes.len();
                let mut text = std::mem::take(&mut self.held);
                text.truncate(start);
                return StopStep {
                    text,
                    stopped: self.stopped,
                };
            }
        }
        let keep = self
            .patterns
            .iter()
            .map(|pattern| pattern.matched)
            .max()
            .unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        StopStep {
            text: std::mem::replace(&mut self.held, rest),
            stopped: None,
        }
    }

    /// The answer has ended: what was held back may be shown.
    pub fn finish(&mut self) -> String {
        self.patterns
            .iter_mut()
            .for_each(|pattern| pattern.matched = 0);
        std::mem::take(&mut self.held)
    }

    /// The longest pattern that ends with `byte`.
    fn advance(&mut self, byte: u8) -> Option<usize> {
        let mut found: Option<usize> = None;
        for index in 0..self.patterns.len() {
            let whole = self.patterns[index].advance(byte);
            let length = |index: usize| self.patterns[index].bytes.len();
            if whole && found.is_none_or(|other| length(index) > length(other)) {
                found = Some(index);
            }
        }
        found
    }
}

impl Pattern {
    fn new(bytes: &[u8]) -> Self {
        let mut borders = vec![0; bytes.len() + 1];
        let mut length = 0;
        for end in 1..bytes.len() {
            while length > 0 && bytes[length] != bytes[end] {
                length = borders[length];
            }
            if bytes[length] == bytes[end] {
                length += 1;
            }
            borders[end + 1] = length;
        }
        Self {
            bytes: bytes.to_vec(),
            borders,
            matched: 0,
        }
    }

    /// Whether the text now ends with the pattern. Not to be called after it did.
    fn advance(&mut self, byte: u8) -> bool {
        while self.matched > 0 && self.bytes[self.matched] != byte {
            self.matched = self.borders[self.matched];
        }
        if self.bytes[self.matched] == byte {
            self.matched += 1;
        }
        self.matched == self.bytes.len()
    }
}
