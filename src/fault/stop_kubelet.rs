//! `stopKubelet`: a node's kubelet is stopped for a while; the containers run on.
//!
//! Breaks: nobody looks after the pods of the node, and after some forty seconds the control plane calls it lost: the database is taken out of the service
//! although it serves, and is to be replaced while it still runs. Undone by starting the kubelet.

use super::{
    Aim, Fault, FaultError, Scene, hold,
    nodes::{Harm, one_victim, with_pod},
};
use crate::{
    platform::{Capability, Hurt},
    scenario::StopKubelet,
};

impl Fault for StopKubelet {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::Kubelet]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let pod = scene.cluster.pod_facts().await?;
        let node = one_victim(scene, &self.node, &pod, Harm::Stops).await?;
        let what = format!("node `{node}`{}", with_pod(&node, &pod));
        let hurt = Hurt::StoppedKubelet { node: node.clone() };
        hold::aim(scene, pod, what, Some(node), hurt)
    }

    async fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
        hold::begin(scene, aim).await
    }

    async fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
        hold::until_hurt(self, scene, aim).await
    }
}
