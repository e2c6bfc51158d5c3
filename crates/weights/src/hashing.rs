//! Hashes of a file while it passes by: SHA-256 of the whole, BLAKE3 of the whole and per chunk.

use std::io;

use blake3::hazmat::{
    ChainingValue, HasherExt as _, Mode, left_subtree_len, merge_subtrees_non_root,
    merge_subtrees_root,
};
use sha2::Digest as _;
use skein_base::limits::CHUNK_BYTES;
use skein_base::{Blake3, Sha256};

use crate::bytes::ByteRange;

/// How many bytes are read at once.
const PIECE_BYTES: u64 = 1 << 20;

/// The hashes of a file's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHashes {
    /// How many bytes there are.
    pub bytes: u64,
    /// SHA-256 of all bytes.
    pub sha256: Sha256,
    /// BLAKE3 of all bytes.
    pub blake3: Blake3,
    /// BLAKE3 chaining value of each chunk of [`CHUNK_BYTES`] as a subtree of the whole; the root
    /// itself if there is only one chunk.
    pub chunks: Vec<Blake3>,
}

impl FileHashes {
    /// Hashes a file from begin to end; `read` is told the size of each piece after it is hashed.
    pub fn of(file: &dyn ByteRange, read: &mut dyn FnMut(u64)) -> io::Result<Self> {
        let length = file.len();
        let mut piece = vec![0; length.min(PIECE_BYTES) as usize];
        let mut hasher = FileHasher::default();
        let mut done = 0;
        while done < length {
            let now = (length - done).min(PIECE_BYTES);
            let piece = &mut piece[..now as usize];
            file.read_at(done, piece)?;
            hasher.update(piece);
            done += now;
            read(now);
        }
        Ok(hasher.finish())
    }
}

/// Computes [`FileHashes`] of bytes in the order of the file.
#[derive(Debug)]
pub struct FileHasher {
    sha256: sha2::Sha256,
    chunk: blake3::Hasher,
    in_chunk: u64,
    bytes: u64,
    chunks: Vec<Blake3>,
}

impl Default for FileHasher {
    fn default() -> Self {
        Self {
            sha256: sha2::Sha256::new(),
            chunk: blake3::Hasher::new(),
            in_chunk: 0,
            bytes: 0,
            chunks: Vec::new(),
        }
    }
}

impl FileHasher {
    /// Takes the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.sha256.update(bytes);
        while !bytes.is_empty() {
            // A full chunk is closed only when more follows: a lone one is the root.
            if self.in_chunk == CHUNK_BYTES {
                self.close_chunk();
                self.chunk.set_input_offset(self.bytes);
            }
            let room = CHUNK_BYTES - self.in_chunk;
            let (now, rest) = bytes.split_at(bytes.len().min(room as usize));
            self.chunk.update(now);
            self.in_chunk += now.len() as u64;
            self.bytes += now.len() as u64;
            bytes = rest;
        }
    }

    fn close_chunk(&mut self) {
        self.chunks.push(Blake3(self.chunk.finalize_non_root()));
        self.chunk = blake3::Hasher::new();
        self.in_chunk = 0;
    }

    /// Ends the file.
    pub fn finish(mut self) -> FileHashes {
        let blake3 = if self.chunks.is_empty() {
            let root = Blake3(*self.chunk.finalize().as_bytes());
            self.chunks.push(root);
            root
        } else {
            self.close_chunk();
            merge_chunks(&self.chunks)
        };
        FileHashes {
            bytes: self.bytes,
            sha256: Sha256(self.sha256.finalize().into()),
            blake3,
            chunks: self.chunks,
        }
    }
}

/// How many chunks a file of `bytes` has; an empty file has one, empty.
pub fn chunk_count(bytes: u64) -> u64 {
    bytes.div_ceil(CHUNK_BYTES).max(1)
}

/// The root of a file whose chunks hash to `chunks`.
///
/// # Panics
/// If there is no chunk.
pub fn merge_chunks(chunks: &[Blake3]) -> Blake3 {
    match chunks {
        [] => panic!("a file has at least one chunk"),
        [root] => *root,
        _ => {
            let (left, right) = halves(chunks);
            let merged = merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash);
            Blake3(*merged.as_bytes())
        }
    }
}

fn subtree(chunks: &[Blake3]) -> ChainingValue {
    if let [one] = chunks {
        return one.0;
    }
    let (left, right) = halves(chunks);
    merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
}

fn halves(chunks: &[Blake3]) -> (&[Blake3], &[Blake3]) {
    // BLAKE3 splits at the largest power of two below the length. Our chunks are powers of two of
    // its own, so it splits between ours; full ones stand for the last, perhaps shorter one.
    let left = left_subtree_len(chunks.len() as u64 * CHUNK_BYTES) / CHUNK_BYTES;
    chunks.split_at(left as usize)
}

/// Hash of one chunk of a file, to compare with [`FileHashes::chunks`].
pub fn chunk_hash(bytes: &[u8], index: u64, of: u64) -> Blake3 {
    let mut hasher = blake3::Hasher::new();
    if of == 1 {
        return Blake3(*hasher.update(bytes).finalize().as_bytes());
    }
    hasher.set_input_offset(index * CHUNK_BYTES);
    Blake3(hasher.update(bytes).finalize_non_root())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_merge_to_the_hash_of_the_whole() {
        let chunk = CHUNK_BYTES as usize;
        let lengths = [
            0,
            1,
            chunk - 1,
            chunk,
            chunk + 1,
            2 * chunk,
            2 * chunk + 5,
            5 * chunk + 7,
        ];
        let all: Vec<u8> = (0..6 * chunk).map(|index| (index * 31 / 7) as u8).collect();
        for length in lengths {
            let bytes = &all[..length];
            let mut hasher = FileHasher::default();
            // Pieces that do not divide a chunk.
            bytes.chunks(999_983).for_each(|piece| hasher.update(piece));
            let hashes = hasher.finish();
            assert_eq!(hashes.bytes, length as u64);
            assert_eq!(hashes.blake3, Blake3::of(bytes), "{length}");
            assert_eq!(hashes.sha256, Sha256::of(bytes), "{length}");
            assert_eq!(hashes.chunks.len() as u64, chunk_count(length as u64));
            assert_eq!(merge_chunks(&hashes.chunks), hashes.blake3);
            let pieces: Vec<&[u8]> = if length == 0 {
                vec![&[]]
            } else {
                bytes.chunks(chunk).collect()
            };
            for (index, piece) in pieces.iter().enumerate() {
                let of = pieces.len() as u64;
                assert_eq!(chunk_hash(piece, index as u64, of), hashes.chunks[index]);
            }
        }
    }
}
