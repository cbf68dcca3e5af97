//! `drainNode`: the node that runs the database is cordoned and emptied, as for maintenance.
//!
//! Breaks: no pod is scheduled to the node any more, and the database's pod is evicted (through the eviction API, so disruption budgets are
//! asked). Clients see what they see of a deleted pod; the new one is on another node, and its volume must follow. Undone by uncordoning
//! the node, unless it was cordoned before.

use std::time::Duration;

use k8s_openapi::{
    api::{
        core::v1::{Node, Pod},
        policy::v1::Eviction,
    },
    apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions, Status},
};
use kube::{
    api::{ObjectMeta, PostParams},
    core::params::Patch,
};
use serde_json::json;
use tokio::time::Instant;

use super::{
    Aim, Fault, FaultError, Scene, Undo,
    nodes::{Harm, chosen, refuse_bystanders, refuse_control_plane},
    pod_ended,
};
use crate::{cluster::chain, scenario::DrainNode};

/// How long a blocked eviction is tried again, and how often, as `kubectl drain` does.
const EVICTION_DEADLINE: Duration = Duration::from_mins(2);
const EVICTION_PERIOD: Duration = Duration::from_secs(5);

/// What the API server answers while a budget blocks an eviction.
const BUDGET_BLOCKS: u16 = 429;
const NOT_FOUND: u16 = 404;

impl Fault for DrainNode {
    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let pod = scene.cluster.pod_facts().await?;
        let node = chosen(self.node, &pod)?;
        let object = scene.cluster.node(&node).await?;
        refuse_control_plane(&object)?;
        refuse_bystanders(scene, &node, &pod.uid, Harm::Evicts).await?;
        let cordoned = object.spec.and_then(|spec| spec.unschedulable) == Some(true);
        let undo = if cordoned { Vec::new() } else { vec![Undo::Uncordon { node: node.clone() }] };
        let what = format!("node `{node}` with pod `{}`", pod.name);
        Ok(Aim { what, mechanism: "kubernetes api: cordon and evict".to_owned(), pod, way: None, undo })
    }

    async fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
        let node = aim.pod.node.as_deref().expect("a pod without a node was refused when aiming");
        let cordon = json!({"spec": {"unschedulable": true}});
        scene
            .cluster
            .call(
                format!("cordon node `{node}`"),
                scene.cluster.all::<Node>().patch(node, &kube::api::PatchParams::default(), &Patch::Strategic(&cordon)),
            )
            .await?;
        self.evict(scene, aim).await?;
        Ok(format!("node `{node}` cordoned, pod `{}` evicted", aim.pod.name))
    }

    async fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
        pod_ended(scene, &aim.pod).await
    }
}

impl DrainNode {
    /// Evicts the pod, asking again while a budget blocks it.
    async fn evict(&self, scene: &Scene<'_>, aim: &Aim) -> Result<(), FaultError> {
        let pod = &aim.pod;
        // Not `Api::evict`: that one drops the options (it spells them `delete_options`).
        let eviction = Eviction {
            metadata: ObjectMeta {
                name: Some(pod.name.clone()),
                namespace: Some(scene.cluster.target.namespace.clone()),
                ..ObjectMeta::default()
            },
            delete_options: Some(DeleteOptions {
                grace_period_seconds: self.grace.map(|grace| i64::from(super::whole_seconds(grace.0))),
                preconditions: Some(Preconditions { uid: Some(pod.uid.clone()), resource_version: None }),
                ..DeleteOptions::default()
            }),
        };
        let pods = scene.cluster.namespaced::<Pod>();
        let params = PostParams::default();
        let deadline = Instant::now() + EVICTION_DEADLINE;
        loop {
            let call = pods.create_subresource::<Eviction, Status>("eviction", &pod.name, &params, &eviction);
            match scene.cluster.call(format!("evict pod `{}`", pod.name), call).await {
                Ok(_) => return Ok(()),
                Err(error) if error.status() == Some(NOT_FOUND) => return Ok(()),
                Err(error) if error.status() == Some(BUDGET_BLOCKS) => {
                    if Instant::now() + EVICTION_PERIOD > deadline {
                        let refusal = chain(&error);
                        return Err(FaultError::EvictionBlocked { pod: pod.name.clone(), deadline: EVICTION_DEADLINE, refusal });
                    }
                    if scene.stop.run_until_cancelled(tokio::time::sleep(EVICTION_PERIOD)).await.is_none() {
                        return Err(FaultError::Interrupted);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{Json, Router, routing::get};
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use super::*;
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
        let scene = Scene { cluster: &cluster, platform: &platform, watches: &watches, stop: &stop };
        let refused = DrainNode::default().aim(&scene).await;
        assert!(matches!(&refused, Err(FaultError::ControlPlane { node }) if node == "cp"), "{refused:?}");
    }
}
