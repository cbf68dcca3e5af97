//! It came back, it stayed, and it did so within the limit.
//!
//! The limit (`recoveryWithin`) passes when the upper bound of the recovery time is within it and fails when the lower bound is beyond it.
//! Between the two nobody can tell: unproven, and a faster probe would help. Without a limit it must have come back before the run gave up.
//! The recovery is that from the last fault; of several, no outage that an earlier one made may be longer than the limit either.
//! Staying means: no failure for `stableFor` before the run gave up, the same again after the undo, no outage at the end, and no life of the
//! server more than the faults account for. In a control trial nothing was broken, so nothing may have failed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::Finding;
use crate::{
    event::{Moment, Outcome, PROBE_WRITER, Side, Sighting, Stage, Step},
    measure::{Recovery, TrialHistory, first_good, outages},
    report::figure::{bounded, duration},
    result::{Bounded, Verdict},
    scenario::Toll,
};

pub(super) fn recovery(trial: &TrialHistory) -> Finding {
    if trial.plan.scenario.faults.is_empty() {
        return quiet(trial);
    }
    let finding = from_the_last(trial);
    match every_outage(trial) {
        Some(worse) if finding.verdict == Verdict::Passed => worse,
        Some(worse) if finding.verdict == Verdict::Unproven && worse.verdict == Verdict::Failed => worse,
        Some(_) | None => finding,
    }
}

/// What is wrong with the outages that earlier faults made, if one is not within the limit: first one that is certainly beyond it, else one that may be. One that
/// only the last fault made is its recovery.
fn every_outage(trial: &TrialHistory) -> Option<Finding> {
    let (limit, first) = (trial.plan.settings.recovery_within?, trial.first_call()?);
    let calls: Vec<Moment> = trial.called().filter_map(|(_, fault)| fault.called).collect();
    let outages = outages(&trial.attempts);
    let earlier = outages.iter().filter_map(|outage| {
        let to = outage.to.filter(|to| *to >= first)?;
        let mut within = calls.iter().filter(|call| outage.from.is_none_or(|from| from <= **call) && **call <= to);
        // Nobody waited before the call of the fault that made it.
        let hi = match (within.next(), within.next()) {
            (Some(only), None) if Some(only) == calls.last() => return None,
            (Some(call), _) => Some(to.since(*call)),
            (None, _) => outage.length.hi,
        };
        Some(Bounded { at: hi, lo: outage.length.lo.min(hi?), hi })
    });
    let earlier: Vec<Bounded> = earlier.collect();
    let took = |length: &Bounded| format!("an outage took {}", bounded(length));
    if let Some(certain) = earlier.iter().filter(|length| length.lo > limit).max_by_key(|length| length.lo) {
        return Some(Finding::failed(format!("{}, and the limit is {}", took(certain), duration(limit))));
    }
    let possible = earlier.iter().filter(|length| length.hi.is_some_and(|hi| hi > limit)).max_by_key(|length| length.hi)?;
    Some(Finding::unproven(format!("{}, and the limit of {} lies between the bounds: probe faster", took(possible), duration(limit))))
}

/// How it came back from the last fault.
fn from_the_last(trial: &TrialHistory) -> Finding {
    if trial.clock_doubt().is_none() {
        return Finding::unproven(
            "how far the clocks of prober and runner were apart is not known to the end, and the recovery runs from the one to the other",
        );
    }
    match measured(trial) {
        None if trial.last_toll() != Toll::Ends && trial.ran_its_course() => unharmed(trial),
        None => Finding::unproven("no write failed, and no new server was seen: there was nothing to recover from"),
        Some(Recovery { length: Bounded { lo, hi: None, .. }, .. }) => never_came_back(trial, lo),
        Some(Recovery { length: length @ Bounded { lo, hi: Some(hi), .. }, unstable, stable }) => {
            let mut took = format!("recovered after {}", bounded(&length));
            // The limit is for a service that is back for good: what failed again in between counts.
            let (mut lo, mut hi) = (lo, hi);
            if let (Some(Bounded { lo: stable_lo, hi: Some(stable_hi), .. }), true) = (stable, unstable > Some(Duration::ZERO)) {
                (lo, hi) = (lo.max(stable_lo), hi.max(stable_hi));
                took = format!("{took}, and for good after {}", bounded(&Bounded { at: Some(hi), lo, hi: Some(hi) }));
            }
            let limit = trial.plan.settings.recovery_within;
            if let Some(limit) = limit.filter(|limit| lo > *limit) {
                return Finding::failed(format!("{took}, and the limit is {}", duration(limit)));
            }
            if let Err(finding) = stayed(trial, &took) {
                return finding;
            }
            match limit {
                Some(limit) if hi > limit => {
                    Finding::unproven(format!("{took}, and the limit of {} lies between the bounds: probe faster", duration(limit)))
                }
                Some(limit) => Finding::passed(format!("{took}, within {}", duration(limit))),
                None if trial.plan.scenario.expect.recovery_within.is_some() => {
                    Finding::passed(format!("{took}; the scenario sets a limit for other places, and none for this one"))
                }
                None => Finding::passed(format!("{took}; the scenario sets no limit")),
            }
        }
    }
}

/// Nobody noticed the last fault, which need not be noticed: that it happened is for the evidence.
fn unharmed(trial: &TrialHistory) -> Finding {
    let since = trial.last_fault().and_then(|fault| fault.called).unwrap_or_default();
    let probes = trial.headline().filter(|attempt| attempt.scheduled >= since);
    let (good, bad): (Vec<_>, Vec<_>) =
        probes.partition(|attempt| attempt.run.as_ref().is_some_and(|run| run.outcome == Outcome::Acknowledged));
    let count = good.len();
    if count == 0 {
        return Finding::unproven("no probe was due after the fault");
    }
    if !bad.is_empty() {
        return Finding::unproven(format!("{} probes failed about the time of the last fault, and nobody can tell of which", bad.len()));
    }
    match stayed(trial, "no write failed") {
        Ok(()) => Finding::passed(format!("no write failed: all {count} probes that were due after the last fault were acknowledged")),
        Err(finding) => finding,
    }
}

/// No good write that was read back.
fn never_came_back(trial: &TrialHistory, lo: Duration) -> Finding {
    if !trial.ran_its_course() {
        return Finding::unproven(format!("it had not come back after at least {} when the trial was cut short", text(lo)));
    }
    let acknowledged = trial
        .last_fault()
        .and_then(|fault| first_good(&trial.attempts, fault, trial.last_toll(), trial.old_life().as_ref(), trial.clock_doubt()?));
    if acknowledged.is_some() {
        // However it went on: for so long no new server took a write.
        if let Some(limit) = trial.plan.settings.recovery_within.filter(|limit| lo > *limit) {
            return Finding::failed(format!("it was away for at least {}, and the limit is {}", text(lo), duration(limit)));
        }
        if lo >= trial.plan.settings.give_up_after {
            let gave_up = text(trial.plan.settings.give_up_after);
            return Finding::failed(format!(
                "it did not come back by itself: no good write within {gave_up}, away for at least {}",
                text(lo)
            ));
        }
        return Finding::unproven("a write was acknowledged after the fault, but its row could not be read back on another connection");
    }
    if outages(&trial.attempts).last().is_none_or(|outage| outage.to.is_some()) {
        return Finding::unproven("writes failed after the fault and were taken again, but by no new server that was seen");
    }
    let gave_up = text(trial.plan.settings.give_up_after);
    Finding::failed(format!("it did not come back: no good write within {gave_up}, away for at least {}", text(lo)))
}

/// Whether it stayed when it had come back: without a failure for `stableFor`, also after the undo, and without a further restart.
fn stayed(trial: &TrialHistory, took: &str) -> Result<(), Finding> {
    let stable_for = text(trial.plan.settings.stable_for);
    for (step, when) in [(Step::Recovery, "was never"), (Step::AfterUndo, "was not, after the undo,")] {
        match trial.stable.get(&step) {
            Some(true) => {}
            Some(false) => return Err(Finding::failed(format!("{took}, but {when} without a failure for {stable_for}"))),
            // Nothing had to be undone, so nothing was waited for.
            None if step == Step::AfterUndo && trial.undone.is_empty() => {}
            None => {
                return Err(Finding::unproven(format!(
                    "{took}, but the trial was cut short before {stable_for} without a failure were seen"
                )));
            }
        }
    }
    // A single failed attempt at the very end does not show that it was away: then the final read is the witness.
    let read = super::tables(trial, Side::After).is_ok();
    let outages = outages(&trial.attempts);
    if let Some(outage) = outages.iter().find(|outage| outage.to.is_none() && !(read && outage.length.lo.is_zero())) {
        return Err(Finding::failed(format!("{took}, and went away again: for at least {} when the probes ended", text(outage.length.lo))));
    }
    no_further_restart(trial, took)
}

/// Each fault may start the server anew once, and no more: what starts again on its own would have gone on doing so.
fn no_further_restart(trial: &TrialHistory, took: &str) -> Result<(), Finding> {
    let faults = trial.called().filter(|(spec, _)| spec.toll() != Toll::Spares).count();
    let lives = trial.ledger.incarnations().count();
    if lives > faults + 1 {
        return Err(Finding::failed(format!("{took}, but {lives} lives of the server took writes, and {faults} were to end")));
    }
    // A server that does not tell its start time is told apart by its containers, which may also be started anew before it serves.
    // Those before the first fault are of the trial before, whose pod made way for a fresh one.
    let since = trial.first_call().unwrap_or_default();
    let seen = trial.sightings.iter().filter(|(at, _)| *at >= since).filter_map(|(_, sighting)| match sighting {
        Sighting::Pod(pod) => Some(pod),
        Sighting::PodGone { .. } | Sighting::Node { .. } | Sighting::NodeGone { .. } | Sighting::Gap(_) => None,
    });
    let pods = seen.chain(trial.snapshots.values().filter_map(|snapshot| snapshot.pod.known()));
    let containers: BTreeSet<&str> = pods.filter(|pod| pod.running).filter_map(|pod| pod.container_id.as_deref()).collect();
    if lives == 0 && containers.len() > faults + 1 {
        let count = containers.len();
        return Err(Finding::unproven(format!(
            "{took}, but {count} containers ran, and {faults} were to end: was it started again on its own?"
        )));
    }
    Ok(())
}

/// How the trial recovered from its last fault.
pub(super) fn measured(trial: &TrialHistory) -> Option<Recovery> {
    let (fault, doubt) = (trial.last_fault()?, trial.clock_doubt()?);
    let old = trial.old_life();
    crate::measure::recovery(
        &trial.attempts,
        fault,
        trial.last_toll(),
        old.as_ref(),
        &trial.read_back(),
        trial.plan.settings.stable_for,
        doubt,
    )
}

/// The control trial: nothing may have failed.
fn quiet(trial: &TrialHistory) -> Finding {
    let (mut good, mut bad, mut never_made) = (0u64, 0u64, 0u64);
    let mut stages: BTreeMap<&str, u64> = BTreeMap::new();
    for attempt in trial.headline() {
        if attempt.run.as_ref().is_some_and(|run| run.outcome == Outcome::Acknowledged) {
            good += 1;
            continue;
        }
        bad += 1;
        match attempt.run.as_ref().and_then(|run| run.error.as_ref()) {
            Some(error) => *stages.entry(error.stage.as_str()).or_default() += 1,
            // Too many were under way already.
            None => never_made += 1,
        }
    }
    // The probes' own rows stand in the ledger, too.
    let of_the_load = trial.ledger.writers.iter().filter(|(writer, _)| **writer != PROBE_WRITER);
    let writes: u64 = of_the_load.map(|(_, writer)| writer.refused.len() + writer.in_doubt.len()).sum();
    if bad > 0 || writes > 0 {
        let mut at: Vec<String> = stages.iter().map(|(stage, count)| format!("{stage}: {count}")).collect();
        at.extend((never_made > 0).then(|| format!("never made: {never_made}")));
        let at = if at.is_empty() { String::new() } else { format!(" ({})", at.join(", ")) };
        // Whoever has sent a write had a connection: then what the server waits for is slow, which is its disk more often than not.
        let hint = if stages.keys().eq([&Stage::Write.as_str()]) {
            " (each of these probes had its connection: is the disk of the database slow?)"
        } else {
            ""
        };
        return Finding::failed(format!(
            "{bad} of {} probes{at} and {writes} of the load's writes were not acknowledged although nothing was broken: this place is not quiet enough to measure{hint}",
            good + bad
        ));
    }
    match (good, trial.stable.get(&Step::Recovery)) {
        (0, _) => Finding::unproven("no probe was acknowledged"),
        (_, Some(true)) => Finding::passed(format!("all {good} probes were acknowledged, as nothing was broken")),
        _ => Finding::unproven("the trial was cut short"),
    }
}

/// A length of time in a sentence, in whole milliseconds, rounded down: it stands behind "at least", or is exact.
pub(super) fn text(length: Duration) -> String {
    let ms = crate::result::floor_ms(length);
    if ms < 1_000 { format!("{ms} ms") } else { format!("{}.{:03} s", ms / 1_000, ms % 1_000) }
}

#[cfg(test)]
mod tests {
    use super::{super::makers::*, *};
    use crate::{
        measure::{
            FaultHistory,
            makers::{ms, ok, ok_by, refused},
        },
        scenario::{CordonNode, FaultSpec},
    };

    fn with_limit(ms: u64) -> Finding {
        let mut trial = clean();
        trial.plan.settings.recovery_within = Some(Duration::from_millis(ms));
        recovery(&trial)
    }

    #[test]
    fn the_outage_of_an_earlier_fault_is_held_against_the_limit_too() {
        // The maker's outage, of 260 ms from the call with a lower bound of 100 ms at most, and then a fault that nobody notices.
        let with_limit = |limit: u64| {
            let mut trial = clean();
            trial.plan.settings.recovery_within = Some(Duration::from_millis(limit));
            trial.plan.scenario.faults.push(FaultSpec::CordonNode(CordonNode::default()).into());
            trial.faults.push(FaultHistory {
                called: Some(ms(620)),
                confirmed: Some((ms(630), "cordoned".into())),
                ..FaultHistory::default()
            });
            trial.attempts.extend((7..12).map(|number| ok_by("b", number, number * 100, number * 100 + 5)));
            recovery(&trial)
        };
        for (limit, verdict) in [(50, Verdict::Failed), (200, Verdict::Unproven), (400, Verdict::Passed)] {
            let found = with_limit(limit);
            assert_eq!(found.verdict, verdict, "{limit} ms: {}", found.detail);
        }
        assert_eq!(with_limit(400).detail, "no write failed: all 5 probes that were due after the last fault were acknowledged");
    }

    #[test]
    fn the_limit_is_held_against_the_bounds() {
        // The maker's recovery is 260 ms with bounds of 130 and 260 ms.
        assert_eq!(with_limit(260).verdict, Verdict::Passed);
        assert_eq!(with_limit(200).verdict, Verdict::Unproven);
        assert_eq!(with_limit(130).verdict, Verdict::Unproven);
        assert_eq!(with_limit(129).verdict, Verdict::Failed);
        assert_eq!(with_limit(129).detail, "recovered after 0.26 s [0.13, 0.26], and the limit is 129 ms");
    }

    /// Two clocks, known to within so many milliseconds.
    fn with_doubt(trial: &mut TrialHistory, ms: u64) {
        let bound = crate::event::TimeBound { bound: Duration::from_millis(ms), pings: 1 };
        trial.clocks = [(Side::Before, bound), (Side::After, bound)].into();
    }

    #[test]
    fn a_limit_within_the_doubt_of_two_clocks_is_unproven() {
        for (ms, verdict) in [(270, Verdict::Passed), (269, Verdict::Unproven), (120, Verdict::Unproven), (119, Verdict::Failed)] {
            let mut trial = clean();
            with_doubt(&mut trial, 10);
            trial.plan.settings.recovery_within = Some(Duration::from_millis(ms));
            assert_eq!(recovery(&trial).verdict, verdict, "{ms} ms: {}", recovery(&trial).detail);
        }
    }

    #[test]
    fn two_clocks_that_were_not_compared_to_the_end_prove_no_recovery() {
        let mut trial = clean();
        with_doubt(&mut trial, 10);
        assert_eq!(recovery(&trial).verdict, Verdict::Passed);
        trial.clocks.remove(&Side::After);
        assert_eq!(recovery(&trial).verdict, Verdict::Unproven);
        // Nor that there was none.
        trial.plan.settings.recovery_within = Some(Duration::from_millis(1));
        assert_eq!(recovery(&trial).verdict, Verdict::Unproven);
    }

    #[test]
    fn what_never_came_back_fails() {
        let mut trial = clean();
        trial.attempts.truncate(4);
        trial.read_backs.clear();
        assert_eq!(recovery(&trial).verdict, Verdict::Failed);
    }

    /// As a database that comes back only when the run has given up and the undo has put right what was broken: nothing is read back.
    fn back_by_the_undo(limit: Option<u64>, give_up: u64) -> Finding {
        let mut trial = clean();
        trial.read_backs.clear();
        trial.plan.settings.recovery_within = limit.map(Duration::from_millis);
        trial.plan.settings.give_up_after = Duration::from_millis(give_up);
        recovery(&trial)
    }

    #[test]
    fn what_comes_back_only_by_the_undo_fails() {
        // The maker's last failure is 130 ms after the effect.
        let found = back_by_the_undo(Some(129), 1_000);
        assert_eq!((found.verdict, found.detail.as_str()), (Verdict::Failed, "it was away for at least 130 ms, and the limit is 129 ms"));
        assert_eq!(back_by_the_undo(None, 130).verdict, Verdict::Failed);
        assert_eq!(back_by_the_undo(Some(130), 1_000).verdict, Verdict::Unproven);
    }

    #[test]
    fn a_server_that_never_ended_is_not_said_to_have_been_away() {
        let mut trial = clean();
        trial.attempts = vec![ok(0, 0, 5), ok(1, 100, 105), ok(3, 300, 305), refused(4, 900, 901), ok(5, 1_000, 1_005)];
        trial.read_backs.clear();
        trial.plan.settings.recovery_within = Some(Duration::from_millis(200));
        assert_eq!(recovery(&trial).verdict, Verdict::Unproven);
    }

    #[test]
    fn another_outage_later_on_does_not_lengthen_the_one_that_was_not_read_back() {
        let mut trial = clean();
        trial.read_backs.clear();
        trial.plan.settings.recovery_within = Some(Duration::from_millis(200));
        trial.attempts.extend([refused(7, 700, 701), ok_by("b", 8, 800, 805)]);
        assert_eq!(recovery(&trial).verdict, Verdict::Unproven);
    }

    #[test]
    fn what_was_cut_short_is_not_said_to_have_failed() {
        let mut trial = clean();
        trial.attempts.truncate(4);
        trial.read_backs.clear();
        trial.end = None;
        assert_eq!(recovery(&trial).verdict, Verdict::Unproven);
    }

    #[test]
    fn what_came_back_and_did_not_stay_fails() {
        for step in [Step::Recovery, Step::AfterUndo] {
            let mut trial = clean();
            trial.stable.insert(step, false);
            assert_eq!(recovery(&trial).verdict, Verdict::Failed);
        }
    }

    #[test]
    fn what_was_stopped_while_it_was_waited_for_is_unproven() {
        for step in [Step::Recovery, Step::AfterUndo] {
            let mut trial = clean();
            trial.stable.remove(&step);
            assert_eq!(recovery(&trial).verdict, Verdict::Unproven);
        }
        let mut trial = clean();
        trial.stable.remove(&Step::AfterUndo);
        trial.undone.clear();
        assert_eq!(recovery(&trial).verdict, Verdict::Passed);
    }

    #[test]
    fn of_several_outages_one_that_is_certainly_too_long_fails_whatever_the_others_may_be() {
        let mut trial = clean();
        let call = |at: u64| FaultHistory { called: Some(ms(at)), ..fault(a_pod("mssql-1", "worker-1", "container-1")) };
        trial.plan.scenario.faults = vec![trial.plan.scenario.faults[0].clone(); 3];
        trial.faults = vec![call(150), call(4_050), call(6_000)];
        trial.attempts = vec![
            ok(0, 0, 5),
            ok(1, 100, 105),
            // Nobody looked for long: it may have been away all the time, or for a moment.
            refused(2, 200, 201),
            ok(3, 3_000, 3_005),
            ok(4, 4_000, 4_005),
            // Away for certain, and not so long as the other may have been.
            refused(5, 4_100, 4_101),
            refused(6, 4_400, 4_401),
            ok(7, 4_500, 4_505),
        ];
        let judged = |trial: &mut TrialHistory, limit: u64| {
            trial.plan.settings.recovery_within = Some(Duration::from_millis(limit));
            every_outage(trial).map(|finding| finding.verdict)
        };
        assert_eq!(judged(&mut trial, 200), Some(Verdict::Failed));
        assert_eq!(judged(&mut trial, 1_000), Some(Verdict::Unproven));
        assert_eq!(judged(&mut trial, 5_000), None);
    }

    #[test]
    fn what_goes_away_again_and_does_not_come_back_fails() {
        let mut trial = clean();
        trial.attempts.push(refused(7, 700, 701));
        // One late failure shows nothing, as long as the rows could be read after it.
        assert_eq!(recovery(&trial).verdict, Verdict::Passed);
        trial.attempts.push(refused(8, 800, 801));
        assert_eq!(recovery(&trial).verdict, Verdict::Failed);
        trial.attempts.pop();
        trial.reads.clear();
        assert_eq!(recovery(&trial).verdict, Verdict::Failed);
    }

    #[test]
    fn the_limit_is_for_a_service_that_is_back_for_good() {
        let mut trial = clean();
        trial.attempts.extend([refused(7, 700, 701), ok_by("b", 8, 800, 805), ok_by("b", 9, 900, 905), ok_by("b", 10, 1_000, 1_005)]);
        trial.attempts[5] = refused(5, 500, 501);
        for (limit, verdict) in [(1_000, Verdict::Passed), (600, Verdict::Unproven), (400, Verdict::Failed)] {
            trial.plan.settings.recovery_within = Some(Duration::from_millis(limit));
            assert_eq!(recovery(&trial).verdict, verdict, "{limit} ms: {}", recovery(&trial).detail);
        }
    }

    #[test]
    fn containers_that_come_and_go_are_not_passed_because_the_server_tells_no_start_time() {
        let mut trial = clean();
        for writer in trial.ledger.writers.values_mut() {
            writer.taken_by.clear();
        }
        assert_eq!(recovery(&trial).verdict, Verdict::Passed);
        // The pod of the trial before, which made way for a fresh one.
        let another = |ms| (crate::measure::makers::ms(ms), Sighting::Pod(a_pod("mssql-2", "worker-2", "container-3")));
        trial.sightings.push(another(0));
        assert_eq!(recovery(&trial).verdict, Verdict::Passed);
        trial.sightings.push(another(500));
        assert_eq!(recovery(&trial).verdict, Verdict::Unproven);
    }

    #[test]
    fn a_service_that_answers_again_without_a_new_server_is_unproven() {
        let mut trial = clean();
        trial.attempts = vec![ok(0, 0, 5), ok(1, 100, 105), refused(2, 200, 201), ok(3, 300, 305), ok(4, 400, 405)];
        trial.read_backs.clear();
        assert_eq!(recovery(&trial).verdict, Verdict::Unproven);
    }

    #[test]
    fn a_restart_that_no_fault_accounts_for_fails() {
        let mut trial = clean();
        trial.ledger.enter_attempt(&ok_by("c", 7, 700, 705));
        assert_eq!(recovery(&trial).verdict, Verdict::Failed);
    }

    #[test]
    fn a_write_that_could_not_be_read_back_is_unproven() {
        let mut trial = clean();
        trial.read_backs.clear();
        assert_eq!(recovery(&trial).verdict, Verdict::Unproven);
    }

    #[test]
    fn a_fault_that_nobody_noticed_proves_no_recovery() {
        let mut trial = clean();
        trial.attempts.retain(|attempt| attempt.number < 2);
        assert_eq!(recovery(&trial).verdict, Verdict::Unproven);
    }

    #[test]
    fn a_control_trial_must_be_quiet() {
        let mut trial = clean();
        trial.plan.scenario.faults.clear();
        assert_eq!(recovery(&trial).verdict, Verdict::Failed);
        quieten(&mut trial);
        assert_eq!(recovery(&trial).verdict, Verdict::Passed);
        // Also what failed before the first acknowledgement, and what a writer could not write.
        let mut early = trial.clone();
        early.attempts.insert(0, refused(9, 0, 1));
        let found = recovery(&early);
        assert_eq!(found.verdict, Verdict::Failed);
        let all = early.attempts.len();
        assert!(found.detail.starts_with(&format!("1 of {all} probes (connect: 1) and 0 of the load's writes")), "{}", found.detail);
        assert!(!found.detail.contains("disk"), "{}", found.detail);
        // A write that got no answer had a connection.
        let error = early.attempts[0].run.as_mut().and_then(|run| run.error.as_mut()).expect("it was refused");
        error.stage = Stage::Write;
        let found = recovery(&early);
        assert!(found.detail.contains("(write: 1)") && found.detail.contains("is the disk of the database slow?"), "{}", found.detail);
        for outcome in [Outcome::Refused, Outcome::InDoubt] {
            let mut writer = trial.clone();
            write(&mut writer, 1, 100, outcome);
            let found = recovery(&writer);
            assert_eq!(found.verdict, Verdict::Failed);
            assert!(found.detail.contains("probes and 1 of the load's writes"), "{}", found.detail);
        }
        trial.attempts.clear();
        assert_eq!(recovery(&trial).verdict, Verdict::Unproven);
    }
}
