//! Faults of the database's pod, and of the workload that makes it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{HumanDuration, Limit};

/// Deletes the database's pod through the Kubernetes API.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DeletePod {
    /// How long the pod may take to end. Default: what its manifest says. `0s`: the pod is removed at once (a forced deletion), and its containers may live on for a moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HumanDuration")]
    pub grace: Option<HumanDuration>,
}

/// Evicts the database's pod, unless a disruption budget forbids it; it is tried again while one does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EvictPod {
    /// How long the pod may take to end. Default: what its manifest says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HumanDuration")]
    pub grace: Option<HumanDuration>,
}

/// Rolls the workload out anew, as `kubectl rollout restart` does it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RestartWorkload {}

/// Scales the workload to nothing, and back to what it was afterwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ScaleToZero {
    /// How long it lasts. Default: the platform's.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Limit")]
    pub lasts: Option<Limit>,
}
