//! From settings to a training that can run: everything that may be refused is, before the first
//! step.

use std::path::Path;
use std::sync::Arc;

use skein_model::Pool;
use skein_model::train::{Feed, StateFile, Trainer};
use skein_model::twin::Twin;
use skein_runtime::{FileRange, FsFolder};
use skein_weights::export::{Export, SHARD_BYTES};

use super::{Job, TrainArgs, TrainCommandError};
use crate::cli::{CommandError, Context};
use crate::hub::Fetching;
use crate::node::threads;
use crate::open;
use crate::train::model::StartModel;
use crate::train::report::has_state;
use crate::train::samples::{Encoder, read_same};
use crate::train::settings::{DataFile, STATE_FILE, Settings, Start};

pub(super) fn prepare(
    context: &Context,
    args: &TrainArgs,
    mut settings: Settings,
    sink: FsFolder,
    folder: &Path,
) -> Result<Job, CommandError> {
    let model = start(context, args, &settings)?;
    check(&model, &mut settings)?;
    let setting = args
        .threads
        .unwrap_or(context.loaded.settings.engine.threads);
    let pool = Arc::new(Pool::new(threads(setting)));
    let read = |file: &DataFile, seed| feed(context, &model, &settings, &pool, (file, seed));
    let mut feed = read(&settings.data, settings.seed)?;
    let held_out = match &settings.held_out {
        Some(file) => read(file, 0)?.once(),
        None => Vec::new(),
    };
    let mut trainer = Trainer::new(
        model.profile,
        model.parameters,
        &settings.parameters(),
        settings.config(),
        pool,
    )
    .map_err(TrainCommandError::from)?;
    if args.resume.is_some() {
        let found = has_state(folder).map_err(|source| TrainCommandError::Find {
            path: folder.join(STATE_FILE),
            source,
        })?;
        match found {
            true => restore(folder, &mut trainer, &mut feed, &settings)?,
            false => context
                .console
                .note("no state was saved before it ended: beginning with the first step"),
        }
    }
    // Only now is it known that they fit the state.
    settings.write(folder).map_err(TrainCommandError::from)?;
    Ok(Job {
        sink,
        settings,
        sidecars: model.sidecars,
        trainer,
        feed,
        held_out,
    })
}

fn start(
    context: &Context,
    args: &TrainArgs,
    settings: &Settings,
) -> Result<StartModel, CommandError> {
    let model = match &settings.start {
        Start::Model(path) => {
            let fetching = Fetching::new(&context.loaded.settings.model, args.offline);
            let opened = open::open(path, fetching, context.console)?;
            StartModel::checkpoint(opened.checkpoint.as_ref())
        }
        Start::Shape { config, tokenizer } => StartModel::shape(config, tokenizer, settings.seed),
    };
    Ok(model.map_err(TrainCommandError::from)?)
}

/// Whether this model can be trained so and written at the end, and is the one of before.
fn check(model: &StartModel, settings: &mut Settings) -> Result<(), CommandError> {
    let context_max = model.profile.context as usize;
    if settings.context > context_max {
        return Err(CommandError::Usage(format!(
            "--context {} is more than the model's {context_max}",
            settings.context
        )));
    }
    let export = Export {
        weights: &Twin::new(model.profile.clone(), model.parameters.clone()),
        sidecars: &model.sidecars,
        format: settings.format.dtype(),
        shard_bytes: SHARD_BYTES,
        replace: true,
    };
    export.check().map_err(TrainCommandError::from)?;
    let digest = model.digest(!settings.has_all_weights());
    let digest = digest.map_err(TrainCommandError::from)?.to_string();
    let known = settings.start_sha256.get_or_insert_with(|| digest.clone());
    if *known != digest {
        let start = match &settings.start {
            Start::Model(model) => model.clone(),
            Start::Shape { config, .. } => config.display().to_string(),
        };
        return Err(TrainCommandError::Start { start }.into());
    }
    Ok(())
}

/// Batches of a file, in the order of this seed.
fn feed(
    context: &Context,
    model: &StartModel,
    settings: &Settings,
    pool: &Pool,
    (file, seed): (&DataFile, u64),
) -> Result<Feed, TrainCommandError> {
    let encoder = Encoder {
        tokenizer: &model.tokenizer,
        template: model.template.as_ref(),
        now_unix: settings.began_unix,
    };
    let bar = context.console.byte_bar(0);
    bar.set_message("reading");
    bar.set_length(std::fs::metadata(&file.path).map_or(0, |file| file.len()));
    let samples = read_same(file, &encoder, pool, &mut |read| bar.set_position(read))?;
    bar.finish_and_clear();
    // The last token is only predicted.
    let is_long = |count: usize| count > settings.context + 1;
    let long = samples.iter().filter(|one| is_long(one.ids().len()));
    match long.count() {
        0 => {}
        long => context.console.note(&format!(
            "{}: {long} of {} samples are longer than --context {} and are cut",
            file.path.display(),
            samples.len(),
            settings.context,
        )),
    }
    let size = [settings.batch, settings.context];
    Feed::new(samples, size, seed).map_err(|source| TrainCommandError::Feed {
        path: file.path.clone(),
        source,
    })
}

fn restore(
    folder: &Path,
    trainer: &mut Trainer,
    feed: &mut Feed,
    settings: &Settings,
) -> Result<(), TrainCommandError> {
    let path = folder.join(STATE_FILE);
    let failed = |source| TrainCommandError::State {
        path: path.clone(),
        source,
    };
    let file = FileRange::open(&path).map_err(|source| failed(source.into()))?;
    let state = StateFile::open(&file).map_err(failed)?;
    state.restore(trainer).map_err(failed)?;
    feed.seek(state.position())
        .map_err(|source| TrainCommandError::Feed {
            path: settings.data.path.clone(),
            source,
        })
}
