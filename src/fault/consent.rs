//! What the user lets be broken.
//!
//! The namespace of the target says whether it may be broken at all; what goes beyond it needs a word of its own: the control plane by a second label, others'
//! pods and more than one node by an option of the run.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::{ResourceExt as _, api::ListParams};

use super::{FaultError, Scene, nodes::CONTROL_PLANE};
use crate::{cluster::CONSENT, platform::Place};

/// The label with which a namespace says that the control plane may be broken, too.
pub const CONTROL_PLANE_LABEL: &str = "comeback.dev/chaos-control-plane";

/// What the user lets be broken beside the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consent {
    /// Whether pods of others may go down with a node.
    pub bystanders: bool,
    /// How many nodes may be hurt at once.
    pub max_nodes: usize,
}

impl Default for Consent {
    fn default() -> Self {
        Self { bystanders: false, max_nodes: 1 }
    }
}

impl Consent {
    /// Refuses a further node where too many are hurt already.
    ///
    /// # Errors
    /// The nodes that would be.
    pub fn allows(&self, hurt: impl IntoIterator<Item = String>, further: Option<&str>) -> Result<(), FaultError> {
        let Some(further) = further else { return Ok(()) };
        let nodes: BTreeSet<String> = hurt.into_iter().chain([further.to_owned()]).collect();
        if nodes.len() <= self.max_nodes {
            return Ok(());
        }
        Err(FaultError::TooManyNodes { nodes: nodes.into_iter().map(|node| format!("node `{node}`")).collect(), max: self.max_nodes })
    }
}

/// The node that runs the control plane, if that may be broken. The sandbox is ours.
pub(super) async fn control_plane(scene: &Scene<'_>) -> Result<String, FaultError> {
    let cluster = scene.cluster;
    let namespace = &cluster.target.namespace;
    if scene.platform.place() != Place::Sandbox {
        let object = cluster.call(format!("read namespace `{namespace}`"), cluster.all::<Namespace>().get(namespace)).await?;
        if !object.labels().iter().any(|(key, value)| key == CONTROL_PLANE_LABEL && value == CONSENT) {
            return Err(FaultError::NoConsent { namespace: namespace.clone() });
        }
    }
    let params = ListParams::default().labels(CONTROL_PLANE);
    let nodes = cluster.call("list the nodes of the control plane", cluster.all::<Node>().list(&params)).await?.items;
    match nodes.as_slice() {
        [only] => Ok(only.name_any()),
        [] => Err(FaultError::NotOneNode { choice: "the node of the control plane".into(), found: "no node says that it is one".into() }),
        many => {
            let found = format!("there are {}: stopping one of them would stop nothing", many.len());
            Err(FaultError::NotOneNode { choice: "the only node of the control plane".into(), found })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_more_than_allowed_is_refused() {
        let hurt = |nodes: &[&str]| nodes.iter().map(|node| (*node).to_owned()).collect::<Vec<_>>();
        let one = Consent::default();
        assert!(one.allows(hurt(&[]), Some("a")).is_ok());
        assert!(one.allows(hurt(&["a"]), Some("a")).is_ok(), "the same one");
        assert!(one.allows(hurt(&["a"]), None).is_ok());
        let refused = one.allows(hurt(&["a"]), Some("b")).unwrap_err().to_string();
        assert_eq!(refused, "node `a`, node `b` would be hurt at once, and `--max-nodes` is 1");
        assert!(Consent { max_nodes: 2, ..one }.allows(hurt(&["a"]), Some("b")).is_ok());
    }
}
