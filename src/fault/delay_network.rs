//! `delayNetwork`: what goes to the database's pod is held back for a while.
//!
//! Breaks: every write takes longer by several round trips. Undone by taking the rule away.

use super::{Aim, Fault, FaultError, Scene, hold, nodes::address};
use crate::{
    platform::{Capability, Hurt},
    scenario::DelayNetwork,
};

impl Fault for DelayNetwork {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::PodDelay]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let pod = scene.cluster.pod_facts().await?;
        let (node, address) = address(scene, &pod).await?;
        let what = format!("pod `{}` at {address} on node `{node}`", pod.name);
        let hurt = Hurt::DelayedPod { node, address, ms: u64::try_from(self.delay.0.as_millis()).unwrap_or(u64::MAX) };
        hold::aim(scene, pod, what, None, hurt)
    }

    async fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
        hold::begin(scene, aim).await
    }

    async fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
        hold::until_hurt(self, scene, aim).await
    }
}
