//! How long a container waits before it is started again.
//!
//! The first restart is immediate. From then on a container waits from the moment it ended: 10 s, 20 s, 40 s and so on up to 300 s. Ten minutes
//! without a restart and it starts over. All of it divided by the sandbox's speed.

use std::time::Duration;

use tokio::time::Instant;

use super::super::clock::Speed;

/// The first wait.
const FIRST: Duration = Duration::from_secs(10);
/// The longest wait.
const LONGEST: Duration = Duration::from_mins(5);
/// After so long without a restart everything is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);

/// The back-off of one container.
#[derive(Debug)]
pub(super) struct BackOff {
    speed: Speed,
    /// The wait in force, and when the last restart was.
    last: Option<(Duration, Instant)>,
}

impl BackOff {
    /// None so far.
    pub(super) fn new(speed: Speed) -> Self {
        Self { speed, last: None }
    }

    /// The wait in force, in Kubernetes' measure, for a container that ended at `ended`; `None` if it may start at once.
    pub(super) fn wait(&self, ended: Instant) -> Option<Duration> {
        let (wait, restarted) = self.last?;
        (ended.saturating_duration_since(restarted) <= self.speed.of(FORGOTTEN_AFTER)).then_some(wait)
    }

    /// When a container that ended at `ended` may start again.
    pub(super) fn due(&self, ended: Instant) -> Instant {
        self.wait(ended).map_or(ended, |wait| ended + self.speed.of(wait))
    }

    /// Takes note of a restart, or of another failed try, at `now`, after an end at `ended`.
    pub(super) fn restarted(&mut self, ended: Instant, now: Instant) {
        let next = self.wait(ended).map_or(FIRST, |wait| (wait * 2).min(LONGEST));
        self.last = Some((next, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends at once after every start, and says how long it waited each time.
    fn waits(times: usize) -> Vec<f64> {
        let mut back_off = BackOff::new(Speed::new(10));
        let mut now = Instant::now();
        (0..times)
            .map(|_| {
                let due = back_off.due(now);
                let waited = due - now;
                back_off.restarted(now, due);
                now = due;
                waited.as_secs_f64()
            })
            .collect()
    }

    #[test]
    fn the_first_restart_is_immediate_and_the_waits_double_up_to_five_minutes() {
        assert_eq!(waits(8), [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
    }

    #[test]
    fn ten_quiet_minutes_are_a_new_start() {
        let speed = Speed::new(10);
        let mut back_off = BackOff::new(speed);
        let start = Instant::now();
        back_off.restarted(start, start);
        back_off.restarted(start, start);
        let soon = start + speed.of(Duration::from_secs(599));
        assert_eq!(back_off.wait(soon), Some(Duration::from_secs(20)));
        let late = start + speed.of(Duration::from_secs(601));
        assert_eq!(back_off.wait(late), None);
        back_off.restarted(late, late);
        assert_eq!(back_off.wait(late), Some(FIRST));
    }
}
