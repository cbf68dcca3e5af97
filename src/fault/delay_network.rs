//! `delayNetwork`: what goes to the database's pod is held back for a while.
//!
//! Breaks: every write takes longer by several round trips. Undone by taking the rule away.

use super::{Aim, Fault, FaultError, Scene, hold};
use crate::{
    platform::{Capability, Hurt},
    scenario::DelayNetwork,
};

impl Fault for DelayNetwork {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::PodDelay]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        hold::aim_at_pod(scene, |node, address| Hurt::DelayedPod {
            node,
            address,
            ms: u64::try_from(self.delay.0.as_millis()).unwrap_or(u64::MAX),
        })
        .await
    }
}
