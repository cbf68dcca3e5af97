//! Every fault, by a run that is killed as soon as it has injected it: what stands in the cluster is enough to put all of it right.

use std::time::Duration;

use comeback::{
    cluster::Cluster,
    event::Fact,
    fault::{
        Consent, EFFECT_DEADLINE, Fault as _, Journal, Mirror, Scene,
        heal::{HealError, Options, heal},
    },
    platform::Hurt,
    scenario::{FaultSpec, Level},
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Service},
};
use kube::api::ListParams;
use rstest::rstest;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::bed::{Bed, UP_DEADLINE};

/// How long the cluster may take to answer who heals: a stopped API server starts by itself a minute after it was to be started.
const HEAL_WITHIN: Duration = Duration::from_mins(3);

/// What must be as before: of each node whether it takes pods, whether it is ready, and its taints; where the service leads; how many pods are wanted.
async fn state(cluster: &Cluster) -> Vec<String> {
    let nodes = cluster.all::<Node>().list(&ListParams::default()).await.expect("the nodes can be listed");
    let mut all: Vec<String> = nodes
        .items
        .iter()
        .map(|node| {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            let spec = node.spec.clone().unwrap_or_default();
            let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let ready = conditions.filter(|condition| condition.type_ == "Ready").map(|condition| condition.status.as_str()).next();
            format!(
                "{name}: unschedulable {:?}, ready {ready:?}, taints {:?}",
                spec.unschedulable.unwrap_or_default(),
                spec.taints.unwrap_or_default()
            )
        })
        .collect();
    let service = cluster.namespaced::<Service>().get(&cluster.target.service).await.expect("the service is there");
    all.push(format!("selector {:?}", service.spec.and_then(|spec| spec.selector)));
    let workload = cluster.namespaced::<Deployment>().list(&ListParams::default()).await.expect("the workload is there");
    all.extend(workload.items.iter().map(|one| format!("replicas {:?}", one.spec.as_ref().and_then(|spec| spec.replicas))));
    all
}

async fn until_as_before(fault: &FaultSpec, cluster: &Cluster, before: &[String]) {
    let end = Instant::now() + UP_DEADLINE;
    loop {
        let now = state(cluster).await;
        if now == before {
            return;
        }
        assert!(Instant::now() < end, "`{}` left the cluster different:\n{before:#?}\n{now:#?}", fault.name());
        sleep(Duration::from_millis(100)).await;
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_a_killed_run_everything_is_put_right(
    #[values(Level::Process, Level::Container, Level::Pod, Level::Node, Level::Network, Level::Storage, Level::ControlPlane)] level: Level,
) {
    let bed = Bed::with_database(&[]).await;
    let (cluster, platform) = (&bed.cluster, &bed.platform);
    let faults: Vec<FaultSpec> = FaultSpec::all().into_iter().filter(|fault| fault.level() == level).collect();
    assert!(!faults.is_empty());
    for fault in &faults {
        bed.database_is_up().await;
        let before = state(cluster).await;
        let whole = killed(fault, &bed).await;

        let end = Instant::now() + HEAL_WITHIN;
        let healed = loop {
            match heal(cluster, platform, &Options::default(), &|_| {}).await {
                Ok(healed) => break healed,
                Err(error @ HealError::Alive { .. }) => panic!("nobody is at work: {error}"),
                Err(error) => assert!(Instant::now() < end, "`{}` cannot be healed: {error}", fault.name()),
            }
            sleep(Duration::from_millis(200)).await;
        };
        assert!(healed.failed.is_empty(), "`{}`: {healed:?}", fault.name());
        assert!(Mirror::all(cluster).await.expect("a list").is_empty(), "`{}` leaves its journal", fault.name());
        // At once, and not when it would have mended by itself.
        if let Some((hurt, facts)) = whole {
            let now = platform.look(&hurt).await.expect("the sandbox answers");
            let left: Vec<_> = now.iter().filter(|fact| !hurt.is_whole(&fact.value)).collect();
            assert!(left.is_empty(), "`{}` is not whole again: {left:?}, before {facts:?}", fault.name());
        }
        until_as_before(fault, cluster, &before).await;
    }
    bed.sandbox.stop().await;
}

/// A run that writes down what it will do, does it, and is not there any more.
async fn killed(fault: &FaultSpec, bed: &Bed) -> Option<(Hurt, Vec<Fact>)> {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::create(&folder.path().join("journal.ndjson")).expect("a journal");
    journal.keep_in(&bed.cluster, &format!("killed-{}", fault.name().to_lowercase())).await;
    let (watches, _changes) = bed.watches().await;
    let stop = CancellationToken::new();
    let consent = Consent { bystanders: true, max_nodes: 1 };
    let scene = Scene {
        cluster: &bed.cluster,
        platform: &bed.platform,
        watches: &watches,
        stop: &stop,
        consent: &consent,
        lasting: Duration::from_secs(5),
        patience: EFFECT_DEADLINE,
    };
    let aim = bed.aim(fault, &scene).await;
    let facts = fault.witness(&scene, &aim).await.expect("its victim can be looked at");
    for undo in &aim.undo {
        journal.begin(1, 0, undo.clone()).await.expect("the journal can be written");
    }
    fault.inject(&scene, &aim).await.unwrap_or_else(|error| panic!("`{}` can be injected: {error}", fault.name()));
    aim.hurt.map(|hurt| (hurt, facts))
}
