//! `lossyNetwork`: a part of what goes to the database's pod is lost for a while.
//!
//! Breaks: TCP sends again what was lost, so writes take longer, some much longer. Undone by taking the rule away.

use super::{Aim, Fault, FaultError, Scene, hold, nodes::address};
use crate::{
    platform::{Capability, Hurt},
    scenario::LossyNetwork,
};

impl Fault for LossyNetwork {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::PodNetwork]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let pod = scene.cluster.pod_facts().await?;
        let (node, address) = address(scene, &pod).await?;
        let what = format!("pod `{}` at {address} on node `{node}`", pod.name);
        let hurt = Hurt::LossyPod { node, address, percent: self.loss.0 };
        hold::aim(scene, pod, what, None, hurt)
    }

    async fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
        hold::begin(scene, aim).await
    }

    async fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
        hold::until_hurt(self, scene, aim).await
    }
}
