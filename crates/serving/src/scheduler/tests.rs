//! The scheduler against a stage whose answers tell whether its KV was right.

mod stow;

use std::collections::BTreeMap;

use skein_base::Blake3;
use skein_runtime::{Clock as _, ManualClock};

use super::*;
use crate::request::Usage;
use crate::stage::{Local, Paging as _};
use crate::testing::{
    FakePipeline, FakeStage, POISON, Random, alone, config, random_request, request,
};

/// A scheduler with its stage, and all that its sessions said.
struct Sim {
    scheduler: Scheduler<Local<FakeStage>>,
    stage: Local<FakeStage>,
    clock: ManualClock,
    events: BTreeMap<SessionId, Vec<Event>>,
    stats: Stats,
    trace: String,
    steps: usize,
}

impl Sim {
    fn new(config: EngineConfig, pages: usize) -> Self {
        Self::on(FakeStage::new(pages, 256), config)
    }

    fn on(stage: FakeStage, config: EngineConfig) -> Self {
        Self {
            scheduler: Scheduler::new(config, Secret32::from_bytes([1; 32])),
            stage: Local::new(stage),
            clock: ManualClock::default(),
            events: BTreeMap::new(),
            stats: Stats::default(),
            trace: String::new(),
            steps: 0,
        }
    }

    fn submit(&mut self, request: &Request) -> SessionId {
        self.scheduler
            .submit(self.clock.now(), request.clone(), &self.stage)
            .unwrap()
    }

    /// One step; false if there was nothing to run, and nothing to move.
    fn step(&mut self) -> bool {
        self.clock.advance(Duration::from_millis(10));
        let plan = self.scheduler.plan(self.clock.now(), &mut self.stage);
        let ran = !plan.is_empty();
        if ran {
            let now = self.clock.now();
            self.scheduler.begin(now, plan.clone(), &mut self.stage);
            self.scheduler.drain(now, &mut self.stage);
        }
        self.steps += 1;
        let moved = self.collect();
        let room = self.stage.store_room();
        assert!(moved <= room.per_turn as u64, "{moved} in one turn");
        self.trace += &format!("{plan:?} {} {}\n", self.stage.stage().used(), room.used);
        ran || self.scheduler.is_unsettled()
    }

    /// Returns how many pages moved.
    fn collect(&mut self) -> u64 {
        for (id, event) in self.scheduler.take_events() {
            self.trace += &format!("{id} {event:?}\n");
            self.events.entry(id).or_default().push(event);
        }
        let stats = self.scheduler.take_stats();
        self.stats.prefill_rows += stats.prefill_rows;
        self.stats.preemptions += stats.preemptions;
        self.stats.evictions += stats.evictions;
        self.stats.reused_tokens += stats.reused_tokens;
        self.stats.stowed_pages += stats.stowed_pages;
        self.stats.restored_pages += stats.restored_pages;
        self.stats.restored += stats.restored;
        self.stats.stowed_dropped += stats.stowed_dropped;
        self.stats.store_failures += stats.store_failures;
        stats.stowed_pages + stats.restored_pages
    }

    fn run(&mut self) {
        while self.step() {
            assert!(self.steps < 20_000, "some session never ends");
        }
    }

    fn tokens(&self, id: SessionId) -> Vec<(u32, u32)> {
        let events = self.events.get(&id).map(Vec::as_slice).unwrap_or_default();
        let token = |event: &Event| match event {
            Event::Token(token) => Some((token.id, token.logprob.to_bits())),
            _ => None,
        };
        events.iter().filter_map(token).collect()
    }

    fn last(&self, id: SessionId) -> &Event {
        self.events[&id].last().unwrap()
    }

    fn reused(&self, id: SessionId) -> usize {
        match self.events[&id][0] {
            Event::Started { reused_tokens, .. } => reused_tokens,
            ref other => panic!("first {other:?}"),
        }
    }

    /// Ends it all: nothing may be left.
    fn close(mut self) {
        self.scheduler.stop_all(&mut self.stage);
        assert_eq!(self.stage.stage().used(), 0, "pages leaked");
        assert_eq!(self.stage.store_room().used, 0, "stowed pages leaked");
        assert!(self.scheduler.is_empty());
        assert!(self.scheduler.clients.is_empty());
    }
}

/// Pages for about eight sessions of a storm, which take 1 to 15 pages each.
const PAGES: usize = 56;

/// Sessions that come at random times through a budget for about eight of them, some cancelled, some
/// with readers that make them pause. Returns a digest of all that happened.
fn storm(seed: u64, sessions: usize, change: impl Fn(&mut EngineConfig)) -> (Blake3, Stats) {
    storm_on(FakeStage::new(PAGES, 256), seed, sessions, change)
}

fn storm_on(
    stage: FakeStage,
    seed: u64,
    sessions: usize,
    change: impl Fn(&mut EngineConfig),
) -> (Blake3, Stats) {
    let mut config = config();
    change(&mut config);
    let most_stored = stage.store_room().total;
    let mut sim = Sim::on(stage, config);
    let mut random = Random(seed);
    let mut requests = BTreeMap::new();
    let mut cancelled = Vec::new();
    while requests.len() < sessions || !sim.scheduler.is_empty() {
        if requests.len() < sessions && random.below(2) == 0 {
            let request = random_request(&mut random, 5);
            let id = sim.submit(&request);
            requests.insert(id, request);
        }
        let any = SessionId(random.below(requests.len().max(1) as u64));
        match random.below(40) {
            0 => {
                sim.scheduler.cancel(any, &mut sim.stage);
                cancelled.push(any);
            }
            1..=4 => sim.scheduler.set_room(any, false, sim.clock.now()),
            _ => sim.scheduler.set_room(any, true, sim.clock.now()),
        }
        sim.step();
        assert!(sim.steps < 20_000, "some session never ends");
    }
    for (id, request) in &requests {
        let (found, expected) = (sim.tokens(*id), alone(request));
        if cancelled.contains(id) {
            assert!(expected.starts_with(&found), "session {id}, cancelled");
        } else {
            assert_eq!(found, expected, "session {id}");
            assert!(
                matches!(sim.last(*id), Event::Finished { .. }),
                "session {id}"
            );
        }
    }
    assert!(sim.stage.stage().most_used <= PAGES);
    assert!(sim.stage.stage().most_stored <= most_stored);
    let outcome = (Blake3::of(sim.trace.as_bytes()), sim.stats.clone());
    sim.close();
    outcome
}

#[test]
fn sixty_four_sessions_through_memory_for_eight_get_what_they_get_alone() {
    for seed in 0..20 {
        let (_, stats) = storm(seed, 64, |config| config.growth_pages = 0);
        assert!(stats.preemptions > 0, "seed {seed} preempted nobody");
        assert!(stats.evictions > 0, "seed {seed} evicted nothing");
        assert!(stats.reused_tokens > 0, "seed {seed} reused nothing");
    }
}

#[test]
fn hundreds_of_sessions_end() {
    storm(1000, 400, |_| {});
}

#[test]
fn one_seed_gives_one_trace() {
    let once = storm(7, 64, |_| {});
    assert_eq!(once, storm(7, 64, |_| {}));
    assert_ne!(once.0, storm(8, 64, |_| {}).0);
}

#[test]
fn no_setting_changes_an_answer() {
    for prefill in [1, 7, 32, 1000] {
        storm(3, 40, |config| config.prefill_rows_max = prefill);
    }
    storm(3, 40, |config| config.decode_rows_max = 1);
    storm(3, 40, |config| config.sessions_max = 1);
    storm(3, 40, |config| config.growth_pages = 0);
    storm(3, 40, |config| config.growth_pages = 1000);
    storm(3, 40, |config| config.retained_max = 0);
    storm(3, 40, |config| config.retained_max = 1);
}

#[test]
fn the_last_prompt_token_is_computed_once_and_never_reused() {
    let mut sim = Sim::new(config(), 64);
    let first = request("a", &[1, 2, 3, 4, 5, 6, 7], 5);
    let a = sim.submit(&first);
    sim.run();
    // 7 prompt rows and 4 of the 5 tokens: the last token is told and not fed.
    assert_eq!(sim.stage.stage().batches.iter().sum::<usize>(), 7 + 4);
    assert_eq!(sim.reused(a), 0);
    let again = sim.submit(&first);
    sim.run();
    assert_eq!(sim.reused(again), 6);
    assert_eq!(sim.stage.stage().batches.iter().sum::<usize>(), 11 + 1 + 4);
    assert_eq!(sim.tokens(again), alone(&first));
    let usage = Usage {
        prompt: 7,
        completion: 5,
        reused: 6,
    };
    assert_eq!(
        *sim.last(again),
        Event::Finished {
            reason: FinishReason::Length,
            usage
        }
    );
    // The next turn of the conversation: its prompt is the last answer with more behind.
    let mut prompt = first.prompt.clone();
    prompt.extend(sim.tokens(a).iter().map(|&(id, _)| id));
    prompt.extend([9, 9]);
    let turn = request("a", &prompt, 3);
    let next = sim.submit(&turn);
    sim.run();
    assert_eq!(sim.reused(next), 11);
    assert_eq!(sim.tokens(next), alone(&turn));
    sim.close();
}

#[test]
fn clients_share_nothing_and_running_sessions_are_shared_within_one() {
    let mut sim = Sim::new(config(), 64);
    let prompt = Random(5).tokens(12);
    let a = sim.submit(&request("a", &prompt, 20));
    sim.step();
    sim.step();
    let (b, same) = (request("b", &prompt, 20), request("a", &prompt, 20));
    let (b, same) = (sim.submit(&b), sim.submit(&same));
    sim.run();
    assert_eq!((sim.reused(a), sim.reused(b), sim.reused(same)), (0, 0, 11));
    assert_eq!(sim.tokens(a), sim.tokens(b));
    assert_eq!(sim.tokens(a), sim.tokens(same));
    sim.close();
}

#[test]
fn a_long_prompt_does_not_stop_the_others_decoding() {
    let mut sim = Sim::new(
        EngineConfig {
            prefill_rows_max: 4,
            ..config()
        },
        64,
    );
    let talker = sim.submit(&request("a", &[1, 2], 30));
    sim.step();
    let reader = sim.submit(&request("b", &Random(2).tokens(60), 1));
    for step in 1..=15 {
        assert_eq!(sim.tokens(talker).len(), step);
        sim.step();
    }
    assert_eq!(sim.tokens(reader).len(), 1);
    assert_eq!(sim.stage.stage().batches[1..16], [5; 15]);
}

#[test]
fn prompts_of_clients_take_turns() {
    let mut sim = Sim::new(
        EngineConfig {
            prefill_rows_max: 5,
            ..config()
        },
        64,
    );
    let long: Vec<_> = (0..4)
        .map(|n| request("hog", &Random(n).tokens(40), 1))
        .collect();
    let hogs: Vec<_> = long.iter().map(|request| sim.submit(request)).collect();
    sim.step();
    let small = sim.submit(&request("guest", &Random(9).tokens(10), 1));
    for _ in 0..4 {
        sim.step();
    }
    assert_eq!(
        sim.tokens(small).len(),
        1,
        "two turns of five rows, every other step"
    );
    assert!(hogs.iter().all(|&id| sim.tokens(id).is_empty()));
}

#[test]
fn a_place_goes_to_the_client_served_least_recently() {
    let mut sim = Sim::new(
        EngineConfig {
            sessions_max: 1,
            ..config()
        },
        64,
    );
    let hogs: Vec<_> = (0..5)
        .map(|n| sim.submit(&request("hog", &[n], 3)))
        .collect();
    sim.step();
    let guest = sim.submit(&request("guest", &[7], 3));
    let mut order = Vec::new();
    while sim.step() {
        for id in hogs.iter().copied().chain([guest]) {
            let ended = sim.events.get(&id).is_some_and(|events| events.len() == 5);
            if ended && !order.contains(&id) {
                order.push(id);
            }
        }
    }
    let expected = [&hogs[..2], &[guest], &hogs[2..]].concat();
    // The guest came when the second of the others had not begun: one of them before it at most.
    assert!(
        order == expected || order == [&hogs[..1], &[guest], &hogs[1..]].concat(),
        "{order:?}"
    );
}

#[test]
fn more_decoding_sessions_than_rows_take_turns() {
    let mut sim = Sim::new(
        EngineConfig {
            decode_rows_max: 2,
            ..config()
        },
        64,
    );
    let ids: Vec<_> = (0..6)
        .map(|n| sim.submit(&request("a", &[n, n], 9)))
        .collect();
    for _ in 0..12 {
        sim.step();
    }
    let counts: Vec<_> = ids.iter().map(|&id| sim.tokens(id).len()).collect();
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(most - least <= 1, "{counts:?}");
}

#[test]
fn cancelling_frees_pages_at_once() {
    let mut sim = Sim::new(config(), 64);
    let (a, b) = (
        sim.submit(&request("a", &[1; 30], 9)),
        sim.submit(&request("b", &[2; 3], 9)),
    );
    sim.step();
    assert!(sim.stage.stage().used() > 8);
    sim.scheduler.cancel(a, &mut sim.stage);
    assert_eq!(sim.stage.stage().used(), 1);
    sim.scheduler.cancel(b, &mut sim.stage);
    assert_eq!(sim.stage.stage().used(), 0);
    sim.scheduler.cancel(b, &mut sim.stage);
    sim.collect();
    assert!(
        sim.events
            .values()
            .flatten()
            .all(|event| !matches!(event, Event::Finished { .. }))
    );
    sim.close();
}

#[test]
fn a_paused_session_holds_nobody_up_and_loses_nothing() {
    // Memory for one of them at a time.
    let mut sim = Sim::new(config(), 10);
    let (slow, fast) = (request("a", &[1; 20], 12), request("b", &[2; 20], 12));
    let a = sim.submit(&slow);
    for _ in 0..4 {
        sim.step();
    }
    let before = sim.tokens(a).len();
    assert!(before > 0);
    sim.scheduler.set_room(a, false, sim.clock.now());
    let b = sim.submit(&fast);
    sim.run();
    assert_eq!(sim.tokens(b), alone(&fast));
    assert_eq!(sim.tokens(a).len(), before, "a paused session went on");
    assert_eq!(sim.stats.preemptions, 1);
    sim.scheduler.set_room(a, true, sim.clock.now());
    sim.run();
    assert_eq!(sim.tokens(a), alone(&slow));
    sim.close();
}

#[test]
fn a_session_that_is_never_read_ends() {
    let mut sim = Sim::new(config(), 64);
    let id = sim.submit(&request("a", &[1], 20));
    sim.step();
    sim.scheduler.set_room(id, false, sim.clock.now());
    assert!(!sim.step());
    assert!(sim.scheduler.next_timeout().is_some());
    sim.clock.advance(config().stall_max);
    sim.step();
    let error = GenerationError::Stalled {
        session: 0,
        seconds: 60,
    };
    assert_eq!(*sim.last(id), Event::Failed { error });
    assert_eq!(sim.stage.stage().used(), 0);
}

#[test]
fn a_deadline_ends_running_and_waiting_sessions() {
    let mut sim = Sim::new(
        EngineConfig {
            sessions_max: 1,
            ..config()
        },
        64,
    );
    let limited = Request {
        deadline: Some(Duration::from_millis(35)),
        ..request("a", &[1], 50)
    };
    let (a, b) = (sim.submit(&limited), sim.submit(&limited));
    sim.run();
    assert_eq!(sim.tokens(a), alone(&limited)[..3]);
    let finished = |usage| Event::Finished {
        reason: FinishReason::Deadline,
        usage,
    };
    assert_eq!(
        *sim.last(a),
        finished(Usage {
            prompt: 1,
            completion: 3,
            reused: 0
        })
    );
    assert_eq!(
        sim.events[&b],
        [finished(Usage {
            prompt: 1,
            completion: 0,
            reused: 0
        })]
    );
    sim.close();
}

#[test]
fn only_the_session_at_fault_fails() {
    let mut sim = Sim::new(config(), 64);
    let good = request("a", &[1, 2, 3], 6);
    let a = sim.submit(&good);
    let bad = sim.submit(&request("a", &[1, 2, 3, POISON], 6));
    let b = sim.submit(&request("b", &[1, 2, 3], 6));
    sim.run();
    assert_eq!(sim.tokens(a), alone(&good));
    assert_eq!(sim.tokens(b), alone(&good));
    let Event::Failed { error } = sim.last(bad) else {
        panic!("{:?}", sim.last(bad))
    };
    let text = error.to_string();
    assert!(
        text.contains("session 1") && text.contains("not finite"),
        "{text}"
    );
    sim.close();
}

#[test]
fn stop_ids_end_an_answer_unless_ignored() {
    let mut sim = Sim::new(config(), 64);
    let plain = request("a", &[1, 2, 3], 10);
    let all = alone(&plain);
    let stop = all[4].0;
    let place = all.iter().position(|&(id, _)| id == stop).unwrap();
    let stopping = Request {
        stop_ids: vec![stop, 3],
        ..plain
    };
    let ignoring = Request {
        ignore_eos: true,
        ..stopping.clone()
    };
    let (a, b) = (sim.submit(&stopping), sim.submit(&ignoring));
    sim.run();
    assert!(sim.tokens(a).len() <= place);
    assert!(matches!(
        sim.last(a),
        Event::Finished {
            reason: FinishReason::Stop(_),
            ..
        }
    ));
    assert_eq!(sim.tokens(b), all);
    sim.close();
}

#[test]
fn what_can_never_be_served_is_refused_at_once() {
    let stage = Local::new(FakeStage::new(10, 50));
    let mut scheduler = Scheduler::new(config(), Secret32::from_bytes([1; 32]));
    let cases = [
        (request("a", &[], 1), "prompt is empty"),
        (request("a", &[1], 0), "max_tokens is 0"),
        (request("a", &[1; 50], 1), "exceed the context of 50"),
        (request("a", &[1], usize::MAX), "exceed the context of 50"),
        (request("a", &[1; 40], 2), "need 11 KV pages, there are 10"),
        (request("a", &[1, 99], 1), "token id 99 at 1"),
    ];
    for (request, expected) in cases {
        let error = scheduler
            .submit(Instant::START, request, &stage)
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
    let mut wild = request("a", &[1], 1);
    wild.sampling.temperature = f32::NAN;
    assert!(scheduler.submit(Instant::START, wild, &stage).is_err());
    assert!(
        scheduler
            .submit(Instant::START, request("a", &[1; 40], 1), &stage)
            .is_ok()
    );
}

/// Several batches on their way, results late, all lost now and then: everybody gets what they get
/// alone, and nobody waits for ever.
#[test]
fn batches_on_the_way_and_losses_change_no_token() {
    for seed in 0..40 {
        let mut random = Random(seed);
        let depth = 1 + random.below(4) as usize;
        let mut pipeline = FakePipeline::new(FakeStage::new(24, 256), depth);
        let mut scheduler = Scheduler::new(config(), Secret32::from_bytes([1; 32]));
        let clock = ManualClock::default();
        let requests: Vec<_> = (0..20).map(|_| random_request(&mut random, 4)).collect();
        let ids: Vec<_> = requests
            .iter()
            .map(|request| scheduler.submit(clock.now(), request.clone(), &pipeline))
            .collect::<Result<_, _>>()
            .expect("acceptable");
        let mut tokens: BTreeMap<SessionId, Vec<(u32, u32)>> = BTreeMap::new();
        let mut turns = 0;
        while !scheduler.is_empty() {
            turns += 1;
            assert!(turns < 20_000, "seed {seed}: no end");
            clock.advance(Duration::from_millis(1));
            while pipeline.is_open() {
                let plan = scheduler.plan(clock.now(), &mut pipeline);
                if plan.is_empty() {
                    break;
                }
                scheduler.begin(clock.now(), plan, &mut pipeline);
            }
            match random.below(60) {
                0 => pipeline.lose(false),
                1..30 => pipeline.arrive(),
                _ => {}
            }
            scheduler.drain(clock.now(), &mut pipeline);
            for (id, event) in scheduler.take_events() {
                match event {
                    Event::Token(token) => {
                        let pair = (token.id, token.logprob.to_bits());
                        tokens.entry(id).or_default().push(pair);
                    }
                    Event::Failed { error } => panic!("seed {seed}: {error}"),
                    _ => {}
                }
            }
        }
        for (id, request) in ids.iter().zip(&requests) {
            let said = tokens.remove(id).unwrap_or_default();
            assert_eq!(said, alone(request), "seed {seed}, session {id}");
        }
        assert!(depth == 1 || pipeline.most_flying > 1, "seed {seed}");
        scheduler.drop_retained(&mut pipeline);
        assert_eq!(pipeline.stage().used(), 0, "seed {seed}: pages leaked");
    }
}

#[test]
fn a_broken_pipeline_is_told_to_everybody() {
    let mut pipeline = FakePipeline::new(FakeStage::new(24, 256), 2);
    let mut scheduler = Scheduler::new(config(), Secret32::from_bytes([1; 32]));
    let clock = ManualClock::default();
    for client in ["a", "b"] {
        let request = request(client, &[1, 2, 3], 5);
        scheduler
            .submit(clock.now(), request, &pipeline)
            .expect("acceptable");
    }
    let plan = scheduler.plan(clock.now(), &mut pipeline);
    scheduler.begin(clock.now(), plan, &mut pipeline);
    pipeline.lose(true);
    scheduler.drain(clock.now(), &mut pipeline);
    let events = scheduler.take_events();
    let failed = events
        .iter()
        .filter(|(_, event)| matches!(event, Event::Failed { error } if error.to_string().contains("expected by a test")));
    assert_eq!(failed.count(), 2, "{events:?}");
    assert!(scheduler.is_empty());
}
