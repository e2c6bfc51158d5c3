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

/// A retained sequence, or what stands for it.
#[derive(Debug)]
pub(crate) struct Entry<Q> {
    pub(crate) namespace: Namespace,
    pub(crate) tokens: Vec<u32>,
    pub(crate) sequence: Q,
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

    /// The sequence of `id`, without making it more recently used.
    pub(crate) fn get(&self, id: EntryId) -> Option<&Q> {
        self.entries.get(&id).map(|entry| &entry.sequence)
    }

    /// A sequence that begins with all of `tokens`.
    pub(crate) fn covering(&self, namespace: Namespace, tokens: &[u32]) -> Option<EntryId> {
        let covers =
            |entry: &Entry<Q>| entry.namespace == namespace && entry.tokens.starts_with(tokens);
        let mut found = self.entries.iter().filter(|(_, entry)| covers(entry));
        found.next().map(|(&id, _)| id)
    }

    /// The longest sequence with which `tokens` begins whole.
    pub(crate) fn covered(&self, namespace: Namespace, tokens: &[u32]) -> Option<EntryId> {
        let covered =
            |entry: &Entry<Q>| entry.namespace == namespace && tokens.starts_with(&entry.tokens);
        let found = self.entries.iter().filter(|(_, entry)| covered(entry));
        let longest = found.max_by_key(|(_, entry)| entry.tokens.len());
        longest.map(|(&id, _)| id)
    }

    /// Takes a sequence out.
    pub(crate) fn remove(&mut self, id: EntryId) -> Option<Q> {
        self.entries.remove(&id).map(|entry| entry.sequence)
    }

    /// All of them.
    pub(crate) fn sequences(&self) -> impl Iterator<Item = &Q> {
        self.entries.values().map(|entry| &entry.sequence)
    }

    /// Retains `sequence`, whose KV is that of `tokens`. Returns the sequences to release: those
    /// that it makes needless, or itself if another covers it. See [`Self::surplus`] for the bound.
    pub(crate) fn insert(&mut self, namespace: Namespace, tokens: Vec<u32>, sequence: Q) -> Vec<Q> {
        if self.max == 0 || tokens.is_empty() {
            return vec![sequence];
        }
        if let Some(id) = self.covering(namespace, &tokens) {
            self.use_entry(id);
            return vec![sequence];
        }
        let covered = self
            .entries
            .extract_if(.., |_, entry| {
                entry.namespace == namespace && tokens.starts_with(&entry.tokens)
            })
            .map(|(_, entry)| entry.sequence);
        let released = covered.collect();
        let id = self.next_id();
        self.entries.insert(
            id,
            Entry {
                namespace,
                tokens,
                sequence,
            },
        );
        released
    }

    /// Takes out the least recently used sequence if there are more than the bound.
    pub(crate) fn surplus(&mut self) -> Option<Entry<Q>> {
        if self.entries.len() > self.max {
            return self.evict();
        }
        None
    }

    /// Takes out the least recently used sequence.
    pub(crate) fn evict(&mut self) -> Option<Entry<Q>> {
        self.entries.pop_first().map(|(_, entry)| entry)
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
        assert!(index.insert(a, vec![3], "three").is_empty());
        let sequence = |entry: Option<Entry<&'static str>>| entry.map(|entry| entry.sequence);
        assert_eq!(sequence(index.surplus()), Some("two"));
        assert_eq!(sequence(index.surplus()), None);
        assert_eq!(sequence(index.evict()), Some("one"));
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
        let long = index.covering(a, &[1, 2]);
        assert_eq!(long, index.covered(a, &[1, 2, 3, 4]));
        assert_eq!(index.covered(a, &[1, 2]), None);
        assert_eq!(index.covering(b, &[1, 2, 3]), None);
        assert_eq!(long.and_then(|id| index.get(id)), Some(&"long"));
        assert_eq!(long.and_then(|id| index.remove(id)), Some("long"));
        assert_eq!(index.sequences().collect::<Vec<_>>(), [&"foreign"]);
        assert_eq!(PrefixIndex::new(0).insert(a, vec![1], "off"), ["off"]);
    }
}
