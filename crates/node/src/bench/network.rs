//! A network for a measurement: stages as processes, the entry in this one.

use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use skein_base::NodeId;
use skein_model::KvFormat;
use skein_routing::Inbox;
use skein_runtime::{Clock, Secret32, Tasks};
use skein_serving::{Engine, EngineConfig};

use super::delay;
use crate::config::Settings;
use crate::node::{NodeError, engine_config};
use crate::open::Opened;
use crate::roles::entry;
use crate::roles::identity::identity;
use crate::roles::links::{self, Recipients};
use crate::up::layout::{self, Common, Member};
use crate::up::state::{State, free_addresses};
use crate::up::supervisor::forget_settings;

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Slices.
    pub stages: u32,
    /// Stages of each slice.
    pub replicas: u32,
    /// Tokens for which every stage has KV.
    pub kv_tokens: u32,
    /// Threads of each stage.
    pub threads: u32,
    /// Rows of prompts in one batch.
    pub prefill_rows: u32,
    /// What keys and values are held in.
    pub kv_format: KvFormat,
    /// One way of each link, if they shall be long.
    pub delay: Option<Duration>,
}

/// A network that runs.
#[derive(Debug)]
pub struct Running {
    stages: Vec<Stage>,
    members: Vec<Member>,
    files: Vec<(PathBuf, PathBuf)>,
    engine: Engine,
    links: Tasks,
    delays: Tasks,
}

/// Ends when dropped: its standard input does, and then it is killed.
#[derive(Debug)]
struct Stage {
    child: Child,
    _stdin: Option<ChildStdin>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// Starts stages of a split model and an entry to them. Must be called within a runtime.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub fn start(
        opened: &Opened,
        state: &State,
        wanted: Wanted,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, NodeError> {
        let failed = |error: String| NodeError::Failed(error);
        let owner = || Tasks::new(tokio::runtime::Handle::current());
        let (delays, link_tasks) = (owner(), owner());
        let members = members(opened, state, (wanted, &delays), clock);
        let members = members?;
        let mut stages = Vec::new();
        let mut files = Vec::new();
        for member in &members[1..] {
            state
                .write_config(member)
                .map_err(|error| failed(error.to_string()))?;
            let (config, log) = (state.config(&member.name), state.log(&member.name));
            stages.push(spawn(&config, &log).map_err(NodeError::System)?);
            files.push((config, log));
        }
        for stage in &mut stages {
            wait_until_ready(&mut stage.child).map_err(failed)?;
        }
        let settings = &members[0].settings;
        let own = identity(settings.node.key_file.as_deref())?;
        let inbox = Inbox::new();
        let recipients = Recipients {
            host: None,
            inbox: Some(inbox.clone()),
        };
        let addresses = entry::addresses(&settings.network);
        let ends = (&link_tasks, recipients);
        let links = links::start(own, None, addresses, &settings.node, ends);
        let links = links.map_err(NodeError::System)?;
        let pipeline = entry::pipeline(opened, settings, (links, inbox))?;
        let config = config(settings)?;
        let engine = Engine::start_with(pipeline, config, Arc::clone(clock), Secret32::random()?)?;
        Ok(Self {
            stages,
            members,
            files,
            engine,
            links: link_tasks,
            delays,
        })
    }

    /// The entry.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Kills the process of a node, as by SIGKILL. Its index, for [`Self::restart`].
    pub fn kill(&mut self, node: NodeId) -> Option<usize> {
        let index = self.members[1..].iter().position(|m| m.node == node)?;
        // It may have ended by itself, which is as good.
        let _ = self.stages[index].child.kill();
        Some(index)
    }

    /// Starts a process again; ready or not.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn restart(&mut self, index: usize) -> Result<(), NodeError> {
        let (config, log) = &self.files[index];
        // Its port is free once it is gone.
        self.stages[index].child.wait().map_err(NodeError::System)?;
        self.stages[index] = spawn(config, log).map_err(NodeError::System)?;
        Ok(())
    }

    /// Waits until a process that was started again is ready.
    ///
    /// # Errors
    /// If it ended before.
    pub fn wait(&mut self, index: usize) -> Result<(), NodeError> {
        wait_until_ready(&mut self.stages[index].child).map_err(NodeError::Failed)
    }

    /// Ends all of it.
    ///
    /// # Cancel safety
    /// Cancelled, the rest ends as it is dropped.
    pub async fn end(self) {
        self.engine.shutdown(Duration::ZERO).await;
        let second = Duration::from_secs(1);
        let _ = self.links.shutdown(second).await;
        drop(self.stages);
        let _ = self.delays.shutdown(second).await;
    }
}

/// Nothing waits behind the measurement.
fn config(settings: &Settings) -> Result<EngineConfig, NodeError> {
    Ok(EngineConfig {
        retained_max: 0,
        ..engine_config(&settings.engine)?
    })
}

fn members(
    opened: &Opened,
    state: &State,
    (wanted, delays): (Wanted, &Tasks),
    clock: &Arc<dyn Clock>,
) -> Result<Vec<Member>, NodeError> {
    let failed = |error: &dyn std::error::Error| NodeError::Failed(error.to_string());
    let profile = opened.checkpoint.profile();
    let places =
        layout::places(profile.layers, wanted.stages, wanted.replicas).map_err(|e| failed(&e))?;
    let nodes = state.nodes();
    let id = |name: &str| {
        state.make_node(name).map_err(|error| failed(&error))?;
        Ok::<_, NodeError>(identity(Some(&layout::key_file(&nodes, name)))?.node())
    };
    let real = free_addresses(places.len()).map_err(NodeError::System)?;
    let mut stages = Vec::new();
    for (place, address) in places.into_iter().zip(&real) {
        let node = id(&place.name)?;
        let shown = shown(*address, wanted.delay, (delays, clock)).map_err(NodeError::System)?;
        stages.push((place, node, shown));
    }
    let mut settings = Settings::default();
    settings.engine.threads = wanted.threads;
    settings.engine.prefill_rows_max = wanted.prefill_rows;
    settings.model.force = true;
    settings.model.kv_format = wanted.kv_format;
    let common = Common {
        settings: &settings,
        model: &opened.path,
        profile,
        name: &opened.name,
        kv_tokens: wanted.kv_tokens,
        nodes: &nodes,
    };
    let mut members = layout::members(&common, id(layout::GATEWAY)?, &stages);
    for (member, address) in members[1..].iter_mut().zip(real) {
        member.settings.node.listen = Some(address);
    }
    Ok(members)
}

/// Where others find a stage: itself, or the near end of a long link to it.
fn shown(
    address: SocketAddr,
    delay: Option<Duration>,
    surroundings: (&Tasks, &Arc<dyn Clock>),
) -> io::Result<SocketAddr> {
    match delay {
        None => Ok(address),
        Some(delay) => delay::start(address, delay, surroundings),
    }
}

fn spawn(config: &Path, log: &Path) -> io::Result<Stage> {
    let log = std::fs::File::create(log)?;
    let mut command = Command::new(std::env::current_exe()?);
    forget_settings(|name| {
        command.env_remove(name);
    });
    let mut child = command
        .arg("--config")
        .arg(config)
        .args(["node", "--supervised"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()?;
    let stdin = child.stdin.take();
    Ok(Stage {
        child,
        _stdin: stdin,
    })
}

fn wait_until_ready(child: &mut Child) -> Result<(), String> {
    let stdout = child.stdout.take().ok_or("a stage has no output")?;
    for line in BufReader::new(stdout).lines() {
        let line = line.map_err(|error| error.to_string())?;
        if line.starts_with("links on ") {
            return Ok(());
        }
    }
    Err("a stage ended before it was ready".to_owned())
}
