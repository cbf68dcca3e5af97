//! What can be said about a fault in a scenario file. What it does is in [`crate::fault`].

use serde::{Deserialize, Serialize};

use super::HumanDuration;

/// One fault of a scenario: in the file a map with one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FaultSpec {
    /// A process in the database's container gets a signal.
    KillProcess(KillProcess),
    /// The database's pod is deleted.
    DeletePod(DeletePod),
    /// The node that runs the database is cordoned and emptied, as for maintenance.
    DrainNode(DrainNode),
}

impl FaultSpec {
    /// The name as it is written in a scenario file.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::KillProcess(_) => "killProcess",
            Self::DeletePod(_) => "deletePod",
            Self::DrainNode(_) => "drainNode",
        }
    }
}

/// Sends a signal to a process in the database's container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KillProcess {
    /// `engine` (the process that serves clients), `watchdog` (its parent), or the name of a process.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// Deletes the database's pod through the Kubernetes API.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DeletePod {
    /// How long the pod may take to end. Default: what its manifest says. `0s`: killed at once.
    pub grace: Option<HumanDuration>,
}

/// Cordons a node and evicts the pods on it; it is uncordoned afterwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DrainNode {
    /// Which node.
    pub node: NodeChoice,
    /// How long each evicted pod may take to end. Default: what its manifest says.
    pub grace: Option<HumanDuration>,
}

/// Which node a fault hits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NodeChoice {
    /// The node that runs the database when the fault is injected.
    #[default]
    Target,
}
