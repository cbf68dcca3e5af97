//! What is seen of the target before anything is broken.

use std::time::Duration;

use comeback::{
    cluster::{
        warnings::{Warning, warnings},
        watch::Watches,
    },
    deploy::Workload,
    workload::Password,
};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::mpsc;

use crate::bed::Bed;

const START: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn our_own_workload_is_warned_of_nothing_and_what_is_wrong_with_it_is_named() {
    let bed = Bed::make().await;
    Workload::stand_in("run-1", Password::new("Abc12345!".into()), []).apply(&bed.cluster).await.expect("it can be put up");
    let (sender, mut sightings) = mpsc::channel(64);
    tokio::spawn(async move { while sightings.recv().await.is_some() {} });
    let watches = Watches::start(&bed.cluster, sender);
    let first = watches.wait_until("a ready pod", START, |view| view.ready_pod().map(|pod| pod.uid.clone())).await.expect("it starts");
    assert_eq!(warnings(&bed.cluster).await, []);

    // As the guide has it: no probe, and the default strategy.
    let params = PatchParams::default();
    let container = json!({"name": "mssql", "readinessProbe": null});
    let deployments = bed.cluster.namespaced::<Deployment>();
    let guide = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
    deployments.patch("mssql", &params, &Patch::Strategic(&guide)).await.expect("it can be changed");
    let other = |view: &comeback::cluster::View| view.ready_pod().filter(|pod| pod.uid != first).map(|_| ());
    watches.wait_until("a new pod", START, other).await.expect("it is rolled out");
    // Not before: a new pod that is rolled out beside the old one never gets its volume.
    let rolling = Patch::Merge(json!({"spec": {"strategy": {"type": "RollingUpdate"}}}));
    deployments.patch("mssql", &params, &rolling).await.expect("it can be changed");
    let selector = Patch::Merge(json!({"spec": {"selector": {"app": "nobody"}}}));
    bed.cluster.namespaced::<Service>().patch("mssql", &params, &selector).await.expect("it can be changed");
    let found = warnings(&bed.cluster).await;
    assert_eq!(
        found,
        [
            Warning::ServiceWithoutPods { service: "mssql".into(), selector: "app=nobody".into() },
            Warning::NoReadinessProbe { container: "mssql".into() },
            Warning::RollingUpdate { deployment: "mssql".into(), claim: "mssql-data".into() },
        ]
    );
    assert!(found[0].dooms_all() && !found[1].dooms_all());
    bed.sandbox.stop().await;
}
