//! States of a training, to go on from: a safetensors file.
//!
//! Each tensor that learns is there three times, with the moments of the optimiser as `NAME/first`
//! and `NAME/second`; the header's texts hold the configuration, what learns, the step, the place
//! in the data and notes of the caller. A model with the restored state takes the same steps, bit
//! for bit, as one that never stopped.

use std::collections::BTreeMap;
use std::io;

use candle_core::{Device, Tensor};
use skein_weights::Dtype;
use skein_weights::bytes::ByteRange;
use skein_weights::checkpoint::StoredDtype;
use skein_weights::safetensors::{
    Element, Header, SafetensorsError, encode_f32, layout_with, read_header,
};

use super::schedule::open_ended;
use super::{ConfigError, Position, TrainConfig, Trainer};

/// The version of the format.
const FORMAT: &str = "skein training state 1";
/// What notes of the caller are called in the file.
const NOTE: &str = "note.";
/// What the fields of the configuration are called in the file.
const CONFIG: &str = "config.";
/// More epochs than any training has: one more is still a number.
const EPOCHS_MAX: u64 = 1 << 48;
/// Values read or written at a time.
const PIECE: usize = 1 << 18;

/// Why a state cannot be gone on from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The file is no safetensors file.
    #[error("it is no state of a training")]
    Safetensors(#[from] SafetensorsError),
    /// The file is one of something else.
    #[error("it is no state of a training of this version: it says {found:?}")]
    Format {
        /// What it says it is.
        found: String,
    },
    /// A field of the header is not there or no number.
    #[error("its header has no valid {name}")]
    Field {
        /// The field.
        name: &'static str,
    },
    /// The stored configuration makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The state is one of another training.
    #[error("it is of another training: its {what} is {found}, here it is {expected}")]
    Other {
        /// What differs.
        what: &'static str,
        /// What the state has.
        found: String,
        /// What the training has.
        expected: String,
    },
    /// How many steps there are makes a difference already.
    #[error(
        "the learning rate falls since step {since}, so it stays at {steps} steps; what may be \
         prolonged keeps its rate until the end is near (decay)"
    )]
    Steps {
        /// The first step of a lower rate.
        since: u64,
        /// How many steps there are.
        steps: u64,
    },
    /// A tensor is missing, has another shape or type, or is one too many.
    #[error("its tensor {name} does not fit the model in training")]
    Tensor {
        /// The tensor.
        name: String,
    },
    /// A value is no number.
    #[error("its tensor {name} holds a value that is not finite: the file is damaged")]
    NotFinite {
        /// The tensor.
        name: String,
    },
    /// The bytes could not be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    /// The tensor library refused.
    #[error(transparent)]
    Library(#[from] candle_core::Error),
}

/// Writes the state of `trainer`, whose data stand at `position`, through `write`.
///
/// # Errors
/// Those of `write`.
pub fn write_state(
    trainer: &Trainer,
    position: Position,
    notes: &BTreeMap<String, String>,
    write: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let names: Vec<[String; 3]> = trainer.learned.iter().map(|one| names(&one.name)).collect();
    let shapes: Vec<Vec<u64>> = trainer
        .learned
        .iter()
        .map(|one| {
            one.variable
                .dims()
                .iter()
                .map(|&size| size as u64)
                .collect()
        })
        .collect();
    let listed = names.iter().zip(&shapes).flat_map(|(names, shape)| {
        names
            .iter()
            .map(move |name| (name.as_str(), Dtype::F32, shape.as_slice()))
    });
    let layout = layout_with(
        &listed.collect::<Vec<_>>(),
        &texts(trainer, position, notes),
    );
    write(&layout.header)?;
    for index in layout.order {
        let (learned, moments) = (&trainer.learned[index / 3], &trainer.moments[index / 3]);
        match index % 3 {
            0 => {
                let values = learned.variable.flatten_all();
                let values = values.and_then(|values| values.to_vec1::<f32>());
                write_values(&values.map_err(io::Error::other)?, write)?;
            }
            1 => write_values(&moments.first, write)?,
            _ => write_values(&moments.second, write)?,
        }
    }
    Ok(())
}

/// The three tensors of one that learns.
fn names(name: &str) -> [String; 3] {
    [
        name.to_owned(),
        format!("{name}/first"),
        format!("{name}/second"),
    ]
}

fn texts(
    trainer: &Trainer,
    position: Position,
    notes: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::from([
        ("format".to_owned(), FORMAT.to_owned()),
        ("step".to_owned(), trainer.step.to_string()),
        ("epoch".to_owned(), position.epoch.to_string()),
        ("row".to_owned(), position.row.to_string()),
        ("learns".to_owned(), trainer.learns()),
    ]);
    let prefixed = |prefix: &'static str, fields: BTreeMap<String, String>| {
        let named = move |(name, text)| (format!("{prefix}{name}"), text);
        fields.into_iter().map(named)
    };
    texts.extend(prefixed(CONFIG, trainer.config().fields()));
    texts.extend(prefixed(NOTE, notes.clone()));
    texts
}

fn write_values(values: &[f32], write: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(4 * PIECE.min(values.len()));
    for piece in values.chunks(PIECE) {
        bytes.clear();
        encode_f32(piece, &mut bytes);
        write(&bytes)?;
    }
    Ok(())
}

/// A stored state whose header has been read and checked.
#[derive(Debug)]
pub struct StateFile<'a> {
    file: &'a dyn ByteRange,
    header: Header,
    config: TrainConfig,
    step: u64,
    position: Position,
}

impl<'a> StateFile<'a> {
    /// Reads the header.
    pub fn open(file: &'a dyn ByteRange) -> Result<Self, StateError> {
        let header = read_header(file)?;
        let found = header.metadata.get("format").cloned().unwrap_or_default();
        if found != FORMAT {
            let found = found.chars().take(80).collect();
            return Err(StateError::Format { found });
        }
        let config = TrainConfig::from_fields(&unprefixed(&header, CONFIG))?;
        let step = number(&header, "step")?;
        let row = usize::try_from(number(&header, "row")?);
        let epoch = number(&header, "epoch")?;
        if epoch > EPOCHS_MAX {
            return Err(StateError::Field { name: "epoch" });
        }
        let position = Position {
            epoch,
            row: row.map_err(|_| StateError::Field { name: "row" })?,
        };
        Ok(Self {
            file,
            header,
            config,
            step,
            position,
        })
    }

    /// How it trains: [`Self::restore`] asks for a trainer with this configuration.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// How many steps had been taken.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Where the data stood.
    pub fn position(&self) -> Position {
        self.position
    }

    /// What the caller noted.
    pub fn notes(&self) -> BTreeMap<String, String> {
        unprefixed(&self.header, NOTE)
    }

    /// Puts a trainer of the same model, configuration and parameter set into this state. How many
    /// steps there will be may differ as long as it has made no difference yet, and `recompute`
    /// always.
    ///
    /// # Errors
    /// If it is another training, or the file is damaged: then the trainer is not to be used.
    pub fn restore(&self, trainer: &mut Trainer) -> Result<(), StateError> {
        self.check(trainer)?;
        for index in 0..trainer.learned.len() {
            let (learned, moments) = (&trainer.learned[index], &mut trainer.moments[index]);
            let [value, first, second] = names(&learned.name);
            let shape = learned.variable.shape();
            let values = self.values(&value, shape.dims())?;
            moments.first = self.values(&first, shape.dims())?;
            moments.second = self.values(&second, shape.dims())?;
            let values = Tensor::from_vec(values, shape, &Device::Cpu)?;
            learned.variable.set(&values)?;
        }
        trainer.step = self.step;
        Ok(())
    }

    fn check(&self, trainer: &Trainer) -> Result<(), StateError> {
        let differs = |what, found, expected| {
            Err(StateError::Other {
                what,
                found,
                expected,
            })
        };
        let ours = trainer.config().fields();
        let open = open_ended(&self.config).min(open_ended(trainer.config()));
        for (name, found) in self.config.fields() {
            let expected = ours.get(&name).cloned().unwrap_or_default();
            // Whether layers are remembered changes no bit.
            let is_free = name == "recompute" || (name == "steps" && self.step <= open);
            if found != expected && !is_free {
                if name == "steps" {
                    let (since, steps) = (open + 1, self.config.steps);
                    return Err(StateError::Steps { since, steps });
                }
                let named = |text| format!("{name} = {text}");
                return differs("configuration", named(found), named(expected));
            }
        }
        let found = self.header.metadata.get("learns").cloned();
        let (found, expected) = (found.unwrap_or_default(), trainer.learns());
        if found != expected {
            return differs("set of parameters", found, expected);
        }
        let known: Vec<[String; 3]> = trainer.learned.iter().map(|one| names(&one.name)).collect();
        let foreign = |name: &&String| !known.iter().flatten().any(|known| known == *name);
        match self.header.tensors.keys().find(foreign) {
            Some(name) => Err(StateError::Tensor { name: name.clone() }),
            None => Ok(()),
        }
    }

    /// One tensor, which must have this shape.
    fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, StateError> {
        let wrong = || StateError::Tensor {
            name: name.to_owned(),
        };
        let info = self.header.tensors.get(name).ok_or_else(wrong)?;
        let is_same = info
            .shape
            .iter()
            .copied()
            .eq(shape.iter().map(|&size| size as u64));
        if info.dtype != Element::Weight(StoredDtype::F32) || !is_same {
            return Err(wrong());
        }
        let count: usize = shape.iter().product();
        let mut values = Vec::with_capacity(count);
        let mut bytes = vec![0; 4 * PIECE.min(count)];
        while values.len() < count {
            let piece = 4 * PIECE.min(count - values.len());
            let start = info.start + 4 * values.len() as u64;
            self.file.read_at(start, &mut bytes[..piece])?;
            let four = bytes[..piece].chunks_exact(4);
            values.extend(four.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        }
        if values.iter().any(|value| !value.is_finite()) {
            let name = name.to_owned();
            return Err(StateError::NotFinite { name });
        }
        Ok(values)
    }
}

fn number(header: &Header, name: &'static str) -> Result<u64, StateError> {
    let found = header.metadata.get(name).and_then(|text| text.parse().ok());
    found.ok_or(StateError::Field { name })
}

/// The texts whose names begin so, without that beginning.
fn unprefixed(header: &Header, prefix: &str) -> BTreeMap<String, String> {
    let texts = header.metadata.iter();
    let named = texts.filter_map(|(name, text)| Some((name.strip_prefix(prefix)?, text)));
    named
        .map(|(name, text)| (name.to_owned(), text.clone()))
        .collect()
}
