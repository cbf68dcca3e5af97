//! What a reader should know of the target before anything is broken.
//!
//! None of it stops a run: Microsoft's own manifest has no readiness probe, and can be run all the same. What will keep the database from
//! coming back ([`Warning::dooms`]) is told again when the trial has failed, because it is then the likely cause.

use std::fmt;

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Service},
};
use kube::api::ListParams;

use super::{Cluster, ClusterError};
use crate::scenario::FaultSpec;

/// Something about the target that a reader should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// The service's selector matches no pod, so no client can reach the database.
    ServiceWithoutPods {
        /// The service.
        service: String,
        /// Its selector.
        selector: String,
    },
    /// The pod has no readiness probe: it is called ready, and gets connections, before it serves.
    NoReadinessProbe {
        /// The container.
        container: String,
    },
    /// The volume is on one node, so the pod can run nowhere else.
    VolumeOnOneNode {
        /// The volume.
        volume: String,
        /// The node.
        node: String,
    },
    /// An update starts the new pod while the old one still has the volume.
    RollingUpdate {
        /// The deployment.
        deployment: String,
        /// The volume's claim.
        claim: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServiceWithoutPods { service, selector } => {
                write!(f, "The selector of service `{service}` (`{selector}`) matches no pod: no client can reach the database through it")
            }
            Self::NoReadinessProbe { container } => {
                write!(f, "Container `{container}` has no readiness probe: its pod is called ready, and gets connections, before it serves")
            }
            Self::VolumeOnOneNode { volume, node } => {
                write!(
                    f,
                    "Volume `{volume}` is bound to node `{node}`: without that node the pod stays pending, and on another it would find no data"
                )
            }
            Self::RollingUpdate { deployment, claim } => write!(
                f,
                "Deployment `{deployment}` is updated by rolling, with one claim (`{claim}`) for one writer: two servers meet on one volume"
            ),
        }
    }
}

impl Warning {
    /// Whether nothing at all can be measured because of it.
    #[must_use]
    pub const fn dooms_all(&self) -> bool {
        matches!(self, Self::ServiceWithoutPods { .. })
    }

    /// Whether the database cannot come back from this fault because of it.
    #[must_use]
    pub const fn dooms(&self, fault: &FaultSpec) -> bool {
        match self {
            Self::ServiceWithoutPods { .. } => true,
            // Without its node the pod has nowhere to go.
            Self::VolumeOnOneNode { .. } => matches!(
                fault,
                FaultSpec::DrainNode(_)
                    | FaultSpec::CrashNode(_)
                    | FaultSpec::TaintNode(_)
                    | FaultSpec::IsolateNode(_)
                    | FaultSpec::StopKubelet(_)
            ),
            Self::NoReadinessProbe { .. } | Self::RollingUpdate { .. } => false,
        }
    }
}

/// Looks at the target. What cannot be read is passed over: a question that nobody may ask is no warning.
pub async fn warnings(cluster: &Cluster) -> Vec<Warning> {
    let mut found = Vec::new();
    found.extend(service(cluster).await.unwrap_or_default());
    let Ok(pod) = cluster.pod().await else { return found };
    found.extend(no_probe(&pod, &cluster.target.container));
    let Ok((claim, volume)) = claim_and_volume(cluster, &pod).await else { return found };
    found.extend(on_one_node(&volume));
    if let Ok(Some(deployment)) = deployment(cluster, &pod).await {
        found.extend(rolling(&deployment, &claim));
    }
    found
}

async fn service(cluster: &Cluster) -> Result<Option<Warning>, ClusterError> {
    let name = &cluster.target.service;
    let service = cluster.call(format!("read service `{name}`"), cluster.namespaced::<Service>().get(name)).await?;
    // Without a selector somebody else fills in its endpoints.
    let Some(selector) = service.spec.and_then(|spec| spec.selector).filter(|selector| !selector.is_empty()) else { return Ok(None) };
    let selector = selector.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
    let params = ListParams::default().labels(&selector);
    let pods = cluster.call(format!("list the pods with `{selector}`"), cluster.namespaced::<Pod>().list(&params)).await?;
    Ok(pods.items.is_empty().then(|| Warning::ServiceWithoutPods { service: name.clone(), selector }))
}

fn no_probe(pod: &Pod, container: &str) -> Option<Warning> {
    let found = pod.spec.as_ref()?.containers.iter().find(|one| one.name == container)?;
    found.readiness_probe.is_none().then(|| Warning::NoReadinessProbe { container: container.to_owned() })
}

async fn claim_and_volume(cluster: &Cluster, pod: &Pod) -> Result<(PersistentVolumeClaim, PersistentVolume), ClusterError> {
    let facts = cluster.volume(pod).await?;
    let (claim, volume) = (&facts.claim, &facts.volume);
    let claim = cluster.call(format!("read volume claim `{claim}`"), cluster.namespaced::<PersistentVolumeClaim>().get(claim)).await?;
    let volume = cluster.call(format!("read volume `{volume}`"), cluster.all::<PersistentVolume>().get(volume)).await?;
    Ok((claim, volume))
}

/// The node that a volume is bound to, if it is bound to a single one by its name. A zone has many.
fn on_one_node(volume: &PersistentVolume) -> Option<Warning> {
    const HOSTNAME: &str = "kubernetes.io/hostname";
    let required = volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref()?;
    let [term] = required.node_selector_terms.as_slice() else { return None };
    let by_name = term.match_expressions.iter().flatten().filter(|one| one.key == HOSTNAME && one.operator == "In");
    let by_field = term.match_fields.iter().flatten().filter(|one| one.key == "metadata.name" && one.operator == "In");
    let node = by_name.chain(by_field).find_map(|one| match one.values.as_deref() {
        Some([node]) => Some(node.clone()),
        _ => None,
    })?;
    Some(Warning::VolumeOnOneNode { volume: volume.metadata.name.clone().unwrap_or_default(), node })
}

/// The deployment that the pod belongs to, if it is one's.
async fn deployment(cluster: &Cluster, pod: &Pod) -> Result<Option<Deployment>, ClusterError> {
    let Some(set) = owner(pod.metadata.owner_references.as_deref(), "ReplicaSet") else { return Ok(None) };
    let set = cluster.call(format!("read replica set `{set}`"), cluster.namespaced::<ReplicaSet>().get(&set)).await?;
    let Some(name) = owner(set.metadata.owner_references.as_deref(), "Deployment") else { return Ok(None) };
    cluster.call(format!("read deployment `{name}`"), cluster.namespaced::<Deployment>().get(&name)).await.map(Some)
}

fn owner(owners: Option<&[k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference]>, kind: &str) -> Option<String> {
    owners?.iter().find(|owner| owner.kind == kind).map(|owner| owner.name.clone())
}

fn rolling(deployment: &Deployment, claim: &PersistentVolumeClaim) -> Option<Warning> {
    let strategy = deployment.spec.as_ref()?.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()).unwrap_or("RollingUpdate");
    let modes = claim.spec.as_ref()?.access_modes.as_deref().unwrap_or_default();
    let one_writer = !modes.iter().any(|mode| mode == "ReadWriteMany");
    (strategy == "RollingUpdate" && one_writer).then(|| Warning::RollingUpdate {
        deployment: deployment.metadata.name.clone().unwrap_or_default(),
        claim: claim.metadata.name.clone().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::scenario::{CrashNode, DeletePod};

    #[rstest]
    #[case::local_path(json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["w1"]}]}]}), Some("w1"))]
    #[case::by_field(json!({"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["w1"]}]}]}), Some("w1"))]
    #[case::two_nodes(json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["w1", "w2"]}]}]}), None)]
    #[case::either_of_two(json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["w1"]}]}, {}]}), None)]
    #[case::a_zone(json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["1"]}]}]}), None)]
    fn a_volume_on_one_node_is_found(#[case] required: Value, #[case] expected: Option<&str>) {
        let volume: PersistentVolume =
            serde_json::from_value(json!({"metadata": {"name": "pv"}, "spec": {"nodeAffinity": {"required": required}}})).unwrap();
        let expected = expected.map(|node| Warning::VolumeOnOneNode { volume: "pv".into(), node: node.into() });
        assert_eq!(on_one_node(&volume), expected);
        assert_eq!(on_one_node(&PersistentVolume::default()), None);
    }

    #[rstest]
    #[case::without(json!({"name": "mssql"}), true)]
    #[case::with(json!({"name": "mssql", "readinessProbe": {"tcpSocket": {"port": 1433}}}), false)]
    fn a_container_without_a_probe_is_found(#[case] container: Value, #[case] expected: bool) {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "sidecar"}, container]}})).unwrap();
        assert_eq!(no_probe(&pod, "mssql").is_some(), expected);
    }

    #[rstest]
    #[case::by_default(json!({}), "ReadWriteOnce", true)]
    #[case::recreated(json!({"type": "Recreate"}), "ReadWriteOnce", false)]
    #[case::many_writers(json!({"type": "RollingUpdate"}), "ReadWriteMany", false)]
    fn a_rolling_update_with_one_writer_is_found(#[case] strategy: Value, #[case] mode: &str, #[case] expected: bool) {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "mssql"},
            "spec": {"selector": {}, "strategy": strategy, "template": {"spec": {"containers": []}}},
        }))
        .unwrap();
        let claim: PersistentVolumeClaim =
            serde_json::from_value(json!({"metadata": {"name": "data"}, "spec": {"accessModes": [mode]}})).unwrap();
        assert_eq!(rolling(&deployment, &claim).is_some(), expected);
    }

    #[test]
    fn a_volume_on_one_node_dooms_what_takes_the_node_away() {
        let warning = Warning::VolumeOnOneNode { volume: "pv".into(), node: "w1".into() };
        assert!(warning.dooms(&FaultSpec::CrashNode(CrashNode::default())));
        assert!(!warning.dooms(&FaultSpec::DeletePod(DeletePod::default())));
        assert!(!Warning::NoReadinessProbe { container: "c".into() }.dooms(&FaultSpec::CrashNode(CrashNode::default())));
    }
}
