//! Ids of requests and answers, and seeds for those who name none.

use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};
use skein_base::TraceId;
use skein_runtime::Secret32;

/// Longest id of a client's own that is passed on, in bytes.
const GIVEN_BYTES_MAX: usize = 128;

/// A secret and a counter: ids that neither repeat nor tell how many there were.
#[derive(Debug)]
pub(crate) struct Ids {
    secret: Secret32,
    next: AtomicU64,
}

impl Ids {
    pub(crate) fn new(secret: Secret32) -> Self {
        Self {
            secret,
            next: AtomicU64::new(0),
        }
    }

    /// `prefix` and 24 hexadecimal digits.
    pub(crate) fn id(&self, prefix: &str) -> String {
        use std::fmt::Write as _;
        let mut id = prefix.to_owned();
        for byte in &self.draw()[..12] {
            write!(id, "{byte:02x}").expect("writing to a string cannot fail");
        }
        id
    }

    /// A seed for an answer whose client gave none.
    pub(crate) fn seed(&self) -> u64 {
        let drawn = self.draw();
        u64::from_le_bytes(drawn[..8].try_into().expect("eight bytes"))
    }

    /// The trace of a request whose client gave none.
    pub(crate) fn trace(&self) -> TraceId {
        let drawn = self.draw();
        TraceId(drawn[..16].try_into().expect("sixteen bytes"))
    }

    fn draw(&self) -> [u8; 32] {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut hash = Sha256::new();
        hash.update(self.secret.expose());
        hash.update(number.to_le_bytes());
        hash.finalize().into()
    }
}

/// A client's own `x-request-id`, if it is fit for headers and logs.
pub(crate) fn given(id: &[u8]) -> Option<&str> {
    let id = std::str::from_utf8(id).ok()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    let fits = !id.is_empty() && id.len() <= GIVEN_BYTES_MAX && id.chars().all(plain);
    fits.then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_have_one_form() {
        let ids = Ids::new(Secret32::from_bytes([7; 32]));
        let (a, b) = (ids.id("chatcmpl-"), ids.id("chatcmpl-"));
        assert_ne!(a, b);
        assert_eq!(a.len(), "chatcmpl-".len() + 24);
        assert_ne!(ids.seed(), ids.seed());
    }

    #[test]
    fn foreign_ids_are_taken_only_if_plain() {
        assert_eq!(given(b"req-1.2:3_x"), Some("req-1.2:3_x"));
        for bad in [&b""[..], b"a b", b"a\nb", b"\xff", b"<x>", &[b'a'; 129]] {
            assert_eq!(given(bad), None);
        }
    }
}
