//! `GET /v1/network`: what it says, to the letter, and that its own types read it.

use std::time::Duration;

use serde_json::{Value, json};
use skein_base::NodeId;
use skein_serving::Load;
use skein_serving::view::{
    CircuitView, ExecutorView, Spread, StageReport, StageView, Standing, StoreView, View,
};

use super::rig::Rig;
use crate::network::Network;

fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn stage(byte: u8, layers: std::ops::Range<u32>) -> StageView {
    StageView {
        node: NodeId([byte; 32]),
        layers,
        serving: false,
        standing: Standing::Unknown,
        answer: None,
        report: None,
        rows_per_second: 0.0,
        rows_per_pass: 0.0,
        busy: 0.0,
    }
}

fn busy_view() -> View {
    let report = StageReport {
        circuits: 1,
        pages_granted: 20,
        pages_used: 12,
        pages_total: 40,
        page_bytes: 65_536,
        waiting: 2,
        rows: 700,
        passes: 350,
        failures: 3,
        computing_us: 1_250_000,
    };
    let serving = StageView {
        serving: true,
        standing: Standing::Up,
        answer: Some(millis(2)),
        report: Some(report),
        rows_per_second: 40.5,
        rows_per_pass: 2.0,
        busy: 0.25,
        ..stage(0xab, 0..12)
    };
    View {
        load: Load {
            running: 2,
            waiting: 1,
            retained: 4,
            stowed: 5,
        },
        pages_used: 12,
        pages_total: 40,
        page_positions: 32,
        store: StoreView {
            pages_used: 7,
            pages_total: 100,
            page_bytes: 65_536,
            prefixes: 5,
            restored: 9,
            dropped: 1,
            failures: 2,
        },
        tokens: 1 << 40,
        tokens_per_second: 12.5,
        batch_sessions: 1.5,
        batch_rows: 3.0,
        step: Spread {
            median: millis(125),
            p99: millis(500),
        },
        executor: ExecutorView {
            circuit: CircuitView::Open,
            generation: 3,
            layers: 24,
            hop: Some(Spread {
                median: millis(1),
                p99: millis(4),
            }),
            stages: vec![serving, stage(1, 12..24)],
        },
    }
}

async fn network(rig: &Rig, view: View) -> Value {
    *rig.backend.view.lock().unwrap() = view;
    let reply = rig.get("/v1/network").await;
    assert_eq!(reply.header("content-type"), "application/json");
    let read: Network = serde_json::from_str(&reply.text).expect("its own types read it");
    assert_eq!(serde_json::to_value(read).unwrap(), reply.json());
    reply.json()
}

#[tokio::test]
async fn a_cut_model_shows_its_stages() {
    let expected = json!({"object": "network", "models": [{
        "id": "tiny",
        "circuit": {"state": "open", "generation": 3, "down_seconds": null},
        "layers": 24,
        "sessions": {"running": 2, "waiting": 1, "retained": 4},
        "kv": {"pages_used": 12, "pages_total": 40, "page_positions": 32,
            "store": {"pages_used": 7, "pages_total": 100, "page_bytes": 65_536, "prefixes": 5,
                "restored": 9, "dropped": 1, "failures": 2}},
        "tokens": 1_u64 << 40,
        "tokens_per_second": 12.5,
        "batch": {"sessions": 1.5, "rows": 3.0},
        "step_seconds": {"median": 0.125, "p99": 0.5},
        "hop_seconds": {"median": 0.001, "p99": 0.004},
        "stages": [{
            "node": "ab".repeat(32), "layers": {"start": 0, "end": 12}, "serving": true,
            "standing": "up", "answer_seconds": 0.002, "rows_per_second": 40.5,
            "rows_per_pass": 2.0, "busy": 0.25,
            "report": {"circuits": 1, "pages_granted": 20, "pages_used": 12, "pages_total": 40,
                "page_bytes": 65536, "waiting": 2, "rows": 700, "passes": 350, "failures": 3,
                "computing_seconds": 1.25},
        }, {
            "node": "01".repeat(32), "layers": {"start": 12, "end": 24}, "serving": false,
            "standing": "unknown", "answer_seconds": null, "rows_per_second": 0.0,
            "rows_per_pass": 0.0, "busy": 0.0, "report": null,
        }],
    }]});
    let rig = Rig::new();
    assert_eq!(network(&rig, busy_view()).await, expected);
}

#[tokio::test]
async fn every_state_has_its_word() {
    let rig = Rig::new();
    let since = millis(1500);
    for (circuit, state, down) in [
        (CircuitView::Local, "local", json!(null)),
        (CircuitView::Open, "open", json!(null)),
        (CircuitView::Opening, "opening", json!(null)),
        (CircuitView::Down { since }, "down", json!(1.5)),
    ] {
        let mut view = View::default();
        view.executor.circuit = circuit;
        let shown = network(&rig, view).await["models"][0]["circuit"].take();
        assert_eq!(
            shown,
            json!({"state": state, "generation": 0, "down_seconds": down})
        );
    }
    for (standing, word) in [
        (Standing::Unknown, "unknown"),
        (Standing::Up, "up"),
        (Standing::Silent, "silent"),
        (Standing::Shunned, "shunned"),
    ] {
        let mut view = View::default();
        view.executor.stages = vec![StageView {
            standing,
            ..stage(1, 0..1)
        }];
        let shown = network(&rig, view).await;
        assert_eq!(shown["models"][0]["stages"][0]["standing"], word);
    }
}

/// A rate over no time must not make the whole answer unreadable.
#[tokio::test]
async fn rates_that_are_no_numbers_are_shown_as_zero() {
    let mut view = busy_view();
    view.tokens_per_second = f64::NAN;
    view.batch_rows = f64::INFINITY;
    view.executor.stages[0].busy = f64::NAN;
    let shown = network(&Rig::new(), view).await;
    let model = &shown["models"][0];
    assert_eq!(model["tokens_per_second"], 0.0);
    assert_eq!(model["batch"], json!({"sessions": 1.5, "rows": 0.0}));
    assert_eq!(model["stages"][0]["busy"], 0.0);
}

#[tokio::test]
async fn it_is_only_read() {
    let reply = Rig::new().post("/v1/network", "{}").await;
    assert_eq!((reply.error().0, reply.header("allow")), (405, "GET, HEAD"));
}
