//! Kubernetes' timers, divided by the sandbox's speed.
//!
//! Every wait that Kubernetes has (grace periods, back-off, probe periods, the kubelet's relist) goes through [`Speed`], so that the proportions
//! between them stay as they are on a real cluster.

use std::time::Duration;

/// How much faster than Kubernetes the timers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Speed(u32);

impl Speed {
    /// A speed of at least 1.
    pub(crate) fn new(speed: u32) -> Self {
        Self(speed.max(1))
    }

    /// What is left here of a wait of Kubernetes'.
    pub(crate) fn of(self, wait: Duration) -> Duration {
        wait / self.0
    }

    /// A period of Kubernetes', never so short that a loop that keeps it is busy.
    pub(crate) fn period(self, period: Duration) -> Duration {
        self.of(period).max(SHORTEST_PERIOD)
    }

    /// What is left here of a wait of so many seconds, of [`LONGEST`] at most.
    pub(crate) fn seconds(self, seconds: i64) -> Duration {
        self.of(Duration::from_secs(u64::try_from(seconds).unwrap_or_default()).min(LONGEST))
    }

    /// What is left of a grace period: never so short that an orderly stop has no chance, unless there is none.
    pub(crate) fn grace(self, seconds: i64) -> Duration {
        if seconds <= 0 { Duration::ZERO } else { self.seconds(seconds).max(SHORTEST_GRACE) }
    }
}

/// No sandbox lasts longer, and a clock can be moved on by it: what clients ask for has no bound of its own.
const LONGEST: Duration = Duration::from_hours(365 * 24);

/// No loop turns more often than this.
const SHORTEST_PERIOD: Duration = Duration::from_millis(5);

/// A process writes to a real disk however fast the clock runs: it has at least this long to stop in order.
const SHORTEST_GRACE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_divided_and_a_grace_period_stays_long_enough_to_stop_in() {
        let speed = Speed::new(10);
        assert_eq!(speed.of(Duration::from_secs(10)), Duration::from_secs(1));
        assert_eq!(speed.grace(30), Duration::from_secs(3));
        assert_eq!(speed.grace(1), SHORTEST_GRACE);
        assert_eq!(speed.grace(0), Duration::ZERO);
        assert_eq!(Speed::new(0).seconds(7), Duration::from_secs(7));
        assert_eq!(Speed::new(1).grace(i64::MAX), LONGEST);
    }
}
