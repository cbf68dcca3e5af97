//! `drainNode`: a node is cordoned and emptied, as for maintenance.
//!
//! Breaks: no pod is scheduled to the node any more, and the database's pod, if it is there, is evicted (through the eviction API, so disruption budgets are
//! asked). Clients see what they see of a deleted pod; the new one is on another node, and its volume must follow. Undone by uncordoning
//! the node, unless it was cordoned before.

use super::{
    Aim, Fault, FaultError, Scene, Undo,
    evict::evict,
    nodes::{Harm, one_victim, with_pod},
    pod_ended,
};
use crate::{cluster::Cluster, scenario::DrainNode};

impl Fault for DrainNode {
    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let pod = scene.cluster.pod_facts().await?;
        let node = one_victim(scene, &self.node, &pod, Harm::Evicts).await?;
        let undo = uncordon(scene.cluster, &node).await?;
        let what = format!("node `{node}`{}", with_pod(&node, &pod));
        Ok(Aim { node: Some(node), undo, ..Aim::at(what, "kubernetes api: cordon and evict", pod) })
    }

    async fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
        let node = aim.node.as_deref().expect("aiming has chosen the node");
        cordon(scene.cluster, node).await?;
        if aim.pod.node.as_deref() != Some(node) {
            return Ok(format!("node `{node}` cordoned; the database is not there"));
        }
        evict(scene, &aim.pod, self.grace).await?;
        Ok(format!("node `{node}` cordoned, pod `{}` evicted", aim.pod.name))
    }

    async fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
        let node = aim.node.as_deref()?;
        if aim.pod.node.as_deref() == Some(node) { pod_ended(scene, &aim.pod).await } else { cordoned(scene, node).await }
    }
}

/// How a node that is about to be cordoned is uncordoned; nothing, if it was before.
pub(super) async fn uncordon(cluster: &Cluster, node: &str) -> Result<Vec<Undo>, FaultError> {
    let before = cluster.node(node).await?.spec.and_then(|spec| spec.unschedulable) == Some(true);
    Ok(if before { Vec::new() } else { vec![Undo::Uncordon { node: node.to_owned() }] })
}

/// Makes a node take no new pods.
pub(super) async fn cordon(cluster: &Cluster, node: &str) -> Result<(), FaultError> {
    let cordon = serde_json::json!({"spec": {"unschedulable": true}});
    let nodes = cluster.all::<k8s_openapi::api::core::v1::Node>();
    let params = kube::api::PatchParams::default();
    cluster.call(format!("cordon node `{node}`"), nodes.patch(node, &params, &kube::api::Patch::Strategic(&cordon))).await?;
    Ok(())
}

/// Waits until a node is seen to take no new pods.
pub(super) async fn cordoned(scene: &Scene<'_>, node: &str) -> Option<String> {
    let seen = scene.watches.wait_until("the cordon", scene.patience, |view| {
        view.nodes.get(node).filter(|node| node.unschedulable).map(|_| format!("node `{node}` is unschedulable"))
    });
    seen.await.ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::{Json, Router, routing::get};
    use serde_json::json;
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use super::{super::Consent, *};
    use crate::{
        cluster::{fake, watch::Watches},
        platform::{Platform, SandboxPlatform},
    };

    #[tokio::test]
    async fn the_control_plane_is_not_drained() {
        let pod = json!({"metadata": {"name": "mssql-0", "uid": "u"}, "spec": {"nodeName": "cp", "containers": []}, "status": {"phase": "Running"}});
        let pods = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [pod]});
        let all = pods.clone();
        let labels = json!({"node-role.kubernetes.io/control-plane": ""});
        let node = json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "cp", "labels": labels}});
        let router = Router::new()
            .route("/api/v1/namespaces/db/pods", get(move || async move { Json(pods) }))
            .route("/api/v1/pods", get(move || async move { Json(all) }))
            .route("/api/v1/nodes/cp", get(move || async move { Json(node) }));
        let cluster = fake::cluster(router).await;
        let platform = Platform::Sandbox(SandboxPlatform::new(cluster.clone()));
        let (watches, stop) = (Watches::start(&cluster, mpsc::channel(16).0), CancellationToken::new());
        let consent = Consent::default();
        let scene = Scene {
            cluster: &cluster,
            platform: &platform,
            watches: &watches,
            stop: &stop,
            consent: &consent,
            lasting: Duration::ZERO,
            patience: Duration::from_secs(1),
        };
        let refused = DrainNode::default().aim(&scene).await;
        assert!(matches!(&refused, Err(FaultError::ControlPlane { node }) if node == "cp"), "{refused:?}");
    }
}
