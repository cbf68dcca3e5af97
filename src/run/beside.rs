//! What goes on beside a recovery: a node that is started again after a while, help for a pod that hangs on a dead one.
//!
//! It begins when a fault was injected and ends with the recovery. A call that was sent is waited for all the same, so that what it does is
//! done before its undo.
//!
//! The two take turns: help that was begun stands in the journal before the node is started, and none is begun for a node that was started in
//! the meantime. Otherwise a taint would be set after its undo, or a pod be deleted by force while its server runs again.

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::{Mutex, mpsc},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{Recorder, undo};
use crate::{
    cluster::{chain, lease::RunLease},
    event::{Assisted, EventKind, Witness, WitnessTime},
    fault::{
        Aim, Entry, Fault as _, Journal, Scene,
        aftermath::{self, Aftermath},
    },
    scenario::{Assist, FaultSpec},
};

/// A fault that was injected, and what goes on after it.
pub(super) struct Followed {
    /// Which fault of the scenario.
    pub(super) index: usize,
    /// The fault itself, and what it was aimed at.
    pub(super) fault: FaultSpec,
    /// See [`Self::fault`].
    pub(super) aim: Aim,
    /// What goes on.
    pub(super) aftermath: Aftermath,
    /// Is cancelled when what it did was undone, or could not be, or nobody waits for that any more.
    pub(super) lifted: CancellationToken,
    /// When it was called.
    pub(super) called: Instant,
}

/// What goes on beside the recovery of a trial. It ends when its scene is told to stop.
pub(super) struct Beside<'a> {
    pub(super) scene: Scene<'a>,
    pub(super) recorder: &'a Recorder,
    pub(super) journal: &'a Journal,
    pub(super) lease: &'a RunLease,
    pub(super) trial: u32,
}

impl Beside<'_> {
    /// Follows each fault that is sent, until the sender is gone and all has ended. Returns whether something was undone.
    pub(super) async fn follow(&self, mut queue: mpsc::UnboundedReceiver<Followed>) -> bool {
        let turn = Mutex::new(());
        let (mut going, mut open, mut undone) = (FuturesUnordered::new(), true, false);
        while open || !going.is_empty() {
            tokio::select! {
                next = queue.recv(), if open => match next {
                    Some(followed) => going.push(self.follow_one(followed, &turn)),
                    None => open = false,
                },
                Some(restored) = going.next(), if !going.is_empty() => undone |= restored,
            }
        }
        undone
    }

    async fn follow_one(&self, followed: Followed, turn: &Mutex<()>) -> bool {
        tokio::join!(self.restore(&followed, turn), self.assist(&followed, turn)).0
    }

    /// Undoes what the fault did to its node when the time has come, whether or not the database is back.
    async fn restore(&self, followed: &Followed, turn: &Mutex<()>) -> bool {
        let _lifted = followed.lifted.clone().drop_guard();
        let Some(after) = followed.aftermath.restore_after else { return false };
        if self.scene.stop.run_until_cancelled(sleep_until(followed.called + after)).await.is_none() {
            return false;
        }
        let Some(_turn) = self.scene.stop.run_until_cancelled(turn.lock()).await else { return false };
        let ours = |entry: &Entry| entry.trial == self.trial && entry.fault == followed.index;
        let entries: Vec<Entry> = self.journal.pending().into_iter().filter(ours).collect();
        if entries.is_empty() {
            return false;
        }
        // What it did until now is the evidence: packets are dropped only when somebody sends some.
        self.witness(followed, WitnessTime::During).await;
        for entry in &entries {
            self.say(EventKind::Restoring(followed.index, entry.undo.to_string())).await;
            undo::undo(self.scene.cluster, self.scene.platform, self.recorder, self.journal, entry).await;
        }
        self.witness(followed, WitnessTime::After).await;
        true
    }

    /// Looks at what the fault hits. What cannot be looked at is not evidence.
    async fn witness(&self, followed: &Followed, at: WitnessTime) {
        if let Ok(facts) = followed.fault.witness(&self.scene, &followed.aim).await
            && !facts.is_empty()
        {
            self.say(EventKind::Witnessed(followed.index, Witness { at, facts })).await;
        }
    }

    /// Helps the pod, once, when it is seen to hang on its dead node.
    async fn assist(&self, followed: &Followed, turn: &Mutex<()>) {
        let Followed { index, aftermath: Aftermath { assist, .. }, aim: Aim { pod, .. }, .. } = followed;
        if *assist == Assist::None {
            return;
        }
        let hangs = self.scene.watches.wait_for(|view| aftermath::hangs(view, pod));
        if self.scene.stop.run_until_cancelled(hangs).await.is_none() {
            return;
        }
        // The power is asked for only when it is our turn: by then the node may have been started.
        let Some(_turn) = self.scene.stop.run_until_cancelled(turn.lock()).await else { return };
        // The trial says so in the end.
        if self.lease.lost().is_some() {
            return;
        }
        match aftermath::assist(&self.scene, self.journal, (self.trial, *index), pod, *assist).await {
            Ok(Some(what)) => self.say(EventKind::Assisted(*index, Assisted { assist: *assist, what })).await,
            Ok(None) => {}
            // What the recovery would have needed it did not get: its length says nothing.
            Err(error) => self.say(EventKind::TrialError(format!("could not assist with `{}`: {}", assist.name(), chain(&error)))).await,
        }
    }

    async fn say(&self, event: EventKind) {
        self.recorder.record(Some(self.trial), event).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use super::*;
    use crate::{
        cluster::{Cluster, fake, watch::Watches},
        event::{Clock, PodFacts},
        fault::{Consent, EFFECT_DEADLINE, Undo},
        platform::{Platform, SandboxPlatform},
        scenario::CrashNode,
    };
    use axum::{
        Json, Router,
        extract::RawQuery,
        routing::{any, get},
    };
    use serde_json::{Value, json};

    /// A dead node, and a pod that hangs on it.
    #[derive(Clone, Default)]
    struct Dead {
        on: Arc<AtomicBool>,
        asked: Arc<AtomicUsize>,
        changed: Arc<AtomicUsize>,
    }

    impl Dead {
        async fn cluster(&self) -> Cluster {
            let Self { on, asked, changed } = self.clone();
            let power = move || async move {
                asked.fetch_add(1, Ordering::SeqCst);
                Json(json!({"state": if on.load(Ordering::SeqCst) { "on" } else { "off" }}))
            };
            let pods = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": [{
                "metadata": {"name": "mssql-0", "uid": "u", "labels": {"app": "mssql"}, "deletionTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"nodeName": "w1", "containers": []}, "status": {"phase": "Running"},
            }]});
            let nodes = json!({"kind": "NodeList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []});
            let node = json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "w1", "uid": "n"}, "spec": {}});
            let change = move || async move {
                changed.fetch_add(1, Ordering::SeqCst);
                Json(json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "w1"}}))
            };
            let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "comeback-run"}});
            let free = get(move || async move { Json(lease) });
            let router = Router::new()
                .route("/comeback/v1/nodes/w1/power", get(power))
                .route("/api/v1/nodes/w1", any(change).get(move || async move { Json(node) }))
                .route("/api/v1/namespaces/db/pods", get(move |query| list(query, pods)))
                .route("/api/v1/nodes", get(move |query| list(query, nodes)))
                .route(
                    "/apis/coordination.k8s.io/v1/namespaces/db/leases/comeback-run",
                    free.put(|lease: Json<Value>| async move { lease }),
                );
            fake::cluster(router).await
        }
    }

    /// A list, and of what changes after it nothing.
    async fn list(RawQuery(query): RawQuery, list: Value) -> Json<Value> {
        if query.is_some_and(|query| query.contains("watch=")) {
            std::future::pending::<()>().await;
        }
        Json(list)
    }

    fn followed(assist: Assist) -> Followed {
        let pod = PodFacts {
            name: "mssql-0".into(),
            uid: "u".into(),
            node: Some("w1".into()),
            phase: "Running".into(),
            terminating: false,
            ready: false,
            container_id: None,
            restart_count: 0,
            running: true,
            last_end: None,
        };
        let aim = Aim {
            what: String::new(),
            mechanism: String::new(),
            pod,
            node: Some("w1".into()),
            way: None,
            hurt: None,
            boot: None,
            undo: Vec::new(),
        };
        let fault = FaultSpec::CrashNode(CrashNode::default());
        let aftermath = Aftermath { restore_after: Some(Duration::ZERO), assist };
        Followed { index: 0, fault, aim, aftermath, lifted: CancellationToken::new(), called: Instant::now() }
    }

    /// What both work with, on that cluster.
    struct Bed {
        cluster: Cluster,
        platform: Platform,
        watches: Watches,
        stop: CancellationToken,
        recorder: Recorder,
        journal: Journal,
        lease: RunLease,
    }

    impl Bed {
        async fn make(dead: &Dead) -> Self {
            let cluster = dead.cluster().await;
            let platform = Platform::Sandbox(SandboxPlatform::new(cluster.clone()));
            let (sender, mut sightings) = mpsc::channel(16);
            tokio::spawn(async move { while sightings.recv().await.is_some() {} });
            let watches = Watches::start(&cluster, sender);
            let folder = tempfile::tempdir().unwrap();
            let (recorder, _) = Recorder::start(Clock::new(), tempfile::tempfile().unwrap());
            let journal = Journal::create(&folder.path().join("journal.ndjson")).unwrap();
            let lease = RunLease::acquire(&cluster, "run-1").await.unwrap();
            Self { cluster, platform, watches, stop: CancellationToken::new(), recorder, journal, lease }
        }

        fn beside(&self) -> Beside<'_> {
            let scene = Scene {
                cluster: &self.cluster,
                platform: &self.platform,
                watches: &self.watches,
                stop: &self.stop,
                consent: &Consent { bystanders: false, max_nodes: 1 },
                lasting: Duration::ZERO,
                patience: EFFECT_DEADLINE,
            };
            Beside { scene, recorder: &self.recorder, journal: &self.journal, lease: &self.lease, trial: 1 }
        }
    }

    #[tokio::test]
    async fn a_node_that_was_started_in_the_meantime_gets_no_help() {
        for assist in [Assist::OutOfServiceTaint, Assist::ForceDelete, Assist::DeleteNode] {
            let dead = Dead::default();
            let bed = Bed::make(&dead).await;
            let (beside, followed, turn) = (bed.beside(), followed(assist), Mutex::new(()));
            let restoring = turn.lock().await;
            let started = async {
                bed.watches.wait_for(|view| aftermath::hangs(view, &followed.aim.pod)).await;
                // As long as it is being started, nobody else asks for its power.
                assert!(bed.platform.power("w1").await.is_ok());
                assert_eq!(dead.asked.load(Ordering::SeqCst), 1);
                dead.on.store(true, Ordering::SeqCst);
                drop(restoring);
            };
            tokio::join!(beside.assist(&followed, &turn), started);
            assert_eq!(dead.asked.load(Ordering::SeqCst), 2, "it was asked again");
            assert_eq!((bed.journal.pending(), dead.changed.load(Ordering::SeqCst)), (vec![], 0));
        }
    }

    #[tokio::test]
    async fn what_help_has_begun_is_undone_with_the_node() {
        let dead = Dead::default();
        let bed = Bed::make(&dead).await;
        let (beside, followed, turn) = (bed.beside(), followed(Assist::OutOfServiceTaint), Mutex::new(()));
        let helping = turn.lock().await;
        let begun = async {
            let undo = Undo::RemoveTaint { node: "w1".into(), key: "k".into(), effect: "NoExecute".into() };
            bed.journal.begin(1, 0, undo).await.unwrap();
            drop(helping);
        };
        let (restored, ()) = tokio::join!(beside.restore(&followed, &turn), begun);
        assert!(restored);
        assert_eq!(bed.journal.pending(), []);
    }
}
