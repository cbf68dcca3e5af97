//! What a run that was killed left is put right from what stands in the cluster.

use std::time::Duration;

use comeback::{
    cluster::lease::{self, LEASE_DURATION, LeaseError, RunLease},
    fault::{
        Fault as _, Mirror,
        heal::{HealError, Options, heal},
    },
    scenario::{CrashNode, DrainNode},
};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use serde_json::json;

use crate::bed::{Bed, NOTICE, Shape, in_bed};

async fn journals(bed: &Bed) -> usize {
    let all = Mirror::all(&bed.cluster).await.expect("the journals can be listed");
    all.iter().filter(|journal| journal.namespace() == bed.cluster.target.namespace).count()
}

#[test]
#[ignore = "needs a kind cluster; switches a worker off for a minute"]
fn a_run_that_was_killed_is_healed() {
    in_bed(Shape::Deployment, async |bed| {
        let run = "dead-run";
        let lease = RunLease::acquire(&bed.cluster, run).await.expect("nobody else is at work");
        bed.journal.keep_in(&bed.cluster, run).await;
        let scene = bed.scene();
        let (drain, crash) = (DrainNode::default(), CrashNode::default());
        let aims = [drain.aim(&scene).await.expect("a victim"), crash.aim(&scene).await.expect("a victim")];
        for undo in aims.iter().flat_map(|aim| &aim.undo) {
            bed.journal.begin(1, 0, undo.clone()).await.expect("the journal can be written");
        }
        crash.inject(&scene, &aims[1]).await.expect("the node can be switched off");
        let prober = json!({
            "metadata": {"name": "prober", "namespace": bed.cluster.target.namespace, "labels": {
                "app.kubernetes.io/managed-by": "comeback", "app.kubernetes.io/component": "prober", "comeback.dev/run": run,
            }},
            "spec": {"containers": [{"name": "c", "image": "comeback.invalid/none", "imagePullPolicy": "Never"}]},
        });
        let prober: Pod = serde_json::from_value(prober).expect("a pod");
        bed.cluster.namespaced::<Pod>().create(&PostParams::default(), &prober).await.expect("a pod can be made");

        let options = Options { runs: vec![run.to_owned()], ..Options::default() };
        let quiet = |_: &str| {};
        // While it is alive, nothing is touched, and no other run begins.
        let refused = heal(&bed.cluster, &bed.platform, &options, &quiet).await;
        assert!(matches!(&refused, Err(HealError::Alive { holder, .. }) if holder.starts_with(run)), "{refused:?}");
        let other = RunLease::acquire(&bed.cluster, "other-run").await;
        assert!(matches!(other, Err(LeaseError::Taken { .. })), "{other:?}");

        // It is killed: nothing of it runs any more, and its lease stands.
        drop(lease);
        let (one, two) =
            tokio::join!(heal(&bed.cluster, &bed.platform, &options, &quiet), heal(&bed.cluster, &bed.platform, &options, &quiet),);
        for healed in [one, two] {
            let healed = healed.expect("the cluster answers");
            assert!(healed.failed.is_empty(), "{healed:?}");
        }
        assert_eq!(journals(bed).await, 0);
        assert!(!lease::is_there(&bed.cluster, &bed.cluster.target.namespace).await.expect("it can be asked"));
        let again = heal(&bed.cluster, &bed.platform, &options, &quiet).await.expect("the cluster answers");
        assert_eq!((again.done.len(), again.failed.len()), (0, 0), "{again:?}");
        let node = bed.cluster.node(aims[1].pod.node.as_deref().expect("a node")).await.expect("the node is there");
        let ready = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        assert!(ready.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"));
        assert_ne!(node.spec.and_then(|spec| spec.unschedulable), Some(true));
    });
}

#[test]
#[ignore = "needs a kind cluster; touches a lease of its own"]
fn a_lease_is_one_run_s_until_it_is_given_back_or_left() {
    in_bed(Shape::Deployment, async |bed| {
        let first = RunLease::acquire(&bed.cluster, "one").await.expect("it is free");
        first.release().await.expect("it can be given back");
        let second = RunLease::acquire(&bed.cluster, "two").await.expect("it is free again");
        drop(second);
        let began = tokio::time::Instant::now();
        let third = RunLease::acquire(&bed.cluster, "three").await.expect("who does not renew is dead");
        assert!(began.elapsed() >= LEASE_DURATION, "it was watched first");
        // Taken away under a run, it is not taken back, and the run is told.
        lease::clear(&bed.cluster, &bed.cluster.target.namespace).await.expect("it can be removed");
        let told = async {
            while third.lost().is_none() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(NOTICE, told).await.expect("the run is told");
        third.release().await.expect("it is nobody's");
    });
}
