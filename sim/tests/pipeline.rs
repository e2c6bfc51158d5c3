//! A model cut over stages says what one process says, whatever happens on the way.

use std::time::Duration;

use skein_routing::Mode;
use skein_runtime::{Clock as _, Instant};
use skein_serving::view::{CircuitView, Standing};
use skein_sim::{Faults, Net, Outcomes, Plan, Random, Shape, Tokens, expected, requests, run};
use skein_weights::source::WeightSource as _;

const CALM: Faults = Faults {
    stages: 0,
    links: 0,
    answers: 0,
    delay: 2,
    slow: 0,
};

fn shape(model: &'static str, slices: u32, replicas: u8) -> Shape {
    Shape {
        model,
        slices,
        replicas,
        mode: Mode::Chain,
    }
}

/// `count` requests at once, and what one process says to them.
fn plan(net: &Net, seed: u64, count: usize) -> (Plan, Vec<Tokens>) {
    let vocabulary = net.checkpoint().profile().vocabulary;
    let requests = requests(&mut Random(seed), vocabulary, count);
    let expected = expected(net, &requests);
    let plan = Plan {
        requests,
        every: 0,
        waiting_max: 1000,
    };
    (plan, expected)
}

fn assert_all(outcomes: &Outcomes, expected: &[Tokens], what: &str) {
    assert_eq!(outcomes.failed, Vec::<String>::new(), "{what}");
    let found: Vec<_> = outcomes.answered.values().cloned().collect();
    assert_eq!(found, expected, "{what}");
}

/// Any cut, either mode, many sessions at once: what one process says, bit for bit.
#[test]
fn a_cut_model_says_what_the_whole_one_says() {
    for name in ["qwen2", "llama31-sharded", "mistral", "gpt2"] {
        for cut in 1..=4 {
            let mode = [Mode::Chain, Mode::Driven][cut as usize % 2];
            let shape = Shape {
                mode,
                ..shape(name, cut, 1)
            };
            let mut net = Net::new(shape, u64::from(cut), CALM);
            let (plan, expected) = plan(&net, 11, 12);
            let outcomes = run(&mut net, &plan);
            assert_all(&outcomes, &expected, &format!("{name} in {cut}, {mode:?}"));
            assert_eq!(outcomes.circuits, 0);
            assert_eq!(outcomes.view.circuit, CircuitView::Open);
            assert!(
                outcomes.reused > 0,
                "{name} in {cut}: prefixes reuse KV on all stages"
            );
        }
    }
}

/// Two replicas of three slices, killed, stopped and started again at random, links that lose what
/// they carry, answers falsified now and then: the same tokens, every request ends.
#[test]
fn faults_change_no_token() {
    let mut circuits = 0;
    for seed in 0..12 {
        let faults = Faults {
            stages: 300,
            links: if seed % 3 == 0 { 300 } else { 0 },
            answers: if seed % 2 == 0 { 40 } else { 0 },
            delay: seed as usize % 5,
            slow: seed % 4,
        };
        let shape = Shape {
            mode: [Mode::Chain, Mode::Driven][seed as usize / 6],
            ..shape("qwen2", 3, 2)
        };
        let mut net = Net::new(shape, seed, faults);
        let (plan, expected) = plan(&net, seed, 10);
        let outcomes = run(&mut net, &plan);
        assert_all(&outcomes, &expected, &format!("seed {seed}"));
        circuits += outcomes.circuits;
    }
    assert!(
        circuits >= 12,
        "only {circuits} circuits were left: too calm to show anything"
    );
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let trace = |seed| {
        let faults = Faults {
            stages: 200,
            links: 200,
            answers: 40,
            delay: 3,
            slow: 2,
        };
        let mut net = Net::new(shape("qwen2", 2, 2), seed, faults);
        let (plan, _) = plan(&net, 7, 6);
        run(&mut net, &plan);
        net.trace
    };
    assert_eq!(trace(77), trace(77));
    assert_ne!(trace(77), trace(78));
}

/// No replica: whoever waits is told in bounded time.
#[test]
fn without_a_replica_the_client_is_told() {
    let mut net = Net::new(shape("qwen2", 2, 1), 1, CALM);
    let victim = net.records[1].node;
    net.kill(victim);
    let (plan, _) = plan(&net, 3, 3);
    let outcomes = run(&mut net, &plan);
    assert_eq!((outcomes.failed.len(), outcomes.answered.len()), (3, 0));
    assert!(outcomes.failed[0].contains("no working stage"));
    let waited = net.clock.now().since(Instant::START);
    assert!(waited < Duration::from_secs(30), "{waited:?}");
}

/// A stage that stops without a word is noticed by the silence of its links, long before the
/// deadline of a batch, and its replica goes on.
#[test]
fn a_stage_that_stops_is_left_soon() {
    for (index, what) in [(0, "the first"), (2, "in the middle"), (4, "the last")] {
        let mut net = Net::new(shape("qwen2", 3, 2), 5, CALM);
        let (mut plan, _) = plan(&net, 3, 8);
        for request in &mut plan.requests {
            request.max_tokens = 40;
        }
        let expected = expected(&net, &plan.requests);
        let victim = net.records[index].node;
        let at = Instant::START.after(Duration::from_millis(60));
        net.stop_at = Some((at, victim));
        let outcomes = run(&mut net, &plan);
        assert_all(&outcomes, &expected, what);
        assert_eq!(outcomes.circuits, 1, "{what}");
        let seen = outcomes.view.stages.iter();
        let of_victim = seen.clone().find(|stage| stage.node == victim);
        let standing = of_victim.map(|stage| stage.standing);
        assert!(
            matches!(standing, Some(Standing::Silent | Standing::Shunned)),
            "{what}: {standing:?}"
        );
        assert!(
            net.clock.now().since(Instant::START) < Duration::from_secs(5),
            "{what}"
        );
    }
}

/// Ten times as many requests as the stages can serve: some are told to come back, none is lost, no
/// stage ever grants more than it has (the net asserts that at every tick).
#[test]
fn under_overload_every_request_ends() {
    let faults = Faults { slow: 4, ..CALM };
    let mut net = Net::new(shape("qwen2", 2, 1), 9, faults);
    let (mut plan, expected) = plan(&net, 21, 80);
    plan.every = 2;
    plan.waiting_max = 16;
    let outcomes = run(&mut net, &plan);
    assert_eq!(outcomes.failed, Vec::<String>::new());
    assert!(outcomes.refused > 20, "{} refused", outcomes.refused);
    assert_eq!(outcomes.refused + outcomes.answered.len(), 80);
    for (index, tokens) in &outcomes.answered {
        assert_eq!(tokens, &expected[*index], "request {index}");
    }
}
