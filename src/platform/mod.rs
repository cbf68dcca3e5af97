//! What each place can do that the Kubernetes API cannot, and what a scenario may leave to it.
//!
//! The place is chosen once, when the run is planned. After that nobody asks "is this the sandbox?", only what it can do
//! ([`Platform::can`]); a scenario whose fault is not possible there is skipped with the reason.
//!
//! | | signal a process | switch a node off |
//! |---|---|---|
//! | sandbox | its own path | its own path |
//! | kind | exec in the container, else docker into the node | docker, which runs the nodes |
//! | any other cluster | exec in the container | not possible |

mod cluster;
pub mod docker;
mod exec;
mod kind;
pub mod processes;
mod sandbox;
mod signal;

use std::{fmt, time::Duration};

use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use serde::{Deserialize, Serialize};

use self::docker::DockerError;
pub use self::{cluster::ClusterPlatform, docker::Docker, kind::KindPlatform, sandbox::SandboxPlatform, signal::Way};
use crate::{
    cluster::{Cluster, ClusterError},
    scenario::Signal,
};

/// How kind names a node towards Kubernetes: `kind://docker/<cluster>/<node>`.
const KIND_PROVIDER: &str = "kind://";
/// What the version of a sandbox's Kubernetes ends with.
const SANDBOX_VERSION: &str = "-comeback";

/// Where a run takes place.
#[derive(Debug)]
pub enum Platform {
    /// The embedded cluster.
    Sandbox(SandboxPlatform),
    /// A cluster whose nodes are containers of docker.
    Kind(KindPlatform),
    /// Any other cluster.
    Cluster(ClusterPlatform),
}

/// What a scenario leaves to the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// `steadyFor`.
    pub steady_for: Duration,
    /// `stableFor`.
    pub stable_for: Duration,
    /// `giveUpAfter`, unless the scenario's limit is longer.
    pub give_up_after: Duration,
    /// The longest period of the cluster's own clockwork (leases, probes). Faults are delayed by a random part of it, so that trials
    /// do not all hit the same phase.
    pub heartbeat: Duration,
    /// How long the workload may take from its creation to the first answer.
    pub start_within: Duration,
    /// How long an undo is tried that needs nothing but the API server.
    pub undo_within: Duration,
}

/// What a fault may need beside the Kubernetes API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Sending a signal to a process in a container.
    SignalProcess,
    /// Switching a node off and on.
    NodePower,
}

/// Whether a node has power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// It runs.
    On,
    /// It does not.
    Off,
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::On => "on",
            Self::Off => "off",
        })
    }
}

/// A container, by all its names.
#[derive(Clone, Copy, Debug)]
pub struct Container<'a> {
    /// The namespace of its pod.
    pub namespace: &'a str,
    /// Its pod.
    pub pod: &'a str,
    /// Its name in the pod.
    pub container: &'a str,
    /// Its id, as the runtime gave it: `containerd://0123…`.
    pub id: Option<&'a str>,
    /// The node that it runs on.
    pub node: Option<&'a str>,
}

/// A process that got a signal.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Signalled {
    /// Its number, as the one who sent the signal sees it.
    pub pid: i32,
    /// The kernel's name for it.
    pub comm: String,
}

/// Something that the place could not do.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// A call to the cluster failed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A call of docker failed.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// This place cannot do it.
    #[error("{0}")]
    NotPossible(String),
    /// It is not a node that may be switched off.
    #[error("node `{node}` is not switched off: {why}")]
    NotOurs {
        /// The node.
        node: String,
        /// Why.
        why: String,
    },
    /// No process of that name runs.
    #[error("no process `{process}` in pod `{pod}`; there are: {running}")]
    NoProcess {
        /// What was looked for.
        process: String,
        /// Where.
        pod: String,
        /// What runs there.
        running: String,
    },
    /// There is such a process, and no way to it.
    #[error("process `{process}` of pod `{pod}` cannot be reached: {why}")]
    OutOfReach {
        /// What was looked for.
        process: String,
        /// Where.
        pod: String,
        /// Why.
        why: String,
    },
    /// A command in the container failed.
    #[error("the list of processes in container `{container}` of pod `{pod}` could not be made: {end}; it said: {said}")]
    Exec {
        /// The pod.
        pod: String,
        /// The container.
        container: String,
        /// How it ended.
        end: String,
        /// What it wrote to stderr.
        said: String,
    },
}

impl Platform {
    /// Finds out which place this is: a sandbox says so in its version, kind in the names that it gives its nodes.
    pub async fn detect(cluster: &Cluster) -> Result<Self, ClusterError> {
        if cluster.version().await?.ends_with(SANDBOX_VERSION) {
            return Ok(Self::Sandbox(SandboxPlatform::new(cluster.clone())));
        }
        let nodes = cluster.call("list the nodes", cluster.all::<Node>().list(&ListParams::default())).await?;
        match nodes.items.iter().find_map(kind_cluster) {
            Some(name) => Ok(Self::Kind(KindPlatform::open(cluster.clone(), name, Docker::default()).await)),
            None => Ok(Self::Cluster(ClusterPlatform::new(cluster.clone()))),
        }
    }

    /// Its name, as `recoveryWithin` knows it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Sandbox(_) => "sandbox",
            Self::Kind(_) => "kind",
            Self::Cluster(_) => "cluster",
        }
    }

    /// What a scenario leaves to it.
    #[must_use]
    pub const fn defaults(&self) -> Defaults {
        match self {
            Self::Sandbox(_) => SandboxPlatform::DEFAULTS,
            Self::Kind(_) => KindPlatform::DEFAULTS,
            Self::Cluster(_) => ClusterPlatform::DEFAULTS,
        }
    }

    /// Whether what it needs beside the API server is at hand.
    ///
    /// # Errors
    /// What is missing, and what to do about it.
    pub fn works(&self) -> Result<(), PlatformError> {
        match self {
            Self::Kind(kind) => kind.works(),
            Self::Sandbox(_) | Self::Cluster(_) => Ok(()),
        }
    }

    /// Whether this kind of place can do this at all; whether it works just now is what [`Platform::works`] tells.
    ///
    /// # Errors
    /// Why not, for the reader of a report: it fits behind "is not possible here:".
    pub fn can(&self, capability: Capability) -> Result<(), String> {
        match (self, capability) {
            (Self::Sandbox(_) | Self::Kind(_), Capability::SignalProcess | Capability::NodePower)
            | (Self::Cluster(_), Capability::SignalProcess) => Ok(()),
            (Self::Cluster(_), Capability::NodePower) => Err(ClusterPlatform::NO_POWER.to_owned()),
        }
    }

    /// Finds the way to a process in a container, without touching it.
    ///
    /// # Errors
    /// If none matches (the message lists what runs there), or if it cannot be reached.
    pub async fn aim_signal(&self, at: &Container<'_>, process: &str) -> Result<Way, PlatformError> {
        match self {
            Self::Sandbox(_) => Ok(Way::Sandbox),
            Self::Kind(kind) => kind.aim_signal(at, process).await,
            Self::Cluster(cluster) => cluster.aim_signal(at, process).await,
        }
    }

    /// Sends a signal to the processes of a container that match, by the way that was found, and returns which got it; none: the container
    /// ended before it could tell.
    ///
    /// # Errors
    /// If none matches: the message lists what runs there.
    pub async fn signal(&self, at: &Container<'_>, way: &Way, process: &str, signal: Signal) -> Result<Vec<Signalled>, PlatformError> {
        match self {
            Self::Sandbox(sandbox) => Ok(sandbox.signal(at, process, signal).await?),
            Self::Kind(kind) => kind.signal(at, way, process, signal).await,
            Self::Cluster(cluster) => cluster.signal(at, way, process, signal).await,
        }
    }

    /// Whether a node has power. On kind a node that is not a worker of this cluster is refused.
    pub async fn power(&self, node: &str) -> Result<Power, PlatformError> {
        match self {
            Self::Sandbox(sandbox) => Ok(sandbox.power(node).await?),
            Self::Kind(kind) => kind.power(node).await,
            Self::Cluster(_) => Err(no_power()),
        }
    }

    /// Takes the power from a node, as a power cut does, and looks that it is gone.
    pub async fn power_off(&self, node: &str) -> Result<(), PlatformError> {
        match self {
            Self::Sandbox(sandbox) => {
                sandbox.switch(node, Power::Off).await?;
                match sandbox.power(node).await? {
                    Power::Off => Ok(()),
                    Power::On => Err(PlatformError::NotPossible(format!("node `{node}` was switched off, and is on"))),
                }
            }
            Self::Kind(kind) => kind.power_off(node).await,
            Self::Cluster(_) => Err(no_power()),
        }
    }

    /// Gives a node its power again. One that has it is left as it is.
    pub async fn power_on(&self, node: &str) -> Result<(), PlatformError> {
        match self {
            Self::Sandbox(sandbox) => Ok(sandbox.switch(node, Power::On).await?),
            Self::Kind(kind) => kind.power_on(node).await,
            Self::Cluster(_) => Err(no_power()),
        }
    }

    /// How it switches a node off, for the record.
    #[must_use]
    pub const fn power_mechanism(&self) -> &'static str {
        match self {
            Self::Sandbox(_) => "sandbox: power off",
            Self::Kind(_) => "docker kill",
            Self::Cluster(_) => ClusterPlatform::NO_POWER,
        }
    }
}

fn no_power() -> PlatformError {
    PlatformError::NotPossible(ClusterPlatform::NO_POWER.to_owned())
}

/// The name of the kind cluster that this node belongs to, if it is one of kind's.
fn kind_cluster(node: &Node) -> Option<String> {
    let id = node.spec.as_ref()?.provider_id.as_deref()?;
    let mut parts = id.strip_prefix(KIND_PROVIDER)?.split('/');
    parts.nth(1).filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::of_kind("kind://docker/comeback/comeback-worker2", Some("comeback"))]
    #[case::of_kind_with_podman("kind://podman/other/other-worker", Some("other"))]
    #[case::of_a_cloud("azure:///subscriptions/x/vm/0", None)]
    #[case::broken("kind://", None)]
    fn a_node_of_kind_names_its_cluster(#[case] id: &str, #[case] expected: Option<&str>) {
        let node: Node = serde_json::from_value(json!({"spec": {"providerID": id}})).unwrap();
        assert_eq!(kind_cluster(&node).as_deref(), expected);
    }
}
