//! How long the headline stream has been without a failure.

use std::{collections::BTreeMap, time::Duration};

use crate::event::{Attempt, Moment, Outcome, Stream};

/// The acknowledged attempts in a row, up to the latest one before which none is outstanding.
///
/// Attempts overlap and end out of order, so an attempt counts only when all that were due before it have ended; a dropped one ends the
/// streak as a failed one does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Streak {
    /// Attempts that have ended while an earlier one has not.
    waiting: BTreeMap<u64, (Moment, bool)>,
    next: u64,
    /// When the first and the last attempt of the streak were due.
    run: Option<(Moment, Moment)>,
}

impl Streak {
    /// Takes an attempt; those of other streams are passed over.
    pub fn push(&mut self, attempt: &Attempt) {
        if attempt.stream != Stream::WriteNew {
            return;
        }
        let good = attempt.run.as_ref().is_some_and(|run| run.outcome == Outcome::Acknowledged);
        self.waiting.insert(attempt.number, (attempt.scheduled, good));
        while let Some((scheduled, good)) = self.waiting.remove(&self.next) {
            self.next += 1;
            self.run = match (good, self.run) {
                (false, _) => None,
                (true, None) => Some((scheduled, scheduled)),
                (true, Some((first, _))) => Some((first, scheduled)),
            };
        }
    }

    /// How long the streak is, if only attempts that were due at `since` or later count.
    #[must_use]
    pub fn length_since(&self, since: Moment) -> Duration {
        self.run.map_or(Duration::ZERO, |(first, last)| last.since(first.max(since)))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::makers::{dropped, ms, ok, refused, unknown},
        *,
    };

    fn streak(attempts: impl IntoIterator<Item = Attempt>) -> Streak {
        let mut streak = Streak::default();
        attempts.into_iter().for_each(|attempt| streak.push(&attempt));
        streak
    }

    #[test]
    fn it_grows_with_each_acknowledgement() {
        assert_eq!(streak([ok(0, 0, 5), ok(1, 100, 105), ok(2, 200, 205)]).length_since(ms(0)), Duration::from_millis(200));
    }

    #[test]
    fn a_failure_of_any_kind_ends_it() {
        for failure in [refused(1, 100, 105), unknown(1, 100, 105), dropped(1, 100)] {
            let streak = streak([ok(0, 0, 5), failure, ok(2, 200, 205), ok(3, 300, 305)]);
            assert_eq!(streak.run, Some((ms(200), ms(300))));
        }
    }

    #[test]
    fn an_outstanding_attempt_holds_up_those_behind_it() {
        let mut streak = streak([ok(0, 0, 5), ok(2, 200, 205), ok(3, 300, 305)]);
        assert_eq!(streak.length_since(ms(0)), Duration::ZERO);
        streak.push(&refused(1, 100, 900));
        assert_eq!(streak.run, Some((ms(200), ms(300))));
        assert_eq!(streak.length_since(ms(0)), Duration::from_millis(100));
    }

    #[test]
    fn what_was_due_before_does_not_count() {
        let streak = streak([ok(0, 0, 5), ok(1, 100, 105), ok(2, 200, 205)]);
        assert_eq!(streak.length_since(ms(150)), Duration::from_millis(50));
        assert_eq!(streak.length_since(ms(500)), Duration::ZERO);
    }
}
