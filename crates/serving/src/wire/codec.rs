//! Messages as bytes.

use std::time::Duration;

use skein_base::codec::{DecodeError, Reader, Writer};
use skein_base::limits::{
    ASKED_SCORES_MAX, BATCH_CHANGES_MAX, BATCH_ENTRIES_MAX, BATCH_ROWS_MAX, HOPS_MAX,
    STAGE_MESSAGE_BYTES_MAX, TOP_SCORES, VOUCHER_BYTES_MAX,
};
use skein_base::{ModelId, NodeId, NumericsId, Scores, TraceId};

use super::{
    BackHash, BackKey, Change, CircuitId, CircuitName, Failure, Hop, Message, Open, Outcome, Rows,
    Share, Spent, Work,
};
use crate::view::StageReport;

const OPEN: u8 = 1;
const OPENED: u8 = 2;
const ATTACH: u8 = 3;
const WORK: u8 = 4;
const ANSWER: u8 = 5;
const CLOSE: u8 = 6;
const FAILED: u8 = 7;
const ASK: u8 = 8;
const TOLD: u8 = 9;

/// The bytes of a message.
pub fn encode(message: &Message) -> Vec<u8> {
    let mut to = Writer::new();
    match message {
        Message::Open(open) => write_open(to.u8(OPEN), open),
        Message::Opened { name, pages } => {
            write_name(to.u8(OPENED), *name).u32(*pages);
        }
        Message::Attach { name, key } => {
            write_name(to.u8(ATTACH), *name).raw(&key.0);
        }
        Message::Work(work) => write_work(to.u8(WORK), work),
        Message::Answer {
            name,
            number,
            outcome,
            spent,
        } => {
            write_name(to.u8(ANSWER), *name).u64(*number);
            write_outcome(&mut to, outcome);
            write_spent(&mut to, spent);
        }
        Message::Close { name } => {
            write_name(to.u8(CLOSE), *name);
        }
        Message::Failed { name, hop, failure } => {
            write_name(to.u8(FAILED), *name).u8(*hop);
            let (code, wait) = failure_code(*failure);
            to.u8(code).u32(wait);
        }
        Message::Ask { nonce } => {
            to.u8(ASK).u64(*nonce);
        }
        Message::Told { nonce, report } => write_report(to.u8(TOLD).u64(*nonce), report),
    }
    to.finish()
}

/// Reads a message that a peer sent. Memory taken is bounded by the bytes that are there.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
    if bytes.len() > STAGE_MESSAGE_BYTES_MAX {
        return Err(DecodeError::TooLong {
            what: "message",
            found: bytes.len(),
            max: STAGE_MESSAGE_BYTES_MAX,
        });
    }
    let mut from = Reader::new(bytes);
    let tag = from.u8("kind of message")?;
    let message = match tag {
        OPEN => Message::Open(read_open(&mut from)?),
        OPENED => Message::Opened {
            name: read_name(&mut from)?,
            pages: from.u32("pages")?,
        },
        ATTACH => Message::Attach {
            name: read_name(&mut from)?,
            key: BackKey(array(&mut from, "key")?),
        },
        WORK => Message::Work(read_work(&mut from)?),
        ANSWER => Message::Answer {
            name: read_name(&mut from)?,
            number: from.u64("number")?,
            outcome: read_outcome(&mut from)?,
            spent: read_spent(&mut from)?,
        },
        CLOSE => Message::Close {
            name: read_name(&mut from)?,
        },
        FAILED => Message::Failed {
            name: read_name(&mut from)?,
            hop: from.u8("hop")?,
            failure: read_failure(&mut from)?,
        },
        ASK => Message::Ask {
            nonce: from.u64("nonce")?,
        },
        TOLD => Message::Told {
            nonce: from.u64("nonce")?,
            report: read_report(&mut from)?,
        },
        _ => {
            return Err(DecodeError::Invalid {
                what: "kind of message",
            });
        }
    };
    from.finish()?;
    Ok(message)
}

fn write_name(to: &mut Writer, name: CircuitName) -> &mut Writer {
    to.raw(&name.circuit.0).u32(name.generation)
}

fn read_name(from: &mut Reader<'_>) -> Result<CircuitName, DecodeError> {
    Ok(CircuitName {
        circuit: CircuitId(array(from, "circuit")?),
        generation: from.u32("generation")?,
    })
}

fn array<const N: usize>(
    from: &mut Reader<'_>,
    what: &'static str,
) -> Result<[u8; N], DecodeError> {
    let mut out = [0; N];
    out.copy_from_slice(from.raw(what, N)?);
    Ok(out)
}

/// Reads a count of at most `max` items that take at least `bytes` each, which are there.
fn count(
    from: &mut Reader<'_>,
    what: &'static str,
    max: usize,
    bytes: usize,
) -> Result<usize, DecodeError> {
    let found = from.u32(what)? as usize;
    if found > max {
        return Err(DecodeError::TooLong { what, found, max });
    }
    let missing = (found * bytes).saturating_sub(from.remaining());
    if missing > 0 {
        return Err(DecodeError::Truncated { what, missing });
    }
    Ok(found)
}

fn flag(from: &mut Reader<'_>, what: &'static str) -> Result<bool, DecodeError> {
    match from.u8(what)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Invalid { what }),
    }
}

fn length(items: usize) -> u32 {
    u32::try_from(items).expect("own messages are shorter than 4 Gi items")
}

fn write_open(to: &mut Writer, open: &Open) {
    write_name(to, open.name)
        .raw(&open.model.0)
        .raw(&open.numerics.0)
        .u32(open.pages.start)
        .u32(open.pages.end)
        .u8(open.hop)
        .bytes(&open.voucher)
        .raw(&open.back.0)
        .u32(length(open.route.len()));
    for hop in &open.route {
        to.raw(&hop.node.0)
            .u32(hop.layers.start)
            .u32(hop.layers.end);
    }
}

fn read_open(from: &mut Reader<'_>) -> Result<Open, DecodeError> {
    let name = read_name(from)?;
    let model = ModelId(array(from, "model")?);
    let numerics = NumericsId(array(from, "numerics")?);
    let pages = from.u32("fewest pages")?..from.u32("most pages")?;
    let hop = from.u8("hop")?;
    let voucher = from.bytes("voucher", VOUCHER_BYTES_MAX)?.to_vec();
    let back = BackHash(array(from, "hash of the key")?);
    let hops = count(from, "hops", HOPS_MAX, 40)?;
    let mut route = Vec::with_capacity(hops);
    for _ in 0..hops {
        let node = NodeId(array(from, "node")?);
        let layers = from.u32("first layer")?..from.u32("layer after the last")?;
        route.push(Hop { node, layers });
    }
    if route.is_empty() || pages.start > pages.end {
        return Err(DecodeError::Invalid { what: "circuit" });
    }
    Ok(Open {
        name,
        model,
        numerics,
        pages,
        route,
        hop,
        voucher,
        back,
    })
}

fn write_work(to: &mut Writer, work: &Work) {
    write_name(to, work.name).u64(work.number);
    to.u32(length(work.changes.len()));
    for change in &work.changes {
        match *change {
            Change::Fork { new, of, len } => to.u8(0).u64(new).u64(of).u32(len),
            Change::Release { sequence } => to.u8(1).u64(sequence),
        };
    }
    to.u32(length(work.shares.len()));
    for share in &work.shares {
        to.u64(share.sequence).u32(share.position).u32(share.rows);
        to.u8(u8::from(share.scored));
        write_ids(to, &share.asked);
        to.u8(u8::from(share.trace.is_some()));
        if let Some(trace) = share.trace {
            to.raw(&trace.0);
        }
    }
    match &work.rows {
        Rows::Ids(ids) => write_ids(to.u8(0), ids),
        Rows::Hidden(values) => write_values(to.u8(1), values),
    }
    write_spent(to, &work.spent);
}

fn write_spent(to: &mut Writer, spent: &[Spent]) {
    to.u32(length(spent.len()));
    for Spent {
        waited_us,
        computed_us,
    } in spent
    {
        to.u32(*waited_us).u32(*computed_us);
    }
}

fn read_spent(from: &mut Reader<'_>) -> Result<Vec<Spent>, DecodeError> {
    let stages = count(from, "stages that spent", HOPS_MAX, 8)?;
    let one = |_| {
        Ok(Spent {
            waited_us: from.u32("time waited")?,
            computed_us: from.u32("time computed")?,
        })
    };
    (0..stages).map(one).collect()
}

fn write_report(to: &mut Writer, report: &StageReport) {
    to.u32(report.circuits)
        .u32(report.pages_granted)
        .u32(report.pages_used)
        .u32(report.pages_total)
        .u32(report.page_bytes)
        .u32(report.waiting)
        .u64(report.rows)
        .u64(report.passes)
        .u64(report.failures)
        .u64(report.computing_us);
}

fn read_report(from: &mut Reader<'_>) -> Result<StageReport, DecodeError> {
    Ok(StageReport {
        circuits: from.u32("circuits")?,
        pages_granted: from.u32("pages granted")?,
        pages_used: from.u32("pages used")?,
        pages_total: from.u32("pages")?,
        page_bytes: from.u32("bytes of a page")?,
        waiting: from.u32("waiting batches")?,
        rows: from.u64("rows")?,
        passes: from.u64("passes")?,
        failures: from.u64("failures")?,
        computing_us: from.u64("time computed")?,
    })
}

fn read_work(from: &mut Reader<'_>) -> Result<Work, DecodeError> {
    let name = read_name(from)?;
    let number = from.u64("number")?;
    let changes = count(from, "changes", BATCH_CHANGES_MAX, 9)?;
    let changes = (0..changes).map(|_| read_change(from));
    let changes = changes.collect::<Result<Vec<_>, _>>()?;
    let shares = count(from, "shares", BATCH_ENTRIES_MAX, 22)?;
    let shares = (0..shares).map(|_| read_share(from));
    let shares = shares.collect::<Result<Vec<_>, _>>()?;
    let total: u64 = shares.iter().map(|share| u64::from(share.rows)).sum();
    if total > BATCH_ROWS_MAX as u64 {
        return Err(DecodeError::TooLong {
            what: "rows",
            found: usize::try_from(total).unwrap_or(usize::MAX),
            max: BATCH_ROWS_MAX,
        });
    }
    let rows = match flag(from, "kind of rows")? {
        false => Rows::Ids(read_ids(from, "ids", BATCH_ROWS_MAX)?),
        true => Rows::Hidden(read_values(from)?),
    };
    let spent = read_spent(from)?;
    Ok(Work {
        name,
        number,
        changes,
        shares,
        rows,
        spent,
    })
}

fn read_change(from: &mut Reader<'_>) -> Result<Change, DecodeError> {
    Ok(match flag(from, "kind of change")? {
        false => Change::Fork {
            new: from.u64("new sequence")?,
            of: from.u64("forked sequence")?,
            len: from.u32("forked positions")?,
        },
        true => Change::Release {
            sequence: from.u64("released sequence")?,
        },
    })
}

fn read_share(from: &mut Reader<'_>) -> Result<Share, DecodeError> {
    Ok(Share {
        sequence: from.u64("sequence")?,
        position: from.u32("position")?,
        rows: from.u32("rows")?,
        scored: flag(from, "whether to score")?,
        asked: read_ids(from, "asked ids", ASKED_SCORES_MAX)?,
        trace: match flag(from, "whether for another request")? {
            true => Some(TraceId(array(from, "trace")?)),
            false => None,
        },
    })
}

fn write_ids(to: &mut Writer, ids: &[u32]) {
    to.u32(length(ids.len()));
    for id in ids {
        to.u32(*id);
    }
}

fn read_ids(
    from: &mut Reader<'_>,
    what: &'static str,
    max: usize,
) -> Result<Vec<u32>, DecodeError> {
    let ids = count(from, what, max, 4)?;
    let bytes = from.raw(what, ids * 4)?.chunks_exact(4);
    Ok(bytes
        .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect())
}

fn write_values(to: &mut Writer, values: &[f32]) {
    to.u32(length(values.len()));
    for value in values {
        to.raw(&value.to_le_bytes());
    }
}

fn read_values(from: &mut Reader<'_>) -> Result<Vec<f32>, DecodeError> {
    let values = count(from, "values", STAGE_MESSAGE_BYTES_MAX / 4, 4)?;
    let bytes = from.raw("values", values * 4)?.chunks_exact(4);
    Ok(bytes
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect())
}

fn write_outcome(to: &mut Writer, outcome: &Outcome) {
    match outcome {
        Outcome::Hidden(values) => write_values(to.u8(1), values),
        Outcome::Scores(scores) => {
            to.u8(0).u32(length(scores.len()));
            for row in scores {
                write_pairs(to, &row.top);
                to.raw(&row.log_sum_exp.to_le_bytes());
                write_pairs(to, &row.asked);
            }
        }
    }
}

fn read_outcome(from: &mut Reader<'_>) -> Result<Outcome, DecodeError> {
    if flag(from, "kind of outcome")? {
        return Ok(Outcome::Hidden(read_values(from)?));
    }
    let rows = count(from, "scored rows", BATCH_ENTRIES_MAX, 12)?;
    let scores = (0..rows).map(|_| {
        let top = read_pairs(from, "best scores", TOP_SCORES)?;
        let log_sum_exp = f32::from_le_bytes(array(from, "log-sum-exp")?);
        let asked = read_pairs(from, "asked scores", ASKED_SCORES_MAX)?;
        Ok(Scores {
            top,
            log_sum_exp,
            asked,
        })
    });
    Ok(Outcome::Scores(scores.collect::<Result<_, _>>()?))
}

fn write_pairs(to: &mut Writer, pairs: &[(u32, f32)]) {
    to.u32(length(pairs.len()));
    for (id, value) in pairs {
        to.u32(*id).raw(&value.to_le_bytes());
    }
}

fn read_pairs(
    from: &mut Reader<'_>,
    what: &'static str,
    max: usize,
) -> Result<Vec<(u32, f32)>, DecodeError> {
    let pairs = count(from, what, max, 8)?;
    let pair = |_| Ok((from.u32(what)?, f32::from_le_bytes(array(from, what)?)));
    (0..pairs).map(pair).collect()
}

/// A code, and milliseconds where it is about time.
fn failure_code(failure: Failure) -> (u8, u32) {
    match failure {
        Failure::Busy { retry_after } => {
            let wait = u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX);
            (0, wait)
        }
        Failure::OtherSlice => (1, 0),
        Failure::Unreachable => (2, 0),
        Failure::Protocol => (3, 0),
        Failure::NotFinite => (4, 0),
        Failure::Refused => (5, 0),
        Failure::Leaving => (6, 0),
        Failure::Silent => (7, 0),
    }
}

fn read_failure(from: &mut Reader<'_>) -> Result<Failure, DecodeError> {
    let (code, wait) = (from.u8("failure")?, from.u32("time to wait")?);
    let failure = match code {
        0 => Failure::Busy {
            retry_after: Duration::from_millis(u64::from(wait)),
        },
        1 => Failure::OtherSlice,
        2 => Failure::Unreachable,
        3 => Failure::Protocol,
        4 => Failure::NotFinite,
        5 => Failure::Refused,
        6 => Failure::Leaving,
        7 => Failure::Silent,
        _ => return Err(DecodeError::Invalid { what: "failure" }),
    };
    match (code, wait) {
        (0, _) | (_, 0) => Ok(failure),
        // One value, one encoding.
        _ => Err(DecodeError::Invalid {
            what: "time to wait",
        }),
    }
}
