//! Log lines on standard error.

use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogFormat, LogSettings};
use crate::console::Console;

/// The filter cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "log.level {level:?} cannot be read ({reason}): write error, warn, info, debug or trace, or parts such as info,skein_gateway=debug"
)]
pub struct LogError {
    /// What was given.
    pub level: String,
    /// What the parser said.
    pub reason: String,
}

/// Checks a filter.
pub fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let refuse = |reason: String| LogError {
        level: level.to_owned(),
        reason,
    };
    // The parser takes any word for the name of a part, so a misspelt level would silence all.
    let levels = ["error", "warn", "info", "debug", "trace", "off"];
    for part in level.split(',').map(str::trim) {
        let word = part.rsplit('=').next().unwrap_or(part);
        if !levels.contains(&word.to_ascii_lowercase().as_str()) {
            return Err(refuse(format!("{word:?} is no level")));
        }
    }
    EnvFilter::builder()
        .parse(level)
        .map_err(|error| refuse(error.to_string()))
}

/// Starts logging for the whole process. A second call changes nothing.
pub fn start(settings: &LogSettings, console: Console) -> Result<(), LogError> {
    let filter = filter(&settings.level)?;
    let json = match settings.format {
        LogFormat::Auto => !console.terminal,
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(console.color);
    // Already started: many nodes fit into one process, and the first one's settings hold.
    let _ = match json {
        true => builder.json().flatten_event(true).finish().try_init(),
        false => builder.with_target(false).finish().try_init(),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_checked() {
        for good in [
            "info",
            "WARN",
            "info,skein_gateway=debug",
            "skein_model=trace",
        ] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["inof", "info,skein_gateway=loud", "", "3"] {
            let message = filter(bad).expect_err(bad).to_string();
            assert!(
                message.contains("is no level") && message.contains("debug"),
                "{message}"
            );
        }
    }
}
