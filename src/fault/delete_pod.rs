//! `deletePod`: the database's pod is deleted through the Kubernetes API.
//!
//! Breaks: the pod is asked to end, and after its grace killed. Clients see the end of their connections, then refused ones. The workload's
//! controller makes a new pod, on any node. There is nothing to undo: that there is a new one is what is tested.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Preconditions};

use super::{Aim, Fault, FaultError, Scene, pod_ended};
use crate::scenario::DeletePod;

impl Fault for DeletePod {
    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let pod = scene.cluster.pod_facts().await?;
        let node = pod.node.as_deref().unwrap_or("none");
        let what = format!("pod `{}` on node `{node}`", pod.name);
        let mechanism = match self.grace {
            None => "kubernetes api: delete pod".to_owned(),
            Some(grace) => format!("kubernetes api: delete pod, grace {grace}"),
        };
        Ok(Aim::at(what, mechanism, pod))
    }

    async fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
        let name = &aim.pod.name;
        let params = DeleteParams {
            grace_period_seconds: self.grace.map(|grace| super::whole_seconds(grace.0)),
            // The pod that was resolved, and no other that has taken its name.
            preconditions: Some(Preconditions { uid: Some(aim.pod.uid.clone()), resource_version: None }),
            ..DeleteParams::default()
        };
        scene.cluster.call(format!("delete pod `{name}`"), scene.cluster.namespaced::<Pod>().delete(name, &params)).await?;
        Ok(format!("the API server took the deletion of pod `{name}`"))
    }

    async fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
        pod_ended(scene, &aim.pod).await
    }
}
