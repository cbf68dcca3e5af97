//! `isolatePod`: everything that the database's pod sends and gets is dropped for a while.
//!
//! Breaks: clients hang until their own deadline; the readiness probe fails, so the pod is taken out of the service, and new connections are refused. The
//! server runs on and knows nothing of it. Undone by taking the rules away.

use super::{Aim, Fault, FaultError, Scene, hold, nodes::address};
use crate::{
    platform::{Capability, Hurt},
    scenario::IsolatePod,
};

impl Fault for IsolatePod {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::PodNetwork]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let pod = scene.cluster.pod_facts().await?;
        let (node, address) = address(scene, &pod).await?;
        let what = format!("pod `{}` at {address} on node `{node}`", pod.name);
        let hurt = Hurt::IsolatedPod { node, address };
        hold::aim(scene, pod, what, None, hurt)
    }

    async fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
        hold::begin(scene, aim).await
    }

    async fn confirm(&self, scene: &Scene<'_>, aim: &Aim) -> Option<String> {
        hold::until_hurt(self, scene, aim).await
    }
}
