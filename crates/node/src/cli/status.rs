//! `skein status`: how a server and the stages of its models are.

mod screen;
mod table;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use self::screen::Screen;
use super::answerer::client;
use super::{CommandError, Context};
use crate::node::{self, NodeError};
use crate::remote::{Address, Client, NetworkAnswer, RemoteError};
use crate::stop::StopSignals;

/// How long a picture stands.
const INTERVAL: Duration = Duration::from_secs(1);

/// Arguments of `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// The server [default: where gateway.listen says, http://127.0.0.1:8080]. Its key, if it asks
    /// for one, is taken from the environment variable SKEIN_API_KEY.
    #[arg(long, value_name = "URL")]
    pub url: Option<Address>,
    /// Look again every second until Ctrl-C. On a terminal the picture is redrawn in its place,
    /// elsewhere one follows the other.
    #[arg(long, short)]
    pub watch: bool,
    /// For programs: what GET /v1/network says, on one line.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn status(context: &Context, args: &StatusArgs) -> Result<ExitCode, CommandError> {
    let client = client(context, args.url.as_ref())?;
    let first = client.network()?;
    if !args.watch {
        context.console.text(&picture(&first, args.json))?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = node::runtime()?;
    let watched = runtime.block_on(watch(context, &client, args.json, first));
    // A query that nobody waits for any more ends at once.
    client.close();
    runtime.shutdown_timeout(context.loaded.settings.runtime.stop.0);
    watched.map(|()| ExitCode::SUCCESS)
}

/// Shows one picture after the other until a signal comes.
async fn watch(
    context: &Context,
    client: &Client,
    json: bool,
    first: NetworkAnswer,
) -> Result<(), CommandError> {
    let mut signals = StopSignals::new().map_err(NodeError::System)?;
    let screen = match context.console.screen && !json {
        true => Some(Screen::open().map_err(CommandError::Output)?),
        false => None,
    };
    let mut answer = Ok(first);
    loop {
        match (&screen, &answer) {
            (Some(screen), answer) => screen.draw(&described(answer))?,
            (None, Ok(answer)) => context.console.text(&block(answer, json))?,
            (None, Err(error)) => context.console.note(&node::chain(error)),
        }
        let next = async {
            skein_runtime::sleep(INTERVAL).await;
            let client = client.clone();
            skein_runtime::blocking(move || client.network()).await
        };
        answer = tokio::select! {
            biased;
            _ = signals.next() => return Ok(()),
            next = next => next.ok_or_else(|| NodeError::Failed("a query panicked".to_owned()))?,
        };
    }
}

fn picture(answer: &NetworkAnswer, json: bool) -> String {
    match json {
        true => format!("{}\n", answer.text.trim_end()),
        false => table::of(&answer.network),
    }
}

/// A picture among others: an empty line ends each.
fn block(answer: &NetworkAnswer, json: bool) -> String {
    let end = if json { "" } else { "\n" };
    format!("{}{end}", picture(answer, json))
}

/// What is shown in place of the last picture.
fn described(answer: &Result<NetworkAnswer, RemoteError>) -> String {
    match answer {
        Ok(answer) => table::of(&answer.network),
        Err(error) => format!("{}\n\nasking again every second\n", node::chain(error)),
    }
}
