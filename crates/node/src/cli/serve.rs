//! `skein serve`.

use std::process::ExitCode;

use super::{CommandError, Context};
use crate::hub::Fetching;
use crate::node::{self, Node, NodeError};
use crate::open;
use crate::stop::{INTERRUPTED, StopSignals};

pub(super) fn serve(context: &Context) -> Result<ExitCode, CommandError> {
    let settings = &context.loaded.settings;
    let path = settings.model.path.as_deref().ok_or(NodeError::NoModel)?;
    // What is quick to find out comes before what takes long.
    node::check_settings(settings)?;
    let listener = node::listen(settings.gateway.listen)?;
    let address = listener.local_addr().map_err(|source| NodeError::Listen {
        listen: settings.gateway.listen,
        source,
    })?;
    let opened = open::open(path, Fetching::new(&settings.model, false), context.console)?;
    let runtime = node::runtime()?;
    let start = settings.clone();
    let done = runtime.block_on(async {
        let mut signals = StopSignals::new().map_err(NodeError::System)?;
        let starting = tokio::task::spawn_blocking(move || Node::start(&opened, &start, listener));
        let node = tokio::select! {
            node = starting => node.map_err(|error| NodeError::Failed(error.to_string()))??,
            // Nothing is held yet that would have to be ended in order.
            _ = signals.next() => return Ok(ExitCode::from(INTERRUPTED)),
        };
        let scheme = if settings.gateway.tls_certificate.is_some() {
            "https"
        } else {
            "http"
        };
        context
            .console
            .line(&format!("listening on {scheme}://{address}"))?;
        node.run(&mut signals).await?;
        Ok(ExitCode::SUCCESS)
    });
    runtime.shutdown_timeout(settings.runtime.stop.0);
    done
}
