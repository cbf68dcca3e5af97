//! `stopKubelet`: a node's kubelet is stopped for a while; the containers run on.
//!
//! Breaks: nobody looks after the pods of the node, and after some forty seconds the control plane calls it lost: the database is taken out of the service
//! although it serves, and is to be replaced while it still runs. Undone by starting the kubelet.

use super::{Aim, Fault, FaultError, Scene, hold};
use crate::{
    platform::{Capability, Hurt},
    scenario::StopKubelet,
};

impl Fault for StopKubelet {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::Kubelet]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        hold::aim_at_node(scene, &self.node, |node| Hurt::StoppedKubelet { node }).await
    }
}
