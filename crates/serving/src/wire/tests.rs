use skein_base::Blake3;

use super::*;
use crate::testing::Random;

fn name(random: &mut Random) -> CircuitName {
    let mut circuit = [0; 16];
    circuit[..8].copy_from_slice(&random.next().to_le_bytes());
    CircuitName {
        circuit: CircuitId(circuit),
        generation: random.below(9) as u32,
    }
}

fn id(random: &mut Random) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&random.next().to_le_bytes());
    bytes
}

/// Bits of any kind, those that are no number included.
fn values(random: &mut Random, most: u64) -> Vec<f32> {
    let count = random.below(most);
    (0..count)
        .map(|_| f32::from_bits(random.next() as u32 & 0x7f7f_ffff))
        .collect()
}

fn pairs(random: &mut Random) -> Vec<(u32, f32)> {
    values(random, 9)
        .into_iter()
        .map(|value| (random.next() as u32, value))
        .collect()
}

fn spent(random: &mut Random) -> Vec<Spent> {
    let one = |_| Spent {
        waited_us: random.next() as u32,
        computed_us: random.next() as u32,
    };
    (0..3).map(one).collect()
}

#[expect(clippy::too_many_lines, reason = "one of each kind")]
fn messages(random: &mut Random) -> Vec<Message> {
    let changes = (0..random.below(4)).map(|i| match i % 2 {
        0 => Change::Fork {
            new: i + 7,
            of: i,
            len: 3,
        },
        _ => Change::Release { sequence: i },
    });
    let shares: Vec<_> = (0..random.below(4))
        .map(|sequence| Share {
            sequence,
            position: sequence as u32 * 5,
            rows: 2,
            scored: sequence % 2 == 0,
            asked: vec![1, 2, 3],
            trace: (sequence == 1).then_some(TraceId([6; 16])),
        })
        .collect();
    let rows = match random.below(2) {
        0 => Rows::Ids(random.tokens(5)),
        _ => Rows::Hidden(values(random, 40)),
    };
    let work = Work {
        name: name(random),
        number: random.next(),
        changes: changes.collect(),
        shares,
        rows,
        spent: spent(random),
    };
    let scores = (0..random.below(3)).map(|_| Scores {
        top: pairs(random),
        log_sum_exp: 1.5,
        asked: pairs(random),
    });
    let scores = scores.collect();
    let route = (0..1 + random.below(3)).map(|i| Hop {
        node: NodeId(id(random)),
        layers: i as u32..i as u32 + 2,
    });
    let route = route.collect();
    let open = Open {
        name: name(random),
        model: ModelId(id(random)),
        numerics: NumericsId(id(random)),
        pages: 3..70,
        route,
        hop: 1,
        voucher: b"paid".to_vec(),
        back: BackKey(id(random)).hash(),
    };
    let mut all = vec![
        Message::Open(open),
        Message::Opened {
            name: name(random),
            pages: 9,
        },
        Message::Attach {
            name: name(random),
            key: BackKey(id(random)),
        },
        Message::Work(work),
        Message::Answer {
            name: name(random),
            number: 4,
            outcome: Outcome::Scores(scores),
            spent: spent(random),
        },
        Message::Answer {
            name: name(random),
            number: 5,
            outcome: Outcome::Hidden(values(random, 9)),
            spent: spent(random),
        },
        Message::Close { name: name(random) },
        Message::Ask {
            nonce: random.next(),
        },
        Message::Told {
            nonce: random.next(),
            report: StageReport {
                pages_total: random.next() as u32,
                computing_us: random.next(),
                ..StageReport::default()
            },
        },
    ];
    let wait = Duration::from_millis(1500);
    let failures = [
        Failure::Busy { retry_after: wait },
        Failure::OtherSlice,
        Failure::Unreachable,
        Failure::Protocol,
        Failure::NotFinite,
        Failure::Refused,
        Failure::Leaving,
        Failure::Silent,
    ];
    all.extend(failures.map(|failure| Message::Failed {
        name: name(random),
        hop: 2,
        failure,
    }));
    all
}

#[test]
fn what_is_written_is_read() {
    let mut random = Random(1);
    for _ in 0..200 {
        for message in messages(&mut random) {
            let bytes = encode(&message);
            assert_eq!(decode(&bytes), Ok(message));
        }
    }
}

/// Also the golden hash: a change of any byte on the wire is a new version of the protocol.
#[test]
fn the_bytes_of_version_1() {
    let mut random = Random(2);
    let bytes: Vec<u8> = messages(&mut random).iter().flat_map(encode).collect();
    assert_eq!(Blake3::of(&bytes).to_string()[..16], *GOLDEN);
    assert_eq!(PROTOCOL, "/skein/stage/1");
}

const GOLDEN: &str = "2a88869361f733e0";

/// Whatever arrives is refused or has exactly one encoding.
#[test]
fn damaged_bytes_are_refused_or_canonical() {
    let mut random = Random(3);
    let (mut refused, mut read) = (0, 0);
    for _ in 0..300 {
        for message in messages(&mut random) {
            let mut bytes = encode(&message);
            match random.below(3) {
                0 => bytes.truncate(random.below(bytes.len() as u64) as usize),
                1 => bytes.push(random.next() as u8),
                _ => {
                    let at = random.below(bytes.len() as u64) as usize;
                    bytes[at] ^= 1 << random.below(8);
                }
            }
            match decode(&bytes) {
                Err(_) => refused += 1,
                Ok(message) => {
                    read += 1;
                    assert_eq!(encode(&message), bytes);
                }
            }
        }
    }
    assert!(refused > 1000 && read > 100, "{refused} {read}");
}

#[test]
fn announced_lengths_are_bounded_before_memory_is_taken() {
    for (prefix, what) in [(4u8, "changes"), (5, "kind of outcome")] {
        let mut bytes = vec![prefix];
        bytes.extend([0; 20]);
        bytes.extend([0xff; 12]);
        let error = decode(&bytes).expect_err("refused").to_string();
        assert!(error.contains(what), "{error}");
    }
}
