//! `skein keys`.

use std::process::ExitCode;

use skein_gateway::KeyLimits;

use super::args::KeysNewArgs;
use super::{CommandError, Context};
use crate::keys::{self, KeysError};

pub(super) fn new(context: &Context, args: &KeysNewArgs) -> Result<ExitCode, CommandError> {
    let configured = context.loaded.settings.gateway.keys_file.clone();
    let file = args.file.clone().or(configured).ok_or(KeysError::NoFile)?;
    let limits = KeyLimits {
        requests_per_minute: args.requests_per_minute,
        tokens_per_minute: args.tokens_per_minute,
    };
    let key = keys::add(&file, &args.name, limits)?;
    context.console.note(&format!(
        "this key is shown once; {} keeps its hash alone (give that file to skein serve --keys-file)",
        file.display()
    ));
    context.console.line(&key)?;
    Ok(ExitCode::SUCCESS)
}
