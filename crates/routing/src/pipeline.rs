//! An executor whose stages are elsewhere.
//!
//! ```text
//!            +--> Down --(a way is known)--> Opening --(Opened)--> Open
//!            |                                  |                   |
//!            +------(failed, or took too long)--+-------------------+     generation + 1
//! ```
//!
//! **KV.** Pages are counted here as every stage on the way counts them ([`PageTable`]), within the
//! number that each of them granted when the circuit was set up. Forks and releases travel with the
//! next batch, in order.
//!
//! **Faults.** A circuit is left at the first sign: a link that ends, a stage that gives up, an
//! answer out of turn, of the wrong shape or not finite, a deadline. Whoever is named is shunned for
//! a while, twice as long each time; where nobody can be named everybody on the way costs more. The
//! engine is told that all is lost and replays. Without a way for [`PipelineConfig::down_max`],
//! whoever waits is told.

mod faults;
mod inbox;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::thread::Thread;
use std::time::Duration;

use skein_base::{ModelId, NodeId, NumericsId, Scores};
use skein_model::kv::{PAGE_POSITIONS, PageTable};
use skein_model::{KvFull, Sequence};
use skein_runtime::Instant;
use skein_serving::stage::BatchEntry;
use skein_serving::wire::{
    Change, CircuitId, CircuitName, Hop, Message, Open, Outcome, Rows, Share, Work,
};
use skein_serving::{Executor, Paging, Progress, StageError, StageLimits, Ticket};

use self::faults::Standing;
pub use self::inbox::{Inbox, Incoming};
use crate::directory::{Directory, StageRecord, cheapest};

/// What runs on the stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSpec {
    /// The model.
    pub model: ModelId,
    /// What else fixes its bits.
    pub numerics: NumericsId,
    /// How many layers it has.
    pub layers: u32,
    /// Token ids are below this.
    pub vocabulary: u32,
    /// Longest sequence, in tokens.
    pub context: usize,
}

/// Bounds and patience.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PipelineConfig {
    /// KV pages that every stage must grant.
    pub pages: u32,
    /// How long setting up may take.
    pub open_timeout: Duration,
    /// How long a batch may take.
    pub step_timeout: Duration,
    /// How long to wait between two attempts.
    pub retry: Duration,
    /// How long whoever failed is shunned the first time.
    pub shun: Duration,
    /// How long to be without a way before whoever waits is told.
    pub down_max: Duration,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        Self {
            pages: 1024,
            open_timeout: Duration::from_secs(5),
            step_timeout: Duration::from_secs(60),
            retry: Duration::from_millis(50),
            shun: Duration::from_secs(2),
            down_max: Duration::from_secs(15),
        }
    }
}

/// A message could not be handed over: the link is full, or cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostError;

/// Takes messages for nodes. Does not wait.
pub trait Post: fmt::Debug + Send {
    /// Hands a message over.
    ///
    /// # Errors
    /// [`PostError`]; the message is lost then.
    fn send(&mut self, to: NodeId, message: Message) -> Result<(), PostError>;
}

#[derive(Debug)]
enum State {
    Down { retry_at: Instant },
    Opening { since: Instant },
    Open { number: u64 },
}

#[derive(Debug)]
struct Flight {
    number: u64,
    ticket: Ticket,
    scored: usize,
    since: Instant,
}

/// A sequence on all stages of a circuit.
#[derive(Debug)]
pub struct RemoteSequence {
    generation: u32,
    name: u64,
    /// Whether the stages know it.
    known: bool,
    pages: Sequence,
}

/// See the module.
#[derive(Debug)]
pub struct Pipeline<P> {
    spec: ModelSpec,
    config: PipelineConfig,
    directory: Box<dyn Directory>,
    post: P,
    inbox: Inbox,
    name: CircuitName,
    state: State,
    way: Vec<StageRecord>,
    flights: VecDeque<Flight>,
    table: PageTable,
    changes: Vec<Change>,
    next_sequence: u64,
    next_ticket: u64,
    standing: BTreeMap<NodeId, Standing>,
    down_since: Option<Instant>,
    news: VecDeque<Progress>,
    /// The time of the last [`Executor::poll`].
    now: Instant,
}

impl<P: Post> Pipeline<P> {
    /// Without a circuit yet: the first poll begins to set one up. `circuit` must be drawn at
    /// random.
    pub fn new(
        spec: ModelSpec,
        config: PipelineConfig,
        directory: Box<dyn Directory>,
        (post, inbox): (P, Inbox),
        circuit: CircuitId,
    ) -> Self {
        Self {
            spec,
            config,
            directory,
            post,
            inbox,
            name: CircuitName {
                circuit,
                generation: 0,
            },
            state: State::Down {
                retry_at: Instant::START,
            },
            way: Vec::new(),
            flights: VecDeque::new(),
            table: PageTable::new(config.pages),
            changes: Vec::new(),
            next_sequence: 0,
            next_ticket: 0,
            standing: BTreeMap::new(),
            down_since: None,
            news: VecDeque::new(),
            now: Instant::START,
        }
    }

    /// The stages in use, in order; empty while there is no circuit.
    pub fn way(&self) -> &[StageRecord] {
        match self.state {
            State::Open { .. } => &self.way,
            _ => &[],
        }
    }

    /// How many circuits were left.
    pub fn generation(&self) -> u32 {
        self.name.generation
    }

    /// The first and the last stage are the ones that an entry talks to.
    fn is_neighbour(&self, node: NodeId) -> bool {
        let ends = [self.way.first(), self.way.last()];
        ends.into_iter().flatten().any(|stage| stage.node == node)
    }

    fn set_up(&mut self) {
        let stages = self.directory.stages();
        let (now, standing) = (self.now, &self.standing);
        let cost = |node: &NodeId| standing.get(node).map_or(Some(0), |s| s.cost(now));
        let Some(way) = cheapest(&stages, self.spec.layers, cost) else {
            self.state = State::Down {
                retry_at: now.after(self.config.retry),
            };
            return;
        };
        let route = way.iter().map(|stage| Hop {
            node: stage.node,
            layers: stage.layers.clone(),
        });
        let open = Open {
            name: self.name,
            model: self.spec.model,
            numerics: self.spec.numerics,
            pages: self.config.pages..self.config.pages,
            route: route.collect(),
            hop: 0,
            trace: self.name.circuit.0,
            voucher: Vec::new(),
        };
        let (first, last) = (way[0].node, way[way.len() - 1].node);
        self.way = way;
        self.state = State::Opening { since: now };
        let attach = Message::Attach { name: self.name };
        for (node, message) in [(last, attach), (first, Message::Open(open))] {
            if self.post.send(node, message).is_err() {
                return self.fault(Some(node), "it cannot be reached");
            }
        }
    }

    fn incoming(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Closed { node } => {
                let waits = !matches!(self.state, State::Down { .. });
                if waits && self.is_neighbour(node) {
                    self.fault(Some(node), "its link ended");
                }
            }
            Incoming::Message { from, message } => self.message(from, message),
        }
    }

    fn message(&mut self, from: NodeId, message: Message) {
        let first = self.way.first().map(|stage| stage.node);
        let last = self.way.last().map(|stage| stage.node);
        match message {
            Message::Opened { name, pages } if name == self.name && Some(from) == first => {
                self.opened(pages);
            }
            Message::Failed { name, hop, failure } if name == self.name && Some(from) == first => {
                let culprit = self.way.get(usize::from(hop)).map(|stage| stage.node);
                self.fault(culprit.or(first), &failure.to_string());
            }
            Message::Answer {
                name,
                number,
                outcome,
            } if name == self.name && Some(from) == last => self.answer(from, number, outcome),
            // An echo of an earlier generation, or something that is not for an entry.
            _ => tracing::debug!(%from, "a message that nobody waits for"),
        }
    }

    fn opened(&mut self, pages: u32) {
        if !matches!(self.state, State::Opening { .. }) {
            return;
        }
        if pages != self.config.pages {
            let first = self.way[0].node;
            return self.fault(Some(first), "it granted other pages than were asked for");
        }
        self.state = State::Open { number: 0 };
        self.down_since = None;
    }

    fn answer(&mut self, from: NodeId, number: u64, outcome: Outcome) {
        let expected = self.flights.front().map(|flight| flight.number);
        if expected != Some(number) {
            return self.fault(Some(from), "it answered out of turn");
        }
        let Some(flight) = self.flights.pop_front() else {
            return;
        };
        let Outcome::Scores(scores) = outcome else {
            return self.fault(Some(from), "it answered residual rows instead of scores");
        };
        if scores.len() != flight.scored || !scores.iter().all(|row| sound(row, &self.spec)) {
            return self.fault(Some(from), "its scores have the wrong shape");
        }
        for stage in &self.way {
            self.standing.remove(&stage.node);
        }
        let ticket = flight.ticket;
        self.news.push_back(Progress::Done { ticket, scores });
    }

    /// Whose deadline is over.
    fn deadlines(&mut self) {
        let late = |since: Instant, most| self.now.since(since) >= most;
        match self.state {
            State::Opening { since } if late(since, self.config.open_timeout) => {
                self.fault(None, "setting up took too long");
            }
            State::Open { .. } => {
                let first = self.flights.front();
                if first.is_some_and(|flight| late(flight.since, self.config.step_timeout)) {
                    self.fault(None, "a batch took too long");
                }
            }
            State::Down { retry_at } if retry_at <= self.now => self.set_up(),
            _ => {}
        }
        let without = self.down_since.map(|since| self.now.since(since));
        if without.is_some_and(|without| without >= self.config.down_max) {
            self.down_since = Some(self.now);
            let seconds = self.config.down_max.as_secs();
            let reason =
                format!("no working stage for some layers for {seconds} s; try again later");
            self.news.push_back(Progress::Broken { reason });
        }
    }
}

/// Whether scores are what a last stage may say.
fn sound(row: &Scores, spec: &ModelSpec) -> bool {
    let known = |pairs: &[(u32, f32)]| {
        let good = |(id, logit): &(u32, f32)| *id < spec.vocabulary && logit.is_finite();
        pairs.iter().all(good)
    };
    let order = row.top.windows(2).all(|pair| pair[0].1 >= pair[1].1);
    !row.top.is_empty()
        && order
        && row.log_sum_exp.is_finite()
        && known(&row.top)
        && known(&row.asked)
}

impl<P: Post> Paging for Pipeline<P> {
    type Sequence = RemoteSequence;

    fn limits(&self) -> StageLimits {
        StageLimits {
            vocabulary: self.spec.vocabulary,
            context: self.spec.context,
            page_positions: PAGE_POSITIONS,
            total_pages: self.table.total_pages(),
            depth: self.way.len().max(1),
        }
    }

    fn free_pages(&self) -> usize {
        self.table.free_pages()
    }

    fn sequence(&mut self) -> RemoteSequence {
        self.next_sequence += 1;
        RemoteSequence {
            generation: self.name.generation,
            name: self.next_sequence,
            known: false,
            pages: self.table.sequence(),
        }
    }

    fn filled(&self, sequence: &RemoteSequence) -> usize {
        sequence.pages.len()
    }

    fn fork(&mut self, of: &RemoteSequence, len: usize) -> RemoteSequence {
        self.next_sequence += 1;
        let new = self.next_sequence;
        if of.known {
            let (of, len) = (of.name, len as u32);
            self.changes.push(Change::Fork { new, of, len });
        }
        RemoteSequence {
            generation: self.name.generation,
            name: new,
            known: of.known,
            pages: self.table.fork(&of.pages, len),
        }
    }

    fn pages_needed(&self, sequence: &RemoteSequence, len: usize) -> usize {
        self.table.pages_needed(&sequence.pages, len)
    }

    fn reserve(&mut self, sequence: &mut RemoteSequence, len: usize) -> Result<(), KvFull> {
        // What must be copied, the stages copy themselves.
        self.table.reserve(&mut sequence.pages, len).map(drop)
    }

    fn release(&mut self, sequence: RemoteSequence) {
        if sequence.generation != self.name.generation {
            return;
        }
        if sequence.known {
            let sequence = sequence.name;
            self.changes.push(Change::Release { sequence });
        }
        self.table.release(sequence.pages);
    }
}

impl<P: Post> Executor for Pipeline<P> {
    fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
            && self.news.is_empty()
            && self.flights.len() < self.way.len()
    }

    fn begin(
        &mut self,
        batch: &mut [BatchEntry<'_, RemoteSequence>],
        ids: &[u32],
    ) -> Result<Ticket, StageError> {
        let State::Open { number } = self.state else {
            let reason = "there is no circuit".to_owned();
            return Err(StageError::Broken { reason });
        };
        let shares = batch.iter().map(|entry| Share {
            sequence: entry.sequence.name,
            position: entry.sequence.pages.len() as u32,
            rows: entry.rows as u32,
            scored: entry.scored,
            asked: entry.asked.to_vec(),
        });
        let work = Work {
            name: self.name,
            number,
            shares: shares.collect(),
            changes: std::mem::take(&mut self.changes),
            rows: Rows::Ids(ids.to_vec()),
        };
        for entry in batch.iter_mut() {
            entry.sequence.known = true;
            self.table.advance(&mut entry.sequence.pages, entry.rows);
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.state = State::Open { number: number + 1 };
        self.flights.push_back(Flight {
            number,
            ticket,
            scored: batch.iter().filter(|entry| entry.scored).count(),
            since: self.now,
        });
        let first = self.way[0].node;
        if self.post.send(first, Message::Work(work)).is_err() {
            self.fault(Some(first), "its link is full or gone");
        }
        Ok(ticket)
    }

    fn poll(&mut self, now: Instant) -> Option<Progress> {
        self.now = now;
        if self.news.is_empty() {
            if !matches!(self.state, State::Open { .. }) {
                self.down_since.get_or_insert(now);
            }
            for incoming in self.inbox.take() {
                self.incoming(incoming);
            }
            self.deadlines();
        }
        self.news.pop_front()
    }

    fn next_timeout(&self) -> Option<Instant> {
        let state = match self.state {
            State::Down { retry_at } => Some(retry_at),
            State::Opening { since } => Some(since.after(self.config.open_timeout)),
            State::Open { .. } => {
                let first = self.flights.front();
                first.map(|flight| flight.since.after(self.config.step_timeout))
            }
        };
        let down = self
            .down_since
            .map(|since| since.after(self.config.down_max));
        state.into_iter().chain(down).min()
    }

    fn wake(&mut self, thread: Thread) {
        self.inbox.wake(thread);
    }
}
