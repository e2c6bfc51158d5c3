//! The entry: requests come, answers go.

use std::collections::BTreeMap;
use std::time::Duration;

use skein_runtime::{Clock as _, Instant, Secret32};
use skein_serving::desk::Desk;
use skein_serving::scheduler::{Scheduler, SessionId};
use skein_serving::view::ExecutorView;
use skein_serving::{EngineConfig, Event, Executor as _, FinishReason, Paging as _, Request};

use crate::net::Net;
use crate::reference::Tokens;

/// Milliseconds after which a simulation that has no end is a failure.
const END: usize = 200_000;

/// What is asked.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The requests, in the order in which they come.
    pub requests: Vec<Request>,
    /// Milliseconds between two of them.
    pub every: usize,
    /// Most requests that wait.
    pub waiting_max: usize,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// By request, as far as it was answered to its end.
    pub answered: BTreeMap<usize, Tokens>,
    /// Requests that were told that they cannot be answered.
    pub failed: Vec<String>,
    /// Requests that were told to come back later.
    pub refused: usize,
    /// Circuits that were left.
    pub circuits: u32,
    /// Prompt tokens that were on the stages already.
    pub reused: usize,
    /// Longest time between two tokens of one answer.
    pub stall: Duration,
    /// The entry's last words about the network.
    pub view: ExecutorView,
}

struct Session {
    request: usize,
    tokens: Tokens,
    last: Option<Instant>,
}

fn config(waiting_max: usize) -> EngineConfig {
    EngineConfig {
        sessions_max: 8,
        decode_rows_max: 8,
        prefill_rows_max: 24,
        growth_pages: 0,
        waiting_max,
        waiting_per_client_max: waiting_max,
        retained_max: 4,
        events_max: 8,
        stall_max: Duration::from_secs(600),
    }
}

/// Puts all requests through the network until every one has ended.
///
/// # Panics
/// If one never ends, or a position is not the expected one.
pub fn run(net: &mut Net, plan: &Plan) -> Outcomes {
    let mut pipeline = net.pipeline();
    let config = config(plan.waiting_max);
    let mut desk = Desk::new(&config);
    let mut scheduler = Scheduler::new(config, Secret32::from_bytes([9; 32]));
    let mut outcomes = Outcomes::default();
    let mut sessions = BTreeMap::new();
    let mut coming = plan.requests.iter().enumerate();
    for time in 0.. {
        assert!(time < END, "no end");
        net.tick();
        let now = net.clock.now();
        desk.update(now, scheduler.waiting_by_client(), 0);
        let due = match plan.every {
            0 => usize::MAX,
            every => usize::from(time % every == 0),
        };
        for (request, content) in coming.by_ref().take(due) {
            if desk.join(&content.client).is_err() {
                outcomes.refused += 1;
                continue;
            }
            let id = scheduler.submit(now, content.clone(), &pipeline);
            let session = Session {
                request,
                tokens: Vec::new(),
                last: None,
            };
            sessions.insert(id.expect("it can be served"), session);
        }
        scheduler.drain(now, &mut pipeline);
        scheduler.expire(now, &mut pipeline);
        while pipeline.is_open() {
            let next = scheduler.plan(now, &mut pipeline);
            if next.is_empty() {
                break;
            }
            scheduler.begin(now, next, &mut pipeline);
        }
        for (id, event) in scheduler.take_events() {
            event_of(&mut outcomes, &mut sessions, (now, id, event));
        }
        let limits = pipeline.limits();
        assert!(pipeline.free_pages() <= limits.total_pages);
        if scheduler.is_empty() && coming.len() == 0 {
            break;
        }
    }
    outcomes.circuits = pipeline.generation();
    outcomes.view = pipeline.view();
    outcomes
}

fn event_of(
    outcomes: &mut Outcomes,
    sessions: &mut BTreeMap<SessionId, Session>,
    (now, id, event): (Instant, SessionId, Event),
) {
    match event {
        Event::Started { reused_tokens, .. } => outcomes.reused += reused_tokens,
        Event::Token(token) => {
            let session = sessions.get_mut(&id).expect("it was submitted");
            session.tokens.push((token.id, token.logprob.to_bits()));
            let last = session.last.replace(now).unwrap_or(now);
            outcomes.stall = outcomes.stall.max(now.since(last));
        }
        Event::Finished { reason, .. } => {
            assert_eq!(reason, FinishReason::Length);
            let session = sessions.remove(&id).expect("it was submitted");
            outcomes.answered.insert(session.request, session.tokens);
        }
        Event::Failed { error } => {
            sessions.remove(&id);
            outcomes.failed.push(error.to_string());
        }
    }
}
