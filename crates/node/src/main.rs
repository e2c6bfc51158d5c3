//! The `skein` command.
#![forbid(unsafe_code)]
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match skein_node::cli::main(std::env::args_os()) {
        Ok(code) => code,
        Err(error) => {
            let code = error.exit_code();
            let _ = writeln!(
                std::io::stderr().lock(),
                "skein: {:#}",
                anyhow::Error::from(error)
            );
            code
        }
    }
}
