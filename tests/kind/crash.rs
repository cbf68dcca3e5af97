//! A node that loses its power, and what helps.

use comeback::{
    event::PodFacts,
    fault::{Fault as _, Undo, aftermath},
    scenario::{Assist, CrashNode},
};
use k8s_openapi::api::core::v1::Node;

use crate::bed::{Bed, LASTING, NOTICE, START, Shape, in_bed, refused};

/// Crashes the node and waits until its pod hangs there.
async fn crash(bed: &Bed, assist: Assist) -> PodFacts {
    let fault = CrashNode { assist, ..CrashNode::default() };
    let scene = bed.scene();
    let aim = fault.aim(&scene).await.expect("there is a victim");
    for undo in &aim.undo {
        bed.journal.begin(1, 0, undo.clone()).await.expect("the journal can be written");
    }
    fault.inject(&scene, &aim).await.expect("the node can be switched off");
    let seen = fault.confirm(&scene, &aim).await;
    assert!(seen.as_deref().is_some_and(|seen| seen.ends_with("has no power")), "{seen:?}");
    let marked = bed.watches.wait_until("the mark on the pod", NOTICE, |view| {
        view.nodes.get(aim.pod.node.as_deref()?).filter(|node| !node.ready)?;
        view.pods.get(&aim.pod.uid).is_none_or(|pod| pod.terminating).then_some(())
    });
    marked.await.expect("the node is lost and its pod is marked");
    aim.pod
}

async fn undo(bed: &Bed) {
    for entry in bed.journal.pending() {
        entry.undo.perform(&bed.cluster, &bed.platform).await.unwrap_or_else(|error| panic!("{}: {error}", entry.undo));
        // Twice is no error.
        entry.undo.perform(&bed.cluster, &bed.platform).await.unwrap_or_else(|error| panic!("{} again: {error}", entry.undo));
        bed.journal.end(entry.number).await.expect("the journal can be written");
    }
}

async fn node(bed: &Bed, pod: &PodFacts) -> Node {
    bed.cluster.node(pod.node.as_deref().expect("it was on a node")).await.expect("the node is there")
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[test]
#[ignore = "needs a kind cluster; switches a worker off for a minute"]
fn a_deployment_comes_back_on_another_node_without_help() {
    in_bed(Shape::Deployment, async |bed| {
        let old = crash(bed, Assist::None).await;
        let new = bed.running(Some(&old), START).await;
        assert_ne!(new.node, old.node);
        undo(bed).await;
        assert!(is_ready(&node(bed, &old).await));
    });
}

#[test]
#[ignore = "needs a kind cluster; switches a worker off for a minute, four times"]
fn a_stateful_set_needs_help_and_each_kind_helps() {
    for help in [Assist::ForceDelete, Assist::OutOfServiceTaint, Assist::DeleteNode] {
        in_bed(Shape::StatefulSet, async |bed| {
            let labels = [("comeback-test".to_owned(), "1".to_owned())];
            let old = bed.cluster.pod_facts().await.expect("a pod");
            let mut patch = serde_json::json!({"metadata": {"labels": {}}});
            for (key, value) in &labels {
                patch["metadata"]["labels"][key] = value.clone().into();
            }
            let name = old.node.clone().expect("it is on a node");
            let nodes = bed.cluster.all::<Node>();
            nodes
                .patch(&name, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(&patch))
                .await
                .expect("the node can be labelled");

            let old = crash(bed, help).await;
            let hangs = bed.watches.wait_until("the pod that hangs", NOTICE, |view| aftermath::hangs(view, &old).then_some(()));
            hangs.await.expect("the pod of a stateful set hangs on its dead node");
            let what = aftermath::assist(&bed.scene(), &bed.journal, (1, 0), &old, help).await.expect("help can be given");
            assert!(what.is_some(), "{help:?} was not needed");
            let new = bed.running(Some(&old), START).await;
            assert_ne!(new.node, old.node, "{help:?}");
            undo(bed).await;
            let node = node(bed, &old).await;
            assert!(is_ready(&node), "{help:?}");
            let taints = node.spec.clone().and_then(|spec| spec.taints).unwrap_or_default();
            assert!(taints.is_empty(), "{help:?}: {taints:?}");
            // Also a node that registered anew has what it had.
            assert!(node.metadata.labels.iter().flatten().any(|(key, _)| key == "comeback-test"), "{help:?}");
            patch["metadata"]["labels"]["comeback-test"] = serde_json::Value::Null;
            nodes
                .patch(&name, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(&patch))
                .await
                .expect("the label can be removed");
            // A node that is on is never helped against.
            let again = aftermath::assist(&bed.scene(), &bed.journal, (1, 0), &old, help).await.expect("it can be asked");
            assert_eq!(again, None, "{help:?}");
        });
    }
}

#[test]
#[ignore = "needs a kind cluster; switches a worker off for a minute"]
fn a_stateful_set_that_nobody_helps_comes_back_with_its_node() {
    in_bed(Shape::StatefulSet, async |bed| {
        let old = crash(bed, Assist::None).await;
        assert_eq!(aftermath::assist(&bed.scene(), &bed.journal, (1, 0), &old, Assist::None).await.expect("it can be asked"), None);
        let there = bed.cluster.pods().await.expect("the pods can be read");
        assert!(there.iter().any(|pod| pod.metadata.uid.as_deref() == Some(old.uid.as_str())), "the pod hangs on its node");
        undo(bed).await;
        bed.running(Some(&old), START).await;
    });
}

#[test]
#[ignore = "needs a kind cluster; touches nothing"]
fn what_is_no_worker_of_this_cluster_is_refused() {
    in_bed(Shape::Deployment, async |bed| {
        let nodes = bed.cluster.all::<Node>().list(&kube::api::ListParams::default().labels("node-role.kubernetes.io/control-plane")).await;
        let control_plane = nodes.expect("the cluster answers").items.remove(0).metadata.name.expect("a name");
        let text = refused(bed.platform.power_off(&control_plane, LASTING).await);
        assert!(text.contains("only workers are switched off"), "{text}");
        let text = refused(bed.platform.power_off("no-such-node", LASTING).await);
        assert!(text.contains("no container of that name"), "{text}");
        let undo = Undo::PowerOn { node: "no-such-node".into() };
        undo.perform(&bed.cluster, &bed.platform).await.expect_err("at once, not after three minutes");
    });
}
