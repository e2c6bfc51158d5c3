//! `skein up`: a whole network on this machine, on one calm screen.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use skein_base::ByteSize;
use skein_runtime::{CancellationToken, Tasks};
use skein_weights::Slice;
use skein_weights::slices::SlicePlan;
use tokio::sync::mpsc;

use super::args::UpArgs;
use super::split::{self, SplitWish};
use super::{CommandError, Context, environment};
use crate::budget::{self, Wishes};
use crate::config::Settings;
use crate::console::Console;
use crate::embedded;
use crate::hub::Fetching;
use crate::memory;
use crate::node::{self, NodeError};
use crate::open::{self, Opened};
use crate::roles::identity::identity;
use crate::stop::{INTERRUPTED, StopSignals};
use crate::up::layout::{self, Common, GATEWAY, LayoutError, Member, Place};
use crate::up::state::{State, StateError, free_addresses, is_split};
use crate::up::supervisor::{Event, Files, Watched, keep_running};

/// Most events of processes that wait to be shown.
const EVENTS_MAX: usize = 256;

/// Why a network did not start or went down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpError {
    /// It cannot be laid out.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// There is no place for the state folder.
    #[error("where to keep the network's state? There is no HOME: give --state DIR")]
    NoHome,
    /// A process never became ready.
    #[error("{name} does not start: {why}\nits log is {}", log.display())]
    GivenUp {
        /// Which.
        name: String,
        /// How it ended, and the end of its log.
        why: String,
        /// Its log.
        log: PathBuf,
    },
}

pub(super) fn up(context: &Context, args: &UpArgs) -> Result<ExitCode, CommandError> {
    let console = context.console;
    let mut settings = context.loaded.settings.clone();
    settings.node.roles = vec![crate::config::Role::Gateway];
    let path = settings.model.path.as_deref().unwrap_or(embedded::NAME);
    node::check_settings(&settings)?;
    let opened = open::open(path, Fetching::new(&settings.model, false), console)?;
    let layers = opened.checkpoint.profile().layers;
    let slices = args.slices.unwrap_or_else(|| layers.min(SLICES));
    let places = layout::places(layers, slices, args.replicas).map_err(UpError::from)?;
    let name = settings
        .model
        .name
        .clone()
        .unwrap_or_else(|| opened.name.clone());
    let state = State::take(&state_folder(args, &name)?).map_err(UpError::from)?;
    settings.gateway.listen = listen_address(settings.gateway.listen)?;
    let Some(model) = split_model(console, &state, opened, &settings)? else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let members = members(&state, &settings, (&model, &name), (places, args.replicas))?;
    let network = Network {
        console,
        state,
        name,
        slices,
        replicas: args.replicas,
        watched: members.into_iter().map(watched).collect(),
        url: None,
        welcomed: false,
        stop: settings.runtime.stop.0,
        drain: settings.runtime.drain.0,
    };
    // Everything on this thread, which lives as long as the process: children are told by the system
    // when the thread that started them is gone.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(NodeError::System)?;
    runtime.block_on(network.run())
}

/// Slices where the user does not say.
const SLICES: u32 = 3;

fn watched(member: Member) -> Watched {
    Watched {
        member,
        pid: None,
        ready: false,
        restarts: 0,
    }
}

/// The user's choice, else a folder by the model's name in the user's state folder.
fn state_folder(args: &UpArgs, name: &str) -> Result<PathBuf, UpError> {
    if let Some(folder) = &args.state {
        return Ok(folder.clone());
    }
    let home = || environment("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let base = environment("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(home);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let safe: String = name
        .chars()
        .map(|c| if plain(c) { c } else { '-' })
        .collect();
    let safe = safe.trim_start_matches('.');
    let safe = if safe.is_empty() { "model" } else { safe };
    Ok(base.ok_or(UpError::NoHome)?.join("skein").join(safe))
}

/// Makes sure that the address can be had, and settles its port: after a restart the gateway shall be
/// where clients know it.
fn listen_address(wanted: SocketAddr) -> Result<SocketAddr, NodeError> {
    let listener = node::listen(wanted, "--listen")?;
    listener.local_addr().map_err(NodeError::System)
}

/// The model as a split folder: as it is, or split into the state folder. `None` if interrupted.
fn split_model(
    console: Console,
    state: &State,
    opened: Opened,
    settings: &Settings,
) -> Result<Option<Opened>, CommandError> {
    if opened.checkpoint.model_id().is_some() {
        return Ok(Some(opened));
    }
    let failed = |source| StateError::Io {
        path: state.root().to_owned(),
        source,
    };
    let folder = state.model_folder(&opened.path, settings.model.format);
    let folder = folder.map_err(failed).map_err(UpError::from)?;
    if !is_split(&folder) {
        console.note(&format!("splitting the model into {}", folder.display()));
        let wish = SplitWish {
            format: settings.model.format,
            slices: SlicePlan::Even(1),
        };
        if split::write(console, opened, &folder, wish)?.is_none() {
            return Ok(None);
        }
        state
            .remove_other_models(&folder)
            .map_err(failed)
            .map_err(UpError::from)?;
    }
    let folder = folder.display().to_string();
    Ok(Some(open::open(&folder, Fetching::never(), console)?))
}

/// All nodes with keys, addresses and memory; their configurations are written.
fn members(
    state: &State,
    settings: &Settings,
    (model, name): (&Opened, &str),
    (places, replicas): (Vec<Place>, u32),
) -> Result<Vec<Member>, CommandError> {
    let checkpoint = model.checkpoint.as_ref();
    let profile = checkpoint.profile();
    let wishes = Wishes {
        kv: settings.engine.kv_memory.map(|size| size.0),
        sessions: u64::from(settings.engine.sessions_max),
        force: settings.model.force,
        smaller: None,
    };
    let needs = budget::needs(
        checkpoint,
        &Slice::whole(profile.layers),
        None,
        settings.model.kv_format,
    );
    let available = memory::available().map(|size| size.0);
    let kv_tokens = layout::kv_tokens((needs, replicas), wishes, available);
    let kv_tokens = kv_tokens.map_err(|error| UpError::Layout(error.into()))?;
    let nodes = state.nodes();
    let id = |name: &str| -> Result<_, CommandError> {
        state.make_node(name).map_err(UpError::from)?;
        let identity = identity(Some(&layout::key_file(&nodes, name)));
        Ok(identity.map_err(NodeError::from)?.node())
    };
    let addresses = free_addresses(places.len()).map_err(NodeError::System)?;
    let mut stages = Vec::new();
    for (place, address) in places.into_iter().zip(addresses) {
        let node = id(&place.name)?;
        stages.push((place, node, address));
    }
    let common = Common {
        settings,
        model: &model.path,
        profile,
        name,
        kv_tokens,
        nodes: &nodes,
    };
    let members = layout::members(&common, id(GATEWAY)?, &stages);
    for member in &members {
        state.write_config(member).map_err(UpError::from)?;
        begin_log(&state.log(&member.name))?;
    }
    Ok(members)
}

/// Each start of the network begins its logs anew.
fn begin_log(path: &Path) -> Result<(), CommandError> {
    std::fs::write(path, "").map_err(|source| CommandError::Io {
        what: format!("cannot write {}", path.display()),
        source,
    })
}

struct Network {
    console: Console,
    state: State,
    name: String,
    slices: u32,
    replicas: u32,
    watched: Vec<Watched>,
    url: Option<String>,
    /// Whether what runs was shown.
    welcomed: bool,
    stop: std::time::Duration,
    drain: std::time::Duration,
}

impl Network {
    async fn run(mut self) -> Result<ExitCode, CommandError> {
        let mut signals = StopSignals::new().map_err(NodeError::System)?;
        let program = std::env::current_exe().map_err(|source| CommandError::Io {
            what: "cannot find this program".to_owned(),
            source,
        })?;
        let (sender, mut events) = mpsc::channel(EVENTS_MAX);
        let handle = tokio::runtime::Handle::current();
        // The gateway ends before the stages: its answers need them.
        let (gateway, stages) = (Tasks::new(handle.clone()), Tasks::new(handle));
        for (index, watched) in self.watched.iter().enumerate() {
            let name = &watched.member.name;
            let files = Files {
                program: program.clone(),
                config: self.state.config(name),
                log: self.state.log(name),
            };
            let (tasks, patience) = match watched.member.slice {
                None => (&gateway, self.drain + self.stop * 3),
                Some(_) => (&stages, self.stop * 3),
            };
            let ends = (tasks.stopping(), patience);
            let task = keep_running(index, files, sender.clone(), ends);
            tasks.spawn(name.clone(), task);
        }
        drop(sender);
        self.keep_files()?;
        let count = self.watched.len();
        self.console.note(&format!("starting {count} processes"));
        let outcome = loop {
            tokio::select! {
                name = signals.next() => break Ok(name),
                event = events.recv() => match event {
                    Some(event) => if let Err(error) = self.event(event) { break Err(error) },
                    None => break Ok("end"),
                },
            }
        };
        if outcome.is_ok() {
            self.console
                .note("ending the network; once more leaves at once");
        }
        let ending = self.end_all((&gateway, &stages), &mut events);
        signals.or_exit(ending).await;
        self.state.forget_network();
        outcome.map(|_| ExitCode::SUCCESS)
    }

    async fn end_all(
        &self,
        (gateway, stages): (&Tasks, &Tasks),
        events: &mut mpsc::Receiver<Event>,
    ) {
        let drained = CancellationToken::new();
        let ending = async {
            for tasks in [gateway, stages] {
                // Each process has its own deadline, after which it is killed.
                let longest = self.drain + self.stop * 6;
                let report = tasks.shutdown(longest).await;
                if !report.is_clean() {
                    tracing::warn!(?report, "not everything ended in order");
                }
            }
            drained.cancel();
        };
        // Nobody shows them any more, but those who send must not wait.
        let drain =
            async { while let (false, Some(_)) = (drained.is_cancelled(), events.recv().await) {} };
        tokio::select! {
            () = ending => {}
            () = async { drain.await; std::future::pending().await } => {}
        }
    }

    fn event(&mut self, event: Event) -> Result<(), CommandError> {
        match event {
            Event::Started { index, pid } => self.watched[index].pid = Some(pid),
            Event::Ready { index, url } => {
                let watched = &mut self.watched[index];
                watched.ready = true;
                let (what, again) = (title(watched), watched.restarts > 0);
                if url.is_some() {
                    self.url = url;
                }
                self.keep_files()?;
                if again {
                    self.console.note(&format!("{what} is back"));
                }
                if self.all_ready() && !std::mem::replace(&mut self.welcomed, true) {
                    self.welcome()?;
                }
                return Ok(());
            }
            Event::Ended { index, how } => {
                let watched = &mut self.watched[index];
                watched.pid = None;
                watched.ready = false;
                watched.restarts += 1;
                let what = title(watched);
                self.console
                    .note(&format!("{what} {how}; starting it again"));
            }
            Event::GivenUp { index, why } => {
                let name = self.watched[index].member.name.clone();
                let (log, name) = (self.state.log(&name), title(&self.watched[index]));
                return Err(UpError::GivenUp { name, why, log }.into());
            }
        }
        self.keep_files()
    }

    fn all_ready(&self) -> bool {
        self.watched.iter().all(|watched| watched.ready)
    }

    fn keep_files(&self) -> Result<(), CommandError> {
        let kept = self.state.write_network(self.url.as_deref(), &self.watched);
        Ok(kept.map_err(UpError::from)?)
    }

    /// What runs and how to talk to it.
    fn welcome(&self) -> io::Result<()> {
        let url = self.url.as_deref().unwrap_or_default();
        let (slices, replicas) = (self.slices, self.replicas);
        let mut text = format!(
            "\n{} in {slices} slices x {replicas} replicas, {} processes on this machine\n",
            self.name,
            self.watched.len()
        );
        let mut shown = None;
        for watched in &self.watched {
            let Some(slice) = &watched.member.slice else {
                continue;
            };
            if shown != Some(slice) {
                let (first, last) = (slice.layers.start, slice.layers.end - 1);
                text.push_str(&format!("\n  layers {:<9}", format!("{first}-{last}")));
                shown = Some(slice);
            }
            let kv = watched
                .member
                .settings
                .engine
                .kv_memory
                .unwrap_or(ByteSize(0));
            let id = watched.member.node.to_string();
            text.push_str(&format!("  {} {} (KV {kv})", watched.member.name, &id[..8]));
        }
        let state = self.state.root().display();
        text.push_str(&format!(
            "\n\n  API     {url}/v1\n  chat    skein chat --url {url}\n  status  skein status --url {url} --watch\n  state   {state} (logs in nodes/*/log)\n\nCtrl-C ends all of it.\n"
        ));
        self.console.note(&text);
        self.console.line(&format!("listening on {url}"))
    }
}

fn title(watched: &Watched) -> String {
    match watched.member.slice {
        None => "the gateway".to_owned(),
        Some(_) => format!("stage {}", watched.member.name),
    }
}
