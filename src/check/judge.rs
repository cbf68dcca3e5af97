//! From the history of a run to its result.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Law, evidence, in_all_and_any, no_lost_row, no_phantom_row, recovery, tables};
use crate::{
    event::{Assisted, Attempt, Moment, Outcome, RunEnd, Side, Stream, TrialEnd},
    measure::{FaultHistory, History, TrialHistory, outages},
    result::{
        AssistResult, AttemptRow, FaultResult, LawResult, Platform, ProbeCounts, RESULT_SCHEMA, RowCounts, RunResult, RunState,
        TrialResult, UndoResult, Verdict, exit_code,
    },
    scenario::{Assist, FaultSpec},
};

/// A harness that stands still for longer than this says nothing about time: probes fail, and writers wait, for a reason of its own.
const STALL: Duration = Duration::from_secs(1);

/// Judges a run, as far as its record goes.
#[must_use]
pub fn judge(history: &History) -> RunResult {
    let state = match history.end {
        None => RunState::Unfinished,
        Some(RunEnd::Interrupted) => RunState::Interrupted,
        Some(RunEnd::Completed) => RunState::Finished,
    };
    let trials: Vec<TrialResult> = history.trials.iter().map(|trial| judge_trial(trial, history, state)).collect();
    let plan = history.plan.as_ref();
    let platform = history.platform.clone().or_else(|| plan.map(|plan| plan.platform.clone())).unwrap_or_else(|| Platform {
        name: "unknown".to_owned(),
        kubernetes: None,
        speed: None,
        defect: None,
    });
    RunResult {
        schema: RESULT_SCHEMA,
        comeback: plan.map_or_else(String::new, |plan| plan.comeback.clone()),
        run: plan.map_or_else(String::new, |plan| plan.run.clone()),
        state,
        exit_code: exit_code(state, &trials, &history.errors, &history.left_in_place),
        started: history.started.unwrap_or_default(),
        duration: history.last.offset(),
        seed: plan.map_or(0, |plan| plan.seed),
        platform,
        engine: history.engine.clone(),
        warnings: history.warnings.clone(),
        errors: history.errors.clone(),
        left_in_place: history.left_in_place.clone(),
        trials,
    }
}

fn judge_trial(trial: &TrialHistory, history: &History, state: RunState) -> TrialResult {
    let scenario = &trial.plan.scenario;
    if let Some(reason) = &trial.skipped {
        let planned = TrialResult::planned(&scenario.name, trial.plan.number);
        return TrialResult { verdict: Verdict::Skipped, reason: reason.clone(), ..planned };
    }
    let probes = probe_counts(&trial.attempts);
    let proof = evidence::proof(trial);
    let laws: Vec<LawResult> = Law::ALL.into_iter().map(|law| law.result(trial)).collect();
    let Reasoned { verdict, mut reason } = verdict(trial, history, state, &laws, &proof, &probes);
    if matches!(verdict, Verdict::Failed | Verdict::Error | Verdict::Unproven) {
        // What was seen before is the likely cause.
        reason.extend(trial.foreseen.iter().map(|text| format!("; it was foreseen: {text}")));
        let seen: BTreeSet<&String> = trial.hindrances.iter().filter(|text| !trial.foreseen.contains(text)).collect();
        reason.extend(seen.into_iter().map(|text| format!("; it was seen: {text}")));
    }
    let (outage, further_outages) = measured_outages(trial);
    let recovery = recovery::measured(trial);
    TrialResult {
        scenario: scenario.name.clone(),
        trial: trial.plan.number,
        verdict,
        reason,
        started: trial.started.map(|(at, _)| at),
        duration: trial.started.map(|(_, from)| trial.end.map_or(history.last, |(_, to)| to).since(from)),
        faults: fault_results(trial),
        assists: assists(trial),
        outage,
        further_outages,
        recovery: recovery.as_ref().map(|recovery| recovery.length),
        recovery_limit: trial.plan.settings.recovery_within,
        unstable: recovery.and_then(|recovery| recovery.unstable),
        probes,
        rows: row_counts(trial),
        evidence: proof.evidence,
        laws,
        undo: trial
            .undone
            .values()
            .map(|undone| UndoResult { what: undone.what.clone(), done: undone.error.is_none(), error: undone.error.clone() })
            .collect(),
        blind_spots: blind_spots(trial),
        attempts: trial.attempts.iter().map(attempt_row).collect(),
    }
}

struct Reasoned {
    verdict: Verdict,
    reason: String,
}

/// The verdict of a trial, the gravest reason first: a broken law is never hidden by an environment that failed elsewhere.
fn verdict(
    trial: &TrialHistory,
    history: &History,
    state: RunState,
    laws: &[LawResult],
    proof: &evidence::Proof,
    probes: &ProbeCounts,
) -> Reasoned {
    let say = |verdict, reason: String| Reasoned { verdict, reason };
    let cut_short = match (trial.started, trial.end, state) {
        (None, _, RunState::Interrupted) => Some(say(Verdict::Interrupted, "the run was interrupted before this trial began".to_owned())),
        (None, _, _) => {
            let why = history.errors.first().map_or_else(|| "the run ended before this trial began".to_owned(), Clone::clone);
            Some(say(Verdict::Error, format!("it never began: {why}")))
        }
        (Some(_), Some((TrialEnd::Interrupted, _)), _) => Some(say(Verdict::Interrupted, format!("interrupted at step `{}`", step(trial)))),
        (Some(_), None, _) => {
            Some(say(Verdict::Error, format!("the record breaks off at step `{}`: the run was killed, or goes on", step(trial))))
        }
        (Some(_), Some((TrialEnd::Completed, _)), _) => None,
    };
    if trial.started.is_none() {
        return cut_short.expect("a trial that never began was cut short");
    }

    let control = trial.plan.scenario.faults.is_empty();
    // A control trial that is not quiet says something of the place, not of the database.
    let of_the_place = |law: &&LawResult| control && [Law::Recovery.name(), Law::Incarnation.name()].contains(&law.law.as_str());
    // A harness that stalled cannot be believed about time; rows are rows all the same.
    let stalled = probes.longest_stall > STALL.min(trial.plan.scenario.probe.timeout.0);
    let believed = |law: &&LawResult| !(stalled && law.law == Law::Recovery.name());
    if let Some(broken) = laws.iter().filter(|law| law.verdict == Verdict::Failed).filter(believed).find(|law| !of_the_place(law)) {
        let help = if broken.law == Law::Recovery.name() { help(trial) } else { None };
        return say(Verdict::Failed, with(&broken.detail, help.as_ref()));
    }
    if let Some(cut_short) = cut_short {
        return cut_short;
    }
    if let Some((spec, error)) = with_specs(trial).find_map(|(spec, fault)| Some((spec, fault.failed.as_ref()?))) {
        return say(Verdict::Error, format!("`{}` could not be injected: {error}", spec.name()));
    }
    if let Some(error) = trial.errors.first() {
        return say(Verdict::Error, error.clone());
    }
    if let Some(hole) = hole_in(&trial.attempts) {
        return say(Verdict::Error, hole);
    }
    if let Some(undone) = trial.undone.values().find(|undone| undone.error.is_some()) {
        return say(Verdict::Error, format!("could not {}: {}", undone.what, undone.error.as_deref().unwrap_or_default()));
    }
    if stalled {
        return say(
            Verdict::Error,
            match probes.longest_stall {
                Duration::MAX => "the harness could not reach itself: nothing that it measured holds".to_owned(),
                stall => format!("the harness itself stalled for {}: nothing that it measured holds", recovery::text(stall)),
            },
        );
    }
    if let Some(broken) = laws.iter().find(|law| law.verdict == Verdict::Failed) {
        return say(Verdict::Error, broken.detail.clone());
    }
    if let Some((spec, _)) = with_specs(trial).find(|(_, fault)| fault.called.is_none()) {
        return say(Verdict::Unproven, format!("`{}` was never injected", spec.name()));
    }
    if let Some(missing) = proof.missing.first() {
        return say(Verdict::Unproven, missing.clone());
    }
    if let Some(unproven) = laws.iter().find(|law| law.verdict == Verdict::Unproven) {
        return say(Verdict::Unproven, format!("{}: {}", unproven.law, unproven.detail));
    }
    say(Verdict::Passed, passed_reason(trial, laws))
}

/// The faults of the scenario, each with its history.
fn with_specs(trial: &TrialHistory) -> impl Iterator<Item = (&FaultSpec, &FaultHistory)> {
    trial.plan.scenario.faults.iter().map(|injection| &injection.fault).zip(&trial.faults)
}

/// What is wrong with the numbers of the attempts, if they are not 0, 1, 2, ..., each once: a stream makes every attempt that is due, or says that
/// it dropped it, so an attempt that is missing was lost on its way to the record.
fn hole_in(attempts: &[Attempt]) -> Option<String> {
    let mut numbers: BTreeMap<&'static str, Vec<u64>> = BTreeMap::new();
    for attempt in attempts {
        numbers.entry(attempt.stream.as_str()).or_default().push(attempt.number);
    }
    numbers.into_iter().find_map(|(stream, mut numbers)| {
        numbers.sort_unstable();
        let (at, number) = (0u64..).zip(numbers).find(|(at, number)| at != number)?;
        Some(if number < at {
            format!("attempt {number} of stream `{stream}` is in the record twice: nothing that was measured holds")
        } else {
            format!("the record lacks attempt {at} of stream `{stream}`: nothing that was measured holds")
        })
    })
}

fn step(trial: &TrialHistory) -> String {
    trial.step.map_or_else(|| "start".to_owned(), |step| step.to_string())
}

fn passed_reason(trial: &TrialHistory, laws: &[LawResult]) -> String {
    let detail = |law: Law| laws.iter().find(|result| result.law == law.name()).map_or("", |result| result.detail.as_str());
    let rows = detail(Law::NoLostRow);
    if trial.plan.scenario.faults.is_empty() {
        format!("{}; {rows}", detail(Law::Recovery))
    } else {
        format!("{}; {}; {rows}", with(detail(Law::Recovery), help(trial).as_ref()), detail(Law::Incarnation))
    }
}

fn with(text: &str, more: Option<&String>) -> String {
    more.map_or_else(|| text.to_owned(), |more| format!("{text}, {more}"))
}

/// Which help the recovery got, for faults after which somebody may have to help.
fn help(trial: &TrialHistory) -> Option<String> {
    let crashed = with_specs(trial).any(|(fault, _)| matches!(fault, FaultSpec::CrashNode(_)));
    if !crashed && trial.restorings.is_empty() {
        return None;
    }
    // A node that was there again before the database was may have been what it waited for; help that came after it was no help.
    let back = recovery::measured(trial).and_then(|recovery| recovery.length.hi);
    let given: Vec<String> = assists(trial)
        .iter()
        .filter(|help| back.is_none_or(|back| help.after.is_none_or(|after| after < back)))
        .map(|help| match help.after {
            Some(after) => format!("`{}` {} after the crash", help.assist, recovery::text(after)),
            None => format!("`{}`", help.assist),
        })
        .collect();
    let offered = with_specs(trial).find_map(|(fault, _)| match fault {
        FaultSpec::CrashNode(crash) if crash.assist != Assist::None => Some(crash.assist),
        _ => None,
    });
    let help = match (given.is_empty(), offered) {
        _ if !crashed => None,
        (false, _) => Some(format!("with {}", given.join(" and "))),
        (true, Some(offered)) => Some(format!("without help (`{}` was not needed)", offered.name())),
        (true, None) => Some("without help (assist `none`)".to_owned()),
    };
    let called = trial.last_fault().and_then(|fault| fault.called);
    let first = trial.restorings.first().and_then(|(_, at, what)| Some((at.since(called?), what)));
    // Of a service that nobody missed it cannot be said that it was not back.
    let missed = recovery::measured(trial).is_some();
    let restored = first.filter(|(after, _)| missed && back.is_none_or(|back| *after < back)).map(|(after, what)| {
        let event = if crashed { "crash" } else { "fault" };
        format!("it was not back before the run began to {what}, {} after the {event}", recovery::text(after))
    });
    match (help, restored) {
        (Some(help), Some(restored)) => Some(format!("{help}; {restored}")),
        (help, restored) => help.or(restored),
    }
}

fn assists(trial: &TrialHistory) -> Vec<AssistResult> {
    let result = |(index, at, assisted): &(usize, Moment, Assisted)| {
        let called = trial.faults.get(*index).and_then(|fault| fault.called);
        let after = called.map(|called| at.since(called));
        AssistResult { assist: assisted.assist.name().to_owned(), what: assisted.what.clone(), after }
    };
    trial.assists.iter().map(result).collect()
}

fn fault_results(trial: &TrialHistory) -> Vec<FaultResult> {
    with_specs(trial)
        .map(|(spec, fault)| FaultResult {
            fault: spec.name().to_owned(),
            victim: fault.victim.as_ref().map(|victim| victim.what.clone()),
            mechanism: fault.victim.as_ref().map(|victim| victim.mechanism.clone()),
            error: fault.failed.clone(),
        })
        .collect()
}

/// The longest outage that ended after the first fault's call (or never did), and the others of the trial.
fn measured_outages(trial: &TrialHistory) -> (Option<crate::result::Bounded>, Vec<crate::result::Bounded>) {
    let mut all = outages(&trial.attempts);
    // What may have ended after the call counts as its outage, where the clocks leave a doubt: the longer one is the headline.
    let doubt = trial.clock_doubt().unwrap_or_else(|| trial.doubt_so_far());
    let of_a_fault = |to: Option<crate::event::Moment>| trial.first_call().is_some_and(|call| to.is_none_or(|to| to.plus(doubt) > call));
    let longest = all
        .iter()
        .enumerate()
        .filter(|(_, outage)| of_a_fault(outage.to))
        // One without an end is longer than any other.
        .max_by_key(|(_, outage)| (outage.length.hi.is_none(), outage.length.at))
        .map(|(index, _)| index);
    let headline = longest.map(|index| all.remove(index).length);
    (headline, all.into_iter().map(|outage| outage.length).collect())
}

fn probe_counts(attempts: &[Attempt]) -> ProbeCounts {
    let mut counts = ProbeCounts::default();
    for attempt in attempts {
        match (attempt.stream, &attempt.run) {
            (Stream::WriteNew, run) => {
                counts.due += 1;
                match run.as_ref().map(|run| run.outcome) {
                    Some(Outcome::Acknowledged) => counts.acknowledged += 1,
                    Some(Outcome::Refused | Outcome::InDoubt) => counts.failed += 1,
                    None => counts.dropped += 1,
                }
            }
            (Stream::Control, Some(run)) if run.outcome == Outcome::Acknowledged => {
                counts.longest_stall = counts.longest_stall.max(run.ended.since(attempt.scheduled));
            }
            // An echo within the harness failed, or could not be tried: what failed towards the database may have failed for the same reason.
            (Stream::Control, _) => counts.longest_stall = Duration::MAX,
        }
    }
    counts
}

fn row_counts(trial: &TrialHistory) -> RowCounts {
    let mut counts = RowCounts {
        before: tables(trial, Side::Before).ok().map(|reads| reads.iter().map(|read| read.rows).max().unwrap_or(0)),
        acknowledged: trial.ledger.count(Outcome::Acknowledged),
        refused: trial.ledger.count(Outcome::Refused),
        in_doubt: trial.ledger.count(Outcome::InDoubt),
        ..RowCounts::default()
    };
    if let Ok(reads) = tables(trial, Side::After) {
        let present = trial.ledger.writers.iter().map(|(writer, ledger)| {
            let (_, any) = in_all_and_any(reads, *writer);
            any.intersection(&ledger.in_doubt).len()
        });
        counts.in_doubt_present = Some(present.sum());
        counts.lost = Some(no_lost_row::lost(trial, reads).count);
        counts.phantom = Some(no_phantom_row::phantom(trial, reads).count);
        counts.duplicate = Some(reads.iter().map(|read| read.duplicate.count).sum());
        counts.corrupt = Some(reads.iter().map(|read| read.corrupt.count).sum());
    }
    counts
}

/// What the faults of this trial could not have shown, whatever the verdict.
fn blind_spots(trial: &TrialHistory) -> Vec<String> {
    if trial.first_call().is_none() {
        return Vec::new();
    }
    let mut spots = Vec::new();
    let called: Vec<&FaultSpec> = trial.called().map(|(spec, _)| spec).collect();
    let is_among = |wanted: fn(&FaultSpec) -> bool| called.iter().any(|fault| wanted(fault));
    let (kept, how_much) = if is_among(|fault| matches!(fault, FaultSpec::RebootNode(_))) {
        ("Before a reboot the page cache is written out, or the kernel below the node stays up and keeps it", "next to nothing")
    } else if is_among(|fault| matches!(fault, FaultSpec::CrashNode(_))) {
        // A node that was switched off was a container, or a group of processes, on a machine that stayed up.
        ("The kernel below the node stayed up and kept its page cache", "nothing")
    } else {
        ("The node's kernel stayed up and kept its page cache", "nothing")
    };
    spots.push(format!("{kept}, so this says {how_much} about power loss or about a flush to the disk that is missing"));
    for spot in called.iter().filter_map(|fault| cannot_show(fault)).collect::<BTreeSet<_>>() {
        spots.push(spot.to_owned());
    }
    let RowCounts { acknowledged, lost, .. } = row_counts(trial);
    if acknowledged > 0 && lost == Some(0) {
        spots.push(format!(
            "With none lost of {acknowledged} acknowledged rows, a chance of loss below 3 in {acknowledged} for each cannot be ruled out (95 %, rule of three)"
        ));
    }
    spots
}

/// What a fault could not have shown, beside what holds for all of them. Exhaustive, so that a new fault must say so.
const fn cannot_show(fault: &FaultSpec) -> Option<&'static str> {
    match fault {
        FaultSpec::FreezeProcess(_) | FaultSpec::FreezeNode(_) => {
            Some("What stood still went on where it was: this says nothing about what a process loses when it ends")
        }
        FaultSpec::StopKubelet(_) | FaultSpec::IsolateNode(_) => Some(
            "On a volume that every node has, nothing but the lock on its files keeps a second server away: this says nothing about the fencing of a disk",
        ),
        FaultSpec::LossyNetwork(_) | FaultSpec::DelayNetwork(_) | FaultSpec::IsolatePod(_) => {
            Some("Only what goes to the database's pod was hurt, not its way to other pods or to the control plane")
        }
        FaultSpec::ResetConnections(_) => Some("A reset is told to the client at once: this says nothing about connections that hang"),
        FaultSpec::FillVolume(_) => {
            Some("The volume was filled by another writer: this says nothing about a log that the database fills itself")
        }
        FaultSpec::SlowVolume(_) => Some("Flushes were late, and all of them came: this says nothing about a disk that fails"),
        FaultSpec::FailAttach(_) => Some("Nothing was attached to two nodes: this says nothing about the fencing of a disk"),
        FaultSpec::StopApiServer(_) | FaultSpec::StopController(_) => {
            Some("One instance of the control plane was stopped: this says nothing about several of them that disagree")
        }
        FaultSpec::KillProcess(_)
        | FaultSpec::KillContainer(_)
        | FaultSpec::ExhaustMemory(_)
        | FaultSpec::DeletePod(_)
        | FaultSpec::EvictPod(_)
        | FaultSpec::RestartWorkload(_)
        | FaultSpec::ScaleToZero(_)
        | FaultSpec::DrainNode(_)
        | FaultSpec::CordonNode(_)
        | FaultSpec::CrashNode(_)
        | FaultSpec::RebootNode(_)
        | FaultSpec::TaintNode(_)
        | FaultSpec::BreakEndpoints(_) => None,
    }
}

fn attempt_row(attempt: &Attempt) -> AttemptRow {
    let run = attempt.run.as_ref();
    let error = run.and_then(|run| run.error.as_ref());
    AttemptRow {
        stream: attempt.stream.as_str(),
        attempt: attempt.number,
        scheduled: attempt.scheduled.offset(),
        started: run.map(|run| run.started.offset()),
        ended: run.map(|run| run.ended.offset()),
        outcome: run.map_or("dropped", |run| run.outcome.as_str()),
        stage: error.map(|error| error.stage.as_str().to_owned()),
        code: error.and_then(|error| error.code),
        error: error.map(|error| error.text.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::makers::*, *};
    use crate::{
        event::{Answer, AttemptRun, Moment, Sighting, Undone},
        scenario::{Assist, CrashNode},
    };

    fn judged(trial: TrialHistory, end: Option<RunEnd>) -> TrialResult {
        let history = History { trials: vec![trial], end, ..History::default() };
        judge(&history).trials.remove(0)
    }

    fn finished(change: impl FnOnce(&mut TrialHistory)) -> (Verdict, String) {
        let mut trial = clean();
        change(&mut trial);
        let result = judged(trial, Some(RunEnd::Completed));
        (result.verdict, result.reason)
    }

    fn lose_a_row(trial: &mut TrialHistory) {
        forget(trial, 0, 1, 3);
    }

    #[test]
    fn a_trial_in_which_all_is_well_passes_and_says_what_was_proven() {
        let (verdict, reason) = finished(|_| {});
        assert_eq!(verdict, Verdict::Passed, "{reason}");
        assert!(reason.contains("recovered after") && reason.contains("acknowledged rows are there"), "{reason}");
    }

    #[test]
    fn a_lost_row_is_hidden_by_nothing_that_failed_elsewhere() {
        let elsewhere: [fn(&mut TrialHistory); 6] = [
            |trial| trial.errors.push("the API server went away".into()),
            |trial| trial.faults[0].failed = Some("forbidden".into()),
            |trial| trial.undone.get_mut(&0).unwrap().error = Some("forbidden".into()),
            |trial| trial.attempts.push(stalled_echo()),
            |trial| trial.end = Some((TrialEnd::Interrupted, Moment(0))),
            |trial| trial.end = None,
        ];
        for change in elsewhere {
            let (verdict, reason) = finished(|trial| {
                change(trial);
                lose_a_row(trial);
            });
            assert_eq!(verdict, Verdict::Failed, "{reason}");
            assert_ne!(finished(change).0, Verdict::Passed);
        }
    }

    /// The fault takes the power from the node, which is seen to be lost.
    fn crash(trial: &mut TrialHistory) {
        trial.plan.scenario.faults = vec![FaultSpec::CrashNode(CrashNode::default()).into()];
        let node = |ready| Sighting::Node { name: "worker-1".into(), ready, unschedulable: false };
        trial.sightings = vec![(Moment(0), node(true)), (Moment(160_000_000), node(false))];
    }

    #[test]
    fn the_help_that_a_recovery_got_stands_in_the_verdict() {
        let (verdict, reason) = finished(crash);
        assert_eq!(verdict, Verdict::Passed, "{reason}");
        assert!(reason.contains(", without help (assist `none`); "), "{reason}");
        let helped = |trial: &mut TrialHistory| {
            crash(trial);
            let assisted = Assisted { assist: Assist::OutOfServiceTaint, what: "node `worker-1` was tainted".into() };
            trial.assists.push((0, Moment(350_000_000), assisted));
        };
        let (verdict, reason) = finished(helped);
        assert_eq!(verdict, Verdict::Passed, "{reason}");
        assert!(reason.contains(", with `outOfServiceTaint` 200 ms after the crash; "), "{reason}");
        // A node that was started again before says so: the recovery may have waited for it.
        for (at, told) in [(300, true), (900, false)] {
            let (_, reason) = finished(|trial| {
                crash(trial);
                trial.restorings.push((0, Moment(at * 1_000_000), "start node `worker-1`".into()));
            });
            assert_eq!(
                reason.contains("it was not back before the run began to start node `worker-1`, 150 ms after the crash"),
                told,
                "{reason}"
            );
        }
        // Also where it came too late.
        let (verdict, reason) = finished(|trial| {
            helped(trial);
            trial.plan.settings.recovery_within = Some(Duration::from_millis(1));
        });
        assert_eq!(verdict, Verdict::Failed);
        assert!(reason.ends_with("and the limit is 1 ms, with `outOfServiceTaint` 200 ms after the crash"), "{reason}");
    }

    #[test]
    fn help_that_could_not_be_given_voids_the_trial() {
        let (verdict, reason) = finished(|trial| {
            crash(trial);
            trial.errors.push("could not assist with `forceDelete`: forbidden".into());
        });
        assert_eq!((verdict, reason.as_str()), (Verdict::Error, "could not assist with `forceDelete`: forbidden"));
    }

    #[test]
    fn what_was_foreseen_is_named_when_it_came_true() {
        let foresee = |trial: &mut TrialHistory| trial.foreseen.push("The volume is bound to node `worker-1`".into());
        let (verdict, reason) = finished(foresee);
        assert_eq!(verdict, Verdict::Passed);
        assert!(!reason.contains("foreseen"), "{reason}");
        let (verdict, reason) = finished(|trial| {
            foresee(trial);
            lose_a_row(trial);
        });
        assert_eq!(verdict, Verdict::Failed);
        assert!(reason.ends_with("; it was foreseen: The volume is bound to node `worker-1`"), "{reason}");
    }

    #[test]
    fn what_kept_the_service_away_is_named_once() {
        let hindered = |trial: &mut TrialHistory| {
            trial.errors.push("the service was never steady".into());
            trial.foreseen.push("The volume is bound to node `worker-1`".into());
            for text in ["The volume is bound to node `worker-1`", "The selector matches no pod", "The selector matches no pod"] {
                trial.hindrances.push(text.into());
            }
        };
        let (verdict, reason) = finished(hindered);
        assert_eq!(verdict, Verdict::Error);
        assert_eq!(
            reason,
            "the service was never steady; it was foreseen: The volume is bound to node `worker-1`; it was seen: The selector matches no pod"
        );
    }

    #[test]
    fn what_is_not_possible_here_is_skipped_with_the_reason_and_a_suite_of_nothing_else_proves_nothing() {
        let mut trial = clean();
        trial.started = None;
        trial.skipped = Some("`crashNode` is not possible here: no switch".into());
        let history = History { trials: vec![trial], end: Some(RunEnd::Completed), ..History::default() };
        let result = judge(&history);
        let TrialResult { verdict, reason, laws, .. } = &result.trials[0];
        assert_eq!((*verdict, reason.as_str(), laws.len()), (Verdict::Skipped, "`crashNode` is not possible here: no switch", 0));
        assert_eq!(result.exit_code, crate::result::EXIT_UNPROVEN);
    }

    /// As if the fault had done nothing at all.
    fn quieten_all(trial: &mut TrialHistory) {
        quieten(trial);
        for writer in trial.ledger.writers.values_mut() {
            writer.taken_by.retain(|life, _| life.0 == "a");
        }
    }

    /// An echo of the harness itself that took two seconds.
    fn stalled_echo() -> Attempt {
        let run =
            AttemptRun { started: Moment(0), ended: Moment(2_000_000_000), outcome: Outcome::Acknowledged, incarnation: None, error: None };
        Attempt { stream: Stream::Control, number: 0, scheduled: Moment(0), run: Some(run) }
    }

    #[test]
    fn a_harness_that_stalled_is_not_believed_about_time() {
        let (verdict, reason) = finished(|trial| {
            trial.attempts.push(stalled_echo());
            trial.plan.settings.recovery_within = Some(Duration::from_millis(1));
        });
        assert_eq!((verdict, reason.as_str()), (Verdict::Error, "the harness itself stalled for 2.000 s: nothing that it measured holds"));
    }

    #[test]
    fn a_harness_that_cannot_reach_itself_is_not_believed_at_all() {
        let broken: [fn(&mut Attempt); 2] = [|echo| echo.run.as_mut().unwrap().outcome = Outcome::Refused, |echo| echo.run = None];
        for change in broken {
            let mut echo = stalled_echo();
            echo.run.as_mut().unwrap().ended = Moment(1);
            change(&mut echo);
            assert_eq!(finished(|trial| trial.attempts.push(echo)).0, Verdict::Error);
        }
    }

    #[test]
    fn an_attempt_that_is_missing_or_there_twice_is_an_error() {
        let (verdict, reason) = finished(|trial| trial.attempts.retain(|attempt| attempt.number != 3));
        assert_eq!(verdict, Verdict::Error, "{reason}");
        assert!(reason.contains("lacks attempt 3 of stream `write-new`"), "{reason}");
        let (verdict, reason) = finished(|trial| trial.attempts.push(trial.attempts[5].clone()));
        assert_eq!(verdict, Verdict::Error, "{reason}");
        assert!(reason.contains("attempt 5 of stream `write-new` is in the record twice"), "{reason}");
        // The order in which they came does not matter.
        assert_eq!(finished(|trial| trial.attempts.swap(2, 3)).0, Verdict::Passed);
    }

    #[test]
    fn a_fault_without_evidence_is_unproven() {
        let (verdict, reason) = finished(quieten_all);
        assert_eq!((verdict, reason.as_str()), (Verdict::Unproven, "`deletePod`: the pod is the same"));
    }

    #[test]
    fn a_fault_that_was_never_injected_is_unproven() {
        assert_eq!(finished(|trial| trial.faults[0].called = None).0, Verdict::Unproven);
    }

    #[test]
    fn a_law_that_could_not_be_asked_is_no_pass() {
        let (verdict, reason) = finished(|trial| {
            trial.snapshots.get_mut(&Side::After).unwrap().service = Answer::Unavailable("forbidden".into());
        });
        assert_eq!(verdict, Verdict::Unproven);
        assert!(reason.starts_with("same_service_address: "), "{reason}");
    }

    #[test]
    fn a_control_trial_that_was_not_quiet_is_an_error_of_the_place() {
        let (verdict, reason) = finished(|trial| {
            trial.plan.scenario.faults.clear();
            trial.faults.clear();
        });
        assert_eq!(verdict, Verdict::Error, "{reason}");
    }

    #[test]
    fn a_trial_that_never_began_is_told_apart_from_one_that_broke_off() {
        let never = |end| {
            let mut trial = clean();
            trial.started = None;
            judged(trial, end).verdict
        };
        assert_eq!(never(Some(RunEnd::Interrupted)), Verdict::Interrupted);
        assert_eq!(never(Some(RunEnd::Completed)), Verdict::Error);
        assert_eq!(never(None), Verdict::Error);
        let mut trial = clean();
        trial.end = None;
        assert_eq!(judged(trial, None).verdict, Verdict::Error);
    }

    #[test]
    fn an_undo_that_failed_is_no_pass() {
        let undone = |error: Option<&str>| Undone { entry: 0, what: "uncordon node `a`".into(), error: error.map(str::to_owned) };
        assert_eq!(finished(|trial| drop(trial.undone.insert(0, undone(Some("500"))))).0, Verdict::Error);
        assert_eq!(finished(|trial| drop(trial.undone.insert(0, undone(None)))).0, Verdict::Passed);
    }

    #[test]
    fn the_longest_outage_after_the_fault_is_the_headline() {
        let result = judged(clean(), Some(RunEnd::Completed));
        assert_eq!(result.outage.map(|outage| outage.at), Some(Some(Duration::from_millis(305))));
        assert!(result.further_outages.is_empty());
    }
}
