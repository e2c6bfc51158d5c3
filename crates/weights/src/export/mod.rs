//! Writes a model as an ordinary Hugging Face folder: the way back of [`crate::hf`].
//!
//! Streams tensor by tensor in pieces, except transposed ones (GPT-2's), which are in memory one at
//! a time. Files appear whole or not at all; an export that was stopped is begun anew.

mod config;
mod tensors;

use std::io;

use crate::checkpoint::Sidecar;
use crate::config::{ConfigError, RenderError};
use crate::hf::{self, INDEX, SINGLE};
use crate::safetensors::{Layout, layout_with};
use crate::sidecar;
use crate::source::{Dtype, ReadError, WeightSource};
use crate::split::{Progress, Sink};
use tensors::Stored;

/// Largest file of weights that is not cut: what the hub takes without complaint.
pub const SHARD_BYTES: u64 = 5 << 30;

/// Why a model could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The target holds something already.
    #[error("{place} is not empty ({file} is there): choose a new folder")]
    NotEmpty {
        /// The target.
        place: String,
        /// One of the files.
        file: String,
    },
    /// Weights could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The model's configuration cannot be written down.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The configuration that came with the model is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A format in blocks was asked for.
    #[error("a Hugging Face folder has no form for {format}: choose f32 or bf16")]
    Format {
        /// The format.
        format: Dtype,
    },
    /// The configuration that came along is that of another model.
    #[error("config.json describes another model than the weights")]
    OtherModel,
    /// The target could not be written.
    #[error("cannot write {file} in {place}")]
    Write {
        /// The target.
        place: String,
        /// The file.
        file: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What to write.
#[derive(Debug, Clone, Copy)]
pub struct Export<'a> {
    /// The weights.
    pub weights: &'a dyn WeightSource,
    /// Tokenizer and settings as files. A `config.json` among them is kept, but for its element
    /// type; without one it is made from the profile.
    pub sidecars: &'a [Sidecar],
    /// Precision of the matrices, `F32` or `Bf16`; if `None` as in the source, and `F32` of what is
    /// quantised there, in which that is exact. Vectors keep theirs.
    pub format: Option<Dtype>,
    /// Size from which on weights are cut into several files with an index.
    pub shard_bytes: u64,
    /// Whether the target may hold an older export, of which nothing stays.
    pub replace: bool,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Names of the files.
    pub files: Vec<String>,
    /// Bytes of weights, headers included.
    pub bytes: u64,
    /// Whether there is a tokenizer that transformers reads: one out of a GGUF file has no such
    /// form.
    pub has_tokenizer: bool,
}

/// A file of weights before it is written.
struct Shard<'a> {
    name: String,
    tensors: Vec<Stored<'a>>,
    layout: Layout,
}

impl Export<'_> {
    /// Whether there is a form for this model: what [`Self::write`] would find before it writes.
    pub fn check(&self) -> Result<(), ExportError> {
        config::bytes(self, &self.stored()?).map(drop)
    }

    /// Writes the folder; `progress` is called about once per piece.
    ///
    /// # Errors
    /// If the target is not empty, something cannot be read or written, or the configuration has no
    /// form there.
    pub fn write(
        &self,
        sink: &dyn Sink,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Exported, ExportError> {
        if !self.replace {
            check_empty(sink)?;
        }
        let stored = self.stored()?;
        let config = config::bytes(self, &stored)?;
        let shards = shards(stored, self.shard_bytes);
        if self.replace {
            // First, and written last: a folder without configuration is not taken for a model.
            remove(sink, hf::CONFIG)?;
        }
        let total = shards.iter().map(|shard| shard.layout.bytes).sum();
        let (mut files, mut done) = (Vec::new(), 0);
        for shard in &shards {
            write_shard(sink, shard, &mut |bytes| {
                done += bytes;
                progress(Progress { done, total });
            })?;
            files.push(shard.name.clone());
        }
        if shards.len() > 1 {
            self.write_file(sink, INDEX, &index(&shards), &mut files)?;
        }
        for one in self.carried() {
            self.write_file(sink, &one.name, &one.bytes, &mut files)?;
        }
        if self.replace {
            remove_older(sink, &files)?;
        }
        self.write_file(sink, hf::CONFIG, &config, &mut files)?;
        files.sort();
        Ok(Exported {
            has_tokenizer: files.iter().any(|file| file == hf::TOKENIZER),
            files,
            bytes: total,
        })
    }

    fn stored(&self) -> Result<Vec<Stored<'_>>, ExportError> {
        match self.format {
            Some(format) if format.blocks().is_some() => Err(ExportError::Format { format }),
            format => Ok(tensors::stored(self.weights, format)?),
        }
    }

    /// The sidecars that are written as they are.
    fn carried(&self) -> impl Iterator<Item = &Sidecar> {
        let own = [
            sidecar::GGUF_TOKENIZER_FILE,
            sidecar::SETTINGS_FILE,
            hf::CONFIG,
        ];
        let list = self.sidecars.iter();
        list.filter(move |one| !own.contains(&one.name.as_str()))
    }

    fn write_file(
        &self,
        sink: &dyn Sink,
        name: &str,
        bytes: &[u8],
        files: &mut Vec<String>,
    ) -> Result<(), ExportError> {
        let write = || {
            let mut file = sink.create(name)?;
            file.append(bytes)?;
            file.finish()
        };
        write().map_err(|source| failed(sink, name, source))?;
        files.push(name.to_owned());
        Ok(())
    }
}

/// Refuses a target that holds files.
///
/// # Errors
/// If it does, or cannot be read.
pub fn check_empty(sink: &dyn Sink) -> Result<(), ExportError> {
    match names(sink)?.into_iter().next() {
        Some(file) => Err(ExportError::NotEmpty {
            place: sink.describe(),
            file,
        }),
        None => Ok(()),
    }
}

fn names(sink: &dyn Sink) -> Result<Vec<String>, ExportError> {
    sink.names().map_err(|source| failed(sink, "files", source))
}

fn remove(sink: &dyn Sink, file: &str) -> Result<(), ExportError> {
    sink.remove(file)
        .map_err(|source| failed(sink, file, source))
}

/// Removes what an older export wrote and this one did not: an index or a shard that stayed would
/// be taken for a part of this model.
fn remove_older(sink: &dyn Sink, written: &[String]) -> Result<(), ExportError> {
    let is_weights = |name: &str| {
        let shard = name.starts_with("model-") && name.ends_with(".safetensors");
        shard || name == SINGLE || name == INDEX
    };
    for name in names(sink)? {
        let is_ours = is_weights(&name) || hf::is_sidecar_file(&name);
        if is_ours && !written.contains(&name) {
            remove(sink, &name)?;
        }
    }
    Ok(())
}

fn failed(sink: &dyn Sink, file: &str, source: io::Error) -> ExportError {
    ExportError::Write {
        place: sink.describe(),
        file: file.to_owned(),
        source,
    }
}

/// Fills one file after another.
fn shards(stored: Vec<Stored<'_>>, shard_bytes: u64) -> Vec<Shard<'_>> {
    let mut groups: Vec<Vec<Stored<'_>>> = vec![Vec::new()];
    let mut bytes = 0;
    for tensor in stored {
        let size = tensor.bytes();
        let last = groups.last_mut().expect("there is one from the start");
        if bytes + size > shard_bytes && !last.is_empty() {
            bytes = 0;
            groups.push(vec![tensor]);
        } else {
            last.push(tensor);
        }
        bytes += size;
    }
    let count = groups.len();
    let name = |index: usize| match count {
        1 => SINGLE.to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
    };
    let names = (0..count).map(name);
    names
        .zip(groups)
        .map(|(name, tensors)| Shard {
            layout: layout(&tensors),
            name,
            tensors,
        })
        .collect()
}

fn layout(tensors: &[Stored<'_>]) -> Layout {
    let listed: Vec<_> = tensors
        .iter()
        .map(|one| (one.name.as_str(), one.dtype, &*one.shape))
        .collect();
    // Older versions of transformers refuse a file that does not say this.
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    layout_with(&listed, &metadata)
}

fn write_shard(
    sink: &dyn Sink,
    shard: &Shard<'_>,
    count: &mut dyn FnMut(u64),
) -> Result<(), ExportError> {
    let fail = |source| failed(sink, &shard.name, source);
    let mut file = sink.create(&shard.name).map_err(fail)?;
    file.append(&shard.layout.header).map_err(fail)?;
    count(shard.layout.header.len() as u64);
    for &index in &shard.layout.order {
        shard.tensors[index].write(&mut |bytes| {
            count(bytes.len() as u64);
            file.append(bytes).map_err(fail)
        })?;
    }
    file.finish().map_err(fail)
}

/// Which tensor is in which file.
fn index(shards: &[Shard<'_>]) -> Vec<u8> {
    let sizes = shards.iter().flat_map(|shard| &shard.tensors);
    let total: u64 = sizes.map(Stored::bytes).sum();
    let places = shards.iter().flat_map(|shard| {
        let names = shard.tensors.iter().map(|tensor| tensor.name.clone());
        names.map(|name| (name, shard.name.clone()))
    });
    let map: std::collections::BTreeMap<String, String> = places.collect();
    let value = serde_json::json!({ "metadata": { "total_size": total }, "weight_map": map });
    config::pretty(&value)
}
