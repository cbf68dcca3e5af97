//! `isolateNode`: everything that a node sends and gets is dropped for a while.
//!
//! Breaks: clients hang, the kubelet cannot report, the control plane calls the node lost; the database runs on, alone. Undone by taking the rules away.

use super::{Aim, Fault, FaultError, Scene, hold};
use crate::{
    platform::{Capability, Hurt},
    scenario::IsolateNode,
};

impl Fault for IsolateNode {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::NodeNetwork]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        hold::aim_at_node(scene, &self.node, |node| Hurt::IsolatedNode { node }).await
    }
}
