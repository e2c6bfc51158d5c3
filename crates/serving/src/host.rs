//! A stage as others see it: circuits of several entries over one slice, decided without I/O.
//!
//! Messages go in ([`Host::message`]), with what links do ([`Host::link_closed`],
//! [`Host::unreachable`]) and the time ([`Host::tick`]); [`Host::run`] computes one batch;
//! [`Host::take_sends`] is what shall be sent.
//!
//! **Memory.** A circuit is granted pages when it is set up, and never more are granted than there
//! are; what its entry does with them is the entry's affair, and counted here. So no entry can take
//! memory from another, and "busy" is said once, at the beginning.
//!
//! **Batches.** The first waiting batch of every circuit runs in one pass over the weights, as long
//! as rows fit; circuits served least recently come first. If the pass is refused, each runs alone,
//! so that only the one at fault ends.
//!
//! **Neighbours.** A circuit takes work from the link that opened it, news of the stages behind from
//! the node that is next on its route, and gives answers to the link that showed the key of
//! [`Open::back`]. Whoever else knows its name is not heard.
//!
//! **Faults.** What breaks the protocol ends its circuit, with [`Failure`] sent to whoever is in
//! front and the circuit closed for whoever is behind. Messages of another generation are dropped:
//! they are echoes of a circuit that was replaced.

mod batch;
mod circuit;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use skein_base::{ModelId, NodeId, NumericsId};
use skein_runtime::Instant;

use self::batch::rows;
use self::circuit::{Circuit, State};
use crate::stage::Stage;
use crate::view::StageReport;
use crate::wire::{BackKey, CircuitId, CircuitName, Failure, Message, Open, Work};

/// A link to a neighbour; a new one each time it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// Whoever a message comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// The link that it came by.
    pub link: LinkId,
    /// The node at its other end, as it proved.
    pub node: NodeId,
}

/// Where a message shall go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    /// Over a link that is there.
    Link(LinkId),
    /// To a node, over whatever link there is or can be made.
    Node(NodeId),
}

/// What the slice is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceIdentity {
    /// Of which model.
    pub model: ModelId,
    /// What else fixes its bits.
    pub numerics: NumericsId,
    /// Its layers.
    pub layers: Range<u32>,
}

/// Bounds of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostConfig {
    /// Most circuits.
    pub circuits_max: usize,
    /// Most circuits for which one link may wait for answers before they are set up.
    pub attached_per_link_max: usize,
    /// Most pages for one circuit; what there is bounds it too.
    pub pages_max: u32,
    /// Most batches of one circuit that wait.
    pub waiting_max: usize,
    /// Most rows in one pass, unless a single batch has more.
    pub rows_max: usize,
    /// How long the stages behind may take to be set up.
    pub open_timeout: Duration,
    /// How long a circuit may be silent.
    pub idle_timeout: Duration,
    /// What an entry is told to wait when there is no memory.
    pub retry_after: Duration,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            circuits_max: 256,
            attached_per_link_max: 16,
            pages_max: u32::MAX,
            waiting_max: 64,
            rows_max: 1024,
            open_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(600),
            retry_after: Duration::from_secs(1),
        }
    }
}

/// What a host has done, since it was last asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HostStats {
    /// Batches that ran.
    pub batches: u64,
    /// Their rows.
    pub rows: u64,
    /// Passes over the weights.
    pub passes: u64,
    /// Circuits that ended with a failure.
    pub failures: u64,
    /// Messages dropped: of no circuit, or of another generation.
    pub dropped: u64,
}

/// The state machine around a stage.
#[derive(Debug)]
pub struct Host<S: Stage> {
    stage: S,
    identity: SliceIdentity,
    config: HostConfig,
    circuits: BTreeMap<CircuitId, Circuit<S::Sequence>>,
    /// Links that wait for the answers of a circuit which is not set up yet.
    attached: BTreeMap<(CircuitId, LinkId), Attached>,
    granted: u64,
    /// Orders circuits; has nothing to do with time.
    turn: u64,
    leaving: bool,
    sends: Vec<(To, Message)>,
    stats: HostStats,
    /// Since the start, for reports.
    report: StageReport,
}

#[derive(Debug, Clone, Copy)]
struct Attached {
    generation: u32,
    key: BackKey,
    since: Instant,
}

impl<S: Stage> Host<S> {
    /// A host without circuits.
    pub fn new(stage: S, identity: SliceIdentity, config: HostConfig) -> Self {
        Self {
            stage,
            identity,
            config,
            circuits: BTreeMap::new(),
            attached: BTreeMap::new(),
            granted: 0,
            turn: 0,
            leaving: false,
            sends: Vec::new(),
            stats: HostStats::default(),
            report: StageReport::default(),
        }
    }

    /// The stage.
    pub fn stage(&self) -> &S {
        &self.stage
    }

    /// Circuits there are.
    pub fn circuits(&self) -> usize {
        self.circuits.len()
    }

    /// Pages granted to circuits, of all.
    pub fn granted(&self) -> (u64, u64) {
        (self.granted, self.stage.limits().total_pages as u64)
    }

    /// What shall be sent, in order.
    pub fn take_sends(&mut self) -> Vec<(To, Message)> {
        std::mem::take(&mut self.sends)
    }

    /// Counts since the last call.
    pub fn take_stats(&mut self) -> HostStats {
        std::mem::take(&mut self.stats)
    }

    /// Whether a batch waits to be run.
    pub fn has_work(&self) -> bool {
        self.circuits
            .values()
            .any(|circuit| !circuit.waiting.is_empty())
    }

    /// Rows of the first waiting batch of every circuit: the next pass has no more.
    pub fn next_rows(&self) -> usize {
        let circuits = self.circuits.values();
        let first = circuits.filter_map(|circuit| circuit.waiting.front());
        first.map(|(_, work)| rows(work)).sum()
    }

    /// Takes no more circuits, and gives those up that have nothing to do. The others follow with
    /// the next call after their batches ran.
    pub fn leave(&mut self) {
        self.leaving = true;
        for id in self.select(|circuit| circuit.waiting.is_empty()) {
            self.end(id, Some((0, Failure::Leaving)));
        }
    }

    /// How it is.
    pub fn report(&self) -> StageReport {
        let limits = self.stage.limits();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let waiting = self.circuits.values().map(|circuit| circuit.waiting.len());
        StageReport {
            circuits: count(self.circuits.len()),
            pages_granted: u32::try_from(self.granted).unwrap_or(u32::MAX),
            pages_used: count(limits.total_pages - self.stage.free_pages()),
            pages_total: count(limits.total_pages),
            page_bytes: count(self.stage.page_bytes()),
            waiting: count(waiting.sum()),
            ..self.report
        }
    }

    /// A message came.
    pub fn message(&mut self, now: Instant, from: Sender, message: Message) {
        let Sender { link, node } = from;
        match message {
            Message::Open(open) => self.open(now, link, open),
            Message::Attach { name, key } => self.attach(now, link, (name, key)),
            Message::Work(work) => self.work(now, link, work),
            Message::Close { name } => self.close(link, name),
            Message::Opened { name, pages } => self.opened(now, node, (name, pages)),
            Message::Failed { name, hop, failure } => self.failed(node, name, (hop, failure)),
            Message::Ask { nonce } => {
                let report = self.report();
                let told = Message::Told { nonce, report };
                self.sends.push((To::Link(link), told));
            }
            // For entries.
            Message::Answer { .. } | Message::Told { .. } => self.stats.dropped += 1,
        }
    }

    fn open(&mut self, now: Instant, from: LinkId, open: Open) {
        let Open {
            name, hop, pages, ..
        } = &open;
        let (name, hop) = (*name, *hop);
        if let Some(old) = self.circuits.get(&name.circuit) {
            // Whoever knows the circuit's random name speaks for it; an old life never returns.
            if old.name.generation >= name.generation {
                self.stats.dropped += 1;
                return;
            }
            self.end(name.circuit, None);
        }
        let grant = self.grant(&open, pages);
        let grant = match grant {
            Ok(grant) => grant,
            Err(failure) => {
                self.stats.failures += 1;
                self.report.failures += 1;
                let refusal = Message::Failed { name, hop, failure };
                return self.sends.push((To::Link(from), refusal));
            }
        };
        self.granted += u64::from(grant);
        let next = open.route.get(1).map(|hop| hop.node);
        let mut circuit = Circuit::new((name, hop, open.back), from, next, grant, now);
        let waiting = self.attached.iter().find(|((id, _), attached)| {
            *id == name.circuit && circuit.may_attach(attached.generation, attached.key)
        });
        circuit.answers = waiting.map(|((_, link), _)| *link);
        self.attached.retain(|(id, _), _| *id != name.circuit);
        self.circuits.insert(name.circuit, circuit);
        match next {
            None => self.ready(now, name.circuit),
            Some(next) => {
                let onward = Open {
                    route: open.route[1..].to_vec(),
                    hop: hop.saturating_add(1),
                    pages: open.pages.start..grant,
                    ..open
                };
                self.sends.push((To::Node(next), Message::Open(onward)));
            }
        }
    }

    /// How many pages a circuit gets.
    fn grant(&self, open: &Open, pages: &Range<u32>) -> Result<u32, Failure> {
        let own = &self.identity;
        let asked = open.route.first().map(|hop| &hop.layers);
        if own.model != open.model || own.numerics != open.numerics || asked != Some(&own.layers) {
            return Err(Failure::OtherSlice);
        }
        if self.leaving {
            return Err(Failure::Leaving);
        }
        let total = self.stage.limits().total_pages as u64;
        let free = u32::try_from(total - self.granted).unwrap_or(u32::MAX);
        let grant = pages.end.min(free).min(self.config.pages_max);
        if grant < pages.start.max(1) || self.circuits.len() >= self.config.circuits_max {
            let retry_after = self.config.retry_after;
            return Err(Failure::Busy { retry_after });
        }
        Ok(grant)
    }

    /// The stages behind are there: tells the one in front, if the way back is there too.
    fn ready(&mut self, now: Instant, id: CircuitId) {
        let Some(circuit) = self.circuits.get_mut(&id) else {
            return;
        };
        if circuit.next.is_some() || circuit.answers.is_some() {
            circuit.state = State::Open;
            circuit.heard = now;
            let (name, pages) = (circuit.name, circuit.pages);
            let opened = Message::Opened { name, pages };
            self.sends.push((To::Link(circuit.from), opened));
        }
    }

    fn opened(&mut self, now: Instant, from: NodeId, (name, pages): (CircuitName, u32)) {
        let circuit = self.current(name);
        let circuit = circuit.filter(|c| c.state == State::Opening && c.next == Some(from));
        let Some(circuit) = circuit else {
            self.stats.dropped += 1;
            return;
        };
        if pages == 0 || pages > circuit.pages {
            // More than was offered: whoever is behind does not keep to the protocol.
            return self.end(name.circuit, Some((1, Failure::Protocol)));
        }
        let back = u64::from(circuit.pages - pages);
        circuit.pages = pages;
        self.granted -= back;
        self.ready(now, name.circuit);
    }

    fn attach(&mut self, now: Instant, link: LinkId, (name, key): (CircuitName, BackKey)) {
        let generation = name.generation;
        if let Some(circuit) = self.current(name) {
            if circuit.answers.is_none() && circuit.may_attach(generation, key) {
                circuit.answers = Some(link);
                return self.ready(now, name.circuit);
            }
            self.stats.dropped += 1;
            return;
        }
        let of_link = self.attached.keys().filter(|(_, other)| *other == link);
        let room = self.attached.len() < self.config.circuits_max
            && of_link.count() < self.config.attached_per_link_max;
        if !room {
            self.stats.dropped += 1;
            return;
        }
        let attached = Attached {
            generation,
            key,
            since: now,
        };
        self.attached.insert((name.circuit, link), attached);
    }

    fn work(&mut self, now: Instant, from: LinkId, work: Work) {
        let (waiting_max, name) = (self.config.waiting_max, work.name);
        let Some(circuit) = self.current(name).filter(|circuit| circuit.from == from) else {
            self.stats.dropped += 1;
            return;
        };
        circuit.heard = now;
        let expected = circuit.number + circuit.waiting.len() as u64;
        let orderly = circuit.state == State::Open
            && work.number == expected
            && work.spent.len() == usize::from(circuit.hop);
        if !orderly || circuit.waiting.len() >= waiting_max {
            return self.end(name.circuit, Some((0, Failure::Protocol)));
        }
        circuit.waiting.push_back((now, work));
    }

    fn close(&mut self, from: LinkId, name: CircuitName) {
        match self.current(name).filter(|circuit| circuit.from == from) {
            Some(_) => self.end(name.circuit, None),
            None => self.stats.dropped += 1,
        }
    }

    /// A stage behind gave up.
    fn failed(&mut self, from: NodeId, name: CircuitName, (hop, failure): (u8, Failure)) {
        match self.current(name).filter(|c| c.next == Some(from)) {
            Some(circuit) => {
                let behind = hop.saturating_sub(circuit.hop).max(1);
                self.end(name.circuit, Some((behind, failure)));
            }
            None => self.stats.dropped += 1,
        }
    }

    fn current(&mut self, name: CircuitName) -> Option<&mut Circuit<S::Sequence>> {
        let circuit = self.circuits.get_mut(&name.circuit);
        circuit.filter(|circuit| circuit.name == name)
    }

    /// A link is gone, and with it the circuits that came by it or answered over it.
    pub fn link_closed(&mut self, link: LinkId) {
        self.attached.retain(|(_, other), _| *other != link);
        let gone = |circuit: &Circuit<_>| circuit.from == link || circuit.answers == Some(link);
        for id in self.select(gone) {
            self.end(id, Some((0, Failure::Silent)));
        }
    }

    /// A node behind cannot be reached, or its link is gone.
    pub fn unreachable(&mut self, node: NodeId) {
        for id in self.select(|circuit| circuit.next == Some(node)) {
            self.end(id, Some((1, Failure::Unreachable)));
        }
    }

    /// Ends what took too long.
    pub fn tick(&mut self, now: Instant) {
        let (open, idle) = (self.config.open_timeout, self.config.idle_timeout);
        self.attached
            .retain(|_, attached| now.since(attached.since) < open);
        let slow = |circuit: &Circuit<_>| {
            circuit.state == State::Opening && now.since(circuit.heard) >= open
        };
        for id in self.select(slow) {
            self.end(id, Some((1, Failure::Unreachable)));
        }
        for id in self.select(|circuit| now.since(circuit.heard) >= idle) {
            self.end(id, Some((0, Failure::Silent)));
        }
    }

    fn select(&self, which: impl Fn(&Circuit<S::Sequence>) -> bool) -> Vec<CircuitId> {
        let chosen = self.circuits.iter().filter(|(_, circuit)| which(circuit));
        chosen.map(|(&id, _)| id).collect()
    }

    /// Ends a circuit and frees its KV; says why, and how many hops further on, if it was not asked
    /// to.
    fn end(&mut self, id: CircuitId, why: Option<(u8, Failure)>) {
        let Some(circuit) = self.circuits.remove(&id) else {
            return;
        };
        self.granted -= u64::from(circuit.pages);
        let (name, hop) = (circuit.name, circuit.hop);
        if let Some((behind, failure)) = why {
            self.stats.failures += 1;
            self.report.failures += 1;
            let hop = hop.saturating_add(behind);
            let failed = Message::Failed { name, hop, failure };
            self.sends.push((To::Link(circuit.from), failed));
        }
        if let Some(next) = circuit.next {
            self.sends.push((To::Node(next), Message::Close { name }));
        }
        for held in circuit.sequences.into_values() {
            self.stage.release(held.sequence);
        }
    }
}
