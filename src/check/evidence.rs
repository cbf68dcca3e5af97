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
    let mut proof = Proof { evidence: view.context(), missing: Vec::new() };
    for (spec, fault) in trial.plan.scenario.faults.iter().zip(&trial.faults) {
        if fault.called.is_none() {
            continue;
        }
        let name = spec.name();
        match spec {
            FaultSpec::KillProcess(_) => {
                proof.demand(&["container id", "restart count", "pod uid"], &format!("`{name}`: no container was started anew"));
            }
            FaultSpec::DeletePod(_) => proof.demand(&["pod uid"], &format!("`{name}`: the pod is the same")),
            FaultSpec::DrainNode(_) => {
                proof.demand(&["pod uid"], &format!("`{name}`: the pod is the same"));
                proof.demand(&["node"], &format!("`{name}`: the pod is on the same node"));
                proof.evidence.push(cordon(trial, fault, &mut proof.missing));
            }
        }
        proof.demand_start(&format!("`{name}`: the server's start time is the same"));
    }
    proof
}

impl Proof {
    /// One of these must have changed. Those that did are the proof.
    fn demand(&mut self, any_of: &[&str], otherwise: &str) {
        let mut proven = false;
        for evidence in self.evidence.iter_mut().filter(|evidence| any_of.contains(&evidence.what.as_str())) {
            if evidence.before.is_some() && evidence.after.is_some() && evidence.before != evidence.after {
                evidence.role = EvidenceRole::Proof;
                proven = true;
            }
        }
        if !proven {
            for evidence in self.evidence.iter_mut().filter(|evidence| any_of.contains(&evidence.what.as_str())) {
                evidence.role = EvidenceRole::Missing;
            }
            self.missing.push(otherwise.to_owned());
        }
    }

    /// The server's start time must have changed, if it tells it at all.
    fn demand_start(&mut self, otherwise: &str) {
        let told = self.evidence.iter().any(|evidence| evidence.what == START && evidence.role != EvidenceRole::Unavailable);
        if told {
            self.demand(&[START], otherwise);
        }
    }
}

const START: &str = "sqlserver_start_time";

/// Whether the drained node was seen to be cordoned after the call.
fn cordon(trial: &TrialHistory, fault: &FaultHistory, missing: &mut Vec<String>) -> Evidence {
    let node = trial.snapshots.get(&Side::Before).and_then(|snapshot| snapshot.pod.known()).and_then(|pod| pod.node.clone());
    let seen = trial.sightings.iter().find_map(|(at, sighting)| match sighting {
        Sighting::Node { name, unschedulable: true, .. }
            if fault.called.is_some_and(|called| *at >= called) && Some(name) == node.as_ref() =>
        {
            Some(name.clone())
        }
        _ => None,
    });
    if seen.is_none() {
        missing.push("`drainNode`: the node was not seen to be unschedulable".to_owned());
    }
    Evidence {
        what: "node made unschedulable".to_owned(),
        before: Some("no".to_owned()),
        after: Some(seen.as_ref().map_or("not seen".to_owned(), |name| format!("yes, `{name}`"))),
        role: if seen.is_some() { EvidenceRole::Proof } else { EvidenceRole::Missing },
    }
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
            ["`killProcess`: the server's start time is the same"]
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
}
