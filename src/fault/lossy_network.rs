//! `lossyNetwork`: a part of what goes to the database's pod is lost for a while.
//!
//! Breaks: TCP sends again what was lost, so writes take longer, some much longer. Undone by taking the rule away.

use super::{Aim, Fault, FaultError, Scene, hold};
use crate::{
    platform::{Capability, Hurt},
    scenario::LossyNetwork,
};

impl Fault for LossyNetwork {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::PodNetwork]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        hold::aim_at_pod(scene, |node, address| Hurt::LossyPod { node, address, percent: self.loss.0 }).await
    }
}
