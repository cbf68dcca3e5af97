//! One driver for both places: the fault as the product injects it, what goes on beside the recovery, and the undo.

use std::time::Duration;

use comeback::{
    cluster::watch::Watches,
    event::PodFacts,
    fault::{Consent, EFFECT_DEADLINE, Fault as _, Journal, Scene, aftermath},
    scenario::{Assist, CrashNode, DeletePod, DrainNode, FaultSpec, KillProcess, TargetShape},
};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    bed::Bed,
    recorder::{Recorder, Sight},
};

/// How long a dead node may take to be noticed, and its pod to be marked.
const NOTICE: Duration = Duration::from_mins(2);
/// How long the database may take to come back.
const BACK: Duration = Duration::from_mins(2);
/// How long the cluster may take to become quiet.
const QUIET: Duration = Duration::from_mins(3);

/// What is done to which shape.
pub(crate) struct Story {
    /// Its name, and that of its golden file.
    pub(crate) name: &'static str,
    pub(crate) shape: TargetShape,
    pub(crate) fault: fn() -> FaultSpec,
}

/// Every scenario, on both shapes.
pub(crate) const STORIES: [Story; 8] = [
    Story { name: "delete-pod-deployment", shape: TargetShape::Deployment, fault: delete_pod },
    Story { name: "delete-pod-stateful-set", shape: TargetShape::StatefulSet, fault: delete_pod },
    Story { name: "drain-node-deployment", shape: TargetShape::Deployment, fault: drain_node },
    Story { name: "drain-node-stateful-set", shape: TargetShape::StatefulSet, fault: drain_node },
    Story { name: "kill-process-deployment", shape: TargetShape::Deployment, fault: kill_process },
    Story { name: "kill-process-stateful-set", shape: TargetShape::StatefulSet, fault: kill_process },
    Story { name: "crash-node-deployment", shape: TargetShape::Deployment, fault: crash_node },
    Story { name: "crash-node-stateful-set", shape: TargetShape::StatefulSet, fault: crash_node_with_taint },
];

fn delete_pod() -> FaultSpec {
    FaultSpec::DeletePod(DeletePod::default())
}

fn drain_node() -> FaultSpec {
    FaultSpec::DrainNode(DrainNode::default())
}

fn kill_process() -> FaultSpec {
    FaultSpec::KillProcess(KillProcess::default())
}

fn crash_node() -> FaultSpec {
    FaultSpec::CrashNode(CrashNode::default())
}

fn crash_node_with_taint() -> FaultSpec {
    FaultSpec::CrashNode(CrashNode { assist: Assist::OutOfServiceTaint, ..CrashNode::default() })
}

/// Tells the story once, on a fresh pod, and returns what was seen from before it until it was quiet again.
pub(crate) async fn tell(story: &Story, bed: &Bed) -> Vec<Sight> {
    let mut recorder = Recorder::start(bed).await;
    recorder.quiet(bed.quiet, QUIET).await;
    let (sightings, mut seen) = mpsc::channel(64);
    let drained = tokio::spawn(async move { while seen.recv().await.is_some() {} });
    let watches = Watches::start(&bed.cluster, sightings);
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::create(&folder.path().join("journal.ndjson")).expect("a journal");
    let stop = CancellationToken::new();
    let consent = Consent::default();
    let scene = Scene {
        cluster: &bed.cluster,
        platform: &bed.platform,
        watches: &watches,
        stop: &stop,
        consent: &consent,
        lasting: Duration::ZERO,
        patience: EFFECT_DEADLINE,
    };

    let done = break_and_mend(story, &scene, &journal).await;
    // Also when it failed: the cluster may be shared.
    let mut left = Vec::new();
    for entry in journal.pending() {
        if let Err(error) = entry.undo.perform(&bed.cluster, &bed.platform).await {
            left.push(format!("{}: {error}", entry.undo));
        }
    }
    assert!(left.is_empty(), "{}: left in place: {left:?}", story.name);
    let old = done.unwrap_or_else(|error| panic!("{}: {error}", story.name));
    back(story, &watches, &old).await.unwrap_or_else(|error| panic!("{}: {error}", story.name));
    recorder.quiet(bed.quiet, QUIET).await;
    drop(watches);
    drained.await.expect("nobody panics");
    recorder.stop().await
}

async fn break_and_mend(story: &Story, scene: &Scene<'_>, journal: &Journal) -> Result<PodFacts, String> {
    let say = |error: &dyn std::error::Error| comeback::cluster::chain(error);
    let fault = (story.fault)();
    let ready = |pods: &comeback::cluster::View| pods.ready_pod().map(|_| ());
    scene.watches.wait_until("a pod that is ready", BACK, ready).await.map_err(|error| say(&error))?;
    let aim = fault.aim(scene).await.map_err(|error| say(&error))?;
    for undo in &aim.undo {
        journal.begin(1, 0, undo.clone()).await.map_err(|error| say(&error))?;
    }
    fault.inject(scene, &aim).await.map_err(|error| say(&error))?;
    fault.confirm(scene, &aim).await.ok_or("the fault had no effect")?;
    let old = aim.pod;
    if let Some(after) = fault.aftermath(scene.platform.name(), Duration::ZERO) {
        let hangs =
            scene.watches.wait_until("the pod on the dead node to be marked", NOTICE, |view| aftermath::hangs(view, &old).then_some(()));
        hangs.await.map_err(|error| say(&error))?;
        aftermath::assist(scene, journal, (1, 0), &old, after.assist).await.map_err(|error| say(&error))?;
    }
    back(story, scene.watches, &old).await?;
    Ok(old)
}

/// Waits until the database is back, in another life.
async fn back(story: &Story, watches: &Watches, old: &PodFacts) -> Result<(), String> {
    let seen = watches.wait_until("the database in another life", BACK, |view| {
        let ready = view.ready_pod()?;
        (ready.uid != old.uid || ready.restart_count > old.restart_count).then_some(())
    });
    seen.await.map_err(|error| format!("{}: {error}", story.name))
}

/// The pods of the target that are there now.
pub(crate) async fn pods(bed: &Bed) -> Vec<Pod> {
    bed.cluster.pods().await.expect("the cluster answers")
}
