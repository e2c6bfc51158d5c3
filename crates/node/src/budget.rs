//! How memory is shared between weights and the keys and values of past tokens, and whether there
//! is enough. Decides only; measures nothing.

use skein_base::ByteSize;
use skein_model::kv::{KvFormat, KvPages, PAGE_POSITIONS};
use skein_weights::checkpoint::{Checkpoint, StoredDtype};
use skein_weights::profile::STACKS;
use skein_weights::{Dtype, Part, Profile, Slice};

/// What a process needs beside weights, keys and values: tokenizer, activations, buffers.
const BASE_BYTES: u64 = 96 << 20;
/// Most that is taken for keys and values unless the user asks for more.
const KV_DEFAULT_MAX: u64 = 8 << 30;
/// A prompt of this length fits even where memory is short, if the context is that long.
const KV_POSITIONS_MIN: u64 = 2048;

/// What a model needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Bytes of the weights as they are held, at most: `bf16` counts as sixteen bits, of which most matrices need twelve.
    pub weights: u64,
    /// Bytes of keys and values for one position.
    pub position: u64,
    /// Longest sequence, in positions.
    pub context: u64,
}

/// There is not enough memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not enough memory: {} are needed ({} of weights, {} for keys and values, {} for the rest), {} are available; \
     {}use a smaller --kv-memory, free some memory, or load anyway with --force",
    ByteSize(*.needed), ByteSize(*.weights), ByteSize(*.kv), ByteSize(BASE_BYTES), ByteSize(*.available), hint(*.smaller)
)]
pub struct NotEnoughMemory {
    /// Bytes needed in all.
    pub needed: u64,
    /// Bytes of weights.
    pub weights: u64,
    /// Bytes for keys and values.
    pub kv: u64,
    /// Bytes available.
    pub available: u64,
    /// The format in which weights would take about half of what they take.
    pub smaller: Option<Dtype>,
}

fn hint(smaller: Option<Dtype>) -> String {
    smaller.map_or_else(String::new, |format| {
        format!("hold weights in about half the memory with --format {format} (other answers), ")
    })
}

/// What `slice` of a checkpoint needs if its weights are held as `format`, or as they are stored, and keys and values as
/// `kv`.
pub fn needs(
    checkpoint: &dyn Checkpoint,
    slice: &Slice,
    format: Option<Dtype>,
    kv: KvFormat,
) -> Needs {
    let profile = checkpoint.profile();
    Needs {
        weights: weights(checkpoint, slice, format),
        position: kv_bytes(profile, slice, kv),
        context: u64::from(profile.context),
    }
}

/// Bytes of the weights of `slice`, held as `format` or as they are stored.
pub fn weights(checkpoint: &dyn Checkpoint, slice: &Slice, format: Option<Dtype>) -> u64 {
    let parts = slice.parts(checkpoint.profile().tied).into_iter();
    parts.map(|part| part_bytes(checkpoint, part, format)).sum()
}

/// Bytes of keys and values of one position in the layers of a slice.
pub fn kv_bytes(profile: &Profile, slice: &Slice, format: KvFormat) -> u64 {
    KvPages::page_bytes_of(profile, slice, format).div_ceil(PAGE_POSITIONS as u64)
}

/// Bytes of one part as it is held.
pub fn part_bytes(checkpoint: &dyn Checkpoint, part: Part, format: Option<Dtype>) -> u64 {
    let specs = checkpoint.profile().tensors(part);
    let bytes = specs.iter().map(|spec| {
        // Vectors (norms, biases) and positions are held in f32 always.
        let matrix = spec
            .is_product()
            .then(|| format.unwrap_or_else(|| held(checkpoint, part, spec.name)));
        let dtype = matrix.unwrap_or(Dtype::F32);
        let (rows, columns) = match spec.shape[..] {
            [rows, columns] => (rows, columns),
            _ => (1, spec.shape.iter().product()),
        };
        dtype.row_bytes(columns).saturating_mul(rows)
    });
    bytes.fold(0, u64::saturating_add)
}

/// The format in which a matrix is held as stored: that of all with which it is computed as one.
fn held(checkpoint: &dyn Checkpoint, part: Part, name: &'static str) -> Dtype {
    let stack = STACKS.into_iter().find(|stack| stack.contains(&name));
    let names = stack.map_or_else(|| vec![name], <[_]>::to_vec);
    let stored = names
        .iter()
        .filter_map(|name| checkpoint.stored_dtype(part, name));
    Dtype::common(stored.map(StoredDtype::canonical))
}

/// The first format in which `slice` would take about half of what it takes, or less.
pub fn smaller(checkpoint: &dyn Checkpoint, slice: &Slice, now: Needs) -> Option<Dtype> {
    let most = now.weights / 5 * 3;
    [Dtype::Bf16, Dtype::Q8, Dtype::Q4]
        .into_iter()
        .find(|format| weights(checkpoint, slice, Some(*format)) <= most)
}

/// The user's wishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wishes {
    /// Bytes for keys and values, if said.
    pub kv: Option<u64>,
    /// Sessions at a time.
    pub sessions: u64,
    /// Load whatever is available.
    pub force: bool,
    /// The format in which weights would take about half, if one is to be proposed.
    pub smaller: Option<Dtype>,
}

/// Bytes for keys and values, or that there is not enough memory. `available` is `None` where the
/// system does not say; nothing is refused then.
pub fn plan(needs: Needs, wishes: Wishes, available: Option<u64>) -> Result<u64, NotEnoughMemory> {
    let full = needs.position.saturating_mul(needs.context);
    let least = needs
        .position
        .saturating_mul(needs.context.min(KV_POSITIONS_MIN));
    let taken = needs.weights.saturating_add(BASE_BYTES);
    let room = available.map_or(KV_DEFAULT_MAX, |available| available.saturating_sub(taken));
    let kv = wishes.kv.unwrap_or_else(|| {
        let most = full
            .saturating_mul(wishes.sessions.max(1))
            .min(KV_DEFAULT_MAX);
        (room / 4).min(most).max(least)
    });
    let needed = taken.saturating_add(kv);
    match available {
        Some(available) if needed > available && !wishes.force => Err(NotEnoughMemory {
            needed,
            weights: needs.weights,
            kv,
            available,
            smaller: wishes.smaller,
        }),
        _ => Ok(kv),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const NEEDS: Needs = Needs {
        weights: 1000 * MIB,
        position: 1 << 10,
        context: 32 << 10,
    };
    const WISHES: Wishes = Wishes {
        kv: None,
        sessions: 64,
        force: false,
        smaller: Some(Dtype::Bf16),
    };

    #[test]
    fn memory_is_shared_out() {
        let gib = 1 << 30;
        let cases = [
            // Much memory: what 64 full contexts need, no more.
            (None, Some(64 * gib), Ok(2048 * MIB)),
            // Little: a quarter of what is left.
            (None, Some(1896 * MIB), Ok(200 * MIB)),
            // Very little: a short context at least.
            (None, Some(1099 * MIB), Ok(2 * MIB)),
            (None, Some(1097 * MIB), Err(1098 * MIB)),
            // What the user says.
            (Some(3 * gib), Some(64 * gib), Ok(3 * gib)),
            (Some(3 * gib), Some(4 * gib), Err(1096 * MIB + 3 * gib)),
            (Some(3 * gib), None, Ok(3 * gib)),
        ];
        for (kv, available, expected) in cases {
            let found = plan(NEEDS, Wishes { kv, ..WISHES }, available);
            assert_eq!(
                found.map_err(|error| error.needed),
                expected,
                "{kv:?} {available:?}"
            );
        }
        let forced = Wishes {
            kv: Some(3 * gib),
            force: true,
            ..WISHES
        };
        assert_eq!(plan(NEEDS, forced, Some(0)), Ok(3 * gib));
    }

    #[test]
    fn the_refusal_has_numbers() {
        let message = plan(NEEDS, WISHES, Some(MIB))
            .expect_err("too little")
            .to_string();
        for part in [
            "1.1 GiB are needed",
            "1000.0 MiB of weights",
            "1.0 MiB are available",
            "--format bf16",
            "--force",
        ] {
            assert!(message.contains(part), "{message}");
        }
    }
}
