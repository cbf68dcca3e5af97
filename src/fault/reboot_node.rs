//! `rebootNode`: a node loses its power and has it back at once.
//!
//! Breaks: every container on the node ends without a word. The node is back before the control plane calls it lost, so the pod stays and its containers are
//! started anew on the same node: another test than the loss of a node. Undone by nothing more than looking that the node is ready again.

use tokio::time::{Instant, sleep};

use super::{
    Aim, Fault, FaultError, Scene, Undo,
    nodes::{powered, with_pod},
};
use crate::{
    event::Fact,
    platform::{Capability, Power},
    scenario::RebootNode,
};

/// How often the node is asked for its boot.
const LOOK_PERIOD: std::time::Duration = std::time::Duration::from_millis(200);

impl Fault for RebootNode {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::NodePower]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let (pod, node) = powered(scene, &self.node).await?;
        let undo = vec![Undo::PowerOn { node: node.clone() }];
        let what = format!("node `{node}`{}", with_pod(&node, &pod));
        Ok(Aim { node: Some(node), undo, ..Aim::at(what, scene.platform.reboot_mechanism(), pod) })
    }

    async fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
        let node = aim.node.as_deref().expect("aiming has chosen the node");
        scene.platform.reboot(node, scene.lasting).await?;
        Ok(format!("node `{node}` was switched off and on"))
    }

    async fn witness(&self, scene: &Scene<'_>, aim: &Aim) -> Result<Vec<Fact>, FaultError> {
        let node = aim.node.as_deref().expect("aiming has chosen the node");
        Ok(vec![Fact { what: format!("boot of node `{node}`"), value: scene.platform.boot(node).await? }])
    }

    async fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
        let old = aim.pod.clone();
        let hit = aim.node == old.node;
        let end = Instant::now() + scene.patience;
        // The container of a node that is up again is another one; of a node where the database is not, its power is asked.
        if hit {
            return super::container_ended(scene, &old).await;
        }
        while Instant::now() < end {
            if scene.platform.power(aim.node.as_deref()?).await.ok() == Some(Power::On) {
                return Some("the node has power again".to_owned());
            }
            sleep(LOOK_PERIOD).await;
        }
        None
    }
}
