//! The command line `skein`: what can be typed, and who does it.

mod answerer;
pub mod args;
mod bench;
mod bench_pipeline;
mod bench_quality;
mod bench_world;
mod chat;
mod config;
mod error;
pub mod export;
mod generate;
mod inspect;
mod keys;
mod open;
mod run;
mod serve;
mod split;
mod status;
mod target;
pub mod train;
mod up;
mod verify;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::config::{Loaded, Override};
use crate::console::Console;
use crate::logs;
use args::{BenchCommand, Cli, Command, KeysCommand, ModelCommand};
pub use error::CommandError;

/// What a command needs beside its own arguments.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) loaded: Loaded,
    pub(crate) console: Console,
}

/// Parses the command line, runs the command, and says how it went: 0 done, 1 failed, 2 not
/// understood.
///
/// # Errors
/// [`CommandError`], for the caller to show.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Result<ExitCode, CommandError> {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; clap knows the stream and the code of each.
            let _ = error.print();
            return Ok(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)));
        }
    };
    let console = Console::new(cli.quiet, environment("NO_COLOR").is_some());
    match dispatch(cli, console) {
        // The reader of our output has seen enough, as `head` does.
        Err(error) if error.is_broken_pipe() => Ok(ExitCode::SUCCESS),
        other => other,
    }
}

fn dispatch(cli: Cli, console: Console) -> Result<ExitCode, CommandError> {
    // These two must work whatever the configuration says.
    match &cli.command {
        Command::Completions { shell } => return completions(*shell, console),
        Command::Config(config::ConfigCommand::Explain(args)) => {
            return config::explain(args, console);
        }
        Command::Config(config::ConfigCommand::Check { file }) => {
            return config::check(file, console);
        }
        _ => {}
    }
    let mut overrides = cli.command.overrides();
    overrides.extend(cli.log.map(|value| Override {
        section: "log",
        key: "level",
        flag: "--log",
        value,
    }));
    let loaded = load(cli.config, &overrides)?;
    logs::start(&loaded.settings.log, console)?;
    let context = Context { loaded, console };
    match cli.command {
        Command::Serve(_) => serve::serve(&context),
        Command::Up(args) => up::up(&context, &args),
        Command::Node(args) => serve::node(&context, &args),
        Command::Run(args) => run::run(&context, &args),
        Command::Chat(args) => chat::chat(&context, &args),
        Command::Status(args) => status::status(&context, &args),
        Command::Model(ModelCommand::Inspect(args)) => inspect::inspect(&context, &args),
        Command::Model(ModelCommand::Split(args)) => split::split(&context, &args),
        Command::Model(ModelCommand::Verify(args)) => verify::verify(&context, &args),
        Command::Model(ModelCommand::Export(args)) => export::export(&context, &args),
        Command::Train(args) => train::train(&context, &args),
        Command::Model(ModelCommand::Fetch { repository }) => open::fetch(&context, &repository),
        Command::Config(config::ConfigCommand::Show { json }) => config::show(&context, json),
        Command::Config(_) | Command::Completions { .. } => Ok(ExitCode::SUCCESS),
        Command::Bench(BenchCommand::Model(args)) => bench::bench(&context, &args),
        Command::Bench(BenchCommand::Pipeline(args)) => bench_pipeline::bench(&context, &args),
        Command::Bench(BenchCommand::World(args)) => bench_world::bench(&context, &args),
        Command::Bench(BenchCommand::Quality(args)) => bench_quality::bench(&context, &args),
        Command::Keys(KeysCommand::New(args)) => keys::new(&context, &args),
    }
}

/// Default settings, then the file, then the environment, then flags.
fn load(file: Option<PathBuf>, overrides: &[Override]) -> Result<Loaded, CommandError> {
    let mut loaded = Loaded::defaults();
    let named = file.or_else(|| environment("SKEIN_CONFIG").map(PathBuf::from));
    if let Some(path) = named.or_else(usual_file) {
        loaded.apply_file(&path)?;
    }
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    loaded.apply_environment(std::env::vars_os().filter_map(text))?;
    loaded.apply_overrides(overrides)?;
    Ok(loaded)
}

/// The file of the user, if there is one.
fn usual_file() -> Option<PathBuf> {
    let home = || environment("HOME").map(|home| PathBuf::from(home).join(".config"));
    let folder = environment("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(home)?;
    let file = folder.join("skein").join("skein.toml");
    file.is_file().then_some(file)
}

/// A variable that is set to something.
#[expect(
    clippy::disallowed_methods,
    reason = "configuration is read in this crate alone"
)]
pub(crate) fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn completions(shell: clap_complete::Shell, console: Console) -> Result<ExitCode, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "skein", &mut script);
    console.text(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

impl CommandError {
    fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
