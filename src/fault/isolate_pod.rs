//! `isolatePod`: everything that the database's pod sends and gets is dropped for a while.
//!
//! Breaks: clients hang until their own deadline; the readiness probe fails, so the pod is taken out of the service, and new connections are refused. The
//! server runs on and knows nothing of it. Undone by taking the rules away.

use super::{Aim, Fault, FaultError, Scene, hold};
use crate::{
    platform::{Capability, Hurt},
    scenario::IsolatePod,
};

impl Fault for IsolatePod {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::PodNetwork]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        hold::aim_at_pod(scene, |node, address| Hurt::IsolatedPod { node, address }).await
    }
}
