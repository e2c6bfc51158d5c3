//! A stage without a model between its thread and the links', whose turns are taken one by one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use skein_base::{ModelId, NumericsId};
use skein_model::kv::{PAGE_POSITIONS, PageTable};
use skein_model::{Input, KvFull, Output, Sequence};
use skein_runtime::ManualClock;
use skein_serving::host::{HostConfig, SliceIdentity};
use skein_serving::stage::BatchEntry;
use skein_serving::wire::{BackKey, CircuitId, CircuitName, Failure, Hop, Open, Rows, Share, Work};
use skein_serving::{Paging, StageError, StageLimits};

use super::*;

const KEY: BackKey = BackKey([8; 32]);
const ENTRY: u64 = 1;
const BACK: u64 = 2;
const NAME: CircuitName = CircuitName {
    circuit: CircuitId([3; 16]),
    generation: 0,
};
const PAGES: u32 = 4096;
/// Longer than any test may take: a wake-up that is lost hangs.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);

/// Each pass takes as long as it is told, by a clock that nobody waits for.
#[derive(Debug)]
struct FakeStage {
    table: PageTable,
    clock: Arc<ManualClock>,
    takes: Duration,
    bomb: Arc<AtomicBool>,
}

impl Paging for FakeStage {
    type Sequence = Sequence;

    fn limits(&self) -> StageLimits {
        StageLimits {
            vocabulary: 10,
            context: PAGES as usize * PAGE_POSITIONS,
            page_positions: PAGE_POSITIONS,
            total_pages: self.table.total_pages(),
            depth: 1,
        }
    }

    fn free_pages(&self) -> usize {
        self.table.free_pages()
    }

    fn sequence(&mut self) -> Sequence {
        self.table.sequence()
    }

    fn filled(&self, sequence: &Sequence) -> usize {
        sequence.len()
    }

    fn fork(&mut self, of: &Sequence, len: usize) -> Sequence {
        self.table.fork(of, len)
    }

    fn pages_needed(&self, sequence: &Sequence, len: usize) -> usize {
        self.table.pages_needed(sequence, len)
    }

    fn reserve(&mut self, sequence: &mut Sequence, len: usize) -> Result<(), KvFull> {
        self.table.reserve(sequence, len).map(drop)
    }

    fn release(&mut self, sequence: Sequence) {
        self.table.release(sequence);
    }
}

impl Stage for FakeStage {
    fn page_bytes(&self) -> usize {
        1
    }

    fn run(
        &mut self,
        batch: &mut [BatchEntry<'_, Sequence>],
        _: Input<'_>,
    ) -> Result<Output, StageError> {
        assert!(!self.bomb.load(Ordering::SeqCst), "meant");
        self.clock.advance(self.takes);
        let mut rows = 0;
        for entry in batch {
            self.table.advance(entry.sequence, entry.rows);
            rows += entry.rows;
        }
        Ok(Output::Hidden(vec![0.0; rows]))
    }
}

/// Tells what is sent, or refuses it.
#[derive(Debug, Clone)]
struct Out {
    sent: SyncSender<Message>,
    refuses: bool,
}

impl Outlet for Out {
    fn send(&self, _: To, message: &Message) -> bool {
        self.sent.try_send(message.clone()).expect("room for all");
        !self.refuses
    }
}

struct Rig {
    stage: Arc<Shared<FakeStage>>,
    inlet: Option<Inlet<FakeStage>>,
    clock: Arc<ManualClock>,
    bomb: Arc<AtomicBool>,
    out: Out,
    sent: Receiver<Message>,
    number: u64,
    position: u32,
}

fn message(link: u64, message: Message) -> HostEvent {
    let node = NodeId([link as u8; 32]);
    HostEvent::Message {
        link,
        node,
        message,
    }
}

impl Rig {
    /// A stage whose passes take `takes`, with a circuit. Nothing has run yet.
    fn new(takes: Duration) -> Self {
        let clock = Arc::new(ManualClock::default());
        let bomb = Arc::new(AtomicBool::new(false));
        let stage = FakeStage {
            table: PageTable::new(PAGES),
            clock: Arc::clone(&clock),
            takes,
            bomb: Arc::clone(&bomb),
        };
        let identity = SliceIdentity {
            model: ModelId([1; 32]),
            numerics: NumericsId([2; 32]),
            layers: 0..4,
        };
        let open = Message::Open(Open {
            name: NAME,
            model: identity.model,
            numerics: identity.numerics,
            pages: PAGES..PAGES,
            route: vec![Hop {
                node: NodeId([9; 32]),
                layers: 0..4,
            }],
            hop: 0,
            voucher: Vec::new(),
            back: KEY.hash(),
        });
        let host = Host::new(stage, identity, HostConfig::default());
        let (stage, inlet) = shared(host, Arc::clone(&clock) as Arc<dyn Clock>);
        let (sent, received) = sync_channel(64);
        let rig = Self {
            stage: stage.0,
            inlet: Some(inlet),
            clock,
            bomb,
            out: Out {
                sent,
                refuses: false,
            },
            sent: received,
            number: 0,
            position: 0,
        };
        let attach = Message::Attach {
            name: NAME,
            key: KEY,
        };
        rig.put(message(ENTRY, open));
        rig.put(message(BACK, attach));
        // Setting up needs no thread.
        rig.inlet().run_here(&rig.out);
        assert!(matches!(rig.sent()[..], [Message::Opened { .. }]));
        assert_eq!(rig.woken(), Woken::Late);
        rig
    }

    fn inlet(&self) -> &Inlet<FakeStage> {
        self.inlet.as_ref().expect("not dropped yet")
    }

    fn put(&self, event: HostEvent) {
        self.inlet().put(event).expect("room");
    }

    fn work(&mut self, rows: u32) {
        let share = Share {
            sequence: 1,
            position: self.position,
            rows,
            scored: true,
            asked: Vec::new(),
            trace: None,
        };
        let work = Work {
            name: NAME,
            number: self.number,
            changes: Vec::new(),
            shares: vec![share],
            rows: Rows::Ids(vec![0; rows as usize]),
            spent: Vec::new(),
        };
        self.number += 1;
        self.position += rows;
        self.put(message(ENTRY, Message::Work(work)));
    }

    /// One turn of the stage's thread.
    fn turn(&self) -> bool {
        self.stage.computing().turn(&self.stage.mailbox, &self.out)
    }

    /// What the stage's thread would do now if it came to wait.
    fn woken(&self) -> Woken {
        self.stage.mailbox.wait(Duration::ZERO)
    }

    fn sent(&self) -> Vec<Message> {
        self.sent.try_iter().collect()
    }

    /// Numbers of the batches whose answers were sent, and nothing else was.
    fn answered(&self) -> Vec<u64> {
        self.sent().iter().map(number).collect()
    }
}

fn number(message: &Message) -> u64 {
    match message {
        Message::Answer { number, .. } => *number,
        other => panic!("no answer: {other:?}"),
    }
}

#[test]
fn what_was_never_measured_is_left_to_the_thread() {
    let mut rig = Rig::new(Duration::from_millis(1));
    rig.work(1);
    rig.inlet().run_here(&rig.out);
    assert!(rig.answered().is_empty());
    assert_eq!(rig.woken(), Woken::Roused);
    assert!(rig.turn());
    assert_eq!(rig.answered(), [0]);
    // From now on it is known, and the thread sleeps on.
    rig.work(1);
    rig.inlet().run_here(&rig.out);
    assert_eq!(rig.answered(), [1]);
    assert_eq!(rig.woken(), Woken::Late);
    assert!(!rig.turn());
}

#[test]
fn what_is_long_is_left_to_the_thread() {
    // Milliseconds of a pass, its rows, the rows that come then, and whether those run here.
    let cases = [
        (1, 1, 1, true),
        (1, 1, 16, true),
        (1, 1, 17, false),
        (20, 1, 1, true),
        (21, 1, 1, false),
        (5, 1, 4, true),
        (5, 1, 5, false),
        (15, 8, 8, true),
        (15, 8, 9, false),
        // A prompt's pass says nothing about short ones.
        (1, 17, 1, false),
    ];
    for (takes, before, rows, here) in cases {
        let mut rig = Rig::new(Duration::from_millis(takes));
        rig.work(before);
        assert!(rig.turn());
        assert_eq!(rig.answered(), [0]);
        rig.work(rows);
        rig.inlet().run_here(&rig.out);
        let case = (takes, before, rows);
        let expected: &[u64] = if here { &[1] } else { &[] };
        assert_eq!(rig.answered(), expected, "{case:?}");
        let expected = if here { Woken::Late } else { Woken::Roused };
        assert_eq!(rig.woken(), expected, "{case:?}");
    }
}

#[test]
fn while_the_thread_computes_all_is_left_to_it_in_order() {
    let mut rig = Rig::new(Duration::from_millis(1));
    rig.work(1);
    assert!(rig.turn());
    let held = Arc::clone(&rig.stage);
    let computing = held.computing();
    for _ in 0..3 {
        rig.work(1);
        rig.inlet().run_here(&rig.out);
    }
    drop(computing);
    assert_eq!(rig.woken(), Woken::Roused);
    assert_eq!(rig.answered(), [0]);
    while rig.turn() {}
    assert_eq!(rig.answered(), [1, 2, 3]);
}

/// The thread found nothing to do, and then something comes before it waits.
#[test]
fn what_comes_as_the_thread_goes_to_sleep_is_not_missed() {
    let mut rig = Rig::new(Duration::from_millis(1));
    rig.work(1);
    assert!(rig.turn());
    assert!(!rig.turn());
    rig.work(1);
    assert_eq!(
        rig.woken(),
        Woken::Roused,
        "it waits, for nobody in particular"
    );
    // Both look: only one finds it.
    rig.inlet().run_here(&rig.out);
    assert!(!rig.turn());
    assert_eq!(rig.answered(), [0, 1]);
    rig.work(17);
    rig.inlet().run_here(&rig.out);
    assert_eq!(rig.woken(), Woken::Roused, "taken in, not computed");
}

#[test]
fn one_pass_at_a_time_keeps_the_links_waiting() {
    let mut rig = Rig::new(Duration::from_millis(1));
    rig.work(1);
    assert!(rig.turn());
    rig.work(1);
    rig.work(1);
    rig.inlet().run_here(&rig.out);
    assert_eq!(rig.answered(), [0, 1]);
    assert_eq!(rig.woken(), Woken::Roused);
    assert!(rig.turn());
    assert_eq!(rig.answered(), [2]);
}

#[test]
fn deadlines_are_minded_whoever_runs() {
    let rig = Rig::new(Duration::ZERO);
    rig.clock.advance(HostConfig::default().idle_timeout);
    rig.inlet().run_here(&rig.out);
    let failure = Failure::Silent;
    assert!(matches!(&rig.sent()[..], [Message::Failed { failure: f, .. }] if *f == failure));
}

#[test]
fn a_link_that_takes_nothing_ends_its_circuits() {
    let mut rig = Rig::new(Duration::ZERO);
    rig.out.refuses = true;
    rig.work(1);
    assert!(rig.turn());
    assert_eq!(rig.stage.computing().host.circuits(), 0);
}

#[test]
fn leaving_it_finishes_what_it_has_and_takes_no_more() {
    let mut rig = Rig::new(Duration::from_millis(1));
    rig.work(1);
    rig.work(1);
    let stopping = CancellationToken::new();
    stopping.cancel();
    let (out, drain) = (rig.out.clone(), Duration::from_secs(1));
    rig.stage.serve(&out, &stopping, (FOR_EVER, drain));
    let sent = rig.sent();
    assert_eq!(sent[..2].iter().map(number).collect::<Vec<_>>(), [0, 1]);
    let failure = Failure::Leaving;
    assert!(matches!(&sent[2..], [Message::Failed { failure: f, .. }] if *f == failure));
    let late = rig.inlet().put(message(ENTRY, Message::Ask { nonce: 1 }));
    assert!(matches!(late, Err(Refused::Closed)));
    rig.inlet().run_here(&rig.out);
    assert!(rig.sent().is_empty());
}

#[test]
fn without_links_the_thread_ends_after_what_it_has() {
    let mut rig = Rig::new(Duration::from_millis(1));
    rig.work(1);
    rig.inlet = None;
    let (out, drain) = (rig.out.clone(), Duration::from_secs(1));
    let stopping = CancellationToken::new();
    rig.stage.serve(&out, &stopping, (FOR_EVER, drain));
    assert_eq!(number(&rig.sent()[0]), 0);
}

#[test]
fn a_pass_that_panics_on_the_links_thread_ends_the_stages_too() {
    let mut rig = Rig::new(Duration::from_millis(1));
    rig.work(1);
    assert!(rig.turn());
    rig.bomb.store(true, Ordering::SeqCst);
    rig.work(1);
    let ran = catch_unwind(AssertUnwindSafe(|| rig.inlet().run_here(&rig.out)));
    assert!(ran.is_err());
    rig.inlet().run_here(&rig.out);
    assert_eq!(rig.woken(), Woken::Roused);
    let stopping = CancellationToken::new();
    let times = (FOR_EVER, Duration::from_secs(1));
    let served = AssertUnwindSafe(|| rig.stage.serve(&rig.out, &stopping, times));
    assert!(catch_unwind(served).is_err());
    let late = rig.inlet().put(message(ENTRY, Message::Ask { nonce: 1 }));
    assert!(
        matches!(late, Err(Refused::Closed)),
        "the links need not wait for room"
    );
}

/// Both threads at work, short and long passes by turns, up to four batches at once: every answer
/// comes, in order, and a call that is lost would wait for ever.
#[test]
fn between_two_threads_nothing_is_lost_or_overtakes() {
    const BATCHES: u64 = 2_000;
    const PATIENCE: Duration = Duration::from_secs(60);
    let mut rig = Rig::new(Duration::from_millis(1));
    let (stage, out) = (Arc::clone(&rig.stage), rig.out.clone());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let stopping = CancellationToken::new();
            stage.serve(&out, &stopping, (FOR_EVER, Duration::ZERO));
        });
        let mut answered = 0;
        for batch in 0..BATCHES {
            rig.work(if batch % 7 == 3 { 17 } else { 1 });
            rig.inlet().run_here(&rig.out);
            let open = batch % 5;
            while answered + open < rig.number {
                let answer = rig.sent.recv_timeout(PATIENCE).expect("it comes");
                assert_eq!(number(&answer), answered);
                answered += 1;
            }
        }
        rig.inlet = None;
    });
}
