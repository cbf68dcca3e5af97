//! `cordonNode`: a node takes no new pods for a while; those that are there stay.
//!
//! Breaks: nothing, as long as the pod stays where it is; one that has to start comes elsewhere. Undone by uncordoning the node, unless it was cordoned
//! before.

use super::{
    Aim, Fault, FaultError, Scene,
    drain_node::{cordon, cordoned, uncordon},
    nodes::{Harm, one_victim, with_pod},
};
use crate::scenario::CordonNode;

impl Fault for CordonNode {
    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let pod = scene.cluster.pod_facts().await?;
        let node = one_victim(scene, &self.node, &pod, Harm::Spares).await?;
        let undo = uncordon(scene.cluster, &node).await?;
        let what = format!("node `{node}`{}", with_pod(&node, &pod));
        Ok(Aim { node: Some(node), undo, ..Aim::at(what, "kubernetes api: cordon", pod) })
    }

    async fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
        let node = aim.node.as_deref().expect("aiming has chosen the node");
        cordon(scene.cluster, node).await?;
        Ok(format!("node `{node}` cordoned"))
    }

    async fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
        cordoned(scene, aim.node.as_deref()?).await
    }
}
