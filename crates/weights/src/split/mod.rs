//! Writes a checkpoint as a folder of parts with a manifest.
//!
//! Streams tensor by tensor in pieces, so memory stays within a few pieces whatever the model's
//! size. After each part a journal says what is complete; a second run with the same source and
//! options re-hashes those parts and goes on behind them. The manifest is written last: a folder
//! with a manifest and without a journal is complete.

mod checkpoint;
mod journal;
mod loss;
mod part;
mod sink;

pub(crate) use checkpoint::check_part;
pub use checkpoint::{PartError, SplitCheckpoint, read_manifest};
pub use journal::JOURNAL_FILE;
pub use loss::Loss;
pub use sink::{Sink, SinkFile};

use std::io;

use skein_base::{ModelId, Sha256};

use crate::checkpoint::{Checkpoint, VocabularyError};
use crate::manifest::{
    MANIFEST_FILE, Manifest, ManifestError, PartEntry, SidecarEntry, SliceEntry, VERSION,
};
use crate::part::{Part, Slice};
use crate::slices::{PartSizes, SliceError, SlicePlan};
use crate::source::{Dtype, ReadError};
use journal::{Done, Journal};

/// Why a model could not be split.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// The target holds something already.
    #[error(
        "{place} is not empty ({file} is there): choose a new folder, or remove its contents first"
    )]
    NotEmpty {
        /// The target.
        place: String,
        /// One of the files.
        file: String,
    },
    /// The model cannot be cut as asked.
    #[error(transparent)]
    Slices(#[from] SliceError),
    /// Weights could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Tokenizer or settings could not be read.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// The target could not be written or read back.
    #[error("cannot write {file} in {place}; what is complete is kept, run the same command again")]
    Write {
        /// The target.
        place: String,
        /// The file.
        file: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What would be written is no valid manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// What to make of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitOptions {
    /// What to call the model; the checkpoint's own name if `None`.
    pub name: Option<String>,
    /// Precision of all matrices; as in the checkpoint if `None`: what
    /// [`StoredDtype::canonical`](crate::StoredDtype::canonical) says. Vectors keep theirs.
    pub format: Option<Dtype>,
    /// The slices to suggest.
    pub slices: SlicePlan,
}

/// What a split has made.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The manifest, as written.
    pub manifest: Manifest,
    /// What the conversion took from the matrices, all together; zeros if it could take nothing.
    pub loss: Loss,
}

/// How far a split or a verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes written or checked.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Writes `source` into `sink`.
///
/// May be repeated after any error or crash; `progress` is called about once per piece.
pub fn split(
    source: &dyn Checkpoint,
    options: &SplitOptions,
    sink: &dyn Sink,
    progress: &mut dyn FnMut(Progress),
) -> Result<Outcome, SplitError> {
    let plans = part::plan_all(source, options.format)?;
    let slices = options.slices.resolve(&sizes(source, &plans))?;
    let fingerprint = journal::fingerprint(source, options, &plans)?;
    let mut journal = Journal::open(sink, fingerprint)?;
    let total = plans.iter().map(|plan| plan.layout.bytes).sum();
    let mut count = Counter {
        done: 0,
        total,
        progress,
    };
    let mut tensors = plans.iter().flat_map(|plan| &plan.tensors);
    let is_lossy = tensors.any(part::TensorPlan::is_lossy);
    let mut parts: Vec<PartEntry> = Vec::with_capacity(plans.len());
    let mut loss = Loss::default();
    for plan in &plans {
        let earlier = journal.done(plan.part);
        let kept = match earlier {
            Some(done) if part::is_kept(sink, &done.entry, &mut count)? => Some(done.clone()),
            _ => None,
        };
        let done = match kept {
            Some(done) => done,
            None => {
                let (entry, loss) = part::write(plan, is_lossy, sink, &mut count)?;
                Done { entry, loss }
            }
        };
        journal.record(sink, done.clone())?;
        loss += done.loss;
        parts.push(done.entry);
    }
    let manifest = finish(source, options, sink, (parts, slices))?;
    journal.remove(sink)?;
    Ok(Outcome { manifest, loss })
}

fn finish(
    source: &dyn Checkpoint,
    options: &SplitOptions,
    sink: &dyn Sink,
    (parts, slices): (Vec<PartEntry>, Vec<Slice>),
) -> Result<Manifest, SplitError> {
    let mut files = Vec::new();
    for sidecar in source.sidecars()? {
        write_file(sink, &sidecar.name, &sidecar.bytes)?;
        files.push(SidecarEntry {
            sha256: Sha256::of(&sidecar.bytes),
            bytes: sidecar.bytes.len() as u64,
            name: sidecar.name,
            role: sidecar.role,
        });
    }
    let entry = |slice: Slice| SliceEntry {
        start: slice.layers.start,
        end: slice.layers.end,
    };
    let mut manifest = Manifest {
        version: VERSION,
        model: ModelId([0; 32]),
        name: options.name.clone().unwrap_or_else(|| source.name()),
        profile: source.profile().clone(),
        files,
        parts,
        slices: slices.into_iter().map(entry).collect(),
        vision: None,
    };
    manifest.model = manifest.compute_id();
    write_file(sink, MANIFEST_FILE, &manifest.to_json()?)?;
    Ok(manifest)
}

fn sizes(source: &dyn Checkpoint, plans: &[part::PartPlan<'_>]) -> PartSizes {
    let mut sizes = PartSizes {
        embedding: 0,
        layers: Vec::new(),
        head: 0,
        tied: source.profile().tied,
    };
    for plan in plans {
        match plan.part {
            Part::Embedding => sizes.embedding = plan.layout.bytes,
            Part::Layer(_) => sizes.layers.push(plan.layout.bytes),
            Part::Head => sizes.head = plan.layout.bytes,
        }
    }
    sizes
}

/// Counts bytes for the progress callback.
struct Counter<'a> {
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(Progress),
}

impl Counter<'_> {
    fn add(&mut self, bytes: u64) {
        self.done += bytes;
        (self.progress)(Progress {
            done: self.done,
            total: self.total,
        });
    }
}

fn write_file(sink: &dyn Sink, name: &str, bytes: &[u8]) -> Result<(), SplitError> {
    let write = || {
        let mut file = sink.create(name)?;
        file.append(bytes)?;
        file.finish()
    };
    write().map_err(|source| write_error(sink, name, source))
}

fn write_error(sink: &dyn Sink, file: &str, source: io::Error) -> SplitError {
    SplitError::Write {
        place: sink.describe(),
        file: file.to_owned(),
        source,
    }
}
