//! The scheduler: which node a pod goes to.
//!
//! A node is fit if it is not cordoned, its taints are tolerated, it has the labels that the pod asks for and those that the pod's volumes ask for, and
//! no required affinity or anti-affinity between pods is against it, neither the pod's own nor that of one that is there. Of the fit ones the one with the fewest
//! pods is taken, then the first by name. Room (CPU, memory) is not counted: every node has as much as this machine.
//!
//! A pod that fits nowhere is told why in the words of the real scheduler, with the number of nodes for each reason.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::super::{
    Cluster,
    events::{Source, Tone, tell},
    kinds::Kind,
    object::{self, Look, node::tolerates, pod, set_condition},
    selector::Labels,
    store::{Key, Part},
};
use super::volumes::SELECTED_NODE;

/// What was last told of each pod that fits nowhere, by uid.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<String, String>);

/// Finds a node for every pod that has none.
pub(super) fn reconcile(cluster: &Cluster, told: &mut Told) {
    let pods = cluster.store.list(Kind::Pod, None);
    told.0.retain(|uid, _| pods.iter().any(|pod| pod.uid() == uid));
    let waits = |pod: &&Arc<Value>| {
        pod.text("/spec/nodeName").is_empty() && pod::is_active(pod) && pod.text("/spec/schedulerName") == "default-scheduler"
    };
    for pod in pods.iter().filter(waits) {
        match place(cluster, pod) {
            Ok(Some(node)) => bind(cluster, pod, &node),
            // A volume is being made for it.
            Ok(None) => {}
            Err(why) => {
                if told.0.get(pod.uid()) != Some(&why) {
                    refuse(cluster, pod, &why);
                    told.0.insert(pod.uid().to_owned(), why);
                }
            }
        }
    }
}

/// Why a node is not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unfit {
    /// In the scheduler's words.
    why: String,
    /// Whether it might be, if other pods were not there.
    is_resolvable: bool,
}

impl Unfit {
    fn for_good(why: &str) -> Self {
        Self { why: why.to_owned(), is_resolvable: false }
    }

    fn for_now(why: &str) -> Self {
        Self { why: why.to_owned(), is_resolvable: true }
    }
}

/// The nodes and the pods on them.
struct Sight<'a> {
    cluster: &'a Cluster,
    nodes: &'a [Arc<Value>],
    pods: &'a [Arc<Value>],
}

fn place(cluster: &Cluster, pod: &Value) -> Result<Option<String>, String> {
    let nodes = cluster.store.list(Kind::Node, None);
    let pods = cluster.store.list(Kind::Pod, None);
    let mut claims = Vec::new();
    for name in pod::claims(pod) {
        match cluster.store.get(Kind::PersistentVolumeClaim, pod.namespace(), name) {
            None => return Err(nowhere(nodes.len(), &format!("persistentvolumeclaim \"{name}\" not found"), 0)),
            Some(claim) if claim.is_terminating() => {
                return Err(nowhere(nodes.len(), &format!("persistentvolumeclaim \"{name}\" is being deleted"), 0));
            }
            Some(claim) => claims.push(claim),
        }
    }
    let unbound: Vec<_> = claims.iter().filter(|claim| claim.text("/status/phase") != "Bound").collect();
    let waits = |claim: &&&Arc<Value>| {
        let class = cluster.store.get(Kind::StorageClass, "", claim.text("/spec/storageClassName"));
        class.is_some_and(|class| class.text("/volumeBindingMode") == "WaitForFirstConsumer")
    };
    if !unbound.iter().all(|claim| waits(&claim)) {
        return Err(nowhere(nodes.len(), "pod has unbound immediate PersistentVolumeClaims", 0));
    }
    let sight = Sight { cluster, nodes: &nodes, pods: &pods };
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let (mut fit, mut resolvable) = (Vec::new(), 0);
    for node in &nodes {
        match sight.unfit(pod, node, &claims) {
            None => fit.push(node),
            Some(unfit) => {
                *reasons.entry(unfit.why).or_default() += 1;
                resolvable += usize::from(unfit.is_resolvable);
            }
        }
    }
    let on = |node: &Value| pods.iter().filter(|pod| pod.text("/spec/nodeName") == node.name() && !pod::is_finished(pod)).count();
    let Some(best) = fit.into_iter().min_by_key(|node| (on(node), node.name().to_owned())) else {
        let mut list: Vec<_> = reasons.iter().map(|(why, count)| format!("{count} {why}")).collect();
        list.sort();
        return Err(nowhere(nodes.len(), &list.join(", "), resolvable));
    };
    for claim in &unbound {
        let node = best.name().to_owned();
        let change = |claim: &mut Value| {
            object::default(claim, SELECTED_NODE, node);
            Ok(())
        };
        cluster.store.update(&Key::of(Kind::PersistentVolumeClaim, claim), Part::Main, false, change).ok();
    }
    Ok(unbound.is_empty().then(|| best.name().to_owned()))
}

/// The sentence for a pod that fits nowhere. The second half is about making room by removing other pods, which helps with `resolvable` of the nodes at most, and
/// which the sandbox never does.
fn nowhere(nodes: usize, why: &str, resolvable: usize) -> String {
    let mut help = Vec::new();
    if resolvable > 0 {
        help.push(format!("{resolvable} No preemption victims found for incoming pod"));
    }
    if nodes > resolvable {
        help.push(format!("{} Preemption is not helpful for scheduling", nodes - resolvable));
    }
    let available = format!("0/{nodes} nodes are available");
    format!("{available}: {why}. preemption: {available}: {}.", help.join(", "))
}

impl Sight<'_> {
    /// Why a pod cannot go to a node; `None` if it can.
    fn unfit(&self, pod: &Value, node: &Value, claims: &[Arc<Value>]) -> Option<Unfit> {
        let null = Value::Null;
        let labels = node.pointer("/metadata/labels").unwrap_or(&null);
        let volumes: Vec<_> =
            claims.iter().filter_map(|claim| self.cluster.store.get(Kind::PersistentVolume, "", claim.text("/spec/volumeName"))).collect();
        // Where all its volumes name their hosts, the others are not even looked at.
        if volumes.iter().filter_map(|volume| hosts(volume)).any(|hosts| !hosts.contains(&node.name())) {
            return Some(Unfit::for_good("node(s) didn't satisfy plugin(s) [VolumeBinding]"));
        }
        let tolerations = pod.list("/spec/tolerations");
        // The cordon is a taint of its own, which only those who ask for it tolerate.
        let cordon = serde_json::json!({ "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule" });
        if node.flag("/spec/unschedulable") && !tolerations.iter().any(|toleration| tolerates(toleration, &cordon)) {
            return Some(Unfit::for_good("node(s) were unschedulable"));
        }
        let mut against = node.list("/spec/taints").iter().filter(|taint| taint.text("/effect") != "PreferNoSchedule");
        if against.any(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint))) {
            return Some(Unfit::for_good("node(s) had untolerated taint(s)"));
        }
        if !Labels::of_map(&pod["spec"]["nodeSelector"]).matches_labels(labels)
            || !matches_terms(&pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"], node)
        {
            return Some(Unfit::for_good("node(s) didn't match Pod's node affinity/selector"));
        }
        if volumes.iter().any(|volume| !matches_terms(&volume["spec"]["nodeAffinity"]["required"], node)) {
            return Some(Unfit::for_good("node(s) didn't match PersistentVolume's node affinity"));
        }
        // Once a node was chosen for a claim that is still unbound, the volume is made for that node.
        let is_elsewhere = |claim: &Arc<Value>| {
            let selected = claim.text(SELECTED_NODE);
            claim.text("/status/phase") != "Bound"
                && !selected.is_empty()
                && selected != node.name()
                && self.nodes.iter().any(|node| node.name() == selected)
        };
        if claims.iter().any(is_elsewhere) {
            return Some(Unfit::for_good("node(s) didn't find available persistent volumes to bind"));
        }
        self.kept_apart(pod, node)
    }

    /// Affinity and anti-affinity between pods.
    fn kept_apart(&self, pod: &Value, node: &Value) -> Option<Unfit> {
        const AFFINITY: &str = "/spec/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution";
        const ANTI_AFFINITY: &str = "/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution";
        let there = || {
            self.pods
                .iter()
                .filter(|other| other.uid() != pod.uid() && !other.text("/spec/nodeName").is_empty() && !pod::is_finished(other))
        };
        for term in pod.list(AFFINITY) {
            let mut like = there().filter(|other| is_meant(term, pod.namespace(), other)).peekable();
            // The first of its kind has nobody to be near to.
            let is_first = like.peek().is_none() && is_meant(term, pod.namespace(), pod);
            if !is_first && !like.any(|other| self.is_near(term, other, node)) {
                return Some(Unfit::for_good("node(s) didn't match pod affinity rules"));
            }
        }
        for term in pod.list(ANTI_AFFINITY) {
            if there().any(|other| is_meant(term, pod.namespace(), other) && self.is_near(term, other, node)) {
                return Some(Unfit::for_now("node(s) didn't match pod anti-affinity rules"));
            }
        }
        let minds = |other: &Arc<Value>| {
            let terms = other.list(ANTI_AFFINITY).iter();
            terms.into_iter().any(|term| is_meant(term, other.namespace(), pod) && self.is_near(term, other, node))
        };
        if there().any(minds) {
            return Some(Unfit::for_now("node(s) didn't satisfy existing pods anti-affinity rules"));
        }
        None
    }

    /// Whether a pod is in the same place as a node: the same host, zone, or whatever the term's key says.
    fn is_near(&self, term: &Value, other: &Value, node: &Value) -> bool {
        let topology = term.text("/topologyKey");
        let of = |node: &Value| node.pointer("/metadata/labels").and_then(|labels| labels.get(topology)).cloned();
        let host = self.nodes.iter().find(|host| host.name() == other.text("/spec/nodeName"));
        of(node).is_some_and(|here| host.is_some_and(|host| of(host) == Some(here)))
    }
}

/// Whether a term of a pod in `namespace` is about `other`.
fn is_meant(term: &Value, namespace: &str, other: &Value) -> bool {
    let named = term.list("/namespaces");
    let everywhere = term.pointer("/namespaceSelector").is_some_and(|selector| Labels::of_object(selector).is_empty());
    let is_there = if everywhere {
        true
    } else if named.is_empty() {
        other.namespace() == namespace
    } else {
        named.iter().any(|name| name == other.namespace())
    };
    // No selector at all is about nobody, an empty one about everybody.
    is_there && term.has("/labelSelector") && Labels::of_object(&term["labelSelector"]).matches(other)
}

/// The hosts that a volume names, if its affinity is by the name of the host.
fn hosts(volume: &Value) -> Option<Vec<&str>> {
    let terms = volume.list("/spec/nodeAffinity/required/nodeSelectorTerms");
    let mut hosts = Vec::new();
    for expression in terms.iter().flat_map(|term| term.list("/matchExpressions")) {
        if expression.text("/key") == "kubernetes.io/hostname" && expression.text("/operator") == "In" {
            hosts.extend(expression.list("/values").iter().filter_map(Value::as_str));
        }
    }
    (!hosts.is_empty()).then_some(hosts)
}

/// Whether a node meets one of the terms of a node selector; one that is not there is met.
fn matches_terms(selector: &Value, node: &Value) -> bool {
    let terms = selector.list("/nodeSelectorTerms");
    let null = Value::Null;
    let labels = node.pointer("/metadata/labels").unwrap_or(&null);
    selector.is_null()
        || terms.iter().any(|term| {
            let name = serde_json::json!({ "metadata.name": node.name() });
            Labels::of_expressions(term.list("/matchExpressions")).matches_labels(labels)
                && Labels::of_expressions(term.list("/matchFields")).matches_labels(&name)
        })
}

fn bind(cluster: &Cluster, pod: &Value, node: &str) {
    let change = |pod: &mut Value| {
        object::set(pod, "/spec/nodeName", node);
        set_condition(pod, "PodScheduled", true, "", "");
        Ok(())
    };
    if let Ok(pod) = cluster.store.update(&Key::of(Kind::Pod, pod), Part::Whole, false, change) {
        let message = format!("Successfully assigned {}/{} to {node}", pod.namespace(), pod.name());
        tell(&cluster.store, Source::controller("default-scheduler"), &pod, Tone::Normal, "Scheduled", &message);
    }
}

fn refuse(cluster: &Cluster, pod: &Value, why: &str) {
    let change = |pod: &mut Value| {
        set_condition(pod, "PodScheduled", false, "Unschedulable", why);
        Ok(())
    };
    cluster.store.update(&Key::of(Kind::Pod, pod), Part::Status, false, change).ok();
    tell(&cluster.store, Source::controller("default-scheduler"), pod, Tone::Warning, "FailedScheduling", why);
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::nothing_helps(
        "3 node(s) were unschedulable",
        0,
        "0/4 nodes are available: 3 node(s) were unschedulable. preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling."
    )]
    #[case::a_pod_is_in_the_way(
        "x",
        1,
        "0/4 nodes are available: x. preemption: 0/4 nodes are available: 1 No preemption victims found for incoming pod, 3 Preemption is not \
         helpful for scheduling."
    )]
    fn a_pod_that_fits_nowhere_is_told_so_in_the_schedulers_words(#[case] why: &str, #[case] resolvable: usize, #[case] sentence: &str) {
        assert_eq!(nowhere(4, why, resolvable), sentence);
    }

    #[test]
    fn a_term_is_about_pods_of_its_own_namespace_unless_it_says_otherwise() {
        let other = json!({ "metadata": { "namespace": "b", "labels": { "app": "x" } } });
        let term = json!({ "labelSelector": { "matchLabels": { "app": "x" } }, "topologyKey": "kubernetes.io/hostname" });
        assert!(is_meant(&term, "b", &other) && !is_meant(&term, "a", &other));
        let mut named = term.clone();
        named["namespaces"] = json!(["b"]);
        assert!(is_meant(&named, "a", &other));
        let mut everywhere = term.clone();
        everywhere["namespaceSelector"] = json!({});
        assert!(is_meant(&everywhere, "a", &other));
        assert!(!is_meant(&json!({ "topologyKey": "x" }), "b", &other), "no selector is about nobody");
    }

    #[test]
    fn a_volume_may_name_its_hosts() {
        let expression = |key: &str| json!({ "matchExpressions": [{ "key": key, "operator": "In", "values": ["n"] }] });
        let volume = |key: &str| json!({ "spec": { "nodeAffinity": { "required": { "nodeSelectorTerms": [expression(key)] } } } });
        assert_eq!(hosts(&volume("kubernetes.io/hostname")), Some(vec!["n"]));
        assert_eq!(hosts(&volume("zone")), None);
        assert_eq!(hosts(&json!({})), None);
    }

    #[test]
    fn one_term_of_a_node_selector_is_enough() {
        let node = json!({ "metadata": { "name": "n", "labels": { "zone": "a" } } });
        let term = |zone: &str| json!({ "matchExpressions": [{ "key": "zone", "operator": "In", "values": [zone] }] });
        assert!(matches_terms(&Value::Null, &node));
        assert!(matches_terms(&json!({ "nodeSelectorTerms": [term("b"), term("a")] }), &node));
        assert!(!matches_terms(&json!({ "nodeSelectorTerms": [term("b")] }), &node));
        let field = json!({ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n"] }] });
        assert!(matches_terms(&json!({ "nodeSelectorTerms": [field] }), &node));
    }
}
