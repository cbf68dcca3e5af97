//! `crashNode`: a node loses its power.
//!
//! Breaks: kubelet and every container on the node end at once, and nobody says so. Clients hang or see their connections reset. After some
//! forty seconds the control plane calls the node lost, later it marks its pods for deletion. The pod of a `Deployment` is replaced then; that
//! of a `StatefulSet` is not, because its old pod cannot confirm its end: it waits for its node, or for help (see [`super::aftermath`]).
//! Undone by starting the node, which is verified: it has power, has reported again, and is ready.

use super::{
    Aim, Fault, FaultError, Scene, Undo,
    nodes::{powered, with_pod},
};
use crate::{
    platform::{Capability, Power},
    scenario::{Assist, CrashNode},
};

impl Fault for CrashNode {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::NodePower]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let (pod, node) = powered(scene, &self.node).await?;
        let mut undo = vec![Undo::PowerOn { node: node.clone() }];
        if self.assist == Assist::DeleteNode {
            // Written first, so that it is done last: when the node has registered anew.
            undo.insert(0, Undo::restore_node(&scene.cluster.node(&node).await?));
        }
        let what = format!("node `{node}`{}", with_pod(&node, &pod));
        Ok(Aim { node: Some(node), undo, ..Aim::at(what, scene.platform.power_mechanism(), pod) })
    }

    async fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
        let node = aim.node.as_deref().expect("aiming has chosen the node");
        scene.platform.power_off(node, scene.lasting).await?;
        Ok(format!("node `{node}` was switched off"))
    }

    /// That the power is gone is seen at once, where the power is: nothing that runs on the node outlives it. That the control plane has
    /// noticed is evidence, and takes its time.
    async fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
        let node = aim.node.as_deref()?;
        let off = scene.platform.power(node).await.ok()? == Power::Off;
        off.then(|| format!("node `{node}` has no power"))
    }
}
