//! `freezeProcess`: a process in the database's container stands still for a while.
//!
//! Breaks: the engine answers nothing, and its connections stay open: clients hang until their own deadline. A readiness probe takes the pod out of
//! the service; a liveness probe would end the container. Undone by letting it go on, which also happens by itself.

use super::{Aim, Fault, FaultError, Scene, container_name, hold};
use crate::{
    platform::{Capability, Hurt},
    scenario::FreezeProcess,
};

impl Fault for FreezeProcess {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::SignalProcess]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let pod = scene.cluster.pod_facts().await?;
        let container = container_name(scene, &pod)?;
        let way = scene.platform.aim_signal(&super::container(scene, &pod), &self.process).await?;
        let what = format!("process `{}` in pod `{}`", self.process, pod.name);
        let hurt = Hurt::FrozenProcess { container, process: self.process.clone() };
        let aim = hold::aim(scene, pod, what, None, hurt)?;
        Ok(Aim { mechanism: format!("{}, SIGSTOP and SIGCONT", way.mechanism()), ..aim })
    }
}
