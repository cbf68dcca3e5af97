//! The clock of a run.

use std::{
    fmt,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A moment on the monotonic clock of the runner, in nanoseconds since the run began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(pub u64);

impl Moment {
    /// How long after the beginning of the run.
    #[must_use]
    pub const fn offset(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// So much later.
    #[must_use]
    pub fn plus(self, length: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier`; zero if it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{:.3} s", self.offset().as_secs_f64())
    }
}

/// The two clocks of the runner, started together.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// Starts it: now is [`Moment`] 0.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "starting a clock is an act, not a default")]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }

    /// The moment that it is now.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The moment that it is now on both clocks, read one right after the other.
    #[must_use]
    pub fn both(&self) -> (DateTime<Utc>, Moment) {
        (Utc::now(), self.now())
    }

    /// The moment as the operating system's own monotonic time.
    #[must_use]
    pub fn instant(&self, moment: Moment) -> Instant {
        self.started + moment.offset()
    }
}
