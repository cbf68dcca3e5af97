//! Which node a fault hits, and what else runs there: whoever breaks one hits that too.

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{ResourceExt, api::ListParams};

use super::{FaultError, Scene};
use crate::{
    event::PodFacts,
    platform::{Capability, Power},
    scenario::NodeChoice,
};

/// The namespace of what a node itself consists of.
const SYSTEM: &str = "kube-system";
/// The label of nodes that run the control plane.
pub(super) const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";
/// The key of the taint that a fault gives a node: nobody tolerates it by accident.
pub(super) const TAINT: &str = "comeback.dev/fault";
/// What says that a pod is a prober.
const PROBER: &str = "app.kubernetes.io/component=prober";

/// The node that a choice means, if it may be hit: none of the control plane's, and none that others use too.
pub(super) async fn one_victim(scene: &Scene<'_>, choice: &NodeChoice, pod: &PodFacts, harm: Harm) -> Result<String, FaultError> {
    let node = chosen(scene, choice, pod).await?;
    refuse_control_plane(&scene.cluster.node(&node).await?)?;
    refuse_bystanders(scene, &node, &pod.uid, harm).await?;
    Ok(node)
}

/// The node that a choice means.
pub(super) async fn chosen(scene: &Scene<'_>, choice: &NodeChoice, pod: &PodFacts) -> Result<String, FaultError> {
    let target = || pod.node.clone().ok_or_else(|| FaultError::NotScheduled { pod: pod.name.clone() });
    if *choice == NodeChoice::Target {
        return target();
    }
    let params = match choice {
        NodeChoice::Label(label) => ListParams::default().labels(label),
        NodeChoice::Target | NodeChoice::Other | NodeChoice::Name(_) => ListParams::default(),
    };
    let mut nodes = scene.cluster.call("list the nodes", scene.cluster.all::<Node>().list(&params)).await?.items;
    nodes.sort_by_key(ResourceExt::name_any);
    let names = |nodes: &[Node]| nodes.iter().map(|node| format!("`{}`", node.name_any())).collect::<Vec<_>>();
    match choice {
        NodeChoice::Target => target(),
        NodeChoice::Name(name) if nodes.iter().any(|node| node.name_any() == *name) => Ok(name.clone()),
        NodeChoice::Name(name) => Err(FaultError::NoNode { node: name.clone(), known: names(&nodes) }),
        NodeChoice::Label(label) => match nodes.as_slice() {
            [only] => Ok(only.name_any()),
            [] => Err(FaultError::NotOneNode { choice: format!("the node with label `{label}`"), found: "no node has it".into() }),
            _ => {
                let found = format!("several have it: {}", names(&nodes).join(", "));
                Err(FaultError::NotOneNode { choice: format!("the node with label `{label}`"), found })
            }
        },
        NodeChoice::Other => {
            let at = target()?;
            let params = ListParams::default().labels(PROBER);
            let probers = scene.cluster.call("list the probers", scene.cluster.namespaced::<Pod>().list(&params)).await?.items;
            let is_free = |node: &&Node| {
                let name = node.name_any();
                let has_prober = probers.iter().any(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == Some(&name));
                name != at && !has_prober && refuse_control_plane(node).is_ok()
            };
            let found = nodes.iter().find(is_free).map(ResourceExt::name_any);
            found.ok_or_else(|| FaultError::NotOneNode {
                choice: "another worker than that of the database".into(),
                found: "there is none that the prober leaves free".into(),
            })
        }
    }
}

/// The words that say that the database runs on a node, if it does.
pub(super) fn with_pod(node: &str, pod: &PodFacts) -> String {
    if pod.node.as_deref() == Some(node) { format!(" with pod `{}`", pod.name) } else { String::new() }
}

/// Where the pod is, and its address.
pub(super) async fn address(scene: &Scene<'_>, pod: &PodFacts) -> Result<(String, String), FaultError> {
    let node = pod.node.clone().ok_or_else(|| FaultError::NotScheduled { pod: pod.name.clone() })?;
    let object = scene.cluster.call(format!("read pod `{}`", pod.name), scene.cluster.namespaced::<Pod>().get(&pod.name)).await?;
    let address = object.status.and_then(|status| status.pod_ip).filter(|address| !address.is_empty());
    let address =
        address.ok_or_else(|| crate::cluster::ClusterError::Incomplete { what: format!("pod `{}`", pod.name), missing: "address" })?;
    Ok((node, address))
}

/// What a fault does to the pods of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Harm {
    /// Those that are evicted go: those of a `DaemonSet` stay.
    Evicts,
    /// All go down with the node; only what is part of the node does not count.
    Stops,
    /// None: what runs there stays.
    Spares,
}

/// Refuses a node that others use too.
pub(super) async fn refuse_bystanders(scene: &Scene<'_>, node: &str, target_uid: &str, harm: Harm) -> Result<(), FaultError> {
    if scene.consent.bystanders {
        return Ok(());
    }
    let params = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let pods = scene.cluster.call(format!("list the pods on node `{node}`"), scene.cluster.all::<Pod>().list(&params)).await?;
    let bystanders: Vec<String> =
        pods.items.iter().filter(|pod| pod.metadata.uid.as_deref() != Some(target_uid) && is_hit(pod, harm)).map(full_name).collect();
    if bystanders.is_empty() { Ok(()) } else { Err(FaultError::Bystanders { node: node.to_owned(), bystanders }) }
}

/// Refuses a node that runs the control plane.
pub(super) fn refuse_control_plane(node: &Node) -> Result<(), FaultError> {
    if node.metadata.labels.iter().flatten().any(|(key, _)| key == CONTROL_PLANE) {
        let node = node.metadata.name.clone().unwrap_or_default();
        return Err(FaultError::ControlPlane { node });
    }
    Ok(())
}

fn is_hit(pod: &Pod, harm: Harm) -> bool {
    let of_daemon_set = pod.metadata.owner_references.iter().flatten().any(|owner| owner.kind == "DaemonSet");
    let spared = match harm {
        Harm::Evicts => of_daemon_set,
        Harm::Stops => of_daemon_set && pod.metadata.namespace.as_deref() == Some(SYSTEM),
        Harm::Spares => true,
    };
    let is_static = pod.metadata.annotations.iter().flatten().any(|(key, _)| key == "kubernetes.io/config.mirror");
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let leaving = pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed"));
    !(spared || is_static || leaving)
}

fn full_name(pod: &Pod) -> String {
    let name = format!("`{}/{}`", pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default());
    let labels = pod.metadata.labels.iter().flatten();
    if labels.into_iter().any(|(key, value)| key == "app.kubernetes.io/component" && value == "prober") {
        format!("{name} (the prober that measures)")
    } else {
        name
    }
}

/// The database's pod, and the node that is meant, which has power and a switch.
pub(super) async fn powered(scene: &Scene<'_>, choice: &NodeChoice) -> Result<(PodFacts, String), FaultError> {
    scene.platform.can(Capability::NodePower).map_err(FaultError::NotPossible)?;
    let pod = scene.cluster.pod_facts().await?;
    let node = one_victim(scene, choice, &pod, Harm::Stops).await?;
    // This also refuses a name that is not a node of this cluster's.
    match scene.platform.power(&node).await? {
        Power::On => Ok((pod, node)),
        Power::Off => Err(FaultError::NotPossible(format!("node `{node}` is off already"))),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn of_daemon_set(namespace: &str) -> Value {
        json!({"metadata": {"namespace": namespace, "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "u"}]}})
    }

    #[rstest]
    #[case::an_ordinary_pod(json!({"metadata": {"name": "a"}, "status": {"phase": "Running"}}), true, true)]
    #[case::of_the_node(of_daemon_set("kube-system"), false, false)]
    #[case::of_a_user_s_daemon_set(of_daemon_set("logs"), false, true)]
    #[case::a_static_pod(json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}}), false, false)]
    #[case::a_finished_pod(json!({"metadata": {}, "status": {"phase": "Succeeded"}}), false, false)]
    #[case::a_leaving_pod(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), false, false)]
    fn a_bystander_is_what_would_be_hit(#[case] pod: Value, #[case] evicted: bool, #[case] stopped: bool) {
        let pod = serde_json::from_value(pod).unwrap();
        assert_eq!((is_hit(&pod, Harm::Evicts), is_hit(&pod, Harm::Stops)), (evicted, stopped));
    }

    #[test]
    fn the_prober_is_named_as_what_it_is() {
        let pod = json!({"metadata": {"name": "p", "namespace": "n", "labels": {"app.kubernetes.io/component": "prober"}}});
        assert_eq!(full_name(&serde_json::from_value(pod).unwrap()), "`n/p` (the prober that measures)");
    }

    #[test]
    fn the_control_plane_is_refused() {
        let node = |labels: Value| serde_json::from_value(json!({"metadata": {"name": "n", "labels": labels}})).unwrap();
        assert!(refuse_control_plane(&node(json!({"node-role.kubernetes.io/control-plane": ""}))).is_err());
        assert!(refuse_control_plane(&node(json!({"node-role.kubernetes.io/worker": ""}))).is_ok());
    }
}
