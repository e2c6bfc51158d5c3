//! One host and hand-written neighbours, each with its sin.

use skein_runtime::Clock as _;
use skein_runtime::ManualClock;

use super::*;
use crate::testing::{FakeStage, alone, request};
use crate::wire::{Change, Hop, Outcome, Rows, Share};

const KEY: BackKey = BackKey([8; 32]);
const ENTRY: LinkId = LinkId(1);
const BACK: LinkId = LinkId(2);

struct Rig {
    host: Host<FakeStage>,
    clock: ManualClock,
}

fn identity() -> SliceIdentity {
    SliceIdentity {
        model: ModelId([1; 32]),
        numerics: NumericsId([2; 32]),
        layers: 0..4,
    }
}

fn name(circuit: u8, generation: u32) -> CircuitName {
    CircuitName {
        circuit: CircuitId([circuit; 16]),
        generation,
    }
}

fn open(name: CircuitName, pages: Range<u32>) -> Message {
    Message::Open(Open {
        name,
        model: identity().model,
        numerics: identity().numerics,
        pages,
        route: vec![Hop {
            node: NodeId([9; 32]),
            layers: 0..4,
        }],
        hop: 0,
        voucher: Vec::new(),
        back: KEY.hash(),
    })
}

fn share(sequence: u64, position: u32, rows: u32) -> Share {
    Share {
        sequence,
        position,
        rows,
        scored: true,
        asked: Vec::new(),
        trace: None,
    }
}

fn work(name: CircuitName, number: u64, shares: Vec<Share>, ids: &[u32]) -> Message {
    Message::Work(Work {
        name,
        number,
        changes: Vec::new(),
        shares,
        rows: Rows::Ids(ids.to_vec()),
        spent: Vec::new(),
    })
}

/// A link, and a node of the same number at its other end.
fn sender(link: LinkId) -> Sender {
    let node = NodeId([link.0 as u8; 32]);
    Sender { link, node }
}

impl Rig {
    fn new(pages: usize) -> Self {
        let config = HostConfig {
            waiting_max: 4,
            ..HostConfig::default()
        };
        Self {
            host: Host::new(FakeStage::new(pages, 256), identity(), config),
            clock: ManualClock::default(),
        }
    }

    fn tell(&mut self, from: LinkId, message: Message) -> Vec<(To, Message)> {
        self.host.message(self.clock.now(), sender(from), message);
        while self.host.run(&self.clock) {}
        self.host.take_sends()
    }

    /// A circuit that is ready.
    fn ready(&mut self, name: CircuitName, pages: Range<u32>) -> u32 {
        let early = self.tell(ENTRY, open(name, pages));
        assert_eq!(early, [], "no way back yet");
        let sends = self.tell(BACK, Message::Attach { name, key: KEY });
        match sends.as_slice() {
            [
                (
                    To::Link(ENTRY),
                    Message::Opened {
                        name: opened,
                        pages,
                    },
                ),
            ] if *opened == name => *pages,
            other => panic!("{other:?}"),
        }
    }

    fn fails(&mut self, message: Message, expected: Failure) {
        let sends = self.tell(ENTRY, message);
        let failed = sends.iter().find_map(|(to, message)| match message {
            Message::Failed { failure, .. } => Some((*to, *failure)),
            _ => None,
        });
        assert_eq!(failed, Some((To::Link(ENTRY), expected)), "{sends:?}");
        assert_eq!((self.host.circuits(), self.host.granted.min(1)), (0, 0));
        assert_eq!(self.host.stage().used(), 0, "KV is free");
    }
}

/// What one session gets through messages, token by token.
#[test]
fn an_entry_gets_what_the_stage_says() {
    let mut rig = Rig::new(32);
    let name = name(1, 0);
    assert_eq!(rig.ready(name, 1..20), 20);
    let request = request("a", &[1, 2, 3], 6);
    let expected = alone(&request);
    let (mut number, mut position, mut ids) = (0, 0, request.prompt.clone());
    let mut sampler = skein_text::Sampler::new(request.sampling.clone(), &request.prompt);
    let mut found = Vec::new();
    while found.len() < 6 {
        let rows = ids.len() as u32;
        let sends = rig.tell(
            ENTRY,
            work(name, number, vec![share(5, position, rows)], &ids),
        );
        let [
            (
                To::Link(BACK),
                Message::Answer {
                    outcome: Outcome::Scores(scores),
                    ..
                },
            ),
        ] = sends.as_slice()
        else {
            panic!("{sends:?}");
        };
        let sampled = sampler.sample(&scores[0]).expect("a token");
        found.push((sampled.id, sampled.logprob.to_bits()));
        (number, position, ids) = (number + 1, position + rows, vec![sampled.id]);
    }
    assert_eq!(found, expected);
    assert_eq!(rig.tell(ENTRY, Message::Close { name }), []);
    assert_eq!(rig.host.stage().used(), 0);
}

#[test]
fn grants_never_exceed_the_memory() {
    let mut rig = Rig::new(10);
    assert_eq!(rig.ready(name(1, 0), 1..7), 7);
    assert_eq!(rig.ready(name(2, 0), 2..7), 3);
    let sends = rig.tell(ENTRY, open(name(3, 0), 1..7));
    let busy = Message::Failed {
        name: name(3, 0),
        hop: 0,
        failure: Failure::Busy {
            retry_after: Duration::from_secs(1),
        },
    };
    assert_eq!(sends, [(To::Link(ENTRY), busy)]);
    rig.tell(ENTRY, Message::Close { name: name(1, 0) });
    assert_eq!(rig.ready(name(3, 0), 1..7), 7);
}

/// Sin: more pages than agreed.
#[test]
fn a_greedy_entry_is_dropped() {
    let mut rig = Rig::new(32);
    rig.ready(name(1, 0), 1..2);
    let shares = vec![share(1, 0, 9)];
    rig.fails(work(name(1, 0), 0, shares, &[1; 9]), Failure::Protocol);
}

/// Sins: a position twice, a position too far, a batch twice, a batch too early, no rows, a fork of
/// nothing, rows that nobody owns.
#[test]
fn whatever_is_out_of_order_ends_the_circuit() {
    let good = || work(name(1, 0), 0, vec![share(1, 0, 2)], &[1, 2]);
    let fork = Message::Work(Work {
        name: name(1, 0),
        number: 1,
        changes: vec![Change::Fork {
            new: 2,
            of: 1,
            len: 3,
        }],
        shares: Vec::new(),
        rows: Rows::Ids(Vec::new()),
        spent: Vec::new(),
    });
    let bad = [
        work(name(1, 0), 1, vec![share(1, 0, 1)], &[1]),
        work(name(1, 0), 1, vec![share(1, 3, 1)], &[1]),
        work(name(1, 0), 0, vec![share(1, 2, 1)], &[1]),
        work(name(1, 0), 2, vec![share(1, 2, 1)], &[1]),
        work(name(1, 0), 1, vec![share(1, 2, 0)], &[]),
        work(name(1, 0), 1, vec![share(7, 2, 1)], &[1]),
        fork,
    ];
    for message in bad {
        let mut rig = Rig::new(32);
        rig.ready(name(1, 0), 1..20);
        assert_eq!(rig.tell(ENTRY, good()).len(), 1);
        rig.fails(message, Failure::Protocol);
    }
}

/// Sin: batches without end while nothing runs.
#[test]
fn a_flood_is_dropped() {
    let mut rig = Rig::new(32);
    rig.ready(name(1, 0), 1..20);
    for number in 0..5 {
        let message = work(name(1, 0), number, vec![share(1, number as u32, 1)], &[1]);
        rig.host.message(rig.clock.now(), sender(ENTRY), message);
    }
    assert_eq!((rig.host.circuits(), rig.host.stage().used()), (0, 0));
}

/// Sin: frames of an earlier life, and of circuits of others.
#[test]
fn echoes_are_dropped_and_change_nothing() {
    let mut rig = Rig::new(32);
    rig.ready(name(1, 0), 1..10);
    rig.tell(ENTRY, work(name(1, 0), 0, vec![share(1, 0, 2)], &[1, 2]));
    rig.ready(name(1, 3), 1..10);
    let old = [
        open(name(1, 3), 1..10),
        open(name(1, 2), 1..10),
        work(name(1, 0), 1, vec![share(1, 2, 1)], &[1]),
        Message::Close { name: name(1, 0) },
        Message::Failed {
            name: name(1, 0),
            hop: 1,
            failure: Failure::Refused,
        },
        work(name(8, 0), 0, vec![share(1, 0, 1)], &[1]),
    ];
    rig.host.take_stats();
    for message in old {
        assert_eq!(rig.tell(ENTRY, message), []);
    }
    // Of its circuit and generation, but from somebody else.
    let close = Message::Close { name: name(1, 3) };
    assert_eq!(rig.tell(LinkId(77), close), []);
    assert_eq!(rig.host.circuits(), 1);
    let answer = rig.tell(ENTRY, work(name(1, 3), 0, vec![share(1, 0, 1)], &[1]));
    assert_eq!(answer.len(), 1);
}

#[test]
fn one_bad_batch_does_not_hurt_another_circuit() {
    let mut rig = Rig::new(32);
    rig.ready(name(1, 0), 1..10);
    rig.ready(name(2, 0), 1..10);
    let now = rig.clock.now();
    let poison = work(
        name(1, 0),
        0,
        vec![share(1, 0, 1)],
        &[crate::testing::POISON],
    );
    rig.host.message(now, sender(ENTRY), poison);
    let good = work(name(2, 0), 0, vec![share(1, 0, 1)], &[3]);
    rig.host.message(now, sender(ENTRY), good);
    assert!(rig.host.run(&rig.clock));
    let sends = rig.host.take_sends();
    let failed = |message: &Message| match message {
        Message::Failed { name, failure, .. } => Some((*name, *failure)),
        _ => None,
    };
    let failures: Vec<_> = sends.iter().filter_map(|(_, m)| failed(m)).collect();
    assert_eq!(failures, [(name(1, 0), Failure::NotFinite)]);
    assert!(sends.iter().any(|(to, _)| *to == To::Link(BACK)));
}

#[test]
fn links_and_time_end_circuits() {
    let mut rig = Rig::new(32);
    rig.ready(name(1, 0), 1..10);
    rig.host.link_closed(BACK);
    assert_eq!(rig.host.circuits(), 0);
    // The way back never comes.
    rig.tell(ENTRY, open(name(2, 0), 1..10));
    rig.clock.advance(Duration::from_secs(5));
    rig.host.tick(rig.clock.now());
    assert_eq!(rig.host.circuits(), 0);
    assert_eq!(rig.host.take_sends().len(), 1, "its entry is told");
    rig.ready(name(3, 0), 1..10);
    rig.clock.advance(Duration::from_secs(600));
    rig.host.tick(rig.clock.now());
    assert_eq!((rig.host.circuits(), rig.host.granted().0), (0, 0));
}

#[test]
fn another_slice_is_refused() {
    let mut rig = Rig::new(32);
    let Message::Open(good) = open(name(1, 0), 1..10) else {
        unreachable!("made so");
    };
    let mut others = vec![good.clone(), good.clone(), good];
    others[0].model = ModelId([7; 32]);
    others[1].numerics = NumericsId([7; 32]);
    others[2].route[0].layers = 0..3;
    for other in others {
        rig.fails(Message::Open(other), Failure::OtherSlice);
    }
    rig.host.leave();
    rig.fails(open(name(1, 0), 1..10), Failure::Leaving);
}

/// A circuit of which this stage is the first of two.
fn in_front(name: CircuitName) -> Message {
    let Message::Open(mut open) = open(name, 1..10) else {
        unreachable!("made so");
    };
    open.route.push(Hop {
        node: sender(LinkId(5)).node,
        layers: 4..8,
    });
    Message::Open(open)
}

/// Sins: somebody who knows the circuit's name says that the stages behind are ready, or that they
/// failed.
#[test]
fn only_the_next_stage_speaks_for_those_behind() {
    let mut rig = Rig::new(32);
    let name = name(1, 0);
    assert_eq!(rig.tell(ENTRY, in_front(name)).len(), 1, "passed on");
    let opened = || Message::Opened { name, pages: 9 };
    let failed = || Message::Failed {
        name,
        hop: 1,
        failure: Failure::Refused,
    };
    for message in [opened(), failed()] {
        assert_eq!(rig.tell(LinkId(6), message), []);
    }
    assert_eq!(rig.tell(LinkId(5), opened()).len(), 1, "the entry is told");
    assert_eq!(rig.tell(LinkId(6), failed()), []);
    assert_eq!(rig.host.circuits(), 1);
    assert_eq!(rig.tell(LinkId(5), failed()).len(), 2, "told both ways");
    assert_eq!(rig.host.circuits(), 0);
}

/// Sins: answers asked for without the key, before and after the entry; places taken by one link.
#[test]
fn answers_go_to_whoever_has_the_key() {
    let mut rig = Rig::new(32);
    let name_1 = name(1, 0);
    let false_key = BackKey([9; 32]);
    let steal = Message::Attach {
        name: name_1,
        key: false_key,
    };
    assert_eq!(rig.tell(LinkId(7), steal.clone()), []);
    assert_eq!(rig.ready(name_1, 1..10), 10);
    assert_eq!(rig.tell(LinkId(7), steal), []);
    // The right key a second time changes nothing either.
    let again = Message::Attach {
        name: name_1,
        key: KEY,
    };
    assert_eq!(rig.tell(LinkId(7), again), []);
    let sends = rig.tell(ENTRY, work(name_1, 0, vec![share(1, 0, 1)], &[1]));
    assert_eq!(sends.len(), 1);
    assert_eq!(sends[0].0, To::Link(BACK));
    for circuit in 20..60 {
        let key = KEY;
        let name = name(circuit, 0);
        rig.tell(LinkId(7), Message::Attach { name, key });
    }
    assert_eq!(rig.host.attached.len(), 16);
    assert_eq!(rig.ready(name(2, 0), 1..10), 10, "others have room");
}

#[test]
fn a_stage_says_how_it_is() {
    let mut rig = Rig::new(32);
    rig.ready(name(1, 0), 1..10);
    rig.tell(ENTRY, work(name(1, 0), 0, vec![share(1, 0, 3)], &[1, 2, 3]));
    let sends = rig.tell(LinkId(9), Message::Ask { nonce: 4 });
    let [(To::Link(LinkId(9)), Message::Told { nonce: 4, report })] = sends.as_slice() else {
        panic!("{sends:?}");
    };
    let expected = (1, 10, 32, 3, 1);
    let found = (
        report.circuits,
        report.pages_granted,
        report.pages_total,
        report.rows,
        report.passes,
    );
    assert_eq!(found, expected);
    assert!(report.pages_used >= 1);
}

/// Whoever leaves finishes what it took, says so, and takes no more.
#[test]
fn a_leaving_stage_finishes_what_it_took() {
    let mut rig = Rig::new(32);
    rig.ready(name(1, 0), 1..10);
    rig.ready(name(2, 0), 1..10);
    let batch = work(name(1, 0), 0, vec![share(1, 0, 1)], &[1]);
    rig.host.message(rig.clock.now(), sender(ENTRY), batch);
    rig.host.leave();
    assert_eq!(rig.host.circuits(), 1, "the idle one ended");
    assert!(rig.host.run(&rig.clock));
    rig.host.leave();
    let sends = rig.host.take_sends();
    let leaving = |message: &Message| matches!(message, Message::Failed { failure, .. } if *failure == Failure::Leaving);
    let kinds: Vec<bool> = sends.iter().map(|(_, message)| leaving(message)).collect();
    assert_eq!(kinds, [true, false, true], "{sends:?}");
    assert_eq!((rig.host.circuits(), rig.host.stage().used()), (0, 0));
}

#[test]
fn the_next_pass_has_no_more_rows_than_said() {
    let mut rig = Rig::new(32);
    for circuit in [1, 2] {
        rig.ready(name(circuit, 0), 1..10);
    }
    for (circuit, batches) in [(1, [2, 5]), (2, [3, 1])] {
        let name = name(circuit, 0);
        for (number, rows) in batches.into_iter().enumerate() {
            let shares = vec![share(number as u64, 0, rows)];
            let ids = vec![1; rows as usize];
            let message = work(name, number as u64, shares, &ids);
            rig.host.message(rig.clock.now(), sender(ENTRY), message);
        }
    }
    for expected in [2 + 3, 5 + 1] {
        assert_eq!(rig.host.next_rows(), expected);
        assert!(rig.host.run(&rig.clock));
        assert_eq!(rig.host.stage().batches.last(), Some(&expected));
    }
    assert_eq!(rig.host.next_rows(), 0);
}
