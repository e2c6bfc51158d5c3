//! Which cores the threads of a pool wake up on.
//!
//! A thread should wake up on another core than the one that calls it, and mostly does: the system looks for a core that
//! is idle. In a virtual machine it may not find it. A virtual core that sleeps counts as taken by the host
//! (`available_idle_cpu` of Linux asks `vcpu_is_preempted`), so that a worker that last ran where the caller runs
//! now wakes up there, behind the caller, until the system balances its load milliseconds later; meanwhile the other core
//! sleeps. A small pass of a stage is over by then. So a worker that sleeps is kept off the caller's core, and off those of
//! its like, until it has waked up; then it may be moved as before.
//!
//! All of it is a matter of speed: where the system refuses, or has more cores than a set holds, threads
//! wake up where it thinks best.

#[cfg(target_os = "linux")]
pub(super) use linux::Place;
#[cfg(not(target_os = "linux"))]
pub(super) use other::Place;

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::{Mutex, OnceLock, PoisonError};

    use rustix::thread::{CpuSet, Pid, gettid, sched_getaffinity, sched_getcpu, sched_setaffinity};

    /// Where it is not known.
    const NOWHERE: usize = usize::MAX;

    /// Where a worker last was, and what it may use.
    #[derive(Debug)]
    pub(in crate::pool) struct Place {
        thread: OnceLock<Pid>,
        /// The core on which it went to sleep or, where that will not do, on which it may wake up.
        core: AtomicUsize,
        /// Whether it sleeps, as far as it says, and has not been sent away yet.
        asleep: AtomicBool,
        /// What it might use before it was sent away.
        before: Mutex<Option<CpuSet>>,
    }

    impl Default for Place {
        fn default() -> Self {
            Self {
                thread: OnceLock::new(),
                core: AtomicUsize::new(NOWHERE),
                asleep: AtomicBool::new(false),
                before: Mutex::new(None),
            }
        }
    }

    impl Place {
        /// The core of the calling thread.
        pub(in crate::pool) fn here() -> usize {
            sched_getcpu()
        }

        /// Called by the worker before it sleeps.
        pub(in crate::pool) fn note(&self) {
            self.thread.get_or_init(gettid);
            self.core.store(sched_getcpu(), Ordering::Relaxed);
            self.asleep.store(true, Ordering::Relaxed);
        }

        /// Called by the worker when it has been awake for a while: it may be moved as before.
        pub(in crate::pool) fn come_back(&self) {
            let before = self
                .before
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(before) = before {
                let _ = sched_setaffinity(None, &before);
            }
        }

        /// Lets a worker that sleeps wake up only where neither the caller is, which is `here`, nor any other of `all` were;
        /// once for each sleep.
        pub(in crate::pool) fn send_away<'a>(
            &self,
            here: usize,
            all: impl Iterator<Item = &'a Self>,
        ) {
            if !self.asleep.swap(false, Ordering::Relaxed) {
                return;
            }
            // Where the lock is held, the worker is awake.
            let (Some(thread), Ok(mut before)) = (self.thread.get(), self.before.try_lock()) else {
                return;
            };
            let allowed = match *before {
                Some(before) => Ok(before),
                None => sched_getaffinity(Some(*thread)),
            };
            let Ok(allowed) = allowed else { return };
            let others = all.filter(|place| !std::ptr::eq(*place, self));
            let taken = others.map(|place| place.core.load(Ordering::Relaxed));
            let free = free(allowed, here, taken);
            let Some(lowest) = (0..CpuSet::MAX_CPU).find(|core| free.is_set(*core)) else {
                return;
            };
            if sched_setaffinity(Some(*thread), &free).is_err() {
                return;
            }
            *before = Some(allowed);
            if self.core.load(Ordering::Relaxed) == here {
                // What the system falls back to where no core looks idle; the next worker shall go elsewhere.
                self.core.store(lowest, Ordering::Relaxed);
            }
        }
    }

    /// The cores where nobody is.
    fn free(mut allowed: CpuSet, here: usize, taken: impl Iterator<Item = usize>) -> CpuSet {
        for core in taken.chain([here]).filter(|core| *core < CpuSet::MAX_CPU) {
            allowed.unset(core);
        }
        allowed
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn set(cores: &[usize]) -> CpuSet {
            let mut set = CpuSet::new();
            cores.iter().for_each(|core| set.set(*core));
            set
        }

        #[test]
        fn cores_where_nobody_is() {
            for (allowed, here, taken, expected) in [
                (&[0, 1][..], 0, &[0][..], &[1][..]),
                (&[0, 1, 2, 3], 0, &[1, 0], &[2, 3]),
                (&[1, 4], 4, &[NOWHERE], &[1]),
                (&[1], 5000, &[], &[1]),
                (&[0], 0, &[], &[]),
                (&[0, 1], 0, &[1, 0], &[]),
            ] {
                let found = free(set(allowed), here, taken.iter().copied());
                assert_eq!(found, set(expected), "{allowed:?} {here} {taken:?}");
            }
        }

        /// Whatever was done to it meanwhile, in the end a worker may use what it might before.
        #[test]
        fn a_worker_comes_back() {
            let place = Place::default();
            std::thread::scope(|scope| {
                let worker = scope.spawn(|| {
                    let allowed = sched_getaffinity(None).expect("Linux says");
                    place.come_back();
                    for _ in 0..3 {
                        place.note();
                        let here = place.core.load(Ordering::Relaxed);
                        place.send_away(here, std::iter::once(&place));
                        let narrow = sched_getaffinity(None).expect("Linux says");
                        assert_eq!(
                            narrow,
                            match allowed.count() {
                                1 => allowed,
                                _ => free(allowed, here, std::iter::empty()),
                            }
                        );
                        // No second time before it has slept again.
                        place.send_away(here, std::iter::once(&place));
                        assert_eq!(sched_getaffinity(None), Ok(narrow));
                        place.come_back();
                        assert_eq!(sched_getaffinity(None), Ok(allowed));
                    }
                });
                worker.join().expect("the assertions hold");
            });
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    /// Elsewhere the system chooses.
    #[derive(Debug, Default)]
    pub(in crate::pool) struct Place;

    impl Place {
        pub(in crate::pool) fn here() -> usize {
            0
        }

        pub(in crate::pool) fn note(&self) {}

        pub(in crate::pool) fn come_back(&self) {}

        pub(in crate::pool) fn send_away<'a>(&self, _: usize, _: impl Iterator<Item = &'a Self>) {}
    }
}
