//! Time as a value that is passed in.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

/// A moment of a [`Clock`]: how long after the clock's own start.
///
/// Moments of different clocks mean nothing to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant {
    since_start: Duration,
}

impl Instant {
    /// The moment at which the clock started.
    pub const START: Self = Self {
        since_start: Duration::ZERO,
    };

    /// The moment `since_start` after the clock's start.
    pub const fn from_start(since_start: Duration) -> Self {
        Self { since_start }
    }

    /// How long after the clock's start.
    pub const fn since_start(self) -> Duration {
        self.since_start
    }

    /// How long after `earlier`; zero if it is not later.
    pub fn since(self, earlier: Self) -> Duration {
        self.since_start.saturating_sub(earlier.since_start)
    }

    /// The moment `later` afterwards; the far end of time where that overflows.
    pub fn after(self, later: Duration) -> Self {
        Self {
            since_start: self.since_start.saturating_add(later),
        }
    }
}

/// Tells the time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present moment. Never goes back.
    fn now(&self) -> Instant;

    /// Wall time since 1970-01-01 00:00 UTC, for people and logs. May jump.
    fn unix_time(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// A clock that starts now.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that asks the machine"
    )]
    pub fn new() -> Self {
        Self {
            start: std::time::Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::from_start(self.start.elapsed())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that asks the machine"
    )]
    fn unix_time(&self) -> Duration {
        let now = std::time::SystemTime::now();
        // A machine set to before 1970 gets the epoch itself: wall time is for show only.
        now.duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default()
    }
}

/// A clock that moves when it is told to, for tests and simulations.
#[derive(Debug)]
pub struct ManualClock {
    state: Mutex<ManualTime>,
}

#[derive(Debug, Clone, Copy)]
struct ManualTime {
    now: Duration,
    unix: Duration,
}

impl ManualClock {
    /// A clock that stands at its start, `unix` after 1970-01-01 00:00 UTC.
    pub fn new(unix: Duration) -> Self {
        Self {
            state: Mutex::new(ManualTime {
                now: Duration::ZERO,
                unix,
            }),
        }
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        state.now = state.now.saturating_add(by);
        state.unix = state.unix.saturating_add(by);
    }

    fn read(&self) -> ManualTime {
        *self.state.lock().expect("no holder of this lock panics")
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new(Duration::ZERO)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        Instant::from_start(self.read().now)
    }

    fn unix_time(&self) -> Duration {
        self.read().unix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_clock_does_not_go_back() {
        let clock = SystemClock::new();
        let (first, second) = (clock.now(), clock.now());
        assert!(second >= first);
        // 2020-01-01: a machine that builds this is younger than that.
        assert!(clock.unix_time() > Duration::from_secs(1_577_836_800));
    }

    #[test]
    fn manual_clock_moves_only_when_told() {
        let clock = ManualClock::new(Duration::from_secs(100));
        assert_eq!(clock.now(), Instant::START);
        clock.advance(Duration::from_millis(250));
        assert_eq!(
            clock.now().since(Instant::START),
            Duration::from_millis(250)
        );
        assert_eq!(clock.unix_time(), Duration::from_millis(100_250));
    }

    #[test]
    fn arithmetic_saturates() {
        let late = Instant::from_start(Duration::MAX);
        assert_eq!(late.after(Duration::from_secs(1)), late);
        assert_eq!(Instant::START.since(late), Duration::ZERO);
    }
}
