//! Where the files go.

use std::fmt;
use std::io;

use crate::bytes::{Folder, MemoryFolder};

/// A folder that takes new files. [`Folder::names`] lists finished files only.
pub trait Sink: Folder {
    /// Begins a file, beside the one of that name that may exist; names are plain.
    fn create(&self, name: &str) -> io::Result<Box<dyn SinkFile + '_>>;

    /// Removes a finished file; no error if there is none.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// A file that is being written. Dropped unfinished, it leaves nothing under its name.
pub trait SinkFile: fmt::Debug {
    /// Adds bytes at the end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the contents durable, then puts the file under its name in one step, replacing what
    /// was there.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

#[derive(Debug)]
struct MemoryFile<'a> {
    folder: &'a MemoryFolder,
    name: String,
    bytes: Vec<u8>,
}

impl Sink for MemoryFolder {
    fn create(&self, name: &str) -> io::Result<Box<dyn SinkFile + '_>> {
        Ok(Box::new(MemoryFile {
            folder: self,
            name: name.to_owned(),
            bytes: Vec::new(),
        }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.take(name);
        Ok(())
    }
}

impl SinkFile for MemoryFile<'_> {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        self.folder.put(&self.name, self.bytes);
        Ok(())
    }
}
