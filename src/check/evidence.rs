//! What proves that the faults of a trial happened.
//!
//! Not the reply of a call: that only says that somebody took it. Proof is what was seen to be different afterwards, from two witnesses where
//! there are two: the cluster (uids, ids, counts) and the database (its start time). A witness that tells and contradicts the fault makes
//! the proof *missing*; one that cannot be asked is *unavailable* and leaves the proof to the others.

use crate::{
    event::{Answer, PodFacts, Side, Sighting, Snapshot},
    measure::{FaultHistory, TrialHistory},
    result::{Evidence, EvidenceRole},
    scenario::FaultSpec,
};

/// All that was looked at, and what is missing of the proof, in words.
pub(super) struct Proof {
    pub(super) evidence: Vec<Evidence>,
    pub(super) missing: Vec<String>,
}

pub(super) fn proof(trial: &TrialHistory) -> Proof {
    let view = View { before: trial.snapshots.get(&Side::Before), after: trial.snapshots.get(&Side::After) };
    let mut proof = Proof { evidence: Vec::new(), missing: Vec::new() };
    let called: Vec<(&FaultSpec, &FaultHistory)> =
        trial.plan.scenario.faults.iter().zip(&trial.faults).filter(|(_, fault)| fault.called.is_some()).collect();
    for (index, (spec, fault)) in called.iter().enumerate() {
        // A fault is judged by what it was aimed at and what the next one found there: the change of another fault is no proof of this one.
        let found = match called.get(index + 1) {
            Some((_, next)) => next.victim.as_ref().map(|victim| &victim.pod),
            None => view.after.and_then(|snapshot| snapshot.pod.known()),
        };
        let label = if called.len() > 1 { format!(" (fault {})", index + 1) } else { String::new() };
        let aimed = fault.victim.as_ref().map(|victim| &victim.pod);
        let name = spec.name();
        let mut pods = Pods { aimed, found, label: &label, proof: &mut proof };
        match spec {
            FaultSpec::KillProcess(_) => {
                pods.demand(
                    &[Look::ContainerId, Look::RestartCount, Look::PodUid],
                    &format!("`{name}`{label}: no container was started anew"),
                );
            }
            FaultSpec::DeletePod(_) => pods.demand(&[Look::PodUid], &format!("`{name}`{label}: the pod is the same")),
            FaultSpec::DrainNode(_) => {
                pods.demand(&[Look::PodUid], &format!("`{name}`{label}: the pod is the same"));
                pods.demand(&[Look::Node], &format!("`{name}`{label}: the pod is on the same node"));
                let (evidence, missing) = cordon(trial, fault, &label);
                proof.evidence.push(evidence);
                proof.missing.extend(missing);
            }
            FaultSpec::CrashNode(_) => {
                pods.demand(&[Look::PodUid, Look::ContainerId], &format!("`{name}`{label}: neither the pod nor its container was replaced"))
            }
        }
        if fault.confirmed.is_none() {
            proof.missing.push(format!("`{name}`{label}: its effect was not seen in the cluster"));
        }
    }
    // What the faults did not look at, and the witness of the database: the trial as a whole must have made another life of it.
    for row in view.context() {
        if !proof.evidence.iter().any(|evidence| evidence.what == row.what) {
            proof.evidence.push(row);
        }
    }
    if !called.is_empty() {
        proof.demand_start("the server's start time is the same as before the fault");
    }
    proof
}

/// Something of a pod that a fault may change.
#[derive(Clone, Copy)]
enum Look {
    PodUid,
    Node,
    ContainerId,
    RestartCount,
}

impl Look {
    const fn name(self) -> &'static str {
        match self {
            Self::PodUid => "pod uid",
            Self::Node => "node",
            Self::ContainerId => "container id",
            Self::RestartCount => "restart count",
        }
    }

    fn at(self, pod: &PodFacts) -> Option<String> {
        match self {
            Self::PodUid => Some(pod.uid.clone()),
            Self::Node => pod.node.clone(),
            Self::ContainerId => pod.container_id.clone(),
            Self::RestartCount => Some(pod.restart_count.to_string()),
        }
    }
}

/// The pod that a fault was aimed at, and the one that was found afterwards.
struct Pods<'a> {
    aimed: Option<&'a PodFacts>,
    found: Option<&'a PodFacts>,
    label: &'a str,
    proof: &'a mut Proof,
}

impl Pods<'_> {
    /// One of these must have changed. Those that did are the proof.
    fn demand(&mut self, any_of: &[Look], otherwise: &str) {
        let mut rows: Vec<Evidence> = any_of
            .iter()
            .map(|look| {
                let (before, after) = (self.aimed.and_then(|pod| look.at(pod)), self.found.and_then(|pod| look.at(pod)));
                let role = match (&before, &after) {
                    (Some(before), Some(after)) if before != after => EvidenceRole::Proof,
                    (Some(_), Some(_)) => EvidenceRole::Context,
                    _ => EvidenceRole::Unavailable,
                };
                Evidence { what: format!("{}{}", look.name(), self.label), before, after, role }
            })
            .collect();
        if !rows.iter().any(|row| row.role == EvidenceRole::Proof) {
            for row in &mut rows {
                row.role = EvidenceRole::Missing;
            }
            self.proof.missing.push(otherwise.to_owned());
        }
        self.proof.evidence.append(&mut rows);
    }
}

impl Proof {
    /// The server's start time must have changed, if it tells it at all.
    fn demand_start(&mut self, otherwise: &str) {
        for row in self.evidence.iter_mut().filter(|row| row.what == START && row.role != EvidenceRole::Unavailable) {
            if row.before == row.after {
                row.role = EvidenceRole::Missing;
                self.missing.push(otherwise.to_owned());
            } else {
                row.role = EvidenceRole::Proof;
            }
        }
    }
}

const START: &str = "sqlserver_start_time";

/// Whether the drained node was seen to be unschedulable: after the call, or already when it came (a node that was cordoned before).
fn cordon(trial: &TrialHistory, fault: &FaultHistory, label: &str) -> (Evidence, Option<String>) {
    let node = fault.victim.as_ref().and_then(|victim| victim.pod.node.as_deref());
    let sightings = trial.sightings.iter().filter_map(|(at, sighting)| match sighting {
        Sighting::Node { name, unschedulable, .. } if Some(name.as_str()) == node => Some((*at, *unschedulable)),
        _ => None,
    });
    let (before, after): (Vec<_>, Vec<_>) = sightings.partition(|(at, _)| fault.called.is_none_or(|called| *at < called));
    let was = before.last().is_some_and(|(_, unschedulable)| *unschedulable);
    let seen = after.iter().any(|(_, unschedulable)| *unschedulable) || (was && after.iter().all(|(_, unschedulable)| *unschedulable));
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
    (evidence, (!seen).then(|| format!("`drainNode`{label}: the node was not seen to be unschedulable")))
}

struct View<'a> {
    before: Option<&'a Snapshot>,
    after: Option<&'a Snapshot>,
}

impl View<'_> {
    fn context(&self) -> Vec<Evidence> {
        vec![
            self.row("pod", |snapshot| pod(snapshot, |pod| Some(pod.name.clone()))),
            self.row("pod uid", |snapshot| pod(snapshot, |pod| Some(pod.uid.clone()))),
            self.row("node", |snapshot| pod(snapshot, |pod| pod.node.clone())),
            self.row("container id", |snapshot| pod(snapshot, |pod| pod.container_id.clone())),
            self.row("restart count", |snapshot| pod(snapshot, |pod| Some(pod.restart_count.to_string()))),
            self.row("last container end", |snapshot| pod(snapshot, |pod| Some(pod.last_end.clone().unwrap_or_else(|| "none".to_owned())))),
            self.row(START, |snapshot| snapshot.server_start.known().cloned()),
            self.row("service", |snapshot| {
                snapshot.service.known().map(|service| format!("{}:{}, uid {}", service.cluster_ip, service.port, service.uid))
            }),
            self.row("volume", |snapshot| snapshot.volume.known().map(|volume| format!("{}, uid {}", volume.volume, volume.volume_uid))),
            self.row("volume mark", |snapshot| match &snapshot.volume_mark {
                Answer::Known(mark) => Some(mark.clone().unwrap_or_else(|| "none".to_owned())),
                Answer::Unavailable(_) => None,
            }),
        ]
    }

    fn row(&self, what: &str, look: impl Fn(&Snapshot) -> Option<String>) -> Evidence {
        let (before, after) = (self.before.and_then(&look), self.after.and_then(&look));
        let role = if before.is_some() && after.is_some() { EvidenceRole::Context } else { EvidenceRole::Unavailable };
        Evidence { what: what.to_owned(), before, after, role }
    }
}

fn pod(snapshot: &Snapshot, look: impl Fn(&PodFacts) -> Option<String>) -> Option<String> {
    snapshot.pod.known().and_then(look)
}

#[cfg(test)]
mod tests {
    use super::{super::makers::*, *};
    use crate::scenario::{DeletePod, DrainNode, KillProcess};

    fn missing(spec: FaultSpec, change: impl FnOnce(&mut TrialHistory)) -> Vec<String> {
        let mut trial = clean();
        trial.plan.scenario.faults = vec![spec];
        change(&mut trial);
        proof(&trial).missing
    }

    fn set(trial: &mut TrialHistory, change: impl FnOnce(&mut Snapshot)) {
        change(trial.snapshots.get_mut(&Side::After).unwrap());
    }

    fn nothing_happened(trial: &mut TrialHistory) {
        let before = trial.snapshots[&Side::Before].clone();
        trial.snapshots.insert(Side::After, before);
    }

    #[test]
    fn a_new_pod_and_a_new_start_time_prove_a_deletion() {
        assert_eq!(missing(FaultSpec::DeletePod(DeletePod::default()), |_| {}), [""; 0]);
    }

    #[test]
    fn a_fault_that_did_nothing_is_never_proven() {
        for spec in [
            FaultSpec::KillProcess(KillProcess::default()),
            FaultSpec::DeletePod(DeletePod::default()),
            FaultSpec::DrainNode(DrainNode::default()),
        ] {
            assert!(!missing(spec.clone(), nothing_happened).is_empty(), "{spec:?}");
            assert!(!missing(spec.clone(), |trial| drop(trial.snapshots.remove(&Side::After))).is_empty(), "{spec:?}");
        }
    }

    #[test]
    fn a_new_container_with_the_old_start_time_is_not_proven() {
        let spec = FaultSpec::KillProcess(KillProcess::default());
        let start = clean().snapshots[&Side::Before].server_start.clone();
        assert_eq!(
            missing(spec, |trial| set(trial, |snapshot| snapshot.server_start = start)),
            ["the server's start time is the same as before the fault"]
        );
    }

    #[test]
    fn a_server_that_does_not_tell_its_start_time_leaves_the_proof_to_the_cluster() {
        let spec = FaultSpec::KillProcess(KillProcess::default());
        let untold = |trial: &mut TrialHistory| set(trial, |snapshot| snapshot.server_start = Answer::Unavailable("error 300".into()));
        assert_eq!(missing(spec.clone(), untold), [""; 0]);
        assert!(
            !missing(spec, |trial| {
                nothing_happened(trial);
                untold(trial);
            })
            .is_empty()
        );
    }

    #[test]
    fn a_drain_needs_another_node_and_a_cordon_that_was_seen() {
        let spec = || FaultSpec::DrainNode(DrainNode::default());
        assert_eq!(missing(spec(), |_| {}), [""; 0]);
        assert_eq!(missing(spec(), |trial| trial.sightings.clear()), ["`drainNode`: the node was not seen to be unschedulable"]);
        let same_node = |trial: &mut TrialHistory| {
            set(trial, |snapshot| {
                let Answer::Known(pod) = &mut snapshot.pod else { unreachable!() };
                pod.node = Some("worker-1".into());
            });
        };
        assert_eq!(missing(spec(), same_node), ["`drainNode`: the pod is on the same node"]);
    }

    #[test]
    fn a_fault_whose_effect_was_not_seen_is_not_proven() {
        let spec = FaultSpec::DeletePod(DeletePod::default());
        assert_eq!(missing(spec, |trial| trial.faults[0].confirmed = None), ["`deletePod`: its effect was not seen in the cluster"]);
    }

    #[test]
    fn one_fault_does_not_prove_another() {
        // The signal was ignored: the pod that the deletion found is the one that the kill was aimed at.
        let mut trial = clean();
        trial.plan.scenario.faults = vec![FaultSpec::KillProcess(KillProcess::default()), FaultSpec::DeletePod(DeletePod::default())];
        trial.faults = vec![fault(a_pod("mssql-1", "worker-1", "container-1")), fault(a_pod("mssql-1", "worker-1", "container-1"))];
        assert_eq!(proof(&trial).missing, ["`killProcess` (fault 1): no container was started anew"]);
        trial.faults[1] = fault(a_pod("mssql-1", "worker-1", "container-1b"));
        assert_eq!(proof(&trial).missing, [""; 0]);
    }

    #[test]
    fn a_database_that_moved_away_and_back_did_move() {
        let mut trial = clean();
        trial.plan.scenario.faults = vec![FaultSpec::DeletePod(DeletePod::default()), FaultSpec::DrainNode(DrainNode::default())];
        trial.faults = vec![fault(a_pod("mssql-1", "worker-2", "container-1")), fault(a_pod("mssql-b", "worker-1", "container-b"))];
        assert_eq!(proof(&trial).missing, [""; 0]);
    }

    #[test]
    fn a_node_that_was_cordoned_before_counts_as_unschedulable() {
        let spec = FaultSpec::DrainNode(DrainNode::default());
        let before = |trial: &mut TrialHistory| trial.sightings[0].0 = crate::event::Moment(0);
        assert_eq!(missing(spec, before), [""; 0]);
    }
}
