//! Stages and links on a virtual clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skein_base::{ModelId, NodeId};
use skein_model::{KvFormat, KvPages};
use skein_routing::{
    Inbox, Incoming, Mode, ModelSpec, Pipeline, PipelineConfig, Post, PostError, StageRecord,
    StaticDirectory,
};
use skein_runtime::{Clock as _, Instant, ManualClock, Secret32};
use skein_serving::ModelStage;
use skein_serving::host::{Host, HostConfig, LinkId, Sender, SliceIdentity, To};
use skein_serving::wire::{CircuitId, Message, Outcome, decode, encode};
use skein_weights::source::WeightSource as _;
use skein_weights::{HfCheckpoint, Slice};

use crate::random::Random;
use crate::reference::{checkpoint, load};

/// The node of the entry.
pub const ENTRY: NodeId = NodeId([0; 32]);
/// KV pages of every stage; a request of [`crate::requests`] takes at most three.
pub const PAGES: u32 = 10;
/// After how long a silent link counts as gone.
const SILENCE: Duration = Duration::from_millis(100);

/// What a network looks like.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// The fixture.
    pub model: &'static str,
    /// Into how many slices it is cut.
    pub slices: u32,
    /// Stages of each slice.
    pub replicas: u8,
    /// Who carries rows.
    pub mode: Mode,
}

/// What goes wrong, once in so many milliseconds (answers, for the liars); 0 is never.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// A stage dies, stops, or everything is mended.
    pub stages: usize,
    /// A link loses what it carries; its ends learn of it later.
    pub links: usize,
    /// The answer of a stage is falsified.
    pub answers: usize,
    /// Longest time on a link, in milliseconds.
    pub delay: usize,
    /// The first stage takes so many milliseconds for a pass.
    pub slow: u64,
}

/// What the entry hands over, until the net takes it.
#[derive(Debug, Clone, Default)]
pub struct Outbox(Arc<Mutex<Vec<(NodeId, Message)>>>);

impl Post for Outbox {
    fn send(&mut self, to: NodeId, message: Message) -> Result<(), PostError> {
        let mut waiting = self.0.lock().expect("no holder of this lock panics");
        waiting.push((to, message));
        Ok(())
    }
}

#[derive(Debug)]
struct Running {
    host: Host<ModelStage>,
    /// Its pass takes until then.
    busy_until: Instant,
}

/// One direction between two nodes.
#[derive(Debug, Default)]
struct Link {
    /// Counts how often the link was made anew.
    life: u64,
    frames: VecDeque<(Instant, Vec<u8>)>,
    /// It loses everything, and its ends will know then.
    dead_until: Option<Instant>,
}

/// A network.
#[derive(Debug)]
pub struct Net {
    checkpoint: HfCheckpoint,
    mode: Mode,
    /// All stages that there can be.
    pub records: Vec<StageRecord>,
    stages: BTreeMap<NodeId, Running>,
    /// Stopped, but not gone: they take nothing and say nothing.
    stopped: BTreeSet<NodeId>,
    links: BTreeMap<(NodeId, NodeId), Link>,
    outbox: Outbox,
    inbox: Inbox,
    /// The virtual time.
    pub clock: ManualClock,
    /// Where all chance comes from.
    pub random: Random,
    /// What goes wrong.
    pub faults: Faults,
    /// A digest of every byte that was sent.
    pub trace: u64,
    /// A stage that shall stop, and when.
    pub stop_at: Option<(Instant, NodeId)>,
}

impl Net {
    /// With all stages running.
    pub fn new(shape: Shape, seed: u64, faults: Faults) -> Self {
        let checkpoint = checkpoint(shape.model);
        let layers = checkpoint.profile().layers;
        let mut records = Vec::new();
        for slice in 0..shape.slices {
            for replica in 0..shape.replicas {
                let number = 1 + slice as u8 * shape.replicas + replica;
                let cut = |slice| layers * slice / shape.slices;
                records.push(StageRecord {
                    node: NodeId([number; 32]),
                    layers: cut(slice)..cut(slice + 1),
                });
            }
        }
        let mut net = Self {
            checkpoint,
            mode: shape.mode,
            records,
            stages: BTreeMap::new(),
            stopped: BTreeSet::new(),
            links: BTreeMap::new(),
            outbox: Outbox::default(),
            inbox: Inbox::new(),
            clock: ManualClock::default(),
            random: Random(seed),
            faults,
            trace: 0,
            stop_at: None,
        };
        for record in net.records.clone() {
            net.start(&record);
        }
        net
    }

    /// The model.
    pub fn checkpoint(&self) -> &HfCheckpoint {
        &self.checkpoint
    }

    fn slice(&self, layers: &std::ops::Range<u32>) -> Slice {
        let count = self.checkpoint.profile().layers;
        Slice::new(layers.clone(), count).expect("a cut of the layers")
    }

    fn start(&mut self, record: &StageRecord) {
        let model = load(&self.checkpoint, self.slice(&record.layers));
        let identity = SliceIdentity {
            model: ModelId([3; 32]),
            numerics: model.numerics_id(KvFormat::F32),
            layers: record.layers.clone(),
        };
        let page = KvPages::page_bytes_of(model.profile(), model.slice(), KvFormat::F32);
        let stage = ModelStage::new(model, KvFormat::F32, page * u64::from(PAGES));
        let config = HostConfig {
            open_timeout: Duration::from_millis(200),
            idle_timeout: Duration::from_secs(30),
            ..HostConfig::default()
        };
        let running = Running {
            host: Host::new(stage, identity, config),
            busy_until: Instant::START,
        };
        self.stages.insert(record.node, running);
    }

    /// The entry's way into this network.
    pub fn pipeline(&self) -> Pipeline<Outbox> {
        let profile = self.checkpoint.profile();
        let spec = ModelSpec {
            model: ModelId([3; 32]),
            numerics: load(&self.checkpoint, self.slice(&(0..1))).numerics_id(KvFormat::F32),
            layers: profile.layers,
            hidden: profile.hidden,
            vocabulary: profile.vocabulary,
            context: profile.context as usize,
        };
        let config = PipelineConfig {
            mode: self.mode,
            pages: PAGES,
            open_timeout: Duration::from_millis(500),
            step_timeout: Duration::from_millis(1000),
            retry: Duration::from_millis(10),
            shun: Duration::from_millis(100),
            down_max: Duration::from_secs(20),
            ask_every: Duration::from_millis(50),
            ask_timeout: Duration::from_millis(200),
        };
        let directory = Box::new(StaticDirectory(self.records.clone()));
        let ends = (self.outbox.clone(), self.inbox.clone());
        let secrets = (CircuitId([5; 16]), Secret32::from_bytes([6; 32]));
        Pipeline::new(spec, config, directory, ends, secrets)
    }

    /// One millisecond: what is due arrives, who can computes, deadlines are looked at.
    ///
    /// # Panics
    /// If a stage granted more KV than it has.
    pub fn tick(&mut self) {
        self.clock.advance(Duration::from_millis(1));
        let taken = std::mem::take(&mut *self.outbox.0.lock().expect("no holder panics"));
        for (to, message) in taken {
            self.put(ENTRY, to, &message);
        }
        let now = self.clock.now();
        if let Some((_, victim)) = self.stop_at.take_if(|(at, _)| *at <= now) {
            self.stop(victim);
        }
        self.end_dead_links();
        self.deliver();
        self.compute();
        let now = self.clock.now();
        for node in self.alive() {
            let running = self.stages.get_mut(&node).expect("alive");
            running.host.tick(now);
            let (granted, total) = running.host.granted();
            assert!(granted <= total, "over budget");
            self.sends(node, now);
        }
        if self.random.one_in(self.faults.stages) {
            self.disturb_a_stage();
        }
        if self.random.one_in(self.faults.links) {
            self.disturb_a_link();
        }
    }

    fn alive(&self) -> Vec<NodeId> {
        let running = self.stages.keys();
        running
            .filter(|node| !self.stopped.contains(*node))
            .copied()
            .collect()
    }

    fn put(&mut self, from: NodeId, to: NodeId, message: &Message) {
        let bytes = encode(message);
        for byte in &bytes {
            self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if to != ENTRY && !self.stages.contains_key(&to) {
            return self.tell_gone(from, to);
        }
        let delay = self.random.below(self.faults.delay + 1) as u64;
        let link = self.links.entry((from, to)).or_default();
        if link.dead_until.is_none() {
            let due = self.clock.now().after(Duration::from_millis(delay));
            // What was sent before arrives before.
            let due = link.frames.back().map_or(due, |(last, _)| due.max(*last));
            link.frames.push_back((due, bytes));
        }
    }

    fn link_id(&self, from: NodeId, to: NodeId) -> LinkId {
        let life = self.links.get(&(from, to)).map_or(0, |link| link.life);
        LinkId(life << 8 | u64::from(from.0[0]))
    }

    /// All that is due, link by link in an order of chance.
    fn deliver(&mut self) {
        let now = self.clock.now();
        loop {
            let due = |(ends, link): (&(NodeId, NodeId), &Link)| {
                let due = link.frames.front().is_some_and(|(due, _)| *due <= now);
                (due && !self.stopped.contains(&ends.1)).then_some(*ends)
            };
            let full: Vec<_> = self.links.iter().filter_map(due).collect();
            if full.is_empty() {
                return;
            }
            let (from, to) = full[self.random.below(full.len())];
            let link = self.links.get_mut(&(from, to)).expect("chosen from them");
            let (_, bytes) = link.frames.pop_front().expect("something is due");
            let message = decode(&bytes).expect("own bytes");
            self.arrive(from, to, message);
        }
    }

    fn arrive(&mut self, from: NodeId, to: NodeId, message: Message) {
        let now = self.clock.now();
        if to == ENTRY {
            let message = self.falsify(message);
            assert!(self.inbox.put(Incoming::Message { from, message }));
            return;
        }
        let link = self.link_id(from, to);
        if let Some(running) = self.stages.get_mut(&to) {
            let sender = Sender { link, node: from };
            running.host.message(now, sender, message);
            self.sends(to, now);
        }
    }

    fn compute(&mut self) {
        let now = self.clock.now();
        let first = self.records[0].node;
        for node in self.alive() {
            let running = self.stages.get_mut(&node).expect("alive");
            if running.busy_until > now || !running.host.run(&self.clock) {
                continue;
            }
            let takes = if node == first { self.faults.slow } else { 0 };
            running.busy_until = now.after(Duration::from_millis(takes));
            let until = running.busy_until;
            self.sends(node, until);
        }
    }

    /// What a stage sends, not before `at`.
    fn sends(&mut self, who: NodeId, at: Instant) {
        let Some(running) = self.stages.get_mut(&who) else {
            return;
        };
        for (to, message) in running.host.take_sends() {
            let to = match to {
                To::Node(node) => node,
                To::Link(link) => {
                    let node = NodeId([(link.0 & 0xff) as u8; 32]);
                    if self.link_id(node, who) != link {
                        continue;
                    }
                    node
                }
            };
            self.put(who, to, &message);
            let link = self.links.get_mut(&(who, to));
            if let Some((due, _)) = link.and_then(|link| link.frames.back_mut()) {
                *due = at.max(*due);
            }
        }
    }

    /// Sins that can be seen in the answer itself.
    fn falsify(&mut self, mut message: Message) -> Message {
        if !matches!(message, Message::Answer { .. }) || !self.random.one_in(self.faults.answers) {
            return message;
        }
        if let Message::Answer {
            number,
            outcome,
            spent,
            ..
        } = &mut message
        {
            match (self.random.below(5), outcome) {
                (0, _) => *number += 1,
                (1, Outcome::Scores(scores)) => scores.truncate(0),
                (2, Outcome::Scores(scores)) if !scores.is_empty() => {
                    scores[0].log_sum_exp = f32::NAN;
                }
                (3, _) => spent.clear(),
                (_, outcome) => *outcome = Outcome::Hidden(vec![0.0; 63]),
            }
        }
        message
    }

    /// Tells `who` that its link to `gone` ended.
    fn tell_gone(&mut self, who: NodeId, gone: NodeId) {
        let now = self.clock.now();
        let link = self.link_id(gone, who);
        if who == ENTRY {
            self.inbox.put(Incoming::Closed { node: gone });
        } else if let Some(running) = self.stages.get_mut(&who) {
            running.host.unreachable(gone);
            running.host.link_closed(link);
            self.sends(who, now);
        }
    }

    /// Both directions between two nodes begin a new life; what they carried is lost.
    fn cut(&mut self, one: NodeId, other: NodeId) {
        self.tell_gone(one, other);
        self.tell_gone(other, one);
        for ends in [(one, other), (other, one)] {
            let link = self.links.entry(ends).or_default();
            link.frames.clear();
            link.dead_until = None;
            link.life += 1;
        }
    }

    fn end_dead_links(&mut self) {
        let now = self.clock.now();
        let over = |link: &Link| link.dead_until.is_some_and(|until| until <= now);
        let dead = self.links.iter().filter(|(_, link)| over(link));
        let dead: Vec<_> = dead.map(|(ends, _)| *ends).collect();
        for (one, other) in dead {
            self.cut(one, other);
        }
    }

    fn neighbours(&self, node: NodeId) -> BTreeSet<NodeId> {
        let ends = self.links.keys();
        let other = |(from, to): &(NodeId, NodeId)| match (*from == node, *to == node) {
            (true, _) => Some(*to),
            (_, true) => Some(*from),
            _ => None,
        };
        ends.filter_map(other).collect()
    }

    /// A stage dies; whoever has a link to it learns it at once.
    pub fn kill(&mut self, victim: NodeId) {
        self.stages.remove(&victim);
        self.stopped.remove(&victim);
        for other in self.neighbours(victim) {
            self.cut(victim, other);
        }
    }

    /// A stage stops without a word; whoever has a link to it learns it after a while.
    pub fn stop(&mut self, victim: NodeId) {
        self.stopped.insert(victim);
        for other in self.neighbours(victim) {
            self.lose(victim, other);
        }
    }

    fn lose(&mut self, one: NodeId, other: NodeId) {
        let until = self.clock.now().after(SILENCE);
        for ends in [(one, other), (other, one)] {
            let link = self.links.entry(ends).or_default();
            link.frames.clear();
            link.dead_until.get_or_insert(until);
        }
    }

    /// All stages run again.
    pub fn mend(&mut self) {
        self.stopped.clear();
        for record in self.records.clone() {
            if !self.stages.contains_key(&record.node) {
                self.start(&record);
            }
        }
    }

    fn disturb_a_stage(&mut self) {
        let node = self.records[self.random.below(self.records.len())].node;
        match self.random.below(4) {
            0 if self.stages.contains_key(&node) => self.kill(node),
            1 if self.stages.contains_key(&node) => self.stop(node),
            _ => self.mend(),
        }
    }

    fn disturb_a_link(&mut self) {
        let ends: Vec<_> = self.links.keys().copied().collect();
        if !ends.is_empty() {
            let (one, other) = ends[self.random.below(ends.len())];
            self.lose(one, other);
        }
    }
}
