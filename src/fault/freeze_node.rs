//! `freezeNode`: a node stands still for a while, with all that runs on it.
//!
//! Breaks: nothing on the node answers, nobody is told, and connections stay open: clients hang. If it lasts, the control plane calls the node lost and
//! replaces its pods elsewhere, while the old ones still have their files open: when the node goes on, there are two for a moment. Undone by letting it go on.

use super::{
    Aim, Fault, FaultError, Scene, hold,
    nodes::{Harm, one_victim, with_pod},
};
use crate::{
    platform::{Capability, Hurt},
    scenario::FreezeNode,
};

impl Fault for FreezeNode {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::NodeFreeze]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let pod = scene.cluster.pod_facts().await?;
        let node = one_victim(scene, &self.node, &pod, Harm::Stops).await?;
        let what = format!("node `{node}`{}", with_pod(&node, &pod));
        let hurt = Hurt::FrozenNode { node: node.clone() };
        hold::aim(scene, pod, what, Some(node), hurt)
    }

    async fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
        hold::begin(scene, aim).await
    }

    async fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
        hold::until_hurt(self, scene, aim).await
    }
}
