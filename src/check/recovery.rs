//! It came back, it stayed, and it did so within the limit.
//!
//! The limit (`recoveryWithin`) passes when the upper bound of the recovery time is within it and fails when the lower bound is beyond it.
//! Between the two nobody can tell: unproven, and a faster probe would help. Without a limit it must have come back before the run gave up.
//! In a control trial nothing was broken, so nothing may have failed.

use std::time::Duration;

use super::Finding;
use crate::{
    measure::{Recovery, TrialHistory, outages},
    result::Bounded,
};

pub(super) fn recovery(trial: &TrialHistory) -> Finding {
    if trial.plan.scenario.faults.is_empty() {
        return quiet(trial);
    }
    let settings = &trial.plan.settings;
    let gave_up = text(settings.give_up_after);
    match measured(trial) {
        None => Finding::unproven("no write failed, and no new server was seen: there was nothing to recover from"),
        Some(Recovery { length: Bounded { lo, hi: None, .. }, .. }) => {
            if trial.end.is_none_or(|(end, _)| end != crate::event::TrialEnd::Completed) || !trial.errors.is_empty() {
                return Finding::unproven(format!("it had not come back after at least {} when the trial was cut short", text(lo)));
            }
            Finding::failed(format!("it did not come back: no good write within {gave_up}, away for at least {}", text(lo)))
        }
        Some(Recovery { length: Bounded { lo, hi: Some(hi), .. }, unstable }) => {
            let took = format!("{} [{}, {}]", text(hi), text(lo), text(hi));
            match (settings.recovery_within, unstable) {
                (Some(limit), _) if lo > limit => Finding::failed(format!("recovered after {took}, and the limit is {}", text(limit))),
                (_, None) => {
                    Finding::failed(format!("recovered after {took}, but was never without a failure for {}", text(settings.stable_for)))
                }
                (Some(limit), _) if hi > limit => Finding::unproven(format!(
                    "recovered after {took}, and the limit of {} lies between the bounds: probe faster",
                    text(limit)
                )),
                (Some(limit), Some(_)) => Finding::passed(format!("recovered after {took}, within {}", text(limit))),
                (None, Some(_)) => Finding::passed(format!("recovered after {took}; the scenario sets no limit here")),
            }
        }
    }
}

/// How the trial recovered from its last fault.
pub(super) fn measured(trial: &TrialHistory) -> Option<Recovery> {
    let fault = trial.last_fault()?;
    crate::measure::recovery(&trial.attempts, fault, trial.old_life().as_ref(), &trial.read_back(), trial.plan.settings.stable_for)
}

/// The control trial: nothing may have failed.
fn quiet(trial: &TrialHistory) -> Finding {
    let attempts = trial.ledger.writers.get(&crate::workload::PROBE_WRITER).map_or(0, |probe| probe.acknowledged.len());
    if attempts == 0 {
        return Finding::unproven("no probe was acknowledged");
    }
    match outages(&trial.attempts).first() {
        Some(outage) => Finding::failed(format!(
            "writes failed although nothing was broken, for at least {}: this place is not quiet enough to measure",
            text(outage.length.lo)
        )),
        None => Finding::passed(format!("all {attempts} probes were acknowledged, as nothing was broken")),
    }
}

/// A length of time in a sentence, to the millisecond.
pub(super) fn text(length: Duration) -> String {
    if length < Duration::from_secs(1) {
        format!("{} ms", crate::result::rounded_ms(length))
    } else {
        format!("{:.3} s", length.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::makers::*, *};
    use crate::result::Verdict;

    fn with_limit(ms: u64) -> Finding {
        let mut trial = clean();
        trial.plan.settings.recovery_within = Some(Duration::from_millis(ms));
        recovery(&trial)
    }

    #[test]
    fn the_limit_is_held_against_the_bounds() {
        // The maker's recovery is 260 ms with bounds of 130 and 260 ms.
        assert_eq!(with_limit(260).verdict, Verdict::Passed);
        assert_eq!(with_limit(200).verdict, Verdict::Unproven);
        assert_eq!(with_limit(130).verdict, Verdict::Unproven);
        assert_eq!(with_limit(129).verdict, Verdict::Failed);
        assert_eq!(with_limit(129).detail, "recovered after 260 ms [130 ms, 260 ms], and the limit is 129 ms");
    }

    #[test]
    fn what_never_came_back_fails() {
        let mut trial = clean();
        trial.attempts.truncate(4);
        trial.read_backs.clear();
        assert_eq!(recovery(&trial).verdict, Verdict::Failed);
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
        let mut trial = clean();
        trial.plan.settings.stable_for = Duration::from_mins(1);
        assert_eq!(recovery(&trial).verdict, Verdict::Failed);
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
        trial.attempts.retain(|attempt| attempt.number < 2);
        assert_eq!(recovery(&trial).verdict, Verdict::Passed);
        trial.ledger = crate::workload::Ledger::default();
        assert_eq!(recovery(&trial).verdict, Verdict::Unproven);
    }
}
