//! `restartWorkload`: the workload is rolled out anew, as `kubectl rollout restart` does it, and every change of its manifest.
//!
//! Breaks: the pod is replaced by one of a new template, the old one first (`Recreate`, a `StatefulSet`), or the new one first (`RollingUpdate`), which then
//! waits for the volume. There is nothing to undo: the mark that it leaves in the template is the one that `kubectl` leaves.

use serde_json::json;

use super::{
    Aim, Fault, FaultError, Scene, pod_ended,
    workload::{RESTARTED, WorkloadName},
};
use crate::{cluster::pod_facts, event::Fact, scenario::RestartWorkload};

impl Fault for RestartWorkload {
    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let object = scene.cluster.pod().await?;
        let workload = WorkloadName::of(scene, &object).await?;
        let pod = pod_facts(&object, &scene.cluster.target.container);
        Ok(Aim::at(format!("{} with pod `{}`", workload.text(), pod.name), "kubernetes api: rollout restart", pod))
    }

    async fn inject(&self, scene: &Scene<'_>, _aim: &Aim) -> Result<String, FaultError> {
        let workload = WorkloadName::of(scene, &scene.cluster.pod().await?).await?;
        // Two restarts within a second would be one.
        let stamp = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Nanos, true);
        let patch = json!({"spec": {"template": {"metadata": {"annotations": {RESTARTED: stamp}}}}});
        workload.change(scene.cluster, "restart", &patch).await?;
        Ok(format!("{} was restarted", workload.text()))
    }

    async fn witness(&self, scene: &Scene<'_>, aim: &Aim) -> Result<Vec<Fact>, FaultError> {
        // The pod may be gone: its workload is not.
        let name = aim.what.split('`').nth(1).unwrap_or_default().to_owned();
        let kind = if aim.what.starts_with("stateful") {
            super::workload::WorkloadKind::StatefulSet
        } else {
            super::workload::WorkloadKind::Deployment
        };
        let workload = WorkloadName { kind, namespace: scene.cluster.target.namespace.clone(), name };
        let restarted = workload.stand(scene.cluster).await?.restarted;
        Ok(vec![Fact { what: format!("last restart of {}", workload.text()), value: restarted.unwrap_or_else(|| "none".to_owned()) }])
    }

    async fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
        pod_ended(scene, &aim.pod).await
    }
}
