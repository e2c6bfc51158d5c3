//! A step of decoding allocates its answer and nothing else.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixtures;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use skein_model::{Input, KvFormat, KvPages, Output, Pool, ScoreRows, Segment, SliceModel};
use skein_weights::{Dtype, Slice, WeightSource as _};

struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does the work; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The list of scores, and for each its best and its asked ones, of which none are asked.
const ANSWER: usize = 2;

/// What each thread takes once, when it first has a part of the attention; which step that is, is chance.
const THREAD: usize = 8;
const STEPS: usize = 10;

#[test]
fn a_step_of_decoding_allocates_its_answer_alone() {
    let formats = [None, Some(Dtype::Bf16), Some(Dtype::Q8), Some(Dtype::Q4)];
    for format in formats {
        assert_eq!(allocations(format, 1), STEPS * ANSWER, "{format:?}");
        let most = STEPS * ANSWER + THREAD;
        assert!(allocations(format, 2) <= most, "{format:?} on two threads");
    }
}

/// Of [`STEPS`] steps, after one that warms up.
fn allocations(format: Option<Dtype>, threads: usize) -> usize {
    let source = fixtures::open("qwen3");
    let slice = Slice::whole(source.profile().layers);
    let mut kv = KvPages::new(source.profile(), &slice, KvFormat::F32, 16 << 20);
    let pool = Arc::new(Pool::new(threads));
    let model = SliceModel::load(&source, slice, format, pool).unwrap();
    let mut sequence = kv.sequence();
    let mut step = |ids: &[u32]| {
        let len = sequence.len() + ids.len();
        kv.reserve(&mut sequence, len).unwrap();
        let segment = Segment {
            sequence: &mut sequence,
            rows: ids.len(),
            scores: ScoreRows::Last,
            asked: &[],
        };
        let before = COUNT.load(Ordering::SeqCst);
        let output = model
            .forward(&mut kv, &mut [segment], Input::Ids(ids))
            .unwrap();
        let after = COUNT.load(Ordering::SeqCst);
        assert!(matches!(output, Output::Scores(_)));
        after - before
    };
    step(&[5; 20]);
    // Up to here buffers grow; positions 21 to 31 are in a page that is there.
    step(&[7]);
    (0..STEPS).map(|_| step(&[9])).sum()
}
