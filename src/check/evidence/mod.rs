//! What proves that the faults of a trial happened.
//!
//! Not the reply of a call: that only says that somebody took it. Proof is what was seen to be different afterwards, from two witnesses where
//! there are two: the cluster (uids, ids, counts) and the database (its start time). A witness that tells and contradicts the fault makes
//! the proof *missing*; one that cannot be asked is *unavailable* and leaves the proof to the others.

mod seen;

use self::seen::{broken_writes, came_during, came_while_recovering, cordon, cut_off, lost_node, out_of_memory, slower};
use crate::{
    event::{Answer, PodFacts, Side, Snapshot, Victim, WitnessTime},
    measure::{FaultHistory, TrialHistory},
    result::{Evidence, EvidenceRole},
    scenario::{After, Cue, DelayNetwork, FaultSpec, SlowVolume, TaintEffect, TaintNode, Toll},
};

/// All that was looked at, and what is missing of the proof, in words.
pub(super) struct Proof {
    pub(super) evidence: Vec<Evidence>,
    pub(super) missing: Vec<String>,
}

pub(super) fn proof(trial: &TrialHistory) -> Proof {
    let view = View { before: trial.snapshots.get(&Side::Before), after: trial.snapshots.get(&Side::After) };
    let mut proof = Proof { evidence: Vec::new(), missing: Vec::new() };
    let called: Vec<(&FaultSpec, &FaultHistory)> = trial.called().collect();
    for (index, (spec, fault)) in called.iter().enumerate() {
        // A fault is judged by what it was aimed at and what the next one found there: the change of another fault is no proof of this one.
        let found = match called.get(index + 1) {
            Some((_, next)) => next.victim.as_ref().map(|victim| &victim.pod),
            None => view.after.and_then(|snapshot| snapshot.pod.known()),
        };
        let label = if called.len() > 1 { format!(" (fault {})", index + 1) } else { String::new() };
        let aimed = fault.victim.as_ref().map(|victim| &victim.pod);
        let name = spec.name();
        let hits_the_database = fault.victim.as_ref().is_none_or(Victim::hits_the_database);
        let mut pods = Pods { aimed, found, label: &label, proof: &mut proof };
        // What must have become of the pod.
        match spec {
            FaultSpec::KillProcess(_) | FaultSpec::KillContainer(_) | FaultSpec::ExhaustMemory(_) => {
                pods.demand(
                    &[Look::ContainerId, Look::RestartCount, Look::PodUid],
                    &format!("`{name}`{label}: no container was started anew"),
                );
            }
            FaultSpec::DeletePod(_) | FaultSpec::EvictPod(_) | FaultSpec::RestartWorkload(_) | FaultSpec::ScaleToZero(_) => {
                pods.demand(&[Look::PodUid], &format!("`{name}`{label}: the pod is the same"));
            }
            FaultSpec::DrainNode(_) if hits_the_database => {
                pods.demand(&[Look::PodUid], &format!("`{name}`{label}: the pod is the same"));
                pods.demand(&[Look::Node], &format!("`{name}`{label}: the pod is on the same node"));
            }
            FaultSpec::TaintNode(TaintNode { effect: TaintEffect::NoExecute, .. }) if hits_the_database => {
                pods.demand(&[Look::PodUid], &format!("`{name}`{label}: the pod is the same"));
            }
            FaultSpec::CrashNode(_) | FaultSpec::RebootNode(_) if hits_the_database => {
                pods.demand(
                    &[Look::PodUid, Look::ContainerId],
                    &format!("`{name}`{label}: neither the pod nor its container was replaced"),
                );
            }
            FaultSpec::DrainNode(_)
            | FaultSpec::CrashNode(_)
            | FaultSpec::RebootNode(_)
            | FaultSpec::TaintNode(_)
            | FaultSpec::FreezeProcess(_)
            | FaultSpec::CordonNode(_)
            | FaultSpec::FreezeNode(_)
            | FaultSpec::StopKubelet(_)
            | FaultSpec::IsolateNode(_)
            | FaultSpec::IsolatePod(_)
            | FaultSpec::DelayNetwork(_)
            | FaultSpec::LossyNetwork(_)
            | FaultSpec::ResetConnections(_)
            | FaultSpec::FillVolume(_)
            | FaultSpec::SlowVolume(_)
            | FaultSpec::FailAttach(_)
            | FaultSpec::StopApiServer(_)
            | FaultSpec::StopController(_)
            | FaultSpec::BreakEndpoints(_) => {}
        }
        proof.seen_beside(trial, index, spec, fault, found, &label);
        proof.witnesses(spec, fault, &label);
        if let Some(during) = &trial.plan.scenario.faults[index].during {
            proof.take(came_during(trial, index, name, fault, during, &label));
        }
        if trial.plan.scenario.faults[index].after == Some(After::Seen(Cue::Recovering)) {
            proof.take(came_while_recovering(trial, index, name, fault, &label));
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
    if !called.is_empty() && trial.toll() == Toll::Ends {
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
    /// What must have been seen beside the pod.
    fn seen_beside(
        &mut self,
        trial: &TrialHistory,
        index: usize,
        spec: &FaultSpec,
        fault: &FaultHistory,
        found: Option<&PodFacts>,
        label: &str,
    ) {
        let name = spec.name();
        match spec {
            FaultSpec::DrainNode(_) => self.take(cordon(trial, name, fault, true, label)),
            FaultSpec::CordonNode(_) => self.take(cordon(trial, name, fault, false, label)),
            FaultSpec::CrashNode(_) => self.take(lost_node(trial, fault, label)),
            FaultSpec::ExhaustMemory(_) => self.take(out_of_memory(trial, fault, found, label)),
            FaultSpec::DelayNetwork(DelayNetwork { delay, .. }) | FaultSpec::SlowVolume(SlowVolume { delay, .. }) => {
                self.take(slower(trial, index, name, fault, delay.0, label));
            }
            FaultSpec::ResetConnections(_) => self.take(broken_writes(trial, fault, label)),
            FaultSpec::IsolateNode(_) if fault.victim.as_ref().is_none_or(Victim::hits_the_database) => {
                self.take(cut_off(trial, index, name, fault, label));
            }
            FaultSpec::KillProcess(_)
            | FaultSpec::FreezeProcess(_)
            | FaultSpec::KillContainer(_)
            | FaultSpec::DeletePod(_)
            | FaultSpec::EvictPod(_)
            | FaultSpec::RestartWorkload(_)
            | FaultSpec::ScaleToZero(_)
            | FaultSpec::RebootNode(_)
            | FaultSpec::FreezeNode(_)
            | FaultSpec::StopKubelet(_)
            | FaultSpec::IsolateNode(_)
            | FaultSpec::TaintNode(_)
            | FaultSpec::IsolatePod(_)
            | FaultSpec::LossyNetwork(_)
            | FaultSpec::FillVolume(_)
            | FaultSpec::FailAttach(_)
            | FaultSpec::StopApiServer(_)
            | FaultSpec::StopController(_)
            | FaultSpec::BreakEndpoints(_) => {}
        }
    }

    fn take(&mut self, (evidence, missing): (Evidence, Option<String>)) {
        self.evidence.push(evidence);
        self.missing.extend(missing);
    }

    /// What was looked at before and during the fault: each of it must have been different.
    fn witnesses(&mut self, spec: &FaultSpec, fault: &FaultHistory, label: &str) {
        let name = spec.name();
        let of = |at| fault.witnessed.get(&at);
        let (before, during) = (of(WitnessTime::Before), of(WitnessTime::During));
        let (Some(before), Some(during)) = (before, during) else {
            if spec.is_witnessed() {
                self.missing.push(format!("`{name}`{label}: what it hits was not looked at both before and during it"));
            }
            return;
        };
        if spec.is_witnessed() && before.is_empty() {
            self.missing.push(format!("`{name}`{label}: there was nothing to look at"));
        }
        for fact in before {
            let now = during.iter().find(|now| now.what == fact.what);
            let differs = now.is_some_and(|now| now.value != fact.value);
            if !differs {
                let how = now.map_or("was not told", |now| now.value.as_str());
                self.missing.push(format!("`{name}`{label}: {} was `{}` before and `{how}` during the fault", fact.what, fact.value));
            }
            self.evidence.push(Evidence {
                what: format!("{}{label}", fact.what),
                before: Some(fact.value.clone()),
                after: now.map(|now| now.value.clone()),
                role: if differs { EvidenceRole::Proof } else { EvidenceRole::Missing },
            });
        }
    }

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
    use crate::{
        event::Sighting,
        measure::makers::{ms, ok_by, refused},
        scenario::{CordonNode, CrashNode, DeletePod, DrainNode, Injection, IsolateNode, KillProcess, ResetConnections},
    };

    fn missing(spec: FaultSpec, change: impl FnOnce(&mut TrialHistory)) -> Vec<String> {
        let mut trial = clean();
        trial.plan.scenario.faults = vec![spec.into()];
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
    fn what_another_fault_breaks_is_no_proof_of_a_reset() {
        let reset = |change: &dyn Fn(&mut TrialHistory)| {
            let missing = missing(FaultSpec::ResetConnections(ResetConnections {}), |trial| change(trial));
            missing.into_iter().find(|text| text.contains("write"))
        };
        assert_eq!(reset(&|_| {}), None, "two writes broke off after the call");
        let next = |trial: &mut TrialHistory| {
            trial.plan.scenario.faults.push(FaultSpec::DeletePod(DeletePod::default()).into());
            trial.faults.push(FaultHistory { called: Some(ms(199)), ..FaultHistory::default() });
        };
        assert_eq!(reset(&next).as_deref(), Some("`resetConnections` (fault 1): no write broke off"));
        let before = |trial: &mut TrialHistory| trial.attempts.push(refused(7, 110, 111));
        assert_eq!(reset(&before).as_deref(), Some("`resetConnections`: writes broke off before it, and not many more after it"));
        // What failed while the fault before it was in force is that one's.
        let undone = |trial: &mut TrialHistory| {
            before(trial);
            trial.restorings.push((0, ms(120), "mend".into()));
        };
        assert_eq!(reset(&undone), None);
    }

    #[test]
    fn a_node_that_is_cut_off_serves_nobody() {
        let missing = |change: &dyn Fn(&mut TrialHistory)| {
            let all = missing(FaultSpec::IsolateNode(IsolateNode::default()), |trial| {
                trial.restorings.push((0, ms(390), "mend".into()));
                change(trial);
            });
            all.into_iter().find(|text| text.contains("write"))
        };
        assert_eq!(missing(&|_| {}), None, "two writes were missed");
        let served = |life: Option<&'static str>| {
            missing(&|trial| {
                let mut taken = ok_by(life.unwrap_or_default(), 9, 250, 251);
                if life.is_none() {
                    taken.run.as_mut().unwrap().incarnation = None;
                }
                trial.attempts.push(taken);
            })
        };
        assert_eq!(served(Some("b")), None, "it has moved meanwhile");
        for life in [Some("a"), None] {
            assert_eq!(served(life).as_deref(), Some("`isolateNode`: the server took writes while its node was cut off"));
        }
        let nobody_missed = missing(&|trial| trial.attempts.retain(|attempt| !(2..4).contains(&attempt.number)));
        assert_eq!(nobody_missed.as_deref(), Some("`isolateNode`: no write was missed while the node was cut off"));
        // One that waited until the node was back was missed meanwhile.
        let waited = missing(&|trial| {
            trial.attempts.retain(|attempt| !(2..4).contains(&attempt.number));
            trial.attempts.push(ok_by("a", 9, 250, 395));
        });
        assert_eq!(waited, None);
        let never_seen = missing(&|trial| trial.faults[0].confirmed = None);
        assert_eq!(never_seen.as_deref(), Some("`isolateNode`: no write was missed while the node was cut off"));
        let of_the_next = missing(&|trial| {
            trial.plan.scenario.faults.push(FaultSpec::DeletePod(DeletePod::default()).into());
            trial.faults.push(FaultHistory { called: Some(ms(199)), ..FaultHistory::default() });
        });
        assert_eq!(of_the_next.as_deref(), Some("`isolateNode` (fault 1): no write was missed while the node was cut off"));
    }

    #[test]
    fn a_fault_that_is_to_come_during_another_is_called_before_the_end_of_it() {
        let called = |restored: u64| {
            let mut trial = clean();
            let delete = Injection { during: Some("cordonNode".into()), ..FaultSpec::DeletePod(DeletePod::default()).into() };
            trial.plan.scenario.faults = vec![FaultSpec::CordonNode(CordonNode::default()).into(), delete];
            trial.faults.insert(0, FaultHistory { called: Some(ms(100)), ..FaultHistory::default() });
            trial.restorings.push((0, ms(restored), "uncordon".into()));
            proof(&trial).missing.iter().any(|text| text.contains("was over when it was called"))
        };
        assert!(called(140) && !called(400));
    }

    #[test]
    fn a_fault_that_did_nothing_is_never_proven() {
        for spec in [
            FaultSpec::KillProcess(KillProcess::default()),
            FaultSpec::DeletePod(DeletePod::default()),
            FaultSpec::DrainNode(DrainNode::default()),
            FaultSpec::CrashNode(CrashNode::default()),
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
    fn a_crash_needs_a_node_that_was_seen_to_be_lost() {
        use crate::event::Moment;
        let spec = || FaultSpec::CrashNode(CrashNode::default());
        let lost = ["`crashNode`: the node was not seen to be lost after it was switched off"];
        let node = |name: &str, ready| Sighting::Node { name: name.into(), ready, unschedulable: false };
        let seen = |sightings: Vec<(u64, Sighting)>| {
            missing(spec(), |trial| trial.sightings = sightings.into_iter().map(|(at, one)| (Moment(at * 1_000_000), one)).collect())
        };
        assert_eq!(seen(vec![(0, node("worker-1", true)), (160, node("worker-1", false))]), [""; 0]);
        assert_eq!(seen(vec![(0, node("worker-1", true)), (160, Sighting::NodeGone { name: "worker-1".into() })]), [""; 0]);
        assert_eq!(seen(vec![(0, node("worker-1", true)), (160, node("worker-2", false))]), lost, "another node");
        assert_eq!(seen(vec![(0, node("worker-1", true))]), lost, "it stayed ready");
        assert_eq!(seen(vec![(0, node("worker-1", false)), (160, node("worker-1", false))]), lost, "it was lost before");
        assert_eq!(
            seen(vec![(0, node("worker-1", true)), (100, node("worker-1", false)), (160, node("worker-1", true))]),
            lost,
            "before the call"
        );
    }

    #[test]
    fn a_pod_that_outlived_its_node_shows_by_its_container() {
        use crate::event::Moment;
        let spec = FaultSpec::CrashNode(CrashNode::default());
        let lost = |trial: &mut TrialHistory| {
            let node = |ready| Sighting::Node { name: "worker-1".into(), ready, unschedulable: false };
            trial.sightings = vec![(Moment(0), node(true)), (Moment(160_000_000), node(false))];
        };
        let same_pod = |trial: &mut TrialHistory, container: &str| {
            lost(trial);
            let container = container.to_owned();
            set(trial, |snapshot| snapshot.pod = Answer::Known(a_pod("mssql-1", "worker-1", &container)));
        };
        assert_eq!(missing(spec.clone(), |trial| same_pod(trial, "container-1b")), [""; 0]);
        assert_eq!(missing(spec, |trial| same_pod(trial, "container-1")), ["`crashNode`: neither the pod nor its container was replaced"]);
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
        trial.plan.scenario.faults =
            vec![FaultSpec::KillProcess(KillProcess::default()).into(), FaultSpec::DeletePod(DeletePod::default()).into()];
        trial.faults = vec![fault(a_pod("mssql-1", "worker-1", "container-1")), fault(a_pod("mssql-1", "worker-1", "container-1"))];
        assert_eq!(proof(&trial).missing, ["`killProcess` (fault 1): no container was started anew"]);
        trial.faults[1] = fault(a_pod("mssql-1", "worker-1", "container-1b"));
        assert_eq!(proof(&trial).missing, [""; 0]);
    }

    #[test]
    fn a_fault_that_came_when_the_database_had_recovered_did_not_come_while_it_did() {
        use crate::event::Moment;
        let mut trial = clean();
        let kill = || FaultSpec::KillProcess(KillProcess::default()).into();
        trial.plan.scenario.faults = vec![kill(), Injection { after: Some(After::Seen(Cue::Recovering)), ..kill() }];
        trial.faults = vec![fault(a_pod("mssql-1", "worker-1", "container-1")), fault(a_pod("mssql-1", "worker-1", "container-1b"))];
        let called_at = |trial: &mut TrialHistory, at: u64| {
            trial.faults[1].called = Some(Moment(at * 1_000_000));
            proof(trial).missing
        };
        assert_eq!(called_at(&mut trial, 350), [""; 0], "two writes were refused, and the next good one is answered at 410 ms");
        let late = ["`killProcess` (fault 2): the database had recovered from the fault before when it was called"];
        assert_eq!(called_at(&mut trial, 411), late);
        assert_eq!(called_at(&mut trial, 900), late);
        let unknown = ["`killProcess` (fault 2): nothing shows that the database was away when it was called"];
        assert_eq!(called_at(&mut trial, 180), unknown, "no write was tried in between");
        // A server that does not tell its life: what it took counts from the end of the one before.
        trial.faults[0].victim.as_mut().unwrap().life = None;
        assert_eq!(called_at(&mut trial, 350), [""; 0]);
        assert_eq!(called_at(&mut trial, 900), late);
    }

    #[test]
    fn a_database_that_moved_away_and_back_did_move() {
        let mut trial = clean();
        trial.plan.scenario.faults =
            vec![FaultSpec::DeletePod(DeletePod::default()).into(), FaultSpec::DrainNode(DrainNode::default()).into()];
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
