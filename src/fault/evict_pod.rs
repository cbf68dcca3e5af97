//! `evictPod`: the database's pod is evicted, as a drain or an autoscaler does it, and its node takes new pods as before.
//!
//! Breaks: what a deletion breaks, but a disruption budget is asked first. The new pod may come to the same node. There is nothing to undo: that there
//! is a new one is what is tested.

use super::{Aim, Fault, FaultError, Scene, evict::evict, pod_ended};
use crate::scenario::EvictPod;

impl Fault for EvictPod {
    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let pod = scene.cluster.pod_facts().await?;
        let node = pod.node.as_deref().unwrap_or("none");
        Ok(Aim::at(format!("pod `{}` on node `{node}`", pod.name), "kubernetes api: evict pod", pod))
    }

    async fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
        evict(scene, &aim.pod, self.grace).await?;
        Ok(format!("the API server took the eviction of pod `{}`", aim.pod.name))
    }

    async fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
        pod_ended(scene, &aim.pod).await
    }
}
