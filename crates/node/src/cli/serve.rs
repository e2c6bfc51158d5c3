//! `skein serve` and `skein node`: one process with its roles.

use std::future::{Future, pending};
use std::io::Read as _;
use std::process::ExitCode;

use super::args::NodeArgs;
use super::{CommandError, Context};
use crate::config::{Role, Settings};
use crate::embedded;
use crate::hub::Fetching;
use crate::node::{self, Listeners, Node, NodeError};
use crate::open;
use crate::stop::{INTERRUPTED, StopSignals};
use crate::up::supervisor::die_with_parent;

/// The gateway with the whole model in its own process.
pub(super) fn serve(context: &Context) -> Result<ExitCode, CommandError> {
    let mut settings = context.loaded.settings.clone();
    settings.node.roles = vec![Role::Gateway];
    settings
        .model
        .path
        .get_or_insert_with(|| embedded::NAME.to_owned());
    settings.node.listen = None;
    settings.network.stages.clear();
    start(context, settings, false)
}

/// Whatever the configuration says.
pub(super) fn node(context: &Context, args: &NodeArgs) -> Result<ExitCode, CommandError> {
    start(context, context.loaded.settings.clone(), args.supervised)
}

fn start(
    context: &Context,
    settings: Settings,
    supervised: bool,
) -> Result<ExitCode, CommandError> {
    let path = settings.model.path.as_deref().ok_or(NodeError::NoModel)?;
    // What is quick to find out comes before what takes long.
    node::check_settings(&settings)?;
    let listeners = Listeners::take(&settings)?;
    let lines = ready_lines(&settings, &listeners)?;
    let opened = open::open(path, Fetching::new(&settings.model, false), context.console)?;
    let runtime = node::runtime()?;
    let stop = settings.runtime.stop.0;
    if supervised && die_with_parent() {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    let done = runtime.block_on(async {
        let mut signals = StopSignals::new().map_err(NodeError::System)?;
        let mut orphaned = std::pin::pin!(orphaned(supervised));
        let starting =
            tokio::task::spawn_blocking(move || Node::start(&opened, &settings, listeners));
        let node = tokio::select! {
            node = starting => node.map_err(|error| NodeError::Failed(error.to_string()))??,
            // Nothing is held yet that would have to be ended in order.
            _ = signals.next() => return Ok(ExitCode::from(INTERRUPTED)),
            () = &mut orphaned => return Ok(ExitCode::from(INTERRUPTED)),
        };
        if let Some(id) = node.id() {
            context.console.line(&format!("node {id}"))?;
        }
        for line in lines {
            context.console.line(&line)?;
        }
        node.run(&mut signals, orphaned).await?;
        Ok(ExitCode::SUCCESS)
    });
    match supervised {
        // The thread that waits for the end of standard input would be waited for.
        true => runtime.shutdown_background(),
        false => runtime.shutdown_timeout(stop),
    }
    done
}

/// What is said when everything is ready, with the ports that were found.
fn ready_lines(settings: &Settings, listeners: &Listeners) -> Result<Vec<String>, NodeError> {
    let mut lines = Vec::new();
    let scheme = match settings.gateway.tls_certificate {
        Some(_) => "https",
        None => "http",
    };
    let all = [
        (&listeners.node, "links on ".to_owned()),
        (&listeners.metrics, format!("metrics on {scheme}://")),
        // Last: whoever waits for it finds the rest before.
        (&listeners.gateway, format!("listening on {scheme}://")),
    ];
    for (listener, what) in all {
        if let Some(listener) = listener {
            let address = listener.local_addr().map_err(NodeError::System)?;
            lines.push(format!("{what}{address}"));
        }
    }
    Ok(lines)
}

/// Done when whoever started a supervised process is gone: it holds the other end of standard input.
fn orphaned(supervised: bool) -> impl Future<Output = ()> {
    let watching = supervised.then(|| {
        tokio::task::spawn_blocking(|| {
            let mut nothing = [0; 64];
            let mut stdin = std::io::stdin().lock();
            while stdin.read(&mut nothing).is_ok_and(|read| read > 0) {}
        })
    });
    async move {
        match watching {
            Some(watching) => drop(watching.await),
            None => pending().await,
        }
    }
}
