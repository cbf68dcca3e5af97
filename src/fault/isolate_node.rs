//! `isolateNode`: everything that a node sends and gets is dropped for a while.
//!
//! Breaks: clients hang, the kubelet cannot report, the control plane calls the node lost; the database runs on, alone. Undone by taking the rules away.

use super::{
    Aim, Fault, FaultError, Scene, hold,
    nodes::{Harm, one_victim, with_pod},
};
use crate::{
    platform::{Capability, Hurt},
    scenario::IsolateNode,
};

impl Fault for IsolateNode {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::NodeNetwork]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let pod = scene.cluster.pod_facts().await?;
        let node = one_victim(scene, &self.node, &pod, Harm::Stops).await?;
        let what = format!("node `{node}`{}", with_pod(&node, &pod));
        let hurt = Hurt::IsolatedNode { node: node.clone() };
        hold::aim(scene, pod, what, Some(node), hurt)
    }

    async fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
        hold::begin(scene, aim).await
    }

    async fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
        hold::until_hurt(self, scene, aim).await
    }
}
