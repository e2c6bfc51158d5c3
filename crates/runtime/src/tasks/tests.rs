use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn shutdown_waits_for_tasks_and_threads() {
    let tasks = Tasks::new(Handle::current());
    let done = Arc::new(AtomicBool::new(false));
    let (stopping, flag) = (tasks.stopping(), Arc::clone(&done));
    tasks.spawn("worker", async move {
        stopping.cancelled().await;
        flag.store(true, Ordering::SeqCst);
    });
    let (told, hears) = std::sync::mpsc::sync_channel(1);
    let handle = tasks
        .thread("engine", move |stopping| {
            while !stopping.is_cancelled() {
                std::thread::park();
            }
            told.send(()).unwrap();
        })
        .unwrap();
    tasks.stop();
    handle.unpark();
    let report = tasks.shutdown(LONG).await;
    assert!(report.is_clean(), "{report:?}");
    assert!(done.load(Ordering::SeqCst));
    hears.try_recv().unwrap();
}

#[tokio::test]
async fn what_does_not_end_is_named() {
    let tasks = Tasks::new(Handle::current());
    tasks.spawn("deaf", std::future::pending());
    tasks.spawn("brief", async {});
    let report = tasks.shutdown(Duration::from_millis(20)).await;
    assert_eq!(report.unfinished, ["deaf"]);
}

#[tokio::test]
async fn a_critical_failure_stops_all() {
    let tasks = Tasks::new(Handle::current());
    let stopping = tasks.stopping();
    tasks.spawn("other", async move { stopping.cancelled().await });
    tasks.spawn_critical("listener", async { Err("the port is gone") });
    tasks.stopping().cancelled().await;
    let report = tasks.shutdown(LONG).await;
    let failure = Failure {
        task: "listener".into(),
        reason: "the port is gone".into(),
    };
    assert_eq!(
        report,
        ShutdownReport {
            unfinished: vec![],
            failures: vec![failure]
        }
    );
}

#[tokio::test]
async fn panics_are_reported_and_stop_only_if_critical() {
    let tasks = Tasks::new(Handle::current());
    tasks.spawn("clumsy", async { panic!("expected by this test") });
    tokio::task::yield_now().await;
    assert!(!tasks.stopping().is_cancelled());
    tasks
        .thread("engine", |_| panic!("expected by this test"))
        .unwrap();
    tasks.stopping().cancelled().await;
    let report = tasks.shutdown(LONG).await;
    let names: Vec<_> = report
        .failures
        .iter()
        .map(|failure| failure.task.as_str())
        .collect();
    assert_eq!(names, ["clumsy", "engine"]);
    assert!(report.unfinished.is_empty());
}
