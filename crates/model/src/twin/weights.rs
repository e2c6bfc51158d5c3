//! The twin's weights as a source, for serving and writing what was trained.

use std::io;
use std::ops::Range;

use candle_core::Tensor;
use half::bf16;
use skein_weights::source::{CanonicalTensor, ReadError, quantise_rows};
use skein_weights::{BlockFormat, Dtype, Part, Profile, WeightSource};

use super::Twin;

/// One tensor of a twin.
#[derive(Debug)]
struct TwinTensor {
    part: Part,
    name: &'static str,
    tensor: Tensor,
    shape: Vec<u64>,
}

/// The weights as they are, `f32`; adapters are no part of them.
impl WeightSource for Twin {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    fn tensor(&self, part: Part, name: &str) -> Result<Box<dyn CanonicalTensor + '_>, ReadError> {
        let canonical = self.profile.canonical_name(part, name);
        let found = canonical.and_then(|name| Some((name, self.parameters.get(part, name)?)));
        let (name, tensor) = found.ok_or_else(|| ReadError::Missing {
            part,
            name: name.to_owned(),
        })?;
        Ok(Box::new(TwinTensor {
            part,
            name,
            tensor: tensor.detach(),
            shape: tensor.dims().iter().map(|&size| size as u64).collect(),
        }))
    }
}

impl TwinTensor {
    fn values(&self, rows: Range<u64>) -> Result<Vec<f32>, ReadError> {
        let read = || {
            if self.shape.len() == 1 {
                return self.tensor.to_vec1();
            }
            let (start, count) = (rows.start as usize, (rows.end - rows.start) as usize);
            let rows = self.tensor.narrow(0, start, count)?;
            rows.flatten_all()?.to_vec1()
        };
        read().map_err(|error| ReadError::Io {
            part: self.part,
            name: self.name.to_owned(),
            source: io::Error::other(error),
        })
    }
}

impl CanonicalTensor for TwinTensor {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[u64] {
        &self.shape
    }

    fn read_f32(&self, rows: Range<u64>, out: &mut [f32]) -> Result<(), ReadError> {
        out.copy_from_slice(&self.values(rows)?);
        Ok(())
    }

    fn read_bf16(&self, rows: Range<u64>, out: &mut [u16]) -> Result<(), ReadError> {
        for (out, value) in out.iter_mut().zip(self.values(rows)?) {
            *out = bf16::from_f32(value).to_bits();
        }
        Ok(())
    }

    fn read_blocks(
        &self,
        format: BlockFormat,
        rows: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), ReadError> {
        quantise_rows(self, (self.part, self.name), format, rows, out)
    }
}
