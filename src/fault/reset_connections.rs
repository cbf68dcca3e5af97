//! `resetConnections`: every connection to the database is reset, once.
//!
//! Breaks: clients with open connections see a reset in the middle of what they do, as after a failover of a firewall; the server runs on. There is nothing to
//! undo.

use super::{Aim, Fault, FaultError, Scene, nodes::address};
use crate::{platform::Capability, scenario::ResetConnections};

impl Fault for ResetConnections {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::PodNetwork]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        let means = scene.platform.can(Capability::PodNetwork).map_err(FaultError::NotPossible)?;
        let pod = scene.cluster.pod_facts().await?;
        let (node, address) = address(scene, &pod).await?;
        let what = format!("connections to pod `{}` at {address} on node `{node}`", pod.name);
        Ok(Aim::at(what, means.mechanism, pod))
    }

    async fn inject(&self, scene: &Scene<'_>, aim: &Aim) -> Result<String, FaultError> {
        let (node, address) = address(scene, &aim.pod).await?;
        Ok(scene.platform.reset_connections(&node, &address).await?)
    }

    /// A reset is over when its call returns; whether a client felt it is for the evidence.
    async fn confirm(&self, _scene: &Scene<'_>, _aim: &Aim) -> Option<String> {
        Some("the resets were sent".to_owned())
    }
}
