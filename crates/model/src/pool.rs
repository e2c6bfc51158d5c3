//! Threads that share pieces of work.
//!
//! A pool runs one piece of work at a time on all its threads; what an item of it is depends on its index alone, and who
//! computes it, or which others with it, does not matter. Workers spin shortly for the next piece, then park: a decode step has a
//! hundred pieces a few microseconds apart, and an idle server must not burn a core.

mod ahead;
mod place;

use std::any::Any;
use std::cell::UnsafeCell;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};

pub(crate) use self::ahead::Ahead;
use self::ahead::{Announced, Fetch};
use self::place::Place;

/// Rounds of spinning before a worker parks: some tens of microseconds.
const SPINS: u32 = 4_000;

type Work<'a> = &'a (dyn Fn(usize) + Sync + 'a);

/// A set of threads that share one piece of work at a time.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    handles: Vec<Thread>,
    /// Held while a piece of work runs: a second caller waits.
    running: Mutex<()>,
    /// For [`Self::each`] and [`Self::runs`]: by thread, the next item of its share that nobody has taken.
    cursors: Vec<Cursor>,
    /// What is read after the next piece of work.
    announced: Announced,
}

/// In a cache line of its own: threads count there at the same time.
#[repr(align(128))]
#[derive(Default)]
struct Cursor(AtomicUsize);

impl Cursor {
    /// Takes `size` of those that are left before `end`.
    fn take(&self, end: usize, size: impl Fn(usize) -> usize) -> Option<Range<usize>> {
        let left = end.saturating_sub(self.0.load(Ordering::Relaxed));
        if left == 0 {
            return None;
        }
        let size = size(left);
        // Others may have taken some meanwhile.
        let start = self.0.fetch_add(size, Ordering::Relaxed);
        (start < end).then(|| start..end.min(start + size))
    }
}

struct Shared {
    call: Call,
    workers: Vec<Member>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// What a caller tells workers, in cache lines of its own. They look at it while they wait, so that a line which changes
/// travels from core to core, and that takes as long as a small piece of work where these share no cache: all is
/// written at once, and nothing is written here by others.
#[repr(align(128))]
struct Call {
    /// Counts pieces of work; a change tells workers that `work` is new.
    epoch: AtomicUsize,
    /// The work of the current epoch, its lifetime erased: see [`Pool::run`].
    work: UnsafeCell<Work<'static>>,
    /// What is read after it.
    ahead: Announced,
    /// Whether no work is to be expected soon: workers park without spinning.
    resting: AtomicBool,
    stop: AtomicBool,
}

// SAFETY: `work` is written by the one caller at a time between two epochs, and read by workers that have claimed their
// part of the current one, whom the caller waits for before it goes on. The rest is atomic.
unsafe impl Sync for Call {}

/// What is known of a worker, in cache lines of its own.
#[repr(align(128))]
#[derive(Default)]
struct Member {
    /// The last epoch whose part of the work somebody has taken: the worker itself or, where it is still waking up when
    /// all else is done, the caller.
    claimed: AtomicUsize,
    /// The last epoch whose part has been finished, by whoever took it.
    finished: AtomicUsize,
    /// Whether it is parked or about to park.
    parked: AtomicBool,
    /// Where it was then.
    place: Place,
}

impl Member {
    /// Takes the worker's part of an epoch, unless it is taken, or the epoch is over.
    fn claim(&self, epoch: usize) -> bool {
        // To look first leaves the line where it is.
        self.claimed.load(Ordering::Acquire) < epoch
            && self.claimed.fetch_max(epoch, Ordering::AcqRel) < epoch
    }
}

impl Shared {
    /// Does a part of the work. The first panic of all parts is kept; others are forgotten, since to drop what they
    /// carry might panic in turn, here, where nothing may.
    fn take_part(&self, work: Work<'_>, index: usize) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| work(index))) {
            let mut kept = lock(&self.panic);
            match *kept {
                None => *kept = Some(payload),
                Some(_) => std::mem::forget(payload),
            }
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} threads)", self.threads())
    }
}

impl Pool {
    /// Starts `threads - 1` workers; the caller of [`Self::run`] is the last one. Zero counts as
    /// one.
    ///
    /// # Panics
    /// If the system refuses a thread.
    pub fn new(threads: usize) -> Self {
        let count = threads.max(1) - 1;
        let shared = Arc::new(Shared {
            call: Call {
                epoch: AtomicUsize::new(0),
                work: UnsafeCell::new(&|_| ()),
                ahead: Announced::default(),
                resting: AtomicBool::new(false),
                stop: AtomicBool::new(false),
            },
            workers: (0..count).map(|_| Member::default()).collect(),
            panic: Mutex::new(None),
        });
        let spawn = |index: usize| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name(format!("skein-kernel-{}", index + 1))
                .spawn(move || worker(&shared, index))
                .expect("the system can start a thread")
        };
        let workers: Vec<_> = (0..count).map(spawn).collect();
        let handles = workers.iter().map(|w| w.thread().clone()).collect();
        Self {
            shared,
            workers,
            handles,
            running: Mutex::new(()),
            cursors: (0..=count).map(|_| Cursor::default()).collect(),
            announced: Announced::default(),
        }
    }

    /// Says what is read after what comes now, so that threads fetch the beginning of it while they wait for others. It holds
    /// until something else is said.
    pub(crate) fn announce(&self, ahead: Option<Ahead>) {
        self.announced.set(ahead.unwrap_or(Ahead::NOTHING));
    }

    /// Says that no work follows soon, so that workers give their cores to others at once instead of spinning: where a
    /// model is cut into stages on one machine, the next stage wants them. The next piece of work ends it.
    pub fn rest(&self) {
        self.shared.call.resting.store(true, Ordering::Relaxed);
    }

    /// Wakes the workers that sleep, elsewhere than where the caller is.
    fn wake(&self) {
        let members = &self.shared.workers;
        let mut here = None;
        for (member, handle) in members.iter().zip(&self.handles) {
            if member.parked.load(Ordering::SeqCst) {
                let here = *here.get_or_insert_with(Place::here);
                let all = members.iter().map(|member| &member.place);
                member.place.send_away(here, all);
                handle.unpark();
            }
        }
    }

    /// How many threads take part.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work(index)` once for every `index` below [`Self::threads`], mostly at the same time, and returns when all
    /// have returned. The part of a worker that has not come by then is the caller's too. Must not be called from inside
    /// `work`.
    ///
    /// # Panics
    /// With the panic of `work`, after all threads are done.
    pub fn run<'a>(&self, work: Work<'a>) {
        if self.workers.is_empty() {
            work(0);
            return;
        }
        self.run_alone(lock(&self.running), work);
    }

    /// As [`Self::run`], nothing else running.
    fn run_alone<'a>(&self, guard: MutexGuard<'_, ()>, work: Work<'a>) {
        let (shared, call) = (&self.shared, &self.shared.call);
        // SAFETY: only the lifetime changes. A worker uses the reference after it claimed its part of this epoch and
        // until it stores `finished`; this function claims each part itself, so that no worker can any more, or waits
        // for that store, also when a part panics. So `work` outlives each use.
        let erased = unsafe { std::mem::transmute::<Work<'a>, Work<'static>>(work) };
        // SAFETY: as is said at `Call`: nothing else runs, and no part of an earlier epoch is left to claim.
        unsafe { *call.work.get() = erased };
        call.ahead.set(self.announced.get());
        call.resting.store(false, Ordering::Relaxed);
        let epoch = call.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        self.wake();
        shared.take_part(work, 0);
        // A core that sleeps takes longer to wake than a small product takes: nobody waits for that.
        for (index, member) in shared.workers.iter().enumerate() {
            if member.claim(epoch) {
                shared.take_part(work, index + 1);
                member.finished.store(epoch, Ordering::Release);
            }
        }
        let mut fetch = call.ahead.fetch(0);
        for member in &shared.workers {
            wait_until_finished(member, epoch, &mut fetch);
        }
        let panic = lock(&shared.panic).take();
        drop(guard);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// Splits `0..count` into one contiguous range per thread, as even as can be, and calls
    /// `work` with each thread's range.
    pub fn split(&self, count: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
        if count <= 1 {
            // Not worth waking anybody.
            return (0..count).for_each(|_| work(0..1));
        }
        self.run(&|index| {
            let range = part(count, index, self.threads());
            if !range.is_empty() {
                work(range);
            }
        });
    }

    /// Calls `work` once for each of `0..count`: each thread walks through its own share of them, one after
    /// another as they lie in memory, then helps whoever is not through. For pieces whose results do not depend on
    /// who computes them, and of which one may take longer than another.
    pub fn each(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        self.share_out(count, |_| 1, &|range| range.for_each(work));
    }

    /// As [`Self::each`], for runs that make up `0..count`, of pieces that take equally long: a thread takes half of what is
    /// left of a share, so that it takes seldom (a processor waits for all its writes then) and, where one core is up
    /// to twice as fast as another, all end together. Where runs are cut changes from call to call: no result may depend on
    /// it.
    pub fn runs(&self, count: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
        self.share_out(count, |left| left.div_ceil(2), work);
    }

    /// Deals out `0..count`. `size`: how many of those that are left of a share are taken at once, one at least.
    fn share_out(
        &self,
        count: usize,
        size: impl Fn(usize) -> usize + Sync,
        work: &(dyn Fn(Range<usize>) + Sync),
    ) {
        if count == 0 {
            return;
        }
        if count == 1 || self.workers.is_empty() {
            return work(0..count);
        }
        let threads = self.threads();
        let guard = lock(&self.running);
        for (thread, cursor) in self.cursors.iter().enumerate() {
            // Nobody else looks before the work begins, which all threads learn of by a stronger operation.
            let start = part(count, thread, threads).start;
            cursor.0.store(start, Ordering::Relaxed);
        }
        self.run_alone(guard, &|own| {
            for thread in (own..threads).chain(0..own) {
                let end = part(count, thread, threads).end;
                while let Some(run) = self.cursors[thread].take(end, &size) {
                    work(run);
                }
            }
        });
    }

    /// As [`Self::each`], for ranges of up to `grain` of `0..count`, shorter ones where threads would go without.
    pub fn spread(&self, count: usize, grain: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
        let grain = grain.min(count / self.threads()).max(1);
        self.each(count.div_ceil(grain), &|index| {
            work(index * grain..count.min((index + 1) * grain));
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.call.stop.store(true, Ordering::SeqCst);
        self.shared.call.epoch.fetch_add(1, Ordering::SeqCst);
        for handle in &self.handles {
            handle.unpark();
        }
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its work; it has nothing else to report.
            let _ = worker.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread's part of `0..count`, as even as can be.
fn part(count: usize, thread: usize, threads: usize) -> Range<usize> {
    let start = |thread: usize| count.saturating_mul(thread) / threads.max(1);
    start(thread)..start(thread + 1)
}

fn wait_until_finished(member: &Member, epoch: usize, fetch: &mut Fetch) {
    let mut spins = 0u32;
    // The part of this epoch is the worker's, so that it finishes no other meanwhile.
    while member.finished.load(Ordering::Acquire) != epoch {
        spins += 1;
        if spins < SPINS {
            fetch.pass()
        } else {
            std::thread::yield_now()
        }
    }
}

fn worker(shared: &Shared, index: usize) {
    let member = &shared.workers[index];
    let mut seen = 0;
    loop {
        seen = wait_for_change(&shared.call, member, (index + 1, seen));
        if shared.call.stop.load(Ordering::SeqCst) {
            return;
        }
        if member.claim(seen) {
            // SAFETY: as is said at `Call`: this part of the current epoch is now this thread's.
            let work = unsafe { *shared.call.work.get() };
            shared.take_part(work, index + 1);
            member.finished.store(seen, Ordering::Release);
        }
        // Nobody waits for it now.
        member.place.come_back();
    }
}

fn wait_for_change(call: &Call, member: &Member, (thread, seen): (usize, usize)) -> usize {
    let mut fetch = call.ahead.fetch(thread);
    for _ in 0..SPINS {
        let now = call.epoch.load(Ordering::Acquire);
        if now != seen {
            return now;
        }
        if call.resting.load(Ordering::Relaxed) {
            break;
        }
        fetch.pass();
    }
    member.place.note();
    // The flag goes up before the last look at the epoch: a caller that changes the epoch after
    // that look sees the flag and unparks, and an unpark before the park is not lost.
    member.parked.store(true, Ordering::SeqCst);
    let now = loop {
        let now = call.epoch.load(Ordering::SeqCst);
        if now != seen {
            break now;
        }
        std::thread::park();
    };
    member.parked.store(false, Ordering::SeqCst);
    now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_once_every_time() {
        for threads in [0, 1, 2, 5] {
            let pool = Pool::new(threads);
            let count = AtomicUsize::new(0);
            for round in 0..2_000 {
                count.store(0, Ordering::SeqCst);
                pool.run(&|index| {
                    count.fetch_add(1 << (8 * index), Ordering::SeqCst);
                });
                let expected = (0..pool.threads()).map(|i| 1 << (8 * i)).sum::<usize>();
                assert_eq!(count.load(Ordering::SeqCst), expected, "round {round}");
                if round % 3 == 0 {
                    pool.rest();
                }
            }
        }
    }

    #[test]
    fn ranges_cover_all_items() {
        let pool = Pool::new(3);
        for count in [0usize, 1, 2, 3, 10, 64, 10_000] {
            let hits: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            pool.split(count, &|range| {
                for i in range {
                    hits[i].fetch_add(1, Ordering::SeqCst);
                }
            });
            pool.each(count, &|i| {
                hits[i].fetch_add(1, Ordering::SeqCst);
            });
            pool.runs(count, &|range| {
                for i in range {
                    hits[i].fetch_add(1, Ordering::SeqCst);
                }
            });
            pool.spread(count, 7, &|range| {
                for i in range {
                    hits[i].fetch_add(1, Ordering::SeqCst);
                }
            });
            assert!(
                hits.iter().all(|h| h.load(Ordering::SeqCst) == 4),
                "{count}"
            );
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(2);
        for bad in [0, 1] {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|index| assert_ne!(index, bad, "on purpose"));
            }));
            assert!(caught.is_err());
            pool.run(&|_| ());
        }
    }

    /// Whatever is announced, nobody reads there.
    #[test]
    fn any_address_may_be_announced() {
        let pool = Pool::new(3);
        let count = AtomicUsize::new(0);
        for first in [0, 1, usize::MAX].map(std::ptr::without_provenance) {
            for shares in [0, 3, usize::MAX] {
                pool.announce(Some(Ahead {
                    first,
                    shares,
                    share_bytes: usize::MAX / 2,
                    threads: pool.threads(),
                }));
                for _ in 0..20 {
                    pool.run(&|index| {
                        // Others wait for this one, and fetch meanwhile.
                        if index == 1 {
                            std::thread::sleep(std::time::Duration::from_micros(300));
                        }
                        count.fetch_add(1, Ordering::SeqCst);
                    });
                }
            }
        }
        assert_eq!(count.load(Ordering::SeqCst), 3 * 3 * 20 * pool.threads());
    }

    /// What panics again when it is dropped ends neither a worker nor the caller's wait.
    #[test]
    fn all_parts_panic_at_once() {
        struct Loud;
        impl Drop for Loud {
            fn drop(&mut self) {
                assert!(std::thread::panicking(), "dropped");
            }
        }
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| ()));
        let pool = Pool::new(4);
        for _ in 0..200 {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|_| std::panic::panic_any(Loud));
            }));
            std::mem::forget(caught.expect_err("a panic"));
            pool.run(&|_| ());
        }
        std::panic::set_hook(hook);
    }

    #[test]
    fn grains_are_enough_for_all_threads() {
        for (count, threads, grain, expected) in [
            (0, 2, 4, 0),
            (9, 8, 100, 9),
            (17, 8, 100, 9),
            (3, 8, 1, 3),
            (100, 2, 10, 10),
        ] {
            let runs = AtomicUsize::new(0);
            Pool::new(threads).spread(count, grain, &|_| {
                runs.fetch_add(1, Ordering::SeqCst);
            });
            assert_eq!(
                runs.load(Ordering::SeqCst),
                expected,
                "{count} of {threads}"
            );
        }
    }
}
