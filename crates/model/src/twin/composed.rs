//! The operations composed from candle's own: slow, plain, differentiable in any float type.

use candle_core::{D, Device, Result, Tensor};
use skein_weights::Part;

use super::{Attention, Operations, Site};

/// Basic operations alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Composed;

impl Operations for Composed {
    fn linear(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let product = x.matmul(&weight.t()?)?;
        match bias {
            Some(bias) => product.broadcast_add(bias),
            None => Ok(product),
        }
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor, epsilon: f32) -> Result<Tensor> {
        let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
        let size = mean.affine(1.0, f64::from(epsilon))?.sqrt()?;
        x.broadcast_div(&size)?.broadcast_mul(weight)
    }

    fn layer_norm(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        epsilon: f32,
    ) -> Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let scaled = self.rms_norm(&centred, weight, epsilon)?;
        scaled.broadcast_add(bias)
    }

    fn attention(
        &self,
        qkv: &Tensor,
        norms: Option<[&Tensor; 2]>,
        attention: &Attention,
    ) -> Result<Tensor> {
        let width = attention.rows.width();
        let one = |row: usize| {
            let qkv = qkv.narrow(0, row * width, width)?;
            self.attend(&qkv, norms, attention, row)
        };
        let rows = (0..attention.rows.count()).map(one);
        Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)
    }

    fn gated_silu(&self, x: &Tensor) -> Result<Tensor> {
        let width = x.dim(D::Minus1)? / 2;
        let gate = x.narrow(D::Minus1, 0, width)?;
        gate.silu()? * x.narrow(D::Minus1, width, width)?
    }

    fn gelu_tanh(&self, x: &Tensor) -> Result<Tensor> {
        let cubic = (x.sqr()? * x)?.affine(0.044_715, 0.0)?;
        let inner = (x + cubic)?.affine((2.0 / std::f64::consts::PI).sqrt(), 0.0)?;
        x.affine(0.5, 0.0)? * inner.tanh()?.affine(1.0, 1.0)?
    }

    fn dropout(&self, x: &Tensor, _: Part, _: Site) -> Result<Tensor> {
        Ok(x.clone())
    }
}

impl Composed {
    /// Attention inside one row.
    fn attend(
        &self,
        qkv: &Tensor,
        norms: Option<[&Tensor; 2]>,
        attention: &Attention,
        row: usize,
    ) -> Result<Tensor> {
        let (heads, kv_heads, d) = (attention.heads, attention.kv_heads, attention.head_dim);
        let n = attention.rows.width();
        let part = |first: usize, heads: usize| {
            let columns = qkv.narrow(1, first * d, heads * d)?;
            let split = columns.reshape((n, heads, d))?;
            split.transpose(0, 1)?.contiguous()
        };
        let position = |x: Tensor, norm: Option<&Tensor>| {
            let x = match norm {
                Some(norm) => self.rms_norm(&x, norm, attention.epsilon)?,
                None => x,
            };
            rotate(x, attention, row)
        };
        let q = position(part(0, heads)?, norms.map(|[q, _]| q))?;
        let k = position(part(heads, kv_heads)?, norms.map(|[_, k]| k))?;
        let k = share(&k, heads)?;
        let v = share(&part(heads + kv_heads, kv_heads)?, heads)?;
        let scale = 1.0 / (d as f64).sqrt();
        let scores = q
            .matmul(&k.transpose(1, 2)?.contiguous()?)?
            .affine(scale, 0.0)?;
        let mask = mask(attention, row)?.to_dtype(scores.dtype())?;
        let mixed = softmax(&scores.broadcast_add(&mask)?)?.matmul(&v)?;
        mixed.transpose(0, 1)?.reshape((n, ()))
    }
}

/// Rotates the pairs `(x[i], x[i + d/2])` of every head of `x`, `[heads, n, d]`.
fn rotate(x: Tensor, attention: &Attention, row: usize) -> Result<Tensor> {
    let Some(rotary) = &attention.rotary else {
        return Ok(x);
    };
    let (_, n, d) = x.dims3()?;
    let rows = &attention.rows;
    let angles = (0..n).flat_map(|at| rotary.at(rows.position(row, at)));
    let (cosines, sines): (Vec<f32>, Vec<f32>) = angles.copied().unzip();
    let table = |values| Tensor::from_vec(values, (n, d / 2), &Device::Cpu)?.to_dtype(x.dtype());
    let (cosines, sines) = (table(cosines)?, table(sines)?);
    let (low, high) = (
        x.narrow(D::Minus1, 0, d / 2)?,
        x.narrow(D::Minus1, d / 2, d / 2)?,
    );
    let turned_low = (low.broadcast_mul(&cosines)? - high.broadcast_mul(&sines)?)?;
    let turned_high = (high.broadcast_mul(&cosines)? + low.broadcast_mul(&sines)?)?;
    Tensor::cat(&[turned_low, turned_high], D::Minus1)
}

/// Repeats each of `[kv_heads, n, d]` for its group of queries: `[heads, n, d]`.
fn share(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (kv_heads, n, d) = x.dims3()?;
    let grouped = x
        .unsqueeze(1)?
        .broadcast_as((kv_heads, heads / kv_heads, n, d))?;
    grouped.reshape((heads, n, d))
}

/// `[n, n]`: zero where place `i` of the row sees place `j`, minus infinity elsewhere.
fn mask(attention: &Attention, row: usize) -> Result<Tensor> {
    let n = attention.rows.width();
    let line = |i| {
        let first = attention.first_seen(row, i);
        (0..n).map(move |j| {
            if (first..=i).contains(&j) {
                0.0
            } else {
                f32::NEG_INFINITY
            }
        })
    };
    let cells: Vec<f32> = (0..n).flat_map(line).collect();
    Tensor::from_vec(cells, (n, n), &Device::Cpu)
}

/// Softmax over the last dimension. Each row has a finite score: a token sees itself.
fn softmax(scores: &Tensor) -> Result<Tensor> {
    // The maximum only keeps the powers in range and cancels out, gradient included.
    let largest = scores.max_keepdim(D::Minus1)?.detach();
    let powers = scores.broadcast_sub(&largest)?.exp()?;
    powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)
}
