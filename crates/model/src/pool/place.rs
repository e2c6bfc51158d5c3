//! Which cores the threads of a pool wake up on.
//!
//! A thread should wake up on another core than the one that calls it, and mostly does: the system looks for a core that
//! is idle. In a virtual machine it may not find it. A virtual core that sleeps counts as taken by the host
//! (`available_idle_cpu` of Linux asks `vcpu_is_preempted`), so that a worker that last ran where the caller runs
//! now wakes up there, behind the caller, until the system balances its load milliseconds later; meanwhile the other core
//! sleeps. A small pass of a stage is over by then. So a worker is sent away from the caller's core when it would
//! wake up there.

#[cfg(target_os = "linux")]
pub(super) use linux::{Cores, Place};
#[cfg(not(target_os = "linux"))]
pub(super) use other::{Cores, Place};

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustix::thread::{CpuSet, Pid, gettid, sched_getaffinity, sched_getcpu, sched_setaffinity};

    /// The cores that the process may use.
    #[derive(Debug)]
    pub(in crate::pool) struct Cores {
        /// None if there is nothing to choose, or the system does not say.
        allowed: Option<CpuSet>,
    }

    impl Cores {
        /// Those of the calling thread.
        pub(in crate::pool) fn of_caller() -> Self {
            let allowed = sched_getaffinity(None).ok().filter(|set| set.count() > 1);
            Self { allowed }
        }

        /// The core of the calling thread.
        pub(in crate::pool) fn here() -> usize {
            sched_getcpu()
        }

        /// Sends a sleeping worker to a core where neither the caller is nor `others` were, if it would wake up on the
        /// caller's, which is `here`. A matter of speed: if the system refuses, it stays.
        pub(in crate::pool) fn part<'a>(
            &self,
            worker: &Place,
            here: usize,
            others: impl Iterator<Item = &'a Place>,
        ) {
            let (Some(allowed), Some(thread)) = (&self.allowed, worker.thread.get()) else {
                return;
            };
            if worker.core.load(Ordering::Relaxed) != here || here >= CpuSet::MAX_CPU {
                return;
            }
            let mut away = *allowed;
            away.unset(here);
            let mut free = away;
            for other in others {
                let core = other.core.load(Ordering::Relaxed);
                if core < CpuSet::MAX_CPU {
                    free.unset(core);
                }
            }
            let set = if free.count() > 0 { free } else { away };
            if set.count() > 0 {
                // Refused, it wakes up where the system thinks best.
                let _ = sched_setaffinity(Some(*thread), &set);
            }
        }
    }

    /// Where a worker last was.
    #[derive(Debug)]
    pub(in crate::pool) struct Place {
        core: AtomicUsize,
        thread: OnceLock<Pid>,
    }

    impl Default for Place {
        fn default() -> Self {
            Self {
                core: AtomicUsize::new(usize::MAX),
                thread: OnceLock::new(),
            }
        }
    }

    impl Place {
        /// Called by the worker before it sleeps.
        pub(in crate::pool) fn note(&self) {
            self.thread.get_or_init(gettid);
            self.core.store(sched_getcpu(), Ordering::Relaxed);
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// A worker that says it was where the caller is may not wake up there.
        #[test]
        fn a_worker_leaves_the_callers_core() {
            let cores = Cores::of_caller();
            let Some(allowed) = cores.allowed else {
                // One core: nobody can be sent away.
                return;
            };
            let here = (0..CpuSet::MAX_CPU).find(|core| allowed.is_set(*core));
            let here = here.expect("a core");
            let other = Place::default();
            let place = Place::default();
            std::thread::scope(|scope| {
                let worker = scope.spawn(|| {
                    place.note();
                    place.core.store(here, Ordering::Relaxed);
                    // One that was elsewhere stays as it is.
                    cores.part(&place, here + 1, std::iter::empty());
                    assert_eq!(sched_getaffinity(None), Ok(allowed));
                    cores.part(&place, here, std::iter::once(&other));
                    let mut left = allowed;
                    left.unset(here);
                    assert_eq!(sched_getaffinity(None), Ok(left));
                    assert_ne!(sched_getcpu(), here);
                    // Where every other core has its worker, any of them will do.
                    for core in (0..CpuSet::MAX_CPU).filter(|core| left.is_set(*core)) {
                        other.core.store(core, Ordering::Relaxed);
                        let mut expected = left;
                        if left.count() > 1 {
                            expected.unset(core);
                        }
                        cores.part(&place, here, std::iter::once(&other));
                        assert_eq!(sched_getaffinity(None), Ok(expected));
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
    #[derive(Debug)]
    pub(in crate::pool) struct Cores;

    impl Cores {
        pub(in crate::pool) fn of_caller() -> Self {
            Self
        }

        pub(in crate::pool) fn here() -> usize {
            0
        }

        pub(in crate::pool) fn part<'a>(
            &self,
            _: &Place,
            _: usize,
            _: impl Iterator<Item = &'a Place>,
        ) {
        }
    }

    #[derive(Debug, Default)]
    pub(in crate::pool) struct Place;

    impl Place {
        pub(in crate::pool) fn note(&self) {}
    }
}
