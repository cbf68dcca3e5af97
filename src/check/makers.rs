//! A trial in which all is well, and small ways of altering it, so that a test reads as what is wrong.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use chrono::DateTime;

use crate::{
    event::{
        Answer, Incarnation, LedgerEntry, Outcome, PlannedTrial, PodFacts, ReadBack, SeqSet, ServiceFacts, Settings, Side, Sighting,
        Snapshot, Step, TableRead, TrialEnd, Undone, Victim, VolumeFacts,
    },
    measure::{
        FaultHistory, Ledger, TrialHistory,
        makers::{ms, ok, ok_by, refused},
    },
    scenario::{DeletePod, Expect, FaultSpec, Load, Probe, Scenario, TargetShape},
};

pub(super) fn a_pod(name: &str, node: &str, container: &str) -> PodFacts {
    PodFacts {
        name: name.into(),
        uid: format!("uid of {name}"),
        node: Some(node.into()),
        phase: "Running".into(),
        terminating: false,
        ready: true,
        container_id: Some(container.into()),
        restart_count: 0,
        running: true,
        last_end: None,
    }
}

fn snapshot(pod: PodFacts, life: &str) -> Snapshot {
    Snapshot {
        pod: Answer::Known(pod),
        service: Answer::Known(ServiceFacts { uid: "service".into(), cluster_ip: "10.0.0.1".into(), port: 1433 }),
        volume: Answer::Known(VolumeFacts {
            claim: "mssql-data".into(),
            claim_uid: "claim".into(),
            volume: "pv-1".into(),
            volume_uid: "volume".into(),
        }),
        server_start: Answer::Known(life.into()),
        volume_mark: Answer::Known(Some("mark".into())),
    }
}

/// A trial of `deletePod` that went well: writer 1 wrote sequence numbers 0 to 15, the probe attempts 0 to 6, of which 2 were refused for
/// 200 ms; the server of the life `a` was followed by that of the life `b`, on another node.
pub(super) fn clean() -> TrialHistory {
    let attempts = vec![
        ok(0, 0, 5),
        ok(1, 100, 105),
        refused(2, 200, 201),
        refused(3, 300, 301),
        ok_by("b", 4, 400, 410),
        ok_by("b", 5, 500, 505),
        ok_by("b", 6, 600, 605),
    ];
    let mut ledger = Ledger::default();
    for attempt in &attempts {
        ledger.enter_attempt(attempt);
    }
    let life = |life: &str| Some(Incarnation(life.into()));
    ledger.enter(&LedgerEntry { writer: 1, from: 0, to: 9, outcome: Outcome::Acknowledged, incarnation: life("a"), error: None });
    ledger.enter(&LedgerEntry { writer: 1, from: 10, to: 15, outcome: Outcome::Acknowledged, incarnation: life("b"), error: None });
    let table = |table: &str, probe: &[u64], rows: u64| {
        let found = BTreeMap::from([(0, probe.iter().copied().collect()), (1, (0..rows).collect())]);
        TableRead { table: table.into(), rows: rows + probe.len() as u64, found, ..TableRead::default() }
    };
    let both = |probe: &[u64], rows| vec![table("keyed", probe, rows), table("heap", probe, rows)];
    let scenario = Scenario {
        version: 1,
        name: "delete-pod".into(),
        about: None,
        tags: Vec::new(),
        target: TargetShape::Deployment,
        load: Load::default(),
        probe: Probe::default(),
        faults: vec![FaultSpec::DeletePod(DeletePod::default()).into()],
        expect: Expect::default(),
        repeat: NonZeroU32::MIN,
        steady_for: None,
        stable_for: None,
        give_up_after: None,
    };
    let settings = Settings {
        steady_for: Duration::from_millis(200),
        stable_for: Duration::from_millis(200),
        give_up_after: Duration::from_secs(30),
        recovery_within: None,
        lasting: Duration::from_secs(2),
    };
    TrialHistory {
        plan: PlannedTrial { path: "scenarios/delete-pod.yaml".into(), scenario, number: 1, settings },
        skipped: None,
        started: Some((DateTime::UNIX_EPOCH, ms(0))),
        end: Some((TrialEnd::Completed, ms(1_000))),
        step: None,
        snapshots: BTreeMap::from([
            (Side::Before, snapshot(a_pod("mssql-1", "worker-1", "container-1"), "a")),
            (Side::After, snapshot(a_pod("mssql-2", "worker-2", "container-2"), "b")),
        ]),
        ledger,
        reads: BTreeMap::from([(Side::Before, both(&[], 5)), (Side::After, both(&[0, 1, 4, 5, 6], 16))]),
        read_errors: BTreeMap::new(),
        attempts,
        faults: vec![fault(a_pod("mssql-1", "worker-1", "container-1"))],
        assists: Vec::new(),
        restorings: Vec::new(),
        foreseen: Vec::new(),
        hindrances: Vec::new(),
        read_backs: vec![ReadBack { number: 4, started: ms(411), ended: ms(415), found: true }],
        clocks: BTreeMap::new(),
        sightings: vec![(ms(160), Sighting::Node { name: "worker-1".into(), ready: true, unschedulable: true })],
        undone: BTreeMap::from([(0, Undone { entry: 0, what: "uncordon node `worker-1`".into(), error: None })]),
        stable: BTreeMap::from([(Step::SteadyState, true), (Step::Recovery, true), (Step::AfterUndo, true)]),
        settled: Some(Answer::Known(())),
        errors: Vec::new(),
    }
}

/// A fault that was aimed at this pod, called and seen.
pub(super) fn fault(pod: PodFacts) -> FaultHistory {
    let victim =
        Victim { what: format!("pod `{}`", pod.name), mechanism: "by hand".into(), pod, node: None, life: Some(Incarnation("a".into())) };
    FaultHistory {
        victim: Some(victim),
        called: Some(ms(150)),
        confirmed: Some((ms(170), "the pod is gone".into())),
        ..FaultHistory::default()
    }
}

/// Takes away all that the fault did: the server of the life `a` answered all the time.
pub(super) fn quieten(trial: &mut TrialHistory) {
    let before = trial.snapshots[&Side::Before].clone();
    trial.snapshots.insert(Side::After, before);
    trial.attempts.retain(|attempt| attempt.number < 2);
    for writer in trial.ledger.writers.values_mut() {
        writer.refused = SeqSet::default();
    }
}

/// Enters a write with this outcome.
pub(super) fn write(trial: &mut TrialHistory, writer: u32, seq: u64, outcome: Outcome) {
    trial.ledger.enter(&LedgerEntry { writer, from: seq, to: seq, outcome, incarnation: None, error: None });
}

/// Makes the final read of a table find a row.
pub(super) fn find(trial: &mut TrialHistory, table: usize, writer: u32, seq: u64) {
    trial.reads.get_mut(&Side::After).unwrap()[table].found.entry(writer).or_default().insert(seq);
}

/// Makes the final read of a table miss a row.
pub(super) fn forget(trial: &mut TrialHistory, table: usize, writer: u32, seq: u64) {
    let found = trial.reads.get_mut(&Side::After).unwrap()[table].found.get_mut(&writer).unwrap();
    *found = found.difference(&[seq].into_iter().collect());
}
