//! `freezeNode`: a node stands still for a while, with all that runs on it.
//!
//! Breaks: nothing on the node answers, nobody is told, and connections stay open: clients hang. If it lasts, the control plane calls the node lost and
//! replaces its pods elsewhere, while the old ones still have their files open: when the node goes on, there are two for a moment. Undone by letting it go on.

use super::{Aim, Fault, FaultError, Scene, hold};
use crate::{
    platform::{Capability, Hurt},
    scenario::FreezeNode,
};

impl Fault for FreezeNode {
    fn needs(&self) -> &'static [Capability] {
        &[Capability::NodeFreeze]
    }

    async fn aim(&self, scene: &Scene<'_>) -> Result<Aim, FaultError> {
        hold::aim_at_node(scene, &self.node, |node| Hurt::FrozenNode { node }).await
    }
}
