//! The engine's thread against readers of every kind. None of these tests waits for time.

use std::sync::Arc;

use skein_runtime::SystemClock;

use super::*;
use crate::request::{ClientId, Event, FinishReason, GenerationError};
use crate::testing::{BOMB, FakeStage, alone, config, request};

const LONG: Duration = Duration::from_secs(3600);

fn start(config: EngineConfig) -> Engine {
    let secret = Secret32::from_bytes([3; 32]);
    Engine::start(
        FakeStage::new(64, 4096),
        config,
        Arc::new(SystemClock::new()),
        secret,
    )
    .unwrap()
}

fn drain(mut generation: Generation) -> (Vec<(u32, u32)>, Event) {
    let mut tokens = Vec::new();
    let mut last = None;
    while let Some(event) = generation.next_blocking() {
        match event {
            Event::Token(token) => tokens.push((token.id, token.logprob.to_bits())),
            event => last = Some(event),
        }
    }
    (tokens, last.unwrap())
}

#[test]
fn many_readers_get_what_they_get_alone() {
    let engine = start(config());
    let readers: Vec<_> = (0..24)
        .map(|n| {
            let handle = engine.handle();
            let body = move || {
                let request = request(&format!("client {}", n % 3), &[n, 1, 2], 40);
                let expected = alone(&request);
                let (tokens, last) = drain(handle.submit(request).unwrap());
                assert_eq!(tokens, expected);
                assert!(matches!(
                    last,
                    Event::Finished {
                        reason: FinishReason::Length,
                        ..
                    }
                ));
            };
            std::thread::Builder::new().spawn(body).unwrap()
        })
        .collect();
    readers
        .into_iter()
        .for_each(|reader| reader.join().unwrap());
}

#[test]
fn a_slow_reader_pauses_itself_and_nobody_else() {
    let engine = start(EngineConfig {
        events_max: 1,
        sessions_max: 1,
        ..config()
    });
    let handle = engine.handle();
    let (slow, quick) = (request("slow", &[1], 30), request("quick", &[2], 30));
    let (slow_expected, quick_expected) = (alone(&slow), alone(&quick));
    let slow = handle.submit(slow).unwrap();
    // Ends although the slow one, which came first, is not read at all and has the only place.
    assert_eq!(drain(handle.submit(quick).unwrap()).0, quick_expected);
    assert_eq!(drain(slow).0, slow_expected);
}

#[test]
fn dropping_a_generation_makes_room() {
    let engine = start(EngineConfig {
        sessions_max: 1,
        ..config()
    });
    let handle = engine.handle();
    let mut first = handle.submit(request("a", &[1], 200)).unwrap();
    assert!(matches!(first.next_blocking(), Some(Event::Started { .. })));
    let second = request("b", &[2], 5);
    let expected = alone(&second);
    let second = handle.submit(second).unwrap();
    drop(first);
    assert_eq!(drain(second).0, expected);
}

#[test]
fn a_full_queue_answers_busy() {
    let engine = start(EngineConfig {
        sessions_max: 1,
        waiting_max: 3,
        waiting_per_client_max: 2,
        ..config()
    });
    let handle = engine.handle();
    // Nobody reads, so nothing ends; the first two may or may not have been admitted meanwhile.
    let mut held = Vec::new();
    let mut refused = Vec::new();
    for n in 0..12 {
        let client = ["a", "b", "c"][n % 3];
        match handle.submit(request(client, &[1, n as u32], 200)) {
            Ok(generation) => held.push(generation),
            Err(error) => refused.push(error),
        }
    }
    assert!((3..=5).contains(&held.len()), "{} accepted", held.len());
    for error in refused {
        let SubmitError::Busy {
            waiting,
            retry_after,
        } = error
        else {
            panic!("{error}")
        };
        assert!(waiting >= 2 && retry_after >= Duration::from_secs(1));
    }
}

#[tokio::test]
async fn shutdown_lets_sessions_finish() {
    let engine = start(config());
    let handle = engine.handle();
    let wanted = request("a", &[1], 6);
    let expected = alone(&wanted);
    let generation = handle.submit(wanted).unwrap();
    engine.shutdown(LONG).await;
    assert!(!handle.is_open());
    let refused = handle.submit(request("a", &[1], 6)).unwrap_err();
    assert_eq!(refused, SubmitError::ShuttingDown);
    let (tokens, last) = tokio::task::spawn_blocking(|| drain(generation))
        .await
        .unwrap();
    assert_eq!(tokens, expected);
    assert!(matches!(
        last,
        Event::Finished {
            reason: FinishReason::Length,
            ..
        }
    ));
}

#[tokio::test]
async fn shutdown_ends_what_does_not_finish() {
    let engine = start(EngineConfig {
        events_max: 1,
        ..config()
    });
    // Not read, so it cannot finish.
    let mut generation = engine.handle().submit(request("a", &[1], 100)).unwrap();
    engine.shutdown(Duration::ZERO).await;
    let mut last = None;
    while let Some(event) = generation.next().await {
        last = Some(event);
    }
    let last = last.unwrap();
    assert!(
        matches!(
            last,
            Event::Finished {
                reason: FinishReason::Shutdown,
                ..
            }
        ),
        "{last:?}"
    );
}

#[test]
fn readers_hear_of_an_engine_that_died() {
    let engine = start(config());
    let handle = engine.handle();
    let (_, last) = drain(handle.submit(request("a", &[BOMB], 5)).unwrap());
    assert_eq!(
        last,
        Event::Failed {
            error: GenerationError::EngineStopped
        }
    );
    drop(engine);
    let refused = handle.submit(request("a", &[1], 5)).unwrap_err();
    assert_eq!(refused, SubmitError::ShuttingDown);
}

#[test]
fn settings_without_sense_are_named() {
    let bad = EngineConfig {
        waiting_per_client_max: 65,
        ..config()
    };
    let secret = Secret32::from_bytes([3; 32]);
    let clock = Arc::new(SystemClock::new());
    let error = Engine::start(FakeStage::new(1, 9), bad, clock.clone(), secret.clone());
    let text = error.unwrap_err().to_string();
    assert_eq!(
        text,
        "waiting_per_client_max is 65, it must be at least 1 and at most 64"
    );
    let empty = Engine::start(FakeStage::new(0, 9), config(), clock, secret);
    assert!(matches!(empty.unwrap_err(), StartError::NoKv));
}

#[test]
fn the_desk_counts_and_estimates() {
    let mut desk = Desk::new(&EngineConfig {
        waiting_max: 4,
        waiting_per_client_max: 3,
        ..config()
    });
    let (a, b) = (ClientId::new("a"), ClientId::new("b"));
    for _ in 0..3 {
        desk.join(&a).unwrap();
    }
    let busy = |waiting, seconds| SubmitError::Busy {
        waiting,
        retry_after: Duration::from_secs(seconds),
    };
    assert_eq!(desk.join(&a), Err(busy(3, 1)));
    desk.join(&b).unwrap();
    assert_eq!(desk.join(&b), Err(busy(4, 1)));
    // Two sessions end every 64 seconds: an estimate of 4 s after one such time.
    let full = || [(a.clone(), 2), (b.clone(), 2)].into();
    desk.update(Instant::from_start(Duration::from_secs(0)), full(), 1);
    desk.update(Instant::from_start(Duration::from_secs(64)), full(), 2);
    assert_eq!(desk.join(&a), Err(busy(4, 8)));
    desk.update(
        Instant::from_start(Duration::from_secs(64)),
        [(a.clone(), 1)].into(),
        0,
    );
    assert_eq!(desk.waiting(), 1);
    desk.join(&b).unwrap();
}
