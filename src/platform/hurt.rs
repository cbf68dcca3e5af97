//! What lasts: a process, a node, a network, a volume, a part of the control plane that is hurt, until it is mended.
//!
//! A [`Hurt`] is data, so that it can stand in the undo journal and be mended by another process, on any platform. Each can be begun, ended and
//! looked at; beginning or ending it twice is no error. What looking at it tells ([`Fact`]s) differs while it is in force, and is evidence: not that
//! a rule was set, but what it did (packets that were dropped, a process that stands still).
//!
//! Who begins one says how long it may last: then it ends by itself, also if nobody is left to end it.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Capability, cluster::RENEWED};
use crate::{event::Fact, scenario::Controller};

/// How long a hurt may outlast the time at which it was to be mended: then it ends by itself.
pub const DEAD_MAN: Duration = Duration::from_mins(1);

/// Something that is hurt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "hurt")]
pub enum Hurt {
    /// A process of a container stands still.
    FrozenProcess {
        /// The container.
        container: ContainerName,
        /// Which process of it.
        process: String,
    },
    /// A node stands still.
    FrozenNode {
        /// Which.
        node: String,
    },
    /// A node's kubelet is stopped.
    StoppedKubelet {
        /// The node.
        node: String,
    },
    /// A node is cut off from the network.
    IsolatedNode {
        /// Which.
        node: String,
    },
    /// A node was told to start anew, where nobody else can take its power and give it back.
    RebootedNode {
        /// Which.
        node: String,
    },
    /// A pod is cut off from the network.
    IsolatedPod {
        /// Where it runs.
        node: String,
        /// Its address.
        address: String,
    },
    /// What goes to a pod is late.
    DelayedPod {
        /// Where it runs.
        node: String,
        /// Its address.
        address: String,
        /// By how many milliseconds.
        ms: u64,
    },
    /// A part of what goes to a pod is lost.
    LossyPod {
        /// Where it runs.
        node: String,
        /// Its address.
        address: String,
        /// How much of a hundred.
        percent: u8,
    },
    /// A volume is full.
    FullVolume {
        /// Its name.
        volume: String,
    },
    /// A volume is slow to flush.
    SlowVolume {
        /// Its name.
        volume: String,
        /// By how many milliseconds.
        ms: u64,
    },
    /// A volume can be neither attached nor mounted anew.
    UnattachableVolume {
        /// Its name.
        volume: String,
    },
    /// The API server is stopped.
    StoppedApiServer {
        /// The node that it runs on.
        node: String,
    },
    /// A controller is stopped.
    StoppedController {
        /// The node that it runs on.
        node: String,
        /// Which.
        controller: Controller,
    },
}

/// A container, by all its names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerName {
    /// The namespace of its pod.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// Its name in the pod.
    pub container: String,
    /// Its id, as the runtime gave it: another one is another life, with which nothing is wrong.
    pub id: String,
    /// The node that it runs on.
    pub node: String,
}

impl Hurt {
    /// The node on which it is, if it is on one.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::FrozenProcess { container, .. } => Some(&container.node),
            Self::FrozenNode { node }
            | Self::StoppedKubelet { node }
            | Self::IsolatedNode { node }
            | Self::RebootedNode { node }
            | Self::IsolatedPod { node, .. }
            | Self::DelayedPod { node, .. }
            | Self::LossyPod { node, .. }
            | Self::StoppedApiServer { node }
            | Self::StoppedController { node, .. } => Some(node),
            Self::FullVolume { .. } | Self::SlowVolume { .. } | Self::UnattachableVolume { .. } => None,
        }
    }

    /// The volume that is hurt, if one is.
    #[must_use]
    pub fn volume(&self) -> Option<&str> {
        match self {
            Self::FullVolume { volume } | Self::SlowVolume { volume, .. } | Self::UnattachableVolume { volume } => Some(volume),
            _ => None,
        }
    }

    /// What a place must be able to do for it.
    #[must_use]
    pub const fn needs(&self) -> Capability {
        match self {
            Self::FrozenProcess { .. } => Capability::SignalProcess,
            Self::FrozenNode { .. } => Capability::NodeFreeze,
            Self::StoppedKubelet { .. } => Capability::Kubelet,
            Self::IsolatedNode { .. } => Capability::NodeNetwork,
            Self::RebootedNode { .. } => Capability::NodeReboot,
            Self::IsolatedPod { .. } | Self::LossyPod { .. } => Capability::PodNetwork,
            Self::DelayedPod { .. } => Capability::PodDelay,
            Self::FullVolume { .. } => Capability::VolumeSize,
            Self::SlowVolume { .. } => Capability::VolumeSpeed,
            Self::UnattachableVolume { .. } => Capability::VolumeAttach,
            Self::StoppedApiServer { .. } => Capability::ApiServer,
            Self::StoppedController { .. } => Capability::Controllers,
        }
    }

    /// Whether the node's kubelet, or all of the node, is out of reach while it lasts: then the node itself has to end it.
    #[must_use]
    pub const fn cuts_off(&self) -> bool {
        matches!(self, Self::FrozenNode { .. } | Self::StoppedKubelet { .. } | Self::IsolatedNode { .. } | Self::RebootedNode { .. })
    }

    /// Whether what looking at it told is how it is when nothing is wrong.
    #[must_use]
    pub fn is_whole(&self, value: &str) -> bool {
        match self {
            // One that is gone stands still no more.
            Self::FrozenProcess { .. } => ["runs", "gone"].contains(&value),
            Self::FrozenNode { .. } | Self::StoppedApiServer { .. } | Self::StoppedController { .. } => value == "runs",
            Self::StoppedKubelet { .. } => ["active", RENEWED].contains(&value),
            Self::IsolatedNode { .. } => ["none", RENEWED].contains(&value),
            Self::RebootedNode { .. } => value == RENEWED,
            Self::IsolatedPod { .. }
            | Self::DelayedPod { .. }
            | Self::LossyPod { .. }
            | Self::FullVolume { .. }
            | Self::SlowVolume { .. }
            | Self::UnattachableVolume { .. } => value == "none",
        }
    }

    /// The words for [`NodeScript::Hurt`](super::NodeScript::Hurt): what it is, and what it takes. After the first of a volume comes the folder that it is on the node.
    pub(super) fn words(&self) -> Option<Vec<String>> {
        let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
        match self {
            Self::StoppedKubelet { .. } => words(&["kubelet"]),
            Self::IsolatedNode { .. } => words(&["isolate-node"]),
            Self::RebootedNode { .. } => words(&["reboot"]),
            Self::IsolatedPod { address, .. } => words(&["isolate-pod", address]),
            Self::DelayedPod { address, ms, .. } => words(&["delay-pod", address, &ms.to_string()]),
            Self::LossyPod { address, percent, .. } => words(&["lossy-pod", address, &percent.to_string()]),
            Self::FullVolume { .. } => words(&["full-volume"]),
            Self::SlowVolume { ms, .. } => words(&["slow-volume", &ms.to_string()]),
            Self::UnattachableVolume { .. } => words(&["unattachable-volume"]),
            Self::StoppedApiServer { .. } => words(&["manifest", "kube-apiserver"]),
            Self::StoppedController { controller: Controller::ControllerManager, .. } => words(&["manifest", "kube-controller-manager"]),
            Self::StoppedController { controller: Controller::Scheduler, .. } => words(&["manifest", "kube-scheduler"]),
            Self::FrozenProcess { .. } | Self::FrozenNode { .. } => None,
        }
    }

    /// How a person ends it.
    #[must_use]
    pub fn by_hand(&self) -> String {
        match self {
            Self::FrozenNode { node } => format!("node `{node}` stands still: `docker unpause {node}` on kind, or `comeback heal`"),
            Self::StoppedKubelet { node } => {
                format!("the kubelet of node `{node}` is stopped: `systemctl start kubelet` there, or `comeback heal`")
            }
            Self::RebootedNode { node } => {
                format!("node `{node}` was told to start anew: see that it does (`docker start {node}` on kind), then `comeback heal`")
            }
            // It keeps its journal in what is stopped.
            Self::StoppedApiServer { node } => format!(
                "the API server is stopped: `docker exec {node} mv /etc/kubernetes/comeback/kube-apiserver.yaml /etc/kubernetes/manifests/` on kind, then `comeback heal`"
            ),
            other => format!("{other}: `comeback heal`"),
        }
    }
}

impl fmt::Display for Hurt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FrozenProcess { container, process } => write!(f, "frozen process `{process}` of pod `{}`", container.pod),
            Self::FrozenNode { node } => write!(f, "frozen node `{node}`"),
            Self::StoppedKubelet { node } => write!(f, "stopped kubelet of node `{node}`"),
            Self::IsolatedNode { node } => write!(f, "isolated node `{node}`"),
            Self::RebootedNode { node } => write!(f, "reboot of node `{node}`"),
            Self::IsolatedPod { address, node } => write!(f, "isolated pod at `{address}` on node `{node}`"),
            Self::DelayedPod { address, node, ms } => write!(f, "network of the pod at `{address}` on node `{node}`, {ms} ms late"),
            Self::LossyPod { address, node, percent } => {
                write!(f, "network of the pod at `{address}` on node `{node}`, with a loss of {percent}%")
            }
            Self::FullVolume { volume } => write!(f, "full volume `{volume}`"),
            Self::SlowVolume { volume, ms } => write!(f, "volume `{volume}`, {ms} ms late"),
            Self::UnattachableVolume { volume } => write!(f, "volume `{volume}` that cannot be attached"),
            Self::StoppedApiServer { .. } => f.write_str("stopped API server"),
            Self::StoppedController { controller: Controller::ControllerManager, .. } => f.write_str("stopped controller manager"),
            Self::StoppedController { controller: Controller::Scheduler, .. } => f.write_str("stopped scheduler"),
        }
    }
}

/// Reads what a script printed of a hurt: a line a fact, its name and its value with a tab between.
pub(super) fn facts_of(text: &str) -> Vec<Fact> {
    let lines = text.lines().filter_map(|line| line.split_once('\t'));
    lines.map(|(what, value)| Fact { what: what.to_owned(), value: value.to_owned() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hurt_reads_back_as_it_was_written() {
        let container =
            ContainerName { namespace: "db".into(), pod: "p".into(), container: "c".into(), id: "x://1".into(), node: "w".into() };
        for hurt in [
            Hurt::FrozenProcess { container, process: "engine".into() },
            Hurt::LossyPod { node: "w".into(), address: "10.0.0.1".into(), percent: 5 },
            Hurt::StoppedController { node: "cp".into(), controller: Controller::Scheduler },
            Hurt::FullVolume { volume: "pv".into() },
            Hurt::RebootedNode { node: "w".into() },
        ] {
            let text = serde_json::to_string(&hurt).unwrap();
            assert_eq!(serde_json::from_str::<Hurt>(&text).unwrap(), hurt, "{text}");
            assert!(hurt.by_hand().contains("comeback heal"), "{}", hurt.by_hand());
        }
    }

    #[test]
    fn what_a_script_says_is_read_line_by_line() {
        let facts = facts_of("packets dropped\t12\nno tab here\nkubelet\tinactive\n");
        let told: Vec<_> = facts.iter().map(|fact| (fact.what.as_str(), fact.value.as_str())).collect();
        assert_eq!(told, [("packets dropped", "12"), ("kubelet", "inactive")]);
    }
}
