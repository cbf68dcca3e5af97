//! `rebootNode`: a node loses its power and has it back at once.
//!
//! Breaks: every container on the node ends without a word. The node is back before the control plane calls it lost, so the pod stays and its containers are
//! started anew on the same node: another test than the loss of a node. Where nobody else has the node's switch, the node does it by itself, a moment after it was
//! told to. Undone by nothing more than looking that the node is ready again; a reboot that has not begun is called off.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    Aim, Fault, FaultError, Scene, Undo, hold,
    nodes::{powered, with_pod},
};
use crate::{
    event::Fact,
    platform::{Capability, Hurt, Place},
    scenario::RebootNode,
};

/// How often the node is asked for its boot.
const LOOK_PERIOD: Duration = Duration::from_millis(200);
/// How long a machine may take from being told to having started.
const MACHINE_STARTS_WITHIN: Duration = Duration::from_mins(10);

impl Fault for RebootNode {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::NodeReboot]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let aim = if scene.platform.place() == Place::Cluster {
            hold::aim_at_node(scene, &self.node, |node| Hurt::RebootedNode { node }).await?
        } else {
            let means = scene.platform.can(Capability::NodeReboot).map_err(FaultError::NotPossible)?;
            let (pod, node) = powered(scene, &self.node).await?;
            let undo = vec![Undo::PowerOn { node: node.clone() }];
            let what = format!("node `{node}`{}", with_pod(&node, &pod));
            Aim { node: Some(node), undo, ..Aim::at(what, means.mechanism, pod) }
        };
        let node = aim.node.as_deref().expect("aiming has chosen the node");
        let boot = scene.platform.boot(node).await?;
        // It does not last: what is looked at is which boot this is.
        Ok(Aim { boot: Some(boot), hurt: None, ..aim })
    }

    async fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
        let node = aim.node.as_deref().expect("aiming has chosen the node");
        scene.platform.reboot(node, scene.lasting).await?;
        let done = if scene.platform.place() == Place::Cluster { "told to start anew" } else { "switched off and on" };
        Ok(format!("node `{node}` was {done}"))
    }

    async fn witness(&self, scene: &Scene<'_>, aim: &Aim) -> Result<Vec<Fact>, FaultError> {
        let node = aim.node.as_deref().expect("aiming has chosen the node");
        Ok(vec![Fact { what: format!("boot of node `{node}`"), value: scene.platform.boot(node).await? }])
    }

    /// The container of a node that is up again is another one, and the node says that it has started.
    async fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
        let patience = if scene.platform.place() == Place::Cluster { MACHINE_STARTS_WITHIN.min(scene.lasting) } else { scene.patience };
        let (node, end) = (aim.node.as_deref()?, Instant::now() + patience);
        let hit = aim.node == aim.pod.node;
        let ended = if hit { Some(super::container_ended(&Scene { patience, ..*scene }, &aim.pod).await?) } else { None };
        while Instant::now() < end && !scene.stop.is_cancelled() {
            if let Ok(boot) = scene.platform.boot(node).await
                && aim.boot.as_ref().is_some_and(|before| *before != boot)
            {
                return Some(ended.unwrap_or_else(|| "the node has started anew".to_owned()));
            }
            sleep(LOOK_PERIOD).await;
        }
        ended
    }
}
