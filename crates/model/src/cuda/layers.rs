//! The layers of a slice on a device: residual rows in, residual rows out.

use skein_weights::profile::{Mlp, NormKind, Positions};

use super::attention::{Apart, Attention, View};
use super::operations::{
    self, Before, HEAD_MAX, HeadNorms, Heads, Paging, Projection, Quantised, Rows, floats,
    uploaded, wholes,
};
use super::{CudaError, Device, Memory};
use crate::kernels::linear::Matrix;
use crate::kernels::pointwise::Norm;
use crate::kv::{KvFormat, PAGE_POSITIONS, PageLayout};
use crate::rope;
use crate::slice::{self, SliceModel};

/// One session's share of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Session<'a> {
    /// Position of its first row.
    pub position: usize,
    /// How many rows it has.
    pub rows: usize,
    /// Its pages of 32 positions, by their place in the memory of the device, enough for all its positions. What it has
    /// computed before is there.
    pub pages: &'a [u32],
}

/// How much room there is.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Pages of keys and values, of all sessions together.
    pub pages: usize,
    /// Rows of a batch.
    pub rows: usize,
}

/// A norm of residual rows.
#[derive(Debug, Clone, Copy)]
struct NormOnDevice {
    weight: Memory,
    epsilon: f32,
}

impl From<NormOnDevice> for Before {
    fn from(NormOnDevice { weight, epsilon }: NormOnDevice) -> Self {
        Self::Norm { weight, epsilon }
    }
}

#[derive(Debug)]
struct LayerOnDevice {
    attn_norm: NormOnDevice,
    qkv: Projection,
    head_norms: HeadNorms,
    attn_o: Projection,
    mlp_norm: NormOnDevice,
    up: Projection,
    down: Projection,
    window: Option<usize>,
}

/// Buffers of a batch.
#[derive(Debug)]
struct Work {
    hidden: Memory,
    quantised: Quantised,
    qkv: Memory,
    angles: Memory,
    queries: Memory,
    attended: Memory,
    wide: Memory,
    apart: Apart,
}

/// The layers of a slice, their keys and values, and room for a batch.
#[derive(Debug)]
pub struct OnDevice<'d, D> {
    device: &'d mut D,
    layers: Vec<LayerOnDevice>,
    frequencies: Vec<f32>,
    heads: Heads,
    hidden: usize,
    scale: f32,
    paging: Paging,
    room: Room,
    /// Rows of the batch at hand.
    rows: usize,
    /// The last position of any of its rows.
    last_position: usize,
    work: Work,
}

impl<'d, D: Device> OnDevice<'d, D> {
    /// Copies the layers of `model` to a device and makes room there.
    pub fn upload(device: &'d mut D, model: &SliceModel, room: Room) -> Result<Self, CudaError> {
        let profile = model.profile();
        let unsupported = |what| Err(CudaError::Unsupported { what });
        if !matches!(profile.positions, Positions::Rope { .. }) {
            return unsupported("learned positions");
        }
        if profile.norm != NormKind::Rms || profile.mlp != Mlp::GatedSilu {
            return unsupported("norms other than RMS, or a feed-forward layer without a gate");
        }
        let layout = PageLayout::new(profile, model.slice(), KvFormat::F32);
        let heads = Heads {
            queries: profile.heads as usize,
            keys: profile.kv_heads as usize,
            dim: profile.head_dim as usize,
        };
        if heads.dim > HEAD_MAX || !heads.dim.is_multiple_of(2) {
            return unsupported("heads of this width");
        }
        let layers = model.layers().iter();
        let layers = layers
            .map(|layer| upload_layer(device, layer, profile.norm_epsilon))
            .collect::<Result<Vec<_>, _>>()?;
        let hidden = profile.hidden as usize;
        let work = allocate(device, &layers, hidden, &heads, room)?;
        let paging = Paging {
            memory: device.allocate(room.pages * layout.page_bytes())?,
            list: device.allocate(room.pages * 4)?,
            first: device.allocate(room.rows * 4)?,
            positions: device.allocate(room.rows * 4)?,
            page: layout.page_bytes() / 4,
            layer: layout.page_bytes() / 4 / layers.len().max(1),
        };
        Ok(Self {
            device,
            layers,
            frequencies: model.frequencies().to_vec(),
            heads,
            hidden,
            scale: (1.0 / f64::from(profile.head_dim).sqrt()) as f32,
            paging,
            room,
            rows: 0,
            last_position: 0,
            work,
        })
    }

    /// Computes tiles of attention apart where a row sees this many. A matter of speed alone.
    pub fn set_tiles_apart(&mut self, from: usize) {
        self.work.apart.from = from;
    }

    /// Takes a batch: residual rows of all sessions, one after another.
    pub fn enter(&mut self, sessions: &[Session<'_>], hidden: &[f32]) -> Result<(), CudaError> {
        let batch = |what| Err(CudaError::Batch { what });
        let (mut positions, mut first, mut list) = (Vec::new(), Vec::new(), Vec::<u32>::new());
        for session in sessions {
            let end = session.position.checked_add(session.rows);
            if end.is_none_or(|end| end.div_ceil(PAGE_POSITIONS) > session.pages.len()) {
                return batch("a session without pages for its positions");
            }
            if session
                .pages
                .iter()
                .any(|page| *page as usize >= self.room.pages)
            {
                return batch("a page that does not exist");
            }
            // No position reaches beyond 32 pages for every page there is.
            positions.extend((0..session.rows).map(|row| (session.position + row) as u32));
            first.extend((0..session.rows).map(|_| list.len() as u32));
            list.extend(session.pages);
        }
        if positions.len() > self.room.rows || list.len() > self.room.pages {
            return batch("more rows or pages than there is room for");
        }
        if hidden.len() != positions.len() * self.hidden {
            return batch("another number of residual rows than the sessions have");
        }
        let mut angles = Vec::new();
        let mut row = vec![(0.0, 0.0); self.frequencies.len()];
        for position in &positions {
            rope::angles(&self.frequencies, *position as usize, &mut row);
            angles.extend(row.iter().flat_map(|(cosine, sine)| [*cosine, *sine]));
        }
        // None, should an upload fail half way.
        self.rows = 0;
        let (paging, work) = (&self.paging, &self.work);
        self.device.upload(paging.positions, &wholes(&positions))?;
        self.device.upload(paging.first, &wholes(&first))?;
        self.device.upload(paging.list, &wholes(&list))?;
        self.device.upload(work.angles, &floats(&angles))?;
        self.device.upload(work.hidden, &floats(hidden))?;
        self.rows = positions.len();
        self.last_position = positions.iter().max().map_or(0, |last| *last as usize);
        Ok(())
    }

    /// Computes the batch, layer after layer; does not wait. The residual rows at hand go in, so a second call without
    /// [`Self::enter`] computes on with what the first left.
    pub fn run(&mut self) -> Result<(), CudaError> {
        (0..self.layers.len()).try_for_each(|layer| {
            self.attend(layer)?;
            self.feed_forward(layer)
        })
    }

    /// The residual rows.
    pub fn leave(&mut self) -> Result<Vec<f32>, CudaError> {
        let mut bytes = vec![0; self.rows * self.hidden * 4];
        self.device.download(self.work.hidden, &mut bytes)?;
        let (values, _) = bytes.as_chunks::<4>();
        Ok(values.iter().map(|v| f32::from_ne_bytes(*v)).collect())
    }

    /// Waits until all is computed.
    pub fn finish(&mut self) -> Result<(), CudaError> {
        self.device.finish()
    }

    fn attend(&mut self, index: usize) -> Result<(), CudaError> {
        let Self {
            device,
            work,
            heads,
            paging,
            rows,
            ..
        } = self;
        let (layer, rows) = (&self.layers[index], *rows);
        if rows == 0 {
            return Ok(());
        }
        let rows_of = |memory, width| Rows {
            memory,
            count: rows,
            width,
        };
        let hidden = rows_of(work.hidden, self.hidden);
        operations::quantise(
            *device,
            hidden,
            layer.attn_norm.into(),
            self.hidden,
            &work.quantised,
        )?;
        operations::product(
            *device,
            (&work.quantised, rows),
            &layer.qkv,
            false,
            work.qkv,
        )?;
        let place = (&*paging, index, rows);
        let vectors = [work.qkv, work.angles, work.queries];
        operations::rotate_and_write(*device, vectors, &layer.head_norms, heads, place)?;
        let attention = Attention {
            queries: work.queries,
            out: work.attended,
            view: View {
                window: layer.window,
                scale: self.scale,
            },
            heads,
            paging,
            layer: index,
            rows,
            tiles: self.last_position / PAGE_POSITIONS + 1,
        };
        attention.run(*device, &work.apart)?;
        let width = heads.queries * heads.dim;
        let attended = rows_of(work.attended, width);
        operations::quantise(*device, attended, Before::Nothing, width, &work.quantised)?;
        operations::product(
            *device,
            (&work.quantised, rows),
            &layer.attn_o,
            true,
            work.hidden,
        )
    }

    fn feed_forward(&mut self, index: usize) -> Result<(), CudaError> {
        let Self {
            device, work, rows, ..
        } = self;
        let (layer, rows) = (&self.layers[index], *rows);
        if rows == 0 {
            return Ok(());
        }
        let rows_of = |memory, width| Rows {
            memory,
            count: rows,
            width,
        };
        let hidden = rows_of(work.hidden, self.hidden);
        operations::quantise(
            *device,
            hidden,
            layer.mlp_norm.into(),
            self.hidden,
            &work.quantised,
        )?;
        operations::product(
            *device,
            (&work.quantised, rows),
            &layer.up,
            false,
            work.wide,
        )?;
        let wide = rows_of(work.wide, layer.up.outputs);
        operations::quantise(
            *device,
            wide,
            Before::Gate,
            layer.down.inputs,
            &work.quantised,
        )?;
        operations::product(
            *device,
            (&work.quantised, rows),
            &layer.down,
            true,
            work.hidden,
        )
    }
}

fn upload_norm<D: Device>(device: &mut D, norm: &Norm) -> Result<NormOnDevice, CudaError> {
    Ok(NormOnDevice {
        weight: uploaded(device, &floats(&norm.weight))?,
        epsilon: norm.epsilon,
    })
}

fn upload_projection<D: Device>(
    device: &mut D,
    weight: &Matrix,
    bias: Option<&[f32]>,
) -> Result<Projection, CudaError> {
    let Some(blocks) = weight.blocks() else {
        let what = "matrices that are not quantised";
        return Err(CudaError::Unsupported { what });
    };
    Projection::upload(device, blocks, [weight.outputs(), weight.inputs()], bias)
}

fn upload_layer<D: Device>(
    device: &mut D,
    layer: &slice::Layer,
    epsilon: f32,
) -> Result<LayerOnDevice, CudaError> {
    let mut projection =
        |p: &slice::Projection| upload_projection(device, &p.weight, p.bias.as_deref());
    let (qkv, attn_o) = (projection(&layer.qkv)?, projection(&layer.attn_o)?);
    let (up, down) = (projection(&layer.up)?, projection(&layer.down)?);
    let mut head_norm = |norm: &Option<Norm>| {
        let norm = norm.as_ref().map(|norm| upload_norm(device, norm));
        norm.transpose().map(|norm| norm.map(|norm| norm.weight))
    };
    let head_norms = HeadNorms {
        queries: head_norm(&layer.q_norm)?,
        keys: head_norm(&layer.k_norm)?,
        epsilon,
    };
    Ok(LayerOnDevice {
        attn_norm: upload_norm(device, &layer.attn_norm)?,
        qkv,
        head_norms,
        attn_o,
        mlp_norm: upload_norm(device, &layer.mlp_norm)?,
        up,
        down,
        window: layer.window,
    })
}

/// Buffers for a batch of at most `rows`.
fn allocate<D: Device>(
    device: &mut D,
    layers: &[LayerOnDevice],
    hidden: usize,
    heads: &Heads,
    room: Room,
) -> Result<Work, CudaError> {
    let rows = room.rows;
    let widest = |width: fn(&LayerOnDevice) -> usize| layers.iter().map(width).max().unwrap_or(0);
    let inputs = widest(|layer| layer.down.inputs.max(layer.attn_o.inputs));
    let quantised = Quantised::allocate(device, rows, inputs.max(hidden))?;
    let apart = Apart::allocate(device, heads, [rows, room.pages])?;
    let mut values = |width: usize| device.allocate(rows * width * 4);
    Ok(Work {
        hidden: values(hidden)?,
        quantised,
        apart,
        qkv: values(widest(|layer| layer.qkv.outputs))?,
        angles: values(heads.dim)?,
        queries: values(heads.queries * heads.dim)?,
        attended: values(heads.queries * heads.dim)?,
        wide: values(widest(|layer| layer.up.outputs))?,
    })
}
