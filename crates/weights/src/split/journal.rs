//! What an unfinished split has done already.

use serde::{Deserialize, Serialize};
use skein_base::codec::Writer;
use skein_base::{Blake3, limits};

use super::part::PartPlan;
use super::{Loss, Sink, SplitError, SplitOptions, write_error, write_file};
use crate::checkpoint::Checkpoint;
use crate::files::read_small;
use crate::hf::is_sidecar_file;
use crate::manifest::{MANIFEST_FILE, PartEntry, is_part_file, write_profile};
use crate::part::Part;
use crate::source::Dtype;

/// Name of the journal in the target folder while a split is unfinished.
pub const JOURNAL_FILE: &str = "split.journal.json";

/// The journal, mirrored in its file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Journal {
    /// Of source and options; text, so that the file explains itself.
    fingerprint: String,
    parts: Vec<Done>,
}

/// A part that is complete, and what the conversion took from its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Done {
    pub(super) entry: PartEntry,
    pub(super) loss: Loss,
}

impl Journal {
    /// Finds what an earlier run with the same fingerprint has left, or begins.
    pub(super) fn open(sink: &dyn Sink, fingerprint: Blake3) -> Result<Self, SplitError> {
        let fingerprint = fingerprint.to_string();
        let names = sink
            .names()
            .map_err(|source| write_error(sink, "the folder", source))?;
        let begun = names.iter().any(|name| name == JOURNAL_FILE);
        if let Some(file) = names.first().filter(|_| !begun).cloned() {
            return Err(SplitError::NotEmpty {
                place: sink.describe(),
                file,
            });
        }
        // A journal that cannot be read is of no use: everything is written again.
        let earlier = read_small(sink, JOURNAL_FILE, limits::MODEL_JSON_BYTES_MAX)
            .ok()
            .flatten()
            .and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok())
            .filter(|journal| journal.fingerprint == fingerprint);
        let journal = match earlier {
            Some(journal) => journal,
            None => {
                remove_leftovers(sink, &names)?;
                Self {
                    fingerprint,
                    parts: Vec::new(),
                }
            }
        };
        // A manifest says that the folder is complete, which it is not until this run ends.
        sink.remove(MANIFEST_FILE)
            .map_err(|source| write_error(sink, MANIFEST_FILE, source))?;
        journal.save(sink)?;
        Ok(journal)
    }

    pub(super) fn done(&self, part: Part) -> Option<&Done> {
        self.parts.iter().find(|done| done.entry.part == part)
    }

    pub(super) fn record(&mut self, sink: &dyn Sink, done: Done) -> Result<(), SplitError> {
        if self.parts.contains(&done) {
            return Ok(());
        }
        self.parts
            .retain(|other| other.entry.part != done.entry.part);
        self.parts.push(done);
        self.save(sink)
    }

    pub(super) fn remove(self, sink: &dyn Sink) -> Result<(), SplitError> {
        sink.remove(JOURNAL_FILE)
            .map_err(|source| write_error(sink, JOURNAL_FILE, source))
    }

    fn save(&self, sink: &dyn Sink) -> Result<(), SplitError> {
        let json = serde_json::to_vec(self).expect("texts and numbers have JSON");
        write_file(sink, JOURNAL_FILE, &json)
    }
}

/// Files of an unfinished split of something else, perhaps with more layers, would be foreign.
fn remove_leftovers(sink: &dyn Sink, names: &[String]) -> Result<(), SplitError> {
    let ours = |name: &&String| is_part_file(name) || is_sidecar_file(name);
    names.iter().filter(ours).try_for_each(|name| {
        sink.remove(name)
            .map_err(|source| write_error(sink, name, source))
    })
}

/// Tells whether two runs would write the same files: profile, formats, and a sample of each
/// tensor (hashing all weights would take as long as splitting).
pub(super) fn fingerprint(
    source: &dyn Checkpoint,
    options: &SplitOptions,
    plans: &[PartPlan<'_>],
) -> Result<Blake3, SplitError> {
    let mut writer = Writer::domain("skein split journal 2");
    write_profile(&mut writer, source.profile());
    writer.u8(options.format.map_or(0, number));
    for plan in plans {
        for tensor in &plan.tensors {
            writer
                .bytes(tensor.name.as_bytes())
                .u8(number(tensor.dtype))
                .u8(number(tensor.source.dtype()));
            let (rows, columns) = tensor.dimensions();
            let mut row = vec![0.0; columns as usize];
            for index in [0, rows / 2, rows - 1] {
                tensor.source.read_f32(index..index + 1, &mut row)?;
                let mut hasher = blake3::Hasher::new();
                row.iter().for_each(|value| {
                    hasher.update(&value.to_le_bytes());
                });
                writer.raw(hasher.finalize().as_bytes());
            }
        }
    }
    Ok(Blake3::of(&writer.finish()))
}

fn number(dtype: Dtype) -> u8 {
    match dtype {
        Dtype::F32 => 1,
        Dtype::Bf16 => 2,
        Dtype::Q8 => 3,
        Dtype::Q4 => 4,
    }
}
