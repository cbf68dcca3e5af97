//! What several faults take.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest name of a node, and the longest label, as Kubernetes has them: a prefix, a name and a value.
pub(in crate::scenario) const MAX_LABEL: usize = 253 + 1 + 63 + 1 + 63;

/// Which node a fault hits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum NodeChoice {
    /// The node that runs the database when the fault is injected.
    #[default]
    Target,
    /// A worker that runs neither the database nor the prober; of several the first by name.
    Other,
    /// The node of this name.
    Name(#[schemars(length(min = 1, max = MAX_LABEL), regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]+$"))] String),
    /// The only node with this label, written `key=value`.
    Label(#[schemars(length(max = MAX_LABEL), regex(pattern = r"^[^=\x00-\x1f\x7f-\x9f]+=[^=\x00-\x1f\x7f-\x9f]*$"))] String),
}
