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
    api::{ListParams, ObjectMeta, PostParams},
    core::params::Patch,
};
use serde_json::json;
use tokio::time::Instant;

use super::{Aim, Fault, FaultError, Scene, Undo, pod_ended};
use crate::{
    cluster::{ClusterError, chain},
    scenario::{DrainNode, NodeChoice},
};

/// How long a blocked eviction is tried again, and how often, as `kubectl drain` does.
const EVICTION_DEADLINE: Duration = Duration::from_mins(2);
const EVICTION_PERIOD: Duration = Duration::from_secs(5);

/// What the API server answers while a budget blocks an eviction.
const BUDGET_BLOCKS: u16 = 429;
const NOT_FOUND: u16 = 404;

impl Fault for DrainNode {
    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let pod = scene.cluster.pod_facts().await?;
        let node = match self.node {
            NodeChoice::Target => pod.node.clone().ok_or_else(|| FaultError::NotScheduled { pod: pod.name.clone() })?,
        };
        let bystanders = bystanders(scene, &node, &pod.uid).await?;
        if !bystanders.is_empty() {
            return Err(FaultError::Bystanders { node, bystanders });
        }
        let cordoned = scene.cluster.node(&node).await?.spec.and_then(|spec| spec.unschedulable) == Some(true);
        let undo = if cordoned { Vec::new() } else { vec![Undo::Uncordon { node: node.clone() }] };
        let what = format!("node `{node}` with pod `{}`", pod.name);
        Ok(Aim { what, mechanism: "kubernetes api: cordon and evict".to_owned(), pod, undo })
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

/// The pods on the node that a drain would evict and that are not the target: not those of a `DaemonSet`, which stay, nor static ones, nor
/// finished ones.
async fn bystanders(scene: &Scene<'_>, node: &str, target_uid: &str) -> Result<Vec<String>, ClusterError> {
    let params = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let pods = scene.cluster.call(format!("list the pods on node `{node}`"), scene.cluster.all::<Pod>().list(&params)).await?;
    Ok(pods.items.iter().filter(|pod| pod.metadata.uid.as_deref() != Some(target_uid) && would_be_evicted(pod)).map(full_name).collect())
}

fn would_be_evicted(pod: &Pod) -> bool {
    let of_daemon_set = pod.metadata.owner_references.iter().flatten().any(|owner| owner.kind == "DaemonSet");
    let is_static = pod.metadata.annotations.iter().flatten().any(|(key, _)| key == "kubernetes.io/config.mirror");
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let leaving = pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed"));
    !(of_daemon_set || is_static || leaving)
}

fn full_name(pod: &Pod) -> String {
    format!("`{}/{}`", pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[rstest]
    #[case::an_ordinary_pod(json!({"metadata": {"name": "a"}, "status": {"phase": "Running"}}), true)]
    #[case::of_a_daemon_set(json!({"metadata": {"ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "u"}]}}), false)]
    #[case::a_static_pod(json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}}), false)]
    #[case::a_finished_pod(json!({"metadata": {}, "status": {"phase": "Succeeded"}}), false)]
    #[case::a_leaving_pod(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), false)]
    fn a_bystander_is_what_a_drain_would_evict(#[case] pod: Value, #[case] expected: bool) {
        assert_eq!(would_be_evicted(&serde_json::from_value(pod).unwrap()), expected);
    }
}
