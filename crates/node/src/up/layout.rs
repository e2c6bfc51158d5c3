//! Which nodes a network has and what each of them is told. Decides only.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use skein_base::{ByteSize, NodeId};
use skein_model::KvPages;
use skein_model::kv::PAGE_POSITIONS;
use skein_weights::{Profile, Slice};

use crate::budget::{self, Needs, NotEnoughMemory, Wishes};
use crate::config::{Layers, Role, Settings, Span, StageAt};

/// The gateway's name.
pub const GATEWAY: &str = "gateway";
/// After how long a silent process is left, unless the user says otherwise.
const SILENCE: Span = Span(Duration::from_secs(1));
/// Most stages; more processes than a machine should be asked for.
pub const STAGES_MAX: u32 = 64;

/// What the user asked for cannot be laid out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// More slices than layers, or none.
    #[error("the model has {layers} layers: --slices takes 1 to {layers}, not {slices}")]
    Slices {
        /// Asked for.
        slices: u32,
        /// There are.
        layers: u32,
    },
    /// Too many processes, or none.
    #[error(
        "{slices} slices x {replicas} replicas: at least 1 and at most {STAGES_MAX} stages run on one machine"
    )]
    Stages {
        /// Slices.
        slices: u32,
        /// Replicas.
        replicas: u32,
    },
    /// Not enough memory.
    #[error(transparent)]
    Memory(#[from] NotEnoughMemory),
}

/// A stage to be: its name, slice and replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `0a` is the first replica of the first slice.
    pub name: String,
    /// Its slice.
    pub slice: Slice,
}

/// All stages, slice by slice.
///
/// # Errors
/// See [`LayoutError`].
pub fn places(layers: u32, slices: u32, replicas: u32) -> Result<Vec<Place>, LayoutError> {
    let cut = Slice::even(layers, slices).ok_or(LayoutError::Slices { slices, layers })?;
    let stages = slices.checked_mul(replicas);
    if !stages.is_some_and(|stages| (1..=STAGES_MAX).contains(&stages)) {
        return Err(LayoutError::Stages { slices, replicas });
    }
    let place = |(index, slice): (usize, Slice)| {
        (0..replicas).map(move |replica| Place {
            name: format!("{index}{}", letters(replica)),
            slice: slice.clone(),
        })
    };
    Ok(cut.into_iter().enumerate().flat_map(place).collect())
}

/// a, b, … z, aa, ab, …
fn letters(mut number: u32) -> String {
    let mut text = String::new();
    loop {
        text.insert(0, char::from(b'a' + (number % 26) as u8));
        number /= 26;
        if number == 0 {
            return text;
        }
        number -= 1;
    }
}

/// For how many tokens every stage keeps keys and values, so that all replicas fit together.
///
/// # Errors
/// If not even the weights do.
pub fn kv_tokens(
    (needs, replicas): (Needs, u32),
    wishes: Wishes,
    available: Option<u64>,
) -> Result<u32, NotEnoughMemory> {
    let times = u64::from(replicas);
    let all = Needs {
        weights: needs.weights.saturating_mul(times),
        position: needs.position.saturating_mul(times),
        context: needs.context,
    };
    let bytes = budget::plan(all, wishes, available)?;
    let tokens = bytes / all.position.max(1);
    Ok(u32::try_from(tokens)
        .unwrap_or(u32::MAX)
        .max(PAGE_POSITIONS as u32))
}

/// A node to be, with its key and address.
#[derive(Debug, Clone)]
pub struct Member {
    /// [`GATEWAY`], or the name of a [`Place`].
    pub name: String,
    /// Its id.
    pub node: NodeId,
    /// The slice, of a stage.
    pub slice: Option<Slice>,
    /// Where it listens for links, a stage.
    pub address: Option<SocketAddr>,
    /// Its configuration.
    pub settings: Settings,
}

/// What all nodes have in common.
#[derive(Debug, Clone)]
pub struct Common<'a> {
    /// The user's settings.
    pub settings: &'a Settings,
    /// The split model.
    pub model: &'a Path,
    /// Its architecture.
    pub profile: &'a Profile,
    /// What it is called.
    pub name: &'a str,
    /// See [`kv_tokens`].
    pub kv_tokens: u32,
    /// The folder of each node is in here.
    pub nodes: &'a Path,
}

/// The gateway, then the stages, each with what it is told. Keys and addresses are those of
/// `stages`, in their order.
pub fn members(
    common: &Common<'_>,
    gateway: NodeId,
    stages: &[(Place, NodeId, SocketAddr)],
) -> Vec<Member> {
    let base = base(common);
    let mut entry = base.clone();
    entry.node.roles = vec![Role::Gateway];
    entry.node.key_file = Some(key_file(common.nodes, GATEWAY));
    entry.gateway = common.settings.gateway.clone();
    entry.model.name = Some(common.name.to_owned());
    entry.network = common.settings.network.clone();
    entry.network.kv_tokens = common.kv_tokens;
    entry.network.stages = stages
        .iter()
        .map(|(place, node, address)| StageAt {
            layers: Layers(place.slice.layers.clone()),
            node: *node,
            address: *address,
        })
        .collect();
    let everybody: Vec<_> = stages.iter().map(|(_, node, _)| *node).collect();
    let stage = |(place, node, address): &(Place, NodeId, SocketAddr)| {
        let mut settings = base.clone();
        settings.node.roles = vec![Role::Stage];
        settings.node.listen = Some(*address);
        settings.node.key_file = Some(key_file(common.nodes, &place.name));
        settings.node.admit = everybody.iter().copied().chain([gateway]).collect();
        settings.stage.layers = Some(Layers(place.slice.layers.clone()));
        settings.engine.kv_memory = Some(kv_memory(common, &place.slice));
        // A stage reaches the next ones by their ids.
        settings.network.stages = entry.network.stages.clone();
        Member {
            name: place.name.clone(),
            node: *node,
            slice: Some(place.slice.clone()),
            address: Some(*address),
            settings,
        }
    };
    let stages: Vec<_> = stages.iter().map(stage).collect();
    let entry = Member {
        name: GATEWAY.to_owned(),
        node: gateway,
        slice: None,
        address: None,
        settings: entry,
    };
    std::iter::once(entry).chain(stages).collect()
}

fn base(common: &Common<'_>) -> Settings {
    let user = common.settings;
    let mut base = Settings {
        engine: user.engine.clone(),
        log: user.log.clone(),
        runtime: user.runtime.clone(),
        ..Settings::default()
    };
    let (silence, usual) = (user.node.silence, Settings::default().node.silence);
    // On one machine no packet is lost: a process that says nothing hangs.
    base.node.silence = if silence == usual { SILENCE } else { silence };
    base.stage = user.stage.clone();
    base.model.path = Some(common.model.display().to_string());
    base.model.force = user.model.force;
    base.model.kv_format = user.model.kv_format;
    base.model.fetch = false;
    base.log.format = crate::config::LogFormat::Human;
    base
}

/// The file of a node's key.
pub fn key_file(nodes: &Path, name: &str) -> PathBuf {
    nodes.join(name).join("node.key")
}

fn kv_memory(common: &Common<'_>, slice: &Slice) -> ByteSize {
    let pages = u64::from(common.kv_tokens.div_ceil(PAGE_POSITIONS as u32));
    ByteSize(pages * KvPages::page_bytes_of(common.profile, slice, common.settings.model.kv_format))
}

#[cfg(test)]
mod tests {
    use super::*;
    use skein_model::KvFormat;

    #[test]
    fn places_are_named_by_slice_and_replica() {
        let names = |layers, slices, replicas| {
            let places = places(layers, slices, replicas).expect("possible");
            let name = |place: &Place| format!("{} {:?}", place.name, place.slice.layers);
            places.iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(names(5, 2, 2), ["0a 0..3", "0b 0..3", "1a 3..5", "1b 3..5"]);
        assert_eq!(names(4, 1, 1), ["0a 0..4"]);
        assert_eq!(letters(25), "z");
        assert_eq!(letters(26), "aa");
        assert_eq!(letters(27), "ab");
        for (slices, replicas) in [(0, 1), (5, 1), (1, 0), (4, 17), (4, u32::MAX)] {
            assert!(places(4, slices, replicas).is_err(), "{slices} {replicas}");
        }
    }

    #[test]
    fn what_changes_answers_reaches_all_members() {
        let (never, console) = (
            crate::hub::Fetching::never(),
            crate::console::Console::new(true, true),
        );
        let opened = crate::open::open(crate::embedded::NAME, never, console).expect("is built in");
        let mut settings = Settings::default();
        settings.model.kv_format = KvFormat::Int8;
        let profile = opened.checkpoint.profile();
        let common = Common {
            settings: &settings,
            model: Path::new("model"),
            profile,
            name: "name",
            kv_tokens: 64,
            nodes: Path::new("nodes"),
        };
        let node = |number: u8| NodeId([number; 32]);
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let places = places(profile.layers, 2, 1).expect("possible");
        let stages: Vec<_> = places
            .into_iter()
            .map(|place| (place, node(1), address))
            .collect();
        let members = members(&common, node(0), &stages);
        assert_eq!(members.len(), 3);
        for member in &members {
            assert_eq!(member.settings.model.kv_format, KvFormat::Int8);
        }
        let slice = &stages[0].0.slice;
        let page = KvPages::page_bytes_of(profile, slice, KvFormat::Int8);
        let memory = members[1].settings.engine.kv_memory;
        assert_eq!(memory, Some(ByteSize(2 * page)), "two pages of 32 tokens");
    }

    #[test]
    fn replicas_share_the_memory() {
        let needs = Needs {
            weights: 1 << 30,
            position: 1 << 10,
            context: 32 << 10,
        };
        let wishes = Wishes {
            kv: None,
            sessions: 64,
            force: false,
            smaller: None,
        };
        let tokens = |replicas, available| kv_tokens((needs, replicas), wishes, Some(available));
        let gib = 1 << 30;
        // A quarter of what is left beside 2 GiB of weights and the base.
        let expected = (10 * gib - 2 * gib - (96 << 20)) / 4 / (2 << 10);
        assert_eq!(tokens(2, 10 * gib).map(u64::from), Ok(expected));
        assert!(tokens(3, 3 * gib).is_err());
    }
}
