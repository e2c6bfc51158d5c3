//! A card, through NVIDIA's driver and compiler.

use std::sync::Arc;

use cudarc::driver::{
    CudaContext, CudaFunction, CudaSlice, CudaStream, DriverError, LaunchConfig, PushKernelArg,
};
use cudarc::nvrtc::{CompileError, CompileOptions, Ptx, compile_ptx_with_opts};

use super::{Argument, CudaError, Device, Kernel, Launch, Memory};

/// The kernels.
pub(super) const SOURCE: &str = include_str!("kernels.cu");

/// Compiles the kernels to PTX for an architecture (`80` for `compute_80`). Without `fused`, multiplications and additions
/// that must be fused are not: only [`check_ptx`] has a use for that.
///
/// Whatever the compiler's defaults are, they are said here: subnormals are numbers, division and square root round
/// correctly, and nothing is fused that the source does not fuse.
pub fn compile(architecture: u32, fused: bool) -> Result<String, CudaError> {
    // SAFETY: looks for a library by its names and lets it go again; NVIDIA's may be loaded anywhere.
    if !unsafe { cudarc::nvrtc::sys::is_culib_present() } {
        return Err(CudaError::NoCompiler);
    }
    let architecture = format!("compute_{architecture}");
    let mut options = vec![format!("--gpu-architecture={architecture}")];
    if !fused {
        options.push("--define-macro=SKEIN_NOTHING_FUSED".to_owned());
    }
    let options = CompileOptions {
        ftz: Some(false),
        prec_sqrt: Some(true),
        prec_div: Some(true),
        fmad: Some(false),
        name: Some("kernels.cu".to_owned()),
        options,
        ..CompileOptions::default()
    };
    match compile_ptx_with_opts(SOURCE, options) {
        Ok(ptx) => Ok(ptx.to_src()),
        Err(CompileError::CompileError { log, .. }) => Err(CudaError::Compile {
            architecture,
            log: log.to_string_lossy().into_owned(),
        }),
        Err(other) => Err(CudaError::Compile {
            architecture,
            log: other.to_string(),
        }),
    }
}

/// Something in a compiled text that may change bits.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the PTX, `{text}`: {why}")]
pub struct PtxFault {
    /// The line, counted from one; zero where the whole text is meant.
    pub line: usize,
    /// The line itself.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Reads PTX for what may change bits: arithmetic in `f32` without a rounding mode, which the driver's compiler may fuse;
/// flushed subnormals; approximations; fused operations, unless `fused` allows those that the source asks for.
pub fn check_ptx(ptx: &str, fused: bool) -> Result<(), PtxFault> {
    for (index, line) in ptx.lines().enumerate() {
        let fault = |why| {
            Err(PtxFault {
                line: index + 1,
                text: line.trim().to_owned(),
                why,
            })
        };
        let code = line.split("//").next().unwrap_or_default();
        let Some(operation) = code.split_whitespace().find(|word| !word.starts_with('@')) else {
            continue;
        };
        let parts: Vec<&str> = operation.split('.').collect();
        if parts.contains(&"ftz") {
            return fault("subnormals would become zero");
        }
        if parts.iter().any(|part| ["approx", "full"].contains(part)) {
            return fault("an approximation");
        }
        let is_float = parts.iter().any(|part| part.starts_with("f32"));
        let rounds = ["add", "sub", "mul", "mad", "fma", "div", "sqrt", "rcp"];
        if is_float && rounds.contains(&parts[0]) && !parts.contains(&"rn") {
            return fault("no rounding mode: the driver may fuse it");
        }
        if is_float && ["mad", "fma"].contains(&parts[0]) && !fused {
            return fault("fused, where nothing asked for it");
        }
    }
    let [dp4a, fma] = ["dp4a.s32.s32", "fma.rn.f32"].map(|operation| ptx.contains(operation));
    if dp4a && fma == fused {
        return Ok(());
    }
    Err(PtxFault {
        line: 0,
        text: String::new(),
        why: "dp4a is missing, or the fused operations that the source asks for",
    })
}

/// An NVIDIA card with the kernels loaded.
#[derive(Debug)]
pub struct Card {
    description: String,
    stream: Arc<CudaStream>,
    /// By [`Kernel::index`].
    functions: Vec<CudaFunction>,
    memory: Vec<CudaSlice<u8>>,
}

/// The null pointer as an argument.
static NULL: u64 = 0;

fn failed(what: &'static str) -> impl Fn(DriverError) -> CudaError {
    move |error| CudaError::Driver {
        what,
        message: error.to_string(),
    }
}

impl Card {
    /// Opens a card, counted from zero, and compiles the kernels for it.
    pub fn open(ordinal: usize) -> Result<Self, CudaError> {
        // SAFETY: looks for a library by its names and lets it go again; NVIDIA's may be loaded anywhere.
        if !unsafe { cudarc::driver::sys::is_culib_present() } {
            return Err(CudaError::NoDriver);
        }
        let context = CudaContext::new(ordinal).map_err(|error| CudaError::NoCard {
            ordinal,
            message: error.to_string(),
        })?;
        let name = context.name().map_err(failed("name the card"))?;
        let (major, minor) = context
            .compute_capability()
            .map_err(failed("tell the card's architecture"))?;
        let architecture = (major * 10 + minor).unsigned_abs();
        let ptx = Ptx::from_src(compile(architecture, true)?);
        let module = context
            .load_module(ptx)
            .map_err(failed("load the kernels"))?;
        let functions = Kernel::ALL
            .into_iter()
            .map(|kernel| module.load_function(kernel.name()))
            .collect::<Result<_, _>>()
            .map_err(failed("find a kernel"))?;
        Ok(Self {
            description: format!("{name}, compute capability {major}.{minor}"),
            stream: context.default_stream(),
            functions,
            memory: Vec::new(),
        })
    }

    /// What it is called, and its architecture.
    pub fn description(&self) -> &str {
        &self.description
    }
}

impl Device for Card {
    fn allocate(&mut self, bytes: usize) -> Result<Memory, CudaError> {
        let memory = self
            .stream
            .alloc_zeros::<u8>(bytes.max(1))
            .map_err(failed("allocate memory"))?;
        self.memory.push(memory);
        Ok(Memory {
            index: self.memory.len() - 1,
            bytes,
        })
    }

    fn upload(&mut self, to: Memory, from: &[u8]) -> Result<(), CudaError> {
        assert!(from.len() <= to.bytes, "there is room");
        if from.is_empty() {
            return Ok(());
        }
        let mut to = self.memory[to.index].slice_mut(..from.len());
        self.stream
            .memcpy_htod(from, &mut to)
            .map_err(failed("copy to the card"))
    }

    fn download(&mut self, from: Memory, to: &mut [u8]) -> Result<(), CudaError> {
        assert!(to.len() <= from.bytes, "there is as much");
        if to.is_empty() {
            return Ok(());
        }
        let from = self.memory[from.index].slice(..to.len());
        self.stream
            .memcpy_dtoh(&from, to)
            .and_then(|()| self.stream.synchronize())
            .map_err(failed("copy from the card"))
    }

    unsafe fn launch(&mut self, launch: &Launch<'_>) -> Result<(), CudaError> {
        let function = &self.functions[launch.kernel.index()];
        let mut builder = self.stream.launch_builder(function);
        for argument in launch.arguments {
            match argument {
                Argument::None => builder.arg(&NULL),
                Argument::Memory(memory) => builder.arg(&self.memory[memory.index]),
                Argument::Whole(value) => builder.arg(value),
                Argument::Float(value) => builder.arg(value),
            };
        }
        let [x, y] = launch.grid;
        let shape = LaunchConfig {
            grid_dim: (x, y, 1),
            block_dim: (launch.threads, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the caller's. Memory is freed with the card alone, whose stream is done by then; all work is in one
        // stream, so what a kernel writes through a shared reference nobody else touches meanwhile.
        unsafe { builder.launch(shape) }
            .map(drop)
            .map_err(failed("launch a kernel"))
    }

    fn finish(&mut self) -> Result<(), CudaError> {
        self.stream.synchronize().map_err(failed("finish its work"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "add.rn.f32 \t%f1, %f2, %f3;\n\
        @%p1 fma.rn.f32 %f1, %f2, %f3, %f4; // add.f32\n\
        dp4a.s32.s32 %r1, %r2, %r3, %r4;\n\
        mad.lo.s32 %r1, %r2, %r3, %r4;\nld.shared.f32 %f1, [%r1];";

    #[test]
    fn what_may_change_bits_is_found() {
        assert_eq!(check_ptx(GOOD, true), Ok(()));
        let cases = [
            ("add.f32 %f1, %f2, %f3;", "no rounding mode"),
            ("@%p2 mul.f32 %f1, %f2, %f3;", "no rounding mode"),
            ("mul.rn.ftz.f32 %f1, %f2, %f3;", "subnormals"),
            ("div.full.f32 %f1, %f2, %f3;", "approximation"),
            ("sqrt.approx.f32 %f1, %f2;", "approximation"),
        ];
        for (line, why) in cases {
            let fault = check_ptx(&format!("{GOOD}\n{line}"), true).expect_err(line);
            assert_eq!(fault.line, 6);
            assert!(fault.why.contains(why), "{line}: {fault}");
        }
        let fused = check_ptx(GOOD, false).expect_err("fused");
        assert_eq!(
            (fused.line, fused.why),
            (2, "fused, where nothing asked for it")
        );
        assert!(check_ptx("ret;", true).is_err(), "no dp4a");
    }

    /// Wherever the tests run, a card opens or its absence has a name: nothing panics.
    #[test]
    fn without_a_card_the_error_says_what_is_missing() {
        if let Err(error) = Card::open(usize::from(u16::MAX)) {
            assert!(error.to_string().starts_with("no CUDA "), "{error}");
        }
    }
}
