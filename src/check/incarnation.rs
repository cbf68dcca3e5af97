//! After a fault that ends its life another life of the server answers; after one that spares it, and in a control trial, the same one.
//!
//! A life is pod uid, container id and the server's start time. Witnesses that contradict each other fail the law: a new container whose server
//! has the old start time is not the server that was started. If nothing at all has changed, nobody can tell whether the fault failed to
//! happen or the law was broken: unproven.

use super::Finding;
use crate::{
    event::{Answer, PodFacts, Side, Snapshot},
    measure::TrialHistory,
    scenario::Toll,
};

pub(super) fn incarnation(trial: &TrialHistory) -> Finding {
    let (Some(before), Some(after)) = (trial.snapshots.get(&Side::Before), trial.snapshots.get(&Side::After)) else {
        return Finding::unproven("the server was not looked at both before and after the fault");
    };
    let (Answer::Known(pod), Answer::Known(new_pod)) = (&before.pod, &after.pod) else {
        return Finding::unproven("the cluster did not tell the pod both before and after the fault");
    };
    let container_changed = pod.uid != new_pod.uid || pod.container_id != new_pod.container_id;
    let start_changed = match (&before.server_start, &after.server_start) {
        (Answer::Known(before), Answer::Known(after)) => Some(before != after),
        (Answer::Unavailable(_), Answer::Unavailable(_)) => None,
        // A server that told once can tell: it was not asked, or another one answers.
        (Answer::Unavailable(why), Answer::Known(_)) => {
            return Finding::unproven(format!("the server did not tell its start time before the fault: {why}"));
        }
        (Answer::Known(_), Answer::Unavailable(why)) => {
            return Finding::unproven(format!("the server did not tell its start time after the fault: {why}"));
        }
    };
    // Only if a new server took a write: that the old one took the last says that nobody saw the recovery, which is told elsewhere.
    if let (Some(last), Answer::Known(now)) = (trial.last_life(), &after.server_start)
        && Some(last) != trial.old_life().as_ref()
        && last.0 != *now
    {
        return Finding::failed(format!(
            "the server that answers now started at {now}, and the last write was taken by one that started at {}: it was started again since",
            last.0
        ));
    }
    let spared = trial.plan.scenario.faults.is_empty() || trial.toll() == Toll::Spares;
    if spared {
        return same(trial, container_changed, start_changed, before, after);
    }
    match (container_changed, start_changed) {
        (true, Some(true)) => Finding::passed(format!("{}, and the server's start time is another", changed(pod, new_pod))),
        (true, None) => Finding::passed(format!("{}; the server does not tell its start time", changed(pod, new_pod))),
        (false, Some(true)) => Finding::passed("the server's start time is another, in the same container"),
        (true, Some(false)) => Finding::failed(format!(
            "{}, but the server that answers started when the old one did: another server answers, or the old one still does",
            changed(pod, new_pod)
        )),
        (false, Some(false) | None) if trial.toll() == Toll::May => Finding::passed("the same server answers as before the fault"),
        (false, Some(false) | None) => Finding::unproven("the same server answers as before the fault"),
    }
}

fn changed(pod: &PodFacts, new_pod: &PodFacts) -> String {
    if pod.uid == new_pod.uid { format!("a new container in pod `{}`", pod.name) } else { format!("a new pod `{}`", new_pod.name) }
}

/// The control trial, and faults that spare the server.
fn same(trial: &TrialHistory, container_changed: bool, start_changed: Option<bool>, before: &Snapshot, after: &Snapshot) -> Finding {
    let why = match trial.called().last() {
        None => "nothing was broken".to_owned(),
        Some((fault, _)) => format!("`{}` spares it", fault.name()),
    };
    if container_changed || start_changed == Some(true) {
        Finding::failed(format!(
            "the server was restarted although {why}: started {} before, {} after",
            text(&before.server_start),
            text(&after.server_start)
        ))
    } else {
        Finding::passed(format!("the same server before and after, as {why}"))
    }
}

fn text(answer: &Answer<String>) -> &str {
    answer.known().map_or("unknown", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::{super::makers::*, *};
    use crate::result::Verdict;

    fn after(change: impl FnOnce(&mut Snapshot)) -> Verdict {
        let mut trial = clean();
        change(trial.snapshots.get_mut(&Side::After).unwrap());
        incarnation(&trial).verdict
    }

    fn old_pod(snapshot: &mut Snapshot) {
        snapshot.pod = clean().snapshots[&Side::Before].pod.clone();
    }

    #[test]
    fn another_server_than_the_one_that_took_the_last_write_fails() {
        assert_eq!(after(|snapshot| snapshot.server_start = Answer::Known("c".into())), Verdict::Failed);
    }

    #[test]
    fn a_trial_that_was_cut_short_before_the_new_server_took_a_write_is_not_called_broken() {
        let mut trial = clean();
        trial.attempts.retain(|attempt| attempt.number < 4);
        assert_eq!(incarnation(&trial).verdict, Verdict::Passed);
    }

    #[test]
    fn a_start_time_that_was_told_once_is_not_done_without() {
        assert_eq!(after(|snapshot| snapshot.server_start = Answer::Unavailable("no answer".into())), Verdict::Unproven);
    }

    #[test]
    fn a_new_pod_with_a_new_server_passes() {
        assert_eq!(incarnation(&clean()).verdict, Verdict::Passed);
    }

    #[test]
    fn a_new_pod_with_the_old_server_fails() {
        let mut trial = clean();
        let pod = trial.snapshots[&Side::After].pod.clone();
        quieten(&mut trial);
        trial.snapshots.get_mut(&Side::After).unwrap().pod = pod;
        assert_eq!(incarnation(&trial).verdict, Verdict::Failed);
    }

    #[test]
    fn a_new_server_in_the_old_container_passes() {
        assert_eq!(after(old_pod), Verdict::Passed);
    }

    #[test]
    fn a_server_without_a_start_time_rests_on_pod_and_container() {
        let mut trial = clean();
        for snapshot in trial.snapshots.values_mut() {
            snapshot.server_start = Answer::Unavailable("error 300".into());
        }
        assert_eq!(incarnation(&trial).verdict, Verdict::Passed);
        old_pod(trial.snapshots.get_mut(&Side::After).unwrap());
        assert_eq!(incarnation(&trial).verdict, Verdict::Unproven);
    }

    #[test]
    fn nothing_new_at_all_is_unproven() {
        let mut trial = clean();
        quieten(&mut trial);
        assert_eq!(incarnation(&trial).verdict, Verdict::Unproven);
    }

    #[test]
    fn a_control_trial_demands_the_same_server() {
        let mut trial = clean();
        trial.plan.scenario.faults.clear();
        assert_eq!(incarnation(&trial).verdict, Verdict::Failed);
        quieten(&mut trial);
        assert_eq!(incarnation(&trial).verdict, Verdict::Passed);
    }
}
