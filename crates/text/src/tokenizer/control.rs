//! Find control tokens in text.

use std::collections::BTreeMap;

/// The spellings of a tokenizer's added tokens, as a trie over bytes.
#[derive(Debug, Clone, Default)]
pub struct ControlTokens {
    nodes: Vec<Node>,
    spellings: Vec<String>,
}

#[derive(Debug, Clone, Default)]
struct Node {
    next: BTreeMap<u8, usize>,
    end: Option<Match>,
}

/// An added token found in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) id: u32,
    /// Length in bytes.
    pub(super) length: usize,
    /// A control token, as against a mere addition to the vocabulary.
    pub(super) special: bool,
}

impl ControlTokens {
    /// Of `(id, spelling, special)`.
    pub(super) fn new(tokens: impl Iterator<Item = (u32, String, bool)>) -> Self {
        let mut found = Self {
            nodes: vec![Node::default()],
            spellings: Vec::new(),
        };
        for (id, spelling, special) in tokens.filter(|(_, spelling, _)| !spelling.is_empty()) {
            let mut at = 0;
            for byte in spelling.bytes() {
                at = match found.nodes[at].next.get(&byte) {
                    Some(&next) => next,
                    None => {
                        let next = found.nodes.len();
                        found.nodes.push(Node::default());
                        found.nodes[at].next.insert(byte, next);
                        next
                    }
                };
            }
            found.nodes[at].end = Some(Match {
                id,
                length: spelling.len(),
                special,
            });
            if special {
                found.spellings.push(spelling);
            }
        }
        found
    }

    /// All added tokens that begin at byte `at`, shortest first.
    pub(super) fn at<'a>(&'a self, text: &'a [u8], at: usize) -> impl Iterator<Item = Match> + 'a {
        let mut node = self.nodes.first();
        text[at..]
            .iter()
            .map_while(move |byte| {
                let next = node?.next.get(byte)?;
                node = self.nodes.get(*next);
                Some(node?.end)
            })
            .flatten()
    }

    /// Whether a control token stands where `breaks` forbid it.
    pub(super) fn is_broken(&self, text: &str, breaks: &[usize]) -> bool {
        if breaks.is_empty() {
            return false;
        }
        let bytes = text.as_bytes();
        (0..bytes.len()).any(|start| {
            self.at(bytes, start)
                .any(|found| found.special && broken(start, found.length, text, breaks))
        })
    }

    /// Where breaks belong in a text of a client, so that nothing in it becomes a control token:
    /// after the first character of every control token in it and, with `ends`, at its end if that
    /// may begin one, and at its beginning if that may end one. Ascending byte offsets.
    pub(crate) fn breaks(&self, text: &str, ends: bool) -> Vec<usize> {
        let bytes = text.as_bytes();
        let mut list = Vec::new();
        if ends
            && self
                .spellings
                .iter()
                .any(|token| begins_with_a_tail(text, token))
        {
            list.push(0);
        }
        for start in 0..bytes.len() {
            if self.at(bytes, start).any(|found| found.special) {
                let first = text[start..].chars().next().map_or(1, char::len_utf8);
                list.push(start + first);
            }
        }
        if ends
            && self
                .spellings
                .iter()
                .any(|token| ends_with_a_head(text, token))
        {
            list.push(text.len());
        }
        list.dedup();
        list
    }
}

/// Whether a break lies inside the `length` bytes from `start`; in a token of a single character,
/// at its end.
pub(super) fn broken(start: usize, length: usize, text: &str, breaks: &[usize]) -> bool {
    let first = text[start..].chars().next().map_or(1, char::len_utf8);
    let end = start + length.max(first);
    let last = if first >= length { end } else { end - 1 };
    let index = breaks.partition_point(|&at| at <= start);
    breaks.get(index).is_some_and(|&at| at <= last)
}

fn begins_with_a_tail(text: &str, token: &str) -> bool {
    token
        .char_indices()
        .skip(1)
        .any(|(at, _)| text.starts_with(&token[at..]))
}

fn ends_with_a_head(text: &str, token: &str) -> bool {
    token
        .char_indices()
        .skip(1)
        .any(|(at, _)| text.ends_with(&token[..at]))
}
