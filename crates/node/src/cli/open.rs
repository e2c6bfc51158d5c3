//! `skein model fetch`.

use std::process::ExitCode;

use super::{CommandError, Context};
use crate::hub::{self, Fetching};
use crate::locate::{LocateError, Place, locate};
use crate::open::OpenError;

pub(super) fn fetch(context: &Context, text: &str) -> Result<ExitCode, CommandError> {
    let place = match locate(text) {
        Ok(place) => place,
        // Here a name can only be one of the hub's.
        Err(LocateError::NotFound { text, .. }) => {
            return Err(CommandError::Usage(format!(
                "{text} is no org/name@commit of the hub"
            )));
        }
        Err(error) => return Err(OpenError::from(error).into()),
    };
    let Place::Hub(repository) = place else {
        return Err(CommandError::Usage(format!(
            "{text} is here already: nothing is to be fetched"
        )));
    };
    let fetching = Fetching::new(&context.loaded.settings.model, false);
    let folder = hub::fetch(&repository, fetching, context.console).map_err(OpenError::from)?;
    context.console.line(&folder.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}
