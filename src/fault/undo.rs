//! What puts the cluster right again: data, so that a later process can do it from the journal alone, on any platform.

use std::{collections::BTreeMap, fmt, time::Duration};

use k8s_openapi::api::core::v1::{Node, Service, Taint};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::workload::{WorkloadKind, WorkloadName};
use crate::{
    cluster::{Cluster, ClusterError, chain},
    platform::{Capability, Hurt, Platform, PlatformError, Power},
};

/// How long a node may take from its power to being ready.
const POWER_DEADLINE: Duration = Duration::from_mins(3);
/// The same, where the node is a machine that starts anew.
const REBOOT_DEADLINE: Duration = Duration::from_mins(10);
const RETRY_PERIOD: Duration = Duration::from_millis(500);

/// The taints that Kubernetes itself puts on a node and takes away.
const OWN_TAINTS: &str = "node.kubernetes.io/";
/// Those with which it marks a node that it has lost.
const LOST: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// One thing that puts the cluster right again. Doing it twice, or when there is nothing to put right, is not an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "undo")]
pub enum Undo {
    /// Lets pods be scheduled to the node again.
    Uncordon {
        /// The node.
        node: String,
    },
    /// Gives the node its power again, and waits until it is ready.
    PowerOn {
        /// The node.
        node: String,
    },
    /// Takes a taint from the node.
    RemoveTaint {
        /// The node.
        node: String,
        /// The key of the taint.
        key: String,
        /// Its effect.
        effect: String,
    },
    /// Gives a node that registered anew what its old object had: the node makes only part of that itself.
    RestoreNode {
        /// The node.
        node: String,
        /// Its labels.
        labels: BTreeMap<String, String>,
        /// Its taints, without those that Kubernetes puts there itself.
        taints: Vec<TaintText>,
        /// Whether it was cordoned.
        unschedulable: bool,
    },
    /// Mends what a fault that lasts has hurt.
    Mend {
        /// What.
        hurt: Hurt,
    },
    /// Gives a workload the count of pods that it had.
    Scale {
        /// Which.
        workload: WorkloadName,
        /// The count.
        replicas: i32,
    },
    /// Gives a service the selector that it had.
    RestoreSelector {
        /// The namespace.
        namespace: String,
        /// The service.
        service: String,
        /// The selector.
        selector: BTreeMap<String, String>,
    },
}

/// A taint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaintText {
    /// Its key.
    pub key: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Its effect.
    pub effect: String,
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uncordon { node } => write!(f, "uncordon node `{node}`"),
            Self::PowerOn { node } => write!(f, "start node `{node}`"),
            Self::RemoveTaint { node, key, .. } => write!(f, "remove taint `{key}` from node `{node}`"),
            Self::RestoreNode { node, .. } => write!(f, "restore labels and taints of node `{node}`"),
            Self::Mend { hurt } => write!(f, "mend: {hurt}"),
            Self::Scale { workload, replicas } => write!(f, "scale {} to {replicas}", workload.text()),
            Self::RestoreSelector { service, .. } => write!(f, "restore the selector of service `{service}`"),
        }
    }
}

/// Why a try did not put things right.
enum Failure {
    /// Another try may.
    Again(String),
    /// No further try will.
    Final(String),
}

impl From<ClusterError> for Failure {
    fn from(error: ClusterError) -> Self {
        Self::Again(chain(&error))
    }
}

impl From<PlatformError> for Failure {
    fn from(error: PlatformError) -> Self {
        let text = chain(&error);
        match error {
            PlatformError::NotPossible(_) | PlatformError::NotOurs { .. } => Self::Final(text),
            _ => Self::Again(text),
        }
    }
}

impl Undo {
    /// How a node's own object is restored after it was deleted; taken from the object as it is, without a taint of `taintNode`, which ends on its own.
    #[must_use]
    pub fn restore_node(node: &Node) -> Self {
        let spec = node.spec.clone().unwrap_or_default();
        let of_the_node = |taint: &Taint| !taint.key.starts_with(OWN_TAINTS) && taint.key != super::nodes::TAINT;
        let taints = spec.taints.unwrap_or_default().into_iter().filter(of_the_node);
        Self::RestoreNode {
            node: node.metadata.name.clone().unwrap_or_default(),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: taints.map(|taint| TaintText { key: taint.key, value: taint.value, effect: taint.effect }).collect(),
            unschedulable: spec.unschedulable == Some(true),
        }
    }

    /// The node that it is about, if it is about one.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Uncordon { node } | Self::PowerOn { node } | Self::RemoveTaint { node, .. } | Self::RestoreNode { node, .. } => {
                Some(node)
            }
            Self::Mend { hurt } => hurt.node(),
            Self::Scale { .. } | Self::RestoreSelector { .. } => None,
        }
    }

    /// The node that is hurt until it is done: what runs there is. One that only takes no new pods is not.
    #[must_use]
    pub fn hurt_node(&self) -> Option<&str> {
        match self {
            Self::PowerOn { node } => Some(node),
            Self::RemoveTaint { node, effect, .. } => Some(node.as_str()).filter(|_| effect == "NoExecute"),
            Self::Mend { hurt } if hurt.cuts_off() => hurt.node(),
            Self::Uncordon { .. } | Self::RestoreNode { .. } | Self::Mend { .. } | Self::Scale { .. } | Self::RestoreSelector { .. } => {
                None
            }
        }
    }

    /// How a person does it by hand.
    #[must_use]
    pub fn by_hand(&self) -> String {
        match self {
            Self::Uncordon { node } => format!("node `{node}` is cordoned: `kubectl uncordon {node}`"),
            Self::PowerOn { node } => format!("node `{node}` is switched off: `docker start {node}` on kind, or `comeback heal`"),
            Self::RemoveTaint { node, key, effect } => format!("node `{node}` is tainted: `kubectl taint node {node} {key}:{effect}-`"),
            Self::RestoreNode { node, .. } => format!("node `{node}` lacks what its old object had: `comeback heal`"),
            Self::Mend { hurt } => hurt.by_hand(),
            Self::Scale { workload: WorkloadName { kind, namespace, name }, replicas } => {
                let kind = match kind {
                    WorkloadKind::Deployment => "deployment",
                    WorkloadKind::StatefulSet => "statefulset",
                };
                format!("{kind} `{name}` is scaled to nothing: `kubectl -n {namespace} scale {kind} {name} --replicas {replicas}`")
            }
            Self::RestoreSelector { namespace, service, selector } => {
                let selector: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
                format!(
                    "service `{service}` matches no pod: `kubectl -n {namespace} set selector service {service} {}`",
                    selector.join(",")
                )
            }
        }
    }

    /// Does it, and looks whether it is done; tries again for as long as the platform says, or three minutes where a node has to start, ten where that is a machine.
    ///
    /// # Errors
    /// In words, what the last try met: a call that failed, or a cluster that is not as it should be afterwards.
    pub async fn perform(&self, cluster: &Cluster, platform: &Platform) -> Result<(), String> {
        let deadline = match self {
            Self::PowerOn { .. } => POWER_DEADLINE,
            Self::Mend { hurt: Hurt::RebootedNode { .. } } => REBOOT_DEADLINE,
            // The node has to report again, or a part of the control plane to start.
            Self::Mend { hurt } if hurt.cuts_off() || hurt.needs() == Capability::ApiServer || hurt.needs() == Capability::Controllers => {
                POWER_DEADLINE
            }
            Self::Uncordon { .. }
            | Self::RemoveTaint { .. }
            | Self::RestoreNode { .. }
            | Self::Mend { .. }
            | Self::Scale { .. }
            | Self::RestoreSelector { .. } => platform.defaults().undo_within,
        };
        let end = Instant::now() + deadline;
        let mut last_sign = None;
        loop {
            match self.try_once(cluster, platform, &mut last_sign).await {
                Ok(()) => return Ok(()),
                Err(Failure::Final(why)) => return Err(why),
                Err(Failure::Again(why)) if Instant::now() + RETRY_PERIOD > end => {
                    return Err(format!("{why} (tried for {})", humantime::format_duration(deadline)));
                }
                Err(Failure::Again(_)) => sleep(RETRY_PERIOD).await,
            }
        }
    }

    async fn try_once(&self, cluster: &Cluster, platform: &Platform, last_sign: &mut Option<Sign>) -> Result<(), Failure> {
        match self {
            Self::Uncordon { node } => {
                // `null` takes the field away, as `kubectl uncordon` leaves it.
                change(cluster, &format!("uncordon node `{node}`"), node, &json!({"spec": {"unschedulable": null}})).await?;
            }
            Self::PowerOn { node } => {
                // A node is believed to be ready only when it has said so itself since we looked first: what is known of one that is about to
                // lose its power, or that lost it just now, is stale.
                if last_sign.is_none() {
                    *last_sign = Some(Sign(heartbeat(cluster, node).await?));
                }
                if platform.power(node).await? == Power::Off {
                    *last_sign = Some(Sign(heartbeat(cluster, node).await?));
                    platform.power_on(node).await?;
                }
            }
            Self::RemoveTaint { node, key, effect } => remove_taint(cluster, node, key, effect).await?,
            Self::RestoreNode { node, labels, taints, unschedulable } => restore(cluster, node, labels, taints, *unschedulable).await?,
            Self::Mend { hurt } => {
                // What is known of a node that starts anew is stale, too, until it has spoken since.
                if let Hurt::RebootedNode { node } = hurt
                    && last_sign.is_none()
                {
                    *last_sign = Some(Sign(heartbeat(cluster, node).await?));
                }
                platform.end(hurt).await?;
                return is_mended(cluster, platform, hurt, last_sign.as_ref()).await;
            }
            Self::Scale { workload, replicas } => {
                workload.scale(cluster, *replicas).await?;
                let wanted = workload.stand(cluster).await?.wanted;
                return if wanted == *replicas { Ok(()) } else { Err(not_so()) };
            }
            Self::RestoreSelector { namespace, service, selector } => {
                set_selector(cluster, namespace, service, selector).await?;
                let now = Api::<Service>::namespaced(cluster.client(), namespace);
                let now = cluster.call(format!("read service `{service}`"), now.get(service)).await?.spec.and_then(|spec| spec.selector);
                return if now.as_ref() == Some(selector) { Ok(()) } else { Err(not_so()) };
            }
        }
        self.is_done(cluster, platform, last_sign.as_ref()).await
    }

    async fn is_done(&self, cluster: &Cluster, platform: &Platform, last_sign: Option<&Sign>) -> Result<(), Failure> {
        let Some(name) = self.node() else { return Ok(()) };
        let object = cluster.node(name).await?;
        let done = match self {
            Self::Uncordon { .. } => object.spec.and_then(|spec| spec.unschedulable) != Some(true),
            Self::PowerOn { node } => {
                is_ready(cluster, node, &object, last_sign).await?;
                // A kill that docker was late with comes after all: what it ends is started again.
                match platform.power(node).await? {
                    Power::On => return Ok(()),
                    Power::Off => return Err(Failure::Again(format!("node `{node}` was ready, and lost its power again"))),
                }
            }
            Self::RemoveTaint { key, effect, .. } => !taints(&object).iter().any(|taint| taint.key == *key && taint.effect == *effect),
            Self::RestoreNode { labels, taints: wanted, unschedulable, .. } => {
                let now = object.metadata.labels.clone().unwrap_or_default();
                let there = taints(&object);
                labels.iter().all(|(key, value)| now.get(key) == Some(value))
                    && wanted.iter().all(|taint| there.iter().any(|one| one.key == taint.key && one.effect == taint.effect))
                    && (!unschedulable || object.spec.and_then(|spec| spec.unschedulable) == Some(true))
            }
            Self::Mend { .. } | Self::Scale { .. } | Self::RestoreSelector { .. } => true,
        };
        if done { Ok(()) } else { Err(not_so()) }
    }
}

fn not_so() -> Failure {
    Failure::Again("the API server took it, but it is not so".to_owned())
}

/// Whether what was hurt looks whole again, and whoever it was cut off from has noticed.
async fn is_mended(cluster: &Cluster, platform: &Platform, hurt: &Hurt, last_sign: Option<&Sign>) -> Result<(), Failure> {
    let facts = platform.look(hurt).await?;
    if let Some(fact) = facts.iter().find(|fact| !hurt.is_whole(&fact.value)) {
        return Err(Failure::Again(format!("{} is `{}`", fact.what, fact.value)));
    }
    if hurt.needs() == Capability::ApiServer {
        cluster.version().await?;
    }
    if hurt.cuts_off()
        && let Some(node) = hurt.node()
    {
        let object = cluster.node(node).await?;
        return is_ready(cluster, node, &object, last_sign).await;
    }
    Ok(())
}

/// Gives a service this selector, and no other label of the one that it has.
pub(super) async fn set_selector(
    cluster: &Cluster,
    namespace: &str,
    service: &str,
    selector: &BTreeMap<String, String>,
) -> Result<(), ClusterError> {
    let services = Api::<Service>::namespaced(cluster.client(), namespace);
    let what = format!("give service `{service}` its selector");
    let now = cluster.call(format!("read service `{service}`"), services.get(service)).await?;
    // A merge keeps the keys that are not named, so those that are to go are named.
    let mut patch: BTreeMap<&String, Option<&String>> =
        now.spec.as_ref().and_then(|spec| spec.selector.as_ref()).into_iter().flatten().map(|(key, _)| (key, None)).collect();
    patch.extend(selector.iter().map(|(key, value)| (key, Some(value))));
    let patch = Patch::Merge(json!({"spec": {"selector": patch}}));
    cluster.call(what, services.patch(service, &PatchParams::default(), &patch)).await.map(drop)
}

async fn change(cluster: &Cluster, what: &str, node: &str, patch: &Value) -> Result<(), ClusterError> {
    let (nodes, params) = (cluster.all::<Node>(), PatchParams::default());
    cluster.call(what, nodes.patch(node, &params, &Patch::Merge(patch))).await.map(drop)
}

fn taints(node: &Node) -> Vec<Taint> {
    node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default()
}

/// Writes the taints of a node, unless somebody has changed it since it was read: then the API server answers 409, and it is tried again.
pub(super) async fn set_taints(cluster: &Cluster, what: &str, node: &Node, taints: &[Taint]) -> Result<(), ClusterError> {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let taints = if taints.is_empty() { Value::Null } else { json!(taints) };
    let patch = json!({"metadata": {"resourceVersion": node.metadata.resource_version}, "spec": {"taints": taints}});
    change(cluster, what, name, &patch).await
}

async fn remove_taint(cluster: &Cluster, node: &str, key: &str, effect: &str) -> Result<(), ClusterError> {
    let object = cluster.node(node).await?;
    let mut left = taints(&object);
    let before = left.len();
    left.retain(|taint| !(taint.key == key && taint.effect == effect));
    if left.len() == before {
        return Ok(());
    }
    set_taints(cluster, &format!("remove taint `{key}` from node `{node}`"), &object, &left).await
}

async fn restore(
    cluster: &Cluster,
    node: &str,
    labels: &BTreeMap<String, String>,
    wanted: &[TaintText],
    unschedulable: bool,
) -> Result<(), ClusterError> {
    let what = format!("restore labels and taints of node `{node}`");
    let object = cluster.node(node).await?;
    let now = object.metadata.labels.clone().unwrap_or_default();
    let missing: BTreeMap<&String, &String> = labels.iter().filter(|(key, value)| now.get(*key) != Some(*value)).collect();
    if !missing.is_empty() {
        change(cluster, &what, node, &json!({"metadata": {"labels": missing}})).await?;
    }
    if unschedulable {
        change(cluster, &what, node, &json!({"spec": {"unschedulable": true}})).await?;
    }
    let object = cluster.node(node).await?;
    let mut all = taints(&object);
    let before = all.len();
    for taint in wanted {
        if !all.iter().any(|one| one.key == taint.key && one.effect == taint.effect) {
            all.push(Taint { key: taint.key.clone(), value: taint.value.clone(), effect: taint.effect.clone(), time_added: None });
        }
    }
    if all.len() == before { Ok(()) } else { set_taints(cluster, &what, &object, &all).await }
}

/// When a node last said that it lives; `None`: it never did, or its lease went with its object.
struct Sign(Option<String>);

/// When the node last said that it lives, as its lease has it.
async fn heartbeat(cluster: &Cluster, node: &str) -> Result<Option<String>, ClusterError> {
    Ok(cluster.heartbeat(node).await?.map(|heartbeat| heartbeat.renewed))
}

/// Whether the node is ready, has reported since its last sign, and no longer counts as lost.
async fn is_ready(cluster: &Cluster, node: &str, object: &Node, last_sign: Option<&Sign>) -> Result<(), Failure> {
    let conditions = object.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    if !ready {
        return Err(Failure::Again(format!("node `{node}` has power, and is not ready")));
    }
    let sign = heartbeat(cluster, node).await?;
    if sign.is_none() || last_sign.is_some_and(|last| last.0 == sign) {
        return Err(Failure::Again(format!("node `{node}` has power, and has not reported since")));
    }
    match taints(object).into_iter().find(|taint| LOST.contains(&taint.key.as_str())) {
        Some(taint) => Err(Failure::Again(format!("node `{node}` has power, and still has the taint `{}`", taint.key))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    };

    use axum::{
        Json, Router,
        routing::{get, post},
    };
    use rstest::rstest;

    use super::*;
    use crate::{cluster::fake, platform::SandboxPlatform};

    #[test]
    fn an_entry_reads_back_as_it_was_written() {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "w1", "labels": {"zone": "a"}},
            "spec": {"unschedulable": true, "taints": [
                {"key": "dedicated", "value": "db", "effect": "NoSchedule"},
                {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
            ]},
        }))
        .unwrap();
        let restore = Undo::restore_node(&node);
        let Undo::RestoreNode { taints, labels, unschedulable, .. } = &restore else { unreachable!() };
        assert_eq!((taints.len(), labels["zone"].as_str(), *unschedulable), (1, "a", true));
        for undo in [
            Undo::Uncordon { node: "w1".into() },
            Undo::PowerOn { node: "w1".into() },
            Undo::RemoveTaint { node: "w1".into(), key: "k".into(), effect: "NoExecute".into() },
            restore,
        ] {
            let text = serde_json::to_string(&undo).unwrap();
            assert_eq!(serde_json::from_str::<Undo>(&text).unwrap(), undo, "{text}");
            assert_eq!(undo.node(), Some("w1"));
            assert!(undo.by_hand().contains("w1"));
        }
        assert_eq!(serde_json::to_value(Undo::PowerOn { node: "w1".into() }).unwrap(), json!({"undo": "power_on", "node": "w1"}));
    }

    /// A node that is ready, and a lease that is renewed with the third look at it.
    #[derive(Clone, Default)]
    struct Worker {
        off: Arc<AtomicBool>,
        starts: Arc<AtomicUsize>,
        looks: Arc<AtomicUsize>,
        /// With which look at the lease it loses its power.
        dies_at: Option<usize>,
    }

    impl Worker {
        async fn perform(&self, undo: Undo) -> Result<(), String> {
            let state = |off: bool| Json(json!({"state": if off { "off" } else { "on" }}));
            let (asked, switched, looked) = (self.clone(), self.clone(), self.clone());
            let ask = move || async move { state(asked.off.load(Ordering::SeqCst)) };
            let switch = move || async move {
                switched.off.store(false, Ordering::SeqCst);
                switched.starts.fetch_add(1, Ordering::SeqCst);
                state(false)
            };
            let lease = move || async move {
                let look = looked.looks.fetch_add(1, Ordering::SeqCst) + 1;
                if looked.dies_at == Some(look) {
                    looked.off.store(true, Ordering::SeqCst);
                }
                let second = look.saturating_sub(2);
                let spec = json!({"renewTime": format!("2026-01-01T00:00:{second:02}.000000Z")});
                Json(json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "w1"}, "spec": spec}))
            };
            let status = json!({"conditions": [{"type": "Ready", "status": "True"}]});
            let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "w1"}, "status": status});
            let router = Router::new()
                .route("/comeback/v1/nodes/w1/power", get(ask).post(switch))
                .route("/comeback/v1/hurts", post(async || Json(json!({"facts": []}))))
                .route("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/w1", get(lease))
                .route("/api/v1/nodes/w1", get(move || async move { Json(node) }));
            let cluster = fake::cluster(router).await;
            let platform = Platform::Sandbox(SandboxPlatform::new(cluster.clone()));
            undo.perform(&cluster, &platform).await
        }
    }

    fn power_on() -> Undo {
        Undo::PowerOn { node: "w1".into() }
    }

    #[rstest]
    #[case::that_has_power(power_on())]
    #[case::that_starts_anew(Undo::Mend { hurt: Hurt::RebootedNode { node: "w1".into() } })]
    #[tokio::test]
    async fn a_node_must_report_before_it_is_believed(#[case] undo: Undo) {
        let worker = Worker::default();
        worker.perform(undo).await.unwrap();
        // The first look, one that shows nothing new, one that does.
        assert_eq!((worker.looks.load(Ordering::SeqCst), worker.starts.load(Ordering::SeqCst)), (3, 0));
    }

    #[tokio::test]
    async fn a_node_that_loses_its_power_late_is_started_again() {
        let worker = Worker { dies_at: Some(3), ..Worker::default() };
        worker.perform(power_on()).await.unwrap();
        assert_eq!(worker.starts.load(Ordering::SeqCst), 1);
        assert!(!worker.off.load(Ordering::SeqCst));
    }
}
