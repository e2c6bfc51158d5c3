//! One request on its way.

use std::fmt;

use skein_base::TraceId;
use skein_runtime::Instant;
use skein_text::Sampler;

use super::stow::Stowed;
use crate::prefix::Namespace;
use crate::request::{ClientId, Request, Usage};
use crate::stage::Paging;

/// Names a session; smaller is older.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(crate) u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[derive(Debug)]
pub(super) struct Session<Q> {
    pub(super) client: ClientId,
    pub(super) trace: TraceId,
    pub(super) namespace: Namespace,
    /// Prompt, then generated tokens. The KV holds the first of them; what it lacks is fed next, so
    /// that no token can be fed twice.
    pub(super) history: Vec<u32>,
    pub(super) prompt: usize,
    pub(super) max_tokens: usize,
    /// Keeps its state over preemptions: a replay draws nothing again.
    pub(super) sampler: Sampler,
    /// Sorted; empty if the answer shall go on past them.
    pub(super) stop_ids: Vec<u32>,
    pub(super) submitted: Instant,
    pub(super) deadline: Option<Instant>,
    pub(super) started: bool,
    pub(super) reused: usize,
    /// Tokens chosen, the stop id included.
    pub(super) completion: usize,
    pub(super) kv: Option<Q>,
    /// What was put aside when the session was preempted, until it is read back whole.
    pub(super) stowed: Option<Stowed>,
    /// How many positions are filled when all is read that shall be; nothing is computed before.
    pub(super) restoring: Option<usize>,
    /// Whether rows are on their way whose scores give the next token.
    pub(super) awaited: bool,
    pub(super) paused_since: Option<Instant>,
    /// Tick of the last step with rows of this session.
    pub(super) last_run: u64,
}

/// What a finished session leaves.
pub(super) struct Ends<Q> {
    pub(super) namespace: Namespace,
    pub(super) tokens: Vec<u32>,
    pub(super) sequence: Q,
}

impl<Q> Session<Q> {
    pub(super) fn new(request: Request, namespace: Namespace, now: Instant) -> Self {
        let mut stop_ids = if request.ignore_eos {
            Vec::new()
        } else {
            request.stop_ids
        };
        stop_ids.sort_unstable();
        let sampler = Sampler::new(request.sampling, &request.prompt);
        Self {
            client: request.client,
            trace: request.trace,
            namespace,
            prompt: request.prompt.len(),
            history: request.prompt,
            max_tokens: request.max_tokens,
            sampler,
            stop_ids,
            submitted: now,
            deadline: request.deadline.map(|allowed| now.after(allowed)),
            started: false,
            reused: 0,
            completion: 0,
            kv: None,
            stowed: None,
            restoring: None,
            awaited: false,
            paused_since: None,
            last_run: 0,
        }
    }

    /// Whether pages of it are read now.
    pub(super) fn restores(&self) -> bool {
        self.restoring.is_some() && self.kv.is_some() && self.paused_since.is_none()
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            prompt: self.prompt,
            completion: self.completion,
            reused: self.reused,
        }
    }

    pub(super) fn release<P: Paging<Sequence = Q>>(self, stage: &mut P) {
        if let Some(sequence) = self.kv {
            stage.release(sequence);
        }
    }

    pub(super) fn into_ends<P: Paging<Sequence = Q>>(mut self, stage: &P) -> Option<Ends<Q>> {
        let sequence = self.kv?;
        self.history.truncate(stage.filled(&sequence));
        Some(Ends {
            namespace: self.namespace,
            tokens: self.history,
            sequence,
        })
    }
}
