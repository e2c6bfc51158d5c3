//! Files mapped into memory, so that loading copies each weight once.

use std::fs::File;
use std::io;
use std::sync::Arc;

use memmap2::Mmap;
use skein_weights::bytes::{ByteRange, Folder};

/// A file mapped read-only.
///
/// Whoever can shorten the file while it is mapped can stop the process: the system answers a read
/// behind the new end with a signal. Maps are held only while weights are packed into memory of
/// our own, and checkpoints belong to the operator; files of strangers are verified and renamed
/// into place before.
#[derive(Debug)]
pub struct MappedFile {
    map: Mmap,
}

impl MappedFile {
    /// Maps the whole of `file`.
    pub fn new(file: &File) -> io::Result<Self> {
        // SAFETY: the map is read-only and private to this value; that other processes leave the
        // file alone meanwhile is the operator's side of the contract stated above.
        let map = unsafe { Mmap::map(file) }?;
        #[cfg(unix)]
        map.advise(memmap2::Advice::Sequential)?;
        Ok(Self { map })
    }
}

impl ByteRange for MappedFile {
    fn len(&self) -> u64 {
        self.map.len() as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start
            .checked_add(out.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let from = self
            .map
            .get(start..end)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(from);
        Ok(())
    }
}

/// A folder whose files are opened by `open` (which does the checking) and then mapped.
pub struct MappedFolder<F, O> {
    folder: F,
    open: O,
}

impl<F: std::fmt::Debug, O> std::fmt::Debug for MappedFolder<F, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MappedFolder")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl<F: Folder, O> MappedFolder<F, O>
where
    O: Fn(&F, &str) -> io::Result<File> + Send + Sync,
{
    /// Maps the files of `folder`, opened by `open`.
    pub fn new(folder: F, open: O) -> Self {
        Self { folder, open }
    }
}

impl<F: Folder, O> Folder for MappedFolder<F, O>
where
    O: Fn(&F, &str) -> io::Result<File> + Send + Sync,
{
    fn names(&self) -> io::Result<Vec<String>> {
        self.folder.names()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn ByteRange>> {
        let file = (self.open)(&self.folder, name)?;
        if file.metadata()?.len() == 0 {
            // An empty file cannot be mapped.
            return Ok(Arc::new(Vec::new()));
        }
        Ok(Arc::new(MappedFile::new(&file)?))
    }

    fn describe(&self) -> String {
        self.folder.describe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_inside_and_refuses_outside() {
        let mut path = std::env::temp_dir();
        path.push(format!("skein-map-{}", std::process::id()));
        std::fs::write(&path, b"0123456789").expect("the temporary folder is writable");
        let mapped = MappedFile::new(&File::open(&path).expect("just written")).expect("maps");
        std::fs::remove_file(&path).expect("just written");
        let mut out = [0; 4];
        mapped.read_at(6, &mut out).expect("inside");
        assert_eq!((&out, mapped.len()), (b"6789", 10));
        for offset in [7, 11, u64::MAX] {
            let error = mapped.read_at(offset, &mut out).expect_err("outside");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
