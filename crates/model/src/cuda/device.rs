//! What computes: memory, and kernels launched over it.

use super::CudaError;

/// Memory of a device. It lives as long as the device, and is named by a number: a handle of one device means other
/// memory, or none, on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub(crate) index: usize,
    pub(crate) bytes: usize,
}

impl Memory {
    /// How many bytes.
    pub fn bytes(self) -> usize {
        self.bytes
    }
}

/// What a kernel is called with.
#[derive(Debug, Clone, Copy)]
pub enum Argument {
    /// A null pointer.
    None,
    /// A pointer to the start of memory.
    Memory(Memory),
    /// A `u32`.
    Whole(u32),
    /// A `float`.
    Float(f32),
}

impl From<Memory> for Argument {
    fn from(memory: Memory) -> Self {
        Self::Memory(memory)
    }
}

impl From<Option<Memory>> for Argument {
    fn from(memory: Option<Memory>) -> Self {
        memory.map_or(Self::None, Self::Memory)
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Self {
        Self::Float(value)
    }
}

impl From<u32> for Argument {
    fn from(value: u32) -> Self {
        Self::Whole(value)
    }
}

/// The kernels of `kernels.cu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is documented where it is written")]
pub enum Kernel {
    QuantiseRows,
    GateRows,
    NormRows,
    ProductQ8One,
    ProductQ8Eight,
    ProductQ4One,
    ProductQ4Eight,
    RotateAndWrite,
    Attend,
    ScoreTiles,
    WeighTiles,
    JoinTiles,
    Elementary,
    ReadMemory,
}

impl Kernel {
    /// All of them; [`Self::index`] counts so.
    pub const ALL: [Self; 14] = [
        Self::QuantiseRows,
        Self::GateRows,
        Self::NormRows,
        Self::ProductQ8One,
        Self::ProductQ8Eight,
        Self::ProductQ4One,
        Self::ProductQ4Eight,
        Self::RotateAndWrite,
        Self::Attend,
        Self::ScoreTiles,
        Self::WeighTiles,
        Self::JoinTiles,
        Self::Elementary,
        Self::ReadMemory,
    ];

    /// Its name in the source.
    pub fn name(self) -> &'static str {
        match self {
            Self::QuantiseRows => "quantise_rows",
            Self::GateRows => "gate_rows",
            Self::NormRows => "norm_rows",
            Self::ProductQ8One => "product_q8_1",
            Self::ProductQ8Eight => "product_q8_8",
            Self::ProductQ4One => "product_q4_1",
            Self::ProductQ4Eight => "product_q4_8",
            Self::RotateAndWrite => "rotate_and_write",
            Self::Attend => "attend",
            Self::ScoreTiles => "score_tiles",
            Self::WeighTiles => "weigh_tiles",
            Self::JoinTiles => "join_tiles",
            Self::Elementary => "elementary",
            Self::ReadMemory => "read_memory",
        }
    }

    /// Its place in [`Self::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

/// A kernel with its grid and its arguments.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// Which one.
    pub kernel: Kernel,
    /// Blocks in x and y, neither of them none.
    pub grid: [u32; 2],
    /// Threads of a block, a multiple of 32.
    pub threads: u32,
    /// In the order of the kernel's parameters.
    pub arguments: &'a [Argument],
}

/// A card, or what stands for one. Operations happen in the order of the calls.
pub trait Device {
    /// New memory; what it holds is unspecified.
    fn allocate(&mut self, bytes: usize) -> Result<Memory, CudaError>;

    /// Copies to the start of `to`.
    ///
    /// # Panics
    /// If there is less room.
    fn upload(&mut self, to: Memory, from: &[u8]) -> Result<(), CudaError>;

    /// Copies from the start of `from`, when all before is done.
    ///
    /// # Panics
    /// If there is less.
    fn download(&mut self, from: Memory, to: &mut [u8]) -> Result<(), CudaError>;

    /// Runs a kernel.
    ///
    /// # Safety
    /// The arguments have the kernel's types, the memory among them is this device's, and with these arguments the
    /// kernel reads and writes inside of it.
    unsafe fn launch(&mut self, launch: &Launch<'_>) -> Result<(), CudaError>;

    /// Waits until all is done.
    fn finish(&mut self) -> Result<(), CudaError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_where_they_say_and_in_the_source() {
        let source = crate::cuda::card::SOURCE;
        for (index, kernel) in Kernel::ALL.into_iter().enumerate() {
            assert_eq!(kernel.index(), index);
            let name = kernel.name();
            let found = [format!(" {name}("), format!("({name},")];
            assert!(found.iter().any(|f| source.contains(f)), "{name}");
        }
    }
}
