//! `rebootNode`: a node starts anew.
//!
//! Breaks: every container on the node ends without a word. Where the node's power has a switch it is back before the control plane calls it lost, so the pod
//! stays and its containers are started anew on the same node: another test than the loss of a node. Where it has none, the node starts anew by itself, a moment
//! after it was told to, in the time that a machine takes; the pod may be replaced meanwhile. Undone by nothing more than waiting until the node is ready again.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    Aim, Fault, FaultError, Scene, Undo, ended, hold,
    nodes::{powered, with_pod},
};
use crate::{
    event::Fact,
    platform::{Capability, Hurt},
    scenario::RebootNode,
};

/// How often the node is asked for its boot.
const LOOK_PERIOD: Duration = Duration::from_millis(200);
/// How long the control plane may take to miss a node that starts anew by itself.
const MISSED_WITHIN: Duration = Duration::from_mins(3);
/// How long a machine may take to start.
const MACHINE_STARTS_WITHIN: Duration = Duration::from_mins(10);

impl Fault for RebootNode {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::NodeReboot]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let aim = if has_switch(scene) {
            let means = scene.platform.can(Capability::NodeReboot).map_err(FaultError::NotPossible)?;
            let (pod, node) = powered(scene, &self.node).await?;
            let undo = vec![Undo::PowerOn { node: node.clone() }];
            let what = format!("node `{node}`{}", with_pod(&node, &pod));
            Aim { node: Some(node), undo, ..Aim::at(what, means.mechanism, pod) }
        } else {
            scene.platform.find_out_boots().await?;
            hold::aim_at_node(scene, &self.node, |node| Hurt::RebootedNode { node }).await?
        };
        let boot = scene.platform.boot(victim(&aim)).await?;
        // It does not last: what is looked at is which boot this is.
        Ok(Aim { boot: Some(boot), hurt: None, ..aim })
    }

    async fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
        let node = victim(aim);
        scene.platform.reboot(node, scene.lasting).await?;
        let done = if has_switch(scene) { "switched off and on" } else { "told to start anew" };
        Ok(format!("node `{node}` was {done}"))
    }

    async fn witness(&self, scene: &Scene<'_>, aim: &Aim) -> Result<Vec<Fact>, FaultError> {
        let node = victim(aim);
        Ok(vec![Fact { what: format!("boot of node `{node}`"), value: scene.platform.boot(node).await? }])
    }

    /// A node that starts anew by itself is missed before its kubelet can tell what became of the container: which boot it is is looked at when the recovery is
    /// over.
    async fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
        let node = victim(aim);
        if aim.node != aim.pod.node {
            return another_boot(scene, aim).await.then(|| "the node has started anew".to_owned());
        }
        if has_switch(scene) {
            return super::container_ended(scene, &aim.pod).await;
        }
        let within = MISSED_WITHIN.min(scene.lasting);
        let seen = scene.watches.wait_until("the node to be missed, or the end of the container", within, |view| {
            let missed = view.nodes.get(node).is_none_or(|node| !node.ready);
            ended(view, &aim.pod).or_else(|| missed.then(|| "the node is not ready".to_owned()))
        });
        seen.await.ok()
    }

    async fn settle(&self, scene: &Scene<'_>, aim: &Aim) -> bool {
        // Where there is a switch, the boot was another one at once.
        !has_switch(scene) && another_boot(scene, aim).await
    }
}

/// Whether somebody here can take a node's power and give it back.
fn has_switch(scene: &Scene<'_>) -> bool {
    scene.platform.can(Capability::NodePower).is_ok()
}

fn victim(aim: &Aim) -> &str {
    aim.node.as_deref().expect("aiming has chosen the node")
}

/// Waits until the node tells another boot; whether it did.
async fn another_boot(scene: &Scene<'_>, aim: &Aim) -> bool {
    let within = if has_switch(scene) { scene.patience } else { MACHINE_STARTS_WITHIN.min(scene.lasting) };
    let end = Instant::now() + within;
    while Instant::now() < end && !scene.stop.is_cancelled() {
        if let Ok(boot) = scene.platform.boot(victim(aim)).await
            && aim.boot.as_ref().is_some_and(|before| *before != boot)
        {
            return true;
        }
        sleep(LOOK_PERIOD).await;
    }
    false
}
