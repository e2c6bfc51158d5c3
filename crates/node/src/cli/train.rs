//! `skein train`.

mod arguments;
mod prepare;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use skein_model::train::{
    Batch, Ended, Feed, FeedError, StateError, TrainError, Trainer, keep_freed_memory, run,
};
use skein_runtime::{Clock, FsFolder, SystemClock};
use skein_weights::checkpoint::Sidecar;
use skein_weights::export::{Export, ExportError, SHARD_BYTES, check_empty};
use skein_weights::split::Progress;

use super::target::{TargetError, target};
use super::{CommandError, Context};
use crate::console::Console;
use crate::node::{self, NodeError};
use crate::stop::{INTERRUPTED, StopSignals};
use crate::train::curve::curve;
use crate::train::model::ModelError;
use crate::train::report::{Report, RunError, Screen};
use crate::train::samples::SamplesError;
use crate::train::settings::{SETTINGS_FILE, Settings, SettingsError};
pub use arguments::TrainArgs;

/// The folder inside the output that training keeps its own files in.
const FOLDER: &str = "training";

/// Why a training could not begin, go on or end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainCommandError {
    /// The output cannot be written.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The output holds a training.
    #[error("{} holds a training already: go on with --resume, or choose another folder", folder.display())]
    Begun {
        /// The output.
        folder: PathBuf,
    },
    /// Settings could not be kept or read.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Whether there is a state cannot be told.
    #[error("cannot read {}", path.display())]
    Find {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What training starts from is not what it was.
    #[error(
        "{start} is not what this training began with (its tokenizer, its settings or its weights \
         have changed), so it cannot go on"
    )]
    Start {
        /// The model or shape.
        start: String,
    },
    /// There is nothing to start from.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The data cannot be read.
    #[error(transparent)]
    Samples(#[from] SamplesError),
    /// The data give no batches.
    #[error("{}", path.display())]
    Feed {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: FeedError,
    },
    /// Training could not begin.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The saved state cannot be gone on from.
    #[error("cannot go on from {}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: StateError,
    },
    /// Training failed on the way.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The trained model could not be written.
    #[error(transparent)]
    Export(#[from] ExportError),
}

/// A training, ready to run.
struct Job {
    /// Of the output.
    sink: FsFolder,
    settings: Settings,
    /// Tokenizer and settings as files, for the trained model.
    sidecars: Vec<Sidecar>,
    trainer: Trainer,
    feed: Feed,
    held_out: Vec<Batch>,
}

pub(super) fn train(context: &Context, args: &TrainArgs) -> Result<ExitCode, CommandError> {
    keep_freed_memory();
    let clock = Arc::new(SystemClock::new());
    let (output, settings) = settings(context.console, args, &*clock)?;
    let (lock, sink) = target(&output).map_err(TrainCommandError::from)?;
    if args.resume.is_none() {
        check_empty(&sink).map_err(TrainCommandError::from)?;
    }
    let folder = output.join(FOLDER);
    let (_, training) = target(&folder).map_err(TrainCommandError::from)?;
    let job = prepare::prepare(context, args, settings, sink, &folder)?;
    announce(context.console, &job);
    let stop = Arc::new(AtomicBool::new(false));
    let (taken, steps) = (job.trainer.steps_taken(), last_step(&job.settings));
    let screen = Screen::new(context.console, taken, steps);
    let report = Report::new(training.path(), taken, screen.clone(), clock, stop.clone());
    let report = report.map_err(TrainCommandError::from)?;
    let ended = supervise(context.console, job, report, screen.clone(), stop)?;
    screen.clear();
    drop(lock);
    finish(context, args, &output, ended)
}

/// The folder to write, and what to do: as the arguments say, or as it was begun.
fn settings(
    console: Console,
    args: &TrainArgs,
    clock: &dyn Clock,
) -> Result<(PathBuf, Settings), CommandError> {
    if let Some(output) = &args.resume {
        let settings = Settings::read(&output.join(FOLDER)).map_err(TrainCommandError::from)?;
        return Ok((output.clone(), args.changed(settings)?));
    }
    let (Some(output), Some(data)) = (&args.output, &args.data) else {
        let text = "--data and --output are needed, or --resume";
        return Err(CommandError::Usage(text.to_owned()));
    };
    if output.join(FOLDER).join(SETTINGS_FILE).exists() {
        let folder = output.clone();
        return Err(TrainCommandError::Begun { folder }.into());
    }
    let now = clock.unix_time().as_secs() as i64;
    Ok((output.clone(), args.settings(data, console, now)?))
}

/// The step that the training ends behind.
fn last_step(settings: &Settings) -> u64 {
    let until = settings.until.unwrap_or(settings.steps);
    until.min(settings.steps)
}

fn announce(console: Console, job: &Job) {
    let (trainer, settings) = (&job.trainer, &job.settings);
    let from = match trainer.steps_taken() {
        0 => String::new(),
        taken => format!(", going on behind step {taken}"),
    };
    let tokens = settings.batch * settings.context * settings.accumulate;
    console.note(&format!(
        "{} numbers learn, {} steps of {tokens} tokens{from}",
        trainer.learned_count(),
        last_step(settings),
    ));
}

/// What is left when training has ended.
struct Done {
    ended: Ended,
    steps: u64,
    report: Report,
}

/// Runs the job on a thread of its own; the first signal asks it to save and end, another one ends
/// the process.
fn supervise(
    console: Console,
    job: Job,
    report: Report,
    screen: Screen,
    stop: Arc<AtomicBool>,
) -> Result<Done, CommandError> {
    let runtime = node::runtime()?;
    runtime.block_on(async {
        let mut signals = StopSignals::new().map_err(NodeError::System)?;
        let shown = screen.clone();
        let mut work = tokio::task::spawn_blocking(move || perform(console, job, report, &shown));
        let done = tokio::select! {
            done = &mut work => done,
            _ = signals.next() => {
                stop.store(true, Ordering::Relaxed);
                screen.say(
                    "asked to stop: this step is finished and its state saved; asked again, it \
                     ends at once without",
                );
                signals.or_exit(work).await
            }
        };
        let done = done.map_err(|error| NodeError::Failed(error.to_string()))?;
        Ok(done?)
    })
}

fn perform(
    console: Console,
    mut job: Job,
    mut report: Report,
    screen: &Screen,
) -> Result<Done, TrainCommandError> {
    let plan = job.settings.plan();
    let ended = run(
        &mut job.trainer,
        &mut job.feed,
        &job.held_out,
        &plan,
        &mut report,
    )?;
    if ended == Ended::Finished {
        let export = Export {
            weights: &job.trainer.model()?,
            sidecars: &job.sidecars,
            format: job.settings.format.dtype(),
            shard_bytes: SHARD_BYTES,
            replace: true,
        };
        screen.clear();
        let bar = console.byte_bar(0);
        bar.set_message("writing");
        export.write(&job.sink, &mut |now: Progress| {
            bar.set_length(now.total);
            bar.set_position(now.done);
        })?;
        bar.finish_and_clear();
    }
    Ok(Done {
        ended,
        steps: job.trainer.steps_taken(),
        report,
    })
}

fn finish(
    context: &Context,
    args: &TrainArgs,
    output: &Path,
    done: Done,
) -> Result<ExitCode, CommandError> {
    let Done {
        ended,
        steps,
        report,
    } = done;
    let console = context.console;
    if let Some(picture) = curve(&report.losses) {
        console.note(&picture);
    }
    let folder = output.display();
    if ended == Ended::Stopped {
        console.note(&format!(
            "stopped behind step {steps}; to go on: skein train --resume {folder}"
        ));
        return Ok(ExitCode::from(INTERRUPTED));
    }
    let held_out = report.evaluations.last().map(|(_, loss)| *loss);
    if args.json {
        console.json(&json!({
            "folder": output,
            "steps": steps,
            "loss": report.losses.last(),
            "held_out_loss": held_out,
            "tokens_per_second": report.tokens_per_second().round(),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let loss = report.losses.last().copied().unwrap_or(f64::NAN);
    let held_out = held_out.map_or_else(String::new, |loss| format!(", held-out loss {loss:.4}"));
    console.line(&format!(
        "{folder}: {steps} steps, loss {loss:.4}{held_out}"
    ))?;
    Ok(ExitCode::SUCCESS)
}
