//! `stopController`: the controller manager or the scheduler is stopped for a while.
//!
//! Breaks: without the controller manager no pod is made, no node is called lost, no endpoint changes; without the scheduler a new pod has no node. What serves
//! goes on serving. Undone by starting it.

use super::{Aim, Fault, FaultError, Scene, consent::control_plane, hold};
use crate::{
    platform::{Capability, Hurt},
    scenario::StopController,
};

impl Fault for StopController {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::Controllers]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let pod = scene.cluster.pod_facts().await?;
        let node = control_plane(scene).await?;
        hold::aim(
            scene,
            pod,
            format!("the {}", if self.controller == crate::scenario::Controller::Scheduler { "scheduler" } else { "controller manager" }),
            None,
            Hurt::StoppedController { node, controller: self.controller },
        )
    }
}
