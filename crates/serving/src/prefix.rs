//! Finished sequences, kept so that a later prompt of the same client can begin with their KV.
//!
//! What is retained is found by its tokens within a [`Namespace`] only. A namespace is a keyed
//! hash of the client under a secret of the engine's lifetime, so sequences are never shared across
//! clients, how fast an answer comes tells a client about its own history alone, and neither this
//! index nor a dump of it names anyone.

use std::collections::BTreeMap;

use skein_base::Blake3;
use skein_runtime::Secret32;

use crate::request::ClientId;

/// Within which sequences may be shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Namespace(Blake3);

impl Namespace {
    /// The namespace of `client` under the engine's `secret`.
    pub fn of(secret: &Secret32, client: &ClientId) -> Self {
        Self(Blake3::keyed(secret.expose(), client.as_str().as_bytes()))
    }
}

/// How many tokens two sequences have in common at their start.
pub fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Names a retained sequence. Larger was used later.
pub(crate) type EntryId = u64;

#[derive(Debug)]
struct Entry<Q> {
    namespace: Namespace,
    tokens: Vec<u32>,
    sequence: Q,
}

/// The retained sequences, least recently used first.
#[derive(Debug)]
pub(crate) struct PrefixIndex<Q> {
    entries: BTreeMap<EntryId, Entry<Q>>,
    next: EntryId,
    max: usize,
}

impl<Q> PrefixIndex<Q> {
    /// An empty index of at most `max` sequences.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            next: 0,
            max,
        }
    }

    /// Sequences retained.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The retained sequence that shares the longest prefix with `tokens`, and how long that is.
    pub(crate) fn longest(&self, namespace: Namespace, tokens: &[u32]) -> Option<(EntryId, usize)> {
        let own = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.namespace == namespace);
        let lengths = own.map(|(&id, entry)| (id, common_prefix(&entry.tokens, tokens)));
        lengths
            .filter(|&(_, len)| len > 0)
            .max_by_key(|&(id, len)| (len, id))
    }

    /// The sequence of `id`, which becomes the most recently used.
    pub(crate) fn use_entry(&mut self, id: EntryId) -> Option<&Q> {
        let entry = self.entries.remove(&id)?;
        let id = self.next_id();
        Some(&self.entries.entry(id).or_insert(entry).sequence)
    }

    /// Retains `sequence`, whose KV is that of `tokens`. Returns the sequences to release: those
    /// that it makes needless, the oldest ones beyond the bound, or itself if another covers it.
    pub(crate) fn insert(&mut self, namespace: Namespace, tokens: Vec<u32>, sequence: Q) -> Vec<Q> {
        if self.max == 0 || tokens.is_empty() {
            return vec![sequence];
        }
        let own = |entry: &Entry<Q>| entry.namespace == namespace;
        let mut covering = self.entries.iter().filter(|(_, entry)| own(entry));
        let covering = covering.find(|(_, entry)| entry.tokens.starts_with(&tokens));
        if let Some(id) = covering.map(|(&id, _)| id) {
            self.use_entry(id);
            return vec![sequence];
        }
        let covered = self
            .entries
            .extract_if(.., |_, entry| {
                own(entry) && tokens.starts_with(&entry.tokens)
            })
            .map(|(_, entry)| entry.sequence);
        let mut released: Vec<Q> = covered.collect();
        let id = self.next_id();
        self.entries.insert(
            id,
            Entry {
                namespace,
                tokens,
                sequence,
            },
        );
        while self.entries.len() > self.max {
            released.extend(self.evict());
        }
        released
    }

    /// Takes out the least recently used sequence.
    pub(crate) fn evict(&mut self) -> Option<Q> {
        self.entries.pop_first().map(|(_, entry)| entry.sequence)
    }

    fn next_id(&mut self) -> EntryId {
        self.next += 1;
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(client: &str) -> Namespace {
        Namespace::of(&Secret32::from_bytes([7; 32]), &ClientId::new(client))
    }

    #[test]
    fn namespaces_depend_on_client_and_secret() {
        let client = ClientId::new("a");
        let other = Namespace::of(&Secret32::from_bytes([8; 32]), &client);
        assert_eq!(namespace("a"), namespace("a"));
        assert_ne!(namespace("a"), namespace("b"));
        assert_ne!(namespace("a"), other);
    }

    #[test]
    fn finds_the_longest_prefix_of_its_own_client_only() {
        let (a, b) = (namespace("a"), namespace("b"));
        let mut index = PrefixIndex::new(8);
        assert!(index.insert(a, vec![1, 2, 3, 4], "long").is_empty());
        assert!(index.insert(a, vec![1, 9], "other").is_empty());
        let (id, len) = index.longest(a, &[1, 2, 3, 7]).unwrap();
        assert_eq!((index.use_entry(id), len), (Some(&"long"), 3));
        assert_eq!(index.longest(b, &[1, 2, 3, 4]), None);
        assert_eq!(index.longest(a, &[5]), None);
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let a = namespace("a");
        let mut index = PrefixIndex::new(2);
        index.insert(a, vec![1], "one");
        index.insert(a, vec![2], "two");
        let (id, _) = index.longest(a, &[1, 5]).unwrap();
        index.use_entry(id);
        assert_eq!(index.insert(a, vec![3], "three"), ["two"]);
        assert_eq!(index.evict(), Some("one"));
        assert_eq!(index.len(), 1);
    }

    #[test]
    fn covered_sequences_are_not_kept_twice() {
        let (a, b) = (namespace("a"), namespace("b"));
        let mut index = PrefixIndex::new(8);
        index.insert(a, vec![1, 2], "short");
        index.insert(b, vec![1, 2], "foreign");
        assert_eq!(index.insert(a, vec![1, 2, 3], "long"), ["short"]);
        assert_eq!(index.insert(a, vec![1, 2, 3], "same"), ["same"]);
        assert_eq!(index.insert(a, vec![1], "part"), ["part"]);
        assert_eq!(index.len(), 2);
        assert_eq!(PrefixIndex::new(0).insert(a, vec![1], "off"), ["off"]);
    }
}
