//! The circuit: set up, used, answered.

use skein_base::codec::Writer;
use skein_base::{Blake3, NodeId, Scores};
use skein_serving::Progress;
use skein_serving::wire::{BackKey, Hop, Message, Open, Outcome, Rows, Spent, Work};

use super::{Incoming, Leg, Mode, ModelSpec, Pipeline, Post, State};
use crate::directory::{StageRecord, cheapest};

/// What an [`Message::Answer`] holds beside its name.
type Answer = (u64, Outcome, Vec<Spent>);

impl<P: Post> Pipeline<P> {
    pub(super) fn set_up(&mut self) {
        let stages = self.directory.stages();
        let cost = |node: &NodeId| self.cost(node);
        let Some(way) = cheapest(&stages, self.spec.layers, cost) else {
            self.state = State::Down {
                retry_at: self.now.after(self.config.retry),
            };
            return;
        };
        self.legs = match self.config.mode {
            Mode::Chain => vec![Leg {
                first: 0,
                last: way.len() - 1,
            }],
            Mode::Driven => (0..way.len())
                .map(|index| Leg {
                    first: index,
                    last: index,
                })
                .collect(),
        };
        self.way = way;
        self.state = State::Opening {
            since: self.now,
            ready: vec![false; self.legs.len()],
        };
        for leg in self.legs.clone() {
            let (first, last) = (self.way[leg.first].node, self.way[leg.last].node);
            let attach = Message::Attach {
                name: self.name,
                key: self.back_key(),
            };
            for (node, message) in [(last, attach), (first, Message::Open(self.open(leg)))] {
                if self.post.send(node, message).is_err() {
                    return self.fault(Some(node), "it cannot be reached");
                }
            }
        }
    }

    fn open(&self, leg: Leg) -> Open {
        let route = self.way[leg.first..=leg.last].iter().map(|stage| Hop {
            node: stage.node,
            layers: stage.layers.clone(),
        });
        Open {
            name: self.name,
            model: self.spec.model,
            numerics: self.spec.numerics,
            pages: self.config.pages..self.config.pages,
            route: route.collect(),
            hop: 0,
            voucher: Vec::new(),
            back: self.back_key().hash(),
        }
    }

    /// Another one for each generation: what an old last stage knows is of no use.
    fn back_key(&self) -> BackKey {
        let mut writer = Writer::domain("skein answers v1");
        writer.raw(&self.name.circuit.0).u32(self.name.generation);
        BackKey(Blake3::keyed(self.secret.expose(), &writer.finish()).0)
    }

    pub(super) fn incoming(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Closed { node } => {
                self.watch.closed(node);
                let concerned = match self.state {
                    State::Down { .. } => false,
                    // Whoever cannot be reached from here will hardly be from elsewhere.
                    State::Opening { .. } => self.way.iter().any(|stage| stage.node == node),
                    State::Open { .. } => self.is_neighbour(node),
                };
                if concerned {
                    self.fault(Some(node), "its link ended");
                }
            }
            Incoming::Message { from, message } => self.message(from, message),
        }
    }

    /// Those that this entry talks to itself. What is between them is their business to watch.
    fn is_neighbour(&self, node: NodeId) -> bool {
        let ends = self.legs.iter().flat_map(|leg| [leg.first, leg.last]);
        ends.into_iter().any(|index| self.way[index].node == node)
    }

    fn leg_where(&self, at: impl Fn(&Leg) -> usize, node: NodeId) -> Option<usize> {
        self.legs
            .iter()
            .position(|leg| self.way[at(leg)].node == node)
    }

    fn message(&mut self, from: NodeId, message: Message) {
        let first = self.leg_where(|leg| leg.first, from);
        let last = self.leg_where(|leg| leg.last, from);
        match (message, first, last) {
            (Message::Opened { name, pages }, Some(leg), _) if name == self.name => {
                self.opened(from, leg, pages);
            }
            (Message::Failed { name, hop, failure }, Some(leg), _) if name == self.name => {
                let index = self.legs[leg].first + usize::from(hop);
                let named = self.way.get(index).filter(|_| index <= self.legs[leg].last);
                let culprit = named.map_or(from, |stage| stage.node);
                self.gave_up(culprit, failure);
            }
            (
                Message::Answer {
                    name,
                    number,
                    outcome,
                    spent,
                },
                _,
                Some(leg),
            ) if name == self.name => self.answer(from, leg, (number, outcome, spent)),
            (Message::Told { nonce, report }, _, _) => {
                self.watch.told(self.now, from, nonce, report);
            }
            // An echo of an earlier generation, or something that is not for an entry.
            _ => tracing::debug!(%from, "a message that nobody waits for"),
        }
    }

    fn opened(&mut self, from: NodeId, leg: usize, pages: u32) {
        let State::Opening { ready, .. } = &mut self.state else {
            return;
        };
        if pages != self.config.pages {
            return self.fault(Some(from), "it granted other pages than were asked for");
        }
        ready[leg] = true;
        if ready.iter().all(|ready| *ready) {
            self.state = State::Open { number: 0 };
            self.down_since = None;
        }
    }

    fn answer(&mut self, from: NodeId, leg: usize, (number, outcome, spent): Answer) {
        // Batches stay in order, so the first on a leg is the one that it must answer.
        let index = self.flights.iter().position(|flight| flight.leg == leg);
        let Some(index) = index.filter(|index| self.flights[*index].number == number) else {
            return self.fault(Some(from), "it answered out of turn");
        };
        let flight = &mut self.flights[index];
        let Leg { first, last } = self.legs[leg];
        if spent.len() != last - first + 1 {
            return self.fault(Some(from), "it counts other stages than there are");
        }
        flight.spent.extend(spent);
        match (outcome, leg + 1 == self.legs.len()) {
            (Outcome::Scores(scores), true) => self.arrived(from, scores),
            (Outcome::Hidden(rows), false) => self.carry(from, index, rows),
            _ => self.fault(Some(from), "it answered something else than was asked for"),
        }
    }

    /// The batch in front is through.
    fn arrived(&mut self, from: NodeId, scores: Vec<Scores>) {
        let Some(flight) = self.flights.pop_front() else {
            return;
        };
        if scores.len() != flight.scored || !scores.iter().all(|row| sound(row, &self.spec)) {
            return self.fault(Some(from), "its scores have the wrong shape");
        }
        for stage in &self.way {
            self.conduct.remove(&stage.node);
        }
        let legs = self.legs.iter().map(|leg| leg.last - leg.first + 2).sum();
        // Batches that share the way wait for each other in between, which no stage counts.
        if flight.alone {
            let took = self.now.since(flight.since);
            self.watch.step(took, &flight.spent, legs);
        }
        let ticket = flight.ticket;
        self.news.push_back(Progress::Done { ticket, scores });
    }

    /// Carries rows from one leg to the next.
    fn carry(&mut self, from: NodeId, index: usize, rows: Vec<f32>) {
        let flight = &mut self.flights[index];
        let expected = flight.rows * self.spec.hidden as usize;
        if rows.len() != expected || !rows.iter().all(|value| value.is_finite()) {
            return self.fault(Some(from), "its rows have the wrong shape");
        }
        flight.leg += 1;
        let (leg, number) = (self.legs[flight.leg], flight.number);
        let (changes, shares) = match flight.leg + 1 == self.legs.len() {
            true => flight.again.take().unwrap_or_default(),
            false => flight.again.clone().unwrap_or_default(),
        };
        let work = Work {
            name: self.name,
            number,
            changes,
            shares,
            rows: Rows::Hidden(rows),
            spent: Vec::new(),
        };
        let next = self.way[leg.first].node;
        if self.post.send(next, Message::Work(work)).is_err() {
            self.fault(Some(next), "its link is full or gone");
        }
    }

    /// The stages that the directory names, with whether they are in use.
    pub(super) fn known(&self) -> Vec<(StageRecord, bool)> {
        let way = self.way();
        let mark = |stage: StageRecord| {
            let serving = way.contains(&stage);
            (stage, serving)
        };
        self.directory.stages().into_iter().map(mark).collect()
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
