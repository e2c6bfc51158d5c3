//! Folders and files of the machine as byte ranges.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skein_base::limits::FILES_PER_MODEL_MAX;
use skein_weights::bytes::{ByteRange, Folder};
use skein_weights::split::{Sink, SinkFile};

use super::{AtomicFile, is_partial, plain, sync_folder};

/// An open regular file, read at any offset by many readers at once.
///
/// Its length is the one at opening. A file that is cut afterwards gives errors, never other bytes
/// than the file's.
#[derive(Debug)]
pub struct FileRange {
    file: File,
    len: u64,
    path: PathBuf,
}

impl FileRange {
    /// Opens the regular file at `path`, following links: for paths that the user gave. Files that
    /// a model folder names are opened through [`FsFolder`].
    pub fn open(path: &Path) -> io::Result<Self> {
        // Asked before opening: opening a pipe would wait for its writer.
        if !fs::metadata(path)?.is_file() {
            return Err(refused(path, "is not a regular file"));
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(refused(path, "is not a regular file"));
        }
        Ok(Self {
            file,
            len: metadata.len(),
            path: path.to_owned(),
        })
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file, for mapping it.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl ByteRange for FileRange {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            let (path, wanted, len) = (self.path.display(), out.len(), self.len);
            let text = format!("{path}: {wanted} bytes at {offset} go beyond its end at {len}");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        self.file.read_exact_at(out, offset).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
        })
    }
}

/// A folder of the machine, flat.
#[derive(Debug, Clone)]
pub struct FsFolder {
    path: PathBuf,
    real: PathBuf,
    links_within: PathBuf,
}

impl FsFolder {
    /// The folder at `path`. Links inside it may point to files inside it and nowhere else.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_within(path, path)
    }

    /// The folder at `path`, whose links may point to files anywhere below `root`: the cache of a
    /// hub keeps its snapshots as folders of links to blobs beside them.
    pub fn open_within(path: &Path, root: &Path) -> io::Result<Self> {
        let real = named(path, fs::canonicalize(path))?;
        if !real.is_dir() {
            let text = format!("{} is not a folder", path.display());
            return Err(io::Error::new(io::ErrorKind::NotADirectory, text));
        }
        let links_within = named(root, fs::canonicalize(root))?;
        Ok(Self {
            path: path.to_owned(),
            real,
            links_within,
        })
    }

    /// The folder at `path`, made with those above it if it is missing: for writing.
    pub fn create(path: &Path) -> io::Result<Self> {
        named(path, fs::create_dir_all(path))?;
        Self::open(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens one file. `NotFound` if there is none of that name, `InvalidInput` for a name that is
    /// not plain, `PermissionDenied` for a link that leaves the folder or for what is no regular
    /// file.
    pub fn open_file(&self, name: &str) -> io::Result<FileRange> {
        let path = self.real.join(plain(name)?);
        let target = named(&path, fs::canonicalize(&path))?;
        let inside = target.starts_with(&self.real) || target.starts_with(&self.links_within);
        if !inside {
            return Err(refused(&path, "is a link that leaves its folder"));
        }
        let range = FileRange::open(&target)?;
        Ok(FileRange {
            path: self.path.join(name),
            ..range
        })
    }
}

impl Folder for FsFolder {
    /// Regular files and links, sorted, but no file that is being written; a link that may not be
    /// followed is refused when opened.
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.real)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let file = kind.is_file() || (kind.is_symlink() && !entry.path().is_dir());
            // A name that is no UTF-8 cannot be asked for by a model's own index.
            let Some(name) = entry
                .file_name()
                .to_str()
                .filter(|name| file && !is_partial(name))
                .map(str::to_owned)
            else {
                continue;
            };
            if names.len() == FILES_PER_MODEL_MAX {
                let path = self.path.display();
                let text = format!("{path} holds more than {FILES_PER_MODEL_MAX} files");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            names.push(name);
        }
        names.sort();
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn ByteRange>> {
        Ok(Arc::new(self.open_file(name)?))
    }

    fn describe(&self) -> String {
        self.path.display().to_string()
    }
}

impl Sink for FsFolder {
    fn create(&self, name: &str) -> io::Result<Box<dyn SinkFile + '_>> {
        let file = AtomicFile::create(&self.real, name);
        Ok(Box::new(named(&self.path.join(name), file)?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.real.join(plain(name)?);
        match fs::remove_file(&path) {
            Ok(()) => sync_folder(&self.real),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => named(&path, Err(error)),
        }
    }
}

impl SinkFile for AtomicFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        io::Write::write_all(self, bytes)
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        self.commit()
    }
}

fn refused(path: &Path, why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("{} {why}", path.display()),
    )
}

/// Puts the path into an error of the operating system, which does not name it.
fn named<T>(path: &Path, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}
