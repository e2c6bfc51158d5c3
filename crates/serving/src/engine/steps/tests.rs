//! An engine whose batches travel, between its thread and whoever brings the answers. No test waits for time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Weak;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use skein_model::KvFull;
use skein_runtime::{ManualClock, Secret32, SystemClock};

use super::super::{Engine, EngineHandle, Generation};
use super::*;
use crate::EngineConfig;
use crate::request::{Event, FinishReason, GenerationError};
use crate::scheduler::Scheduler;
use crate::stage::{BatchEntry, Paging, Progress, StageError, StageLimits, Ticket};
use crate::testing::{BOMB, FakePipeline, FakeStage, FlyingSequence, alone, config, request};

/// What is on the way, for whoever brings it.
#[derive(Debug)]
struct Way {
    pipeline: FakePipeline,
    engine: Option<Weak<dyn Wake>>,
    timeout: Option<Instant>,
}

/// A pipeline whose results somebody else brings, one at a time.
#[derive(Debug)]
struct Distant {
    way: Arc<Mutex<Way>>,
    begun: SyncSender<()>,
}

impl Distant {
    /// With what tells of each batch that was begun.
    fn new() -> (Self, Receiver<()>) {
        let way = Way {
            pipeline: FakePipeline::new(FakeStage::new(64, 4096), 1),
            engine: None,
            timeout: None,
        };
        let way = Arc::new(Mutex::new(way));
        let (begun, begins) = sync_channel(8);
        (Self { way, begun }, begins)
    }

    fn way(&self) -> MutexGuard<'_, Way> {
        self.way.lock().unwrap()
    }
}

impl Paging for Distant {
    type Sequence = FlyingSequence;

    fn limits(&self) -> StageLimits {
        self.way().pipeline.limits()
    }

    fn free_pages(&self) -> usize {
        self.way().pipeline.free_pages()
    }

    fn sequence(&mut self) -> FlyingSequence {
        self.way().pipeline.sequence()
    }

    fn filled(&self, sequence: &FlyingSequence) -> usize {
        self.way().pipeline.filled(sequence)
    }

    fn fork(&mut self, of: &FlyingSequence, len: usize) -> FlyingSequence {
        self.way().pipeline.fork(of, len)
    }

    fn pages_needed(&self, sequence: &FlyingSequence, len: usize) -> usize {
        self.way().pipeline.pages_needed(sequence, len)
    }

    fn reserve(&mut self, sequence: &mut FlyingSequence, len: usize) -> Result<(), KvFull> {
        self.way().pipeline.reserve(sequence, len)
    }

    fn release(&mut self, sequence: FlyingSequence) {
        self.way().pipeline.release(sequence);
    }
}

impl Executor for Distant {
    fn is_open(&self) -> bool {
        self.way().pipeline.is_open()
    }

    fn begin(
        &mut self,
        now: Instant,
        batch: &mut [BatchEntry<'_, FlyingSequence>],
        ids: &[u32],
    ) -> Result<Ticket, StageError> {
        let ticket = self.way().pipeline.begin(now, batch, ids);
        self.begun.try_send(()).expect("room for all");
        ticket
    }

    fn poll(&mut self, now: Instant) -> Option<Progress> {
        self.way().pipeline.poll(now)
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.way().timeout
    }

    fn tell(&mut self, whom: Weak<dyn Wake>) {
        self.way().engine = Some(whom);
    }
}

/// An engine without a thread: this one is its own, and brings everything.
struct Rig {
    steps: Arc<Steps<Distant>>,
    handle: EngineHandle,
    way: Arc<Mutex<Way>>,
    begins: Receiver<()>,
}

impl Rig {
    fn new(config: EngineConfig) -> Self {
        let (distant, begins) = Distant::new();
        let way = Arc::clone(&distant.way);
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
        let shared = Arc::new(Shared::new(distant.limits(), &config));
        let scheduler = Scheduler::new(config, Secret32::from_bytes([3; 32]));
        let actor = Actor::new(Arc::clone(&shared), Arc::clone(&clock), scheduler, distant);
        let handle = EngineHandle {
            shared,
            thread: std::thread::current(),
            clock: Arc::clone(&clock),
        };
        Self {
            steps: Steps::new(actor, clock),
            handle,
            way,
            begins,
        }
    }

    /// Does what there is, then brings what is on its way, as whoever reads a link does.
    fn bring(&self) {
        self.steps.wake();
        if self.begins.try_recv().is_ok() {
            self.way.lock().unwrap().pipeline.arrive();
        }
        self.steps.wake();
    }
}

/// Takes back an unpark of before, if there was one.
fn forget_unparks() {
    std::thread::park_timeout(Duration::ZERO);
}

fn read(mut generation: Generation, each: impl Fn()) -> (Vec<(u32, u32)>, Event) {
    let (mut tokens, mut last) = (Vec::new(), None);
    each();
    while let Some(event) = generation.next_blocking() {
        match event {
            Event::Token(token) => tokens.push((token.id, token.logprob.to_bits())),
            event => last = Some(event),
        }
        each();
    }
    (tokens, last.unwrap())
}

fn is_through(last: &Event) -> bool {
    let reason = FinishReason::Length;
    matches!(last, Event::Finished { reason: found, .. } if *found == reason)
}

#[test]
fn whoever_brings_news_takes_the_turn() {
    let rig = Rig::new(config());
    let wanted = request("a", &[1, 2], 6);
    let expected = alone(&wanted);
    let generation = rig.handle.submit(wanted).unwrap();
    // There is no other thread.
    let (tokens, last) = read(generation, || rig.bring());
    assert_eq!(tokens, expected);
    assert!(is_through(&last), "{last:?}");
}

#[test]
fn whoever_does_not_get_the_lock_calls_the_thread() {
    let rig = Rig::new(config());
    let held = rig.steps.turns();
    forget_unparks();
    rig.steps.wake();
    drop(held);
    std::thread::park();
}

#[test]
fn an_earlier_time_calls_the_thread() {
    let rig = Rig::new(config());
    let at = |seconds| Instant::from_start(Duration::from_secs(seconds));
    // It would not have woken by itself.
    rig.way.lock().unwrap().timeout = Some(at(5));
    forget_unparks();
    rig.steps.wake();
    std::thread::park();
    for (next, alarm, concerned) in [
        (Next::Turn, Some(at(0)), true),
        (Next::End, Some(at(0)), true),
        (Next::Rest(None), None, false),
        (Next::Rest(None), Some(at(1)), false),
        (Next::Rest(Some(at(1))), None, true),
        (Next::Rest(Some(at(1))), Some(at(1)), false),
        (Next::Rest(Some(at(2))), Some(at(1)), false),
        (Next::Rest(Some(at(1))), Some(at(2)), true),
    ] {
        assert_eq!(
            concerns_thread(next, alarm),
            concerned,
            "{next:?} {alarm:?}"
        );
    }
}

#[test]
fn the_last_answer_of_a_drain_calls_the_thread_which_ends() {
    let rig = Rig::new(config());
    let wanted = request("a", &[1], 1);
    let mut generation = rig.handle.submit(wanted).unwrap();
    rig.steps.wake();
    let allowed = Duration::from_secs(5);
    rig.handle.set_phase(Phase::Draining { allowed });
    forget_unparks();
    rig.bring();
    std::thread::park();
    assert!(!rig.steps.step());
    assert!(matches!(
        generation.next_blocking(),
        Some(Event::Started { .. })
    ));
    assert!(matches!(generation.next_blocking(), Some(Event::Token(_))));
    assert!(is_through(&generation.next_blocking().unwrap()));
}

/// What was chosen is told after the next batch is begun: it counts as read by nobody before.
#[test]
fn a_reader_that_sleeps_has_room_for_the_end() {
    let rig = Rig::new(EngineConfig {
        events_max: 1,
        ..config()
    });
    for tokens in 1..6 {
        let wanted = request("a", &[tokens], tokens as usize);
        let expected = alone(&wanted);
        let generation = rig.handle.submit(wanted).unwrap();
        for _ in 0..8 {
            rig.bring();
        }
        let (found, last) = read(generation, || rig.bring());
        assert_eq!(found, expected);
        assert!(is_through(&last), "{last:?}");
    }
}

#[test]
fn a_turn_that_panics_elsewhere_ends_the_engine() {
    let rig = Rig::new(config());
    let mut generation = rig.handle.submit(request("a", &[BOMB], 5)).unwrap();
    forget_unparks();
    assert!(catch_unwind(AssertUnwindSafe(|| rig.steps.wake())).is_err());
    std::thread::park();
    // Nobody takes turns any more, and nobody else fails for it.
    rig.steps.wake();
    assert!(catch_unwind(AssertUnwindSafe(|| rig.steps.step())).is_err());
    drop(rig.steps);
    let mut last = None;
    while let Some(event) = generation.next_blocking() {
        last = Some(event);
    }
    let error = GenerationError::EngineStopped;
    assert_eq!(last, Some(Event::Failed { error }));
}

/// Each answer is brought as soon as its batch is begun, while the thread sleeps, is about to, or is at it, and
/// readers with little room stop and go: all get their tokens, in order. (A call that is lost costs time here, since the
/// engine looks by itself now and then.)
#[test]
fn no_call_is_lost_between_threads() {
    for events_max in [1, 8] {
        let (distant, begins) = Distant::new();
        let way = Arc::clone(&distant.way);
        let config = EngineConfig {
            events_max,
            ..config()
        };
        let (clock, secret) = (Arc::new(SystemClock::new()), Secret32::from_bytes([3; 32]));
        let engine = Engine::start_with(distant, config, clock, secret).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while begins.recv().is_ok() {
                    way.lock().unwrap().pipeline.arrive();
                    let engine = way.lock().unwrap().engine.clone();
                    if let Some(engine) = engine.and_then(|engine| engine.upgrade()) {
                        engine.wake();
                    }
                }
            });
            let readers: Vec<_> = (0..12)
                .map(|n| {
                    let handle = engine.handle();
                    scope.spawn(move || {
                        let wanted = request(&format!("client {}", n % 3), &[n, 1, 2], 60);
                        let expected = alone(&wanted);
                        let (tokens, last) = read(handle.submit(wanted).unwrap(), || ());
                        assert_eq!(tokens, expected);
                        assert!(is_through(&last), "{last:?}");
                    })
                })
                .collect();
            readers
                .into_iter()
                .for_each(|reader| reader.join().unwrap());
            // Its executor goes with it, so nothing is brought any more.
            drop(engine);
        });
    }
}
