//! The outage: a gap between acknowledged writes.
//!
//! Over the headline stream, in the order in which acknowledgements came: the gap from one to the next counts as an outage if at least one
//! attempt in it failed or was dropped. Without a failed attempt there is no outage, however long the gap: that is only how far apart the
//! probes were.
//!
//! With L the last acknowledgement before the gap and F the first after it (`b` when an attempt started, `e` when its outcome was known):
//! - headline: `F.e - L.e`, but never outside the bounds (an acknowledgement that was slow to arrive would move it there);
//! - upper bound: `F.e - L.b`. L was committed after it began and F before it ended, so the service was away for no longer than that;
//! - lower bound: `b` of the last failed attempt - `e` of the first failed one. The service was away at some moment within each of the
//!   two, so, if it was away in one piece, for no less than that. A single failed attempt gives 0.
//!
//! Attempts overlap, so a failed one may fall into several gaps in a row; it is counted to the longest of them.
//!
//! A dropped attempt makes a gap an outage, but says nothing of when the service was away: only that earlier attempts were still waiting.
//!
//! If no acknowledgement came any more, the outage has no end: the upper bound is `None`, and the lower one runs to the last failed attempt.

use std::time::Duration;

use crate::{
    event::{Attempt, AttemptRun, Moment, Outcome, Stream},
    result::Bounded,
};

/// A gap between acknowledged writes in which an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When the last acknowledgement before it came; `None`: there was none.
    pub from: Option<Moment>,
    /// When the first acknowledgement after it came; `None`: none did.
    pub to: Option<Moment>,
    /// How long it was.
    pub length: Bounded,
}

/// One attempt, or what is left of one that was dropped.
#[derive(Clone, Copy)]
struct Point {
    started: Moment,
    ended: Moment,
    good: bool,
    /// It never started: it says that something was wrong, and not when.
    dropped: bool,
}

/// All outages of the headline stream, in order of time.
#[must_use]
pub fn outages(attempts: &[Attempt]) -> Vec<Outage> {
    let points = attempts.iter().filter(|attempt| attempt.stream == Stream::WriteNew).map(point);
    let (mut good, bad): (Vec<Point>, Vec<Point>) = points.partition(|point| point.good);
    good.sort_by_key(|point| (point.ended, point.started));

    let mut gaps: Vec<Gap> =
        good.windows(2).map(|pair| Gap { last: Some(pair[0]), first: Some(pair[1]), broken: false, failures: None }).collect();
    gaps.push(Gap { last: good.last().copied(), first: None, broken: false, failures: None });
    for failed in bad {
        if let Some(gap) = gaps.iter_mut().filter(|gap| gap.may_hold(failed)).max_by_key(|gap| gap.upper_bound()) {
            gap.add(failed);
        }
    }
    gaps.iter().filter_map(Gap::outage).collect()
}

/// What lies between two acknowledgements, one right after the other.
#[derive(Clone, Copy)]
struct Gap {
    last: Option<Point>,
    first: Option<Point>,
    /// Whether an attempt in it failed or was dropped.
    broken: bool,
    /// The end of the first failed attempt in it, and the start of the last one.
    failures: Option<(Moment, Moment)>,
}

impl Gap {
    /// Whether the failed attempt may have met the service between the two commits. Attempts overlap, so this can be true of several gaps in a
    /// row; the failure is then counted to the longest, which needs no second outage to explain it. For the gap without an end it must be
    /// certain: it is longer than any other.
    fn may_hold(&self, failed: Point) -> bool {
        match (self.last, self.first) {
            (Some(last), Some(first)) => failed.started >= last.started && failed.started < first.ended,
            (Some(last), None) => failed.started >= last.ended,
            (None, _) => true,
        }
    }

    /// `None`, which is the least, stands for the gap without an end: a failure that another gap explains does not make it an outage.
    fn upper_bound(&self) -> Option<Duration> {
        Some(self.first?.ended.since(self.last?.started))
    }

    fn add(&mut self, failed: Point) {
        self.broken = true;
        if failed.dropped {
            return;
        }
        let (first_end, last_start) = self.failures.unwrap_or((failed.ended, failed.started));
        self.failures = Some((first_end.min(failed.ended), last_start.max(failed.started)));
    }

    /// The outage, if an attempt failed in it.
    fn outage(&self) -> Option<Outage> {
        if !self.broken {
            return None;
        }
        let lo = self.failures.map_or(Duration::ZERO, |(first_end, last_start)| last_start.since(first_end));
        let length = match (self.last, self.first) {
            (Some(last), Some(first)) => {
                let hi = first.ended.since(last.started);
                Bounded { at: Some(first.ended.since(last.ended).max(lo).min(hi)), lo: lo.min(hi), hi: Some(hi) }
            }
            _ => Bounded { at: None, lo, hi: None },
        };
        Some(Outage { from: self.last.map(|point| point.ended), to: self.first.map(|point| point.ended), length })
    }
}

fn point(attempt: &Attempt) -> Point {
    match &attempt.run {
        Some(AttemptRun { started, ended, outcome, .. }) => {
            Point { started: *started, ended: *ended, good: *outcome == Outcome::Acknowledged, dropped: false }
        }
        None => Point { started: attempt.scheduled, ended: attempt.scheduled, good: false, dropped: true },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::makers::{dropped, ok, refused, unknown},
        *,
    };

    fn in_ms(outage: Outage) -> (Option<u128>, u128, Option<u128>) {
        let Bounded { at, lo, hi } = outage.length;
        (at.map(|at| at.as_millis()), lo.as_millis(), hi.map(|hi| hi.as_millis()))
    }

    fn found(attempts: &[Attempt]) -> Vec<(Option<u128>, u128, Option<u128>)> {
        outages(attempts).into_iter().map(in_ms).collect()
    }

    #[test]
    fn no_failed_attempt_is_no_outage_however_long_the_gap() {
        assert_eq!(found(&[ok(0, 0, 5), ok(1, 9_000, 9_005)]), []);
    }

    #[test]
    fn one_outage_runs_from_acknowledgement_to_acknowledgement() {
        let history = [ok(0, 0, 5), refused(1, 100, 101), refused(2, 200, 201), refused(3, 300, 301), ok(4, 400, 420)];
        assert_eq!(found(&history), [(Some(415), 199, Some(420))]);
    }

    #[test]
    fn one_failed_attempt_proves_that_it_was_away_but_not_for_how_long() {
        assert_eq!(found(&[ok(0, 0, 5), unknown(1, 100, 150), ok(2, 200, 205)]), [(Some(200), 0, Some(205))]);
    }

    #[test]
    fn a_dropped_attempt_counts_as_a_failed_one() {
        assert_eq!(found(&[ok(0, 0, 5), dropped(1, 100), ok(2, 200, 205)]), [(Some(200), 0, Some(205))]);
    }

    #[test]
    fn dropped_attempts_do_not_raise_the_lower_bound() {
        let history = [ok(0, 0, 5), refused(1, 100, 101), refused(2, 200, 201), dropped(3, 300), dropped(4, 400), ok(5, 500, 505)];
        assert_eq!(found(&history), [(Some(500), 99, Some(505))]);
    }

    #[test]
    fn two_outages_with_an_acknowledgement_between_are_two() {
        let history = [ok(0, 0, 5), refused(1, 100, 101), ok(2, 200, 205), refused(3, 300, 301), ok(4, 400, 405)];
        assert_eq!(found(&history), [(Some(200), 0, Some(205)), (Some(200), 0, Some(205))]);
    }

    #[test]
    fn one_that_never_ended_has_no_figure() {
        let history = [ok(0, 0, 5), refused(1, 100, 101), refused(2, 200, 201)];
        assert_eq!(found(&history), [(None, 99, None)]);
    }

    #[test]
    fn a_service_that_never_answered_is_one_outage_without_a_beginning() {
        let all = outages(&[refused(0, 0, 5), refused(1, 100, 105)]);
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].from, in_ms(all[0])), (None, (None, 95, None)));
    }

    #[test]
    fn a_hanging_attempt_that_started_before_the_last_acknowledgement_came_is_part_of_it() {
        // 1 was sent while 0 was under way, and hung until its deadline.
        let history = [ok(0, 0, 30), unknown(1, 20, 1_020), ok(2, 1_100, 1_110)];
        assert_eq!(found(&history), [(Some(1_080), 0, Some(1_110))]);
    }

    #[test]
    fn the_order_in_which_attempts_are_reported_does_not_matter() {
        let mut history = vec![ok(0, 0, 5), refused(1, 100, 101), unknown(2, 200, 900), ok(3, 300, 310), ok(4, 400, 405)];
        let straight = found(&history);
        history.reverse();
        assert_eq!(found(&history), straight);
    }

    proptest! {
        /// A service that is away from `t0` to `t1`: an attempt is good if it can do its work at one moment outside.
        #[test]
        fn the_truth_lies_within_the_bounds(t0 in 500u64..2_000, length in 1u64..3_000, every in 5u64..200, takes in 1u64..40, timeout in 50u64..400) {
            let t1 = t0 + length;
            let mut history = Vec::new();
            for number in 0..(6_000 / every) {
                let from = number * every;
                let work = from + takes / 2;
                history.push(if work < t0 || work >= t1 {
                    ok(number, from, from + takes)
                } else if number % 2 == 0 {
                    refused(number, from, from + takes)
                } else {
                    unknown(number, from, from + timeout.max(takes))
                });
            }
            let all = outages(&history);
            prop_assert!(all.len() <= 1, "one outage was taken for {}: {all:?}", all.len());
            for outage in all {
                let (_, lo, hi) = in_ms(outage);
                prop_assert!(lo <= u128::from(length), "{lo} > {length}");
                prop_assert!(hi.unwrap() >= u128::from(length), "{hi:?} < {length}");
                prop_assert!(outage.length.at.unwrap() <= outage.length.hi.unwrap());
                prop_assert!(outage.length.at.unwrap() >= outage.length.lo);
            }
        }
    }
}
