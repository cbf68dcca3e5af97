//! What can be said about a fault in a scenario file. What it does is in [`crate::fault`].

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::HumanDuration;

/// The longest name of a process that a scenario can give.
pub(super) const MAX_PROCESS: usize = 64;

/// What the name of a process looks like: no path, no control character.
pub(super) const PROCESS_PATTERN: &str = r"^[^/\x00-\x1f\x7f-\x9f]+$";

/// One fault of a scenario: in the file a map with one key.
///
/// The name alone (`- deletePod`, or `- deletePod:` with nothing after it) is the fault with its defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = allow_the_name_alone)]
pub enum FaultSpec {
    /// A process in the database's container gets a signal.
    KillProcess(KillProcess),
    /// The database's pod is deleted.
    DeletePod(DeletePod),
    /// The node that runs the database is cordoned and emptied, as for maintenance.
    DrainNode(DrainNode),
    /// The node that runs the database loses its power.
    CrashNode(CrashNode),
}

impl FaultSpec {
    /// Every fault there is, with its defaults.
    #[must_use]
    pub fn all() -> [Self; 4] {
        [
            Self::KillProcess(KillProcess::default()),
            Self::DeletePod(DeletePod::default()),
            Self::DrainNode(DrainNode::default()),
            Self::CrashNode(CrashNode::default()),
        ]
    }

    /// The name as it is written in a scenario file.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::KillProcess(_) => "killProcess",
            Self::DeletePod(_) => "deletePod",
            Self::DrainNode(_) => "drainNode",
            Self::CrashNode(_) => "crashNode",
        }
    }
}

/// Adds the short forms to the schema that is derived: serde never reads them, the walker turns them into the long one.
fn allow_the_name_alone(schema: &mut Schema) {
    let names: Vec<_> = FaultSpec::all().iter().map(FaultSpec::name).collect();
    let Some(Value::Array(forms)) = schema.get_mut("oneOf") else { return };
    for form in &mut *forms {
        for fault in form["properties"].as_object_mut().into_iter().flat_map(|properties| properties.values_mut()) {
            *fault = json!({ "anyOf": [fault.take(), { "type": "null" }] });
        }
    }
    forms.push(json!({ "description": "The fault with its defaults.", "type": "string", "enum": names }));
}

/// Sends a signal to a process in the database's container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KillProcess {
    /// `engine` (the process that serves clients), `watchdog` (its parent), or the name of a process.
    #[schemars(length(min = 1, max = MAX_PROCESS), regex(pattern = PROCESS_PATTERN))]
    pub process: String,
    /// The signal it gets.
    pub signal: Signal,
}

impl Default for KillProcess {
    fn default() -> Self {
        Self { process: "engine".into(), signal: Signal::Sigkill }
    }
}

/// A signal, as in `man 7 signal`. Only those that end a process: freezing is another fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Signal {
    /// Ends the process at once; it cannot be caught.
    Sigkill,
    /// Asks the process to end.
    Sigterm,
    /// As Ctrl-C.
    Sigint,
    /// As Ctrl-\; many programs dump core.
    Sigquit,
    /// As `abort()` sends it.
    Sigabrt,
    /// As an invalid memory access.
    Sigsegv,
}

impl Signal {
    /// Every signal that a scenario may name.
    pub const ALL: [Self; 6] = [Self::Sigkill, Self::Sigterm, Self::Sigint, Self::Sigquit, Self::Sigabrt, Self::Sigsegv];
}

/// Deletes the database's pod through the Kubernetes API.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DeletePod {
    /// How long the pod may take to end. Default: what its manifest says. `0s`: the pod is removed at once (a forced deletion), and its containers may live on for a moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HumanDuration")]
    pub grace: Option<HumanDuration>,
}

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

/// Which node a fault hits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum NodeChoice {
    /// The node that runs the database when the fault is injected.
    #[default]
    Target,
}

impl NodeChoice {
    /// Every choice there is.
    pub const ALL: [Self; 1] = [Self::Target];
}

impl Signal {
    /// Its name, as in `man 7 signal`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sigkill => "SIGKILL",
            Self::Sigterm => "SIGTERM",
            Self::Sigint => "SIGINT",
            Self::Sigquit => "SIGQUIT",
            Self::Sigabrt => "SIGABRT",
            Self::Sigsegv => "SIGSEGV",
        }
    }
}
