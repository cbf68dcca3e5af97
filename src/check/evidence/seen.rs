//! What was seen beside the pod that a fault hits: nodes, containers that ran out of memory, writes that were late, broken or missed, and what was in force when it
//! came.

use std::time::Duration;

use crate::{
    event::{AttemptRun, Moment, Outcome, PodFacts, Sighting, Victim},
    measure::{FaultHistory, TrialHistory},
    result::{Evidence, EvidenceRole},
};

/// Whether the node was seen to be unschedulable: after the call, or already when it came (a node that was cordoned before).
pub(super) fn cordon(
    trial: &TrialHistory,
    name: &str,
    fault: &FaultHistory,
    may_be_before: bool,
    label: &str,
) -> (Evidence, Option<String>) {
    let node = fault.victim.as_ref().and_then(Victim::hit_node);
    let sightings = trial.sightings.iter().filter_map(|(at, sighting)| match sighting {
        Sighting::Node { name, unschedulable, .. } if Some(name.as_str()) == node => Some((*at, *unschedulable)),
        _ => None,
    });
    let (before, after): (Vec<_>, Vec<_>) = sightings.partition(|(at, _)| fault.called.is_none_or(|called| *at < called));
    let was = before.last().is_some_and(|(_, unschedulable)| *unschedulable);
    // A node that was cordoned before can be drained, and not be cordoned.
    let stayed = was && after.iter().all(|(_, unschedulable)| *unschedulable);
    let seen = if was { may_be_before && stayed } else { after.iter().any(|(_, unschedulable)| *unschedulable) };
    let word = |cordoned| if cordoned { "yes" } else { "no" };
    let evidence = Evidence {
        what: format!("node made unschedulable{label}"),
        before: Some(word(was).to_owned()),
        after: Some(match (seen, node) {
            (true, Some(node)) => format!("yes, `{node}`"),
            _ => "not seen".to_owned(),
        }),
        role: if seen { EvidenceRole::Proof } else { EvidenceRole::Missing },
    };
    (evidence, (!seen).then(|| format!("`{name}`{label}: the node was not seen to be unschedulable")))
}

/// Whether the control plane was seen to lose the crashed node after the call: its Ready condition no longer held, or its object went away.
pub(super) fn lost_node(trial: &TrialHistory, fault: &FaultHistory, label: &str) -> (Evidence, Option<String>) {
    let node = fault.victim.as_ref().and_then(Victim::hit_node);
    let called = fault.called.unwrap_or_default();
    let states = trial.sightings.iter().filter_map(|(at, sighting)| match sighting {
        Sighting::Node { name, ready, .. } if Some(name.as_str()) == node => Some((*at, *ready)),
        Sighting::NodeGone { name } if Some(name.as_str()) == node => Some((*at, false)),
        Sighting::Node { .. } | Sighting::NodeGone { .. } | Sighting::Pod(_) | Sighting::PodGone { .. } | Sighting::Gap(_) => None,
    });
    let (before, after): (Vec<_>, Vec<_>) = states.partition(|(at, _)| *at < called);
    // A node that was lost before it was crashed shows nothing when it is seen to be lost again.
    let was_ready = before.last().is_some_and(|(_, ready)| *ready);
    let seen = was_ready && after.iter().any(|(_, ready)| !ready);
    let evidence = Evidence {
        what: format!("node lost{label}"),
        before: Some(if was_ready { "no, ready" } else { "not seen to be ready" }.to_owned()),
        after: Some(match (seen, node) {
            (true, Some(node)) => format!("yes, `{node}`"),
            _ => "not seen".to_owned(),
        }),
        role: if seen { EvidenceRole::Proof } else { EvidenceRole::Missing },
    };
    (evidence, (!seen).then(|| format!("`crashNode`{label}: the node was not seen to be lost after it was switched off")))
}

/// Whether the kernel, or what plays it, said that the container had no memory left.
pub(super) fn out_of_memory(
    trial: &TrialHistory,
    fault: &FaultHistory,
    found: Option<&PodFacts>,
    label: &str,
) -> (Evidence, Option<String>) {
    const REASON: &str = "OOMKilled";
    let uid = fault.victim.as_ref().map(|victim| victim.pod.uid.as_str());
    let called = fault.called.unwrap_or_default();
    let seen = trial.sightings.iter().filter(|(at, _)| *at >= called).filter_map(|(_, sighting)| match sighting {
        Sighting::Pod(pod) => Some(pod),
        _ => None,
    });
    let ends: Vec<&String> =
        seen.chain(found).filter(|pod| Some(pod.uid.as_str()) == uid).filter_map(|pod| pod.last_end.as_ref()).collect();
    let end = ends.iter().rev().find(|end| end.contains(REASON)).or(ends.last()).map(|end| (*end).clone());
    let killed = end.as_ref().is_some_and(|end| end.contains(REASON));
    let evidence = Evidence {
        what: format!("end of the container{label}"),
        before: fault.victim.as_ref().map(|victim| victim.pod.last_end.clone().unwrap_or_else(|| "none".to_owned())),
        after: end,
        role: if killed { EvidenceRole::Proof } else { EvidenceRole::Missing },
    };
    (evidence, (!killed).then(|| format!("`exhaustMemory`{label}: the container was not seen to end for want of memory")))
}

/// Whether writes took longer by at least `by` while the fault was in force: the median of those that were due in it, against that of those before it. One that
/// failed took as long as it was waited for.
pub(super) fn slower(
    trial: &TrialHistory,
    index: usize,
    name: &str,
    fault: &FaultHistory,
    by: Duration,
    label: &str,
) -> (Evidence, Option<String>) {
    let doubt = trial.clock_doubt().unwrap_or_else(|| trial.doubt_so_far());
    let called = fault.called.unwrap_or_default();
    let from = fault.confirmed.as_ref().map(|(at, _)| at.plus(doubt));
    let to = trial.restorings.iter().find(|(of, ..)| *of == index).map(|(_, at, _)| *at);
    let taken = |within: &dyn Fn(Moment) -> bool| {
        let runs = trial.headline_runs().filter(|run| within(run.started));
        let mut taken: Vec<Duration> = runs.map(|run| run.ended.since(run.started)).collect();
        taken.sort_unstable();
        taken.get(taken.len() / 2).copied()
    };
    let before = taken(&|started| started.plus(doubt) < called);
    let during = taken(&|started| from.is_some_and(|from| started >= from) && to.is_none_or(|to| started.plus(doubt) < to));
    let proven = before.zip(during).is_some_and(|(before, during)| during >= before + by);
    let ms = |time: Option<Duration>| time.map(|time| format!("{} ms", time.as_millis()));
    let evidence = Evidence {
        what: format!("median write{label}"),
        before: ms(before),
        after: ms(during),
        role: if proven { EvidenceRole::Proof } else { EvidenceRole::Missing },
    };
    let missing = format!("`{name}`{label}: writes did not take {} ms longer while it was in force", by.as_millis());
    (evidence, (!proven).then_some(missing))
}

/// Whether it was called while the fault was in force during which it was to come.
pub(super) fn came_during(
    trial: &TrialHistory,
    index: usize,
    name: &str,
    fault: &FaultHistory,
    during: &str,
    label: &str,
) -> (Evidence, Option<String>) {
    let earlier = trial.plan.scenario.faults[..index].iter().rposition(|earlier| earlier.fault.name() == during);
    let begun = earlier.and_then(|base| trial.faults[base].called).is_some_and(|begun| fault.called.is_some_and(|called| begun < called));
    let ended = trial.restorings.iter().find(|(of, ..)| Some(*of) == earlier).map(|(_, at, _)| *at);
    let seen = begun && ended.is_none_or(|ended| fault.called.is_some_and(|called| called < ended));
    let evidence = Evidence {
        what: format!("called while `{during}` was in force{label}"),
        before: Some("called".to_owned()),
        after: Some(if seen { "before the end of it" } else { "after the end of it" }.to_owned()),
        role: if seen { EvidenceRole::Proof } else { EvidenceRole::Missing },
    };
    (evidence, (!seen).then(|| format!("`{name}`{label}: `{during}` was over when it was called")))
}

/// Whether it was called before the database had taken a write again since the fault before.
///
/// The run calls it when it sees a server that is not ready; by the time that the call is there, it may be. A write that may have been taken before the call
/// speaks against it, and one that was refused, or still open when it came, has to speak for it.
pub(super) fn came_while_recovering(
    trial: &TrialHistory,
    index: usize,
    name: &str,
    fault: &FaultHistory,
    label: &str,
) -> (Evidence, Option<String>) {
    let doubt = trial.clock_doubt().unwrap_or_else(|| trial.doubt_so_far());
    let before = index.checked_sub(1).map(|before| &trial.faults[before]);
    // What was broken may take writes until it has ended: where the server does not tell its life, only from then on.
    let old_life = before.and_then(|before| before.victim.as_ref()?.life.as_ref());
    let ended = before.and_then(|before| before.confirmed.as_ref()).map(|(at, _)| *at);
    let (broken, called) = (before.and_then(|before| before.called), fault.called.unwrap_or_default());
    let is_taken = |run: &AttemptRun| {
        let by_another = match (&run.incarnation, old_life) {
            (Some(life), Some(old)) => life != old,
            _ => ended.is_none_or(|ended| run.started >= ended),
        };
        run.outcome == Outcome::Acknowledged
            && by_another
            && broken.is_some_and(|broken| run.ended >= broken)
            && run.ended < called.plus(doubt)
    };
    let is_missed = |run: &AttemptRun| {
        let within = broken.is_some_and(|broken| run.ended >= broken.plus(doubt)) && run.started.plus(doubt) < called;
        within && (run.outcome != Outcome::Acknowledged || run.ended >= called.plus(doubt))
    };
    let (taken, missed) =
        (trial.headline_runs().filter(|run| is_taken(run)).count(), trial.headline_runs().filter(|run| is_missed(run)).count());
    let missing = match (taken, missed) {
        (0, 0) => Some("nothing shows that the database was away when it was called"),
        (0, _) => None,
        _ => Some("the database had recovered from the fault before when it was called"),
    };
    let evidence = Evidence {
        what: format!("writes between the fault before and the call{label}"),
        before: Some("some missed, none taken".to_owned()),
        after: Some(format!("{missed} missed, {taken} taken")),
        role: if missing.is_none() { EvidenceRole::Proof } else { EvidenceRole::Missing },
    };
    (evidence, missing.map(|missing| format!("`{name}`{label}: {missing}")))
}

/// Whether the database was cut off with its node: while that was in force for certain, writes were missed, and the server that was there took none.
///
/// What the node's rules or its lease tell is not enough: there are ways to a pod that pass by them.
pub(super) fn cut_off(trial: &TrialHistory, index: usize, name: &str, fault: &FaultHistory, label: &str) -> (Evidence, Option<String>) {
    let doubt = trial.clock_doubt().unwrap_or_else(|| trial.doubt_so_far());
    let called = fault.called.unwrap_or_default();
    // What is missed after the next fault may be that one's doing.
    let next = trial.faults.iter().filter_map(|other| other.called).filter(|at| *at > called);
    let restored = trial.restorings.iter().filter(|(of, ..)| *of == index).map(|(_, at, _)| *at);
    let (from, to) = (fault.confirmed.as_ref().map(|(at, _)| at.plus(doubt)), next.chain(restored).min());
    let within = |run: &&AttemptRun| from.is_some_and(|from| run.started >= from) && to.is_none_or(|to| run.started.plus(doubt) < to);
    let old_life = fault.victim.as_ref().and_then(|victim| victim.life.as_ref());
    let by_another = |run: &AttemptRun| matches!((&run.incarnation, old_life), (Some(life), Some(old)) if life != old);
    let in_time = |run: &AttemptRun| run.outcome == Outcome::Acknowledged && to.is_none_or(|to| run.ended.plus(doubt) < to);
    let runs: Vec<&AttemptRun> = trial.headline_runs().filter(within).collect();
    let missed = runs.iter().filter(|run| !in_time(run)).count();
    let taken = runs.iter().filter(|run| in_time(run) && !by_another(run)).count();
    let seen = missed > 0 && taken == 0;
    let evidence = Evidence {
        what: format!("writes while the node was cut off{label}"),
        before: Some("some missed, none taken by the server that was there".to_owned()),
        after: Some(format!("{missed} missed, {taken} taken")),
        role: if seen { EvidenceRole::Proof } else { EvidenceRole::Missing },
    };
    let why =
        if taken > 0 { "the server took writes while its node was cut off" } else { "no write was missed while the node was cut off" };
    (evidence, (!seen).then(|| format!("`{name}`{label}: {why}")))
}

/// Whether a write broke off because of the call, and before the next fault was called: what fails later may be that one's doing.
pub(super) fn broken_writes(trial: &TrialHistory, fault: &FaultHistory, label: &str) -> (Evidence, Option<String>) {
    /// How long after its effect a reset may be felt: it lasts for two seconds.
    const FELT_FOR: Duration = Duration::from_secs(5);
    /// How many times as many writes must have failed as in the same time before: a reset lasts for dozens of probes.
    const MORE: usize = 5;
    let doubt = trial.clock_doubt().unwrap_or_else(|| trial.doubt_so_far());
    let called = fault.called.unwrap_or_default();
    let next = trial.faults.iter().filter_map(|other| other.called).filter(|at| *at > called).min();
    // What was under way when an earlier fault was undone is that one's.
    let undone = trial.restorings.iter().map(|(_, at, _)| *at).filter(|at| *at < called).max().unwrap_or_default();
    let failed = |from: Moment, to: Moment| {
        let within =
            trial.headline_runs().filter(|run| run.ended >= from.plus(doubt) && run.started.plus(doubt) < to && run.started >= undone);
        within.filter(|run| run.outcome != Outcome::Acknowledged).count()
    };
    let until = fault.confirmed.as_ref().map_or(called, |(at, _)| *at).plus(FELT_FOR);
    // As long before as after: what failed then may fail again by itself, so far more must have failed after the call.
    let since = Moment(called.0.saturating_sub(until.0 - called.0)).max(undone);
    let earlier = failed(since, called);
    let broken = failed(called, next.map_or(until, |next| next.min(until)));
    let seen = broken > MORE * earlier;
    let evidence = Evidence {
        what: format!("writes that broke off{label}"),
        before: Some(earlier.to_string()),
        after: Some(broken.to_string()),
        role: if seen { EvidenceRole::Proof } else { EvidenceRole::Missing },
    };
    let why = if earlier > 0 { "writes broke off before it, and not many more after it" } else { "no write broke off" };
    (evidence, (!seen).then(|| format!("`resetConnections`{label}: {why}")))
}
