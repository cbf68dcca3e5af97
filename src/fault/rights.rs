//! What one must be allowed to do in a cluster, for a run and for each fault: what `comeback plan` prints and `comeback preflight` asks.

use std::{collections::BTreeSet, fmt};

use crate::{platform::Place, scenario::FaultSpec};

/// Something that the API server must let one do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Right {
    /// The group of the resource; empty for the core.
    pub group: &'static str,
    /// The resource, in the plural.
    pub resource: &'static str,
    /// A part of it, or empty.
    pub subresource: &'static str,
    /// The verb.
    pub verb: &'static str,
    /// Whether it is meant within the target's namespace.
    pub namespaced: bool,
}

impl Right {
    const fn of(verb: &'static str, group: &'static str, resource: &'static str) -> Self {
        Self { group, resource, subresource: "", verb, namespaced: true }
    }

    const fn part(verb: &'static str, group: &'static str, resource: &'static str, subresource: &'static str) -> Self {
        Self { group, resource, subresource, verb, namespaced: true }
    }

    const fn cluster(verb: &'static str, resource: &'static str) -> Self {
        Self { group: "", resource, subresource: "", verb, namespaced: false }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.subresource.is_empty() {
            write!(f, "/{}", self.subresource)?;
        }
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        Ok(())
    }
}

/// What every run needs: to look, to write down what has to be undone, to keep others out, to have a prober and a fresh pod.
pub const OF_EVERY_RUN: [Right; 27] = [
    Right::of("get", "", "pods"),
    Right::of("get", "coordination.k8s.io", "leases"),
    Right::of("get", "apps", "deployments"),
    Right::of("get", "apps", "statefulsets"),
    Right::cluster("get", "nodes"),
    Right::of("list", "", "pods"),
    Right::of("watch", "", "pods"),
    Right::of("create", "", "pods"),
    Right::of("delete", "", "pods"),
    Right::part("create", "", "pods", "portforward"),
    Right::of("get", "", "services"),
    Right::of("get", "", "persistentvolumeclaims"),
    Right::of("get", "", "secrets"),
    Right::of("list", "", "events"),
    Right::of("get", "", "configmaps"),
    Right::of("create", "", "configmaps"),
    Right::of("patch", "", "configmaps"),
    Right::of("delete", "", "configmaps"),
    Right::of("create", "coordination.k8s.io", "leases"),
    Right::of("update", "coordination.k8s.io", "leases"),
    Right::of("delete", "coordination.k8s.io", "leases"),
    Right::of("patch", "apps", "deployments"),
    Right::of("patch", "apps", "statefulsets"),
    Right::cluster("list", "nodes"),
    Right::cluster("watch", "nodes"),
    Right::cluster("get", "persistentvolumes"),
    Right::cluster("get", "namespaces"),
];

/// What a fault needs beside that, in a place of this kind.
#[must_use]
pub fn rights(fault: &FaultSpec, place: Place) -> BTreeSet<Right> {
    const EXEC: Right = Right::part("create", "", "pods", "exec");
    const PODS_OF_A_NODE: Right = Right::cluster("list", "pods");
    const CHANGE_NODE: Right = Right::cluster("patch", "nodes");
    // What is seen of a node that is away, and of one that is to be back.
    const LEASES_OF_NODES: Right = Right { group: "coordination.k8s.io", ..Right::cluster("get", "leases") };
    let by_helper = [Right::of("create", "", "pods"), Right::part("get", "", "pods", "log")];
    let through_the_node: &[Right] = if place == Place::Cluster { &by_helper } else { &[] };
    let more: Vec<Right> = match fault {
        FaultSpec::ExhaustMemory(_) => vec![EXEC],
        // The first process of a container is reached from its node alone.
        FaultSpec::KillProcess(_) | FaultSpec::FreezeProcess(_) | FaultSpec::KillContainer(_) => {
            [EXEC].into_iter().chain(through_the_node.iter().copied()).collect()
        }
        FaultSpec::EvictPod(_) => vec![Right::part("create", "", "pods", "eviction")],
        FaultSpec::RestartWorkload(_) | FaultSpec::ScaleToZero(_) => vec![Right::of("get", "apps", "replicasets")],
        FaultSpec::DrainNode(_) => vec![CHANGE_NODE, PODS_OF_A_NODE, Right::part("create", "", "pods", "eviction")],
        FaultSpec::CordonNode(_) | FaultSpec::TaintNode(_) => vec![CHANGE_NODE, PODS_OF_A_NODE],
        FaultSpec::CrashNode(_) => vec![CHANGE_NODE, PODS_OF_A_NODE, LEASES_OF_NODES, Right::cluster("delete", "nodes")],
        FaultSpec::FreezeNode(_) => vec![PODS_OF_A_NODE, LEASES_OF_NODES],
        FaultSpec::RebootNode(_) | FaultSpec::StopKubelet(_) | FaultSpec::IsolateNode(_) => {
            [PODS_OF_A_NODE, LEASES_OF_NODES].into_iter().chain(through_the_node.iter().copied()).collect()
        }
        FaultSpec::IsolatePod(_) | FaultSpec::DelayNetwork(_) | FaultSpec::LossyNetwork(_) | FaultSpec::ResetConnections(_) => {
            through_the_node.to_vec()
        }
        FaultSpec::FillVolume(_) | FaultSpec::SlowVolume(_) | FaultSpec::FailAttach(_) if place == Place::Kind => {
            vec![Right::cluster("list", "persistentvolumes")]
        }
        FaultSpec::DeletePod(_)
        | FaultSpec::FillVolume(_)
        | FaultSpec::SlowVolume(_)
        | FaultSpec::FailAttach(_)
        | FaultSpec::StopApiServer(_)
        | FaultSpec::StopController(_) => Vec::new(),
        FaultSpec::BreakEndpoints(_) => vec![Right::of("patch", "", "services"), Right::of("list", "discovery.k8s.io", "endpointslices")],
    };
    more.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_is_written_as_kubectl_auth_can_i_takes_it() {
        assert_eq!(Right::part("create", "", "pods", "exec").to_string(), "create pods/exec");
        assert_eq!(Right::of("patch", "apps", "deployments").to_string(), "patch deployments.apps");
        assert_eq!(Right::cluster("list", "nodes").to_string(), "list nodes");
    }

    #[test]
    fn a_node_is_changed_only_by_those_that_say_so() {
        let patches = |fault: &FaultSpec| rights(fault, Place::Kind).contains(&Right::cluster("patch", "nodes"));
        let all = FaultSpec::all();
        let names: Vec<_> = all.iter().filter(|fault| patches(fault)).map(FaultSpec::name).collect();
        assert_eq!(names, ["drainNode", "cordonNode", "crashNode", "taintNode"]);
    }
}
