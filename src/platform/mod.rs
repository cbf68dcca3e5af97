//! What each place can do that the Kubernetes API cannot, and what a scenario may leave to it.
//!
//! The place is chosen once, when the run is planned. After that nobody asks "is this the sandbox?", only what it can do
//! ([`Platform::can`]); a scenario whose fault is not possible there is skipped with the reason.
//!
//! | | a process | a node's power | what runs on a node | the control plane |
//! |---|---|---|---|---|
//! | sandbox | its own path | its own path | its own path | its own path |
//! | kind | exec in the container, else docker into the node | docker, which runs the nodes | docker into the node | docker into the node |
//! | any other cluster | exec in the container, else the node helper | not possible | the node helper, a pod | not possible |
//!
//! The least privileged way that works is taken, and named in the record: exec in the container, then the container runtime of the node, then the node
//! helper. What lasts is a [`Hurt`]: begun, looked at, ended.

mod cluster;
mod dead_man;
pub mod docker;
mod exec;
pub mod helper;
pub mod hurt;
mod kind;
mod memory;
mod node_shell;
pub mod processes;
mod sandbox;
mod signal;

use std::{fmt, time::Duration};

use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use serde::{Deserialize, Serialize};

use self::docker::DockerError;
pub use self::{
    cluster::ClusterPlatform,
    dead_man::COMMAND as DEAD_MAN_COMMAND,
    docker::Docker,
    helper::COMPONENT as HELPER,
    hurt::{ContainerName, DEAD_MAN, Hurt},
    kind::KindPlatform,
    node_shell::NodeScript,
    sandbox::SandboxPlatform,
    signal::Way,
};
use crate::{
    cluster::{Cluster, ClusterError},
    event::Fact,
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
    /// `for`: how long a fault lasts that does.
    pub lasting: Duration,
}

/// What a fault may need beside the Kubernetes API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Sending a signal to a process in a container.
    SignalProcess,
    /// Killing a container from outside: its first process ignores what is sent from inside.
    KillContainer,
    /// Taking all the memory that a container may have.
    Memory,
    /// Switching a node off and on.
    NodePower,
    /// Making a node start anew.
    NodeReboot,
    /// Making a node stand still.
    NodeFreeze,
    /// Stopping and starting a node's kubelet.
    Kubelet,
    /// Cutting a node off from the network.
    NodeNetwork,
    /// Dropping and resetting what goes to a pod.
    PodNetwork,
    /// Holding back what goes to a pod.
    PodDelay,
    /// Filling a volume that has a size of its own.
    VolumeSize,
    /// Making a volume slow.
    VolumeSpeed,
    /// Keeping a volume from being attached or mounted.
    VolumeAttach,
    /// Stopping and starting the API server.
    ApiServer,
    /// Stopping and starting the other parts of the control plane.
    Controllers,
}

/// The kinds of places, for what can be said of them beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The embedded cluster.
    Sandbox,
    /// A cluster whose nodes are containers of docker.
    Kind,
    /// Any other cluster.
    Cluster,
}

/// By what something is done, and what one must be allowed to do for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Means {
    /// The mechanism, as it stands in the record.
    pub mechanism: &'static str,
    /// The privilege.
    pub privilege: &'static str,
}

impl Place {
    /// Every kind of place.
    pub const ALL: [Self; 3] = [Self::Sandbox, Self::Kind, Self::Cluster];

    /// Its name, as `recoveryWithin` knows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Kind => "kind",
            Self::Cluster => "cluster",
        }
    }

    /// By what a place of this kind can do it.
    ///
    /// # Errors
    /// Why it cannot, for the reader of a report: it fits behind "is not possible here:".
    pub const fn can(self, capability: Capability) -> Result<Means, &'static str> {
        const OWN: Means = Means { mechanism: "sandbox: its own path", privilege: "the sandbox's token" };
        const EXEC: Means = Means { mechanism: "exec in the container", privilege: "create pods/exec" };
        const DOCKER: Means = Means { mechanism: "docker exec on the node", privilege: "docker on this machine" };
        const POWER: Means = Means { mechanism: "docker kill, docker start", privilege: "docker on this machine" };
        const RESTART: Means = Means { mechanism: "docker restart", privilege: "docker on this machine" };
        const PAUSE: Means = Means { mechanism: "docker pause, docker unpause", privilege: "docker on this machine" };
        const HELPER: Means = Means { mechanism: "node helper", privilege: "create privileged pods" };
        const OF_THE_STORAGE: &str =
            "how the volume is stored is not known here, and a disk that may not be the workload's own is never touched";
        const OF_THE_CLOUD: &str = "the control plane is not reached through the Kubernetes API";
        match (self, capability) {
            (Self::Sandbox, _) => Ok(OWN),
            (Self::Kind | Self::Cluster, Capability::SignalProcess | Capability::Memory) => Ok(EXEC),
            (Self::Kind, Capability::NodePower) => Ok(POWER),
            (Self::Kind, Capability::NodeReboot) => Ok(RESTART),
            (Self::Kind, Capability::NodeFreeze) => Ok(PAUSE),
            (
                Self::Kind,
                Capability::KillContainer
                | Capability::Kubelet
                | Capability::NodeNetwork
                | Capability::PodNetwork
                | Capability::PodDelay
                | Capability::VolumeSize
                | Capability::VolumeSpeed
                | Capability::VolumeAttach
                | Capability::ApiServer
                | Capability::Controllers,
            ) => Ok(DOCKER),
            (
                Self::Cluster,
                Capability::KillContainer
                | Capability::NodeReboot
                | Capability::Kubelet
                | Capability::NodeNetwork
                | Capability::PodNetwork
                | Capability::PodDelay,
            ) => Ok(HELPER),
            (Self::Cluster, Capability::NodePower | Capability::NodeFreeze) => Err(ClusterPlatform::NO_POWER),
            (Self::Cluster, Capability::ApiServer | Capability::Controllers) => Err(OF_THE_CLOUD),
            (Self::Cluster, Capability::VolumeSize | Capability::VolumeSpeed | Capability::VolumeAttach) => Err(OF_THE_STORAGE),
        }
    }
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
    /// The node helper did not do what it was sent for.
    #[error("the helper on node `{node}` failed: {said}")]
    Helper {
        /// The node.
        node: String,
        /// What it said last.
        said: String,
    },
    /// A node is cut off, and nobody reaches it.
    #[error(
        "node `{node}` does not renew its lease, so nothing reaches it: what cuts it off ends by itself when its time is over, and one that was told to start anew has to start (hint: `comeback heal` after that)"
    )]
    CutOff {
        /// The node.
        node: String,
    },
    /// What would mend the node if the run is killed could not be started.
    #[error("the process that would mend node `{node}` if this one is killed could not be started")]
    DeadMan {
        /// The node.
        node: String,
        /// Why.
        source: std::io::Error,
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
    /// Finds out which place this is: a sandbox says so in its version, kind in the names that it gives its nodes. `image` is our own image as the cluster
    /// knows it: what the node helper runs.
    pub async fn detect(cluster: &Cluster, image: Option<&str>) -> Result<Self, ClusterError> {
        if cluster.version().await?.ends_with(SANDBOX_VERSION) {
            return Ok(Self::Sandbox(SandboxPlatform::new(cluster.clone())));
        }
        let nodes = cluster.call("list the nodes", cluster.all::<Node>().list(&ListParams::default())).await?;
        match nodes.items.iter().find_map(kind_cluster) {
            Some(name) => Ok(Self::Kind(KindPlatform::open(cluster.clone(), name, Docker::default()).await)),
            None => Ok(Self::by_api(cluster, image)),
        }
    }

    /// A cluster of which nothing is used but its API, whatever it is.
    #[must_use]
    pub fn by_api(cluster: &Cluster, image: Option<&str>) -> Self {
        Self::Cluster(ClusterPlatform::new(cluster.clone(), image.map(str::to_owned)))
    }

    /// Which kind of place it is.
    #[must_use]
    pub const fn place(&self) -> Place {
        match self {
            Self::Sandbox(_) => Place::Sandbox,
            Self::Kind(_) => Place::Kind,
            Self::Cluster(_) => Place::Cluster,
        }
    }

    /// Its name, as `recoveryWithin` knows it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.place().name()
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

    /// Whether this place can do this at all; whether it works just now is what [`Platform::works`] tells.
    ///
    /// # Errors
    /// Why not, for the reader of a report: it fits behind "is not possible here:".
    pub fn can(&self, capability: Capability) -> Result<Means, String> {
        let means = self.place().can(capability).map_err(str::to_owned)?;
        match (self, capability) {
            (Self::Kind(kind), Capability::PodDelay) => kind.can_delay().map(|()| means),
            (Self::Kind(kind), Capability::VolumeSize | Capability::VolumeSpeed | Capability::VolumeAttach) => {
                kind.can_hurt_volumes().map(|()| means)
            }
            (Self::Cluster(cluster), Capability::PodDelay) => cluster.image().and_then(|_| cluster.can_delay()).map(|()| means),
            (Self::Cluster(cluster), Capability::NodeReboot) => cluster.image().and_then(|_| cluster.boots_differ()).map(|()| means),
            (Self::Cluster(cluster), _) if means.mechanism == "node helper" => cluster.image().map(|_| means),
            _ => Ok(means),
        }
    }

    /// Whether what is hurt for so long can be seen here to be.
    ///
    /// # Errors
    /// Why not, and how long it would have to last.
    pub fn can_last(&self, hurt: &Hurt, lasts: Duration) -> Result<(), String> {
        match self {
            Self::Cluster(_) => ClusterPlatform::can_last(hurt, lasts),
            Self::Sandbox(_) | Self::Kind(_) => Ok(()),
        }
    }

    /// Finds out what cannot be known from outside about what will be needed: for a delay a helper is sent to a node, so this is for a run that may begin. What
    /// it finds is told by [`Platform::can`].
    pub async fn find_out(&self, needed: &[Capability]) {
        let Self::Cluster(cluster) = self else { return };
        let open = |capability| needed.contains(&capability) && self.can(capability).is_ok();
        if open(Capability::PodDelay) {
            cluster.ask_for_delay().await;
        }
        if open(Capability::NodeReboot) {
            // Whoever aims at a node asks again, and says why it is not known.
            let _ = self.find_out_boots().await;
        }
    }

    /// The same, of whether a node that starts anew could be seen to have done so.
    pub async fn find_out_boots(&self) -> Result<(), ClusterError> {
        match self {
            Self::Cluster(cluster) => cluster.ask_for_boots().await,
            Self::Sandbox(_) | Self::Kind(_) => Ok(()),
        }
    }

    /// Hurts what is to be hurt, for so long at most and a little longer: then it mends by itself, whatever became of us.
    pub async fn begin(&self, hurt: &Hurt, lasts: Duration) -> Result<(), PlatformError> {
        match self {
            Self::Sandbox(sandbox) => Ok(sandbox.begin(hurt, lasts + DEAD_MAN).await?),
            Self::Kind(kind) => kind.begin(hurt, lasts + DEAD_MAN).await,
            Self::Cluster(cluster) => cluster.begin(hurt, lasts).await,
        }
    }

    /// Mends it. What is whole is left as it is.
    pub async fn end(&self, hurt: &Hurt) -> Result<(), PlatformError> {
        match self {
            Self::Sandbox(sandbox) => Ok(sandbox.end(hurt).await?),
            Self::Kind(kind) => kind.end(hurt).await,
            Self::Cluster(cluster) => cluster.end(hurt).await,
        }
    }

    /// How it is.
    pub async fn look(&self, hurt: &Hurt) -> Result<Vec<Fact>, PlatformError> {
        match self {
            Self::Sandbox(sandbox) => Ok(sandbox.look(hurt).await?),
            Self::Kind(kind) => kind.look(hurt).await,
            Self::Cluster(cluster) => cluster.look(hurt).await,
        }
    }

    /// Resets every connection to this address, once, and says what was reset.
    pub async fn reset_connections(&self, node: &str, address: &str) -> Result<String, PlatformError> {
        match self {
            Self::Sandbox(sandbox) => Ok(sandbox.reset_connections(address).await?),
            Self::Kind(kind) => kind.reset_connections(node, address).await,
            Self::Cluster(cluster) => cluster.reset_connections(node, address).await,
        }
    }

    /// Takes all the memory that this container may have, and says what became of it.
    pub async fn exhaust_memory(&self, at: &Container<'_>) -> Result<String, PlatformError> {
        match self {
            Self::Sandbox(sandbox) => Ok(sandbox.exhaust_memory(at).await?),
            Self::Kind(kind) => kind.exhaust_memory(at).await,
            Self::Cluster(cluster) => cluster.exhaust_memory(at).await,
        }
    }

    /// Makes a node start anew: takes its power and gives it back at once (if the run is killed in between, it has it back by itself a little after `at_most`), or
    /// has the node start anew by itself where nobody else can.
    pub async fn reboot(&self, node: &str, at_most: Duration) -> Result<(), PlatformError> {
        match self {
            Self::Sandbox(_) => {
                self.power_off(node, at_most).await?;
                self.power_on(node).await
            }
            Self::Kind(kind) => kind.reboot(node, at_most + DEAD_MAN).await,
            Self::Cluster(cluster) => cluster.begin(&Hurt::RebootedNode { node: node.to_owned() }, at_most).await,
        }
    }

    /// What tells one boot of a node from another.
    pub async fn boot(&self, node: &str) -> Result<String, PlatformError> {
        match self {
            Self::Kind(kind) => kind.boot(node).await,
            Self::Sandbox(SandboxPlatform { cluster, .. }) | Self::Cluster(ClusterPlatform { cluster, .. }) => {
                let object = cluster.node(node).await?;
                let boot = object.status.and_then(|status| status.node_info).map(|info| info.boot_id).filter(|boot| !boot.is_empty());
                let missing = || ClusterError::Incomplete { what: format!("node `{node}`"), missing: "boot id" };
                Ok(boot.ok_or_else(missing)?)
            }
        }
    }

    /// Finds the way to a process in a container, without touching it.
    ///
    /// # Errors
    /// If none matches (the message lists what runs there), or if it cannot be reached.
    pub async fn aim_signal(&self, at: &Container<'_>, process: &str) -> Result<Way, PlatformError> {
        match self {
            Self::Sandbox(sandbox) => sandbox.aim_signal(at, process).await,
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
        let sent = signal::Sent::only(signal.name());
        match self {
            Self::Sandbox(sandbox) => Ok(sandbox.signal(at, process, sent.name).await?),
            Self::Kind(kind) => kind.signal(at, way, process, sent).await,
            Self::Cluster(cluster) => cluster.signal(at, way, process, sent).await,
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

    /// Takes the power from a node, as a power cut does, and looks that it is gone. It has it back by itself a little after `at_most`, if nobody is left to give
    /// it back; the sandbox ends with the run.
    pub async fn power_off(&self, node: &str, at_most: Duration) -> Result<(), PlatformError> {
        match self {
            Self::Sandbox(sandbox) => {
                sandbox.switch(node, Power::Off).await?;
                match sandbox.power(node).await? {
                    Power::Off => Ok(()),
                    Power::On => Err(PlatformError::NotPossible(format!("node `{node}` was switched off, and is on"))),
                }
            }
            Self::Kind(kind) => kind.power_off(node, at_most + DEAD_MAN).await,
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
