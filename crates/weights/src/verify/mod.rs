//! Checks a split folder against its manifest: every hash, size, tensor and shape, and that
//! nothing is missing or foreign.

use std::io;
use std::sync::Arc;

use skein_base::{Blake3, Sha256};

use crate::bytes::{ByteRange, Folder};
use crate::hashing::FileHashes;
use crate::manifest::{MANIFEST_FILE, Manifest, ManifestError, PartEntry, SidecarEntry};
use crate::part::Part;
use crate::split::{JOURNAL_FILE, PartError, Progress, check_part, read_manifest};

/// Something wrong with a split folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The folder cannot be listed.
    #[error("cannot list {place}")]
    Folder {
        /// The folder.
        place: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Without a manifest nothing can be checked.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A split has not ended.
    #[error("{JOURNAL_FILE} says that a split is unfinished; run the same split again")]
    Unfinished,
    /// A file of the manifest is not there.
    #[error("{file} is missing")]
    MissingFile {
        /// The file.
        file: String,
    },
    /// A file is there that the manifest does not list.
    #[error("{file} is foreign: the manifest does not list it")]
    ForeignFile {
        /// The file.
        file: String,
    },
    /// A file cannot be opened or read: no permission, no regular file, a link that leaves the
    /// folder.
    #[error("{file} cannot be read")]
    Unreadable {
        /// The file.
        file: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A small file has another size.
    #[error("{file} has {found} bytes; the manifest says {expected}")]
    Size {
        /// The file.
        file: String,
        /// Its size.
        found: u64,
        /// The size by the manifest.
        expected: u64,
    },
    /// Size, header or tensors of a part are wrong.
    #[error("{file} does not hold {part} as the manifest says")]
    Part {
        /// The file.
        file: String,
        /// The part.
        part: Part,
        /// What is wrong.
        #[source]
        source: PartError,
    },
    /// The contents have another SHA-256.
    #[error("{file} has SHA-256 {found}; the manifest says {expected}")]
    Sha256 {
        /// The file.
        file: String,
        /// Its hash.
        found: Sha256,
        /// The hash by the manifest.
        expected: Sha256,
    },
    /// The contents have another BLAKE3 hash.
    #[error("{file} has BLAKE3 {found}; the manifest says {expected}")]
    Blake3 {
        /// The file.
        file: String,
        /// Its hash.
        found: Blake3,
        /// The hash by the manifest.
        expected: Blake3,
    },
    /// Chunks differ, so it is known where the file is damaged.
    #[error("{file}: {count} chunks of 4 MiB differ, the first is number {first}")]
    Chunks {
        /// The file.
        file: String,
        /// The first one, counted from zero.
        first: usize,
        /// How many.
        count: usize,
    },
}

/// What a verification found.
#[derive(Debug)]
pub struct Report {
    /// The manifest, if it can be read.
    pub manifest: Option<Manifest>,
    /// Everything that is wrong; empty if the folder is good.
    pub problems: Vec<Problem>,
    /// How many files were hashed.
    pub files: usize,
    /// How many bytes were hashed.
    pub bytes: u64,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Checks all files of a split folder and goes on after each problem.
pub fn verify(folder: &dyn Folder, progress: &mut dyn FnMut(Progress)) -> Report {
    let mut report = Report {
        manifest: None,
        problems: Vec::new(),
        files: 0,
        bytes: 0,
    };
    let names = match folder.names() {
        Ok(names) => names,
        Err(source) => {
            report.problems.push(Problem::Folder {
                place: folder.describe(),
                source,
            });
            return report;
        }
    };
    if names.iter().any(|name| name == JOURNAL_FILE) {
        report.problems.push(Problem::Unfinished);
    }
    let manifest = match read_manifest(folder) {
        Ok(manifest) => manifest,
        Err(error) => {
            report.problems.push(error.into());
            return report;
        }
    };
    check_foreign(&manifest, names, &mut report);
    let small = manifest.files.iter().map(|entry| entry.bytes);
    let large = manifest.parts.iter().map(|entry| entry.bytes);
    let total = small.chain(large).fold(0, u64::saturating_add);
    let mut check = Check {
        folder,
        report,
        total,
        progress,
    };
    manifest.files.iter().for_each(|entry| check.sidecar(entry));
    manifest.parts.iter().for_each(|entry| check.part(entry));
    check.report.manifest = Some(manifest);
    check.report
}

fn check_foreign(manifest: &Manifest, names: Vec<String>, report: &mut Report) {
    for file in names {
        let known = file == MANIFEST_FILE
            || file == JOURNAL_FILE
            || manifest.files.iter().any(|entry| entry.name == file)
            || manifest.parts.iter().any(|entry| entry.file == file);
        if !known {
            report.problems.push(Problem::ForeignFile { file });
        }
    }
}

struct Check<'a> {
    folder: &'a dyn Folder,
    report: Report,
    total: u64,
    progress: &'a mut dyn FnMut(Progress),
}

impl Check<'_> {
    fn sidecar(&mut self, entry: &SidecarEntry) {
        let Some(range) = self.open(&entry.name) else {
            return;
        };
        let (found, expected) = (range.len(), entry.bytes);
        if found != expected {
            let file = entry.name.clone();
            self.report.problems.push(Problem::Size {
                file,
                found,
                expected,
            });
            return;
        }
        if let Some(hashes) = self.hash(&entry.name, &*range) {
            self.sha256(&entry.name, hashes.sha256, entry.sha256);
        }
    }

    fn part(&mut self, entry: &PartEntry) {
        let Some(range) = self.open(&entry.file) else {
            return;
        };
        let file = || entry.file.clone();
        if let Err(source) = check_part(&*range, entry) {
            self.report.problems.push(Problem::Part {
                file: file(),
                part: entry.part,
                source,
            });
        }
        if range.len() != entry.bytes {
            return;
        }
        let Some(hashes) = self.hash(&entry.file, &*range) else {
            return;
        };
        self.sha256(&entry.file, hashes.sha256, entry.sha256);
        if hashes.blake3 != entry.blake3 {
            let (found, expected) = (hashes.blake3, entry.blake3);
            self.report.problems.push(Problem::Blake3 {
                file: file(),
                found,
                expected,
            });
        }
        let pairs = hashes.chunks.iter().zip(&entry.chunks).enumerate();
        let wrong: Vec<usize> = pairs
            .filter(|(_, (found, said))| found != said)
            .map(|(index, _)| index)
            .collect();
        if let Some(&first) = wrong.first() {
            let count = wrong.len();
            self.report.problems.push(Problem::Chunks {
                file: file(),
                first,
                count,
            });
        }
    }

    fn open(&mut self, name: &str) -> Option<Arc<dyn ByteRange>> {
        let file = name.to_owned();
        match self.folder.open(name) {
            Ok(range) => return Some(range),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.report.problems.push(Problem::MissingFile { file });
            }
            Err(source) => self
                .report
                .problems
                .push(Problem::Unreadable { file, source }),
        }
        None
    }

    fn hash(&mut self, name: &str, range: &dyn ByteRange) -> Option<FileHashes> {
        let (report, total) = (&mut self.report, self.total);
        let hashed = FileHashes::of(range, &mut |bytes| {
            report.bytes += bytes;
            (self.progress)(Progress {
                done: report.bytes,
                total,
            });
        });
        match hashed {
            Ok(hashes) => {
                self.report.files += 1;
                Some(hashes)
            }
            Err(source) => {
                let file = name.to_owned();
                self.report
                    .problems
                    .push(Problem::Unreadable { file, source });
                None
            }
        }
    }

    fn sha256(&mut self, file: &str, found: Sha256, expected: Sha256) {
        if found != expected {
            let file = file.to_owned();
            self.report.problems.push(Problem::Sha256 {
                file,
                found,
                expected,
            });
        }
    }
}
