//! Faults of a node.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    super::{HumanDuration, Limit},
    NodeChoice,
};

/// Cordons a node and evicts the pods on it; it is uncordoned afterwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DrainNode {
    /// Which node.
    pub node: NodeChoice,
    /// How long each evicted pod may take to end. Default: what its manifest says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HumanDuration")]
    pub grace: Option<HumanDuration>,
}

/// Makes a node take no new pods; those that are there stay. It is uncordoned afterwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CordonNode {
    /// Which node.
    pub node: NodeChoice,
    /// How long it lasts. Default: the platform's.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Limit")]
    pub lasts: Option<Limit>,
}

/// Takes the power from a node; it is started again afterwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CrashNode {
    /// Which node.
    pub node: NodeChoice,
    /// How long after the crash the node is started again, whether or not the database is back. Default: when the recovery is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HumanDuration")]
    pub restore_after: Option<HumanDuration>,
    /// What is done, as an operator would, for a pod that hangs on the dead node.
    pub assist: Assist,
}

/// Takes the power from a node and gives it back at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RebootNode {
    /// Which node.
    pub node: NodeChoice,
}

/// Makes a node stand still with all that runs on it: nothing answers, and connections stay open. It goes on afterwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FreezeNode {
    /// Which node.
    pub node: NodeChoice,
    /// How long it lasts. Default: the platform's.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Limit")]
    pub lasts: Option<Limit>,
}

/// Stops the kubelet of a node, and starts it again afterwards. The containers run on, and nobody looks after them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StopKubelet {
    /// Which node.
    pub node: NodeChoice,
    /// How long it lasts. Default: the platform's.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Limit")]
    pub lasts: Option<Limit>,
}

/// Drops everything that a node sends and gets, and ends that afterwards. What runs there goes on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IsolateNode {
    /// Which node.
    pub node: NodeChoice,
    /// How long it lasts. Default: the platform's.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Limit")]
    pub lasts: Option<Limit>,
}

/// Taints a node, and takes the taint away afterwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TaintNode {
    /// Which node.
    pub node: NodeChoice,
    /// What becomes of pods that do not tolerate it.
    pub effect: TaintEffect,
    /// How long it lasts. Default: the platform's.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Limit")]
    pub lasts: Option<Limit>,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// Those that are there have to go, and no new one comes.
    #[default]
    NoExecute,
    /// No new one comes.
    NoSchedule,
}

impl TaintEffect {
    /// Every effect there is.
    pub const ALL: [Self; 2] = [Self::NoExecute, Self::NoSchedule];

    /// Its name, in a scenario file and in Kubernetes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoExecute => "NoExecute",
            Self::NoSchedule => "NoSchedule",
        }
    }
}

/// What is done for a pod that stays on a dead node and keeps its place there.
///
/// The pod of a `StatefulSet` is replaced only when it is certain that it has ended, so it waits for one of these, or for its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Assist {
    /// Nothing: what Kubernetes does on its own is measured.
    #[default]
    None,
    /// The pod is deleted with a grace of nothing, without waiting for its node.
    ForceDelete,
    /// The node gets the taint `node.kubernetes.io/out-of-service`, which has its pods removed and its volumes detached.
    OutOfServiceTaint,
    /// The node's object is deleted; it registers again when it starts.
    DeleteNode,
}

impl Assist {
    /// Every kind of help there is.
    pub const ALL: [Self; 4] = [Self::None, Self::ForceDelete, Self::OutOfServiceTaint, Self::DeleteNode];

    /// Its name as it is written in a scenario file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ForceDelete => "forceDelete",
            Self::OutOfServiceTaint => "outOfServiceTaint",
            Self::DeleteNode => "deleteNode",
        }
    }
}
