//! Layers of a slice on an NVIDIA card, with the bits of the CPU.
//!
//! The kernels (`cuda/kernels.cu`) do what [`crate::SliceModel`] does, in the order that `docs/numerics.md` fixes. They
//! are compiled when a card is opened, by NVIDIA's own compiler for the card at hand; driver and compiler are looked
//! for then, so this builds and starts where neither is.
//!
//! [`OnDevice`] is written against [`Device`], of which there are two: [`Card`], and [`Emulator`], a program that holds
//! the same kernels as ordinary C++. So arithmetic, orders and indices are tested where there is no card
//! (`scripts/test-cuda`), and `examples/cuda.rs` compares either with the CPU. Nothing is served from here yet:
//! matrices must be quantised, norms RMS, positions rotary, keys and values `f32`.

mod attention;
mod card;
#[doc(hidden)]
pub mod check;
mod device;
mod emulator;
mod layers;
mod operations;

pub use self::card::{Card, PtxFault, check_ptx, compile};
pub use self::device::{Argument, Device, Kernel, Launch, Memory};
pub use self::emulator::Emulator;
pub use self::layers::{OnDevice, Room, Session};
pub use self::operations::read_memory;

/// Why a device could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// The library of the driver is not on this machine.
    #[error(
        "no CUDA driver: libcuda.so.1 (nvcuda.dll) was not found; it comes with NVIDIA's driver"
    )]
    NoDriver,
    /// The library of the compiler is not on this machine.
    #[error(
        "no CUDA compiler: libnvrtc.so was not found; install NVRTC (as the Python wheel \
         nvidia-cuda-nvrtc-cu12 does) and let LD_LIBRARY_PATH name its folder"
    )]
    NoCompiler,
    /// There is a driver, but it gave no card.
    #[error("no CUDA card {ordinal}: the driver says {message}")]
    NoCard {
        /// Which one was asked for, counted from zero.
        ordinal: usize,
        /// The driver's error.
        message: String,
    },
    /// The compiler refused the kernels.
    #[error("the kernels do not compile for {architecture}: {log}")]
    Compile {
        /// The architecture, as `compute_80`.
        architecture: String,
        /// What the compiler says.
        log: String,
    },
    /// A call to the driver failed.
    #[error("the CUDA driver could not {what}: {message}")]
    Driver {
        /// What was tried.
        what: &'static str,
        /// The driver's error.
        message: String,
    },
    /// The emulator could not be started, or ended.
    #[error("the emulator of a card: {0} (its own message is above)")]
    Emulator(#[from] std::io::Error),
    /// A model that the kernels do not know.
    #[error("not on a card yet: {what}")]
    Unsupported {
        /// What the model has.
        what: &'static str,
    },
    /// A batch that does not fit what was allocated.
    #[error("a batch that does not fit: {what}")]
    Batch {
        /// What does not.
        what: &'static str,
    },
}
