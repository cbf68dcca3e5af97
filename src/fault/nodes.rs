//! What else runs on a node: whoever breaks one hits that too.

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;

use super::{FaultError, Scene};
use crate::{event::PodFacts, scenario::NodeChoice};

/// The namespace of what a node itself consists of.
const SYSTEM: &str = "kube-system";
/// The label of nodes that run the control plane.
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// The node that a choice means.
pub(super) fn chosen(choice: NodeChoice, pod: &PodFacts) -> Result<String, FaultError> {
    match choice {
        NodeChoice::Target => pod.node.clone().ok_or_else(|| FaultError::NotScheduled { pod: pod.name.clone() }),
    }
}

/// What a fault does to the pods of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Harm {
    /// Those that are evicted go: those of a `DaemonSet` stay.
    Evicts,
    /// All go down with the node; only what is part of the node does not count.
    Stops,
}

/// Refuses a node that others use too.
pub(super) async fn refuse_bystanders(scene: &Scene<'_>, node: &str, target_uid: &str, harm: Harm) -> Result<(), FaultError> {
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
