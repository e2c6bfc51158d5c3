//! Sequences that give way to a store and come back.

use super::*;
use crate::testing::FakeSpill;

/// Storms of 64 sessions through memory for eight, on a store of `pages`, of which `per_turn` move in a turn.
fn stormy(seed: u64, (pages, per_turn): (usize, usize), one_in: u64) -> (Blake3, Stats) {
    let spill = FakeSpill::new(seed, one_in);
    let stage = FakeStage::new(PAGES, 256).with_store(pages, per_turn, spill);
    storm_on(stage, seed, 64, |config| config.growth_pages = 0)
}

#[test]
fn stowing_changes_no_token() {
    let mut computed = (0, 0);
    for seed in 0..12 {
        let without = storm(seed, 64, |config| config.growth_pages = 0).1;
        for store in [(2000, 1), (2000, 3), (2000, 1000), (25, 2), (6, 1)] {
            let (_, stats) = stormy(seed, store, 0);
            let what = format!("seed {seed}, {store:?}: {stats:?}");
            assert_eq!(stats.store_failures, 0, "{what}");
            assert!(stats.stowed_pages > 0 && stats.evictions > 0, "{what}");
            if store.0 == 2000 {
                assert!(stats.restored > 0 && stats.preemptions > 0, "{what}");
                assert_eq!(stats.stowed_dropped, 0, "{what}");
                computed.0 += stats.prefill_rows;
                computed.1 += without.prefill_rows;
            }
        }
    }
    assert!(computed.0 < computed.1, "{computed:?}: it was for nothing");
}

#[test]
fn a_store_that_fails_and_lies_costs_no_token() {
    let mut failures = 0;
    for seed in 0..30 {
        for (one_in, per_turn) in [(40, 1000), (12, 2), (5, 1000), (2, 1)] {
            failures += stormy(seed, (400, per_turn), one_in).1.store_failures;
        }
    }
    assert!(failures > 100, "{failures}");
}

#[test]
fn one_seed_gives_one_trace_with_a_store() {
    for one_in in [0, 12] {
        let once = stormy(7, (30, 2), one_in);
        assert_eq!(once, stormy(7, (30, 2), one_in));
        assert_ne!(once.0, stormy(8, (30, 2), one_in).0);
    }
}

#[test]
fn no_setting_changes_an_answer_with_a_store() {
    let on = |change: fn(&mut EngineConfig)| {
        let stage = FakeStage::new(PAGES, 256).with_store(60, 2, FakeSpill::new(3, 0));
        storm_on(stage, 3, 40, change)
    };
    on(|config| config.prefill_rows_max = 1);
    on(|config| config.prefill_rows_max = 7);
    on(|config| config.decode_rows_max = 1);
    on(|config| config.sessions_max = 1);
    on(|config| config.sessions_max = 3);
    on(|config| config.growth_pages = 1000);
    on(|config| config.retained_max = 0);
    on(|config| config.retained_max = 1);
}

/// A stage of `pages`, with a store of `stored` that does not fail.
fn sim(pages: usize, stored: usize, per_turn: usize) -> Sim {
    let stage = FakeStage::new(pages, 256);
    let spill = FakeSpill::new(0, 0);
    Sim::on(stage.with_store(stored, per_turn, spill), config())
}

/// Rows computed so far.
fn rows(sim: &Sim) -> usize {
    sim.stage.stage().batches.iter().sum()
}

#[test]
fn a_preempted_session_goes_on_without_computing_anything_again() {
    for per_turn in [1, 2, 100] {
        let mut sim = sim(10, 64, per_turn);
        let (slow, fast) = (request("a", &[1; 20], 12), request("b", &[2; 20], 12));
        let a = sim.submit(&slow);
        for _ in 0..4 {
            sim.step();
        }
        sim.scheduler.set_room(a, false, sim.clock.now());
        let b = sim.submit(&fast);
        sim.run();
        assert_eq!(sim.tokens(b), alone(&fast));
        assert_eq!((sim.stats.preemptions, sim.stats.restored), (1, 0));
        sim.scheduler.set_room(a, true, sim.clock.now());
        sim.run();
        assert_eq!(sim.tokens(a), alone(&slow));
        // Two prompts, and each token but the last of each fed once.
        assert_eq!(rows(&sim), 2 * (20 + 11), "{per_turn}");
        assert_eq!(sim.stats.restored, 1);
        sim.close();
    }
}

#[test]
fn a_prompt_continues_a_prefix_that_had_to_leave() {
    let mut sim = sim(10, 64, 2);
    let first = request("a", &Random(1).tokens(20), 10);
    let a = sim.submit(&first);
    sim.run();
    // Takes all of the memory.
    sim.submit(&request("b", &Random(2).tokens(30), 10));
    sim.run();
    assert_eq!(sim.stats.evictions, 1);
    assert_eq!(sim.stage.store_room().used, 29_usize.div_ceil(4));
    let before = rows(&sim);
    let mut prompt = first.prompt.clone();
    prompt.extend(sim.tokens(a).iter().map(|&(id, _)| id));
    let turn = request("a", &prompt, 3);
    let next = sim.submit(&turn);
    sim.run();
    assert_eq!(sim.tokens(next), alone(&turn));
    assert_eq!(sim.reused(next), 29);
    assert_eq!(rows(&sim) - before, 1 + 2);
    // Nobody else's.
    let foreign = request("c", &prompt, 3);
    let foreign = sim.submit(&foreign);
    sim.run();
    assert_eq!(sim.reused(foreign), 0);
    sim.close();
}

#[test]
fn a_conversation_that_leaves_again_takes_its_pages_along() {
    let mut sim = sim(16, 64, 100);
    let push_out = |sim: &mut Sim, seed| {
        sim.submit(&request("b", &Random(seed).tokens(60), 1));
        sim.run();
    };
    let mut prompt = Random(1).tokens(18);
    sim.submit(&request("a", &prompt, 1));
    sim.run();
    push_out(&mut sim, 2);
    // 18 positions: four whole pages and one that is not.
    assert_eq!(sim.stats.stowed_pages, 5);
    prompt.extend(Random(3).tokens(6));
    sim.submit(&request("a", &prompt, 1));
    sim.run();
    let others = sim.stats.stowed_pages - 5;
    assert_eq!((others, sim.stats.restored), (15, 1), "the other had to go");
    push_out(&mut sim, 4);
    // 24 positions: pages five and six.
    assert_eq!(sim.stats.stowed_pages - others, 5 + 2);
    let turn = request("a", &prompt, 4);
    let last = sim.submit(&turn);
    sim.run();
    assert_eq!((sim.tokens(last), sim.reused(last)), (alone(&turn), 23));
    sim.close();
}

#[test]
fn prefixes_give_way_in_a_full_store_and_sessions_do_not() {
    // Room for one of them in memory, and for two in the store.
    let mut sim = sim(8, 12, 100);
    let old: Vec<_> = (0..4)
        .map(|seed| request("a", &Random(seed).tokens(24), 1))
        .collect();
    for request in &old {
        sim.submit(request);
        sim.run();
    }
    assert_eq!((sim.stats.evictions, sim.stats.stowed_dropped), (3, 1));
    assert_eq!(sim.scheduler.load().stowed, 2);
    let ids: Vec<_> = [1, 0].map(|at| sim.submit(&old[at])).to_vec();
    sim.run();
    assert_eq!((sim.reused(ids[0]), sim.reused(ids[1])), (23, 0));
    // Paused sessions take the place of prefixes, and the next one that of nobody.
    let paused: Vec<_> = (10..14)
        .map(|seed| {
            let request = request("p", &Random(seed).tokens(22), 9);
            let id = sim.submit(&request);
            sim.step();
            sim.step();
            sim.scheduler.set_room(id, false, sim.clock.now());
            (id, request)
        })
        .collect();
    assert_eq!(sim.scheduler.load().stowed, 0);
    assert!(sim.stage.stage().most_stored <= 12);
    for (id, request) in paused {
        sim.scheduler.set_room(id, true, sim.clock.now());
        sim.run();
        assert_eq!(sim.tokens(id), alone(&request));
    }
    assert_eq!(sim.stats.store_failures, 0);
    sim.close();
}

#[test]
fn what_is_on_its_way_ends_with_its_session() {
    let mut sim = sim(10, 64, 1);
    let a = sim.submit(&request("a", &[1; 30], 9));
    sim.step();
    sim.step();
    sim.scheduler.set_room(a, false, sim.clock.now());
    let b = sim.submit(&request("b", &[2; 30], 9));
    for _ in 0..3 {
        sim.step();
    }
    let room = sim.stage.store_room();
    assert!((1..8).contains(&room.used), "{room:?}");
    sim.scheduler.cancel(a, &mut sim.stage);
    assert_eq!(sim.stage.store_room().used, 0);
    sim.run();
    assert_eq!(sim.tokens(b), alone(&request("b", &[2; 30], 9)));
    sim.close();
}

#[test]
fn a_broken_store_is_given_up() {
    let stage = FakeStage::new(10, 256).with_store(64, 100, FakeSpill::new(0, 1));
    let mut sim = Sim::on(stage, config());
    for seed in 0..9 {
        let request = request("a", &Random(seed).tokens(24), 2);
        let id = sim.submit(&request);
        sim.run();
        assert_eq!(sim.tokens(id), alone(&request));
    }
    assert_eq!(sim.stats.evictions, 8);
    assert_eq!((sim.stats.store_failures, sim.stats.stowed_pages), (3, 0));
    assert_eq!(sim.stage.store_room().total, 0);
    sim.close();
}
