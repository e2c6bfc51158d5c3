//! An executor whose stages are elsewhere.
//!
//! ```text
//!            +--> Down --(a way is known)--> Opening --(Opened)--> Open
//!            |                                  |                   |
//!            +------(failed, or took too long)--+-------------------+     generation + 1
//! ```
//!
//! **Modes.** In a chain each stage sends on to the next, and the last answers the entry. Driven by
//! the entry, every stage answers the entry with its residual rows, which sends them to the next:
//! more legs, but each stage's output is seen here, to be compared with another's.
//!
//! **KV.** Pages are counted here as every stage on the way counts them ([`PageTable`]), within the
//! number that each of them granted when the circuit was set up. Forks and releases travel with the
//! next batch, in order.
//!
//! **Faults.** A circuit is left at the first sign: a link that ends, a stage that gives up, an
//! answer out of turn, of the wrong shape or not finite, a deadline. Whoever is named is shunned for
//! a while, twice as long each time, which means that others are preferred; where nobody can be named everybody on the way costs more. The
//! engine is told that all is lost and replays. Without a way for [`PipelineConfig::down_max`],
//! whoever waits is told. A stage that is full or about to leave is no worse for that: it is left
//! alone for as long as it says.
//!
//! **Watch.** Every known stage is asked how it is at intervals, so that a way is chosen among those
//! that answer, and people can see all of them.

mod circuit;
mod faults;
mod inbox;
mod watch;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Weak;
use std::time::Duration;

use skein_base::{ModelId, NodeId, NumericsId, TraceId};
use skein_model::kv::{PAGE_POSITIONS, PageTable};
use skein_model::{KvFull, Sequence};
use skein_runtime::{Instant, Secret32};
use skein_serving::stage::BatchEntry;
use skein_serving::view::ExecutorView;
use skein_serving::wire::{Change, CircuitId, CircuitName, Message, Rows, Share, Spent, Work};
use skein_serving::{Executor, Paging, Progress, StageError, StageLimits, Ticket, Wake};

use self::faults::Conduct;
pub use self::inbox::{Inbox, Incoming};
use self::watch::Watch;
use crate::directory::{Directory, StageRecord};

/// What runs on the stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSpec {
    /// The model.
    pub model: ModelId,
    /// What else fixes its bits.
    pub numerics: NumericsId,
    /// How many layers it has.
    pub layers: u32,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Token ids are below this.
    pub vocabulary: u32,
    /// Longest sequence, in tokens.
    pub context: usize,
}

/// Who carries rows from stage to stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Each stage sends them to the next.
    #[default]
    Chain,
    /// Each stage gives them to the entry.
    Driven,
}

/// Bounds and patience.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PipelineConfig {
    /// Who carries rows.
    pub mode: Mode,
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
    /// How often stages are asked how they are.
    pub ask_every: Duration,
    /// How long they may take to say it.
    pub ask_timeout: Duration,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        Self {
            mode: Mode::Chain,
            pages: 1024,
            open_timeout: Duration::from_secs(5),
            step_timeout: Duration::from_secs(60),
            retry: Duration::from_millis(50),
            shun: Duration::from_secs(2),
            down_max: Duration::from_secs(15),
            ask_every: Duration::from_secs(1),
            ask_timeout: Duration::from_secs(5),
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
    Down {
        retry_at: Instant,
    },
    /// Which legs are set up.
    Opening {
        since: Instant,
        ready: Vec<bool>,
    },
    Open {
        number: u64,
    },
}

/// A part of the way over which rows are carried by the stages: all of it, or one stage of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Leg {
    /// The stage that work is sent to, as index into the way.
    first: usize,
    /// The stage that answers.
    last: usize,
}

/// A batch on its way.
#[derive(Debug)]
struct Flight {
    number: u64,
    ticket: Ticket,
    scored: usize,
    rows: usize,
    since: Instant,
    /// Whether no other batch was on the way meanwhile.
    alone: bool,
    /// The leg that it is on.
    leg: usize,
    /// What the stages so far say that it cost.
    spent: Vec<Spent>,
    /// For the legs to come; `None` if there is one only.
    again: Option<(Vec<Change>, Vec<Share>)>,
}

/// A sequence on all stages of a circuit.
#[derive(Debug)]
pub struct RemoteSequence {
    generation: u32,
    name: u64,
    /// Whether the stages know it.
    known: bool,
    /// The request that the stages know it is for.
    trace: Option<TraceId>,
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
    /// Keys with which answers are asked for are derived from it.
    secret: Secret32,
    state: State,
    way: Vec<StageRecord>,
    legs: Vec<Leg>,
    flights: VecDeque<Flight>,
    table: PageTable,
    changes: Vec<Change>,
    next_sequence: u64,
    next_ticket: u64,
    conduct: BTreeMap<NodeId, Conduct>,
    watch: Watch,
    down_since: Option<Instant>,
    /// Attempts to set up a circuit that failed, in a row.
    attempts: u32,
    news: VecDeque<Progress>,
    /// The time of the last [`Executor::poll`].
    now: Instant,
}

impl<P: Post> Pipeline<P> {
    /// Without a circuit yet: the first poll begins to set one up. `circuit` must be drawn at
    /// random, and `secret` be told to nobody.
    pub fn new(
        spec: ModelSpec,
        config: PipelineConfig,
        directory: Box<dyn Directory>,
        (post, inbox): (P, Inbox),
        (circuit, secret): (CircuitId, Secret32),
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
            secret,
            state: State::Down {
                retry_at: Instant::START,
            },
            way: Vec::new(),
            legs: Vec::new(),
            flights: VecDeque::new(),
            table: PageTable::new(config.pages),
            changes: Vec::new(),
            next_sequence: 0,
            next_ticket: 0,
            conduct: BTreeMap::new(),
            watch: Watch::default(),
            down_since: None,
            attempts: 0,
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

    /// Whose deadline is over.
    fn deadlines(&mut self) {
        let late = |since: Instant, most| self.now.since(since) >= most;
        match self.state {
            State::Opening { since, .. } if late(since, self.config.open_timeout) => {
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
            trace: None,
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
            // Stages take it from where it was forked; whoever asked for that is somebody else.
            trace: None,
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
        now: Instant,
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
            trace: (entry.sequence.trace != Some(entry.trace)).then_some(entry.trace),
        });
        let work = Work {
            name: self.name,
            number,
            shares: shares.collect(),
            changes: std::mem::take(&mut self.changes),
            rows: Rows::Ids(ids.to_vec()),
            spent: Vec::new(),
        };
        let more = self.legs.len() > 1;
        let again = more.then(|| (work.changes.clone(), work.shares.clone()));
        for entry in batch.iter_mut() {
            entry.sequence.known = true;
            entry.sequence.trace = Some(entry.trace);
            self.table.advance(&mut entry.sequence.pages, entry.rows);
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.state = State::Open { number: number + 1 };
        let alone = self.flights.is_empty();
        for other in &mut self.flights {
            other.alone = false;
        }
        self.flights.push_back(Flight {
            number,
            ticket,
            scored: batch.iter().filter(|entry| entry.scored).count(),
            rows: ids.len(),
            since: now,
            alone,
            leg: 0,
            spent: Vec::new(),
            again,
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
            self.ask();
        }
        self.news.pop_front()
    }

    fn next_timeout(&self) -> Option<Instant> {
        let state = match self.state {
            State::Down { retry_at } => Some(retry_at),
            State::Opening { since, .. } => Some(since.after(self.config.open_timeout)),
            State::Open { .. } => {
                let first = self.flights.front();
                first.map(|flight| flight.since.after(self.config.step_timeout))
            }
        };
        let down = self
            .down_since
            .map(|since| since.after(self.config.down_max));
        let ask = self.next_ask();
        [state, down, ask].into_iter().flatten().min()
    }

    fn tell(&mut self, whom: Weak<dyn Wake>) {
        self.inbox.belongs_to(whom);
    }

    fn view(&self) -> ExecutorView {
        self.describe()
    }
}
