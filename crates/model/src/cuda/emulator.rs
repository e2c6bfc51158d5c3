//! The kernels as an ordinary program, for machines without a card: `emulator.cpp`, which tells the commands.

use std::ffi::OsStr;
use std::io::{self, BufWriter, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::{Argument, CudaError, Device, Launch, Memory};

/// A running `emulator.cpp`.
#[derive(Debug)]
pub struct Emulator {
    process: Child,
    /// Taken when it ends: then the program ends as well.
    commands: Option<BufWriter<ChildStdin>>,
    answers: ChildStdout,
    allocated: usize,
}

impl Emulator {
    /// Starts the program, which `scripts/test-cuda` compiles.
    pub fn start(program: &OsStr) -> Result<Self, CudaError> {
        let mut process = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
        let commands = process.stdin.take().ok_or_else(missing)?;
        let answers = process.stdout.take().ok_or_else(missing)?;
        Ok(Self {
            process,
            commands: Some(BufWriter::new(commands)),
            answers,
            allocated: 0,
        })
    }

    fn commands(&mut self) -> &mut BufWriter<ChildStdin> {
        self.commands.as_mut().expect("taken when it is dropped")
    }

    fn copy(&mut self, command: u8, memory: Memory, count: usize) -> io::Result<()> {
        assert!(count <= memory.bytes, "there is as much");
        let commands = self.commands();
        commands.write_all(&[command])?;
        commands.write_all(&(memory.index as u32).to_ne_bytes())?;
        commands.write_all(&(count as u64).to_ne_bytes())
    }

    fn send(&mut self, launch: &Launch<'_>) -> io::Result<()> {
        let name = launch.kernel.name();
        let commands = self.commands();
        commands.write_all(b"l")?;
        commands.write_all(&(name.len() as u32).to_ne_bytes())?;
        commands.write_all(name.as_bytes())?;
        let [x, y] = launch.grid;
        let count = launch.arguments.len() as u32;
        for value in [x, y, launch.threads, count] {
            commands.write_all(&value.to_ne_bytes())?;
        }
        for argument in launch.arguments {
            let (kind, value) = match argument {
                Argument::None => (0, 0),
                Argument::Memory(memory) => (1, memory.index as u64),
                Argument::Whole(value) => (2, u64::from(*value)),
                Argument::Float(value) => (3, u64::from(value.to_bits())),
            };
            commands.write_all(&[kind])?;
            commands.write_all(&value.to_ne_bytes())?;
        }
        Ok(())
    }
}

impl Device for Emulator {
    fn allocate(&mut self, bytes: usize) -> Result<Memory, CudaError> {
        let commands = self.commands();
        commands.write_all(b"a")?;
        commands.write_all(&(bytes as u64).to_ne_bytes())?;
        self.allocated += 1;
        Ok(Memory {
            index: self.allocated - 1,
            bytes,
        })
    }

    fn upload(&mut self, to: Memory, from: &[u8]) -> Result<(), CudaError> {
        self.copy(b'u', to, from.len())?;
        Ok(self.commands().write_all(from)?)
    }

    fn download(&mut self, from: Memory, to: &mut [u8]) -> Result<(), CudaError> {
        self.copy(b'd', from, to.len())?;
        self.commands().flush()?;
        Ok(self.answers.read_exact(to)?)
    }

    unsafe fn launch(&mut self, launch: &Launch<'_>) -> Result<(), CudaError> {
        Ok(self.send(launch)?)
    }

    fn finish(&mut self) -> Result<(), CudaError> {
        Ok(self.commands().flush()?)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // The program ends with its input; what it has said of itself is on standard error.
        drop(self.commands.take());
        drop(self.process.wait());
    }
}
