//! The recovery time: from the last fault taking effect to the first good write.
//!
//! The fault takes effect somewhere between its call being sent and its effect being seen, so the headline counts from the call (nobody
//! waited shorter), and the lower bound from the effect.
//!
//! The first good write F is the first acknowledged one of the headline stream that the *new* server took and that was read back on
//! another connection. A graceful fault leaves the old server answering for a while: what it takes is no recovery. New is a server whose start
//! time no acknowledgement before the call had told; where the server does not tell its start time, an attempt that started after the effect was
//! seen in the cluster.
//!
//! A fault need not end the life of the server: a network that is cut spares it. Then the first acknowledged attempt counts that started after one had
//! failed since the call, whoever took it; if none failed, there was nothing to recover from.
//! - headline and upper bound: `F.e - call`;
//! - lower bound: `b` of the last failed attempt before F - effect; 0 if none failed.
//!
//! Call and effect are moments of the runner, attempts are moments of the prober. Where the two have clocks of their own, a moment of the prober is
//! known to within a *doubt* d, and each bound is wider by it. Before and after then mean *certainly* before and after, whichever is worse for the
//! verdict: an attempt that may have ended before the call is no recovery, and a life that may have answered before it is an old one. Lengths
//! between two moments of the prober need no doubt.

use std::{collections::BTreeSet, time::Duration};

use super::FaultHistory;
use crate::{
    event::{Attempt, AttemptRun, Incarnation, Moment, Outcome, Stream},
    result::Bounded,
    scenario::Toll,
};

/// How a trial recovered from its last fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// How long it took.
    pub length: Bounded,
    /// From the first good write to the first stretch without a failure that is long enough to count as stable; `None`: not seen.
    pub unstable: Option<Duration>,
    /// From the fault taking effect to the beginning of that stretch: longer than `length` if the service failed again in between.
    pub stable: Option<Bounded>,
}

/// The first attempt that shows the recovery from `fault`, which does this to the life of the server, if one has by now: the one to read back.
#[must_use]
pub fn first_good<'a>(
    attempts: &'a [Attempt],
    fault: &FaultHistory,
    toll: Toll,
    old: Option<&Incarnation>,
    doubt: Duration,
) -> Option<&'a Attempt> {
    good_ones(attempts, fault, toll, old, doubt).next()
}

/// The attempts that show the recovery from `fault`, in the order in which they were acknowledged.
fn good_ones<'a>(
    attempts: &'a [Attempt],
    fault: &FaultHistory,
    toll: Toll,
    old: Option<&Incarnation>,
    doubt: Duration,
) -> impl Iterator<Item = &'a Attempt> + use<'a> {
    let Some(called) = fault.called else { return Vec::new().into_iter() };
    // What the prober dates behind these moments happened behind them.
    let called = called.plus(doubt);
    let confirmed = fault.confirmed.as_ref().map(|(moment, _)| moment.plus(doubt));
    // What had been acknowledged when the call was sent, the old server took. An attempt that was under way then says nothing: it may have
    // hung until the new one was there.
    let before = acknowledged(attempts).filter(|(_, run)| run.ended < called).filter_map(|(_, run)| run.incarnation.as_ref());
    let victim = fault.victim.as_ref().and_then(|victim| victim.life.as_ref());
    let old_lives: BTreeSet<&Incarnation> = before.chain(old).chain(victim).collect();
    let first_failure = runs(attempts).map(|(_, run)| run).filter(|run| run.outcome != Outcome::Acknowledged && run.started >= called);
    let first_failure = first_failure.map(|run| run.started).min();
    let is_back = |run: &AttemptRun| toll != Toll::Ends && first_failure.is_some_and(|failure| run.started > failure);
    let mut good: Vec<(&Attempt, Moment)> = acknowledged(attempts)
        .filter(|(_, run)| match &run.incarnation {
            _ if is_back(run) => true,
            Some(life) => run.ended >= called && !old_lives.contains(life),
            None => toll == Toll::Ends && confirmed.is_some_and(|confirmed| run.started >= confirmed),
        })
        .map(|(attempt, run)| (attempt, run.ended))
        .collect();
    good.sort_by_key(|(attempt, ended)| (*ended, attempt.number));
    good.into_iter().map(|(attempt, _)| attempt).collect::<Vec<_>>().into_iter()
}

fn acknowledged(attempts: &[Attempt]) -> impl Iterator<Item = (&Attempt, &AttemptRun)> {
    runs(attempts).filter(|(_, run)| run.outcome == Outcome::Acknowledged)
}

/// How the trial recovered from `fault`, which does this to the life of the server. `None`: there is nothing to recover from, or nothing that shows it.
///
/// `read_back` holds the attempts whose rows were found on another connection; `old` is the server's start time before the first fault; `doubt` is
/// how far the moments of the attempts can be from those of the fault.
#[must_use]
pub fn recovery(
    attempts: &[Attempt],
    fault: &FaultHistory,
    toll: Toll,
    old: Option<&Incarnation>,
    read_back: &BTreeSet<u64>,
    stable_for: Duration,
    doubt: Duration,
) -> Option<Recovery> {
    let called = fault.called?;
    let effect = fault.confirmed.as_ref().map(|(moment, _)| *moment);
    let good = good_ones(attempts, fault, toll, old, doubt).find(|attempt| read_back.contains(&attempt.number));
    let end = good.and_then(|attempt| attempt.run.as_ref()).map(|run| run.ended);
    // The lower bound: it was still away when the last attempt before that moment started that failed. A dropped attempt never started, so it
    // does not tell.
    let away_until = |end: Option<Moment>| {
        let failed = runs(attempts).map(|(_, run)| run).filter(|run| run.outcome != Outcome::Acknowledged).map(|run| run.started);
        failed.filter(|started| *started >= called.plus(doubt) && end.is_none_or(|end| *started < end)).max()
    };
    let lo = |until: Option<Moment>| match (until, effect) {
        (Some(failure), Some(effect)) => failure.since(effect).saturating_sub(doubt),
        _ => Duration::ZERO,
    };
    let bounds = |end: Moment, until: Option<Moment>| {
        let at = end.since(called);
        Bounded { at: Some(at), lo: lo(until).min(at), hi: Some(at.saturating_add(doubt)) }
    };
    match (good, end) {
        (Some(good), Some(end)) => {
            let stretch = stable_stretch(attempts, good.scheduled, stable_for);
            Some(Recovery {
                length: bounds(end, away_until(Some(end))),
                unstable: stretch.map(|(due, _)| due.since(good.scheduled)),
                stable: stretch.map(|(due, ended)| bounds(ended, away_until(Some(due)))),
            })
        }
        // It failed after the call and was never seen to come back. What failed later than an acknowledgement that could not be read back
        // may be another outage.
        _ => away_until(first_good(attempts, fault, toll, old, doubt).and_then(|attempt| attempt.run.as_ref()).map(|run| run.ended))
            .map(|failure| Recovery { length: Bounded { at: None, lo: lo(Some(failure)), hi: None }, unstable: None, stable: None }),
    }
}

/// The attempts of the headline stream that were made.
fn runs(attempts: &[Attempt]) -> impl Iterator<Item = (&Attempt, &AttemptRun)> {
    attempts.iter().filter(|attempt| attempt.stream == Stream::WriteNew).filter_map(|attempt| Some((attempt, attempt.run.as_ref()?)))
}

/// When the first attempt was due, and ended, of the first stretch of `stable_for` without a failure from `good` on.
fn stable_stretch(attempts: &[Attempt], good: Moment, stable_for: Duration) -> Option<(Moment, Moment)> {
    let mut later: Vec<&Attempt> =
        attempts.iter().filter(|attempt| attempt.stream == Stream::WriteNew && attempt.scheduled >= good).collect();
    later.sort_by_key(|attempt| attempt.number);
    let mut began: Option<(Moment, Moment)> = None;
    for attempt in later {
        match attempt.run.as_ref().filter(|run| run.outcome == Outcome::Acknowledged) {
            Some(run) => {
                let (first, ended) = *began.get_or_insert((attempt.scheduled, run.ended));
                if attempt.scheduled.since(first) >= stable_for {
                    return Some((first, ended));
                }
            }
            None => began = None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{
        super::makers::{ms, ok, ok_by, refused},
        *,
    };

    fn fault(called: u64, confirmed: Option<u64>) -> FaultHistory {
        FaultHistory {
            called: Some(ms(called)),
            confirmed: confirmed.map(|at| (ms(at), "the container ended".into())),
            ..FaultHistory::default()
        }
    }

    /// Headline, lower and upper bound, and how long it was unstable, in milliseconds.
    type InMs = (Option<u128>, u128, Option<u128>, Option<u128>);

    fn measured(attempts: &[Attempt], fault: &FaultHistory, read_back: &[u64]) -> Option<InMs> {
        measured_with(0, attempts, fault, read_back)
    }

    /// With a doubt of so many milliseconds.
    fn measured_with(doubt: u64, attempts: &[Attempt], fault: &FaultHistory, read_back: &[u64]) -> Option<InMs> {
        let old = Incarnation("a".into());
        let read_back = read_back.iter().copied().collect();
        let doubt = Duration::from_millis(doubt);
        recovery(attempts, fault, Toll::Ends, Some(&old), &read_back, Duration::from_millis(200), doubt).map(|recovery| {
            let Bounded { at, lo, hi } = recovery.length;
            (at.map(|at| at.as_millis()), lo.as_millis(), hi.map(|hi| hi.as_millis()), recovery.unstable.map(|time| time.as_millis()))
        })
    }

    #[test]
    fn it_runs_from_the_call_to_the_first_write_that_the_new_server_took() {
        let history = [
            ok(0, 0, 5),
            ok(1, 100, 105),
            refused(2, 200, 201),
            refused(3, 300, 301),
            ok_by("b", 4, 400, 410),
            ok_by("b", 5, 500, 505),
            ok_by("b", 6, 600, 605),
        ];
        assert_eq!(measured(&history, &fault(150, Some(170)), &[4]), Some((Some(260), 130, Some(260), Some(0))));
    }

    #[test]
    fn what_the_old_server_takes_after_the_call_is_no_recovery() {
        let history = [ok(0, 0, 5), ok(1, 100, 105), refused(2, 200, 201), ok_by("b", 3, 300, 305)];
        assert_eq!(measured(&history, &fault(50, Some(150)), &[1, 3]).unwrap().0, Some(255));
    }

    #[test]
    fn an_attempt_that_hung_over_the_call_until_the_new_server_was_there_shows_the_recovery() {
        let history = [ok(0, 0, 5), ok_by("b", 1, 90, 290), refused(2, 200, 201), ok_by("b", 3, 300, 305), ok_by("b", 4, 500, 505)];
        assert_eq!(measured(&history, &fault(100, Some(150)), &[1]).unwrap().0, Some(190));
    }

    #[test]
    fn a_write_that_was_not_read_back_is_no_recovery() {
        let history = [ok(0, 0, 5), refused(1, 100, 101), ok_by("b", 2, 200, 205), ok_by("b", 3, 300, 305)];
        assert_eq!(measured(&history, &fault(50, Some(60)), &[3]).unwrap().0, Some(255));
        assert_eq!(measured(&history, &fault(50, Some(60)), &[]), Some((None, 40, None, None)));
    }

    #[test]
    fn without_a_start_time_the_write_must_have_started_after_the_effect_was_seen() {
        let anonymous = |number, from, to| {
            let mut attempt = ok(number, from, to);
            attempt.run.as_mut().unwrap().incarnation = None;
            attempt
        };
        let history = [anonymous(0, 0, 5), anonymous(1, 100, 105), refused(2, 200, 201), anonymous(3, 300, 305)];
        assert_eq!(measured(&history, &fault(50, Some(150)), &[1, 3]).unwrap().0, Some(255));
        assert_eq!(first_good(&history, &fault(50, None), Toll::Ends, None, Duration::ZERO), None);
    }

    #[test]
    fn a_flapping_service_is_good_before_it_is_stable() {
        let history = [
            refused(0, 0, 5),
            ok_by("b", 1, 100, 105),
            refused(2, 200, 201),
            ok_by("b", 3, 300, 305),
            ok_by("b", 4, 400, 405),
            ok_by("b", 5, 500, 505),
        ];
        assert_eq!(measured(&history, &fault(0, Some(0)), &[1]), Some((Some(105), 0, Some(105), Some(200))));
        let read_back = BTreeSet::from([1]);
        let recovery =
            recovery(&history, &fault(0, Some(0)), Toll::Ends, None, &read_back, Duration::from_millis(200), Duration::ZERO).unwrap();
        let stable = recovery.stable.unwrap();
        assert_eq!((stable.lo.as_millis(), stable.hi.map(|hi| hi.as_millis())), (200, Some(305)));
    }

    #[test]
    fn two_clocks_widen_the_bounds_and_not_the_headline() {
        let history = [ok(0, 0, 5), refused(1, 200, 201), refused(2, 300, 301), ok_by("b", 3, 400, 410), ok_by("b", 4, 600, 605)];
        assert_eq!(measured(&history, &fault(150, Some(170)), &[3]), Some((Some(260), 130, Some(260), Some(0))));
        assert_eq!(measured_with(7, &history, &fault(150, Some(170)), &[3]), Some((Some(260), 123, Some(267), Some(0))));
        // A doubt as long as the recovery leaves nothing of the lower bound, and does not turn it round.
        assert_eq!(measured_with(135, &history, &fault(150, Some(170)), &[3]).unwrap().1, 0);
    }

    #[test]
    fn an_attempt_that_may_have_ended_before_the_call_is_no_recovery() {
        // Dated 3 ms behind the call, by a clock that may be wrong by 5 ms: the new life in it is then no proof of anything.
        let history = [ok(0, 0, 5), ok_by("b", 1, 100, 153), refused(2, 200, 201), ok_by("b", 3, 300, 305), ok_by("c", 4, 400, 405)];
        assert_eq!(measured_with(2, &history, &fault(150, Some(160)), &[1, 3, 4]).unwrap().0, Some(3));
        assert_eq!(measured_with(5, &history, &fault(150, Some(160)), &[1, 3, 4]).unwrap().0, Some(255));
    }

    #[test]
    fn without_a_start_time_it_must_certainly_have_started_after_the_effect() {
        let anonymous = |number, from, to| {
            let mut attempt = ok(number, from, to);
            attempt.run.as_mut().unwrap().incarnation = None;
            attempt
        };
        let history = [anonymous(0, 0, 5), refused(1, 60, 61), anonymous(2, 103, 105), anonymous(3, 200, 205)];
        assert_eq!(measured_with(3, &history, &fault(50, Some(100)), &[2, 3]).unwrap().0, Some(55));
        assert_eq!(measured_with(4, &history, &fault(50, Some(100)), &[2, 3]).unwrap().0, Some(155));
    }

    #[test]
    fn nothing_that_failed_and_nothing_new_is_nothing_to_recover_from() {
        assert_eq!(measured(&[ok(0, 0, 5), ok(1, 100, 105)], &fault(50, Some(60)), &[1]), None);
        assert_eq!(measured(&[ok(0, 0, 5)], &FaultHistory::default(), &[]), None);
    }
}
